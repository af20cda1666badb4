/* SPDX-License-Identifier: MIT */
/*
 * t_logits.c - what the CPU backend computes for given tokens, for parity tests.
 *
 *   t_logits MODEL TOKENS OUT [--greedy N] [--threads N] [--level NAME]
 *            [--chunk N]
 *
 * TOKENS holds sequences: a u32 count and that many u32 ids, again and again.
 * OUT gets float32[tokens][n_vocab] of all sequences; with --greedy it gets,
 * for each sequence, N records of u32 token, u32 runner-up, float margin.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../daemon/backend.h"
#include "../daemon/gguf.h"
#include "../kernels/cpu.h"
#include "load.h"

#define MAX_CHUNK 64

struct run {
	const struct backend_ops *ops;
	struct backend *be;
	struct backend_model *model;
	struct image im;
	uint32_t n_vocab;
	uint32_t chunk;
	uint32_t *blocks;
	FILE *out;
};

static void __attribute__((noreturn)) die(const char *what, const char *why)
{
	fprintf(stderr, "t_logits: %s: %s\n", what, why);
	exit(1);
}

/* Compute n tokens at pos; logits of all of them. */
static const float *step(struct run *r, uint32_t *tokens, uint32_t n,
			 uint32_t pos)
{
	struct batch_seq seq = { .n = n, .pos = pos, .blocks = r->blocks };
	uint32_t rows[MAX_CHUNK], i;
	struct batch b = { .n_tokens = n,
			   .n_seqs = 1,
			   .n_out = n,
			   .n_logits = n,
			   .tokens = tokens,
			   .seqs = &seq,
			   .out_rows = rows };
	int ret;

	for (i = 0; i < n; i++)
		rows[i] = i;
	ret = r->ops->step(r->model, &b);
	if (ret)
		die("step", strerror(-ret));
	return b.logits;
}

static void put(struct run *r, const void *p, size_t size, size_t n)
{
	if (fwrite(p, size, n, r->out) != n)
		die("write", "failed");
}

static void greedy(struct run *r, const float *l, uint32_t pos, uint32_t n)
{
	uint32_t best, next, i, k;
	float margin;

	for (i = 0; i < n; i++) {
		best = 0;
		for (k = 1; k < r->n_vocab; k++)
			if (l[k] > l[best])
				best = k;
		next = best ? 0 : 1;
		for (k = 0; k < r->n_vocab; k++)
			if (k != best && l[k] > l[next])
				next = k;
		margin = l[best] - l[next];
		put(r, &best, 4, 1);
		put(r, &next, 4, 1);
		put(r, &margin, 4, 1);
		if (i + 1 < n)
			l = step(r, &best, 1, pos++);
	}
}

static void sequence(struct run *r, uint32_t *tokens, uint32_t n,
		     uint32_t n_greedy)
{
	const float *l = NULL;
	uint32_t pos, m = 0;

	for (pos = 0; pos < n; pos += m) {
		m = n - pos < r->chunk ? n - pos : r->chunk;
		l = step(r, tokens + pos, m, pos);
		if (!n_greedy)
			put(r, l, 4 * (size_t)r->n_vocab, m);
	}
	if (n_greedy && m)
		greedy(r, l + (size_t)(m - 1) * r->n_vocab, n, n_greedy);
}

static void open_model(struct run *r, const char *path,
		       const struct backend_conf *conf, uint32_t n_blocks)
{
	struct backend_progress pg = { 0 };
	int image_fd, fds[IMAGE_MAX_FILES], ret;
	unsigned int n;
	char why[160];

	ret = model_parse_path(path, 0, &image_fd, fds, &n, why);
	if (!ret)
		ret = image_open_fd(&r->im, image_fd, why);
	if (ret)
		die(path, why);
	ret = r->ops->open(&r->be, conf);
	if (ret)
		die("backend", strerror(-ret));
	ret = load_model(r->ops, r->be, &r->im, fds, loader_cores(), &pg,
			 &r->model, why);
	if (ret)
		die(path, why);
	ret = r->ops->kv_alloc(r->model, n_blocks);
	if (ret)
		die("kv", strerror(-ret));
	r->n_vocab = r->im.h->hp.n_vocab;
}

static uint32_t *read_tokens(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	uint32_t *p;
	long size;

	if (!f || fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0)
		die(path, "cannot be read");
	rewind(f);
	p = malloc((size_t)size + 4);
	*n = (size_t)size / 4;
	if (!p || fread(p, 4, *n, f) != *n)
		die(path, "cannot be read");
	fclose(f);
	return p;
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "greedy", 1, NULL, 'g' }, { "threads", 1, NULL, 't' },
		{ "level", 1, NULL, 'l' },  { "chunk", 1, NULL, 'c' },
		{ NULL, 0, NULL, 0 },
	};
	struct backend_conf conf = { .cpu_level = -1,
				     .max_tokens = MAX_CHUNK,
				     .max_seqs = 1,
				     .max_out = MAX_CHUNK };
	struct run r = { .ops = &backend_cpu, .chunk = 32 };
	uint32_t *tok, n_greedy = 0, i, n_blocks;
	size_t n, at, longest = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		if (c == 'g')
			n_greedy = (uint32_t)atoi(optarg);
		else if (c == 't')
			conf.n_threads = (uint32_t)atoi(optarg);
		else if (c == 'l')
			conf.cpu_level = cpu_level_parse(optarg);
		else if (c == 'c')
			r.chunk = (uint32_t)atoi(optarg);
		else
			return 2;
	}
	if (optind + 3 != argc || !r.chunk || r.chunk > MAX_CHUNK)
		return 2;
	tok = read_tokens(argv[optind + 1], &n);
	for (at = 0; at < n; at += 1 + (size_t)tok[at]) {
		if (tok[at] > n - at - 1)
			die(argv[optind + 1], "bad count");
		if (tok[at] > longest)
			longest = tok[at];
	}
	n_blocks = (uint32_t)(longest + n_greedy) / KV_BLOCK + 1;
	open_model(&r, argv[optind], &conf, n_blocks);
	r.blocks = calloc(n_blocks, sizeof(*r.blocks));
	r.out = fopen(argv[optind + 2], "wb");
	if (!r.blocks || !r.out)
		die(argv[optind + 2], "cannot be written");
	for (i = 0; i < n_blocks; i++)
		r.blocks[i] = n_blocks - 1 - i; /* any order must do */
	for (at = 0; at < n; at += 1 + (size_t)tok[at])
		sequence(&r, tok + at + 1, tok[at], n_greedy);
	if (fclose(r.out))
		die(argv[optind + 2], "cannot be written");
	r.ops->unload(r.be, r.model);
	r.ops->close(r.be);
	free(r.blocks);
	free(tok);
	return 0;
}
