/* SPDX-License-Identifier: MIT */
/*
 * client_fake.h - the other side of a session, played by a test: an engine
 * that does exactly what it is told, and a model of bytes and a few words.
 */
#ifndef HEARTH_CLIENT_FAKE_H
#define HEARTH_CLIENT_FAKE_H

#include <check.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../libclient/conn.h"
#include "../libclient/image.h"

#define FAKE_SLOTS 4
#define FAKE_OUT   4096 /* tokens a slot may produce */
#define FAKE_VOCAB 300
#define FAKE_CTX   1000
#define FAKE_EMBD  8

/* ------------------------------------------------------------- the model */

/* Tokens 0..255 are bytes; the words after them show that tokens are more. */
static const char *const fake_word[] = { "abc", "Ende", "\xc3\xa9t\xc3\xa9",
					 "stop", "ab" };

enum { FAKE_W_ABC = 256, FAKE_W_ENDE, FAKE_W_ETE, FAKE_W_STOP, FAKE_W_AB };

struct fake_image {
	_Alignas(64) struct image_header h;
	_Alignas(64) char str[4096];
	_Alignas(64) struct image_token tok[FAKE_VOCAB];
	_Alignas(64) uint32_t hash[512];
	_Alignas(64) uint32_t eog[1];
};

static inline void fake_span(struct image_span *s, const struct fake_image *im,
			     const void *p, uint64_t n)
{
	s->off = (uint64_t)((const char *)p - (const char *)im);
	s->n = n;
}

static inline struct hearth_model *fake_model(void)
{
	static struct fake_image im;
	struct image_header *h = &im.h;
	struct hearth_model *m = NULL;
	uint32_t n = 0;
	uint32_t at;
	char why[160];
	uint32_t i;
	int k;

	memset(&im, 0, sizeof(im));
	h->magic = IMAGE_MAGIC;
	h->version = IMAGE_VERSION;
	h->bytes = sizeof(im);
	h->n_files = 1;
	h->hp.arch = IMAGE_NONE;
	h->hp.n_vocab = FAKE_VOCAB;
	h->vocab_kind = IMAGE_VOCAB_SPM;
	h->tok_flags = IMAGE_TOK_F_HAS_ADD_BOS;
	h->bos = h->eos = h->unk = h->pad = h->sep = h->nl = h->eot =
		IMAGE_NONE;
	memset(im.hash, 0xff, sizeof(im.hash));
	for (i = 0; i < FAKE_VOCAB; i++) {
		im.tok[i].type = i < 256 ? IMAGE_TOK_BYTE : IMAGE_TOK_NORMAL;
		im.tok[i].text.off = n;
		if (i < 256)
			k = sprintf(im.str + n, "<0x%02X>", i);
		else if (i - 256 < sizeof(fake_word) / sizeof(fake_word[0]))
			k = sprintf(im.str + n, "%s", fake_word[i - 256]);
		else
			k = sprintf(im.str + n, "w%u", i);
		im.tok[i].text.len = (uint32_t)k;
		at = image_hash(im.str + n, (size_t)k) & 511;
		while (im.hash[at] != IMAGE_NONE)
			at = (at + 1) & 511;
		im.hash[at] = i;
		n += (uint32_t)k;
	}
	fake_span(&h->strings, &im, im.str, sizeof(im.str));
	fake_span(&h->tensors, &im, im.str, 0);
	fake_span(&h->tokens, &im, im.tok, FAKE_VOCAB);
	fake_span(&h->merges, &im, im.str, 0);
	fake_span(&h->tok_hash, &im, im.hash, 512);
	fake_span(&h->merge_hash, &im, im.str, 0);
	fake_span(&h->eog, &im, im.eog, 0);
	fake_span(&h->meta, &im, im.str, 0);
	if (model_new_mem(&m, &im, sizeof(im), why)) {
		fprintf(stderr, "fake model: %s\n", why);
		abort();
	}
	m->resident = true;
	m->info.id = 7;
	m->info.n_ctx = FAKE_CTX;
	strcpy(m->info.name, "fake");
	return m;
}

/* ------------------------------------------------------------ the engine */

struct fake {
	struct ring_layout lay;
	uint8_t *c;
	uint8_t *d;
	struct ring_c *rc;
	struct ring_d *rd;
	uint32_t sq_head;
	uint32_t cq_tail;
	int sock;     /* our end */
	int event_fd; /* ours too */
	int kick_fd;
	struct ring_run run[FAKE_SLOTS]; /* copies of what was asked */
};

