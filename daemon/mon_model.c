/* SPDX-License-Identifier: MIT */
/* mon_model.c - records of models: what they are, and who waits for them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "monitor.h"

#define PROGRESS_NS 100000000u

uint32_t mon_model_index(const struct mon_model *md)
{
	return (uint32_t)(md - md->m->models);
}

struct mon_model *mon_model_find(struct mon *m, uint64_t id)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (id && m->models[i].id == id)
			return &m->models[i];
	return NULL;
}

/* ---------------------------------------------------------------- waiters */

static int wait_add(struct mon_client *cl, uint32_t seq, struct mon_model *md,
		    enum wire_type type)
{
	struct mon *m = cl->m;
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++) {
		if (m->waits[i].client)
			continue;
		m->waits[i] = (struct mon_wait){ .client = cl,
						 .seq = seq,
						 .model = mon_model_index(md),
						 .type = type };
		return 0;
	}
	mon_error(cl, seq, -EUSERS, "too many clients wait for models (%d)",
		  MON_MAX_WAITS);
	return -EUSERS;
}

bool mon_model_loading(const struct mon_model *md)
{
	return md->id && (md->state == WIRE_MODEL_PARSING ||
			  md->state == WIRE_MODEL_LOADING);
}

bool mon_model_waited(const struct mon_model *md)
{
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++)
		if (md->m->waits[i].client &&
		    md->m->waits[i].type != WIRE_UNLOAD &&
		    md->m->waits[i].model == mon_model_index(md))
			return true;
	return false;
}

/* ------------------------------------------------------------- the record */

void mon_model_free(struct mon_model *md)
{
	struct mon *m = md->m;
	uint64_t bit = 1ull << mon_model_index(md);
	size_t i;

	mon_load_stop(md);
	mon_load_close_files(md);
	if (md->image >= 0)
		close(md->image);
	/* Not yet in the pool: these are its last pages, and many. */
	if (md->object >= 0)
		loop_close(m->loop, md->object);
	for (i = 0; i < MON_MAX_CLIENTS; i++) {
		m->clients[i].may &= ~bit;
		m->clients[i].opened &= ~bit;
	}
	memset(md, 0, sizeof(*md));
	md->m = m;
	md->image = -1;
	md->object = -1;
	md->kid.child.pidfd = -1;
}

struct mon_model *mon_model_new(struct mon *m)
{
	struct mon_model *md = NULL;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS && !md; i++)
		if (!m->models[i].id)
			md = &m->models[i];
	if (!md)
		return NULL;
	memset(md, 0, sizeof(*md));
	md->m = m;
	md->image = -1;
	md->object = -1;
	md->kid.child.pidfd = -1;
	md->id = ++m->next_model;
	md->t_used = clock_ns();
	return md;
}

void mon_models_free(struct mon *m)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (m->models[i].id)
			mon_model_free(&m->models[i]);
}

void mon_model_close_all(struct mon_model *md)
{
	uint64_t bit = 1ull << mon_model_index(md);
	size_t i;

	for (i = 0; i < MON_MAX_CLIENTS; i++)
		md->m->clients[i].opened &= ~bit;
	md->n_open = 0;
}

static void grant(struct mon_client *cl, const struct mon_model *md)
{
	struct proc_grant g = { .model = md->id };

	if (!cl->session || cl->session->state != MON_S_UP)
		return;
	g.session = cl->session->id;
	mon_engine_send(cl->m, PROC_GRANT, &g, sizeof(g), NULL, 0);
}

void mon_grant_all(struct mon_client *cl)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (cl->m->models[i].id && (cl->opened >> i & 1))
			grant(cl, &cl->m->models[i]);
}

