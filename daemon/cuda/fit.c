/* SPDX-License-Identifier: MIT */
/* fit.c - a model's plan, put together from what backends and engine say. */
#include "fit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../libclient/why.h"
#include "cuda.h"
#include "../model.h"

/* What a plan is made of. */
struct fitter {
	struct fit *f;
	const struct image *im;
	const struct backend_conf *conf;
	const struct fit_machine *there;
	const struct fit_wish *wish;
	struct cuda_plan plan;	 /* of the GPU's layers */
	struct backend_info cpu; /* of the others */
	struct backend_info all;
	uint64_t gpu_least; /* bytes it takes there with one block */
	uint32_t layer0;    /* the GPU's first */
};

static int object_bytes(const struct image *im, uint64_t *bytes, char why[160])
{
	struct backend_layout l;
	int ret = weights_lay_out(im, &l, why);

	if (ret)
		return ret;
	*bytes = l.bytes;
	free(l.pieces);
	return 0;
}

/* Where the layers go. */
static int place(struct fitter *t)
{
	uint32_t n = t->im->h->hp.n_layer;
	int ret = 0;

	t->layer0 = n;
	if (t->wish->on == FIT_CPU || !t->there->has_gpu)
		return 0;
	if (t->wish->on == FIT_GPU)
		t->layer0 = 0;
	else if (t->conf->gpu_layers < 0)
		ret = cuda_plan_split(t->im, t->conf, t->there->gpu,
				      t->there->granule, t->wish->n_ctx,
				      &t->layer0, t->f->why);
	else if ((uint32_t)t->conf->gpu_layers < n)
		t->layer0 = n - (uint32_t)t->conf->gpu_layers;
	else
		t->layer0 = 0;
	if (ret == -ENOMEM)
		t->layer0 = n;
	return ret == -ENOMEM ? 0 : ret;
}

/* What a loaded model's info() would be. */
static int measure(struct fitter *t, char why[160])
{
	struct backend_part first = { .layer1 = t->layer0 };
	struct backend_part last = { .layer0 = t->layer0,
				     .layer1 = t->im->h->hp.n_layer };
	struct backend_info *a = &t->all;
	uint64_t left = t->there->gpu;
	struct cuda_need need;
	int ret = 0;

	if (t->layer0)
		ret = backend_cpu_measure(&t->cpu, t->im, &first, t->conf, why);
	*a = t->cpu;
	if (ret || last.layer0 == last.layer1)
		return ret;
	ret = cuda_plan_measure(&t->plan, t->im, &last, t->conf, why);
	if (ret)
		return ret;
	cuda_plan_need(&t->plan, 1, t->there->granule, &need);
	t->gpu_least = need.device;
	left -= left < need.weights ? left : need.weights;
	left -= left < need.scratch ? left : need.scratch;
	cuda_plan_info(&t->plan, left, t->there->granule, a);
	backend_info_add(a, &t->cpu);
	return 0;
}

/* Blocks and context, as the engine would have them. */
static int size(const struct fitter *t, uint32_t n_ctx, struct run_limits *lim,
		char why[160])
{
	const struct proc_load l = { .n_ctx = n_ctx };
	struct model_room room = { .free = t->there->host };

	if (t->gpu_least > t->there->gpu)
		return say_why(why, -ENOMEM,
			       "%u layers need %llu bytes on the GPU, %llu are "
			       "free",
			       t->im->h->hp.n_layer - t->layer0,
			       (unsigned long long)t->gpu_least,
			       (unsigned long long)t->there->gpu);
	room.free -= room.free < t->f->object ? room.free : t->f->object;
	room.free -= room.free / CONF_RESERVE;
	if (!room.free)
		return say_why(
			why, -ENOMEM,
			"the pool needs %llu bytes of the host's memory, "
			"%llu are free",
			(unsigned long long)t->f->object,
			(unsigned long long)t->there->host);
	return model_size(lim, &t->im->h->hp, &t->all, &l, t->wish->kv_bytes,
			  t->conf->max_seqs, &room, why);
}

/* The largest context that would be granted. */
static uint32_t max_ctx(const struct fitter *t)
{
	uint32_t low = 0, high = t->im->h->hp.n_ctx_train, mid;
	struct run_limits lim;
	char why[160];

	while (low < high) {
		mid = high - (high - low) / 2;
		if (size(t, mid, &lim, why))
			high = mid - 1;
		else
			low = mid;
	}
	return low;
}

static void fill(struct fitter *t, uint32_t n_blocks)
{
	struct fit_side *g = &t->f->gpu, *h = &t->f->host;
	struct cuda_need need;

	h->n_layer = t->layer0;
	h->weights = t->f->object;
	h->scratch = t->cpu.scratch_bytes;
	if (t->layer0 && t->layer0 < t->f->n_layer)
		h->scratch += (uint64_t)t->conf->max_tokens *
			      t->im->h->hp.n_embd * sizeof(float);
	h->kv = t->cpu.kv_block_bytes * n_blocks;
	g->n_layer = t->f->n_layer - t->layer0;
	if (g->n_layer) {
		cuda_plan_need(&t->plan, n_blocks, t->there->granule, &need);
		g->weights = need.weights;
		g->scratch = need.scratch;
		g->context = need.context;
		g->kv = need.kv;
		g->total = need.device;
		h->pinned = need.pinned;
	}
	h->total = h->weights + h->scratch + h->kv + h->pinned;
}

int fit_model(struct fit *f, const struct image *im,
	      const struct backend_conf *conf, const struct fit_machine *there,
	      const struct fit_wish *wish)
{
	struct fitter t = {
		.f = f, .im = im, .conf = conf, .there = there, .wish = wish
	};
	struct run_limits lim = { 0 };
	char why[160] = "";
	int ret;

	memset(f, 0, sizeof(*f));
	f->n_layer = im->h->hp.n_layer;
	ret = object_bytes(im, &f->object, f->why);
	if (!ret)
		ret = place(&t);
	if (!ret) {
		/* Why it is not all on the GPU stays. */
		ret = measure(&t, why);
		if (ret)
			memcpy(f->why, why, sizeof(f->why));
	}
	if (ret)
		goto out;
	f->block = t.all.kv_block_bytes;
	f->fits = !size(&t, wish->n_ctx, &lim, why);
	if (f->fits) {
		f->n_ctx = lim.n_ctx;
		f->n_blocks = lim.n_blocks;
	} else {
		/* What it would take all the same. */
		f->n_ctx = wish->n_ctx ? wish->n_ctx : im->h->hp.n_ctx_train;
		f->n_blocks = (uint32_t)kv_blocks_for(f->n_ctx);
		memcpy(f->why, why, sizeof(f->why));
	}
	f->max_ctx = max_ctx(&t);
	fill(&t, f->n_blocks);
out:
	cuda_plan_free(&t.plan);
	return ret;
}
