/* SPDX-License-Identifier: MIT */
/*
 * monitor.h - the process in charge: it listens, owns every shared memory and
 * file descriptor, starts parsers and the engine, and parses nothing that a
 * client or a model file controls beyond the fixed messages of wire.h.
 *
 * One struct mon at the centre, with arrays of fixed size. monitor.c has
 * clients and messages, mon_session.c session memories and handshakes,
 * mon_model.c records of models, mon_request.c what clients ask for them,
 * mon_load.c the parsers and loaders of their files, mon_attach.c their way
 * into the engine and out, mon_pool.c the memory of their weights,
 * mon_engine.c the engine process, mon_watch.c its watchdog, mon_stats.c
 * counters for people, mon_notify.c what systemd hears.
 */
#ifndef HEARTH_MONITOR_H
#define HEARTH_MONITOR_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf.h"
#include "gpu.h"
#include "loop.h"
#include "pool.h"
#include "proc.h"
#include "spawn.h"

#define MON_MAX_CLIENTS (PROC_MAX_SESSIONS + 256)
#define MON_MAX_WAITS	512

struct mon;
struct mon_session;

struct mon_client {
	struct loop_src src;
	struct loop_timer timer; /* first message, then the handshake */
	struct mon *m;
	struct mon_session *session;
	uint32_t uid;
	bool used;
	uint64_t may;	 /* bit i: may use models[i] */
	uint64_t opened; /* bit i: has it open */
};

enum mon_session_state {
	MON_S_FREE,
	MON_S_SENT,	 /* the client has its memories, has not said MAPPED */
	MON_S_ATTACHING, /* the engine is asked to map it */
	MON_S_UP,
	MON_S_ENDING, /* the client is gone, the engine has it still */
};

struct mon_session {
	uint64_t id;
	uint64_t epoch;
	uint32_t uid;
	uint32_t seq; /* of the request to answer with READY */
	enum mon_session_state state;
	bool attached;		   /* was UP once: D may have live requests */
	bool crashed;		   /* its engine died of itself */
	struct mon_client *client; /* NULL when it has gone */
	struct ring_layout layout;
	int c;
	int d;
	int kick;
	int event;
};

/* A parser or a loader, while a model has one. */
struct mon_kid {
	struct child child; /* pidfd -1: there is none */
	struct loop_src ctl;
	struct loop_src pid;
	struct loop_timer timer;
	bool loader;   /* else a parser */
	bool placed;   /* the loader has memory to fill */
	bool said;     /* it has reported, @last has it */
	bool late;     /* killed for taking too long */
	bool wrong;    /* killed for what it said */
	uint64_t done; /* bytes, as it says */
	uint64_t total;
	struct proc_loaded last;
};

/* A file with parts, as a client showed it. */
struct mon_files {
	uint32_t n;
	struct pool_file part[WIRE_MAX_FDS];
};

/*
 * A model's life, by @state:
 *   PARSING    its parser reads the header of its files
 *   LOADING    its loader fills an object (@kid.child), waits for memory to
 *              do that in (@room), or the engine maps it (@attaching)
 *   READY      the engine has it
 *   UNLOADING  the engine is to let go of it; then RESIDENT, or gone
 *   RESIDENT   its object is in the pool, and nobody has it open
 */
struct mon_model {
	uint32_t id;	/* 0: free */
	uint32_t state; /* enum wire_model_state */
	uint32_t uid;
	uint32_t n_ctx_want;
	uint32_t n_crashes; /* engines that died while mapping it */
	uint32_t n_open;    /* clients that have it open */
	uint32_t n_fds;
	uint64_t kv_want;
	uint64_t t_start; /* of the load or attach that somebody waits for */
	uint64_t t_used;  /* last opened or closed */
	bool attaching;
	bool room;
	bool evict; /* when the engine lets go, its object goes, too */
	int fd[WIRE_MAX_FDS]; /* its files, until they are read */
	int image;	      /* memfd; sealed once the parser has exited */
	int object; /* while it loads, writable; READY and on the way: read-only */
	struct mon *m;
	struct mon_kid kid;
	char obj[POOL_NAME];   /* its name in the pool; empty until published */
	struct pool_meta meta; /* name, files; the rest when it is loaded */
	struct mon_files also; /* other files with the same content */
	/* what the engine said */
	struct proc_model_state st;
};

/* A client that waits for an answer about a model. */
struct mon_wait {
	struct mon_client *client; /* NULL: free */
	uint32_t seq;
	uint32_t model;	     /* index */
	enum wire_type type; /* WIRE_LOAD, WIRE_OPEN or WIRE_UNLOAD */
};

/* A message the engine's socket had no room for. */
struct mon_out {
	struct mon_out *next;
	enum proc_type type;
	uint32_t n;
	uint32_t n_fds;
	int fds[PROC_MAX_FDS]; /* duplicates, ours */
	char body[PROC_MAX_BODY];
};

