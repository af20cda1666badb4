/* SPDX-License-Identifier: MIT */
/* engine_model.c - models come to the engine and leave it. */
#include <errno.h>
#include <stdio.h>

#include "engine_priv.h"

static struct proc_model_stats *stats_get(struct engine *e, uint64_t id)
{
	struct proc_model_stats *m, *unused = NULL;
	uint32_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		m = &e->st->model[i];
		if (m->id == id)
			return m;
		if (!m->id && !unused)
			unused = m;
	}
	if (unused)
		engine_set(&unused->id, id);
	return unused;
}

/* Nobody's any more: the model of a dead engine may not have come back. */
static void stats_put(struct engine *e, uint64_t id)
{
	struct proc_model_stats *m;

	for (m = e->st->model; m < e->st->model + WIRE_MAX_MODELS; m++) {
		if (m->id != id)
			continue;
		engine_set(&m->kv_used, 0);
		engine_set(&m->n_active, 0);
		engine_set(&m->n_prefill, 0);
		engine_set(&m->n_decode, 0);
		engine_set(&m->t_idle_ns, 0);
		engine_set(&m->id, 0);
	}
}

static int grow_sampler(struct engine *e, uint32_t n_vocab)
{
	struct sampler s;
	int err;

	if (n_vocab <= e->sampler.max_vocab)
		return 0;
	err = sample_init(&s, &e->mem, n_vocab);
	if (err) {
		sample_fini(&s, &e->mem);
		return err;
	}
	sample_fini(&e->sampler, &e->mem);
	e->sampler = s;
	return 0;
}

static uint64_t mem_used(const struct engine *e)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < e->n_models; i++)
		n += e->models[i]->mem_bytes;
	return n;
}

static void tell_model(struct engine *e, uint64_t id, int err)
{
	struct session *s;

	for (s = e->sessions; s; s = s->next)
		if (session_granted(s, id))
			session_model_event(s, id, err);
}

void engine_resume(struct engine *e, struct session *s, struct model *m)
{
	struct req *r;
	uint32_t i;
	int err;

	for (i = 0; i < s->l.n_slots && s->n_live; i++) {
		r = &s->reqs[i];
		if (r->state != REQ_WAITING || r->run.model != m->id)
			continue;
		err = session_resume(r, &m->lim);
		if (err)
			engine_end(e, r, RING_FIN_ERROR, err);
		else
			engine_queue(e, m, r);
	}
}

void engine_give_up(struct engine *e, struct session *s)
{
	struct req *r;
	uint32_t i;

	for (i = 0; i < s->l.n_slots && s->n_live; i++) {
		r = &s->reqs[i];
		if (r->state == REQ_WAITING &&
		    !session_granted(s, r->run.model))
			engine_end(e, r, RING_FIN_ERROR, -ENODEV);
	}
}

int engine_model_add(struct engine *e, const struct proc_load *l,
		     const struct image *im, struct backend_model *bm,
		     uint32_t *n_ctx, uint64_t *kv_bytes, char why[160])
{
	struct model_room room = { .limit = e->conf->mem_bytes,
				   .used = mem_used(e) };
	struct backend_info info;
	struct run_limits lim;
	struct model *m = NULL;
	struct session *s;
	int err;

	snprintf(why, 160, "no memory for the model's tables");
	if (engine_find_model(e, l->id) || e->n_models == WIRE_MAX_MODELS) {
		snprintf(why, 160, "%u models are resident, %d may be",
			 e->n_models, WIRE_MAX_MODELS);
		return -ENOSPC;
	}
	e->ops->info(bm, &info);
	if (e->env.mem_available)
		room.free = e->env.mem_available(e->env.arg);
	err = model_size(&lim, &im->h->hp, &info, l, e->conf->kv_bytes,
			 e->bc.max_seqs, &room, why);
	if (err)
		return err;
	err = grow_sampler(e, lim.n_vocab);
	if (err)
		return err;
	err = model_new(&m, &e->mem, &e->bc, e->n_flows, &lim);
	if (err)
		return err;
	err = e->ops->kv_alloc(bm, lim.n_blocks);
	if (err) {
		snprintf(why, 160, "no memory for %u KV blocks of %llu bytes",
			 lim.n_blocks, (unsigned long long)lim.block_bytes);
		goto fail;
	}
	err = -ENOSPC;
	m->st = stats_get(e, l->id);
	if (!m->st) {
		snprintf(why, 160, "no counters for another model");
		goto fail;
	}
	/* A dead engine may have left these. */
	engine_set(&m->st->kv_used, 0);
	engine_set(&m->st->n_active, 0);
	m->id = l->id;
	m->im = im;
	m->bm = bm;
	m->info = info;
	m->mem_bytes = info.weight_bytes + info.scratch_bytes - info.own_bytes +
		       lim.n_blocks * (lim.block_bytes - info.own_block_bytes);
	e->models[e->n_models++] = m;
	*n_ctx = lim.n_ctx;
	*kv_bytes = lim.n_blocks * lim.block_bytes;
	why[0] = '\0';
	tell_model(e, l->id, 0);
	for (s = e->sessions; s; s = s->next)
		if (session_granted(s, l->id))
			engine_resume(e, s, m);
	engine_wake(e);
	return 0;
fail:
	model_free(m, &e->mem);
	return err;
}

void engine_attaching(struct engine *e, bool begins)
{
	e->n_attaching += begins ? 1 : -1u;
	if (begins)
		engine_busy(e);
}

void engine_model_del(struct engine *e, uint64_t id)
{
	struct model *m = engine_find_model(e, id);
	struct session *s;
	uint32_t i;

	for (s = e->sessions; s; s = s->next)
		for (i = 0; i < s->l.n_slots && s->n_live; i++)
			if (engine_live(&s->reqs[i]) &&
			    s->reqs[i].run.model == id)
				engine_end(e, &s->reqs[i], RING_FIN_ERROR,
					   -ENODEV);
	stats_put(e, id);
	tell_model(e, id, -ENODEV);
	for (s = e->sessions; s; s = s->next)
		session_revoke(s, id);
	if (!m) {
		engine_wake(e);
		return;
	}
	for (i = 0; e->models[i] != m; i++)
		;
	e->models[i] = e->models[--e->n_models];
	model_free(m, &e->mem);
	engine_wake(e);
}
