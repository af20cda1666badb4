/* SPDX-License-Identifier: MIT */
/*
 * backend.c - a GPU as a backend: opening it, models coming and going.
 *
 * Models are loaded by threads of the engine's while it steps others. So there
 * are two handles of the one device: the engine's own, and one for loading.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "../log.h"
#include "../rope.h"
#include "cuda.h"

#define WHY	160
#define SPIN_US 300 /* that the end of a step may be away when we wake up */

/* ------------------------------------------------------- opening, closing */

static void be_close(struct backend *be)
{
	int i;

	if (!be)
		return;
	for (i = 0; i < CU_FILE_N; i++)
		cu_code_unload(&be->dev, &be->module[i]);
	cu_dev_close(&be->dev);
	pthread_mutex_destroy(&be->loading);
	pthread_mutex_destroy(&be->counting);
	free(be);
}

static bool built_in(void)
{
	int i;

	for (i = 0; i < CU_FILE_N; i++)
		if (cu_codes[i].begin == cu_codes[i].end)
			return false;
	return CU_FILE_N > 0;
}

/* There is a driver to ask. It stays loaded, and is found again by its name. */
static bool be_device(void)
{
	return built_in() && dlopen("libcuda.so.1", RTLD_NOW);
}

/* As much shared memory as a block may have, whatever a launch takes of it. */
static int allow_shared(struct backend *be, int kernel)
{
	struct cu_func *fn = be->fn[kernel];
	struct cu_dev *d = &be->dev;
	int own = 0, rc;

	rc = CU(d, cuFuncGetAttribute(&own, CU_FUNC_SHARED, fn),
		"shared memory of %s", cu_kernels[kernel].name);
	if (rc)
		return rc;
	return CU(d,
		  cuFuncSetAttribute(fn, CU_FUNC_DYN,
				     (int)d->shared_block - own),
		  "shared memory of %s", cu_kernels[kernel].name);
}

static int load_code(struct backend *be, int file)
{
	const struct cu_code *c = &cu_codes[file];
	const char *names[CU_KERNEL_N + 1];
	struct cu_func *fns[CU_KERNEL_N + 1];
	int which[CU_KERNEL_N + 1], i, n = 0, rc;

	for (i = 0; i < CU_KERNEL_N; i++) {
		if ((int)cu_kernels[i].file != file)
			continue;
		which[n] = i;
		names[n++] = cu_kernels[i].name;
	}
	backend_beat(&be->dev.conf);
	rc = cu_code_load(&be->dev, &be->module[file], c->begin,
			  (size_t)(c->end - c->begin), names, fns, (size_t)n);
	for (i = 0; i < n && !rc; i++) {
		be->fn[which[i]] = fns[i];
		rc = allow_shared(be, which[i]);
	}
	return rc;
}

static int refuse(const struct backend_conf *conf, int err, const char *text)
{
	if (conf->device)
		atomic_store(conf->device, 0);
	if (conf->why)
		snprintf(conf->why, WHY, "%.*s", WHY - 1, text);
	return err;
}

struct cu_chip cuda_chip(const struct cu_dev *d)
{
	return (struct cu_chip){ .cc = (uint32_t)d->id.sm,
				 .sms = (uint32_t)d->n_sm,
				 .smem = d->shared_block };
}

/* Of an L2 cache of two halves less than one is asked for ahead, so that the cache
 * keeps what is at work. */
static uint64_t ahead(const struct cu_dev *d)
{
	uint64_t most = d->l2_bytes / 5 * 2;

	return d->conf.gpu_ahead < most ? d->conf.gpu_ahead : most;
}

