/* SPDX-License-Identifier: MIT */
/* mat_c.c - quantisation of activations and products, plain C. */
#include <math.h>

#include "../shape.h"

static void act_quant_c(struct act *a, uint32_t t, const float *x)
{
	uint32_t b;
	int i;

	for (b = 0; b < a->cols / ACT_BLOCK; b++, x += ACT_BLOCK) {
		struct act_block *k = act_at(a, t, b);
		uint32_t top = 0, u;
		float amax, inv = 0;
		int sum[2] = { 0, 0 };

		/* as integers, so that a NaN is larger than all numbers */
		for (i = 0; i < ACT_BLOCK; i++) {
			u = fmt_float_bits(x[i]) & 0x7fffffff;
			top = u > top ? u : top;
		}
		amax = fmt_bits_float(top);
		k->d = 0;
		if (top >= 0x7f800000) {
			k->d = fmt_bits_float(0x7fc00000);
		} else if (amax >= ACT_TINY) {
			k->d = amax / 127.0f;
			inv = 127.0f / amax;
		}
		for (i = 0; i < ACT_BLOCK; i++) {
			k->q[i] = inv > 0 ? (int8_t)rintf(x[i] * inv) : 0;
			sum[i / 16] += k->q[i];
		}
		k->off = -128 * (sum[0] + sum[1]);
		k->ds = k->d * (float)(sum[0] + sum[1]);
		for (i = 0; i < 2; i++) {
			k->off16[i] = -128 * sum[i];
			k->ds16[i] = k->d * (float)sum[i];
		}
		k->pad = 0;
	}
}

/* One block of one token into the 16 sums of a panel. */
static void block_c(const struct shape *s, const struct group_block *w,
		    const struct act_block *x, float *acc)
{
	int shift = 8 - s->lo - s->hi, wide = s->group == ACT_BLOCK;
	int n = ACT_BLOCK / s->group, g, r, k;

	for (g = 0; g < n; g++) {
		int off = wide ? x->off : x->off16[g];
		float ds = wide ? x->ds : x->ds16[g];

		for (r = 0; r < MAT_PANEL; r++) {
			int isum = 0;

			for (k = g * s->group; k < (g + 1) * s->group; k++)
				isum += w->w[r][k] * x->q[k];
			if (s->kind == SHAPE_OFF)
				isum = isum * (1 << shift) + off;
			acc[r] = fmaf((float)isum, w->scale[g][r] * x->d,
				      acc[r]);
			if (s->kind != SHAPE_OFF)
				acc[r] = fmaf(w->min[g][r], ds, acc[r]);
		}
	}
}

static void store(const struct mat *m, uint32_t p, const float *acc, float *out,
		  bool add)
{
	uint32_t r;

	for (r = 0; r < MAT_PANEL && p * MAT_PANEL + r < m->rows; r++)
		out[p * MAT_PANEL + r] = add ? out[p * MAT_PANEL + r] + acc[r]
					     : acc[r];
}

#define TOKENS 16

static void mul_quant_c(const struct mat *m, uint32_t panel0, uint32_t panel1,
			const struct act *a, float *out, size_t out_stride,
			bool add)
{
	size_t bytes = mat_panel_bytes(m->fmt, m->cols);
	float acc[TOKENS][MAT_PANEL];
	struct group_block g;
	uint32_t p, t0, t, b, n;

	for (p = panel0; p < panel1; p++) {
		const uint8_t *panel = (const uint8_t *)m->data + p * bytes;

		for (t0 = 0; t0 < a->n; t0 += TOKENS) {
			n = a->n - t0 < TOKENS ? a->n - t0 : TOKENS;
			memset(acc, 0, sizeof(acc));
			for (b = 0; b < m->cols / ACT_BLOCK; b++) {
				shape_decode(m->fmt, m->cols, panel, b, &g);
				for (t = 0; t < n; t++)
					block_c(&shapes[m->fmt], &g,
						act_at(a, t0 + t, b), acc[t]);
			}
			for (t = 0; t < n; t++)
				store(m, p, acc[t], out + (t0 + t) * out_stride,
				      add);
		}
	}
}

static void mul_float_c(const struct mat *m, uint32_t panel0, uint32_t panel1,
			const struct act *a, float *out, size_t out_stride,
			bool add)
{
	const struct fmt_info *info = &fmt_info[m->fmt];
	size_t bytes = mat_panel_bytes(m->fmt, m->cols);
	float w[MAT_PANEL], acc[MAT_SUMS][MAT_PANEL];
	uint32_t p, t, k, r;

	for (p = panel0; p < panel1; p++) {
		const uint8_t *panel = (const uint8_t *)m->data + p * bytes;

		for (t = 0; t < a->n; t++) {
			const float *x = a->f + (size_t)t * a->cols;

			memset(acc, 0, sizeof(acc));
			for (k = 0; k < m->cols; k++) {
				float *s = acc[k % MAT_SUMS];

				info->dequant(panel + (size_t)k * MAT_PANEL *
							      info->bytes,
					      w, MAT_PANEL);
				for (r = 0; r < MAT_PANEL; r++)
					s[r] = fmaf(w[r], x[k], s[r]);
			}
			for (r = 0; r < MAT_PANEL; r++)
				acc[0][r] = (acc[0][r] + acc[1][r]) +
					    (acc[2][r] + acc[3][r]);
			store(m, p, acc[0], out + t * out_stride, add);
		}
	}
}

void mat_init_c(struct mat_kernels *k)
{
	int f;

	k->act_quant = act_quant_c;
	k->pack = mat_pack;
	for (f = 0; f < FMT_N; f++)
		k->mul[f] = mat_wants_q8(f) ? mul_quant_c : mul_float_c;
}
