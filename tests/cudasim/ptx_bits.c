/* SPDX-License-Identifier: MIT */
/* ptx_bits.c - bits, comparisons and conversions of registers. */
#include <math.h>
#include <string.h>

#include "ptx_ops.h"
#include "ptx_special.h"

#define EACH_LANE(expr)                                                        \
	do {                                                                   \
		uint64_t *D = ptx_op_row(w, x, 0);                             \
		const uint64_t *A = ptx_op_row(w, x, 1);                       \
		const uint64_t *B = x->n_groups > 2 ? ptx_op_row(w, x, 2) : A; \
		const uint64_t *C = x->n_groups > 3 ? ptx_op_row(w, x, 3) : A; \
		int l;                                                         \
                                                                               \
		(void)B, (void)C;                                              \
		EACH(l, ex) D[l] = cut((expr), x->ty[0]);                      \
	} while (0)
#define BIT_OP(name, expr)                                                   \
	void name(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex) \
	{                                                                    \
		EACH_LANE(expr);                                             \
	}

static uint64_t cut(uint64_t v, int ty)
{
	switch (ty == T_PRED ? 0 : ptx_type_size(ty)) {
	case 0:
		return v & 1;
	case 1:
		return (uint8_t)v;
	case 2:
		return (uint16_t)v;
	case 4:
		return (uint32_t)v;
	default:
		return v;
	}
}

static int64_t sign(uint64_t v, int ty)
{
	switch (ty) {
	case T_S8:
		return (int8_t)v;
	case T_S16:
		return (int16_t)v;
	case T_S32:
		return (int32_t)v;
	case T_S64:
		return (int64_t)v;
	default:
		return (int64_t)cut(v, ty);
	}
}

static uint64_t shift_left(uint64_t a, uint32_t n, int ty)
{
	return n >= (uint32_t)ptx_type_size(ty) * 8 ? 0 : a << n;
}

static uint64_t shift_right(uint64_t a, uint32_t n, int ty)
{
	uint32_t bits = (uint32_t)ptx_type_size(ty) * 8;

	if (ty >= T_S8 && ty <= T_S64)
		return (uint64_t)(sign(a, ty) >> (n >= bits ? bits - 1 : n));
	return n >= bits ? 0 : cut(a, ty) >> n;
}

static uint32_t funnel(uint64_t lo, uint64_t hi, uint32_t n, bool left)
{
	uint64_t v = hi << 32 | (uint32_t)lo;

	return (uint32_t)(left ? (v << n) >> 32 : v >> n);
}

static uint64_t reverse(uint64_t v, int ty)
{
	int i, n = ptx_type_size(ty) * 8;
	uint64_t r = 0;

	for (i = 0; i < n; i++)
		r |= (v >> i & 1) << (n - 1 - i);
	return r;
}

static uint64_t leading(uint64_t v, int ty)
{
	int n = ptx_type_size(ty) * 8;

	v = cut(v, ty);
	return v ? (uint64_t)(__builtin_clzll(v) - (64 - n)) : (uint64_t)n;
}

static uint64_t highest(uint64_t v, int ty)
{
	if (ty >= T_S8 && ty <= T_S64 && sign(v, ty) < 0)
		v = ~v;
	v = cut(v, ty);
	return v ? 63 - (uint64_t)__builtin_clzll(v) : 0xffffffff;
}

static uint64_t shift_to_top(uint64_t v, int ty)
{
	uint64_t at = highest(v, ty);

	return at == 0xffffffff ? at : (uint64_t)ptx_type_size(ty) * 8 - 1 - at;
}

static uint64_t field(uint64_t a, uint32_t at, uint32_t n, int ty)
{
	uint32_t bits = (uint32_t)ptx_type_size(ty) * 8;
	bool is_signed = ty >= T_S8 && ty <= T_S64;
	uint64_t v, top;

	at &= 0xff;
	n &= 0xff;
	if (!n)
		return 0;
	top = at + n - 1 < bits ? at + n - 1 : bits - 1;
	v = at >= bits ? 0 : cut(a, ty) >> at;
	v = n >= 64 ? v : v & ((UINT64_C(1) << n) - 1);
	if (is_signed && (a >> top & 1) && n < 64)
		v |= ~UINT64_C(0) << (at >= bits ? 0 : top - at + 1);
	return v;
}

