/* SPDX-License-Identifier: MIT */
/* quant.c - the table of tensor formats, expanded from quant.def. */
#include "quant.h"

#include <errno.h>

#include "shape.h"

#define FMT_HEADERS
#include "quant.def"
#undef FMT_HEADERS

/* A block to floats, in the order of operations that makes the result equal
 * to ggml's: all products are exact. */
static inline void expand(const struct fmt_codes *c, int block, int group,
			  enum shape_kind kind, int offset, float *y)
{
	float d = f16_to_f32(c->d), m = f16_to_f32(c->m), ds, ms;
	int g, i;

	for (g = 0; g < block / group; g++) {
		ds = d * (float)c->sc[g];
		ms = m * (float)c->mn[g];
		for (i = g * group; i < (g + 1) * group; i++) {
			if (kind == SHAPE_OFF)
				y[i] = ds * (float)(c->q[i] - offset);
			else if (kind == SHAPE_ADD)
				y[i] = ds * (float)c->q[i] + ms;
			else
				y[i] = ds * (float)c->q[i] - ms;
		}
	}
}

#define FLOAT_FMT(id, ggml, bytes, to, from)                            \
	static void dequant_##id(const void *src, float *dst, size_t n) \
	{                                                               \
		const uint8_t *s = src;                                 \
		uint32_t u = 0;                                         \
		size_t i;                                               \
                                                                        \
		for (i = 0; i < n; i++) {                               \
			memcpy(&u, s + i * (bytes), bytes);             \
			dst[i] = to(u);                                 \
		}                                                       \
	}                                                               \
	static void quant_##id(const float *src, void *dst, size_t n)   \
	{                                                               \
		uint8_t *d = dst;                                       \
		uint32_t u;                                             \
		size_t i;                                               \
                                                                        \
		for (i = 0; i < n; i++) {                               \
			u = from(src[i]);                               \
			memcpy(d + i * (bytes), &u, bytes);             \
		}                                                       \
	}
#define QUANT_FMT(id, ggml, x, block, lo, hi, group, kind)               \
	static void dequant_##id(const void *src, float *dst, size_t n)  \
	{                                                                \
		const struct x *b = src;                                 \
		struct fmt_codes c;                                      \
		size_t i;                                                \
                                                                         \
		for (i = 0; i < n / (block); i++) {                      \
			x##_codes(b + i, &c);                            \
			expand(&c, block, group, SHAPE_##kind,           \
			       1 << ((lo) + (hi)-1), dst + i * (block)); \
		}                                                        \
	}                                                                \
	static void quant_##id(const float *src, void *dst, size_t n)    \
	{                                                                \
		struct x *b = dst;                                       \
		size_t i;                                                \
                                                                         \
		for (i = 0; i < n / (block); i++)                        \
			x##_quant(src + i * (block), b + i);             \
	}                                                                \
	static void codes_##id(const void *src, struct fmt_codes *c)     \
	{                                                                \
		x##_codes(src, c);                                       \
	}
#include "quant.def"

#define FLOAT_FMT(id, ggml, size, to, from) \
	[FMT_##id] = { #id, ggml, 1, size, dequant_##id, quant_##id },
#define QUANT_FMT(id, ggml, x, n, lo, hi, group, kind)                   \
	[FMT_##id] = {                                                   \
		#id, ggml, n, sizeof(struct x), dequant_##id, quant_##id \
	},
const struct fmt_info fmt_info[FMT_N] = {
#include "quant.def"
};

#define SCALE_BYTES(block, group, kind)        \
	(32 * (1 + (kind != SHAPE_OFF)) +      \
	 ((block) == 32                        \
		  ? 0                          \
		  : 16 * ((block) / (group)) * \
			    (kind == SHAPE_SUB && (group) == 32 ? 2 : 1)))
#define FLOAT_FMT(id, ggml, size, to, from)
#define QUANT_FMT(id, ggml, x, n, lo, hi, group, kind)      \
	[FMT_##id] = { lo,                                  \
		       hi,                                  \
		       group,                               \
		       SHAPE_##kind,                        \
		       SCALE_BYTES(n, group, SHAPE_##kind), \
		       codes_##id },
const struct shape shapes[FMT_N] = {
#include "quant.def"
};

int fmt_from_ggml(uint32_t type)
{
	int f;

	for (f = 0; f < FMT_N; f++)
		if (fmt_info[f].ggml_type == type)
			return f;
	return -ENOTSUP;
}

const char *ggml_type_name(uint32_t type)
{
	/* clang-format off */
	static const char *const other[] = {
		[4] = "Q4_2", [5] = "Q4_3", [9] = "Q8_1", [15] = "Q8_K",
		[16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS",
		[19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",
		[22] = "IQ2_S", [23] = "IQ4_XS", [24] = "I8", [25] = "I16",
		[26] = "I32", [27] = "I64", [28] = "F64", [29] = "IQ1_M",
		[31] = "Q4_0_4_4", [32] = "Q4_0_4_8", [33] = "Q4_0_8_8",
		[34] = "TQ1_0", [35] = "TQ2_0", [36] = "IQ4_NL_4_4",
		[37] = "IQ4_NL_4_8", [38] = "IQ4_NL_8_8", [39] = "MXFP4",
		[40] = "NVFP4", [41] = "Q1_0", [42] = "Q2_0",
	};
	/* clang-format on */
	int f = fmt_from_ggml(type);

	if (f >= 0)
		return fmt_info[f].name;
	if (type < sizeof(other) / sizeof(other[0]))
		return other[type];
	return NULL;
}

uint64_t fmt_bytes(enum fmt f, uint64_t n)
{
	uint64_t blocks = n / fmt_info[f].block, bytes;

	if (n % fmt_info[f].block)
		return 0;
	if (__builtin_mul_overflow(blocks, (uint64_t)fmt_info[f].bytes, &bytes))
		return 0;
	return bytes;
}
