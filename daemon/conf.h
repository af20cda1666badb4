/* SPDX-License-Identifier: MIT */
/*
 * conf.h - options of hearthd: one table in conf.c is their master copy.
 *
 * The table gives each option's name, type, range, default, unit and one
 * sentence; parser, -h, `hearth show limits` and hearthd.conf(5) read it.
 */
#ifndef HEARTH_CONF_H
#define HEARTH_CONF_H

#include <stddef.h>
#include <stdint.h>

#define CONF_STEP_TOKENS 512
#define CONF_MAX_BATCH	 32
/* Such a part of the host's free memory is for everybody else. */
#define CONF_RESERVE 16

struct conf {
	/* where */
	char socket[108];
	char user[64]; /* engine and parser run as this user when root */
	uint32_t socket_mode;
	/* engine */
	char backend[32];    /* "auto", "cuda", "cpu", "oracle" */
	char gpu[48];	     /* index, UUID or PCI address; "": the first */
	char gpu_layers[8];  /* "auto" or a number */
	char gpu_prompts[8]; /* "exact" or "fast" */
	uint64_t gpu_ahead;  /* bytes of weights into its L2 cache, 0: none */
	char cpu_mask[16]; /* highest CPU level: "c", "avx2", ...; "" is all */
	uint64_t threads;  /* 0: one a core */
	uint64_t spin_us;
	uint64_t step_tokens; /* token budget of a step */
	uint64_t max_batch;   /* sequences in a step */
	uint64_t kv_bytes;    /* KV memory of a model, 0: by free memory */
	uint64_t mem_bytes; /* weights + KV of all models, 0: by free memory */
	uint64_t oracle_us; /* oracle backend: time a token takes */
	/* pool */
	char pool[16];	    /* "auto" or a provider */
	char pool_dir[108]; /* hugetlbfs, tmpfs: where; "" is the usual place */
	uint64_t pool_bytes;  /* objects' bytes at most, 0: by free memory */
	uint64_t detach_s;    /* a model nobody has open leaves the engine */
	uint64_t watchdog_ms; /* an engine that hangs so long is killed */
	/* limits */
	uint64_t max_sessions;
	uint64_t max_sessions_uid;
	uint64_t max_models;
	uint64_t max_models_uid;
	uint64_t max_slots;	   /* in a session */
	uint64_t max_requests_uid; /* running and queued */
	uint64_t max_in_bytes;	   /* C of a session */
	uint64_t max_out_bytes;	   /* D of a session */
	uint64_t max_shared_uid;   /* C and D of all a uid's sessions */
	uint64_t handshake_ms;	   /* a session must be ready by then */
	uint64_t parse_ms;	   /* a parser must be done, a loader get on */
	uint64_t parse_bytes;	   /* memory of a parser */
	/* other */
	uint64_t exit_idle_s; /* nobody connected: leave after it; 0 never */
	uint64_t verbose;
	uint64_t sandbox; /* 0 switches it off, for debuggers and sanitizers */
};

/* What option pool may say; NULL-terminated. */
extern const char *const pool_names[];

void conf_init(struct conf *c); /* all defaults */

/* Set one option from text. Return 0 or -EINVAL/-ERANGE and a sentence. */
int conf_set(struct conf *c, const char *name, const char *value,
	     char why[160]);

/* Read a file of "name value" lines, '#' comments. */
int conf_read(struct conf *c, const char *path, char why[160]);

/* "name value unit" lines. Return bytes, as snprintf does. */
int conf_print(const struct conf *c, char *buf, size_t n);

/* Options as -h shows them. */
int conf_help(char *buf, size_t n);

#endif
