/* SPDX-License-Identifier: MIT */
/*
 * rig.h - an engine over the oracle backend, and clients, in one process.
 *
 * Tests, the simulator and the ring fuzzer drive the real engine through the
 * real shared-memory layout, with memory from malloc, a clock that they turn,
 * and a record of what was notified and woken.
 */
#ifndef HEARTH_TESTS_RIG_H
#define HEARTH_TESTS_RIG_H

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../daemon/engine.h"
#include "../daemon/oracle.h"

#define RIG_MAX_CLIENTS 16
#define RIG_MAX_MODELS	4

/* An image that says only what the oracle and the engine read. */
struct rig_image {
	struct image im;
	struct image_header h;
	uint32_t eog[2];
};

static inline void rig_image(struct rig_image *ri, uint32_t n_vocab,
			     uint32_t n_embd, uint32_t n_ctx)
{
	memset(ri, 0, sizeof(*ri));
	ri->im.h = &ri->h;
	ri->im.eog = ri->eog;
	ri->eog[0] = 1;
	ri->eog[1] = n_vocab - 1;
	ri->h.eog.n = 2;
	ri->h.hp.n_vocab = n_vocab;
	ri->h.hp.n_embd = n_embd;
	ri->h.hp.n_ctx_train = n_ctx;
}

struct rig_client {
	uint64_t id;
	struct ring_layout l;
	unsigned char *c;
	unsigned char *d;
	unsigned char *d_map; /* whole pages; D ends where they end */
	size_t d_map_bytes;
	struct ring_c *rc;
	struct ring_d *rd;
	uint32_t sq_tail;
	uint32_t cq_head;
	uint32_t gen;
	uint32_t n_wakes;
	bool bad;
	bool gone;
};

/* Every allocation of the engine, so that a killed one can be swept up. */
struct rig_block {
	struct rig_block *next;
	struct rig_block *prev;
	_Alignas(16) char data[];
};

struct rig {
	struct conf conf;
	struct engine_env env;
	struct engine *e;
	struct backend *be;
	struct backend_ops ops;
	struct proc_stats st;
	uint64_t clock;
	uint64_t free_bytes;
	uint32_t n_busy; /* PROC_BUSY was said so often */
	long fail_at;	 /* the n-th allocation from now fails; < 0 none */
	long n_allocs;
	long n_live;
	struct rig_block *blocks;
	long kill_at; /* the engine dies in this callback from now; 0 never */
	sigjmp_buf killed;
	struct rig_image images[RIG_MAX_MODELS];
	struct backend_model *bm[RIG_MAX_MODELS];
	struct rig_client clients[RIG_MAX_CLIENTS];
	char why[160];
};

/* A place where an engine may die: in a call to the outside. */
static inline void rig_may_die(struct rig *r)
{
	if (r->kill_at && !--r->kill_at)
		siglongjmp(r->killed, 1);
}

static inline uint64_t rig_now(void *arg)
{
	struct rig *r = arg;

	rig_may_die(r);
	return ++r->clock;
}

static inline struct rig_client *rig_find(struct rig *r, uint64_t id)
{
	int i;

	for (i = 0; i < RIG_MAX_CLIENTS; i++)
		if (r->clients[i].c && r->clients[i].id == id)
			return &r->clients[i];
	return NULL;
}

static inline void rig_wake(void *arg, uint64_t session, uint32_t *word,
			    int eventfd, uint32_t how)
{
	struct rig_client *c = rig_find(arg, session);

	(void)eventfd;
	assert(c && word == &c->rd->cq_tail && how);
	rig_may_die(arg);
	c->n_wakes++;
}

static inline void rig_notify(void *arg, enum proc_type type, const void *body,
			      size_t n)
{
	const struct proc_id *id = body;
	struct rig *r = arg;
	struct rig_client *c;

	if (type == PROC_BUSY) {
		assert(!n);
		r->n_busy++;
		return;
	}
	c = rig_find(r, id->id);
	assert(n >= sizeof(*id) && c);
	if (type == PROC_SESSION_BAD)
		c->bad = true;
	if (type == PROC_SESSION_GONE)
		c->gone = true;
}

