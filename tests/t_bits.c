/* SPDX-License-Identifier: MIT */
/*
 * t_bits.c - the same request gives the same bits.
 *
 *   t_bits [--model FILE.gguf] [--prompts N] [--length N] [--threads LIST]
 *          [--levels LIST] [--c-prompts N] [--seed N]
 *
 * The logits of every position of many prompts, each alone and token by token
 * with one thread at the machine's best level, are the yardstick. Then every
 * level and number of threads computes them again in four ways:
 *   single    alone, token by token
 *   whole     alone, the prompt in one step
 *   chunks    alone, in random chunks
 *   batches   2 to 32 sequences in a step, joining, pausing and leaving at
 *             random, some with one token and some with several
 * Without a model it takes small random ones of several architectures and
 * formats. Plain C is slow on real models: --c-prompts bounds its share.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../daemon/backend.h"
#include "../daemon/gguf.h"
#include "../kernels/cpu.h"
#include "tiny_model.h"
#include "load.h"

#define MAX_STEP  256
#define MAX_BATCH 32
#define MAX_LIST  8

struct options {
	const char *model;
	uint32_t prompts;
	uint32_t c_prompts;
	uint32_t length; /* of the longest prompt */
	uint32_t threads[MAX_LIST];
	uint32_t n_threads;
	int levels[MAX_LIST];
	uint32_t n_levels;
	uint64_t seed;
};

struct prompt {
	uint32_t *tokens;
	uint64_t *hash; /* of the logits of each position */
	uint32_t n;
};

struct run {
	const struct options *o;
	const struct backend_ops *ops;
	struct backend *be;
	struct backend_model *m;
	uint32_t n_vocab;
	struct prompt *prompts;
	uint32_t n;	/* prompts to do */
	bool yardstick; /* store hashes instead of comparing */
	uint32_t blocks_each;
	uint32_t *free_blocks;
	uint32_t n_free;
	uint64_t rng;
	uint64_t positions;
	uint64_t steps;
	uint32_t bad_prompts;
	uint8_t *bad; /* by prompt */
};

/* A sequence in flight. */
struct flight {
	uint32_t prompt;
	uint32_t pos;
	uint32_t *blocks;
};

static uint32_t passed, failed;

static void die(const char *what, int err)
{
	fprintf(stderr, "t_bits: %s (%s)\n", what, strerror(-err));
	exit(1);
}

static void *must(void *p)
{
	if (!p)
		die("memory", -ENOMEM);
	return p;
}

static uint64_t hash_logits(const float *x, uint32_t n)
{
	uint64_t h = 0x9e3779b97f4a7c15u;
	uint32_t i, v;

	for (i = 0; i < n; i++) {
		memcpy(&v, &x[i], 4);
		h = (h ^ v) * 0xff51afd7ed558ccdu;
		h ^= h >> 29;
	}
	return h;
}

static void take(struct run *r, uint32_t prompt, uint32_t pos,
		 const float *logits)
{
	struct prompt *p = &r->prompts[prompt];
	uint64_t h = hash_logits(logits, r->n_vocab);

	r->positions++;
	if (r->yardstick) {
		p->hash[pos] = h;
		return;
	}
	if (p->hash[pos] == h || r->bad[prompt])
		return;
	r->bad[prompt] = 1;
	if (!r->bad_prompts++)
		printf("  first difference: prompt %u, position %u of %u\n",
		       prompt, pos, p->n);
}

