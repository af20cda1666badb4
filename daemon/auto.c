/* SPDX-License-Identifier: MIT */
/*
 * auto.c - the backend that is chosen: a GPU where there is one that works and
 * a model fits, else the CPU.
 *
 * Both compute the same bits from the same object, so it does not show in an
 * answer which of them it was, nor that it was one after the other; nor that
 * each had some of the layers. Of a model that is too large for the GPU the CPU
 * has the first ones and the GPU the last: the output matrix, read whole for
 * each token, is worth fast memory, and of the embeddings a row is looked up.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "log.h"
#include "weights.h"

#define GPU_TRIES 2 /* to get memory there that others take, too */

struct on {
	const struct backend_ops *ops;
	struct backend *be; /* NULL: it is not there */
};

struct backend {
	struct on gpu;
	struct on cpu;
	int32_t gpu_layers;
	uint32_t max_tokens;
};

/**
 * struct side - one of them, and its layers of a model
 * @m: NULL: it has none
 */
struct side {
	const struct on *on;
	struct backend_model *m;
};

/**
 * struct backend_model - a model's layers, the CPU's and then the GPU's
 * @x: residual rows between the two, if both have some
 */
struct backend_model {
	struct side cpu;
	struct side gpu;
	uint32_t n_layer;
	uint32_t n_cpu;
	uint64_t x_bytes;
	float *x;
};

static void auto_close(struct backend *be)
{
	if (!be)
		return;
	if (be->gpu.be)
		be->gpu.ops->close(be->gpu.be);
	if (be->cpu.be)
		be->cpu.ops->close(be->cpu.be);
	free(be);
}

static bool auto_device(void)
{
	return backend_cuda.device();
}

static int auto_open(struct backend **out, const struct backend_conf *conf)
{
	struct backend *be = calloc(1, sizeof(*be));
	struct backend_conf c = *conf;
	char why[160] = "";
	int err;

	if (!be)
		return -ENOMEM;
	be->gpu_layers = conf->gpu_layers;
	be->max_tokens = conf->max_tokens;
	be->gpu.ops = &backend_cuda;
	be->cpu.ops = &backend_cpu;
	c.why = why;
	err = be->gpu.ops->open(&be->gpu.be, &c);
	if (err) {
		be->gpu.be = NULL;
		log_info("backend: cpu (%s)",
			 *why ? why : strerrordesc_np(-err));
	}
	err = be->cpu.ops->open(&be->cpu.be, conf);
	if (err) {
		be->cpu.be = NULL;
		auto_close(be);
		return err;
	}
	*out = be;
	return 0;
}

static void side_unload(struct side *s)
{
	if (s->m)
		s->on->ops->unload(s->on->be, s->m);
	s->m = NULL;
}

static void auto_unload(struct backend *be, struct backend_model *m)
{
	(void)be;
	if (!m)
		return;
	side_unload(&m->gpu);
	side_unload(&m->cpu);
	free(m->x);
	free(m);
}

/* What every layer has to have. */
struct source {
	const struct image *im;
	int object;
	uint64_t bytes;
	char *why;
};

static int side_load(struct side *s, const struct on *on,
		     const struct source *src, const struct backend_part *part)
{
	s->on = on;
	return on->ops->load(on->be, src->im, part, src->object, src->bytes,
			     &s->m, src->why);
}

/* The GPU's first layer; as many as there are is none of them. */
static uint32_t first_on_gpu(const struct backend *be, const struct image *im,
			     uint32_t n_ctx, char why[160])
{
	uint32_t n = im->h->hp.n_layer, layer0 = 0;

	if (be->gpu_layers >= 0) {
		snprintf(why, 160, "gpu-layers is %d", be->gpu_layers);
		layer0 = (uint32_t)be->gpu_layers;
		return layer0 < n ? n - layer0 : 0;
	}
	/* When it cannot be told, loading it will. */
	if (be->gpu.ops->split(be->gpu.be, im, n_ctx, &layer0, why) == -ENOMEM)
		return n;
	return layer0;
}

