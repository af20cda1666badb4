/* SPDX-License-Identifier: MIT */
/*
 * cmd_fit.c - hearth fit: what a model would take of this machine, or of one
 * that is described, and whether that is there.
 *
 * The sizes are those that the daemon allocates by. Of the model the header is
 * read and nothing else; no engine is started.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "../../daemon/conf.h"
#include "../../daemon/cuda/cuda.h"
#include "../../daemon/cuda/fit.h"
#include "../../daemon/gguf.h"
#include "hearth-tool.h"

#define AUTO UINT64_MAX

struct args {
	uint64_t ctx;
	uint64_t layers;
	uint64_t parallel;
	uint64_t step_tokens;
	const char *backend;
	const char *device;
	const char *gpu_mem;
	const char *mem;
	const char *kv;
	const char *prompts;
	bool json;
};

/* clang-format off */
const struct opt opts_fit[] = {
	{ 0, "ctx", "N", OPT_U64, offsetof(struct args, ctx), 0, 1e9,
	  "context that must fit (default: as the daemon chooses)" },
	{ 0, "backend", "NAME", OPT_STR, offsetof(struct args, backend), 0, 0,
	  "auto, cuda or cpu" },
	{ 0, "device", "WHICH", OPT_STR, offsetof(struct args, device), 0, 0,
	  "the GPU: index, UUID or PCI address" },
	{ 0, "gpu-mem", "SIZE", OPT_STR, offsetof(struct args, gpu_mem), 0, 0,
	  "a GPU with so much memory, as 24G, in place of this machine's" },
	{ 0, "mem", "SIZE", OPT_STR, offsetof(struct args, mem), 0, 0,
	  "so much free memory of the host" },
	{ 0, "gpu-layers", "N", OPT_U64, offsetof(struct args, layers), 0, 1e6,
	  "so many layers on the GPU (default: as many as fit)" },
	{ 0, "gpu-prompts", "HOW", OPT_STR, offsetof(struct args, prompts), 0, 0,
	  "exact or fast, as the daemon's" },
	{ 0, "kv-bytes", "SIZE", OPT_STR, offsetof(struct args, kv), 0, 0,
	  "size of the KV cache; its elements are f16" },
	{ 0, "parallel", "N", OPT_U64, offsetof(struct args, parallel), 0, 1024,
	  "sequences in a step (the daemon's max-batch)" },
	{ 0, "step-tokens", "N", OPT_U64, offsetof(struct args, step_tokens), 0,
	  65536, "tokens in a step (the daemon's)" },
	{ 0, "json", NULL, OPT_FLAG, offsetof(struct args, json), 0, 0,
	  "print a JSON object, all sizes in bytes" },
	{ .type = OPT_END },
};
/* clang-format on */

/**
 * struct plan - what is asked, what there is, what comes of it
 * @gpu:    the GPU in words; "" without one, and @no_gpu says why
 */
struct plan {
	const char *name;
	struct image im;
	struct backend_conf conf;
	struct fit_machine there;
	struct fit_wish wish;
	struct fit fit;
	char gpu[192];
	char no_gpu[CU_WHY];
};

/* ------------------------------------------------------------ the question */

/* "24G", as the daemon takes it. */
static int read_size(const char *name, const char *value, uint64_t *out)
{
	static const char units[] = "KMGT";
	unsigned long long v = 0;
	const char *u = NULL;
	char *end;
	int shift = 0;

	if (!value)
		return 0;
	errno = 0;
	if (isdigit((unsigned char)*value)) {
		v = strtoull(value, &end, 10);
		u = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
		shift = u ? (int)(u - units + 1) * 10 : 0;
		if (!errno && v <= UINT64_MAX >> shift && !end[u ? 1 : 0]) {
			*out = (uint64_t)v << shift;
			return 0;
		}
	}
	tool_err("--%s: '%s' is no size, such as 24G or 512M", name, value);
	return -EINVAL;
}

static uint64_t limit(const char *text, const char *name, uint64_t def)
{
	char value[64] = "";

	if (text)
		tool_stat(text, name, value, sizeof(value));
	return isdigit((unsigned char)*value) ? strtoull(value, NULL, 10) : def;
}

/* Are prompts fast? -EINVAL: it says neither. */
static int read_prompts(const char *value, bool *fast)
{
	*fast = !strcmp(value, "fast");
	if (*fast || !strcmp(value, "exact"))
		return 0;
	tool_err("--gpu-prompts: '%s' is neither exact nor fast", value);
	return -EINVAL;
}