/* One step: @n[i] tokens of each flight. */
static void step(struct run *r, struct flight *f, const uint32_t *n,
		 uint32_t n_f)
{
	uint32_t tokens[MAX_STEP], out[MAX_STEP], i, k, row = 0;
	struct batch_seq seqs[MAX_BATCH];
	struct batch b = {
		.n_seqs = n_f, .tokens = tokens, .seqs = seqs, .out_rows = out
	};
	int ret;

	for (i = 0; i < n_f; i++) {
		seqs[i] = (struct batch_seq){ .first = b.n_tokens,
					      .n = n[i],
					      .pos = f[i].pos,
					      .blocks = f[i].blocks };
		for (k = 0; k < n[i]; k++) {
			out[b.n_tokens] = b.n_tokens;
			tokens[b.n_tokens++] =
				r->prompts[f[i].prompt].tokens[f[i].pos + k];
		}
	}
	b.n_out = b.n_logits = b.n_tokens;
	ret = r->ops->step(r->m, &b);
	if (ret)
		die("step", ret);
	r->steps++;
	for (i = 0; i < n_f; i++)
		for (k = 0; k < n[i]; k++, row++, f[i].pos++)
			take(r, f[i].prompt, f[i].pos,
			     b.logits + (size_t)row * r->n_vocab);
}

/* Blocks come back in a random order, full of what others left there. */
static void start(struct run *r, struct flight *f, uint32_t prompt)
{
	uint32_t i, k;

	f->prompt = prompt;
	f->pos = 0;
	f->blocks = must(calloc(r->blocks_each, sizeof(*f->blocks)));
	for (i = 0; i < r->blocks_each; i++) {
		k = tiny_rnd(&r->rng) % r->n_free;
		f->blocks[i] = r->free_blocks[k];
		r->free_blocks[k] = r->free_blocks[--r->n_free];
	}
}

static void finish(struct run *r, struct flight *f)
{
	uint32_t i;

	for (i = 0; i < r->blocks_each; i++)
		r->free_blocks[r->n_free++] = f->blocks[i];
	free(f->blocks);
}

enum way { SINGLE, WHOLE, CHUNKS, BATCHES, WAYS };

static const char *const way_names[WAYS] = { "single", "whole", "chunks",
					     "batches" };

static void alone(struct run *r, enum way way)
{
	struct flight f;
	uint32_t i, n, left;

	for (i = 0; i < r->n; i++) {
		start(r, &f, i);
		while ((left = r->prompts[i].n - f.pos)) {
			n = way == WHOLE    ? MAX_STEP
			    : way == CHUNKS ? 1 + tiny_rnd(&r->rng) % 24
					    : 1;
			n = n < left ? n : left;
			step(r, &f, &n, 1);
		}
		finish(r, &f);
	}
}

static void batches(struct run *r)
{
	uint32_t next = 0, n_f = 0, want = MAX_BATCH, n_go, i, room, left;
	struct flight f[MAX_BATCH], go[MAX_BATCH];
	uint32_t n[MAX_BATCH], from[MAX_BATCH];

	while (next < r->n || n_f) {
		if (tiny_rnd(&r->rng) % 8 == 0)
			want = 2 + tiny_rnd(&r->rng) % (MAX_BATCH - 1);
		while (n_f < want && next < r->n)
			start(r, &f[n_f++], next++);
		for (i = 0, n_go = 0, room = MAX_STEP; i < n_f; i++) {
			if (tiny_rnd(&r->rng) % 5 == 0) /* pauses */
				continue;
			left = r->prompts[f[i].prompt].n - f[i].pos;
			n[n_go] = tiny_rnd(&r->rng) % 4
					  ? 1
					  : 1 + tiny_rnd(&r->rng) % 16;
			if (n[n_go] > left)
				n[n_go] = left;
			if (n[n_go] > room)
				continue;
			room -= n[n_go];
			from[n_go] = i;
			go[n_go++] = f[i];
		}
		if (!n_go)
			continue;
		step(r, go, n, n_go);
		for (i = n_go; i-- > 0;) {
			f[from[i]] = go[i];
			if (go[i].pos < r->prompts[go[i].prompt].n)
				continue;
			finish(r, &f[from[i]]);
			f[from[i]] = f[--n_f];
		}
	}
}