static inline void *rig_alloc(void *arg, size_t n)
{
	struct rig *r = arg;
	struct rig_block *b;

	if (r->fail_at >= 0 && r->n_allocs++ == r->fail_at)
		return NULL;
	b = calloc(1, sizeof(*b) + n);
	if (!b)
		return NULL;
	b->next = r->blocks;
	if (b->next)
		b->next->prev = b;
	r->blocks = b;
	r->n_live++;
	return b->data;
}

static inline void rig_free(void *arg, void *p)
{
	struct rig *r = arg;
	struct rig_block *b =
		(struct rig_block *)((char *)p - sizeof(struct rig_block));

	if (b->prev)
		b->prev->next = b->next;
	else
		r->blocks = b->next;
	if (b->next)
		b->next->prev = b->prev;
	r->n_live--;
	free(b);
}

/* What a killed process leaves behind is nothing. */
static inline void rig_sweep(struct rig *r)
{
	struct rig_block *b;

	while ((b = r->blocks)) {
		r->blocks = b->next;
		free(b);
	}
	r->n_live = 0;
	r->e = NULL;
}

static inline uint64_t rig_available(void *arg)
{
	struct rig *r = arg;

	return r->free_bytes;
}

static inline void rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	r->fail_at = -1;
	r->free_bytes = 1 << 20;
	r->conf.step_tokens = 64;
	r->conf.max_batch = 8;
	r->conf.max_sessions = RIG_MAX_CLIENTS;
	r->conf.max_requests_uid = 1000;
	r->ops = backend_oracle;
	r->env.arg = r;
	r->env.now_ns = rig_now;
	r->env.wake = rig_wake;
	r->env.notify = rig_notify;
	r->env.alloc = rig_alloc;
	r->env.free = rig_free;
	r->env.mem_available = rig_available;
}

static inline int rig_start(struct rig *r)
{
	struct backend_conf bc;

	engine_backend_conf(&r->conf, &bc);
	if (r->ops.open(&r->be, &bc))
		return -ENOMEM;
	return engine_new(&r->e, &r->conf, &r->env, &r->ops, &r->st);
}

/* Model number @i gets the id i + 1. */
static inline int rig_model(struct rig *r, int i, uint32_t n_vocab,
			    uint32_t n_embd, uint32_t n_ctx, uint64_t kv_bytes)
{
	struct proc_load l = { .id = (uint64_t)i + 1, .kv_bytes = kv_bytes };
	uint32_t ctx;
	uint64_t kv;
	int err;

	rig_image(&r->images[i], n_vocab, n_embd, n_ctx);
	err = r->ops.load(r->be, &r->images[i].im, NULL, -1, 0, &r->bm[i],
			  r->why);
	if (err)
		return err;
	err = engine_model_add(r->e, &l, &r->images[i].im, r->bm[i], &ctx, &kv,
			       r->why);
	if (err) {
		r->ops.unload(r->be, r->bm[i]);
		r->bm[i] = NULL;
	}
	return err;
}

static inline void rig_model_del(struct rig *r, int i)
{
	if (!r->bm[i])
		return;
	engine_model_del(r->e, (uint64_t)i + 1);
	r->ops.unload(r->be, r->bm[i]);
	r->bm[i] = NULL;
}

static inline void rig_layout(struct ring_layout *l, uint32_t n_slots,
			      uint32_t sq_entries, uint64_t c_data,
			      uint64_t arena)
{
	uint32_t cq = 4;

	while (cq < 4 * n_slots)
		cq *= 2;
	memset(l, 0, sizeof(*l));
	l->n_slots = n_slots;
	l->sq_entries = sq_entries;
	l->cq_entries = cq;
	l->c_sq_off = RING_PAGE;
	l->c_data_off = l->c_sq_off + sq_entries * RING_ENTRY_BYTES;
	l->c_bytes = l->c_data_off + c_data;
	l->d_cq_off = RING_PAGE;
	l->d_slot_off = l->d_cq_off + cq * RING_ENTRY_BYTES;
	l->d_arena_off = l->d_slot_off + n_slots * sizeof(struct ring_slot);
	l->d_bytes = l->d_arena_off + arena;
}

