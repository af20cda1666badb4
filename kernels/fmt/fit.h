/* SPDX-License-Identifier: MIT */
/* fit.h - search for the scale (and minimum) that fits a group best. */
#ifndef HEARTH_FIT_H
#define HEARTH_FIT_H

#include <math.h>
#include <stdint.h>

#define FIT_TRIES 9

static inline int fit_code(float v, int lo, int hi)
{
	int q = (int)rintf(fminf(fmaxf(v, (float)lo), (float)hi));

	return q;
}

/* 1 / d, but 0 for a d so small that it would overflow. */
static inline float fit_inv(float d)
{
	return fabsf(d) > 0x1p-120f ? 1.0f / d : 0.0f;
}

/*
 * Scale d so that x ~ d * q with q in [lo, hi], lo < 0. The element of largest
 * magnitude is put near lo, the longer side; a least-squares fit to the codes
 * of a few starting points decides.
 */
static inline float fit_scale(const float *x, int n, int lo, int hi)
{
	float peak = 0, best = -1, best_d = 0;
	int i, k;

	for (i = 0; i < n; i++)
		if (fabsf(x[i]) > fabsf(peak))
			peak = x[i];
	if (fabsf(peak) < 0x1p-100f)
		return 0;
	for (k = 0; k < FIT_TRIES; k++) {
		float inv =
			((float)lo - 0.1f * (float)(k - FIT_TRIES / 2)) / peak;
		float xq = 0, qq = 0;

		for (i = 0; i < n; i++) {
			float q = (float)fit_code(x[i] * inv, lo, hi);

			xq += x[i] / peak * q;
			qq += q * q;
		}
		/* what the fit takes off the squared error */
		if (qq > 0 && xq * xq > best * qq) {
			best = xq * xq / qq;
			best_d = xq / qq * peak;
		}
	}
	return best_d;
}

/*
 * Scale d >= 0 and minimum m <= 0 so that x ~ d * q + m, q in [0, hi].
 */
static inline float fit_min(const float *x, int n, int hi, float *min)
{
	float lo = 0, top = 0, best = INFINITY, best_d = 0, best_m = 0;
	int i, k;

	for (i = 0; i < n; i++) {
		lo = fminf(lo, x[i]);
		top = fmaxf(top, x[i]);
	}
	*min = lo;
	if (top - lo < 0x1p-100f)
		return 0;
	for (k = 0; k < FIT_TRIES; k++) {
		float w = (float)hi + 0.1f * (float)(k - FIT_TRIES / 2);
		float inv = w / (top - lo);
		float q, s1 = 0, s2 = 0, sx = 0, sxq = 0, det, d, m, e, err = 0;

		for (i = 0; i < n; i++) {
			q = (float)fit_code((x[i] - lo) * inv, 0, hi);
			s1 += q;
			s2 += q * q;
			sx += x[i];
			sxq += x[i] * q;
		}
		det = (float)n * s2 - s1 * s1;
		if (det <= 0)
			continue;
		d = ((float)n * sxq - sx * s1) / det;
		m = (sx - d * s1) / (float)n;
		if (m > 0) {
			m = 0;
			d = sxq / s2;
		}
		for (i = 0; i < n; i++) {
			q = (float)fit_code((x[i] - lo) * inv, 0, hi);
			e = d * q + m - x[i];
			err += e * e;
		}
		if (d > 0 && err < best) {
			best = err;
			best_d = d;
			best_m = m;
		}
	}
	if (best_d > 0)
		*min = best_m;
	return best_d;
}

#endif