/* From layer @layer0 on to the GPU, what is before it to the CPU. */
static int load_split(struct backend *be, struct backend_model *m,
		      const struct source *src, uint32_t layer0, uint32_t n_ctx)
{
	struct backend_part first = { .layer1 = layer0, .n_ctx = n_ctx };
	struct backend_part last = { .layer0 = layer0,
				     .layer1 = m->n_layer,
				     .n_ctx = n_ctx };
	int err = 0;

	if (layer0) {
		m->x_bytes = (uint64_t)be->max_tokens * src->im->h->hp.n_embd *
			     sizeof(*m->x);
		m->x = malloc(m->x_bytes);
		if (!m->x) {
			snprintf(src->why, 160, "no memory between layers");
			return -ENOMEM;
		}
		err = side_load(&m->cpu, &be->cpu, src, &first);
	}
	if (!err)
		err = side_load(&m->gpu, &be->gpu, src, &last);
	if (err) {
		side_unload(&m->cpu);
		free(m->x);
		m->x = NULL;
		return err;
	}
	m->n_cpu = layer0;
	return 0;
}

static int load(struct backend *be, struct backend_model *m,
		const struct source *src, uint32_t n_ctx, uint32_t n_tries)
{
	uint32_t n = m->n_layer, layer0 = n;
	int err = be->gpu.be ? -ENOMEM : -ENODEV;

	if (n_tries >= GPU_TRIES)
		snprintf(src->why, 160, "others take its memory");
	else if (be->gpu.be)
		layer0 = first_on_gpu(be, src->im, n_ctx, src->why);
	if (layer0 < n)
		err = load_split(be, m, src, layer0, n_ctx);
	if (!err && layer0)
		log_info("model: layers 1 to %u of %u on the CPU, the others "
			 "on the GPU",
			 layer0, n);
	if (!err)
		return 0;
	if (be->gpu.be) {
		/* Others may be on a device that is gone: this process is
		 * done with. */
		if (err == -ENODEV)
			return err;
		log_warnx("model: on the CPU, not on the GPU (%s)", src->why);
	}
	m->n_cpu = n;
	return side_load(&m->cpu, &be->cpu, src, NULL);
}

/* Parts of it are not asked for: it makes them. */
static int auto_load(struct backend *be, const struct image *im,
		     const struct backend_part *part, int object,
		     uint64_t bytes, struct backend_model **out, char why[160])
{
	const struct source src = { im, object, bytes, why };
	struct backend_model *m = calloc(1, sizeof(*m));
	int err;

	if (!m) {
		snprintf(why, 160, "no memory for the model");
		return -ENOMEM;
	}
	m->n_layer = im->h->hp.n_layer;
	err = load(be, m, &src, part ? part->n_ctx : 0,
		   part ? part->n_tries : 0);
	if (err)
		auto_unload(be, m);
	else
		*out = m;
	return err;
}

static void auto_info(const struct backend_model *m, struct backend_info *info)
{
	struct backend_info cpu;
	char name[sizeof(info->text)];

	if (!m->gpu.m) {
		m->cpu.on->ops->info(m->cpu.m, info);
		return;
	}
	m->gpu.on->ops->info(m->gpu.m, info);
	if (!m->cpu.m)
		return;
	m->cpu.on->ops->info(m->cpu.m, &cpu);
	backend_info_add(info, &cpu);
	info->scratch_bytes += m->x_bytes;
	snprintf(name, sizeof(name), "cuda %u/%u, cpu %u/%u",
		 m->n_layer - m->n_cpu, m->n_layer, m->n_cpu, m->n_layer);
	memcpy(info->text, name, sizeof(info->text));
}

static int auto_kv_alloc(struct backend_model *m, uint32_t n_blocks)
{
	int err = 0;

	if (m->cpu.m)
		err = m->cpu.on->ops->kv_alloc(m->cpu.m, n_blocks);
	if (!err && m->gpu.m)
		err = m->gpu.on->ops->kv_alloc(m->gpu.m, n_blocks);
	return err;
}

static int auto_step(struct backend_model *m, struct batch *b)
{
	int err = 0;

	b->x = m->x;
	if (m->cpu.m)
		err = m->cpu.on->ops->step(m->cpu.m, b);
	if (!err && m->gpu.m)
		err = m->gpu.on->ops->step(m->gpu.m, b);
	return err;
}

static int auto_logits(struct backend_model *m, uint32_t row, float **x)
{
	return m->gpu.on->ops->logits(m->gpu.m, row, x);
}

const struct backend_ops backend_auto = {
	.name = "auto",
	.device = auto_device,
	.open = auto_open,
	.close = auto_close,
	.lay_out = weights_lay_out,
	.pack = weights_pack,
	.load = auto_load,
	.unload = auto_unload,
	.info = auto_info,
	.kv_alloc = auto_kv_alloc,
	.step = auto_step,
	.logits = auto_logits,
};