static uint64_t relaxed(_Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static struct proc_model_stats *stats_of(const struct mon_model *md)
{
	struct proc_stats *st = md->m->engine.stats;
	size_t i;

	for (i = 0; st && i < WIRE_MAX_MODELS; i++)
		if (relaxed(&st->model[i].id) == md->id)
			return &st->model[i];
	return NULL;
}

static void describe(const struct mon_model *md, struct wire_model *w)
{
	struct proc_model_stats *ps = stats_of(md);
	uint64_t now = clock_ns();
	uint64_t idle = 0;
	uint32_t i;

	memset(w, 0, sizeof(*w));
	w->model = md->id;
	w->state = md->state;
	w->uid = md->uid;
	w->n_ctx = md->st.n_ctx;
	w->n_ctx_train = md->st.n_ctx_train;
	w->weight_bytes = md->meta.weight_bytes;
	w->kv_bytes = md->st.kv_bytes;
	w->t_load_ns = md->st.t_load_ns ? md->st.t_load_ns : md->meta.t_load_ns;
	w->n_sessions = md->n_open;
	for (i = 0; i < md->meta.n_files; i++)
		w->file_bytes += md->meta.file[i].size;
	if (ps) {
		w->n_active = (uint32_t)relaxed(&ps->n_active);
		w->kv_used = relaxed(&ps->kv_used);
		idle = relaxed(&ps->t_idle_ns);
	}
	/* An engine that has run nothing on it knows of no time. */
	idle = idle ? idle : md->t_used;
	w->idle_ns = !w->n_active && idle < now ? now - idle : 0;
	memcpy(w->name, md->meta.name, sizeof(w->name));
	if (md->obj[0])
		memcpy(w->digest, md->meta.digest, sizeof(w->digest));
	memcpy(w->arch, md->st.arch, sizeof(w->arch));
	memcpy(w->quant, md->st.quant, sizeof(w->quant));
	memcpy(w->backend, md->st.backend, sizeof(w->backend));
}

/* The model is ready: it is theirs to use, and this is what it is. */
static void answer_model(struct mon_client *cl, uint32_t seq,
			 struct mon_model *md)
{
	struct wire_model w;

	if (!(cl->opened >> mon_model_index(md) & 1)) {
		cl->opened |= 1ull << mon_model_index(md);
		md->n_open++;
		grant(cl, md);
	}
	md->t_used = clock_ns();
	describe(md, &w);
	mon_reply(cl, WIRE_MODEL, seq, &w, sizeof(w), &md->image, 1);
}

void mon_model_answer(struct mon_model *md, enum wire_type type, int err,
		      const char *text)
{
	struct mon *m = md->m;
	struct mon_wait w;
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++) {
		w = m->waits[i];
		if (!w.client || w.model != mon_model_index(md))
			continue;
		if ((w.type == WIRE_UNLOAD) != (type == WIRE_UNLOAD))
			continue;
		m->waits[i].client = NULL;
		if (err)
			mon_error(w.client, w.seq, err, "%s", text);
		else if (type == WIRE_UNLOAD)
			mon_reply(w.client, WIRE_OK, w.seq, NULL, 0, NULL, 0);
		else
			answer_model(w.client, w.seq, md);
	}
}

void mon_model_fail(struct mon_model *md, int err, const char *text)
{
	log_client("model %u: not loaded, %s (%s)", md->id, text,
		   md->meta.name);
	mon_model_answer(md, WIRE_LOAD, err, text);
	mon_model_answer(md, WIRE_UNLOAD, 0, NULL);
	mon_model_free(md);
}

void mon_model_move(struct mon_model *from, struct mon_model *to)
{
	struct mon *m = from->m;
	uint64_t bit = 1ull << mon_model_index(from);
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++)
		if (m->waits[i].client &&
		    m->waits[i].model == mon_model_index(from))
			m->waits[i].model = mon_model_index(to);
	/* They have shown its content. */
	for (i = 0; i < MON_MAX_CLIENTS; i++)
		if (m->clients[i].used && (m->clients[i].may & bit))
			m->clients[i].may |= 1ull << mon_model_index(to);
}

/* --------------------------------------------------------------- progress */

