/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_fit.c - what hearth fit prints is what gets allocated: tiny models
 * of every kind through the tool and through the backends, the GPU's in the
 * simulator, byte for byte.
 */
#include <check.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../daemon/cuda/cuda.h"
#include "../daemon/model.h"
#include "../tools/hearth/hearth-tool.h"
#include "gguf_make.h"
#include "load.h"

#define GPU_MEM "1G"
#define HOST	"8G"

/* A model and how it is run. */
struct triple {
	const char *arch;
	enum fmt fmt;
	bool tied;
	uint32_t n_layer;
	uint32_t n_ctx;
	uint32_t step_tokens;
	uint32_t parallel;
	const char *kv; /* bytes of the cache, NULL: as the engine has it */
	bool fast;	/* gpu-prompts */
};

static const struct triple triples[] = {
	{ "llama", FMT_Q4_0, true, 2, 0, 512, 32, NULL, false },
	{ "llama", FMT_Q4_1, false, 3, 2048, 512, 32, NULL, false },
	{ "llama", FMT_Q8_0, true, 1, 33, 64, 4, NULL, false },
	{ "llama", FMT_Q4_K, false, 2, 1024, 128, 1, NULL, false },
	{ "llama", FMT_F16, true, 2, 2048, 48, 16, "3M", true },
	{ "qwen2", FMT_Q4_0, true, 2, 0, 64, 4, NULL, false },
	{ "qwen2", FMT_Q6_K, false, 2, 500, 512, 32, NULL, false },
	{ "qwen2", FMT_F32, true, 3, 64, 128, 1, "1M", false },
	{ "qwen2", FMT_Q5_0, true, 1, 1999, 48, 16, NULL, false },
	{ "qwen2", FMT_Q3_K, false, 2, 2048, 64, 4, "64M", false },
	{ "qwen3", FMT_Q4_0, false, 2, 0, 128, 1, NULL, false },
	{ "qwen3", FMT_Q5_K, true, 4, 32, 48, 16, NULL, false },
	{ "qwen3", FMT_Q8_0, true, 2, 2048, 512, 32, "5M", false },
	{ "qwen3", FMT_Q6_K, false, 1, 777, 64, 4, NULL, false },
	{ "qwen3", FMT_Q5_1, true, 3, 0, 48, 16, "700K", false },
	{ "gemma3", FMT_Q4_0, true, 2, 0, 48, 16, NULL, false },
	{ "gemma3", FMT_Q8_0, true, 7, 256, 512, 32, NULL, false },
	{ "gemma3", FMT_Q4_K, true, 6, 2048, 64, 4, NULL, false },
	{ "gemma3", FMT_BF16, true, 5, 96, 128, 1, "9M", false },
	{ "gemma3", FMT_BF16, true, 5, 96, 512, 1, "9M", true },
	{ "gemma3", FMT_Q3_K, true, 8, 1500, 48, 16, NULL, false },
};

static char file[] = "/tmp/check_cuda_fit.XXXXXX";

static void open_driver(void)
{
	char exe[2048], path[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	ck_assert_int_gt(n, 0);
	exe[n] = 0;
	snprintf(path, sizeof(path), "%s/cudasim/libcuda.so.1", dirname(exe));
	setenv("CUDASIM_MEM", "1073741824", 1);
	ck_assert_msg(dlopen(path, RTLD_NOW) != NULL, "%s", dlerror());
}

static struct backend *gpu;

/* Kernels are loaded once, that takes the simulator a while. */
static void open_gpu(void)
{
	struct backend_conf conf = { .max_tokens = 1,
				     .max_seqs = 1,
				     .max_out = 1 };
	char why[160] = "";

	conf.why = why;
	open_driver();
	ck_assert_msg(!backend_cuda.open(&gpu, &conf), "%s", why);
}

static void write_model(const struct triple *t)
{
	struct gm_opts o = GM_OPTS;
	struct gm m;
	FILE *f;
	int fd;

	o.arch = t->arch;
	o.fmt = t->fmt;
	o.tied = t->tied;
	o.n_layer = t->n_layer;
	gm_init(&m);
	gm_model(&m, &o);
	gm_finish(&m);
	strcpy(file, "/tmp/check_cuda_fit.XXXXXX");
	fd = mkstemp(file);
	f = fd < 0 ? NULL : fdopen(fd, "wb");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(m.out.p, 1, m.out.n, f), m.out.n);
	fclose(f);
	gm_free(&m);
}

