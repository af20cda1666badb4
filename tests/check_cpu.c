/* SPDX-License-Identifier: MIT */
/*
 * check_cpu.c - the CPU backend: steps of tiny random models against a plain
 * evaluation in double, equal bits however the work is cut, loading of bad
 * files, and the worker pool.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../daemon/backend.h"
#include "../daemon/cpu/workers.h"
#include "../kernels/cpu.h"
#include "../kernels/mat.h"
#include "../kernels/vec.h"
#include "tiny_model.h"
#include "load.h"

#define MAX_TOKENS 96
#define MAX_SEQS   8
#define BLOCKS	   40

#define LONG_PROMPT (2 * VEC_ATTN_SPAN + 30)

struct rig {
	struct backend *be;
	struct backend_model *m;
	uint32_t n_vocab;
	uint32_t blocks[MAX_SEQS][BLOCKS];
};

static void rig_open(struct rig *r, const struct tiny *t, int level,
		     uint32_t threads)
{
	struct backend_conf conf = { .n_threads = threads,
				     .cpu_level = level,
				     .max_tokens = MAX_TOKENS,
				     .max_seqs = MAX_SEQS,
				     .max_out = MAX_TOKENS,
				     .spin_us = 20 };
	struct backend_progress pg = { 0 };
	char why[160] = "";
	uint32_t i, j;
	int ret;

	ck_assert_int_eq(backend_cpu.open(&r->be, &conf), 0);
	ret = load_model(&backend_cpu, r->be, &t->im, &t->fd, threads, &pg,
			 &r->m, why);
	ck_assert_msg(!ret, "load: %d, %s", ret, why);
	ck_assert_uint_eq(pg.done_bytes, pg.total_bytes);
	ck_assert_int_eq(backend_cpu.kv_alloc(r->m, MAX_SEQS * BLOCKS), 0);
	/* Blocks of a sequence lie anywhere. */
	for (i = 0; i < MAX_SEQS; i++)
		for (j = 0; j < BLOCKS; j++)
			r->blocks[i][j] =
				(i + j * MAX_SEQS) * 7 % (MAX_SEQS * BLOCKS);
	r->n_vocab = t->hp.n_vocab;
}

static void rig_close(struct rig *r)
{
	backend_cpu.unload(r->be, r->m);
	backend_cpu.close(r->be);
}

/* One sequence's next tokens in a step. */
struct part {
	uint32_t seq;
	uint32_t pos;
	uint32_t n;
	const uint32_t *tokens;
	float *logits; /* of all n, or NULL */
};

static void run(struct rig *r, const struct part *parts, uint32_t n)
{
	uint32_t tokens[MAX_TOKENS], out[MAX_TOKENS], i, k, row = 0;
	struct batch_seq seqs[MAX_SEQS];
	struct batch b = {
		.n_seqs = n, .tokens = tokens, .seqs = seqs, .out_rows = out
	};

	for (i = 0; i < n; i++) {
		seqs[i] = (struct batch_seq){
			.first = b.n_tokens,
			.n = parts[i].n,
			.pos = parts[i].pos,
			.blocks = r->blocks[parts[i].seq],
		};
		for (k = 0; k < parts[i].n; k++) {
			if (parts[i].logits)
				out[b.n_out++] = b.n_tokens;
			tokens[b.n_tokens++] = parts[i].tokens[k];
		}
	}
	b.n_logits = b.n_out;
	ck_assert_int_eq(backend_cpu.step(r->m, &b), 0);
	for (i = 0; i < n; i++)
		if (parts[i].logits) {
			memcpy(parts[i].logits,
			       b.logits + (size_t)row * r->n_vocab,
			       (size_t)parts[i].n * r->n_vocab * 4);
			row += parts[i].n;
		}
}

/* All logits of one prompt, token by token. */
static void run_single(struct rig *r, uint32_t seq, const uint32_t *tokens,
		       uint32_t n, float *logits)
{
	struct part p = { .seq = seq, .n = 1 };

	for (p.pos = 0; p.pos < n; p.pos++) {
		p.tokens = tokens + p.pos;
		p.logits = logits + (size_t)p.pos * r->n_vocab;
		run(r, &p, 1);
	}
}

static void random_tokens(uint32_t *tokens, uint32_t n, uint32_t n_vocab,
			  uint64_t *rng)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		tokens[i] = tiny_rnd(rng) % n_vocab;
}

