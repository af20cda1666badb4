/* SPDX-License-Identifier: MIT */
/*
 * mon_attach.c - models from the pool to the engine and back.
 *
 * The engine gets a read-only descriptor of the object and the sealed image;
 * attaching reads no file and copies no weight. While a model is READY or on
 * its way, a descriptor of its object is held here, so that nobody takes its
 * memory between two engines.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "monitor.h"

#define MAX_CRASHES 2 /* engines one model may take along while attaching */

static void send_attach(struct mon_model *md)
{
	struct proc_load l = { .id = md->id,
			       .uid = md->uid,
			       .n_ctx = md->n_ctx_want,
			       .kv_bytes = md->kv_want,
			       .weight_bytes = md->meta.weight_bytes };
	int fds[2] = { md->image, md->object };

	mon_engine_send(md->m, PROC_MODEL_LOAD, &l, sizeof(l), fds, 2);
}

static void close_object(struct mon_model *md)
{
	if (md->object >= 0)
		close(md->object);
	md->object = -1;
	if (md->image >= 0)
		close(md->image);
	md->image = -1;
}

int mon_attach(struct mon_model *md)
{
	struct mon *m = md->m;
	int err;
	int fd;

	err = m->pool.ops->attach(&m->pool, md->obj, &fd);
	if (err)
		return err;
	if (md->image < 0)
		err = pool_image(fd, &md->meta, &md->image);
	if (err) {
		close(fd);
		return err;
	}
	if (md->state == WIRE_MODEL_RESIDENT) {
		md->t_start = clock_ns();
		m->n_attaches++;
	}
	md->object = fd;
	md->state = WIRE_MODEL_LOADING;
	md->attaching = true;
	md->n_crashes = 0;
	if (m->engine.ready)
		send_attach(md);
	return 0;
}

/* Whoever waits for memory may find some now. */
static void room_again(struct mon *m)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (m->models[i].id && m->models[i].room)
			mon_load_room(&m->models[i]);
}

/* The engine has let go of it, or never had it. */
static void rest(struct mon_model *md)
{
	struct mon *m = md->m;
	int err = 0;

	close_object(md);
	mon_model_close_all(md);
	md->state = WIRE_MODEL_RESIDENT;
	md->attaching = false;
	md->st.n_ctx = 0;
	md->st.kv_bytes = 0;
	mon_model_answer(md, WIRE_UNLOAD, 0, NULL);
	if (md->evict && !mon_model_waited(md)) {
		mon_evict(md, "as asked");
		mon_model_free(md);
	} else if (mon_model_waited(md)) {
		md->evict = false;
		err = mon_attach(md);
	}
	if (err)
		mon_model_fail(md, err, "its memory was taken; load it again");
	room_again(m);
}

void mon_detach(struct mon_model *md)
{
	struct proc_id p = { .id = md->id };

	if (md->state == WIRE_MODEL_UNLOADING)
		return;
	if (md->state == WIRE_MODEL_RESIDENT || !md->m->engine.ready) {
		rest(md);
		return;
	}
	md->state = WIRE_MODEL_UNLOADING;
	md->attaching = false;
	mon_engine_send(md->m, PROC_MODEL_UNLOAD, &p, sizeof(p), NULL, 0);
}

/* -------------------------------------------------------------------- idle */

static bool is_idle(const struct mon_model *md)
{
	return md->id && md->state == WIRE_MODEL_READY && !md->n_open &&
	       !mon_model_waited(md);
}

bool mon_detach_idle(struct mon *m)
{
	bool any = false;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		if (!is_idle(&m->models[i]))
			continue;
		mon_detach(&m->models[i]);
		any = true;
	}
	return any;
}

static void detach_due(struct loop_timer *t)
{
	struct mon *m = t->arg;
	uint64_t patience = m->conf.detach_s * 1000000000u;
	uint64_t now = clock_ns();
	struct mon_model *md;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!is_idle(md) || now - md->t_used < patience)
			continue;
		log_client("model %u: leaves the engine, nobody has it open "
			   "(%s)",
			   md->id, md->meta.name);
		mon_detach(md);
	}
	mon_detach_arm(m);
}

