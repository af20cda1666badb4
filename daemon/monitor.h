/* SPDX-License-Identifier: MIT */
/*
 * monitor.h - the process in charge: it listens, owns every shared memory and
 * file descriptor, starts parsers and the engine, and parses nothing that a
 * client or a model file controls beyond the fixed messages of wire.h.
 *
 * One struct mon at the centre, with arrays of fixed size. monitor.c has
 * clients and messages, mon_session.c session memories and handshakes,
 * mon_model.c models, mon_parser.c the parsers of their files, mon_engine.c
 * the engine process.
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
	struct mon_client *client; /* NULL when it has gone */
	struct ring_layout layout;
	int c;
	int d;
	int kick;
	int event;
};

/* What makes two files the same file with the same content. */
struct mon_file {
	uint64_t dev;
	uint64_t ino;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode;
};

struct mon_model {
	uint32_t id;	/* 0: free */
	uint32_t state; /* enum wire_model_state */
	uint32_t uid;
	uint32_t n_files;
	uint32_t n_ctx_want;
	uint32_t n_crashes; /* engines that died while loading it */
	uint64_t kv_want;
	uint64_t file_bytes;
	struct mon_file file[WIRE_MAX_FDS];
	int fd[WIRE_MAX_FDS];
	int image; /* memfd; sealed once the parser has exited */
	char name[WIRE_NAME];
	/* its parser, while there is one */
	struct mon *m;
	struct child parser;
	struct loop_src parser_ctl;
	struct loop_src parser_pid;
	struct loop_timer parser_timer;
	bool parsed;	 /* it has reported, @parse has it */
	bool parse_late; /* killed for taking too long */
	struct proc_status parse;
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
	uint32_t n_quick; /* deaths in a row soon after the start */
	uint64_t t_start;
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
	struct gpu gpus[GPU_MAX];
	int n_gpus;
	int reserve; /* an fd to give away when there are none */
	int fail;    /* why it stops, when that is no good reason */
	bool stop;
};

/* monitor.c */
int mon_new(struct mon **out, const struct conf *conf,
	    const struct mon_ops *ops, int listen_fd);
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
void mon_load(struct mon_client *cl, uint32_t seq, const struct wire_load *l,
	      const int *fds); /* consumes the fds */
void mon_open(struct mon_client *cl, uint32_t seq, uint32_t id);
void mon_unload(struct mon_client *cl, uint32_t seq, uint32_t id);
void mon_list(struct mon_client *cl, uint32_t seq);
void mon_model_state(struct mon *m, const struct proc_model_state *st);
void mon_model_client_gone(struct mon_client *cl);
void mon_model_engine_up(struct mon *m);
void mon_model_engine_down(struct mon *m);
void mon_grant_all(struct mon_client *cl); /* its session is up */
void mon_models_free(struct mon *m);
/* Whoever waits is told; the record is free afterwards. */
void mon_model_fail(struct mon_model *md, int err, const char *text);
void mon_model_parsed(struct mon_model *md);

/* mon_parser.c */
int mon_parser_start(struct mon_model *md);
void mon_parser_stop(struct mon_model *md); /* legal when there is none */

/* mon_engine.c */
/* Kill a child that nobody waits for; its pidfd is consumed. It may hang in a
 * stranger's file system, where even a kill waits. */
void mon_reap(struct mon *m, struct child *c);
int mon_engine_start(struct mon *m);
void mon_engine_stop(struct mon *m); /* asks, waits a little, kills */
/* Queued if its socket is full, dropped if no engine is ready. */
void mon_engine_send(struct mon *m, enum proc_type type, const void *body,
		     size_t n, const int *fds, unsigned int n_fds);

#endif
