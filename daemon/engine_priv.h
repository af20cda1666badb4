/* SPDX-License-Identifier: MIT */
/* engine_priv.h - what the files of the engine share. */
#ifndef HEARTH_ENGINE_PRIV_H
#define HEARTH_ENGINE_PRIV_H

#include "engine.h"
#include "model.h"
#include "sample.h"
#include "session.h"

/* One uid's share of the engine. */
struct engine_flow {
	uint32_t uid;
	uint32_t n_sessions;
	uint64_t n_reqs;
};

/**
 * struct engine - what there is
 * @age:  of the request accepted last; grows, and is about the time
 * @busy: the monitor may watch: stats->busy is set
 * @lost: the backend's device has gone
 */
struct engine {
	const struct conf *conf;
	struct engine_env env;
	struct mem mem;
	struct backend_conf bc;
	const struct backend_ops *ops;
	struct proc_stats *st;
	uint64_t age;
	bool busy;
	bool lost;
	uint32_t n_attaching;
	uint32_t n_flows;
	uint32_t n_models;
	struct engine_flow *flows;
	struct session *sessions;
	struct model *models[WIRE_MAX_MODELS];
	struct sampler sampler;
};

static inline void engine_count(_Atomic uint64_t *x, uint64_t n)
{
	atomic_fetch_add_explicit(x, n, memory_order_relaxed);
}

static inline void engine_set(_Atomic uint64_t *x, uint64_t n)
{
	atomic_store_explicit(x, n, memory_order_relaxed);
}

static inline uint64_t engine_now(const struct engine *e)
{
	return e->env.now_ns(e->env.arg);
}

static inline bool engine_live(const struct req *r)
{
	return r->state == REQ_WAITING || r->state == REQ_QUEUED ||
	       r->state == REQ_RUNNING;
}

/* engine.c */
struct model *engine_find_model(const struct engine *e, uint64_t id);
/* Wake the clients for whom something was posted. */
void engine_wake(struct engine *e);
/* A live request is over. */
void engine_end(struct engine *e, struct req *r, enum ring_finish how, int err);
/* A request whose model is there takes its place in the queue. */
void engine_queue(struct engine *e, struct model *m, struct req *r);
/* From here on a hang would be noticed: by a monitor that watches already, or
 * that is told to. */
void engine_busy(struct engine *e);

/* engine_model.c */
/* What a dead engine left that waits for this model goes on. */
void engine_resume(struct engine *e, struct session *s, struct model *m);
/* What waits for a model of which the session has no grant has lost it. */
void engine_give_up(struct engine *e, struct session *s);

#endif
