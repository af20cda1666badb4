/* SPDX-License-Identifier: MIT */
/*
 * cmd_bench.c - hearth bench: prefill and decode rates through the daemon.
 *
 * pp512 is the prefill of 512 random tokens, tg128 the decoding of 128 tokens
 * after one; @ says how many requests run side by side. Nothing is shared
 * between repetitions, so the prefix cache does not flatter.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "hearth-tool.h"

#define BATCH_MAX 256
#define REPS_MAX  100

struct args {
	uint64_t prompt;
	uint64_t gen;
	uint64_t reps;
	uint64_t batch;
	uint64_t depth;
	uint64_t ctx;
	uint64_t count;
	uint64_t bytes;
	const char *device;
	bool json;
};

/* clang-format off */
const struct opt opts_bench[] = {
	{ 'p', "prompt", "N", OPT_U64, offsetof(struct args, prompt), 0, 1e7,
	  "prefill N tokens; 0: not at all (default 512)" },
	{ 'n', "gen", "N", OPT_U64, offsetof(struct args, gen), 0, 1e7,
	  "decode N tokens; 0: not at all (default 128)" },
	{ 'r', "reps", "N", OPT_U64, offsetof(struct args, reps), 1, REPS_MAX,
	  "repeat N times (default 5)" },
	{ 'b', "batch", "N", OPT_U64, offsetof(struct args, batch), 1,
	  BATCH_MAX, "run N requests side by side (default 1)" },
	{ 'd', "depth", "N", OPT_U64, offsetof(struct args, depth), 0, 1e7,
	  "decode after a prompt of N tokens (default 1)" },
	{ 0, "ctx", "N", OPT_U64, offsetof(struct args, ctx), 0, 1e9,
	  "context to load the model with" },
	{ 0, "count", "N", OPT_U64, offsetof(struct args, count), 1, 1e9,
	  "bench ipc: so many round trips (default 1000000)" },
	{ 0, "device", "GPU", OPT_STR, offsetof(struct args, device), 0, 0,
	  "bench hw: index, UUID or PCI address of a GPU, or none" },
	{ 0, "bytes", "N", OPT_U64, offsetof(struct args, bytes), 4096, 1e12,
	  "bench hw: size of a buffer on the GPU (default 2 GiB)" },
	{ 0, "json", NULL, OPT_FLAG, offsetof(struct args, json), 0, 0,
	  "print JSON" },
	{ .type = OPT_END },
};
/* clang-format on */

struct bench {
	struct hearth *h;
	struct hearth_model *m;
	struct hearth_model_info info;
	const struct args *a;
	uint64_t random;
	double mem_rate;
	struct table t;
	json_t *list;
};

/* One kind of run and what came out of it. */
struct test {
	bool prefill;
	size_t n_prompt;
	uint32_t n_out;
	double rate[REPS_MAX];
};

static uint32_t random_below(struct bench *b, uint32_t n)
{
	/* splitmix64 */
	uint64_t z = b->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return (uint32_t)((z >> 32) * n >> 32);
}

static int submit(struct bench *b, const struct test *t, uint64_t *id)
{
	struct hearth_request HEARTH_INIT(rq);
	uint32_t *tok = xrealloc(NULL, t->n_prompt, sizeof(*tok));
	size_t i;
	int rc;

	for (i = 0; i < t->n_prompt; i++)
		tok[i] = random_below(b, b->info.n_vocab);
	rq.model = b->m;
	rq.prompt = tok;
	rq.n_prompt = t->n_prompt;
	rq.max_tokens = t->n_out;
	rq.no_generate = t->prefill;
	rq.greedy = true;
	rq.ignore_eos = true;
	rc = hearth_submit(b->h, &rq, id);
	if (rc < 0)
		tool_err("%s", hearth_error(b->h));
	free(tok);
	return rc < 0 ? rc : 0;
}

static int wait_done(struct bench *b, unsigned n)
{
	struct hearth_event HEARTH_INIT(ev);
	int rc;

	while (n) {
		rc = hearth_next(b->h, &ev, 100);
		if (tool_interrupted)
			return -EINTR;
		if (rc == -EAGAIN || rc == -EINTR)
			continue;
		if (rc < 0) {
			tool_err("%s", hearth_error(b->h));
			return rc;
		}
		if (ev.type == HEARTH_EV_ERROR) {
			tool_err("%s", ev.error);
			return ev.err ? ev.err : -EIO;
		}
		n -= ev.type == HEARTH_EV_DONE;
	}
	return 0;
}

