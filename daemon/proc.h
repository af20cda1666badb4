/* SPDX-License-Identifier: MIT */
/*
 * proc.h - messages between the monitor and its engine, parsers and loaders.
 *
 * A SEQPACKET socketpair each; fd 3 in the child. The engine is trusted with
 * GPU and sessions, not with the monitor: every message is checked for
 * length, type and state by one table in proc.c (sender and receiver share
 * it). Counters travel in a page of shared memory (struct proc_stats) so that
 * `ps` and the watchdog need no answer from an engine that is in a long step.
 */
#ifndef HEARTH_PROC_H
#define HEARTH_PROC_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "../libclient/ring.h"
#include "../libclient/wire.h"

#define PROC_FD		  3 /* the child's end of its socketpair */
#define PROC_MAX_SESSIONS 1024
#define PROC_MAX_FDS	  (WIRE_MAX_FDS + 1)

/* Statuses that an engine leaves with. */
#define PROC_EXIT_BACKEND 3 /* it could not open its backend */
#define PROC_EXIT_DEVICE  4 /* its device was lost in a step */

enum proc_type {
	/* monitor -> engine */
	PROC_SESSION_NEW = 1, /* proc_session + fds C, D, kick, event */
	PROC_SESSION_END,     /* proc_id: stop its work, unmap, say GONE */
	PROC_MODEL_LOAD,      /* proc_load + fds image, object. A parser gets it
			  * with the empty image memfd to fill and the files,
			  * a loader with the image and the files */
	PROC_MODEL_UNLOAD,    /* proc_id */
	PROC_GRANT, /* proc_grant: the session may use the model. Model
			  * 0: these are all, what it runs on others is lost */
	PROC_EXIT,  /* finish: close everything and exit 0 */
	/* engine -> monitor */
	PROC_READY,	   /* opened, sandboxed, waiting */
	PROC_SESSION_UP,   /* proc_status: mapped and initialised */
	PROC_SESSION_BAD,  /* proc_status: it broke the ring protocol */
	PROC_SESSION_GONE, /* proc_id */
	PROC_MODEL_STATE,  /* proc_model_state; UNLOADING: it is gone */
	/* parser -> monitor */
	PROC_PARSED, /* proc_status: the image memfd is complete, or why not */
	/* loader -> monitor */
	PROC_PLAN,     /* proc_plan: the memory it needs */
	PROC_PROGRESS, /* proc_progress, now and then */
	PROC_LOADED,   /* proc_loaded: the object is complete, or why not */
	/* monitor -> loader */
	PROC_PLACE, /* proc_id + fd of the object to fill, in answer to PLAN */
	/* engine -> monitor */
	PROC_BUSY, /* nothing: it works and nobody watches (stats->watched) */
	PROC_TYPE_N,
};

struct proc_hdr {
	uint32_t type;
	uint32_t len; /* bytes after the header */
};

struct proc_id {
	uint64_t id; /* session or model */
};

#define PROC_SESSION_RECOVER 1u /* D has live slots of a dead engine */
#define PROC_SESSION_CRASHED \
	2u /* which died of itself: not killed from outside */

struct proc_session {
	uint64_t id;
	uint32_t uid;
	uint32_t flags;
	uint64_t epoch;
	struct ring_layout layout;
};

struct proc_load {
	uint64_t id;
	uint32_t uid;
	uint32_t n_files;
	uint32_t n_ctx; /* 0: the model's own, bounded by memory */
	uint32_t resv;
	uint64_t kv_bytes;     /* 0: the engine's choice */
	uint64_t weight_bytes; /* engine: of the object, from its start */
};

/* What a loader needs before it reads. */
struct proc_plan {
	uint64_t id;
	uint64_t bytes; /* of weights, in the layout */
	char layout[24];
};

struct proc_progress {
	uint64_t id;
	uint64_t done;
	uint64_t total;
};

struct proc_grant {
	uint64_t session;
	uint64_t model;
};

struct proc_status {
	uint64_t id;
	int32_t err;
	uint32_t resv;
	char text[WIRE_TEXT];
};

/**
 * struct proc_loaded - a loader's last word
 * @digest: of the files' content
 */