static uint64_t insert(uint64_t a, uint64_t b, uint32_t at, uint32_t n)
{
	uint64_t m = (n &= 0xff) >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;

	at &= 0xff;
	if (at >= 64)
		return b;
	return (b & ~(m << at)) | (a & m) << at;
}

static uint32_t permute(uint64_t a, uint64_t b, uint32_t sel)
{
	uint64_t v = (uint32_t)a | b << 32;
	uint32_t r = 0;
	int i;

	for (i = 0; i < 4; i++, sel >>= 4) {
		uint8_t y = (uint8_t)(v >> 8 * (sel & 7));

		if (sel & 8)
			y = y & 0x80 ? 0xff : 0;
		r |= (uint32_t)y << 8 * i;
	}
	return r;
}

BIT_OP(op_and, A[l] & B[l])
BIT_OP(op_or, A[l] | B[l])
BIT_OP(op_xor, A[l] ^ B[l])
BIT_OP(op_not, ~A[l])
BIT_OP(op_shl, shift_left(A[l], (uint32_t)B[l], x->ty[0]))
BIT_OP(op_shr, shift_right(A[l], (uint32_t)B[l], x->ty[0]))
BIT_OP(op_shf_l, funnel(A[l], B[l], C[l] & 31, true))
BIT_OP(op_shf_r, funnel(A[l], B[l], C[l] & 31, false))
BIT_OP(op_shf_l_clamp,
       (uint32_t)C[l] > 31 ? A[l] : funnel(A[l], B[l], C[l] & 31, true))
BIT_OP(op_shf_r_clamp,
       (uint32_t)C[l] > 31 ? B[l] : funnel(A[l], B[l], C[l] & 31, false))
BIT_OP(op_popc, (uint64_t)__builtin_popcountll(cut(A[l], x->ty[0])))
BIT_OP(op_clz, leading(A[l], x->ty[0]))
BIT_OP(op_brev, reverse(A[l], x->ty[0]))
BIT_OP(op_bfind, highest(A[l], x->ty[0]))
BIT_OP(op_bfind_shift, shift_to_top(A[l], x->ty[0]))
BIT_OP(op_bfe, field(A[l], (uint32_t)B[l], (uint32_t)C[l], x->ty[0]))
BIT_OP(op_bfi,
       insert(A[l], B[l], (uint32_t)C[l], (uint32_t)ptx_op_row(w, x, 4)[l]))
BIT_OP(op_prmt, permute(A[l], B[l], (uint32_t)C[l]))
BIT_OP(op_selp, C[l] & 1 ? A[l] : B[l])

void op_lop3(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	const uint64_t lut = ptx_op_row(w, x, 4)[0];
	uint64_t *D = ptx_op_row(w, x, 0);
	const uint64_t *A = ptx_op_row(w, x, 1), *B = ptx_op_row(w, x, 2);
	const uint64_t *C = ptx_op_row(w, x, 3);
	int i, l;

	EACH(l, ex)
	{
		uint64_t r = 0;

		for (i = 0; i < 8; i++)
			if (lut >> i & 1)
				r |= (i & 4 ? A[l] : ~A[l]) &
				     (i & 2 ? B[l] : ~B[l]) &
				     (i & 1 ? C[l] : ~C[l]);
		D[l] = (uint32_t)r;
	}
}