/* Relative distance of logits from the evaluation in double. */
static double distance(const float *got, const double *want, size_t n)
{
	double d = 0, w = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		d += (got[i] - want[i]) * (got[i] - want[i]);
		w += want[i] * want[i];
	}
	return sqrt(d / w);
}

/* ------------------------------------------------- against double */

static void check_prompt(const struct image_hparams *hp, enum fmt f, uint32_t n,
			 double limit)
{
	uint32_t tokens[LONG_PROMPT];
	uint64_t rng = 99;
	struct tiny t;
	struct rig r;
	struct part p = { 0 };
	double *want, d;
	float *got;

	tiny_make(&t, hp, f, 42 + f);
	random_tokens(tokens, n, hp->n_vocab, &rng);
	want = tiny_eval(&t, tokens, n);
	got = malloc((size_t)n * hp->n_vocab * 4);
	ck_assert_ptr_nonnull(got);
	rig_open(&r, &t, -1, 2);
	for (; p.pos < n; p.pos += p.n) {
		p.n = n - p.pos < MAX_TOKENS ? n - p.pos : MAX_TOKENS;
		p.tokens = tokens + p.pos;
		p.logits = got + (size_t)p.pos * hp->n_vocab;
		run(&r, &p, 1);
	}
	d = distance(got, want, (size_t)n * hp->n_vocab);
	ck_assert_msg(d < limit, "%s %s: distance %g, limit %g",
		      archs[hp->arch]->name, fmt_info[f].name, d, limit);
	rig_close(&r);
	free(got);
	free(want);
	tiny_free(&t);
}

static void check_model(const struct image_hparams *hp, enum fmt f,
			double limit)
{
	check_prompt(hp, f, 70, limit);
}

START_TEST(test_archs)
{
	struct image_hparams hp = tiny_hparams((uint32_t)_i);

	/* What is left at F32 is the cache's 11 bits. */
	check_model(&hp, FMT_F32, 1e-3);
	check_model(&hp, FMT_Q8_0, 3e-2);
}
END_TEST

START_TEST(test_formats)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	bool exact = _i <= FMT_BF16;

	check_model(&hp, (enum fmt)_i, exact ? 1e-3 : 3e-2);
}
END_TEST

START_TEST(test_shapes)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);

	/* Half of a head rotated, frequencies divided, an own output. */
	hp.n_rope = 32;
	hp.rope_scaling = IMAGE_ROPE_FREQS;
	hp.tied = 0;
	check_model(&hp, FMT_F32, 1e-3);
	/* Heads that are no multiple of a vector, nor rows of a panel. */
	hp = tiny_hparams(ARCH_qwen2);
	hp.n_head = 6;
	hp.n_head_kv = 2;
	hp.head_dim = hp.n_rope = 40;
	hp.n_embd = 96;
	hp.n_ff = 160;
	hp.n_vocab = 77;
	check_model(&hp, FMT_F32, 1e-3);
	hp.n_head = 8;
	hp.n_head_kv = 8;
	hp.head_dim = hp.n_rope = 20;
	check_model(&hp, FMT_Q4_0, 5e-2);
	/* One key head for all. */
	hp = tiny_hparams(ARCH_gemma3);
	hp.n_head_kv = 1;
	check_model(&hp, FMT_F16, 1e-3);
	hp.rope_factor = 8;
	hp.rope_scaling = IMAGE_ROPE_NONE;
	hp.rope_factor = 1;
	hp.n_swa = 32;
	check_model(&hp, FMT_F32, 1e-3);
}
END_TEST

START_TEST(test_spans)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);

	check_prompt(&hp, FMT_F32, LONG_PROMPT, 1e-3);
	/* Windows that cross from a span to the next. */
	hp = tiny_hparams(ARCH_gemma3);
	hp.n_swa = 100;
	check_prompt(&hp, FMT_F32, LONG_PROMPT, 1e-3);
}
END_TEST

/* ------------------------------------------------------- equal bits */

#define N_PROMPTS 6
#define PROMPT	  60

struct prompts {
	uint32_t tokens[N_PROMPTS][PROMPT];
	uint32_t n[N_PROMPTS];
	float *want[N_PROMPTS];
	float *got;
};

