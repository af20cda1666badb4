/* SPDX-License-Identifier: MIT */
/*
 * auto.c - the backend that is chosen: a GPU where there is one that works and
 * a model fits, else the CPU.
 *
 * Both compute the same bits from the same object, so it does not show in an
 * answer which of them it was, nor that it was one after the other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "log.h"
#include "weights.h"

struct on {
	const struct backend_ops *ops;
	struct backend *be; /* NULL: it is not there */
};

struct backend {
	struct on gpu;
	struct on cpu;
};

struct backend_model {
	const struct on *on;
	struct backend_model *m;
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

static int auto_load(struct backend *be, const struct image *im, int object,
		     uint64_t bytes, struct backend_model **out, char why[160])
{
	struct backend_model *m = calloc(1, sizeof(*m));
	int err = -ENODEV;

	if (!m) {
		snprintf(why, 160, "no memory for the model");
		return -ENOMEM;
	}
	if (be->gpu.be) {
		m->on = &be->gpu;
		err = m->on->ops->load(m->on->be, im, object, bytes, &m->m,
				       why);
		if (err && err != -ENODEV)
			log_warnx("model: on the CPU, not on the GPU (%s)",
				  why);
	}
	/* Others may be on a device that is gone: this process is done with. */
	if (err && (err != -ENODEV || !be->gpu.be)) {
		m->on = &be->cpu;
		err = m->on->ops->load(m->on->be, im, object, bytes, &m->m,
				       why);
	}
	if (err)
		free(m);
	else
		*out = m;
	return err;
}

static void auto_unload(struct backend *be, struct backend_model *m)
{
	(void)be;
	if (!m)
		return;
	m->on->ops->unload(m->on->be, m->m);
	free(m);
}

static void auto_info(const struct backend_model *m, struct backend_info *info)
{
	m->on->ops->info(m->m, info);
}

static int auto_kv_alloc(struct backend_model *m, uint32_t n_blocks)
{
	return m->on->ops->kv_alloc(m->m, n_blocks);
}

static int auto_step(struct backend_model *m, struct batch *b)
{
	return m->on->ops->step(m->m, b);
}

static int auto_logits(struct backend_model *m, uint32_t row, const float **x)
{
	return m->on->ops->logits(m->m, row, x);
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