/* What the options do not say is as a running daemon has it. */
static void take_limits(struct plan *p, const struct args *a)
{
	char *text = xrealloc(NULL, 65536, 1), *limits = NULL;
	char prompts[8] = "exact";
	struct hearth *h = NULL;
	uint64_t n;

	*text = 0;
	if (tool_connect(&h, TOOL_QUIET) == 0) {
		if (hearth_limits(h, text, 65536) >= 0)
			limits = text;
		hearth_close(&h);
	}
	backend_conf_size(
		&p->conf,
		a->step_tokens ? a->step_tokens
			       : limit(limits, "step-tokens", CONF_STEP_TOKENS),
		a->parallel ? a->parallel
			    : limit(limits, "max-batch", CONF_MAX_BATCH));
	p->conf.n_threads = (uint32_t)limit(limits, "threads", 0);
	p->conf.cpu_level = -1;
	n = a->layers != AUTO ? a->layers : limit(limits, "gpu-layers", AUTO);
	p->conf.gpu_layers = n == AUTO ? -1 : (int32_t)n;
	p->wish.kv_bytes = limit(limits, "kv-bytes", 0);
	if (limits)
		tool_stat(limits, "gpu-prompts", prompts, sizeof(prompts));
	p->conf.gpu_prompts = !strcmp(prompts, "fast");
	free(text);
}

static uint64_t free_memory(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kb = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb * 1024;
}

/* The memory of this machine's GPU, as the daemon would find it. */
static int ask_gpu(struct plan *p, const char *device)
{
	uint64_t left = 0, margin;
	struct cu_chip chip;
	struct cu_dev dev;
	int rc;

	rc = cu_dev_open(&dev, &p->conf, device ? device : "", NULL);
	if (!rc) {
		rc = cu_dev_left(&dev, &left);
		margin = cuda_margin(dev.vram_bytes);
		p->there.gpu = left > margin ? left - margin : 0;
		p->there.granule = dev.granule;
		p->there.has_gpu = true;
		chip = cuda_chip(&dev);
		p->conf.gpu_prompts &= cu_gemm_here(&chip);
		cu_dev_print(&dev, p->gpu, sizeof(p->gpu));
		cu_dev_close(&dev);
	}
	if (rc)
		memcpy(p->no_gpu, dev.why, sizeof(p->no_gpu));
	return rc;
}

static int find_gpu(struct plan *p, const struct args *a)
{
	uint64_t bytes = 0, margin;
	char size[32];
	int rc;

	if (p->wish.on == FIT_CPU)
		return 0;
	if (!a->gpu_mem) {
		rc = ask_gpu(p, a->device);
		if (rc && (p->wish.on == FIT_GPU || a->device)) {
			tool_err("%s", p->no_gpu);
			return rc;
		}
		return 0;
	}
	if (read_size("gpu-mem", a->gpu_mem, &bytes))
		return -EINVAL;
	margin = cuda_margin(bytes);
	p->there.gpu = bytes > margin ? bytes - margin : 0;
	p->there.granule = CU_GRANULE;
	p->there.has_gpu = true;
	snprintf(p->gpu, sizeof(p->gpu), "one with %s, of which %s", a->gpu_mem,
		 fmt_size(size, margin));
	strcat(p->gpu, " are the driver's");
	return 0;
}

static int open_image(struct plan *p, const char *name)
{
	char path[TOOL_PATH] = "", why[160] = "";
	int fd, rc;

	rc = hearth_model_find(name, path, sizeof(path));
	if (rc == -ENOENT) {
		tool_no_model(name, path);
		return rc;
	}
	if (rc < 0) {
		tool_err("%s: %s", name, hearth_strerror(rc));
		return rc;
	}
	rc = model_parse_path(path, 0, &fd, NULL, NULL, why);
	if (!rc) {
		rc = image_open_fd(&p->im, fd, why);
		close(fd);
	}
	if (rc)
		tool_err("%s: %s", name, why);
	return rc;
}

static int ask(struct plan *p, const struct args *a)
{
	static const char *const names[] = { "auto", "cuda", "cpu" };
	size_t i;
	int rc;

	for (i = 0; a->backend && strcmp(a->backend, names[i]);)
		if (++i == N_ELEM(names)) {
			tool_err("--backend: '%s' is none of auto, cuda, cpu",
				 a->backend);
			return -EINVAL;
		}
	p->wish.on = (enum fit_on)i;
	p->wish.n_ctx = (uint32_t)a->ctx;
	take_limits(p, a);
	p->there.host = free_memory();
	rc = read_size("mem", a->mem, &p->there.host);
	if (!rc)
		rc = read_size("kv-bytes", a->kv, &p->wish.kv_bytes);
	if (!rc && a->prompts)
		rc = read_prompts(a->prompts, &p->conf.gpu_prompts);
	return rc ? rc : find_gpu(p, a);
}

/* -------------------------------------------------------------- the answer */

static void verdict(const struct plan *p, char *buf, size_t n)
{
	const struct fit *f = &p->fit;
	char ctx[64] = "";

	if (!f->fits && f->max_ctx)
		snprintf(ctx, sizeof(ctx), "; a context of %u tokens would fit",
			 f->max_ctx);
	if (!f->fits)
		snprintf(buf, n, "does not fit: %s%s", f->why, ctx);
	else if (!*p->gpu)
		snprintf(buf, n, "fits, on the CPU");
	else if (!f->host.n_layer)
		snprintf(buf, n, "fits");
	else if (f->gpu.n_layer)
		snprintf(buf, n, "fits with %u of %u layers on the GPU",
			 f->gpu.n_layer, f->n_layer);
	else if (*f->why)
		snprintf(buf, n, "fits on the CPU, not on the GPU: %s", f->why);
	else
		snprintf(buf, n, "fits on the CPU");
}

