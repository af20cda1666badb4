/* SPDX-License-Identifier: MIT */
/* mon_stats.c - counters for people: "name value" lines. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "monitor.h"

struct text {
	char buf[8192];
	size_t n;
};

static void put(struct text *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vsnprintf(t->buf + t->n, sizeof(t->buf) - t->n, fmt, ap);
	va_end(ap);
	if (r > 0)
		t->n += (size_t)r;
	if (t->n >= sizeof(t->buf))
		t->n = sizeof(t->buf) - 1;
}

static void num(struct text *t, const char *name, uint64_t v)
{
	put(t, "%s %llu\n", name, (unsigned long long)v);
}

static uint64_t get(_Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static void put_monitor(struct text *t, struct mon *m)
{
	uint32_t n_sessions = 0;
	uint32_t n_models = 0;
	size_t i;

	for (i = 0; i < PROC_MAX_SESSIONS; i++)
		n_sessions += m->sessions[i].state != MON_S_FREE;
	for (i = 0; i < WIRE_MAX_MODELS; i++)
		n_models += m->models[i].id != 0;
	put(t, "version %s\npid %d\nengine_pid %d\nevents %s\n", HEARTH_VERSION,
	    (int)getpid(), (int)m->engine.child.pid, loop_kind(m->loop));
	num(t, "engine_starts", m->engine.n_starts);
	num(t, "engine_crashes", m->n_crashes);
	num(t, "engine_hangs", m->n_hangs);
	num(t, "uptime_s", (clock_ns() - m->t_start) / 1000000000u);
	num(t, "clients", m->n_clients);
	num(t, "sessions", n_sessions);
	num(t, "models", n_models);
	num(t, "accepted", m->n_accepted);
	num(t, "rejected", m->n_refused);
}

static void put_pool(struct text *t, struct mon *m)
{
	const struct mon_model *md;
	uint64_t bytes = 0;
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!md->id || !md->obj[0])
			continue;
		n++;
		bytes += md->meta.object_bytes;
	}
	put(t, "pool %s\npool_text %s\n", m->pool.ops->name, m->pool.text);
	num(t, "pool_page", m->pool.page);
	num(t, "pool_objects", n);
	num(t, "pool_bytes", bytes);
	num(t, "pool_free", m->pool.ops->free(&m->pool));
	num(t, "pool_loads", m->n_loads);
	num(t, "pool_attaches", m->n_attaches);
	num(t, "pool_evicted", m->n_evicted);
	num(t, "pool_evicted_bytes", m->evicted_bytes);
	num(t, "pool_pressure", m->n_pressure);
}

static void put_engine(struct text *t, struct proc_stats *st)
{
	uint64_t sum[4] = { 0 };
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		if (!get(&st->model[i].id))
			continue;
		sum[0] += get(&st->model[i].kv_used);
		sum[1] += get(&st->model[i].n_active);
		sum[2] += get(&st->model[i].n_prefill);
		sum[3] += get(&st->model[i].n_decode);
	}
	num(t, "busy", get(&st->busy));
	num(t, "steps", get(&st->n_steps));
	num(t, "requests", get(&st->n_requests));
	num(t, "refused", get(&st->n_refused));
	num(t, "cancelled", get(&st->n_cancelled));
	num(t, "preempted", get(&st->n_preempted));
	num(t, "rows_fetched", get(&st->n_rows_fetched));
	num(t, "engine_sessions", get(&st->n_sessions));
	num(t, "kv_used", sum[0]);
	num(t, "active", sum[1]);
	num(t, "prefill_tokens", sum[2]);
	num(t, "decode_tokens", sum[3]);
}

void mon_stats(struct mon_client *cl, uint32_t seq)
{
	struct text t = { .n = 0 };

	put_monitor(&t, cl->m);
	put_pool(&t, cl->m);
	put_engine(&t, cl->m->engine.stats);
	t.n += (size_t)mon_gpu_print(cl->m, t.buf + t.n, sizeof(t.buf) - t.n);
	mon_reply(cl, WIRE_TEXT_REPLY, seq, t.buf, t.n, NULL, 0);
}
