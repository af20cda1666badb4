/* SPDX-License-Identifier: MIT */
/* ptx_alu.c - arithmetic on registers, 32 lanes at a time. */
#include <math.h>
#include <string.h>

#include "ptx_ops.h"

/* Not every compiler has a type for it. */
float f16_of(uint64_t v)
{
	uint32_t m = (uint32_t)(v & 0x7fff) << 13;
	float f = f32_of(m) * 0x1p112f;

	if (m >= 0x0f800000) /* infinite, or no number */
		f = f32_of(m | 0x7f800000);
	return v & 0x8000 ? -f : f;
}

/* To the nearest, and of two to the even one. */
uint16_t of_f16(float f)
{
	uint32_t u = (uint32_t)of_f32(f), m = u & 0x7fffffff;
	uint16_t sign = (uint16_t)(u >> 16 & 0x8000);

	if (m > 0x7f800000)
		return 0x7fff;
	if (m >= 0x47800000)
		return sign | 0x7c00;
	if (m < 0x38800000) /* adding a half shifts its bits into place */
		return sign | (uint16_t)(of_f32(f32_of(m) + 0.5f) - 0x3f000000);
	m += 0xc8000fffu + (m >> 13 & 1);
	return sign | (uint16_t)(m >> 13);
}

uint16_t of_bf16(float f)
{
	uint32_t u = (uint32_t)of_f32(f);

	if (f != f)
		return 0x7fff;
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static double f64_of(uint64_t v)
{
	double d;

	memcpy(&d, &v, 8);
	return d;
}

static uint64_t of_f64(double d)
{
	uint64_t v;

	memcpy(&v, &d, 8);
	return v;
}

static float clamp01(float f)
{
	return f != f || f < 0 ? 0 : f > 1 ? 1 : f;
}

/* The operands of an instruction as rows of 32 values. */
#define ROWS                                                           \
	uint64_t *D = ptx_op_row(w, x, 0);                             \
	const uint64_t *A = ptx_op_row(w, x, 1);                       \
	const uint64_t *B = x->n_groups > 2 ? ptx_op_row(w, x, 2) : A; \
	const uint64_t *C = x->n_groups > 3 ? ptx_op_row(w, x, 3) : A; \
	int l;                                                         \
	(void)B, (void)C

#define INT_CASE(ty, ctype, expr)                               \
	case ty:                                                \
		EACH(l, ex)                                     \
		{                                               \
			ctype a = (ctype)A[l], b = (ctype)B[l]; \
			ctype c = (ctype)C[l];                  \
			(void)b, (void)c;                       \
			D[l] = (uint64_t)(ctype)(expr);         \
		}                                               \
		break;
/* A comma in EXPR would end the argument: none has one. */
#define UINT_CASES(expr)                \
	INT_CASE(T_U16, uint16_t, expr) \
	INT_CASE(T_U32, uint32_t, expr) \
	INT_CASE(T_U64, uint64_t, expr)
#define SINT_CASES(expr)               \
	INT_CASE(T_S16, int16_t, expr) \
	INT_CASE(T_S32, int32_t, expr) \
	INT_CASE(T_S64, int64_t, expr)
#define INT_CASES(expr) UINT_CASES(expr) SINT_CASES(expr)

#define HALF_CASE(ty, get, put, expr)                                      \
	case ty:                                                           \
		EACH(l, ex)                                                \
		{                                                          \
			float a = get(A[l]), b = get(B[l]), c = get(C[l]); \
			(void)b, (void)c;                                  \
			D[l] = put(expr);                                  \
		}                                                          \
		break;
#define HALF2_CASE(ty, get, put, expr)                                        \
	case ty:                                                              \
		EACH(l, ex)                                                   \
		{                                                             \
			uint64_t r = 0;                                       \
			int h;                                                \
			for (h = 0; h < 32; h += 16) {                        \
				float a = get(A[l] >> h), b = get(B[l] >> h); \
				float c = get(C[l] >> h);                     \
				(void)b, (void)c;                             \
				r |= (uint64_t)put(expr) << h;                \
			}                                                     \
			D[l] = r;                                             \
		}                                                             \
		break;
#define FLOAT_CASES(expr, expr64)                                  \
	HALF_CASE(T_F16, f16_of, of_f16, expr)                     \
	HALF_CASE(T_BF16, bf16_of, of_bf16, expr)                  \
	HALF2_CASE(T_F16X2, f16_of, of_f16, expr)                  \
	HALF2_CASE(T_BF16X2, bf16_of, of_bf16, expr)               \
	case T_F32:                                                \
		EACH(l, ex)                                        \
		{                                                  \
			float a = f32_of(A[l]), b = f32_of(B[l]);  \
			float c = f32_of(C[l]), r;                 \
			(void)b, (void)c;                          \
			r = (float)(expr);                         \
			D[l] = of_f32(x->sat ? clamp01(r) : r);    \
		}                                                  \
		break;                                             \
	case T_F64:                                                \
		EACH(l, ex)                                        \
		{                                                  \
			double a = f64_of(A[l]), b = f64_of(B[l]); \
			double c = f64_of(C[l]);                   \
			(void)b, (void)c;                          \
			D[l] = of_f64(expr64);                     \
		}                                                  \
		break;

static void no_type(struct ptx_warp *w, const struct ptx_insn *x)
{
	ptx_fault(w, x, -1, ERR_FAILED,
		  "the simulator lacks this type of \"%s\"", x->op->name);
}

#define INT_OP(name, expr)                                                   \
	void name(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex) \
	{                                                                    \
		ROWS;                                                        \
		switch (x->ty[0]) {                                          \
			INT_CASES(expr)                                      \
		default:                                                     \
			no_type(w, x);                                       \
		}                                                            \
	}
#define FLOAT_OP(name, expr, expr64)                                         \
	void name(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex) \
	{                                                                    \
		ROWS;                                                        \
		switch (x->ty[0]) {                                          \
			FLOAT_CASES(expr, expr64)                            \
		default:                                                     \
			no_type(w, x);                                       \
		}                                                            \
	}
#define BOTH_OP(name, expr, fexpr, fexpr64)                                  \
	void name(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex) \
	{                                                                    \
		ROWS;                                                        \
		switch (x->ty[0]) {                                          \
			INT_CASES(expr)                                      \
			FLOAT_CASES(fexpr, fexpr64)                          \
		default:                                                     \
			no_type(w, x);                                       \
		}                                                            \
	}

BOTH_OP(op_add, a + b, a + b, a + b)
BOTH_OP(op_sub, a - b, a - b, a - b)
BOTH_OP(op_mul, a *b, a *b, a *b)
BOTH_OP(op_min, a < b ? a : b, fminf(a, b), fmin(a, b))
BOTH_OP(op_max, a > b ? a : b, fmaxf(a, b), fmax(a, b))
BOTH_OP(op_neg, -a, -a, -a)
BOTH_OP(op_abs, a < 1 ? -a : a, fabsf(a), fabs(a))
INT_OP(op_mad, a *b + c)
FLOAT_OP(op_sqrt, sqrtf(a), sqrt(a))
FLOAT_OP(op_rsqrt, 1 / sqrtf(a), 1 / sqrt(a))
FLOAT_OP(op_rcp, 1 / a, 1 / a)
FLOAT_OP(op_ex2, exp2f(a), exp2(a))
FLOAT_OP(op_lg2, log2f(a), log2(a))
FLOAT_OP(op_tanh, tanhf(a), tanh(a))
FLOAT_OP(op_sin, sinf(a), sin(a))
FLOAT_OP(op_cos, cosf(a), cos(a))
FLOAT_OP(op_copysign, copysignf(b, a), copysign(b, a))

/* What a division by zero gives is not said; this is what the chip does. */
void op_div(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	ROWS;
	switch (x->ty[0]) {
		UINT_CASES(b == 0 ? b - 1 : a / b)
		SINT_CASES(b == 0 ? -1 : b == -1 ? -a : a / b)
		FLOAT_CASES(a / b, a / b)
	default:
		no_type(w, x);
	}
}

void op_rem(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	ROWS;
	switch (x->ty[0]) {
		UINT_CASES(b == 0 ? a : a % b)
		SINT_CASES(b == 0 ? a : b == -1 ? 0 : a % b)
	default:
		no_type(w, x);
	}
}

/* Products of 16-bit floats are exact in double, and so is one sum. */
static float fma16(float a, float b, float c)
{
	return (float)((double)a * (double)b + (double)c);
}

#define FMA_BODY(fma32)                                                \
	ROWS;                                                          \
	switch (x->ty[0]) {                                            \
		HALF_CASE(T_F16, f16_of, of_f16, fma16(a, b, c))       \
		HALF_CASE(T_BF16, bf16_of, of_bf16, fma16(a, b, c))    \
		HALF2_CASE(T_F16X2, f16_of, of_f16, fma16(a, b, c))    \
		HALF2_CASE(T_BF16X2, bf16_of, of_bf16, fma16(a, b, c)) \
	case T_F32:                                                    \
		EACH(l, ex)                                            \
		{                                                      \
			float r = fma32(f32_of(A[l]), f32_of(B[l]),    \
					f32_of(C[l]));                 \
			D[l] = of_f32(x->sat ? clamp01(r) : r);        \
		}                                                      \
		break;                                                 \
	case T_F64:                                                    \
		EACH(l, ex)                                            \
		{                                                      \
			D[l] = of_f64(fma(f64_of(A[l]), f64_of(B[l]),  \
					  f64_of(C[l])));              \
		}                                                      \
		break;                                                 \
	default:                                                       \
		no_type(w, x);                                         \
	}

static void fma_any(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	FMA_BODY(fmaf)
}

#if defined(__x86_64__)
/* The same, where the compiler may use the instruction. */
__attribute__((target("fma"))) static void
fma_x86(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	FMA_BODY(__builtin_fmaf)
}
#else
#define fma_x86			  fma_any
#define __builtin_cpu_supports(x) 0
#endif

void op_fma(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	if (__builtin_cpu_supports("fma"))
		fma_x86(w, x, ex);
	else
		fma_any(w, x, ex);
}

/* ---------------------------------------------------- wide and high halves */

#define WIDE_CASE(ty, from, to, shift, addend)                       \
	case ty:                                                     \
		EACH(l, ex)                                          \
		{                                                    \
			to v = (to)(from)A[l] * (to)(from)B[l];      \
			D[l] = (uint64_t)((uint64_t)(v >> (shift)) + \
					  (addend));                 \
		}                                                    \
		break;
#define WIDE_BODY(addend)                                       \
	ROWS;                                                   \
	switch (x->ty[0]) {                                     \
		WIDE_CASE(T_U16, uint16_t, uint32_t, 0, addend) \
		WIDE_CASE(T_S16, int16_t, int32_t, 0, addend)   \
		WIDE_CASE(T_U32, uint32_t, uint64_t, 0, addend) \
		WIDE_CASE(T_S32, int32_t, int64_t, 0, addend)   \
	default:                                                \
		no_type(w, x);                                  \
	}
#define HIGH_BODY(addend)                                                 \
	ROWS;                                                             \
	switch (x->ty[0]) {                                               \
		WIDE_CASE(T_U16, uint16_t, uint32_t, 16, addend)          \
		WIDE_CASE(T_S16, int16_t, int32_t, 16, addend)            \
		WIDE_CASE(T_U32, uint32_t, uint64_t, 32, addend)          \
		WIDE_CASE(T_S32, int32_t, int64_t, 32, addend)            \
		WIDE_CASE(T_U64, uint64_t, unsigned __int128, 64, addend) \
		WIDE_CASE(T_S64, int64_t, __int128, 64, addend)           \
	default:                                                          \
		no_type(w, x);                                            \
	}

void op_mulwide(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	WIDE_BODY(0)
}

void op_madwide(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	WIDE_BODY(C[l])
}

void op_mulhi(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	HIGH_BODY(0)
}

void op_madhi(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	HIGH_BODY(C[l])
}

/* ------------------------------------------------------------ dot products */

static int byte_of(uint64_t v, int i, int ty)
{
	return ty == T_S32 ? (int8_t)(v >> 8 * i) : (uint8_t)(v >> 8 * i);
}

void op_dp4a(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	int i;
	ROWS;

	EACH(l, ex)
	{
		uint32_t s = (uint32_t)C[l];

		for (i = 0; i < 4; i++)
			s += (uint32_t)(byte_of(A[l], i, x->ty[0]) *
					byte_of(B[l], i, x->ty[1]));
		D[l] = s;
	}
}

static void dp2a(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex,
		 int from)
{
	int i;
	ROWS;

	EACH(l, ex)
	{
		uint32_t s = (uint32_t)C[l];

		for (i = 0; i < 2; i++) {
			int a = x->ty[0] == T_S32 ? (int16_t)(A[l] >> 16 * i)
						  : (uint16_t)(A[l] >> 16 * i);

			s += (uint32_t)(a * byte_of(B[l], from + i, x->ty[1]));
		}
		D[l] = s;
	}
}

void op_dp2a_lo(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	dp2a(w, x, ex, 0);
}

void op_dp2a_hi(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	dp2a(w, x, ex, 2);
}