static void do_way(struct run *r, enum way way, const char *label)
{
	struct timespec t0, t1;

	r->positions = r->steps = 0;
	r->bad_prompts = 0;
	memset(r->bad, 0, r->n);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	if (way == BATCHES)
		batches(r);
	else
		alone(r, way);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	if (r->yardstick)
		return;
	passed += r->n - r->bad_prompts;
	failed += r->bad_prompts;
	printf("%-20s %-8s %4u prompts %7llu positions %6llu steps "
	       "%7.1f s  %s\n",
	       label, way_names[way], r->n, (unsigned long long)r->positions,
	       (unsigned long long)r->steps,
	       (double)(t1.tv_sec - t0.tv_sec) +
		       (double)(t1.tv_nsec - t0.tv_nsec) * 1e-9,
	       r->bad_prompts ? "DIFFERENT" : "equal");
	fflush(stdout);
}

static void open_model(struct run *r, const struct image *im, const int *fds,
		       int level, uint32_t threads)
{
	struct backend_conf conf = { .n_threads = threads,
				     .cpu_level = level,
				     .max_tokens = MAX_STEP,
				     .max_seqs = MAX_BATCH,
				     .max_out = MAX_STEP,
				     .spin_us = 50 };
	struct backend_progress pg = { 0 };
	char why[160] = "";
	uint32_t i;
	int ret;

	r->ops = &backend_cpu;
	ret = r->ops->open(&r->be, &conf);
	if (ret)
		die("open", ret);
	ret = load_model(r->ops, r->be, im, fds, loader_cores(), &pg, &r->m,
			 why);
	if (ret)
		die(why, ret);
	r->blocks_each = r->o->length / KV_BLOCK + 1;
	r->n_free = r->blocks_each * MAX_BATCH;
	ret = r->ops->kv_alloc(r->m, r->n_free);
	if (ret)
		die("kv_alloc", ret);
	r->free_blocks = must(calloc(r->n_free, sizeof(*r->free_blocks)));
	for (i = 0; i < r->n_free; i++)
		r->free_blocks[i] = i;
}

static void close_model(struct run *r)
{
	r->ops->unload(r->be, r->m);
	r->ops->close(r->be);
	free(r->free_blocks);
}

static void make_prompts(struct run *r)
{
	const struct options *o = r->o;
	uint32_t i, k;

	r->prompts = must(calloc(o->prompts, sizeof(*r->prompts)));
	r->bad = must(calloc(o->prompts, 1));
	for (i = 0; i < o->prompts; i++) {
		struct prompt *p = &r->prompts[i];

		p->n = 1 + tiny_rnd(&r->rng) % o->length;
		p->tokens = must(calloc(p->n, sizeof(*p->tokens)));
		p->hash = must(calloc(p->n, sizeof(*p->hash)));
		for (k = 0; k < p->n; k++)
			p->tokens[k] = tiny_rnd(&r->rng) % r->n_vocab;
	}
}

static void free_prompts(struct run *r)
{
	uint32_t i;

	for (i = 0; i < r->o->prompts; i++) {
		free(r->prompts[i].tokens);
		free(r->prompts[i].hash);
	}
	free(r->prompts);
	free(r->bad);
}

static void check_model(const struct options *o, const struct image *im,
			const int *fds, const char *name)
{
	struct run r = { .o = o, .n_vocab = im->h->hp.n_vocab, .rng = o->seed };
	char label[64];
	uint32_t l, t, w;

	printf("%s:\n", name);
	make_prompts(&r);
	open_model(&r, im, fds, -1, 1);
	r.n = o->prompts;
	r.yardstick = true;
	do_way(&r, SINGLE, "");
	r.yardstick = false;
	close_model(&r);
	for (l = 0; l < o->n_levels; l++)
		for (t = 0; t < o->n_threads; t++) {
			open_model(&r, im, fds, o->levels[l], o->threads[t]);
			r.n = o->prompts;
			if (o->levels[l] == CPU_C && r.n > o->c_prompts)
				r.n = o->c_prompts;
			snprintf(label, sizeof(label), "  %s, %u threads",
				 cpu_level_names[o->levels[l]], o->threads[t]);
			for (w = 0; w < WAYS; w++)
				do_way(&r, (enum way)w, label);
			close_model(&r);
		}
	free_prompts(&r);
}

