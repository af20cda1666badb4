/* SPDX-License-Identifier: MIT */
/*
 * engine.h - the process that computes: sessions in, tokens out.
 *
 *   client ring -> session -> scheduler -> batch -> backend -> sampler -> ring
 *
 * One function an arrow; engine_step() reads like that line. The engine knows
 * nothing of sockets, files or processes: engine_main() (the process's loop)
 * hands it messages and kicks, tests hand it the same by direct calls, with
 * their own clock.
 */
#ifndef HEARTH_ENGINE_H
#define HEARTH_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "backend.h"
#include "conf.h"
#include "proc.h"

struct engine;

/**
 * struct engine_env - what the engine needs from outside; tests inject theirs
 * @now_ns: CLOCK_MONOTONIC, or a test's clock
 * @wake:   wake the client of a session: a futex on @word, and its eventfd
 *          (bits of RING_WAIT_*)
 * @notify: a message to the monitor; may be called from any engine function
 * @settled: has all been handed in that the monitor has said so far? NULL: yes.
 *          Asked before a request is refused for lack of a grant: that may be
 *          on its way, but was sent before the client was told
 * @alloc, @free: memory (calloc semantics); NULL: libc's
 * @mem_available: bytes of memory a new KV cache may take at most (MemAvailable
 *          of /proc/meminfo); NULL: unknown, then a moderate default is used
 */
struct engine_env {
	void *arg;
	uint64_t (*now_ns)(void *arg);
	void (*wake)(void *arg, uint64_t session, uint32_t *word, int eventfd,
		     uint32_t how);
	void (*notify)(void *arg, enum proc_type type, const void *body,
		       size_t n);
	bool (*settled)(void *arg);
	void *(*alloc)(void *arg, size_t n);
	void (*free)(void *arg, void *p);
	uint64_t (*mem_available)(void *arg);
};

/**
 * engine_backend_conf() - how the engine wants the backend to be opened
 *
 * The engine fills batches up to the same limits, so a backend must be opened
 * with these. @cpu_level is left at "the best there is": the caller's matter.
 */
void engine_backend_conf(const struct conf *conf, struct backend_conf *bc);

/*
 * New engine over a backend; borrows everything. It uses ops->info, kv_alloc
 * and step only: the caller opens, loads, unloads and closes.
 */
int engine_new(struct engine **out, const struct conf *conf,
	       const struct engine_env *env, const struct backend_ops *ops,
	       struct proc_stats *stats);
void engine_free(struct engine *e);

/**
 * engine_session_new() - attach a session's memories
 * @s: flags has PROC_SESSION_RECOVER when D was used by an engine that died:
 *     its queues go on, what ran ends with -ENOTCONN, what was done stays
 * @c, @d: mapped by the caller, who unmaps them after engine_session_end()
 *         has reported PROC_SESSION_GONE through notify
 */
int engine_session_new(struct engine *e, const struct proc_session *s, void *c,
		       void *d, int event_fd);
/* Stops the session's work and says PROC_SESSION_GONE, before it returns. */
void engine_session_end(struct engine *e, uint64_t id);
/* The session may use the model, which may be loaded later. */
void engine_grant(struct engine *e, uint64_t session, uint64_t model);

/**
 * engine_model_add() - a model that the caller has loaded may be used from now
 * @l:  kv_bytes and n_ctx: what was asked for, 0 is the engine's choice
 * @im, @m: borrowed until engine_model_del() returned; then, and when this
 *      fails, the caller unloads @m and closes @im
 * @n_ctx, @kv_bytes: what it got
 * @why: on failure, what is missing, with both numbers
 *
 * Its counters go to the entry of stats->model whose id is l->id already (of
 * the engine before this one), else to a free one; engine_model_del() gives
 * it back.
 */
int engine_model_add(struct engine *e, const struct proc_load *l,
		     const struct image *im, struct backend_model *m,
		     uint32_t *n_ctx, uint64_t *kv_bytes, char why[160]);
/*
 * Fails what runs on it (or waits for it) with -ENODEV; the engine has no
 * reference to the model on return. The caller unloads it.
 */
void engine_model_del(struct engine *e, uint64_t id);

/* A model is being loaded, or no longer: meanwhile beats are to come. */
void engine_attaching(struct engine *e, bool begins);

/**
 * engine_poll() - take submissions from the rings, at most a budget a session
 * Return: true if there is work for engine_step().
 */
bool engine_poll(struct engine *e);

/* One step of every model with work. Return: true if there is more to do. */
bool engine_step(struct engine *e);

/* The backend's device is gone: the process must end, and another one goes on
 * with what runs, of which nobody has been told anything. */
bool engine_lost(const struct engine *e);

/**
 * engine_idle() - announce to all rings that the engine is going to sleep
 *
 * Whatever wakes the caller (a kick or a message, too), it calls
 * engine_awake(), and engine_poll() before it is idle again.
 *
 * Return: true if it may sleep until a kick; false: poll again.
 */
bool engine_idle(struct engine *e);
void engine_awake(struct engine *e);

/* The process: reads messages on @ctl, never returns. daemon/engine_main.c */
void engine_main(const struct conf *conf, int ctl, int stats_fd)
	__attribute__((noreturn));

/* The parser process: fds of the files and the image memfd. Never returns. */
void parser_main(const struct conf *conf, int ctl) __attribute__((noreturn));

#endif
