/* SPDX-License-Identifier: MIT */
/* em.h - the engine's process, as its files share it. */
#ifndef HEARTH_EM_H
#define HEARTH_EM_H

#include <linux/aio_abi.h>
#include <pthread.h>

#include "engine.h"
#include "loop.h"

struct em;

/* A session's memories, mapped. */
struct em_session {
	struct loop_src src; /* its kick eventfd, polled, never read */
	uint64_t id;	     /* 0: free */
	void *c;
	void *d;
	size_t c_bytes;
	size_t d_bytes;
	int event;
};

/**
 * struct em_model - a model of the pool that the engine has, or is to get
 * @load:   id 0: free
 * @thread: maps it; @fd, @im, @m, @err and @why are its own until @done
 * @fd:     image and object, if @has_fds: till nothing needs to be loaded again
 * @n_tries: how often it was loaded for nothing
 * @watched: somebody looks whether it hangs
 * @unload: drop it when the thread is through
 */
struct em_model {
	struct em *em;
	struct proc_load load;
	struct image im;
	struct backend_model *m;
	pthread_t thread;
	int fd[2];
	bool has_fds;
	bool loading;
	bool watched;
	bool unload;
	_Atomic int done;
	int err;
	uint32_t n_tries;
	uint64_t t_start;
	char why[160];
};

/**
 * struct em - the process
 * @loaded: eventfd: a thread that attaches a model is through
 * @top_session: sessions in use are below this index
 * @aio_always: an fd that is always readable
 */
struct em {
	struct conf conf;
	struct loop *loop;
	struct engine *engine;
	const struct backend_ops *ops;
	struct backend *be;
	struct proc_stats *stats;
	struct loop_src ctl;
	struct loop_src loaded;
	struct em_session sessions[PROC_MAX_SESSIONS];
	struct em_model models[WIRE_MAX_MODELS];
	uint32_t top_session;
	int meminfo;
	aio_context_t aio;
	int aio_always;
	uint64_t spin_ns;
	uint64_t spin_max_ns;
	bool exit;
};

/* em_env.c: what the engine asks for */
int em_env_open(struct em *em, struct engine_env *env);
void em_say(struct em *em, enum proc_type type, const void *body, size_t n);

/* em_session.c; @fds are consumed */
void em_session_new(struct em *em, const struct proc_session *p,
		    const int *fds);
void em_session_end(struct em *em, uint64_t id);

/* em_model.c; @fds, image and object, are consumed */
int em_model_open(struct em *em);
void em_model_load(struct em *em, const struct proc_load *l, const int fds[2]);
void em_model_unload(struct em *em, uint64_t id);
/* False: one is still being attached. */
bool em_model_close(struct em *em);

#endif