struct mon_engine {
	struct child child;
	struct loop_src ctl;
	struct loop_src pid;
	struct loop_timer restart;
	bool ready;

	uint32_t n_starts;
	uint32_t n_quick; /* deaths of itself in a row before READY */
	uint32_t n_crash; /* and soon after it */
	uint64_t t_start;
	bool was_ready; /* one of them got READY */
	/* mon_watch.c */
	struct loop_timer watch;
	uint64_t beat;	   /* as last seen */
	uint64_t t_beat;   /* when it moved */
	uint64_t n_oom;	   /* the kernel's count of OOM kills then */
	bool hung;	   /* killed by the watchdog */
	bool wrong;	   /* killed for what it said */
	uint64_t t_device; /* the last death with a GPU in use */
	int stats_fd;
	struct proc_stats *stats;
	struct mon_out *out;
	struct mon_out **out_tail;
};

/**
 * struct mon_ops - processes; what tests and fuzzers replace
 * @spawn: see spawn.h
 * @kill:  SIGKILL, by pidfd
 * @wait:  has it ended? Then it is reaped and @si filled.
 */
struct mon_ops {
	int (*spawn)(struct child *c, const char *mode, const struct conf *conf,
		     int stats_fd);
	void (*kill)(int pidfd);
	bool (*wait)(int pidfd, siginfo_t *si);
};

struct mon_dying;

struct mon {
	struct conf conf;
	struct conf child_conf; /* user resolved to numbers */
	struct loop *loop;
	const struct mon_ops *ops;
	struct loop_src listen;
	struct loop_src signals;
	struct loop_timer idle;
	struct loop_timer progress;
	struct loop_timer beat; /* systemd's watchdog */
	struct loop_timer detach;
	struct loop_src pressure; /* PSI trigger; fd -1: none */
	struct pool pool;
	struct mon_engine engine;
	struct mon_dying *dying; /* children that were killed */
	struct mon_client clients[MON_MAX_CLIENTS];
	struct mon_session sessions[PROC_MAX_SESSIONS];
	struct mon_model models[WIRE_MAX_MODELS];
	struct mon_wait waits[MON_MAX_WAITS];
	uint32_t n_clients;
	uint32_t next_model;
	uint64_t next_session;
	uint64_t epoch;
	uint64_t t_start;
	uint64_t n_accepted;
	uint64_t n_refused;
	uint64_t n_loads;    /* objects filled from files */
	uint64_t n_attaches; /* of objects that were there */
	uint64_t n_evicted;
	uint64_t evicted_bytes;
	uint64_t n_pressure; /* shortages of memory that we heard of */
	uint64_t n_crashes;  /* engines that died of themselves */
	uint64_t n_hangs;    /* or were killed by the watchdog */
	struct gpu gpus[GPU_MAX];
	int n_gpus;
	int reserve; /* an fd to give away when there are none */
	int fail;    /* why it stops, when that is no good reason */
	bool stop;
};

/* monitor.c */
/* 0, or -errno and a sentence. */
int mon_new(struct mon **out, const struct conf *conf,
	    const struct mon_ops *ops, int listen_fd, char why[160]);
void mon_free(struct mon *m);
int mon_run(struct mon *m); /* until SIGTERM or idle; 0 or -errno */
/* Take a connected socket (consumes @fd): also how tests connect. */
struct mon_client *mon_client_new(struct mon *m, int fd, uint32_t uid);
/* One packet from a client; takes over the fds. Drops the client on rubbish. */
void mon_message(struct mon_client *cl, const void *msg, size_t n,
		 const int *fds, unsigned int n_fds);
void mon_client_drop(struct mon_client *cl);
void mon_reply(struct mon_client *cl, enum wire_type type, uint32_t seq,
	       const void *body, size_t n, const int *fds, unsigned int n_fds);
void mon_error(struct mon_client *cl, uint32_t seq, int err, const char *fmt,
	       ...) __attribute__((format(printf, 4, 5)));

/* mon_notify.c */
void mon_notify_start(struct mon *m);  /* heartbeats, if systemd wants them */
void mon_notify_status(struct mon *m); /* a line for systemctl status */

/* mon_gpu.c */
void mon_gpu_find(struct mon *m);
/* "gpu0 ..." lines for WIRE_STATS. Return bytes written, whole lines only. */
int mon_gpu_print(const struct mon *m, char *buf, size_t n);

/* mon_session.c */
void mon_hello(struct mon_client *cl, uint32_t seq, const struct wire_hello *h);
void mon_mapped(struct mon_client *cl, uint32_t seq);
void mon_session_end(struct mon_session *s); /* its client has gone */
void mon_session_free(struct mon_session *s);
void mon_session_attach(struct mon *m, struct mon_session *s);
struct mon_session *mon_session_find(struct mon *m, uint64_t id);
void mon_session_up(struct mon *m, const struct proc_status *st);
void mon_session_bad(struct mon *m, const struct proc_status *st);
/* The sizes of a session for what its client would like. 0 or -EINVAL. */
int mon_layout(const struct conf *conf, const struct wire_hello *h,
	       struct ring_layout *l);

