/* SPDX-License-Identifier: MIT */
/*
 * panel.cuh - packed panels taken apart on the device, see ../shape.h.
 *
 * A format known at compile time is a class panel<FMT_...> made of its row in
 * quant.def; panel_case() gets from an enum fmt to the class. Pointers are to
 * device or shared memory.
 */
#pragma once
#include "../shape.h"
#include "vec.cuh"

/**
 * struct panel - a format: what struct shape has, and
 * @quant: false for float formats, which have only @bytes and to_float()
 * @block: elements in a block of the file
 * @groups: scale groups in a block
 * @shift: by which codes are shifted left until the offset is 128
 * @unit: bytes of 32 columns' codes
 * @scale_bytes: of a block, all 16 rows
 */
template <int F> struct panel;

#define FLOAT_FMT(id, ggml, bytes_, to, from)        \
	template <> struct panel<FMT_##id> {         \
		static constexpr bool quant = false; \
		static constexpr int bytes = bytes_; \
		DEV float to_float(uint32_t u)       \
		{                                    \
			return to(u);                \
		}                                    \
	};
#define QUANT_FMT(id, ggml, prefix, block_, lo_, hi_, group_, kind_)        \
	template <> struct panel<FMT_##id> {                                \
		static constexpr bool quant = true;                         \
		static constexpr int block = block_;                        \
		static constexpr int lo = lo_;                              \
		static constexpr int hi = hi_;                              \
		static constexpr int group = group_;                        \
		static constexpr int kind = SHAPE_##kind_;                  \
		static constexpr int groups = block / group;                \
		static constexpr int shift = 8 - lo - hi;                   \
		static constexpr int unit = (lo + hi) * 64;                 \
		static constexpr bool has_min = kind != SHAPE_OFF;          \
		static constexpr int scale_bytes =                          \
			(has_min ? 64 : 32) +                               \
			(block == ACT_BLOCK		    ? 0             \
			 : kind == SHAPE_SUB && group == 32 ? 32 * groups   \
							    : 16 * groups); \
	};
#include "../quant.def"