static void same(const struct prompts *ps, uint32_t i, uint32_t pos, uint32_t n,
		 uint32_t n_vocab, const char *how)
{
	const float *want = ps->want[i] + (size_t)pos * n_vocab;

	ck_assert_msg(!memcmp(ps->got, want, (size_t)n * n_vocab * 4),
		      "%s: prompt %u, position %u: other logits", how, i, pos);
}

static void whole(struct rig *r, struct prompts *ps)
{
	struct part p;
	uint32_t i;

	for (i = 0; i < N_PROMPTS; i++) {
		p = (struct part){ .seq = i,
				   .n = ps->n[i],
				   .tokens = ps->tokens[i],
				   .logits = ps->got };
		run(r, &p, 1);
		same(ps, i, 0, p.n, r->n_vocab, "whole");
	}
}

static void chunks(struct rig *r, struct prompts *ps, uint64_t *rng)
{
	struct part p;
	uint32_t i;

	for (i = 0; i < N_PROMPTS; i++)
		for (p.pos = 0; p.pos < ps->n[i]; p.pos += p.n) {
			p.n = 1 + tiny_rnd(rng) % 30;
			if (p.n > ps->n[i] - p.pos)
				p.n = ps->n[i] - p.pos;
			p.seq = i;
			p.tokens = ps->tokens[i] + p.pos;
			p.logits = ps->got;
			run(r, &p, 1);
			same(ps, i, p.pos, p.n, r->n_vocab, "chunks");
		}
}

/* Prompts join and leave; each step takes some tokens of some of them. */
static void together(struct rig *r, struct prompts *ps, uint64_t *rng)
{
	uint32_t at[N_PROMPTS] = { 0 }, i, n, left = N_PROMPTS, room;
	struct part p[N_PROMPTS];
	float *mem = malloc((size_t)MAX_TOKENS * r->n_vocab * 4), *q;

	ck_assert_ptr_nonnull(mem);
	while (left) {
		q = mem;
		for (n = 0, room = MAX_TOKENS, i = 0; i < N_PROMPTS; i++) {
			if (at[i] == ps->n[i] || tiny_rnd(rng) % 3 == 0)
				continue;
			p[n] = (struct part){ .seq = i,
					      .pos = at[i],
					      .tokens = ps->tokens[i] + at[i],
					      .logits = q };
			p[n].n = 1 +
				 (tiny_rnd(rng) % 2 ? 0 : tiny_rnd(rng) % 20);
			if (p[n].n > ps->n[i] - at[i])
				p[n].n = ps->n[i] - at[i];
			if (p[n].n > room)
				continue;
			room -= p[n].n;
			q += (size_t)p[n].n * r->n_vocab;
			at[i] += p[n].n;
			left -= at[i] == ps->n[i];
			n++;
		}
		if (!n)
			continue;
		run(r, p, n);
		for (i = 0; i < n; i++) {
			memcpy(ps->got, p[i].logits,
			       (size_t)p[i].n * r->n_vocab * 4);
			same(ps, p[i].seq, p[i].pos, p[i].n, r->n_vocab,
			     "together");
		}
	}
	free(mem);
}

static void check_bits(const struct image_hparams *hp, enum fmt f)
{
	struct prompts ps;
	uint64_t rng = 7 + f;
	uint32_t i, threads;
	struct tiny t;
	struct rig r;
	int level;

	tiny_make(&t, hp, f, 1000 + f);
	ps.got = malloc((size_t)PROMPT * hp->n_vocab * 4);
	ck_assert_ptr_nonnull(ps.got);
	rig_open(&r, &t, CPU_C, 1);
	for (i = 0; i < N_PROMPTS; i++) {
		ps.n[i] = 3 + tiny_rnd(&rng) % (PROMPT - 3);
		ps.want[i] = malloc((size_t)ps.n[i] * hp->n_vocab * 4);
		ck_assert_ptr_nonnull(ps.want[i]);
		random_tokens(ps.tokens[i], ps.n[i], hp->n_vocab, &rng);
		run_single(&r, i, ps.tokens[i], ps.n[i], ps.want[i]);
	}
	rig_close(&r);
	for (level = 0; level <= (int)cpu_detect(); level++)
		for (threads = 1; threads <= 2; threads++) {
			rig_open(&r, &t, level, threads);
			/* Each finds the last one's cache. Plain C is slow:
			 * one way with one thread, the others with two. */
			if (level || threads == 1)
				together(&r, &ps, &rng);
			if (level || threads == 2) {
				whole(&r, &ps);
				chunks(&r, &ps, &rng);
			}
			rig_close(&r);
		}
	for (i = 0; i < N_PROMPTS; i++)
		free(ps.want[i]);
	free(ps.got);
	tiny_free(&t);
}