/* Registers in braces are the halves, quarters, ... of the other operand. */
void op_mov(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	int nd = ptx_count(x, 0), na = ptx_count(x, 1), i, l;
	int bits = ptx_type_size(x->ty[0]) * 8;

	if (x->target >= 0) {
		EACH(l, ex)
		ptx_op_row(w, x, 0)[l] = ptx_special_read(w, x->target, l);
	} else if (nd == 1 && na == 1) {
		uint64_t *D = ptx_op_row(w, x, 0);
		const uint64_t *A = ptx_op_row(w, x, 1);

		if (ex == ~0u)
			memcpy(D, A, 32 * sizeof(*D));
		else
			EACH(l, ex) D[l] = A[l];
	} else {
		EACH(l, ex)
		{
			uint64_t v = 0, part;

			for (i = 0; i < na; i++) {
				part = ptx_row(w, ptx_arg(x, 1, i))[l];
				if (na > 1)
					part &= (UINT64_C(1) << bits / na) - 1;
				v |= part << i * (bits / na);
			}
			for (i = 0; i < nd; i++) {
				part = v >> i * (bits / nd);
				if (nd > 1)
					part &= (UINT64_C(1) << bits / nd) - 1;
				ptx_row(w, ptx_arg(x, 0, i))[l] = part;
			}
		}
	}
}

/* ---------------------------------------------------------- comparisons */

static double number(uint64_t v, int ty)
{
	double d;

	switch (ty) {
	case T_F16:
		return f16_of(v);
	case T_BF16:
		return bf16_of(v);
	case T_F32:
		return f32_of(v);
	default:
		memcpy(&d, &v, 8);
		return d;
	}
}

static bool is_float(int ty)
{
	return ty >= T_F16 && ty <= T_F64;
}

static bool holds(int cmp, int order)
{
	switch (cmp) {
	case CMP_EQ:
		return !order;
	case CMP_NE:
		return order;
	case CMP_LT:
		return order < 0;
	case CMP_LE:
		return order <= 0;
	case CMP_GT:
		return order > 0;
	default:
		return order >= 0;
	}
}

static bool compare(const struct ptx_insn *x, int ty, uint64_t a, uint64_t b)
{
	if (is_float(ty)) {
		double p = number(a, ty), q = number(b, ty);

		if (x->cmp == CMP_NUM || x->cmp == CMP_NAN)
			return (p != p || q != q) == (x->cmp == CMP_NAN);
		if (p != p || q != q)
			return x->unordered;
		return holds(x->cmp, (p > q) - (p < q));
	}
	if (ty >= T_S8 && ty <= T_S64) {
		int64_t p = sign(a, ty), q = sign(b, ty);

		return holds(x->cmp, (p > q) - (p < q));
	}
	a = cut(a, ty);
	b = cut(b, ty);
	return holds(x->cmp, (a > b) - (a < b));
}

static bool joined(const struct ptx_insn *x, bool r, uint64_t c)
{
	bool with = (c & 1) ^ (x->not_arg == 4);

	switch (x->n_groups > 3 ? x->sub : SUB_NONE) {
	case SUB_AND:
		return r && with;
	case SUB_OR:
		return r || with;
	case SUB_XOR:
		return r != with;
	default:
		return r;
	}
}

void op_setp(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	uint64_t *Q = ptx_count(x, 0) > 1 ? ptx_row(w, ptx_arg(x, 0, 1)) : NULL;
	const uint64_t *A = ptx_op_row(w, x, 1), *B = ptx_op_row(w, x, 2);
	const uint64_t *C = x->n_groups > 3 ? ptx_op_row(w, x, 3) : A;
	int l;

	EACH(l, ex)
	{
		bool r = compare(x, x->ty[0], A[l], B[l]);
		uint64_t c = C[l];

		D[l] = joined(x, r, c);
		if (Q)
			Q[l] = joined(x, !r, c);
	}
}

void op_set(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t yes = is_float(x->ty[0]) ? of_f32(1) : 0xffffffff;
	uint64_t *D = ptx_op_row(w, x, 0);
	const uint64_t *A = ptx_op_row(w, x, 1), *B = ptx_op_row(w, x, 2);
	const uint64_t *C = x->n_groups > 3 ? ptx_op_row(w, x, 3) : A;
	int l;

	EACH(l, ex)
	D[l] = joined(x, compare(x, x->ty[1], A[l], B[l]), C[l]) ? yes : 0;
}