/* What the tool prints for it. */
static json_t *ask(const struct triple *t, const char *const *more)
{
	char ctx[16], step[16], par[16], text[8192];
	const char *arg[32] = { "hearth",
				"--socket",
				"/nonexistent/socket",
				"fit",
				file,
				"--json",
				"--mem",
				HOST,
				"--ctx",
				ctx,
				"--step-tokens",
				step,
				"--parallel",
				par };
	int n = 14, out = dup(1), fd = memfd_create("said", MFD_CLOEXEC);
	json_error_t err;
	json_t *o;
	ssize_t got;

	snprintf(ctx, sizeof(ctx), "%u", t->n_ctx);
	snprintf(step, sizeof(step), "%u", t->step_tokens);
	snprintf(par, sizeof(par), "%u", t->parallel);
	if (t->kv) {
		arg[n++] = "--kv-bytes";
		arg[n++] = t->kv;
	}
	if (t->fast) {
		arg[n++] = "--gpu-prompts";
		arg[n++] = "fast";
	}
	while (*more)
		arg[n++] = *more++;
	fflush(stdout);
	dup2(fd, 1);
	tool_main(n, (char **)(uintptr_t)arg);
	fflush(stdout);
	dup2(out, 1);
	close(out);
	got = pread(fd, text, sizeof(text) - 1, 0);
	close(fd);
	ck_assert_int_gt(got, 0);
	text[got] = 0;
	o = json_loads(text, 0, &err);
	ck_assert_msg(o != NULL, "%s: %s", err.text, text);
	return o;
}

static uint64_t get(const json_t *o, const char *side, const char *key)
{
	const json_t *v = side ? json_object_get(o, side) : o;

	v = json_object_get(v, key);
	ck_assert_msg(json_is_integer(v), "%s %s", side ? side : "", key);
	return (uint64_t)json_integer_value(v);
}

/* The model as the daemon loads it, and as much cache as its engine asks for. */
struct loaded {
	const struct backend_ops *ops;
	struct backend *be;
	struct backend_model *m;
	struct image im;
	struct run_limits lim;
	struct backend_info info;
};

static uint64_t bytes_of(const char *kv)
{
	char *end;
	uint64_t n;

	if (!kv)
		return 0;
	n = strtoull(kv, &end, 10);
	return n << (*end == 'K' ? 10 : 20);
}

static void load(struct loaded *l, const struct triple *t,
		 const struct backend_ops *ops, uint32_t layer0)
{
	struct proc_load pl = { .n_ctx = t->n_ctx,
				.kv_bytes = bytes_of(t->kv) };
	const struct model_room room = { .free = (uint64_t)7 << 30 };
	struct backend_progress pg = { 0 };
	struct backend_conf conf = { .cpu_level = -1 };
	struct backend_part part = { .layer0 = layer0 };
	int fds[IMAGE_MAX_FILES], im_fd;
	unsigned int n_fds;
	char why[160] = "";

	memset(l, 0, sizeof(*l));
	l->ops = ops;
	conf.why = why;
	conf.gpu_prompts = t->fast;
	backend_conf_size(&conf, t->step_tokens, t->parallel);
	if (ops == &backend_cuda) {
		/* Models are planned by what it was opened with. */
		l->be = gpu;
		gpu->dev.conf = conf;
	} else {
		ck_assert_msg(!ops->open(&l->be, &conf), "%s", why);
	}
	ck_assert_msg(!model_parse_path(file, 0, &im_fd, fds, &n_fds, why),
		      "%s", why);
	ck_assert_msg(!image_open_fd(&l->im, im_fd, why), "%s", why);
	part.layer1 = l->im.h->hp.n_layer;
	ck_assert_msg(!load_part(ops, l->be, &l->im, &part, fds, 1, &pg, &l->m,
				 why),
		      "%s", why);
	close(im_fd);
	while (n_fds)
		close(fds[--n_fds]);
	ops->info(l->m, &l->info);
	ck_assert_msg(!model_size(&l->lim, &l->im.h->hp, &l->info, &pl, 0,
				  conf.max_seqs, &room, why),
		      "%s", why);
	ck_assert_int_eq(ops->kv_alloc(l->m, l->lim.n_blocks), 0);
}

static void unload(struct loaded *l)
{
	l->ops->unload(l->be, l->m);
	if (l->be != gpu)
		l->ops->close(l->be);
	image_close(&l->im);
}

static void on_the_gpu(const struct triple *t)
{
	static const char *const more[] = { "--gpu-mem", GPU_MEM, "--backend",
					    "cuda", NULL };
	const struct cu_bytes *b;
	struct loaded l;
	json_t *o;

	write_model(t);
	o = ask(t, more);
	load(&l, t, &backend_cuda, 0);
	b = l.be->dev.bytes;
	ck_assert_uint_eq(get(o, NULL, "n_ctx"), l.lim.n_ctx);
	ck_assert_uint_eq(get(o, NULL, "kv_blocks"), l.lim.n_blocks);
	ck_assert_uint_eq(get(o, NULL, "kv_block_bytes"), l.lim.block_bytes);
	ck_assert_uint_eq(get(o, "gpu", "weights"), b[CU_WEIGHTS].now);
	ck_assert_uint_eq(get(o, "gpu", "registers") + get(o, "gpu", "context"),
			  b[CU_SCRATCH].now);
	ck_assert_uint_eq(get(o, "gpu", "kv"), b[CU_KV].now);
	ck_assert_uint_eq(get(o, "gpu", "all"), l.be->dev.total.now);
	ck_assert_uint_eq(get(o, "host", "pinned"), l.be->dev.pinned.now);
	ck_assert(json_is_true(json_object_get(o, "fits")));
	json_decref(o);
	unload(&l);
	ck_assert_uint_eq(gpu->dev.total.now, 0);
	unlink(file);
}