START_TEST(test_bits)
{
	static const struct {
		uint32_t arch;
		enum fmt f;
	} cases[] = {
		{ ARCH_llama, FMT_Q4_K }, { ARCH_qwen2, FMT_Q6_K },
		{ ARCH_qwen3, FMT_Q8_0 }, { ARCH_gemma3, FMT_Q4_0 },
		{ ARCH_gemma3, FMT_F32 }, { ARCH_llama, FMT_F16 },
		{ ARCH_qwen2, FMT_Q4_1 },
	};
	struct image_hparams hp = tiny_hparams(cases[_i].arch);

	if (cases[_i].f <= FMT_BF16) { /* no fused multiply-add in plain C */
		hp.n_embd = hp.n_ff = 128;
		hp.n_head = 2;
		hp.n_head_kv = 1;
	}
	check_bits(&hp, cases[_i].f);
}
END_TEST

/* ------------------------------------------------------ steps refused */

START_TEST(test_bad_batch)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	uint32_t tokens[2] = { 1, 2 }, out[1] = { 1 }, blocks[1] = { 0 };
	struct batch_seq seq = { .n = 2, .blocks = blocks };
	struct batch good = { .n_tokens = 2,
			      .n_seqs = 1,
			      .n_out = 1,
			      .n_logits = 1,
			      .tokens = tokens,
			      .seqs = &seq,
			      .out_rows = out };
	struct batch b;
	struct tiny t;
	struct rig r;

	tiny_make(&t, &hp, FMT_F32, 5);
	rig_open(&r, &t, -1, 1);
	b = good;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), 0);
	ck_assert_ptr_nonnull(b.logits);
	ck_assert_ptr_nonnull(b.hidden);
	b = good;
	b.n_tokens = MAX_TOKENS + 1;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), -EINVAL);
	b = good;
	b.n_tokens = 0;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), -EINVAL);
	b = good;
	b.n_logits = 2;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), -EINVAL);
	b = good;
	tokens[1] = hp.n_vocab;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), -EINVAL);
	tokens[1] = 2;
	out[0] = 2;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), -EINVAL);
	out[0] = 1;
	blocks[0] = MAX_SEQS * BLOCKS;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), -EINVAL);
	blocks[0] = 0;
	seq.n = 1;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), -EINVAL);
	seq.n = 2;
	/* Hidden states alone, and neither. */
	b = good;
	b.n_logits = 0;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), 0);
	b.n_out = 0;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), 0);
	rig_close(&r);
	tiny_free(&t);
}
END_TEST

/* Hidden states do not depend on whether logits are wanted, too. */
START_TEST(test_hidden)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	uint32_t tokens[3] = { 1, 2, 3 }, out[3] = { 2, 0, 1 },
		 blocks[1] = { 0 };
	struct batch_seq seq = { .n = 3, .blocks = blocks };
	struct batch b = { .n_tokens = 3,
			   .n_seqs = 1,
			   .n_out = 3,
			   .n_logits = 1,
			   .tokens = tokens,
			   .seqs = &seq,
			   .out_rows = out };
	float some[3 * 256], logits[300];
	struct tiny t;
	struct rig r;

	tiny_make(&t, &hp, FMT_Q4_K, 5);
	rig_open(&r, &t, -1, 1);
	ck_assert_int_eq(backend_cpu.step(r.m, &b), 0);
	memcpy(some, b.hidden, sizeof(some));
	memcpy(logits, b.logits, sizeof(logits));
	b.n_logits = 3;
	ck_assert_int_eq(backend_cpu.step(r.m, &b), 0);
	ck_assert(!memcmp(some, b.hidden, sizeof(some)));
	ck_assert(!memcmp(logits, b.logits, sizeof(logits)));
	rig_close(&r);
	tiny_free(&t);
}
END_TEST

/* ------------------------------------------------------------ loading */