/* Tokens a second of one repetition. */
static int run_once(struct bench *b, const struct test *t, double *rate)
{
	uint64_t id[BATCH_MAX], start = now_ns(), longest = 0, tokens = 0;
	unsigned n = (unsigned)b->a->batch, made, i;
	struct hearth_timings HEARTH_INIT(tm);
	int rc = 0;

	for (made = 0; made < n && rc == 0; made++)
		rc = submit(b, t, id + made);
	if (rc) /* the last one is not there */
		made--;
	else
		rc = wait_done(b, n);
	start = now_ns() - start;
	for (i = 0; i < made; i++) {
		if (rc == 0 && hearth_timings(b->h, id[i], &tm) == 0) {
			longest = tm.decode_ns > longest ? tm.decode_ns
							 : longest;
			tokens += tm.n_out ? tm.n_out - 1 : 0;
		}
		hearth_release(b->h, id[i]);
	}
	if (t->prefill)
		*rate = (double)(t->n_prompt * n) * 1e9 / (double)start;
	else
		*rate = longest ? (double)tokens * 1e9 / (double)longest : 0;
	return rc;
}

static void mean_sd(const double *v, size_t n, double *mean, double *sd)
{
	double sum = 0, sq = 0;
	size_t i;

	for (i = 0; i < n; i++)
		sum += v[i];
	*mean = sum / (double)n;
	for (i = 0; i < n; i++)
		sq += (v[i] - *mean) * (v[i] - *mean);
	*sd = n > 1 ? sqrt(sq / (double)(n - 1)) : 0;
}

static void report(struct bench *b, const struct test *t)
{
	double mean, sd, part = 0;
	char name[64], x[32], y[32];

	mean_sd(t->rate, b->a->reps, &mean, &sd);
	if (t->prefill)
		snprintf(name, sizeof(name), "pp%zu", t->n_prompt);
	else if (t->n_prompt > 1)
		snprintf(name, sizeof(name), "tg%u after %zu", t->n_out,
			 t->n_prompt);
	else
		snprintf(name, sizeof(name), "tg%u", t->n_out);
	if (b->a->batch > 1)
		snprintf(name + strlen(name), 16, " @%u",
			 (unsigned)b->a->batch);
	/* A step reads the weights once for the whole batch. */
	if (!t->prefill && b->mem_rate > 0)
		part = mean / (double)b->a->batch *
		       (double)b->info.weight_bytes / b->mem_rate;
	table_cell(&b->t, "%s", b->info.name);
	table_cell(&b->t, "%s", b->info.quant);
	table_cell(&b->t, "%s", fmt_size(x, b->info.weight_bytes));
	table_cell(&b->t, "%s", fmt_count(y, b->info.n_params));
	table_cell(&b->t, "%s", name);
	table_cell(&b->t, "%s", fmt_rate(x, mean));
	table_cell(&b->t, "%s", fmt_rate(y, sd));
	if (t->prefill)
		table_cell(&b->t, "-");
	else
		table_cell(&b->t, "%.0f %%", 100 * part);
	json_array_append_new(
		b->list,
		json_pack("{s:s, s:s, s:I, s:I, s:s, s:i, s:i, s:i, s:f, s:f, "
			  "s:f}",
			  "model", b->info.name, "quant", b->info.quant,
			  "weight_bytes", (json_int_t)b->info.weight_bytes,
			  "n_params", (json_int_t)b->info.n_params, "test",
			  t->prefill ? "prefill" : "decode", "n_prompt",
			  (int)t->n_prompt, "n_out", (int)t->n_out, "batch",
			  (int)b->a->batch, "tokens_per_s", mean, "sd", sd,
			  "bandwidth_fraction", part));
}

/* Other work on the machine can only lower it: the best one counts. */
static void measure_memory(struct bench *b)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	double v = bench_read_rate(cpus < 1 ? 1 : (unsigned)cpus, 300);

	if (v > b->mem_rate)
		b->mem_rate = v;
}