static void row(struct table *t, const char *name, uint64_t gpu, uint64_t host,
		bool has_gpu)
{
	char a[32], b[32];

	table_cell(t, "%s", name);
	if (has_gpu)
		table_cell(t, "%s", gpu ? fmt_size(a, gpu) : "-");
	table_cell(t, "%s", host ? fmt_size(b, host) : "-");
}

static void print_table(const struct plan *p)
{
	static const char *const both[] = { "", "GPU", "host" };
	static const char *const one[] = { "", "host" };
	const struct fit *f = &p->fit;
	const struct fit_side *g = &f->gpu, *h = &f->host;
	bool gpu = *p->gpu;
	struct table t;
	uint64_t left = p->there.gpu;

	table_init(&t, gpu ? both : one, gpu ? 3 : 2, gpu ? 6 : 2);
	table_cell(&t, "layers");
	if (gpu)
		table_cell(&t, "%u", g->n_layer);
	table_cell(&t, "%u", h->n_layer);
	row(&t, "weights", g->weights, h->weights, gpu);
	row(&t, "registers", g->scratch, h->scratch, gpu);
	row(&t, "tables of the context", g->context, 0, gpu);
	row(&t, "KV cache", g->kv, h->kv, gpu);
	row(&t, "staging, pinned", 0, h->pinned, gpu);
	row(&t, "all", g->total, h->total, gpu);
	left -= left < g->total ? left : g->total;
	row(&t, "left", left,
	    p->there.host > h->total ? p->there.host - h->total : 0, gpu);
	table_print(&t, stdout);
	table_fini(&t);
}

static void print_text(const struct plan *p)
{
	const struct fit *f = &p->fit;
	char text[512], a[32];

	if (*p->gpu)
		printf("GPU: %s; %s for models\n", p->gpu,
		       fmt_size(a, p->there.gpu));
	else if (*p->no_gpu)
		printf("no GPU: %s\n", p->no_gpu);
	print_table(p);
	printf("KV cache: %u blocks of %d tokens, f16, %llu bytes each\n",
	       f->n_blocks, KV_BLOCK, (unsigned long long)f->block);
	printf("context: %u tokens; the model's %u, at most %u fit\n", f->n_ctx,
	       p->im.h->hp.n_ctx_train, f->max_ctx);
	verdict(p, text, sizeof(text));
	if (f->fits)
		puts(text);
}

static json_t *side_json(const struct fit_side *s, uint64_t there)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "layers",
			 (json_int_t)s->n_layer, "weights",
			 (json_int_t)s->weights, "registers",
			 (json_int_t)s->scratch, "context",
			 (json_int_t)s->context, "kv", (json_int_t)s->kv,
			 "pinned", (json_int_t)s->pinned, "all",
			 (json_int_t)s->total, "there", (json_int_t)there);
}

static void print_json(const struct plan *p)
{
	const struct fit *f = &p->fit;
	char text[512];
	json_t *o;

	verdict(p, text, sizeof(text));
	o = json_pack("{s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "model",
		      p->name, "fits", f->fits, "verdict", text, "n_layer",
		      (json_int_t)f->n_layer, "n_ctx", (json_int_t)f->n_ctx,
		      "max_ctx", (json_int_t)f->max_ctx, "n_ctx_train",
		      (json_int_t)p->im.h->hp.n_ctx_train, "kv_block_bytes",
		      (json_int_t)f->block, "kv_blocks",
		      (json_int_t)f->n_blocks);
	json_object_set_new(o, "kv_type", json_string("f16"));
	if (*p->gpu)
		json_object_set_new(o, "gpu", side_json(&f->gpu, p->there.gpu));
	json_object_set_new(o, "host", side_json(&f->host, p->there.host));
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
}

int cmd_fit(const struct cmd *c, int argc, char **argv)
{
	struct args a = { .layers = AUTO };
	struct plan p = { 0 };
	char text[512];
	int n = opt_parse(c, &a, argc, argv), rc;

	if (n < 0)
		return EXIT_USAGE;
	if (n != 1)
		return tool_usage(c, "takes one model");
	p.name = argv[0];
	rc = ask(&p, &a);
	if (rc)
		return rc == -EINVAL ? EXIT_USAGE : EXIT_FAIL;
	rc = open_image(&p, argv[0]);
	if (rc)
		return EXIT_FAIL;
	rc = fit_model(&p.fit, &p.im, &p.conf, &p.there, &p.wish);
	if (rc)
		tool_err("%s: %s", argv[0], p.fit.why);
	else if (a.json)
		print_json(&p);
	else
		print_text(&p);
	image_close(&p.im);
	if (!rc && !p.fit.fits) {
		verdict(&p, text, sizeof(text));
		tool_err("%s: %s", argv[0], text);
	}
	if (rc || !p.fit.fits)
		return EXIT_FAIL;
	return tool_flush();
}
