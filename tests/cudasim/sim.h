/* SPDX-License-Identifier: MIT */
/*
 * sim.h - the simulated device: memory, streams of operations, one thread.
 *
 * All of it is under one lock. A thread of the device's own takes it for a turn
 * at a time and does what the streams hold; each operation carries, for every
 * stream, how much of it must have happened before: that is both when it may
 * begin and what may touch the same memory without being a race.
 */
#ifndef CUDASIM_SIM_H
#define CUDASIM_SIM_H

#include <pthread.h>
#include <stdbool.h>

#include "../../daemon/cuda/abi.h"
#include "ptx.h"

#define DEV_SLOTS   64 /* streams at a time; slot 0: the default one */
#define DEV_RUNNING 16 /* kernels at a time */
#define DEV_BLOCKS  256
#define DEV_SHARED  232448 /* bytes a block may have */

struct cu_ctx {
	bool dead;
	int refs;
};

enum mem_kind { MEM_DEVICE, MEM_PINNED, MEM_REGISTERED, MEM_MAPPED };

/* Last write and read of four bytes: slot << 26 | number in the stream. */
struct mem_shadow {
	uint32_t writer;
	uint32_t reader;
};

struct mem {
	uint64_t at;
	size_t size;
	enum mem_kind kind;
	int access; /* 1: read, 2: write */
	void *map;  /* with guard pages */
	size_t map_size;
	struct mem_shadow *shadow;
	size_t shadow_size;
};

enum op_kind {
	OP_COPY,
	OP_SET,
	OP_KERNEL,
	OP_STAMP, /* an event's time */
	OP_WRITE_VALUE,
	OP_WAIT_VALUE,
	OP_CALL,
	OP_WAIT_EVENT, /* in graphs only: streams take an event's order at once */
};

struct op {
	struct op *next;
	enum op_kind kind;
	int slot;
	uint32_t seq;
	uint32_t need[DEV_SLOTS];
	bool pdl; /* may begin before its predecessor is done */
	bool finished;
	uint64_t to;
	uint64_t from;
	bool to_host; /* pageable memory of the program's, not checked */
	bool from_host;
	size_t n;
	uint32_t value;
	int unit;   /* bytes of a set */
	void *blob; /* copy of pageable memory, or parameters */
	size_t blob_n;
	struct cu_func *func;
	uint32_t grid[3];
	uint32_t block[3];
	uint32_t dyn;
	struct cu_event *event;
	void (*call)(void *);
	void *arg;
	/* while it runs */
	struct ptx_launch ln;
	uint32_t next_block;
	uint32_t done_blocks;
};

struct cu_stream {
	int slot;
	bool nonblocking;
	uint32_t vc[DEV_SLOTS]; /* what its last operation comes after, and it */
	struct op *head;
	struct op *tail;
	struct cu_graph *capture;
	int branch; /* of the graph under capture */
};

struct cu_event {
	uint32_t vc[DEV_SLOTS];
	bool recorded;
	uint64_t stamp_ns;
	struct cu_graph *capture; /* recorded there, as node */
	int node;
};

struct cu_func {
	const struct ptx_kernel *k;
	int max_dyn;
};

struct resident {
	struct ptx_block *b;
	struct op *op;
};

/* What is counted until it is given back. */
enum made {
	MADE_STREAM,
	MADE_EVENT,
	MADE_MODULE,
	MADE_GRAPH,
	MADE_EXEC,
	MADE_KINDS
};

struct dev {
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_cond_t done_cond;
	int waiting; /* threads that want the lock */
	bool inited;
	int sticky;
	uint64_t seed;
	uint64_t rng;
	int n_sm;
	double watchdog_s;
	size_t total;
	size_t used;
	struct mem *mem; /* sorted */
	int n_mem;
	struct cu_stream *stream[DEV_SLOTS];
	uint32_t seq[DEV_SLOTS];
	uint32_t done[DEV_SLOTS];
	uint32_t host[DEV_SLOTS]; /* what the program has waited for */
	struct op *run[DEV_RUNNING];
	int n_run;
	struct resident block[DEV_BLOCKS];
	int n_block;
	uint64_t progress_ns;
	bool let_go; /* what CUDASIM_HOLD holds back */
	struct cu_ctx primary;
	int made[MADE_KINDS];
};

extern struct dev dev;

#define API		 __attribute__((visibility("default")))
#define CALL(name, args) API int name args;
#include "cuda_calls.def"
#undef CALL

/* Every call begins with one and ends with the other. */
#define API_ANY	 0 /* needs nothing */
#define API_INIT 1
#define API_CTX	 3 /* and a current context */
int api_enter(const char *call, int needs);
int api_leave(int rc);
#define ENTER(needs)                         \
	int rc = api_enter(__func__, needs); \
	if (rc)                              \
	return rc

void dev_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void dev_fail(int error);
uint64_t dev_random(void);
uint64_t dev_ns(void);
void dev_start(void);
int dev_attr(int attr);
bool dev_holds(void);

struct mem *mem_find(uint64_t at, size_t n);
struct mem *mem_add(struct mem m);
void mem_remove(struct mem *m);
uint64_t mem_new(size_t n, enum mem_kind kind);
void *mem_module(size_t n);
/* N bytes that OP touches: NULL if they are its to touch, else why not. */
const char *mem_touch(const struct op *op, uint64_t at, size_t n, bool write,
		      bool waited);
int vmm_left(void); /* reservations, and memory that is nowhere mapped */
bool mem_is_pinned(const void *p, size_t n);
bool mem_is_registered(uint64_t at);

struct cu_stream *stream_of(struct cu_stream *s);
struct cu_stream *stream_new(bool nonblocking);
void stream_free(struct cu_stream *s);
struct op *op_new(enum op_kind kind);
void op_free(struct op *op);
int stream_push(struct cu_stream *s, struct op *op);
int stream_wait(struct cu_stream *s);
int stream_wait_all(void);
bool vc_reached(const uint32_t *vc);
void vc_join(uint32_t *to, const uint32_t *from);

int graph_capture(struct cu_stream *s, struct op *op);
bool graph_joins(struct cu_stream *s, struct cu_event *e);
void graph_drop(struct cu_stream *s); /* the capture S is in, if any */

#endif