static int be_open(struct backend **out, const struct backend_conf *conf)
{
	struct backend *be;
	char text[192];
	int rc, i;

	if (!conf->max_tokens || !conf->max_seqs || !conf->max_out)
		return -EINVAL;
	if (!built_in())
		return refuse(conf, -ENOTSUP,
			      "cuda: built without a CUDA compiler");
	be = calloc(1, sizeof(*be));
	if (!be)
		return -ENOMEM;
	pthread_mutex_init(&be->loading, NULL);
	pthread_mutex_init(&be->counting, NULL);
	/* From here on it may hang, or take the process along. */
	if (conf->device)
		atomic_store(conf->device, 1);
	/* All kernels now, while the driver may still read files. */
	setenv("CUDA_MODULE_LOADING", "EAGER", 1);
	/* A step's end is looked for, however late it is slept until. */
	prctl(PR_SET_TIMERSLACK, 1000);
	rc = cu_dev_open(&be->dev, conf, conf->gpu ? conf->gpu : "", NULL);
	for (i = 0; i < CU_FILE_N && !rc; i++)
		rc = load_code(be, i);
	if (rc) {
		refuse(conf, rc, be->dev.why);
		be_close(be);
		return rc;
	}
	be->chip = cuda_chip(&be->dev);
	be->ahead = ahead(&be->dev);
	if (conf->gpu_prompts && !cu_gemm_here(&be->chip)) {
		be->dev.conf.gpu_prompts = false;
		log_info("cuda: prompts are exact: there is no fast kernel for "
			 "this GPU");
	}
	if (be->dev.conf.spin_us < SPIN_US)
		be->dev.conf.spin_us = SPIN_US;
	be->up = be->dev;
	memset(be->up.bytes, 0, sizeof(be->up.bytes));
	memset(&be->up.total, 0, sizeof(be->up.total));
	memset(&be->up.pinned, 0, sizeof(be->up.pinned));
	cu_dev_print(&be->dev, text, sizeof(text));
	log_info("backend: cuda, %s", text);
	*out = be;
	return 0;
}

/* ---------------------------------------------------------------- models */

static void add_bytes(struct cu_bytes *to, struct cu_bytes *from)
{
	to->now += from->now;
	if (to->now > to->peak)
		to->peak = to->now;
	*from = (struct cu_bytes){ 0 };
}

/* What the loading handle did is the engine's now. */
static void hand_over(struct backend *be)
{
	int i;

	pthread_mutex_lock(&be->counting);
	for (i = 0; i < CU_KINDS; i++)
		add_bytes(&be->dev.bytes[i], &be->up.bytes[i]);
	add_bytes(&be->dev.total, &be->up.total);
	add_bytes(&be->dev.pinned, &be->up.pinned);
	pthread_mutex_unlock(&be->counting);
}

static void model_free(struct cu_dev *d, struct backend_model *m)
{
	uint32_t i;

	cu_upload_drop(&m->up);
	for (i = 0; i < CUDA_GRAPHS; i++)
		cu_exec_free(d, &m->graph[i].exec);
	cu_event_free(d, &m->done);
	cu_pinned_free(d, m->in, m->in_bytes);
	cu_pinned_free(d, m->out, m->plan.out_bytes);
	cu_pinned_free(d, m->rope_host, m->plan.rope_bytes);
	cu_pinned_free(d, m->x, m->plan.x_bytes);
	cu_arena_close(d, &m->kv);
	cu_arena_close(d, &m->context);
	cu_arena_close(d, &m->scratch);
	cu_arena_close(d, &m->weights);
	for (i = 0; i < TAPE_ROPE_N; i++)
		free(m->inv_freq[i]);
	free(m->list);
	free(m->need);
	cuda_plan_free(&m->plan);
	weights_free(&m->w);
	free(m);
}

static void be_unload(struct backend *be, struct backend_model *m)
{
	if (!m)
		return;
	pthread_mutex_lock(&be->counting);
	model_free(&be->dev, m);
	pthread_mutex_unlock(&be->counting);
}

/* Bytes that models may take. */
static int room(struct cu_dev *d, uint64_t *left)
{
	uint64_t margin = cuda_margin(d->vram_bytes);
	int rc = cu_dev_left(d, left);

	*left = *left > margin ? *left - margin : 0;
	return rc;
}

/* Is there room for a model with one block at least? */
static int check_room(struct cu_dev *d, const struct backend_model *m)
{
	struct cuda_need need;
	uint64_t left;
	int rc;

	cuda_plan_need(&m->plan, 1, d->granule, &need);
	rc = room(d, &left);
	if (rc || need.device <= left)
		return rc;
	return cu_fail(d, -ENOMEM,
		       "model needs %llu bytes on the GPU, %llu are free",
		       (unsigned long long)need.device,
		       (unsigned long long)left);
}