/* fn(panel<f>()) for a quantised format. */
template <class FN> DEV void panel_case(uint32_t f, FN fn)
{
	switch (f) {
#define FLOAT_FMT(id, ggml, bytes, to, from)
#define QUANT_FMT(id, ggml, prefix, block, lo, hi, group, kind) \
	case FMT_##id:                                          \
		fn(panel<FMT_##id>());                          \
		break;
#include "../quant.def"
	}
}

/* The same for a float format, and for any. */
template <class FN> DEV void panel_float_case(uint32_t f, FN fn)
{
	switch (f) {
#define FLOAT_FMT(id, ggml, bytes, to, from) \
	case FMT_##id:                       \
		fn(panel<FMT_##id>());       \
		break;
#define QUANT_FMT(id, ggml, prefix, block, lo, hi, group, kind)
#include "../quant.def"
	}
}

template <class FN> DEV void panel_any(uint32_t f, FN fn)
{
	panel_case(f, fn);
	panel_float_case(f, fn);
}

/* What mat_panel_bytes() gives. */
template <class P> DEV uint64_t panel_bytes(uint32_t cols)
{
	uint64_t n;

	if constexpr (P::quant)
		n = (uint64_t)(cols / ACT_BLOCK) * P::unit +
		    (uint64_t)(cols / P::block) * P::scale_bytes;
	else
		n = (uint64_t)cols * MAT_PANEL * P::bytes;
	return (n + MAT_ALIGN - 1) / MAT_ALIGN * MAT_ALIGN;
}

/* Where a panel's scales begin. */
template <class P> DEV uint64_t panel_scales_at(uint32_t cols)
{
	return (uint64_t)(cols / ACT_BLOCK) * P::unit;
}

/* Codes of quad @i of a row, offset not taken off; word(v) is the row's word of
 * vector @v of the 32 columns. */
template <class P, class FN> DEV uint32_t panel_quad_of(FN word, int i)
{
	uint32_t v;

	if constexpr (P::lo == 8)
		v = word(i);
	else if constexpr (P::lo == 4)
		v = word(i & 3) >> (i >> 2) * 4 & 0x0f0f0f0f;
	else
		v = word(i >> 2) >> (i & 3) * 2 & 0x03030303;
	if constexpr (P::hi == 1)
		v |= (word(P::lo) >> i & 0x01010101) << P::lo;
	else if constexpr (P::hi == 2)
		v |= (word(P::lo + (i >> 2)) >> (i & 3) * 2 & 0x03030303)
		     << P::lo;
	return v;
}

/* The same of @row in the 32 columns at @unit. */
template <class P> DEV uint32_t panel_quad(const uint8_t *unit, int row, int i)
{
	const uint32_t *w = (const uint32_t *)unit + row;

	return panel_quad_of<P>([=](int v) { return w[16 * v]; }, i);
}

/*
 * Codes as four int8_t for a dot product with activations. For formats with an
 * offset they are (code << shift) - 128, which makes the sum the one that
 * ../mat.h calls isum_g with the part that begins at -128 * sum_g in it.
 */
template <class P> DEV uint32_t panel_dot(uint32_t codes)
{
	return P::kind == SHAPE_OFF ? codes << P::shift ^ 0x80808080 : codes;
}

template <class P>
DEV uint32_t panel_dot_quad(const uint8_t *unit, int row, int i)
{
	return panel_dot<P>(panel_quad<P>(unit, row, i));
}

/**
 * struct panel_raw - scales of a group of a row, as they lie in the panel
 * @dm: d, and m in the upper half
 * @sc, @mn: bytes; both in @sc where they are nibbles
 */
struct panel_raw {
	uint32_t dm;
	uint8_t sc;
	uint8_t mn;
};

/* Of group @g of @row in the block whose scales are there. */
template <class P>
DEV struct panel_raw panel_raw_get(const uint8_t *scales, int row, int g)
{
	const uint8_t *p = scales + (P::has_min ? 64 : 32) + row;
	struct panel_raw r = { *(const uint16_t *)(scales + 2 * row), 1, 1 };

	if constexpr (P::has_min)
		r.dm |= *(const uint16_t *)(scales + 32 + 2 * row) << 16;
	if constexpr (P::block != ACT_BLOCK)
		r.sc = p[16 * g];
	if constexpr (P::block != ACT_BLOCK && P::group == 32 && P::has_min)
		r.mn = p[16 * (P::groups + g)];
	return r;
}

/* d * sc and m * mn of it. */
template <class P>
DEV void panel_raw_scale_min(struct panel_raw r, float *ds, float *ms)
{
	int sc = (int8_t)r.sc, mn = r.mn;

	if constexpr (P::block != ACT_BLOCK && P::group == 16 && P::has_min) {
		mn = r.sc >> 4;
		sc &= 15;
	}
	*ds = from_f16((uint16_t)r.dm) * (float)sc;
	*ms = 0;
	if constexpr (P::has_min)
		*ms = from_f16((uint16_t)(r.dm >> 16)) * (float)mn;
}

/* scale_g and min_g of ../mat.h, as shape_decode() gives them. */
template <class P>
DEV void panel_raw_group(struct panel_raw r, float *scale, float *min)
{
	panel_raw_scale_min<P>(r, scale, min);
	if (P::kind == SHAPE_OFF)
		*scale *= 1.0f / (1 << P::shift);
	else if (P::kind == SHAPE_SUB)
		*min = -*min;
}

/* The same of group @g of @row in the block whose scales are there. */
template <class P>
DEV void panel_group(const uint8_t *scales, int row, int g, float *scale,
		     float *min)
{
	panel_raw_group<P>(panel_raw_get<P>(scales, row, g), scale, min);
}

/* Element @k of a row of a panel of floats. */
template <class P>
DEV float panel_float(const uint8_t *panel, uint64_t k, uint32_t row)
{
	k = k * MAT_PANEL + row;
	return P::to_float(P::bytes == 4 ? ((const uint32_t *)panel)[k]
					 : ((const uint16_t *)panel)[k]);
}

/* Elements [4 * quad, 4 * quad + 4) of a row, as mat_row() gives them. */
template <class P>
DEV float4 panel_row_quad(const uint8_t *panel, uint32_t cols, int row,
			  uint32_t quad)
{
	uint32_t v, b = quad / 8;
	float y[4], ds, ms;
	int k;

	if constexpr (!P::quant) {
		for (k = 0; k < 4; k++)
			y[k] = panel_float<P>(panel, 4ull * quad + k, row);
		return make_float4(y[0], y[1], y[2], y[3]);
	} else {
		v = panel_quad<P>(panel + (uint64_t)b * P::unit, row, quad % 8);
		panel_raw_scale_min<P>(
			panel_raw_get<P>(
				panel + panel_scales_at<P>(cols) +
					(uint64_t)(4 * quad / P::block) *
						P::scale_bytes,
				row, 4 * quad % P::block / P::group),
			&ds, &ms);
		for (k = 0; k < 4; k++) {
			int q = v >> 8 * k & 255;

			if (P::kind == SHAPE_OFF)
				y[k] = ds * (float)(q - (128 >> P::shift));
			else if (P::kind == SHAPE_ADD)
				y[k] = ds * (float)q + ms;
			else
				y[k] = ds * (float)q - ms;
		}
		return make_float4(y[0], y[1], y[2], y[3]);
	}
}