/* The last layers, as many as it says. */
static void some_on_the_gpu(const struct triple *t, uint32_t n)
{
	const char *more[] = { "--gpu-mem", GPU_MEM, "--gpu-layers", NULL,
			       NULL };
	const struct cu_bytes *b = gpu->dev.bytes;
	char layers[16];
	struct loaded l;
	json_t *o;

	snprintf(layers, sizeof(layers), "%u", n);
	more[3] = layers;
	write_model(t);
	o = ask(t, more);
	load(&l, t, &backend_cuda, t->n_layer - n);
	ck_assert_uint_eq(get(o, "gpu", "layers"), n);
	ck_assert_uint_eq(get(o, "host", "layers"), t->n_layer - n);
	ck_assert_uint_eq(get(o, "gpu", "weights"), b[CU_WEIGHTS].now);
	ck_assert_uint_eq(get(o, NULL, "n_ctx"), l.lim.n_ctx);
	ck_assert_uint_eq(get(o, "gpu", "registers") + get(o, "gpu", "context"),
			  b[CU_SCRATCH].now);
	ck_assert_uint_eq(get(o, "gpu", "kv"), b[CU_KV].now);
	ck_assert_uint_eq(get(o, "host", "pinned"), gpu->dev.pinned.now);
	json_decref(o);
	unload(&l);
	unlink(file);
}

START_TEST(all_on_the_gpu)
{
	size_t i;

	open_gpu();
	for (i = 0; i < sizeof(triples) / sizeof(triples[0]); i++)
		on_the_gpu(&triples[i]);
	some_on_the_gpu(&triples[1], 1);
	some_on_the_gpu(&triples[11], 3);
	some_on_the_gpu(&triples[16], 5);
	backend_cuda.close(gpu);
}
END_TEST

START_TEST(on_the_cpu)
{
	static const char *const more[] = { "--backend", "cpu", NULL };
	const struct triple *t = &triples[_i];
	struct loaded l;
	json_t *o;

	write_model(t);
	o = ask(t, more);
	load(&l, t, &backend_cpu, 0);
	ck_assert_uint_eq(get(o, NULL, "n_ctx"), l.lim.n_ctx);
	ck_assert_uint_eq(get(o, NULL, "kv_blocks"), l.lim.n_blocks);
	ck_assert_uint_eq(get(o, "host", "weights"), l.info.weight_bytes);
	ck_assert_uint_eq(get(o, "host", "registers"), l.info.scratch_bytes);
	ck_assert_uint_eq(get(o, "host", "kv"),
			  l.lim.n_blocks * l.info.kv_block_bytes);
	ck_assert_ptr_null(json_object_get(o, "gpu"));
	json_decref(o);
	unload(&l);
	unlink(file);
}
END_TEST

/* The largest context it names can be had, and no larger one. */
START_TEST(largest_context)
{
	static const char *const more[] = { "--gpu-mem", "144M", "--backend",
					    "cuda", NULL };
	struct triple t = {
		"llama", FMT_Q4_1, true, 8, 2048, 64, 4, NULL, false
	};
	uint64_t most;
	json_t *o;

	write_model(&t);
	o = ask(&t, more);
	ck_assert(json_is_false(json_object_get(o, "fits")));
	most = get(o, NULL, "max_ctx");
	json_decref(o);
	ck_assert_uint_gt(most, 0);
	ck_assert_uint_lt(most, 2048);
	t.n_ctx = (uint32_t)most;
	o = ask(&t, more);
	ck_assert(json_is_true(json_object_get(o, "fits")));
	ck_assert_uint_le(get(o, "gpu", "all"), get(o, "gpu", "there"));
	json_decref(o);
	t.n_ctx++;
	o = ask(&t, more);
	ck_assert(json_is_false(json_object_get(o, "fits")));
	json_decref(o);
	unlink(file);
}
END_TEST

int main(void)
{
	const int n = sizeof(triples) / sizeof(triples[0]);
	Suite *s = suite_create("cuda_fit");
	TCase *tc = tcase_create("gpu");
	SRunner *sr;
	int failed;

	if (cu_codes[0].begin == cu_codes[0].end) {
		puts("built without a CUDA compiler");
		return 77;
	}
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, all_on_the_gpu);
	suite_add_tcase(s, tc);
	tc = tcase_create("cpu");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, on_the_cpu, 0, n);
	tcase_add_test(tc, largest_context);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