static int arena_new(struct cu_dev *d, struct cu_arena *a, enum cu_kind kind,
		     uint64_t bytes)
{
	int rc = cu_arena_open(d, a, kind, bytes);

	return rc ? rc : cu_arena_grow(d, a, bytes);
}

static int be_split(struct backend *be, const struct image *im, uint32_t n_ctx,
		    uint32_t *layer0, char why[160])
{
	struct cu_dev *d = &be->up;
	uint64_t left = 0;
	int rc;

	pthread_mutex_lock(&be->loading);
	rc = CU(d, cuCtxSetCurrent(d->ctx), "splitting a model");
	if (!rc)
		rc = room(d, &left);
	if (rc)
		snprintf(why, WHY, "%.*s", WHY - 1, d->why);
	pthread_mutex_unlock(&be->loading);
	return rc ? rc
		  : cuda_plan_split(im, &d->conf, left, d->granule, n_ctx,
				    layer0, why);
}

static int upload(struct cu_dev *d, struct backend_model *m)
{
	const struct cu_host h = { .what = "weights",
				   .base = m->w.object.p,
				   .run = m->w.runs,
				   .n_runs = m->w.n_runs,
				   .read_only = true };

	return cu_upload_start(&m->up, d, m->weights.at, &h);
}

/* What is still to come, and what is to be given back when all has, is the
 * engine's from here on. */
static void hand_up(struct backend_model *m)
{
	weights_move(&m->w, m->weights.at);
	m->up.d = &m->be->dev;
	if (m->up.done < m->up.bytes)
		return;
	cu_upload_drop(&m->up);
	object_unmap(&m->w.object);
}

/* Is there a kernel for all that can come? */
static int try_list(struct cu_dev *d, struct backend_model *m)
{
	const struct backend_conf *c = &m->plan.conf;
	const uint32_t n[] = { 1, CU_FEW, CU_FEW + 1, c->max_tokens };
	const size_t n_sizes = sizeof(n) / sizeof(n[0]);
	struct cuda_key key = { .spans = 1 };
	size_t i;
	int rc;

	for (i = 0; i < n_sizes * (m->plan.near ? 2 : 1); i++) {
		key.n = n[i % n_sizes];
		key.n = key.n < c->max_tokens ? key.n : c->max_tokens;
		key.n_exact = i < n_sizes ? key.n : key.n - 1;
		key.n_out = key.n < c->max_out ? key.n : c->max_out;
		key.n_logits = key.n_out;
		rc = cuda_list(m, &key, 1, m->list);
		if (rc < 0)
			return cu_fail(d, rc,
				       "no kernel takes %u tokens of this "
				       "model",
				       key.n);
	}
	return 0;
}

static int pinned_new(struct cu_dev *d, uint64_t bytes, void **p)
{
	uint64_t at;

	return bytes ? cu_pinned_new(d, bytes, p, &at) : 0;
}

/* All that is a device's; @d is this thread's. */
static int load_device(struct cu_dev *d, struct backend_model *m)
{
	void *p = NULL;
	int rc;

	rc = CU(d, cuCtxSetCurrent(d->ctx), "loading a model");
	if (!rc)
		rc = try_list(d, m);
	if (!rc)
		rc = check_room(d, m);
	if (!rc)
		rc = arena_new(d, &m->weights, CU_WEIGHTS,
			       m->plan.weight_bytes);
	if (!rc)
		rc = arena_new(d, &m->scratch, CU_SCRATCH,
			       m->plan.scratch_bytes);
	if (!rc)
		rc = cu_event_new(d, &m->done, false);
	if (!rc)
		rc = pinned_new(d, m->plan.out_bytes, &p);
	if (rc)
		return rc;
	m->out = p;
	p = NULL;
	rc = pinned_new(d, m->plan.rope_bytes, &p);
	if (rc)
		return rc;
	m->rope_host = p;
	p = NULL;
	rc = pinned_new(d, m->plan.x_bytes, &p);
	if (rc)
		return rc;
	m->x = p;
	rc = upload(d, m);
	return rc ? rc : room(d, &m->kv_left);
}

