/* SPDX-License-Identifier: MIT */
/* top_c.c - first candidates and sums of rows of logits, in plain C. */
#include <math.h>

#include "../top.h"

/* Lanes: so that a step of the loop does not wait for the one before. */
#define LANES 8

bool top_finite(const float *x, uint32_t n)
{
	const uint32_t inf = 0x7f800000;
	uint32_t bad[LANES] = { 0 }, u, i, l, any = 0;

	for (i = 0; i + LANES <= n; i += LANES) {
		for (l = 0; l < LANES; l++) {
			memcpy(&u, x + i + l, sizeof(u));
			bad[l] |= (u & inf) == inf;
		}
	}
	for (; i < n; i++) {
		memcpy(&u, x + i, sizeof(u));
		any |= (u & inf) == inf;
	}
	for (l = 0; l < LANES; l++)
		any |= bad[l];
	return !any;
}

float top_max(const float *x, uint32_t n)
{
	float m[LANES], max = x[0];
	uint32_t i, l;

	for (l = 0; l < LANES; l++)
		m[l] = max;
	for (i = 0; i + LANES <= n; i += LANES)
		for (l = 0; l < LANES; l++)
			m[l] = x[i + l] > m[l] ? x[i + l] : m[l];
	for (; i < n; i++)
		max = x[i] > max ? x[i] : max;
	for (l = 0; l < LANES; l++)
		max = m[l] > max ? m[l] : max;
	return max;
}

/* ------------------------------------------------------------------ sums */

static double chunk_sum(const float *x, uint32_t n, float max)
{
	double lane[TOP_LANES] = { 0 };
	uint32_t i, l, w;

	for (i = 0; i < n; i += TOP_LANES) {
		w = n - i < TOP_LANES ? n - i : TOP_LANES;
		for (l = 0; l < w; l++)
			lane[l] += top_exp((double)x[i + l] - max);
	}
	for (w = TOP_LANES / 2; w; w /= 2)
		for (l = 0; l < w; l++)
			lane[l] += lane[l + w];
	return lane[0];
}

double top_sum(const float *x, uint32_t n, float max)
{
	uint32_t i, k;
	double z = 0;
	float m;

	for (i = 0; i < n; i += k) {
		k = n - i < TOP_CHUNK ? n - i : TOP_CHUNK;
		m = top_max(x + i, k);
		z += chunk_sum(x + i, k, m) * top_exp((double)m - max);
	}
	return z;
}

/* ------------------------------------------------------------ candidates */

/* Heaps: on top is what comes first, or last, of all that is in it. */
static inline bool above(const struct top_cand *a, const struct top_cand *b,
			 bool first)
{
	return first ? top_before(a, b) : top_before(b, a);
}

static inline void sift(struct top_cand *h, uint32_t n, uint32_t i, bool first)
{
	struct top_cand x = h[i];
	uint32_t c;

	while ((c = 2 * i + 1) < n) {
		if (c + 1 < n && above(&h[c + 1], &h[c], first))
			c++;
		if (!above(&h[c], &x, first))
			break;
		h[i] = h[c];
		i = c;
	}
	h[i] = x;
}

void top_sift(struct top_cand *c, uint32_t n, uint32_t i)
{
	sift(c, n, i, true);
}

void top_heap(struct top_cand *c, uint32_t n)
{
	uint32_t i;

	for (i = n / 2; i-- > 0;)
		sift(c, n, i, true);
}

uint32_t top_first(struct top_cand *c, const float *x, uint32_t n, uint32_t k)
{
	struct top_cand t;
	uint32_t i;

	if (k > n)
		k = n;
	for (i = 0; i < k; i++)
		c[i] = (struct top_cand){ x[i], i };
	for (i = k / 2; i-- > 0;)
		sift(c, k, i, false);
	for (i = k; i < n; i++) {
		/* Equal logits: the earlier one is in already. */
		if (!(x[i] > c[0].logit))
			continue;
		c[0] = (struct top_cand){ x[i], i };
		sift(c, k, 0, false);
	}
	for (i = k; i-- > 1;) {
		t = c[0];
		c[0] = c[i];
		c[i] = t;
		sift(c, i, 0, false);
	}
	while (k && c[k - 1].logit == -INFINITY)
		k--;
	return k;
}

void top_row(struct top_row *row, const float *x, uint32_t n)
{
	memset(row, 0, sizeof(*row));
	row->finite = top_finite(x, n);
	if (!row->finite)
		return;
	row->n = top_first(row->cand, x, n, TOP_N);
	row->sum = top_sum(x, n, row->cand[0].logit);
}