static void check_file(const struct options *o)
{
	int fds[IMAGE_MAX_FILES], im_fd, ret;
	unsigned int n_fds, i;
	struct image im;
	char why[160];

	ret = model_parse_path(o->model, 0, &im_fd, fds, &n_fds, why);
	if (ret)
		die(why, ret);
	ret = image_open_fd(&im, im_fd, why);
	if (ret)
		die(why, ret);
	check_model(o, &im, fds, o->model);
	image_close(&im);
	close(im_fd);
	for (i = 0; i < n_fds; i++)
		close(fds[i]);
}

static void check_tiny(const struct options *o)
{
	static const struct {
		uint32_t arch;
		enum fmt f;
	} models[] = {
		{ ARCH_llama, FMT_Q4_K },
		{ ARCH_qwen3, FMT_Q8_0 },
		{ ARCH_gemma3, FMT_Q6_K },
	};
	struct image_hparams hp;
	char name[64];
	struct tiny t;
	size_t i;

	for (i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		hp = tiny_hparams(models[i].arch);
		tiny_make(&t, &hp, models[i].f, o->seed + i);
		snprintf(name, sizeof(name), "random %s %s",
			 archs[models[i].arch]->name,
			 fmt_info[models[i].f].name);
		check_model(o, &t.im, &t.fd, name);
		tiny_free(&t);
	}
}

static uint32_t number(const char *s)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (*end || !v || v > 1000000) {
		fprintf(stderr, "t_bits: %s: no number\n", s);
		exit(2);
	}
	return (uint32_t)v;
}

static void take_list(struct options *o, char *list, bool levels)
{
	char *s, *save = NULL;
	int level;

	if (levels)
		o->n_levels = 0;
	else
		o->n_threads = 0;
	for (s = strtok_r(list, ",", &save); s;
	     s = strtok_r(NULL, ",", &save)) {
		if (!levels && o->n_threads < MAX_LIST) {
			o->threads[o->n_threads++] = number(s);
			continue;
		}
		level = cpu_level_parse(s);
		if (level < 0 || level > (int)cpu_detect()) {
			fprintf(stderr, "t_bits: no level %s here\n", s);
			exit(2);
		}
		if (o->n_levels < MAX_LIST)
			o->levels[o->n_levels++] = level;
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "model", required_argument, NULL, 'm' },
		{ "prompts", required_argument, NULL, 'p' },
		{ "c-prompts", required_argument, NULL, 'c' },
		{ "length", required_argument, NULL, 'n' },
		{ "threads", required_argument, NULL, 't' },
		{ "levels", required_argument, NULL, 'l' },
		{ "seed", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	struct options o = { .prompts = 200,
			     .length = 48,
			     .threads = { 1, 2 },
			     .n_threads = 2,
			     .seed = 20260117 };
	int c, l;

	for (l = 0; l <= (int)cpu_detect(); l++)
		o.levels[o.n_levels++] = l;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'm':
			o.model = optarg;
			break;
		case 'p':
			o.prompts = number(optarg);
			break;
		case 'c':
			o.c_prompts = number(optarg);
			break;
		case 'n':
			o.length = number(optarg);
			break;
		case 't':
			take_list(&o, optarg, false);
			break;
		case 'l':
			take_list(&o, optarg, true);
			break;
		case 's':
			o.seed = number(optarg);
			break;
		default:
			return 2;
		}
	}
	if (!o.c_prompts)
		o.c_prompts = o.model ? 4 : o.prompts;
	if (o.c_prompts > o.prompts)
		o.c_prompts = o.prompts;
	if (o.model)
		check_file(&o);
	else
		check_tiny(&o);
	printf("%u passed, %u failed\n", passed, failed);
	return failed ? 1 : 0;
}