static void load_fails(struct tiny *t, int err, const char *words)
{
	struct backend_conf conf = { .n_threads = 2,
				     .cpu_level = -1,
				     .max_tokens = 8,
				     .max_seqs = 1,
				     .max_out = 1 };
	struct backend_progress pg = { 0 };
	struct backend_model *m;
	struct backend *be;
	char why[160] = "";
	int ret;

	if (err == -ECANCELED)
		pg.stop = 1;
	ck_assert_int_eq(backend_cpu.open(&be, &conf), 0);
	ret = load_model(&backend_cpu, be, &t->im, &t->fd, 2, &pg, &m, why);
	ck_assert_msg(ret == err, "load: %d (%s), should be %d", ret, why, err);
	ck_assert_msg(strstr(why, words), "'%s' does not say '%s'", why, words);
	backend_cpu.close(be);
}

/* Overwrite @n bytes of the file, keeping what was there in @old. */
static void spoil(struct tiny *t, uint64_t at, const void *bytes, void *old,
		  size_t n)
{
	ck_assert_int_eq(pread(t->fd, old, n, (off_t)at), (ssize_t)n);
	ck_assert_int_eq(pwrite(t->fd, bytes, n, (off_t)at), (ssize_t)n);
}

static uint64_t place_of(const struct tiny *t, uint32_t role)
{
	uint32_t i;

	for (i = 0; t->tensors[i].role != role; i++)
		;
	return t->tensors[i].off;
}

START_TEST(test_load_bad)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	const uint16_t inf16 = 0x7c00;
	const float nan_ = NAN;
	uint8_t was[4];
	uint16_t old16;
	uint64_t at;
	struct tiny t;
	float old;
	int fd;

	tiny_make(&t, &hp, FMT_Q8_0, 5);
	load_fails(&t, -ECANCELED, "given up");
	at = place_of(&t, ROLE_FFN_NORM) + 3 * sizeof(float);
	spoil(&t, at, &nan_, &old, sizeof(old));
	load_fails(&t, -EBADMSG,
		   "tensor blk.0.ffn_norm.weight: element 3 is not finite");
	spoil(&t, at, &old, was, sizeof(old));
	/* The scale of a block in row 300: a row is 8 blocks of 34 bytes. */
	at = place_of(&t, ROLE_FFN_UP) + (300 * 8 + 5) * 34;
	spoil(&t, at, &inf16, &old16, sizeof(old16));
	load_fails(&t, -EBADMSG,
		   "tensor blk.0.ffn_up.weight: rows 288 to 303 are not");
	spoil(&t, at, &old16, was, sizeof(old16));
	ck_assert_int_eq(ftruncate(t.fd, (off_t)t.off - 64), 0);
	load_fails(&t, -ESTALE, "when its header was read");
	fd = t.fd;
	t.fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	load_fails(&t, -EISDIR, "directory");
	close(t.fd);
	t.fd = fd;
	tiny_free(&t);
}
END_TEST

/* From a file that was opened without the page cache, where that works. */
START_TEST(test_load_direct)
{
	struct image_hparams hp = tiny_hparams(ARCH_llama);
	char path[] = "/tmp/check_cpu.XXXXXX";
	struct tiny t;
	struct rig r;
	uint8_t *copy;
	int fd;

	tiny_make(&t, &hp, FMT_Q4_K, 5);
	copy = malloc(t.off);
	ck_assert_ptr_nonnull(copy);
	ck_assert_int_eq(pread(t.fd, copy, t.off, 0), (ssize_t)t.off);
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, copy, t.off), (ssize_t)t.off);
	close(fd);
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	unlink(path);
	if (fd >= 0) {
		close(t.fd);
		t.fd = fd;
		rig_open(&r, &t, -1, 2);
		rig_close(&r);
	}
	free(copy);
	tiny_free(&t);
}
END_TEST

/* Every format's scales are looked at: bytes of ones are a NaN in each. */
START_TEST(test_finite)
{
	enum fmt f = (enum fmt)_i;
	uint64_t row = fmt_bytes(f, 512), n;
	uint8_t *raw = calloc(MAT_PANEL, row), *panel;
	uint32_t r, b;

	panel = aligned_alloc(MAT_ALIGN, mat_panel_bytes(f, 512));
	ck_assert(raw && panel);
	mat_pack(f, 512, raw, MAT_PANEL, panel);
	ck_assert(mat_panel_finite(f, 512, panel));
	n = fmt_info[f].bytes;
	for (r = 0; r < MAT_PANEL; r += 5)
		for (b = 0; b < 512 / fmt_info[f].block; b++) {
			memset(raw + r * row + b * n, 0xff, n);
			mat_pack(f, 512, raw, MAT_PANEL, panel);
			ck_assert(!mat_panel_finite(f, 512, panel));
			memset(raw + r * row + b * n, 0, n);
		}
	free(raw);
	free(panel);
}
END_TEST