static void progress(struct loop_timer *t)
{
	struct mon *m = t->arg;
	struct wire_progress p;
	struct mon_model *md;
	bool more = false;
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++) {
		if (!m->waits[i].client || m->waits[i].type == WIRE_UNLOAD)
			continue;
		md = &m->models[m->waits[i].model];
		memset(&p, 0, sizeof(p));
		p.state = md->state;
		p.done_bytes = md->kid.done;
		p.total_bytes = md->kid.total;
		more = true;
		mon_reply(m->waits[i].client, WIRE_PROGRESS, m->waits[i].seq,
			  &p, sizeof(p), NULL, 0);
	}
	if (more)
		loop_timer_set(m->loop, t, PROGRESS_NS);
}

static void want_progress(struct mon *m)
{
	m->progress.fn = progress;
	m->progress.arg = m;
	if (!m->progress.pos)
		loop_timer_set(m->loop, &m->progress, PROGRESS_NS);
}

/* --------------------------------------------------------- coming, leaving */

void mon_model_join(struct mon_client *cl, uint32_t seq, struct mon_model *md,
		    enum wire_type type)
{
	cl->may |= 1ull << mon_model_index(md);
	if (md->state == WIRE_MODEL_READY) {
		answer_model(cl, seq, md);
		return;
	}
	if (!wait_add(cl, seq, md, type))
		want_progress(cl->m);
}

static void unload_loading(struct mon_model *md)
{
	mon_model_answer(md, WIRE_UNLOAD, 0, NULL);
	mon_model_free(md);
}

void mon_unload(struct mon_client *cl, uint32_t seq, const struct wire_id *id)
{
	struct mon_model *md = mon_model_find(cl->m, id->model);

	if (id->flags & ~WIRE_EVICT) {
		mon_error(cl, seq, -EINVAL, "unload: unknown flags (%#x)",
			  id->flags);
		return;
	}
	if (!md) {
		mon_error(cl, seq, -ENOENT, "unload: no such model (%u)",
			  id->model);
		return;
	}
	if (cl->uid && cl->uid != md->uid) {
		mon_error(cl, seq, -EPERM, "unload: model %u belongs to uid %u",
			  id->model, md->uid);
		return;
	}
	if (wait_add(cl, seq, md, WIRE_UNLOAD))
		return;
	md->evict |= id->flags & WIRE_EVICT;
	mon_model_answer(md, WIRE_LOAD, -ECANCELED, "unloaded while loading");
	if (!md->obj[0])
		unload_loading(md);
	else
		mon_detach(md);
}

void mon_list(struct mon_client *cl, uint32_t seq)
{
	struct wire_model w[WIRE_MAX_MODELS];
	struct mon *m = cl->m;
	size_t n = 0;
	size_t i;

	mon_pool_sync(m);
	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (m->models[i].id)
			describe(&m->models[i], &w[n++]);
	mon_reply(cl, WIRE_MODELS, seq, w, n * sizeof(w[0]), NULL, 0);
}

/* -------------------------------------------------------- who has hung up */

static void closed(struct mon_client *cl)
{
	struct mon *m = cl->m;
	struct mon_model *md;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!(cl->opened >> i & 1))
			continue;
		if (md->n_open)
			md->n_open--;
		md->t_used = clock_ns();
	}
	cl->opened = 0;
	mon_detach_arm(m);
}

void mon_model_client_gone(struct mon_client *cl)
{
	struct mon *m = cl->m;
	struct mon_model *md;
	size_t i;

	closed(cl);
	for (i = 0; i < MON_MAX_WAITS; i++) {
		if (m->waits[i].client != cl)
			continue;
		m->waits[i].client = NULL;
		md = &m->models[m->waits[i].model];
		/* Nobody wants it any more: do not finish loading it. */
		if (!mon_model_loading(md) || mon_model_waited(md) ||
		    md->n_open)
			continue;
		if (md->obj[0])
			mon_detach(md);
		else
			mon_model_free(md);
	}
}