#define TEST_OP(name, expr)                                                  \
	void name(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex) \
	{                                                                    \
		uint64_t *D = ptx_op_row(w, x, 0);                           \
		const uint64_t *A = ptx_op_row(w, x, 1);                     \
		int l;                                                       \
                                                                             \
		EACH(l, ex)                                                  \
		{                                                            \
			double v = number(A[l], x->ty[0]);                   \
			D[l] = (expr);                                       \
		}                                                            \
	}
TEST_OP(op_finite, isfinite(v) != 0)
TEST_OP(op_infinite, isinf(v) != 0)
TEST_OP(op_nan, v != v)

/* ---------------------------------------------------------- conversions */

static double rounded(double d, int round)
{
	switch (round) {
	case RN_NEAR:
		return nearbyint(d);
	case RN_DOWN:
		return floor(d);
	case RN_UP:
		return ceil(d);
	default:
		return trunc(d);
	}
}

static uint64_t to_int(double d, int ty)
{
	int bits = ptx_type_size(ty) * 8;
	double top = ldexp(1, ty >= T_S8 ? bits - 1 : bits);
	double low = ty >= T_S8 ? -top : 0;

	if (d != d)
		return 0;
	if (d <= low)
		return ty >= T_S8 ? (uint64_t)1 << (bits - 1) : 0;
	if (d >= top)
		return cut(~UINT64_C(0) >> (ty >= T_S8 ? 65 - bits : 0), ty);
	return cut(d < 0 ? (uint64_t)(int64_t)d : (uint64_t)d, ty);
}

static uint64_t clamp_int(uint64_t v, int from, int to)
{
	bool neg = from >= T_S8 && from <= T_S64 && sign(v, from) < 0;
	double d = neg ? (double)sign(v, from) : (double)cut(v, from);

	return to_int(d, to);
}

static uint64_t from_float(double d, int ty, bool sat)
{
	uint64_t v;

	if (sat && d <= 1)
		d = d > 0 ? d : 0;
	else if (sat)
		d = d > 1 ? 1 : 0;
	switch (ty) {
	case T_F16:
		return of_f16((float)d);
	case T_BF16:
		return of_bf16((float)d);
	case T_F32:
		return of_f32((float)d);
	default:
		memcpy(&v, &d, 8);
		return v;
	}
}

static uint64_t convert(const struct ptx_insn *x, int to, int from, uint64_t v)
{
	if (is_float(from)) {
		double d = number(v, from);

		if (!is_float(to))
			return to_int(rounded(d, x->round), to);
		/* cvt.rni.f32.f32 rounds to a whole number */
		if (to == from && x->round)
			d = rounded(d, x->round);
		return from_float(d, to, x->sat);
	}
	if (is_float(to)) {
		bool s = from >= T_S8 && from <= T_S64;

		if (to == T_F32 && !x->sat)
			return of_f32(s ? (float)sign(v, from)
					: (float)cut(v, from));
		return from_float(s ? (double)sign(v, from)
				    : (double)cut(v, from),
				  to, x->sat);
	}
	if (x->sat)
		return clamp_int(v, from, to);
	return (uint64_t)sign(cut((uint64_t)sign(v, from), to), to);
}

void op_cvt(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	const uint64_t *A = ptx_op_row(w, x, 1);
	int to = x->ty[0], l;

	if (to == T_F16X2 || to == T_BF16X2) {
		const uint64_t *B = ptx_op_row(w, x, 2);
		int half = to == T_F16X2 ? T_F16 : T_BF16;

		EACH(l, ex)
		D[l] = convert(x, half, T_F32, A[l]) << 16 |
		       convert(x, half, T_F32, B[l]);
		return;
	}
	EACH(l, ex) D[l] = convert(x, to, x->ty[1], A[l]);
}
