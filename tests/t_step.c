/* SPDX-License-Identifier: MIT */
/*
 * t_step.c - times the CPU backend alone: load, prefill, decode, streams.
 *
 *   t_step MODEL.gguf [-t THREADS] [-l LEVEL] [-p PREFILL] [-n DECODE]
 *          [-d DEPTH] [-b STREAMS] [-r REPEATS] [-g TOKEN,TOKEN,...]
 *
 * With -g it continues these tokens greedily for DECODE tokens and prints the
 * ids. Rates are the best of REPEATS runs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../daemon/backend.h"
#include "../daemon/gguf.h"
#include "../kernels/cpu.h"
#include "../libclient/image.h"
#include "load.h"

#define MAX_BATCH 512
#define MAX_SEQS  64

struct bench {
	struct backend *be;
	struct backend_model *m;
	struct image im;
	uint32_t n_vocab;
	uint32_t blocks_each;
	uint32_t *blocks; /* [seq][blocks_each] */
	uint32_t tokens[MAX_BATCH];
	uint32_t out[MAX_SEQS];
	struct batch_seq seqs[MAX_SEQS];
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what, int err)
{
	fprintf(stderr, "t_step: %s (%s)\n", what, strerror(-err));
	exit(1);
}

/* @n tokens of each of @n_seqs sequences at @pos; logits of the last ones. */
static const float *step(struct bench *b, uint32_t n_seqs, uint32_t n,
			 uint32_t pos, uint32_t n_logits)
{
	struct batch batch = {
		.n_tokens = n_seqs * n,
		.n_seqs = n_seqs,
		.n_out = n_logits,
		.n_logits = n_logits,
		.tokens = b->tokens,
		.seqs = b->seqs,
		.out_rows = b->out,
	};
	uint32_t i;
	int ret;

	for (i = 0; i < n_seqs; i++) {
		b->seqs[i] = (struct batch_seq){
			.first = i * n,
			.n = n,
			.pos = pos,
			.blocks = b->blocks + i * b->blocks_each,
		};
		if (i < n_logits)
			b->out[i] = i * n + n - 1;
	}
	ret = backend_cpu.step(b->m, &batch);
	if (ret)
		die("step", ret);
	return batch.logits;
}

static void random_tokens(struct bench *b)
{
	uint32_t i, x = 12345;

	for (i = 0; i < MAX_BATCH; i++) {
		x = x * 1664525u + 1013904223u;
		b->tokens[i] = (x >> 8) % b->n_vocab;
	}
}

static uint32_t argmax(const float *x, uint32_t n)
{
	uint32_t i, best = 0;

	for (i = 1; i < n; i++)
		if (x[i] > x[best])
			best = i;
	return best;
}

static void generate(struct bench *b, const char *list, uint32_t n)
{
	uint32_t n_prompt = 0, pos = 0, i;
	const float *logits;
	char *end;

	while (*list && n_prompt < MAX_BATCH) {
		b->tokens[n_prompt++] = (uint32_t)strtoul(list, &end, 10);
		list = *end ? end + 1 : end;
	}
	logits = step(b, 1, n_prompt, 0, 1);
	pos = n_prompt;
	for (i = 0; i < n; i++) {
		b->tokens[0] = argmax(logits, b->n_vocab);
		printf("%u%s", b->tokens[0], i + 1 < n ? "," : "\n");
		logits = step(b, 1, 1, pos++, 1);
	}
}

static void fill(struct bench *b, uint32_t n_seqs, uint32_t depth)
{
	uint32_t *blocks = b->blocks, pos, n, i;

	for (i = 0; i < n_seqs; i++) {
		b->blocks = blocks + i * b->blocks_each;
		for (pos = 0; pos < depth; pos += n) {
			n = depth - pos < MAX_BATCH ? depth - pos : MAX_BATCH;
			step(b, 1, n, pos, 0);
		}
	}
	b->blocks = blocks;
}