static int run_test(struct bench *b, struct test *t)
{
	struct progress p;
	uint64_t i;
	double warm;
	int rc;

	progress_start(&p, t->prefill ? "prefill" : "decode", "runs", 0,
		       1000000000u);
	if (!t->prefill)
		measure_memory(b);
	rc = run_once(b, t, &warm);
	for (i = 0; i < b->a->reps && rc == 0; i++) {
		progress_update(&p, i, b->a->reps);
		rc = run_once(b, t, t->rate + i);
	}
	progress_end(&p, i, false);
	if (rc == 0 && !t->prefill)
		measure_memory(b);
	if (rc == 0)
		report(b, t);
	return rc;
}

static int bench_model(struct bench *b, const char *name)
{
	struct test pp = { .prefill = true, .n_prompt = b->a->prompt };
	struct test tg = { .n_prompt = b->a->depth,
			   .n_out = (uint32_t)b->a->gen };
	int rc = tool_load(b->h, &b->m, name, (uint32_t)b->a->ctx, true);

	if (rc)
		return rc;
	b->info.size = sizeof(b->info);
	rc = hearth_model_info(b->m, &b->info);
	if (rc < 0)
		tool_err("%s: %s", name, hearth_strerror(rc));
	else
		rc = 0;
	if (rc == 0 && pp.n_prompt)
		rc = run_test(b, &pp);
	if (rc == 0 && tg.n_out)
		rc = run_test(b, &tg);
	hearth_model_close(&b->m);
	return rc;
}

static int bench_models(struct bench *b, int n, char **name)
{
	static const char *const head[] = { "MODEL", "QUANT",
					    "SIZE",  "PARAMS",
					    "TEST",  "TOKENS/S",
					    "+-",    "OF MEMORY RATE" };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int i, rc = 0;

	table_init(&b->t, head, N_ELEM(head),
		   1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7);
	b->list = json_array();
	/* Before the model runs, so that nothing disturbs it. */
	if (b->a->gen)
		b->mem_rate =
			bench_read_rate(cpus < 1 ? 1 : (unsigned)cpus, 300);
	for (i = 0; i < n && rc == 0; i++)
		rc = bench_model(b, name[i]);
	if (b->a->json) {
		json_dumpf(b->list, stdout,
			   JSON_INDENT(2) | JSON_REAL_PRECISION(6));
		putchar('\n');
	} else if (b->t.n_cells) {
		table_print(&b->t, stdout);
		if (b->mem_rate > 0)
			printf("memory: %.1f GB/s read by %ld threads\n",
			       b->mem_rate / 1e9, cpus);
	}
	table_fini(&b->t);
	json_decref(b->list);
	return rc;
}

int cmd_bench(const struct cmd *c, int argc, char **argv)
{
	struct args a = { .prompt = 512,
			  .gen = 128,
			  .reps = 5,
			  .batch = 1,
			  .depth = 1,
			  .count = 1000000 };
	struct bench b = { .a = &a, .random = now_ns() };
	int n = opt_parse(c, &a, argc, argv), rc;
	bool ipc;

	if (n < 0)
		return EXIT_USAGE;
	if (!n)
		return tool_usage(c, "which model? (or ipc, or hw)");
	if (!a.prompt && !a.gen)
		return tool_usage(c, "-p 0 and -n 0 leave nothing to measure");
	if (!a.depth)
		a.depth = 1;
	term_catch_int();
	if (n == 1 && !strcmp(argv[0], "hw"))
		return bench_hw(a.device, a.bytes, a.json);
	ipc = n == 1 && !strcmp(argv[0], "ipc");
	rc = tool_connect_for(&b.h, (const char *const *)argv,
			      ipc ? 0 : (size_t)n);
	if (rc)
		return rc == -EINTR ? EXIT_INTR : EXIT_FAIL;
	if (ipc)
		rc = bench_ipc(b.h, a.count, a.json);
	else
		rc = bench_models(&b, n, argv);
	hearth_close(&b.h);
	if (rc == -EINTR)
		return EXIT_INTR;
	return rc ? EXIT_FAIL : EXIT_OK;
}