struct proc_loaded {
	struct proc_status st;
	uint8_t digest[32];
};

struct proc_model_state {
	uint64_t id;
	uint32_t state; /* enum wire_model_state */
	int32_t err;
	uint32_t n_ctx;
	uint32_t n_ctx_train;
	uint64_t weight_bytes;
	uint64_t kv_bytes;
	uint64_t t_load_ns;
	char arch[32];
	char quant[32];
	char backend[32];
	char text[WIRE_TEXT];
};

/* One model's counters; written by the engine with relaxed atomics. */
struct proc_model_stats {
	_Atomic uint64_t id;	    /* 0 is free */
	_Atomic uint64_t kv_used;   /* bytes */
	_Atomic uint64_t n_active;  /* running and queued requests */
	_Atomic uint64_t n_prefill; /* prompt tokens computed */
	_Atomic uint64_t n_decode;  /* tokens generated */
	_Atomic uint64_t
		t_idle_ns; /* CLOCK_MONOTONIC of the last end, 0 never */
};

/**
 * struct proc_stats - the engine's counters, a shared page
 * @beat: regions of steps and loop turns so far; the watchdog looks at it
 *        while busy
 * @busy: 1 while there is work: requests, models to load, or a start
 * @device: 1 while it computes, or tries to, on what is not the CPU
 * @n_rows_fetched: rows of logits that a device was asked for whole
 * @watched: the monitor's: it looks at @beat by a timer. The engine that gets
 *        busy sets @busy, then (after a fence) reads this, and says PROC_BUSY
 *        if it is 0; the monitor that stops watching clears this, then (after
 *        a fence) reads @busy once more.
 */
struct proc_stats {
	_Atomic uint64_t beat;
	_Atomic uint64_t busy;
	_Atomic uint64_t watched;
	_Atomic uint64_t device;
	_Atomic uint64_t n_steps;
	_Atomic uint64_t n_requests;
	_Atomic uint64_t n_refused;
	_Atomic uint64_t n_cancelled;
	_Atomic uint64_t n_sessions;
	_Atomic uint64_t n_preempted;
	_Atomic uint64_t n_rows_fetched;
	struct proc_model_stats model[WIRE_MAX_MODELS];
};

/**
 * proc_send() - send one message
 * @fds: borrowed
 * Return: 0, -EAGAIN when a non-blocking socket is full, -EPIPE, ...
 */
int proc_send(int sock, enum proc_type type, const void *body, size_t n,
	      const int *fds, unsigned int n_fds);

/**
 * proc_recv() - receive one message and check it against the table
 * @body: at least PROC_MAX_BODY bytes
 * @fds:  at least PROC_MAX_FDS; the caller owns what is received, CLOEXEC
 *
 * Return: the type; 0 at end of file; -EAGAIN; -EPROTO for a message that the
 * table refuses (its fds are closed).
 */
int proc_recv(int sock, void *body, size_t *n, int *fds, unsigned int *n_fds);

#define PROC_MAX_BODY 1024

/**
 * wire_check() - check a client's message against the same kind of table
 * @msg:   one packet, header first
 * @n_fds: file descriptors that came along
 *
 * Return: enum wire_type; -EPROTO for what is no message of ours, with the
 * reason in @why; -EPROTONOSUPPORT for another version of the protocol.
 */
int wire_check(const void *msg, size_t n, unsigned int n_fds, char why[160]);

/**
 * wire_send() - answer a client; never waits
 * Return: 0, -EAGAIN when the client does not read, -EPIPE, ...
 */
int wire_send(int sock, enum wire_type type, uint32_t seq, const void *body,
	      size_t n, const int *fds, unsigned int n_fds);

/**
 * wire_recv() - receive one packet; never waits
 * @fds: at least WIRE_MAX_FDS; the caller owns what is received, CLOEXEC,
 *       on failure too (closing a stranger's file can wait for its server,
 *       so it is not done here)
 *
 * Return: bytes, 0 at end of file or for an empty packet (whose fds are to be
 * closed, too), -EAGAIN, -EMSGSIZE for a packet longer
 * than @n or with more fds than that (what is too much was never opened).
 */
int wire_recv(int sock, void *buf, size_t n, int *fds, unsigned int *n_fds);

#endif