static inline void *fake_shared(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static inline void fake_layout(struct ring_layout *l, uint32_t sq,
			       uint64_t c_data)
{
	memset(l, 0, sizeof(*l));
	l->sq_entries = sq;
	l->cq_entries = 16;
	l->n_slots = FAKE_SLOTS;
	l->c_sq_off = RING_PAGE;
	l->c_data_off = RING_PAGE + (uint64_t)sq * RING_ENTRY_BYTES;
	l->c_bytes = l->c_data_off + c_data;
	l->d_cq_off = RING_PAGE;
	l->d_slot_off = l->d_cq_off + 16 * RING_ENTRY_BYTES;
	l->d_arena_off = l->d_slot_off + FAKE_SLOTS * sizeof(struct ring_slot);
	l->d_bytes = l->d_arena_off + (1u << 20);
}

/* A session over memory: @h is the client's side of it. */
static inline void fake_open(struct fake *f, struct hearth **h, uint32_t sq,
			     uint64_t c_data)
{
	int sv[2];

	memset(f, 0, sizeof(*f));
	fake_layout(&f->lay, sq, c_data);
	f->c = fake_shared(f->lay.c_bytes);
	f->d = fake_shared(f->lay.d_bytes);
	f->rc = (struct ring_c *)(void *)f->c;
	f->rd = (struct ring_d *)(void *)f->d;
	f->rd->magic = RING_MAGIC;
	f->rd->abi = RING_ABI;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		abort();
	f->sock = sv[0];
	f->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (conn_attach(h, &f->lay, f->c, f->d, sv[1], dup(f->kick_fd),
			dup(f->event_fd)))
		abort();
}

static inline void fake_die(struct fake *f)
{
	if (f->sock >= 0)
		close(f->sock);
	f->sock = -1;
}

static inline void fake_close(struct fake *f, struct hearth **h)
{
	hearth_close(h);
	fake_die(f);
	close(f->kick_fd);
	close(f->event_fd);
	munmap(f->c, f->lay.c_bytes);
	munmap(f->d, f->lay.d_bytes);
}

static inline struct ring_slot *fake_slot(struct fake *f, uint32_t slot)
{
	return (struct ring_slot *)(void *)(f->d + f->lay.d_slot_off) + slot;
}

/* Take one submission. */
static inline bool fake_pop(struct fake *f, struct ring_sqe *e)
{
	uint32_t tail = __atomic_load_n(&f->rc->sq_tail, __ATOMIC_ACQUIRE);
	uint32_t at = f->sq_head & (f->lay.sq_entries - 1);

	if (tail == f->sq_head)
		return false;
	memcpy(e, f->c + f->lay.c_sq_off + (size_t)at * 64, sizeof(*e));
	f->sq_head++;
	__atomic_store_n(&f->rd->sq_head, f->sq_head, __ATOMIC_RELEASE);
	return true;
}

static inline void fake_push(struct fake *f, const struct ring_cqe *e)
{
	uint32_t at = f->cq_tail & (f->lay.cq_entries - 1);
	uint64_t one = 1;
	uint32_t how;
	ssize_t r;

	memcpy(f->d + f->lay.d_cq_off + (size_t)at * 64, e, sizeof(*e));
	f->cq_tail++;
	__atomic_store_n(&f->rd->cq_tail, f->cq_tail, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	how = __atomic_load_n(&f->rc->client_waiting, __ATOMIC_RELAXED);
	if (how & RING_WAIT_FUTEX)
		syscall(SYS_futex, &f->rd->cq_tail, FUTEX_WAKE, 1, NULL, NULL,
			0);
	if (how & RING_WAIT_EVENTFD) {
		r = write(f->event_fd, &one, sizeof(one));
		(void)r;
	}
}

static inline void fake_event(struct fake *f, enum ring_event ev, uint32_t slot)
{
	struct ring_cqe e = { .event = (uint16_t)ev,
			      .slot = slot,
			      .gen = fake_slot(f, slot)->gen };

	fake_push(f, &e);
}

/* Accept a RUN as the engine does: everything in D, the state last. */
static inline void fake_accept(struct fake *f, const struct ring_sqe *e)
{
	struct ring_slot *s = fake_slot(f, e->slot);
	uint64_t base = f->lay.d_arena_off + (uint64_t)e->slot * (200u << 10);
	struct ring_run *r = &f->run[e->slot];

	memcpy(r, f->c + e->off, sizeof(*r));
	__atomic_store_n(&s->state, RING_SLOT_FREE, __ATOMIC_RELEASE);
	memset((char *)s + 4, 0, sizeof(*s) - 4);
	s->n_prompt = r->n_prompt;
	s->max_out = FAKE_OUT;
	s->model = r->model;
	s->out_off = base;
	if (r->n_top_logprobs)
		s->top_off = base + (40u << 10);
	if (r->n_logits)
		s->logits_off = base + (80u << 10);
	if (r->flags & (RING_RUN_EMBED_LAST | RING_RUN_EMBED_MEAN))
		s->embed_off = base + (160u << 10);
	s->n_vocab = FAKE_VOCAB;
	s->n_embd = FAKE_EMBD;
	s->key = r->key;
	s->t_submit_ns = 1000;
	__atomic_store_n(&s->gen, e->gen, __ATOMIC_RELEASE);
	__atomic_store_n(&s->state, RING_SLOT_QUEUED, __ATOMIC_RELEASE);
}

/* A token, without a word to the client. */
static inline void fake_token(struct fake *f, uint32_t slot, uint32_t tok,
			      float logprob)
{
	struct ring_slot *s = fake_slot(f, slot);
	struct ring_token *t =
		(struct ring_token *)(void *)(f->d + s->out_off) + s->n_out;

	s->state = RING_SLOT_RUNNING;
	t->token = tok;
	t->logprob = logprob;
	if (!s->n_out) {
		s->t_start_ns = 3000;
		s->t_first_ns = 7000;
	}
	s->t_last_ns = 9000 + s->n_out;
	s->n_prefill = s->n_prompt;
	__atomic_store_n(&s->n_out, s->n_out + 1, __ATOMIC_RELEASE);
}

static inline void fake_done(struct fake *f, uint32_t slot,
			     enum ring_finish fin, int32_t err)
{
	struct ring_slot *s = fake_slot(f, slot);

	s->finish = fin;
	s->err = err;
	__atomic_store_n(&s->state, RING_SLOT_DONE, __ATOMIC_RELEASE);
	fake_event(f, RING_EV_DONE, slot);
}

/* ----------------------------------------- what the test files have in common */

#define DATA (64u << 10)

static struct fake f;
static struct hearth *h;
static struct hearth_model *m;

static inline void setup(void)
{
	m = fake_model();
	fake_open(&f, &h, 16, DATA);
}

static inline void teardown(void)
{
	fake_close(&f, &h);
	hearth_model_close(&m);
}

static const uint32_t prompt[] = { 65, 66, 67, FAKE_W_ABC };

static inline struct hearth_request request(void)
{
	struct hearth_request HEARTH_INIT(q);

	q.model = m;
	q.prompt = prompt;
	q.n_prompt = 4;
	q.max_tokens = 100;
	return q;
}

static inline uint64_t submit(const struct hearth_request *q)
{
	uint64_t id;

	ck_assert_int_eq(hearth_submit(h, q, &id), 0);
	ck_assert_uint_ne(id, 0);
	return id;
}

/* Submit and let the engine accept it. Return: the slot. */
static inline uint32_t start(const struct hearth_request *q, uint64_t *id)
{
	struct ring_sqe e;

	*id = submit(q);
	ck_assert(fake_pop(&f, &e));
	ck_assert_int_eq(e.op, RING_OP_RUN);
	fake_accept(&f, &e);
	return e.slot;
}

static inline int next(struct hearth_event *ev, int ms)
{
	memset(ev, 0, sizeof(*ev));
	ev->size = sizeof(*ev);
	return hearth_next(h, ev, ms);
}

static inline void expect_op(enum ring_op op, uint64_t id)
{
	struct ring_sqe e;

	ck_assert(fake_pop(&f, &e));
	ck_assert_int_eq(e.op, op);
	ck_assert_uint_eq((uint64_t)e.gen << 32 | e.slot, id);
}

static inline void expect_text(const struct hearth_event *ev, const char *s)
{
	ck_assert_uint_eq(ev->text_n, strlen(s));
	ck_assert(!memcmp(ev->text, s, ev->text_n));
}

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

#endif