void mon_detach_arm(struct mon *m)
{
	uint64_t patience = m->conf.detach_s * 1000000000u;
	uint64_t now = clock_ns();
	uint64_t first = ~0ull;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (is_idle(&m->models[i]) && m->models[i].t_used < first)
			first = m->models[i].t_used;
	m->detach.fn = detach_due;
	m->detach.arg = m;
	if (first == ~0ull)
		loop_timer_clear(m->loop, &m->detach);
	else
		loop_timer_set(m->loop, &m->detach,
			       first + patience > now ? first + patience - now
						      : 0);
}

/* ------------------------------------------------------------- the engine */

static void ready(struct mon_model *md, const struct proc_model_state *st)
{
	if (md->state != WIRE_MODEL_LOADING || !md->attaching)
		return;
	md->state = WIRE_MODEL_READY;
	md->attaching = false;
	md->st = *st;
	md->st.t_load_ns = clock_ns() - md->t_start;
	md->n_crashes = 0;
	md->t_used = clock_ns();
	log_client("model %u: ready, %s %s, context %u, after %llu ms (%s)",
		   md->id, st->arch, st->quant, st->n_ctx,
		   (unsigned long long)(md->st.t_load_ns / 1000000),
		   md->meta.name);
	md->m->pool.ops->touch(&md->m->pool, md->obj);
	mon_model_answer(md, WIRE_LOAD, 0, NULL);
	mon_detach_arm(md->m);
}

static void failed(struct mon_model *md, const struct proc_model_state *st)
{
	int err = st->err < 0 ? st->err : -EIO;
	struct proc_id p = { .id = md->id };

	if (!md->attaching && md->state != WIRE_MODEL_READY)
		return;
	/* Sessions may have been granted it meanwhile. */
	mon_engine_send(md->m, PROC_MODEL_UNLOAD, &p, sizeof(p), NULL, 0);
	/* Its content is not what it should be: nobody is to try it again. */
	if (err == -EBADMSG) {
		mon_evict(md, "the engine refuses it");
		mon_model_fail(md, err, st->text);
		return;
	}
	log_client("model %u: not attached, %s (%s)", md->id, st->text,
		   md->meta.name);
	/* What one client wanted too much of is nothing to the next. */
	md->n_ctx_want = 0;
	md->kv_want = 0;
	md->state = WIRE_MODEL_RESIDENT;
	md->attaching = false;
	mon_model_answer(md, WIRE_LOAD, err, st->text);
	rest(md);
}

void mon_model_state(struct mon *m, const struct proc_model_state *st)
{
	struct mon_model *md = mon_model_find(m, st->id);

	if (!md)
		return;
	switch (st->state) {
	case WIRE_MODEL_READY:
		ready(md, st);
		break;
	case WIRE_MODEL_FAILED:
		if (md->state == WIRE_MODEL_UNLOADING)
			rest(md);
		else
			failed(md, st);
		break;
	case WIRE_MODEL_UNLOADING:
		if (md->state != WIRE_MODEL_UNLOADING)
			break;
		log_client("model %u: unloaded (%s)", md->id, md->meta.name);
		md->t_used = clock_ns();
		rest(md);
		break;
	default:
		break;
	}
}

void mon_model_engine_up(struct mon *m)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (m->models[i].id && m->models[i].attaching)
			send_attach(&m->models[i]);
}

void mon_model_engine_down(struct mon *m, bool crashed)
{
	struct mon_model *md;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!md->id)
			continue;
		if (md->state == WIRE_MODEL_UNLOADING) {
			rest(md);
		} else if (md->state == WIRE_MODEL_READY) {
			md->state = WIRE_MODEL_LOADING;
			md->attaching = true;
			md->t_start = clock_ns();
		} else if (md->attaching && crashed &&
			   ++md->n_crashes >= MAX_CRASHES) {
			mon_evict(md, "it takes engines along");
			mon_model_fail(md, -EIO,
				       "the engine died while loading it");
		}
	}
}
