/* SPDX-License-Identifier: MIT */
/* backend.c - the CPU as a backend: opening it, models coming and going. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu.h"

static void be_close(struct backend *be)
{
	if (!be)
		return;
	workers_close(be->workers);
	free(be);
}

static int be_open(struct backend **out, const struct backend_conf *conf)
{
	enum cpu_level best = cpu_detect(), level = best;
	struct backend *be;
	int ret;

	if (!conf->max_tokens || !conf->max_seqs || !conf->max_out)
		return -EINVAL;
	be = calloc(1, sizeof(*be));
	if (!be)
		return -ENOMEM;
	be->conf = *conf;
	if (conf->cpu_level >= 0 && (enum cpu_level)conf->cpu_level < best)
		level = (enum cpu_level)conf->cpu_level;
	mat_kernels_init(&be->mk, level);
	vec_kernels_init(&be->vk, level);
	be->conf.n_threads = plan_threads(conf);
	ret = workers_open(&be->workers, be->conf.n_threads, conf->spin_us);
	if (ret) {
		be_close(be);
		return ret;
	}
	*out = be;
	return 0;
}

static void be_unload(struct backend *be, struct backend_model *m)
{
	(void)be;
	if (!m)
		return;
	if (m->kv)
		munmap(m->kv, m->kv_bytes);
	plan_free(m);
	weights_free(&m->w);
	free(m);
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
		snprintf(why, 160, "no memory for the model");
		ret = -ENOMEM;
		goto out;
	}
	m->be = be;
	ret = weights_map(&m->w, im, &tape, object, bytes, why);
	if (ret)
		goto out;
	ret = plan_build(m, im, &tape, why);
out:
	tape_free(&tape);
	if (ret)
		be_unload(be, m);
	else
		*out = m;
	return ret;
}

static void be_info(const struct backend_model *m, struct backend_info *info)
{
	plan_info(m, info);
	snprintf(info->text, sizeof(info->text), "cpu %s x%u",
		 cpu_level_names[m->be->mk.level],
		 workers_threads(m->be->workers));
}

static int be_kv_alloc(struct backend_model *m, uint32_t n_blocks)
{
	uint64_t bytes;
	void *p;

	if (m->kv || !n_blocks)
		return -EINVAL;
	if (__builtin_mul_overflow(kv_block_elems(&m->hp) * sizeof(*m->kv),
				   (uint64_t)n_blocks, &bytes))
		return -EOVERFLOW;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	madvise(p, bytes, MADV_HUGEPAGE);
	m->kv = p;
	m->kv_bytes = bytes;
	m->n_blocks = n_blocks;
	return 0;
}

const struct backend_ops backend_cpu = {
	.name = "cpu",
	.open = be_open,
	.close = be_close,
	.lay_out = weights_lay_out,
	.pack = weights_pack,
	.load = be_load,
	.unload = be_unload,
	.info = be_info,
	.kv_alloc = be_kv_alloc,
	.step = cpu_step,
};