static int load_host(struct backend_model *m, const struct image *im,
		     struct tape *tape, int object, uint64_t bytes,
		     char why[160])
{
	uint32_t i;
	size_t n;
	int ret;

	ret = weights_map(&m->w, im, tape, object, bytes, why);
	if (!ret)
		ret = cuda_plan_build(&m->plan, im, tape, &m->w,
				      &m->be->dev.conf, why);
	if (ret)
		return ret;
	snprintf(why, WHY, "no memory for the model's tables");
	n = (size_t)m->plan.tape.n_ops * CUDA_LIST;
	m->list = calloc(n, sizeof(*m->list));
	m->need = calloc(n, sizeof(*m->need));
	if (!m->list || !m->need)
		return -ENOMEM;
	for (i = 0; i < TAPE_ROPE_N; i++) {
		m->inv_freq[i] =
			rope_freqs(&m->plan.tape, i, &m->w, m->plan.hp.n_rope);
		if (!m->inv_freq[i])
			return -ENOMEM;
	}
	return 0;
}

static int be_load(struct backend *be, const struct image *im,
		   const struct backend_part *part, int object, uint64_t bytes,
		   struct backend_model **out, char why[160])
{
	struct backend_model *m;
	struct tape tape;
	int ret;

	ret = tape_build_part(&tape, im, part, why);
	if (ret)
		return ret;
	m = calloc(1, sizeof(*m));
	if (!m) {
		tape_free(&tape);
		snprintf(why, WHY, "no memory for the model");
		return -ENOMEM;
	}
	m->be = be;
	ret = load_host(m, im, &tape, object, bytes, why);
	tape_free(&tape);
	pthread_mutex_lock(&be->loading);
	if (!ret) {
		ret = load_device(&be->up, m);
		if (be->up.lost)
			ret = -ENODEV;
		if (ret)
			snprintf(why, WHY, "%.*s", WHY - 1, be->up.why);
	}
	if (ret)
		model_free(&be->up, m);
	else
		hand_up(m);
	hand_over(be);
	pthread_mutex_unlock(&be->loading);
	if (!ret)
		*out = m;
	return ret;
}

static void be_info(const struct backend_model *m, struct backend_info *info)
{
	cuda_plan_info(&m->plan, m->kv_left, m->be->dev.granule, info);
	snprintf(info->text, sizeof(info->text), "cuda %.26s",
		 m->be->dev.id.name);
}

static int clear(struct cu_dev *d, uint64_t at, uint64_t bytes)
{
	return CU(d, cuMemsetD8Async(at, 0, bytes, d->compute),
		  "clearing the cache");
}

static int be_kv_alloc(struct backend_model *m, uint32_t n_blocks)
{
	struct cu_dev *d = &m->be->dev;
	uint64_t bytes;
	void *p = NULL;
	int rc;

	if (m->n_blocks || !n_blocks)
		return -EINVAL;
	bytes = cuda_plan_block(&m->plan) * n_blocks;
	cuda_plan_context(&m->plan, n_blocks, &m->ctx);
	pthread_mutex_lock(&m->be->counting);
	rc = arena_new(d, &m->context, CU_SCRATCH, m->ctx.bytes);
	if (!rc)
		rc = arena_new(d, &m->kv, CU_KV, bytes);
	if (!rc)
		rc = pinned_new(d, m->ctx.in_bytes, &p);
	pthread_mutex_unlock(&m->be->counting);
	m->in = p;
	m->in_bytes = m->ctx.in_bytes;
	/* What no token has written yet is read, and counts nothing. */
	if (!rc)
		rc = clear(d, m->kv.at, bytes);
	if (!rc)
		rc = clear(d, m->context.at, m->ctx.bytes);
	if (rc) {
		log_warnx("cuda: %s", d->why);
		return d->lost ? -ENODEV : -EAGAIN;
	}
	m->n_blocks = n_blocks;
	return 0;
}

const struct backend_ops backend_cuda = {
	.name = "cuda",
	.device = be_device,
	.open = be_open,
	.close = be_close,
	.lay_out = weights_lay_out,
	.pack = weights_pack,
	.split = be_split,
	.load = be_load,
	.unload = be_unload,
	.info = be_info,
	.kv_alloc = be_kv_alloc,
	.step = cuda_step,
	.logits = cuda_logits,
};
