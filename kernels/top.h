/* SPDX-License-Identifier: MIT */
/*
 * top.h - what nearly every request needs of a row of logits: its first
 * candidates and the sum of its exponentials, for the CPU and for CUDA.
 *
 * A specification, bit for bit. Candidates come in order: the greater logit
 * first, of equals the smaller token. The sum is taken so that it can be in
 * parallel: the row is cut into chunks of TOP_CHUNK; lane l of a chunk adds
 * exp(x - m) of its elements l, l + TOP_LANES, ... in ascending order, m being
 * the greatest of the chunk; the lanes are added in a tree (l + 128, l + 64, ...
 * l + 1); and chunk by chunk that sum times exp(m - max) is added to the row's.
 * Nothing is contracted to a fused multiply-add.
 */
#ifndef HEARTH_KERNELS_TOP_H
#define HEARTH_KERNELS_TOP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define TOP_N	  64
#define TOP_CHUNK 4096
#define TOP_LANES 256

struct top_cand {
	float logit;
	uint32_t token;
};

/**
 * struct top_row - a row of logits in short
 * @sum:    of exp(x - greatest)
 * @n:      candidates: TOP_N, or as many as there are logits
 * @finite: not 0: all logits are finite; else the rest means nothing
 */
struct top_row {
	double sum;
	uint32_t n;
	uint32_t finite;
	struct top_cand cand[TOP_N];
};

#ifdef __CUDACC__
#define TOP_FN	  static __device__ __forceinline__
#define TOP_TABLE static __device__ const double
#else
#define TOP_FN	  static inline
#define TOP_TABLE static const double
#endif

/* The order of candidates. */
TOP_FN bool top_before(const struct top_cand *a, const struct top_cand *b)
{
	return a->logit > b->logit ||
	       (a->logit == b->logit && a->token < b->token);
}

/* 2^(i/64) */
TOP_TABLE top_pow64[64] = {
	0x1.0000000000000p+0, 0x1.02c9a3e778061p+0, 0x1.059b0d3158574p+0,
	0x1.0874518759bc8p+0, 0x1.0b5586cf9890fp+0, 0x1.0e3ec32d3d1a2p+0,
	0x1.11301d0125b51p+0, 0x1.1429aaea92de0p+0, 0x1.172b83c7d517bp+0,
	0x1.1a35beb6fcb75p+0, 0x1.1d4873168b9aap+0, 0x1.2063b88628cd6p+0,
	0x1.2387a6e756238p+0, 0x1.26b4565e27cddp+0, 0x1.29e9df51fdee1p+0,
	0x1.2d285a6e4030bp+0, 0x1.306fe0a31b715p+0, 0x1.33c08b26416ffp+0,
	0x1.371a7373aa9cbp+0, 0x1.3a7db34e59ff7p+0, 0x1.3dea64c123422p+0,
	0x1.4160a21f72e2ap+0, 0x1.44e086061892dp+0, 0x1.486a2b5c13cd0p+0,
	0x1.4bfdad5362a27p+0, 0x1.4f9b2769d2ca7p+0, 0x1.5342b569d4f82p+0,
	0x1.56f4736b527dap+0, 0x1.5ab07dd485429p+0, 0x1.5e76f15ad2148p+0,
	0x1.6247eb03a5585p+0, 0x1.6623882552225p+0, 0x1.6a09e667f3bcdp+0,
	0x1.6dfb23c651a2fp+0, 0x1.71f75e8ec5f74p+0, 0x1.75feb564267c9p+0,
	0x1.7a11473eb0187p+0, 0x1.7e2f336cf4e62p+0, 0x1.82589994cce13p+0,
	0x1.868d99b4492edp+0, 0x1.8ace5422aa0dbp+0, 0x1.8f1ae99157736p+0,
	0x1.93737b0cdc5e5p+0, 0x1.97d829fde4e50p+0, 0x1.9c49182a3f090p+0,
	0x1.a0c667b5de565p+0, 0x1.a5503b23e255dp+0, 0x1.a9e6b5579fdbfp+0,
	0x1.ae89f995ad3adp+0, 0x1.b33a2b84f15fbp+0, 0x1.b7f76f2fb5e47p+0,
	0x1.bcc1e904bc1d2p+0, 0x1.c199bdd85529cp+0, 0x1.c67f12e57d14bp+0,
	0x1.cb720dcef9069p+0, 0x1.d072d4a07897cp+0, 0x1.d5818dcfba487p+0,
	0x1.da9e603db3285p+0, 0x1.dfc97337b9b5fp+0, 0x1.e502ee78b3ff6p+0,
	0x1.ea4afa2a490dap+0, 0x1.efa1bee615a27p+0, 0x1.f50765b6e4540p+0,
	0x1.fa7c1819e90d8p+0,
};

/* e^x for x <= 0; 0 below -745, and for a NaN. */
TOP_FN double top_exp(double x)
{
	double k, r, p, scale;
	uint64_t bits;
	int n;

	if (!(x > -745))
		return 0;
	/* x = k ln 2 / 64 + r, |r| <= ln 2 / 128; ln 2 / 64 in two parts. */
	k = x * 0x1.71547652b82fep+6 + 0x1.8p52;
	k -= 0x1.8p52;
	r = (x - k * 0x1.62e42fe000000p-7) - k * 0x1.f473de6af278fp-36;
	p = 1 + r * (1 + r * (0.5 + r * (1.0 / 6 +
					 r * (1.0 / 24 + r * (1.0 / 120)))));
	n = (int)k;
	p *= top_pow64[n & 63];
	n >>= 6;
	if (n < -1000) {
		/* Through the subnormals in two steps. */
		p *= 0x1p-512;
		n += 512;
	}
	bits = (uint64_t)(n + 1023) << 52;
	memcpy(&scale, &bits, sizeof(scale));
	return p * scale;
}

#ifndef __CUDACC__
/* Are all of them finite? */
bool top_finite(const float *x, uint32_t n);

/* The greatest; none is a NaN. */
float top_max(const float *x, uint32_t n);

/* Sum of exp(x - max); -inf counts nothing. */
double top_sum(const float *x, uint32_t n, float max);

/* The @k first candidates but those of -inf, in order, into @c, which has room
 * for min(k, n). Return: how many. */
uint32_t top_first(struct top_cand *c, const float *x, uint32_t n, uint32_t k);

/* A heap with the first of its candidates on top; top_sift() when c[i] alone
 * may be out of place. */
void top_heap(struct top_cand *c, uint32_t n);
void top_sift(struct top_cand *c, uint32_t n, uint32_t i);

/* All of it. */
void top_row(struct top_row *row, const float *x, uint32_t n);
#endif

#endif