/* mon_model.c */
void mon_unload(struct mon_client *cl, uint32_t seq, const struct wire_id *id);
void mon_list(struct mon_client *cl, uint32_t seq);
void mon_model_client_gone(struct mon_client *cl);
void mon_grant_all(struct mon_client *cl); /* its session is up */
struct mon_model *mon_model_find(struct mon *m, uint64_t id);
uint32_t mon_model_index(const struct mon_model *md);
/* A free record with an id and nothing else, or NULL. */
struct mon_model *mon_model_new(struct mon *m);
void mon_model_free(struct mon_model *md); /* who waited was told before */
void mon_models_free(struct mon *m);
bool mon_model_waited(const struct mon_model *md); /* for its arrival */
/* Who waits for the model's arrival (or its end) is answered. */
void mon_model_answer(struct mon_model *md, enum wire_type type, int err,
		      const char *text);
/* Whoever waits is told; the record is free afterwards. */
void mon_model_fail(struct mon_model *md, int err, const char *text);
/* Who waits for @from waits for @to now. */
void mon_model_move(struct mon_model *from, struct mon_model *to);
/* Nobody has it open any more. */
void mon_model_close_all(struct mon_model *md);
/* Answer @cl now if it is READY, else when it is. */
void mon_model_join(struct mon_client *cl, uint32_t seq, struct mon_model *md,
		    enum wire_type type);
bool mon_model_loading(const struct mon_model *md);

/* mon_request.c */
void mon_load(struct mon_client *cl, uint32_t seq, const struct wire_load *l,
	      const int *fds); /* consumes the fds */
void mon_open(struct mon_client *cl, uint32_t seq, uint32_t id);
/* What makes it this file. Asks the kernel's cache only. 0 or -errno. */
int mon_look_at(int fd, struct pool_file *f, char why[160]);
bool mon_same_file(const struct pool_file *a, const struct pool_file *b);

/* mon_load.c */
int mon_load_start(struct mon_model *md); /* begins with its parser */
void mon_load_stop(struct mon_model *md); /* legal when there is no child */
void mon_load_close_files(struct mon_model *md);
/* The loader waited for memory: is there some now? */
void mon_load_room(struct mon_model *md);

/* mon_attach.c */
/* From the pool to the engine. 0, or -errno and it is as it was. */
int mon_attach(struct mon_model *md);
void mon_detach(struct mon_model *md); /* READY or attaching, to RESIDENT */
void mon_detach_arm(struct mon *m);    /* idle models leave in time */
/* Idle models leave now. Return: is there one on its way out? */
bool mon_detach_idle(struct mon *m);
void mon_model_state(struct mon *m, const struct proc_model_state *st);
void mon_model_engine_up(struct mon *m);
void mon_model_engine_down(struct mon *m, bool crashed);

/* mon_pool.c */
/* Open it, list what is there. 0, or -errno and a sentence. */
int mon_pool_start(struct mon *m, char why[160]);
void mon_pool_stop(struct mon *m);
void mon_pool_sync(struct mon *m);  /* what the kernel took is forgotten */
void mon_pool_watch(struct mon *m); /* pressure */
/* Drop a model's object, and log why. The record stays. */
void mon_evict(struct mon_model *md, const char *why);
/* The least recently used one that is RESIDENT; @uid ~0: of anybody. */
struct mon_model *mon_pool_lru(struct mon *m, uint32_t uid);
/* Memory for a model of @weights bytes in md->object. -EAGAIN: soon. */
int mon_pool_place(struct mon_model *md, uint64_t weights, char why[160]);
/* The object is full: give it its name. -EEXIST: it is there already. */
int mon_pool_publish(struct mon_model *md, char why[160]);

/* mon_engine.c */
/* Kill a child that nobody waits for; its pidfd is consumed. It may hang in a
 * stranger's file system, where even a kill waits. */
void mon_reap(struct mon *m, struct child *c);
int mon_engine_start(struct mon *m);
void mon_engine_stop(struct mon *m); /* asks, waits a little, kills */
/* Queued if its socket is full, dropped if no engine is ready. */
void mon_engine_send(struct mon *m, enum proc_type type, const void *body,
		     size_t n, const int *fds, unsigned int n_fds);

/* mon_watch.c */
void mon_watch_start(struct mon *m); /* a new engine */
void mon_watch_ready(struct mon *m); /* it has started */
void mon_watch_busy(struct mon *m);  /* it works and nobody watches */
void mon_watch_stop(struct mon *m);
/* Log how it died. Return: of itself, so what it ran may be the cause. Not so
 * when it may have been a GPU, without which the next ones can do. */
bool mon_watch_death(struct mon *m, const siginfo_t *si);

/* mon_stats.c */
void mon_stats(struct mon_client *cl, uint32_t seq);

#endif