static void bench(struct bench *b, uint32_t prefill, uint32_t decode,
		  uint32_t depth, uint32_t streams, uint32_t repeats)
{
	double t, best = 1e9;
	uint32_t r, i, n;

	random_tokens(b);
	for (r = 0; prefill && r < repeats; r++) {
		t = now();
		for (i = 0; i < prefill; i += n) {
			n = prefill - i < MAX_BATCH ? prefill - i : MAX_BATCH;
			step(b, 1, n, i, i + n == prefill);
		}
		t = now() - t;
		best = t < best ? t : best;
	}
	if (prefill)
		printf("prefill %u: %.2f tok/s\n", prefill, prefill / best);
	if (!decode)
		return;
	fill(b, streams, depth);
	best = 1e9;
	for (r = 0; r < repeats; r++) {
		t = now();
		for (i = 0; i < decode; i++)
			step(b, streams, 1, depth + i, streams);
		t = now() - t;
		best = t < best ? t : best;
	}
	printf("decode %u at %u, %u streams: %.2f tok/s (%.3f ms a step)\n",
	       decode, depth, streams, decode * streams / best,
	       best / decode * 1e3);
}

int main(int argc, char **argv)
{
	uint32_t prefill = 512, decode = 64, depth = 0, streams = 1, reps = 3;
	struct backend_conf conf = { .cpu_level = -1,
				     .max_tokens = MAX_BATCH,
				     .max_seqs = MAX_SEQS,
				     .max_out = MAX_SEQS,
				     .spin_us = 200 };
	struct backend_progress pg = { 0 };
	struct backend_info info;
	struct bench b = { 0 };
	int fds[IMAGE_MAX_FILES], im_fd, ret, c;
	const char *list = NULL;
	unsigned int n_fds;
	char why[160];
	double t;
	uint32_t i, max;

	while ((c = getopt(argc, argv, "t:l:p:n:d:b:r:g:s:")) != -1) {
		uint32_t v = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;

		switch (c) {
		case 't':
			conf.n_threads = v;
			break;
		case 'l':
			conf.cpu_level = cpu_level_parse(optarg);
			break;
		case 'p':
			prefill = v;
			break;
		case 'n':
			decode = v;
			break;
		case 'd':
			depth = v;
			break;
		case 'b':
			streams = v < MAX_SEQS ? v : MAX_SEQS;
			break;
		case 'r':
			reps = v;
			break;
		case 's':
			conf.spin_us = v;
			break;
		case 'g':
			list = optarg;
			break;
		default:
			return 2;
		}
	}
	if (optind >= argc) {
		fprintf(stderr, "t_step: which model?\n");
		return 2;
	}
	ret = model_parse_path(argv[optind], 0, &im_fd, fds, &n_fds, why);
	if (ret)
		die(why, ret);
	ret = image_open_fd(&b.im, im_fd, why);
	if (ret)
		die(why, ret);
	ret = backend_cpu.open(&b.be, &conf);
	if (ret)
		die("open", ret);
	t = now();
	ret = load_model(&backend_cpu, b.be, &b.im, fds, loader_cores(), &pg,
			 &b.m, why);
	if (ret)
		die(why, ret);
	t = now() - t;
	backend_cpu.info(b.m, &info);
	fprintf(stderr,
		"%s: loaded in %.2f s, weights %.1f MB, scratch %.1f MB, "
		"block %.1f kB\n",
		info.text, t, (double)info.weight_bytes * 1e-6,
		(double)info.scratch_bytes * 1e-6,
		(double)info.kv_block_bytes * 1e-3);
	b.n_vocab = b.im.h->hp.n_vocab;
	max = (depth + decode > prefill ? depth + decode : prefill) + MAX_BATCH;
	b.blocks_each = max / KV_BLOCK + 1;
	b.blocks = calloc((size_t)b.blocks_each * streams, sizeof(*b.blocks));
	if (!b.blocks)
		die("blocks", -ENOMEM);
	for (i = 0; i < b.blocks_each * streams; i++)
		b.blocks[i] = i;
	ret = backend_cpu.kv_alloc(b.m, b.blocks_each * streams);
	if (ret)
		die("kv_alloc", ret);
	if (list)
		generate(&b, list, decode);
	else
		bench(&b, prefill, decode, depth, streams, reps);
	backend_cpu.unload(b.be, b.m);
	backend_cpu.close(b.be);
	image_close(&b.im);
	free(b.blocks);
	return 0;
}
