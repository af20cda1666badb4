/* SPDX-License-Identifier: MIT */
/*
 * wire.h - messages on the monitor's unix SEQPACKET socket.
 *
 * One message a packet: struct wire_hdr, then the body of its type, then (for
 * the types that say so) file descriptors by SCM_RIGHTS. The client asks, the
 * monitor answers with the same @seq; a LOAD is answered by any number of
 * WIRE_PROGRESS and then one WIRE_MODEL or WIRE_ERROR. Who the client is
 * comes from SO_PEERCRED alone.
 *
 * Handshake (one session a connection):
 *   client  WIRE_HELLO        what it would like
 *   monitor WIRE_SESSION      struct ring_layout and limits;
 *                             fds: C (rw), D (read-only), kick eventfd,
 *                             event eventfd
 *   client  WIRE_MAPPED       it has mapped C; its fd is closed
 *   monitor WIRE_READY        C sealed, both initialised, engine attached
 * A connection that never says HELLO may still use the model messages.
 *
 * When the connection closes, the session ends and its work stops.
 */
#ifndef HEARTH_WIRE_H
#define HEARTH_WIRE_H

#include <stdint.h>

#include "ring.h"

#define WIRE_MAGIC	0x57545248u /* "HRTW" */
#define WIRE_MAX_FDS	32	    /* split files in one LOAD */
#define WIRE_NAME	128	    /* bytes of a model name, with its NUL */
#define WIRE_TEXT	256	    /* bytes of an error text, with its NUL */
#define WIRE_MAX_MODELS 64
#define WIRE_MAX_BYTES	65536 /* no message is longer */

enum wire_type {
	WIRE_HELLO = 1, /* wire_hello -> WIRE_SESSION */
	WIRE_MAPPED,	/* nothing -> WIRE_READY */
	WIRE_LOAD,   /* wire_load + model file fds -> WIRE_MODEL + image fd */
	WIRE_UNLOAD, /* wire_id (flags: WIRE_EVICT) -> WIRE_OK */
	WIRE_LIST,   /* nothing -> WIRE_MODELS */
	WIRE_OPEN,   /* wire_id -> WIRE_MODEL + image fd */
	WIRE_LIMITS, /* nothing -> WIRE_TEXT_REPLY: "name value unit\n" lines */
	WIRE_STATS,  /* nothing -> WIRE_TEXT_REPLY: "name value\n" lines */

	WIRE_SESSION = 64, /* wire_session + fds */
	WIRE_READY,
	WIRE_MODEL,    /* struct wire_model + image fd */
	WIRE_MODELS,   /* struct wire_model[n] */
	WIRE_PROGRESS, /* wire_progress */
	WIRE_OK,
	WIRE_ERROR,	 /* wire_error */
	WIRE_TEXT_REPLY, /* bytes */
};

struct wire_hdr {
	uint32_t magic;
	uint16_t abi;  /* RING_ABI */
	uint16_t type; /* enum wire_type */
	uint32_t seq;  /* chosen by the client, echoed */
	uint32_t len;  /* bytes after the header */
};

/* Zero means "the daemon's default" for each. */
struct wire_hello {
	uint32_t n_slots;
	uint32_t sq_entries;
	uint64_t c_bytes;
	uint64_t d_bytes;
	uint32_t resv[4];
};

struct wire_session {
	uint64_t epoch;
	uint64_t session;
	struct ring_layout layout;
	uint32_t version[3]; /* of the daemon */
	uint32_t spin_us; /* of spinning by the engine, with work in flight */
};

/**
 * struct wire_load - load a model from the files whose fds come along
 * @n_files: fds: the parts of a split model, in order
 * @n_ctx:   context wanted, 0 is the model's own bounded by memory
 * @kv_bytes: KV memory wanted, 0 is the daemon's choice
 * @flags:   none yet
 * @resv:    0
 * @name:    name to list it under
 */
struct wire_load {
	uint32_t n_files;
	uint32_t n_ctx;
	uint64_t kv_bytes;
	uint32_t flags;
	uint32_t resv;
	char name[WIRE_NAME];
};

#define WIRE_EVICT 1u /* UNLOAD: the copy in memory goes, too */

struct wire_id {
	uint32_t model;
	uint32_t flags;
};

enum wire_model_state {
	WIRE_MODEL_PARSING,
	WIRE_MODEL_LOADING,
	WIRE_MODEL_READY,
	WIRE_MODEL_UNLOADING,
	WIRE_MODEL_FAILED,
	WIRE_MODEL_RESIDENT, /* its weights are in memory, no engine has it */
};

/**
 * struct wire_model - one resident model
 * @model:        id; never used twice while the daemon lives
 * @state:        enum wire_model_state
 * @uid:          who loaded it
 * @n_ctx:        context a request may use
 * @n_ctx_train:  context the model was made for
 * @n_sessions:   sessions that have it open
 * @n_active:     requests running or queued
 * @resv:         0
 * @file_bytes:   sum of the files
 * @weight_bytes: bytes of weights in memory
 * @kv_bytes:     bytes of KV cache there are
 * @kv_used:      bytes of it in use
 * @t_load_ns:    until it was ready; a GPU may still get weights then
 * @idle_ns:      since the last request ended
 * @name:         it is listed under
 * @arch:         architecture; empty until an engine had it, as the next two
 * @quant:        format of most weights
 * @backend:      what computes
 * @digest:       of the files' content; zeros while it is not known
 */
struct wire_model {
	uint32_t model;
	uint32_t state;
	uint32_t uid;
	uint32_t n_ctx;
	uint32_t n_ctx_train;
	uint32_t n_sessions;
	uint32_t n_active;
	uint32_t resv;
	uint64_t file_bytes;
	uint64_t weight_bytes;
	uint64_t kv_bytes;
	uint64_t kv_used;
	uint64_t t_load_ns;
	uint64_t idle_ns;
	char name[WIRE_NAME];
	char arch[32];
	char quant[32];
	char backend[32];
	uint8_t digest[32];
};

struct wire_progress {
	uint32_t state; /* enum wire_model_state */
	uint32_t resv;
	uint64_t done_bytes;
	uint64_t total_bytes;
};

/* @err is a negative errno. The text names what and where. */
struct wire_error {
	int32_t err;
	uint32_t resv;
	char text[WIRE_TEXT];
};

#endif