static inline int rig_attach(struct rig *r, int i, uint64_t id, uint32_t uid,
			     uint32_t flags)
{
	struct rig_client *c = &r->clients[i];
	struct proc_session ps = {
		.id = id, .uid = uid, .flags = flags, .epoch = 1, .layout = c->l
	};
	bool any = false;
	int m, err;

	err = engine_session_new(r->e, &ps, c->c, c->d, -1);
	if (err)
		return err;
	for (m = 0; m < RIG_MAX_MODELS; m++)
		if (r->bm[m]) {
			engine_grant(r->e, id, (uint64_t)m + 1);
			any = true;
		}
	if (any)
		engine_grant(r->e, id, 0);
	return 0;
}

/* Client @i: session id i + 1. Memory is of the exact sizes: ASan looks at C,
 * and behind D is nothing. */
static inline int rig_client(struct rig *r, int i, uint32_t uid,
			     uint32_t n_slots, uint32_t sq_entries,
			     uint64_t c_data, uint64_t arena)
{
	struct rig_client *c = &r->clients[i];

	memset(c, 0, sizeof(*c));
	rig_layout(&c->l, n_slots, sq_entries, c_data, arena);
	c->id = (uint64_t)i + 1;
	c->c = aligned_alloc(64, (c->l.c_bytes + 63) & ~63ull);
	memset(c->c, 0, c->l.c_bytes);
	c->d_map_bytes = (c->l.d_bytes + 2 * RING_PAGE - 1) & ~(RING_PAGE - 1);
	c->d_map = mmap(NULL, c->d_map_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert(c->d_map != MAP_FAILED);
	c->d_map_bytes -= RING_PAGE;
	mprotect(c->d_map + c->d_map_bytes, RING_PAGE, PROT_NONE);
	c->d = c->d_map + ((c->d_map_bytes - c->l.d_bytes) &
			   ~(size_t)(RING_ENTRY_BYTES - 1));
	c->rc = (struct ring_c *)c->c;
	c->rd = (struct ring_d *)c->d;
	return rig_attach(r, i, c->id, uid, 0);
}

static inline void rig_client_free(struct rig_client *c)
{
	free(c->c);
	if (c->d_map)
		munmap(c->d_map, c->d_map_bytes + RING_PAGE);
	memset(c, 0, sizeof(*c));
}

static inline void rig_stop(struct rig *r)
{
	int i;

	engine_free(r->e);
	r->e = NULL;
	for (i = 0; i < RIG_MAX_MODELS; i++)
		if (r->bm[i])
			r->ops.unload(r->be, r->bm[i]);
	memset(r->bm, 0, sizeof(r->bm));
	if (r->be)
		r->ops.close(r->be);
	r->be = NULL;
	for (i = 0; i < RIG_MAX_CLIENTS; i++)
		rig_client_free(&r->clients[i]);
}

/* ---------------------------------------------------- what a client does */

static inline struct ring_sqe *rig_sqe(struct rig_client *c)
{
	struct ring_sqe *q = (struct ring_sqe *)(c->c + c->l.c_sq_off);
	struct ring_sqe *e = &q[c->sq_tail & (c->l.sq_entries - 1)];

	memset(e, 0, sizeof(*e));
	return e;
}

static inline void rig_publish(struct rig_client *c)
{
	__atomic_store_n(&c->rc->sq_tail, ++c->sq_tail, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void rig_submit(struct rig_client *c, uint32_t op, uint32_t slot,
			      uint32_t gen, uint64_t off, uint32_t len)
{
	struct ring_sqe *e = rig_sqe(c);

	e->op = (uint16_t)op;
	e->slot = slot;
	e->gen = gen;
	e->off = off;
	e->len = len;
	rig_publish(c);
}

/* A plain greedy record at @off of C's data area; the prompt follows it. */
static inline struct ring_run *rig_record(struct rig_client *c, uint64_t off,
					  const uint32_t *prompt, uint32_t n,
					  uint32_t max_tokens)
{
	unsigned char *p = c->c + c->l.c_data_off + off;
	struct ring_run *run = (struct ring_run *)p;

	memset(run, 0, sizeof(*run));
	run->model = 1;
	run->n_prompt = n;
	run->max_tokens = max_tokens;
	run->top_p = 1;
	run->repeat_penalty = 1;
	run->prompt_off = sizeof(*run);
	memcpy(p + run->prompt_off, prompt, n * sizeof(*prompt));
	return run;
}

static inline uint32_t rig_run(struct rig_client *c, uint32_t slot,
			       uint64_t off, uint32_t len)
{
	rig_submit(c, RING_OP_RUN, slot, ++c->gen, c->l.c_data_off + off, len);
	return c->gen;
}

static inline uint32_t rig_run_prompt(struct rig_client *c, uint32_t slot,
				      uint64_t off, const uint32_t *prompt,
				      uint32_t n, uint32_t max_tokens)
{
	rig_record(c, off, prompt, n, max_tokens);
	return rig_run(c, slot, off,
		       (uint32_t)(sizeof(struct ring_run) + n * 4));
}

/* Next completion, if there is one. */
static inline bool rig_reap(struct rig_client *c, struct ring_cqe *out)
{
	const struct ring_cqe *q =
		(const struct ring_cqe *)(c->d + c->l.d_cq_off);

	if (c->cq_head == __atomic_load_n(&c->rd->cq_tail, __ATOMIC_ACQUIRE))
		return false;
	*out = q[c->cq_head & (c->l.cq_entries - 1)];
	__atomic_store_n(&c->rc->cq_head, ++c->cq_head, __ATOMIC_RELEASE);
	return true;
}

static inline const struct ring_slot *rig_slot(const struct rig_client *c,
					       uint32_t slot)
{
	return (const struct ring_slot *)(c->d + c->l.d_slot_off) + slot;
}

static inline const struct ring_token *rig_out(const struct rig_client *c,
					       uint32_t slot)
{
	return (const struct ring_token *)(c->d + rig_slot(c, slot)->out_off);
}

/* Poll and step until nothing is left to do; turns taken, or -1. */
static inline long rig_drive(struct rig *r, long max)
{
	long n;

	for (n = 0; n < max; n++) {
		if (!engine_poll(r->e))
			return n;
		engine_step(r->e);
	}
	return -1;
}

/* The oracle's greedy answer. Return: tokens; *eog: it ended its turn. */
static inline uint32_t rig_answer(const struct image *im,
				  const uint32_t *prompt, uint32_t n,
				  uint32_t max, uint32_t *out, bool *eog)
{
	uint64_t h = ORACLE_SEED;
	uint32_t i, t;

	*eog = false;
	for (i = 0; i < n; i++)
		h = oracle_hash(h, prompt[i], i);
	for (i = 0; i < max; i++) {
		t = oracle_next(h, im);
		if (t == im->eog[0] || t == im->eog[1]) {
			*eog = true;
			return i;
		}
		out[i] = t;
		h = oracle_hash(h, t, n + i);
	}
	return max;
}

/* Is slot @slot's output exactly what the oracle says of this prompt? */
static inline bool rig_right(const struct rig *r, const struct rig_client *c,
			     uint32_t slot, const uint32_t *prompt, uint32_t n)
{
	const struct ring_slot *s = rig_slot(c, slot);
	const struct image *im = &r->images[s->model - 1].im;
	const struct ring_token *out = rig_out(c, slot);
	uint64_t h = ORACLE_SEED;
	uint32_t i, t;

	for (i = 0; i < n; i++)
		h = oracle_hash(h, prompt[i], i);
	for (i = 0; i < s->n_out; i++) {
		t = oracle_next(h, im);
		if (out[i].token != t || t == im->eog[0] || t == im->eog[1])
			return false;
		h = oracle_hash(h, t, n + i);
	}
	if (s->state != RING_SLOT_DONE || s->finish == RING_FIN_CANCEL ||
	    s->finish == RING_FIN_ERROR)
		return true;
	if (s->n_out == s->max_out)
		return s->finish ==
		       (s->max_out ? RING_FIN_LENGTH : RING_FIN_DONE);
	t = oracle_next(h, im);
	return s->finish == RING_FIN_EOS &&
	       (t == im->eog[0] || t == im->eog[1]);
}

/* No KV block in use, nothing active: by the engine's own counters. */
static inline bool rig_quiet(const struct rig *r)
{
	int i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (r->st.model[i].id &&
		    (r->st.model[i].kv_used || r->st.model[i].n_active))
			return false;
	return true;
}

/* splitmix64: a test's own randomness. */
static inline uint64_t rig_rand(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

#endif