START_TEST(test_info)
{
	struct image_hparams hp = tiny_hparams(ARCH_qwen3);
	struct backend_info info;
	struct tiny t;
	struct rig r;

	tiny_make(&t, &hp, FMT_Q8_0, 5);
	rig_open(&r, &t, CPU_C, 1);
	backend_cpu.info(r.m, &info);
	ck_assert_uint_eq(info.kv_block_bytes,
			  2ull * 2 * KV_BLOCK * hp.n_layer * hp.n_head_kv *
				  hp.head_dim);
	ck_assert_uint_ge(info.weight_bytes, t.off);
	ck_assert_uint_gt(info.scratch_bytes, MAX_TOKENS * hp.n_embd * 4u);
	ck_assert_str_eq(info.text, "cpu c x1");
	ck_assert_int_eq(backend_cpu.kv_alloc(r.m, 1), -EINVAL);
	rig_close(&r);
	tiny_free(&t);
}
END_TEST

/* --------------------------------------------------------------- pool */

struct count {
	_Atomic uint32_t hits[257];
	_Atomic uint32_t workers;
	uint32_t threads;
};

static void count_unit(void *arg, uint32_t unit, uint32_t worker)
{
	struct count *c = arg;

	ck_assert_uint_lt(worker, c->threads);
	atomic_fetch_add(&c->hits[unit], 1);
	atomic_fetch_or(&c->workers, 1u << worker);
	if (unit % 16 == 3)
		sched_yield();
}

START_TEST(test_pool)
{
	static const uint32_t spin[] = { 0, 1, 100 };
	uint32_t n, i, round, threads;
	struct count c;
	struct workers *p;

	for (threads = 1; threads <= 5; threads += 2) {
		ck_assert_int_eq(workers_open(&p, threads, spin[threads / 2]),
				 0);
		for (round = 0; round < 800; round++) {
			memset(&c, 0, sizeof(c));
			c.threads = threads;
			n = round % 257;
			workers_run(p, count_unit, &c, n);
			for (i = 0; i < 257; i++)
				ck_assert_uint_eq(c.hits[i], i < n);
			if (round % 500 == 0) /* let them sleep */
				usleep(2000);
		}
		workers_close(p);
	}
	ck_assert_int_eq(workers_open(&p, 0, 0), -EINVAL);
	ck_assert_int_eq(workers_open(&p, WORKERS_MAX + 1, 0), -EINVAL);
	workers_close(NULL);
}
END_TEST

START_TEST(test_pool_idle)
{
	struct timespec a, b;
	struct count c = { .threads = 3 };
	struct workers *p;
	double used;

	ck_assert_int_eq(workers_open(&p, 3, 100), 0);
	workers_run(p, count_unit, &c, 64);
	usleep(20000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	usleep(300000);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	used = (double)(b.tv_sec - a.tv_sec) +
	       (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
	ck_assert_msg(used < 0.003, "idle workers used %g s", used);
	workers_close(p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cpu");
	TCase *p = tcase_create("pool"), *t = tcase_create("model");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_set_timeout(p, 60);
	tcase_add_test(p, test_pool);
	tcase_add_test(p, test_pool_idle);
	tcase_add_loop_test(t, test_archs, 0, ARCH_N);
	tcase_add_loop_test(t, test_formats, 0, FMT_N);
	tcase_add_test(t, test_shapes);
	tcase_add_test(t, test_spans);
	tcase_add_loop_test(t, test_bits, 0, 7);
	tcase_add_test(t, test_bad_batch);
	tcase_add_test(t, test_hidden);
	tcase_add_test(t, test_load_bad);
	tcase_add_test(t, test_load_direct);
	tcase_add_loop_test(t, test_finite, 0, FMT_N);
	tcase_add_test(t, test_info);
	suite_add_tcase(s, p);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
