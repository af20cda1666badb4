/* SPDX-License-Identifier: MIT */
/* cuda_mul.h - a product on the device and in plain C. */
#ifndef HEARTH_TESTS_CUDA_MUL_H
#define HEARTH_TESTS_CUDA_MUL_H

#include "cuda_rig.h"
#include "../kernels/vec.h"

#define EPS 1e-5f

static struct mat_kernels mk;
static struct vec_kernels vk;

/* A product, what it is made of and what it gives on the host: matrix() for each
 * matrix, input(), products(), run_job(). */
struct job {
	struct cuda_mat m[CU_MATS];
	float *bias[CU_MATS];
	float *want[CU_MATS];
	struct act_block *want_act;
	float *x;
	float *norm;
	struct act in;
	struct cu_mul p;
	uint32_t out_bytes[CU_MATS];
};

static inline float *floats(size_t n, enum acts kind)
{
	float *x = calloc(n, sizeof(*x));

	ck_assert_ptr_nonnull(x);
	fill_acts(kind, x, n);
	return x;
}

/* Quantised in a layout of [token][block], for comparing and for the device. */
static inline struct act_block *quantised(const float *x, uint32_t n,
					  uint32_t cols)
{
	struct act_block *blk = aligned_alloc(MAT_ALIGN, act_bytes(n, cols));
	struct act one;
	uint32_t t;

	ck_assert_ptr_nonnull(blk);
	for (t = 0; t < n; t++) {
		act_init(&one, 1, cols, blk + t * (cols / ACT_BLOCK));
		mk.act_quant(&one, 0, x + (size_t)t * cols);
	}
	return blk;
}

static inline void input(struct job *j, enum cu_in in, enum acts kind,
			 uint32_t n, uint32_t cols)
{
	bool quant = mat_wants_q8(j->m[0].host.fmt);
	float *x = floats((size_t)n * cols, kind);
	struct act_block *blk;
	uint32_t t;

	j->norm = floats(cols, A_NORMAL);
	j->p.in = (uint8_t)in;
	j->p.n = n;
	j->p.eps = EPS;
	if (in != CU_IN_ACT)
		j->p.x = dev_put(x, 4ul * n * cols);
	if (in == CU_IN_NORM) {
		j->p.norm = dev_put(j->norm, 4ul * cols);
		for (t = 0; t < n; t++)
			vk.rmsnorm(x + t * cols, x + t * cols, j->norm, cols,
				   EPS);
	}
	if (in == CU_IN_ACT) {
		blk = quantised(x, n, cols);
		j->p.act = dev_put(blk, act_bytes(n, cols));
		free(blk);
	}
	j->x = x;
	if (!quant) {
		act_init(&j->in, n, cols, NULL);
		j->in.f = x;
		return;
	}
	blk = aligned_alloc(MAT_ALIGN, act_bytes(n, cols));
	ck_assert_ptr_nonnull(blk);
	act_init(&j->in, n, cols, blk);
	for (t = 0; t < n; t++)
		mk.act_quant(&j->in, t, x + (size_t)t * cols);
}

static inline void matrix(struct job *j, enum fmt f, enum weights kind,
			  uint32_t rows, uint32_t cols, bool bias)
{
	uint32_t i = j->p.n_mats++;

	j->m[i] = cuda_mat_new(f, kind, rows, cols);
	j->p.m[i] = j->m[i].dev;
	if (!bias)
		return;
	j->bias[i] = floats(rows, A_NORMAL);
	j->p.bias[i] = dev_put(j->bias[i], 4ul * rows);
}

/* Products and biases in plain C. */
static inline void products(struct job *j, bool add)
{
	uint32_t i, t;

	for (i = 0; i < j->p.n_mats; i++) {
		const struct mat *m = &j->m[i].host;
		size_t n = (size_t)j->p.n * m->rows;

		j->want[i] = floats(n, A_NORMAL);
		j->out_bytes[i] = (uint32_t)(4 * n);
		if (!j->p.glu)
			j->p.out[i] = dev_put(j->want[i], 4 * n);
		mk.mul[m->fmt](m, 0, mat_panels(m), &j->in, j->want[i], m->rows,
			       add);
		for (t = 0; j->bias[i] && t < j->p.n; t++)
			vk.add(j->want[i] + t * m->rows, j->bias[i], m->rows);
	}
	j->p.add = add;
}

static inline void run_job(struct job *j, const char *what)
{
	uint32_t i;
	struct cu_launch l[CU_MATS];

	ck_assert_msg(j->p.n > CU_FEW || cu_mul_fits(&j->p, &chip), "%s", what);
	cuda_run(l, cu_launch_mul(l, &j->p, &chip));
	for (i = 0; i < j->p.n_mats; i++)
		if (j->p.out[i])
			dev_same(j->p.out[i], j->want[i], j->out_bytes[i] / 4,
				 what);
	if (j->p.act_out)
		dev_same_act(j->p.act_out, j->want_act,
			     (size_t)j->p.n * (j->m[0].host.rows / ACT_BLOCK),
			     what);
	for (i = 0; i < j->p.n_mats; i++) {
		cuda_mat_free(&j->m[i]);
		dev_free(j->p.bias[i]);
		dev_free(j->p.out[i]);
		free(j->bias[i]);
		free(j->want[i]);
	}
	dev_free(j->p.act_out);
	dev_free(j->p.act);
	dev_free(j->p.x);
	dev_free(j->p.norm);
	free(j->want_act);
	free(j->x);
	free(j->norm);
	free(j->in.blk);
}

static inline void start(int sim_seed)
{
	cuda_open(sim_seed);
	mat_kernels_init(&mk, CPU_C);
	vec_kernels_init(&vk, CPU_C);
}

static inline uint32_t wide(enum fmt f, uint32_t cols)
{
	return cols / fmt_info[f].block * fmt_info[f].block;
}

#endif
