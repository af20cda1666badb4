/* SPDX-License-Identifier: MIT */
/*
 * check_ops.c - the vector kernels: every slot gives the bits of plain C on
 * every level, plain C is near an evaluation in double, and nothing is written
 * beside the result. With --bench it times them instead.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../kernels/vec.h"

#define GUARD	   32 /* floats on either side */
#define MAX_N	   4100
#define GUARD_BITS 0xa5a5a5a5u

/* of random attentions; a sanitizer makes each slow */
#ifdef HEARTH_SANITIZE
#define N_ATTN 60
#else
#define N_ATTN 250
#endif

static uint64_t rng = 20260117;

static uint32_t rnd(void)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng >> 32);
}

static float uniform(void)
{
	return (float)rnd() * 0x1p-31f - 1.0f;
}

/* libcheck notes each assertion that holds; there would be millions. */
#define MUST(cond, ...)                            \
	do {                                       \
		if (!(cond))                       \
			ck_abort_msg(__VA_ARGS__); \
	} while (0)

enum kind { PLAIN, OUTLIER, ZERO, TINY, HUGE_, SPECIAL, KINDS };

static void fill(float *x, uint32_t n, enum kind kind)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		x[i] = kind == ZERO ? 0.0f : uniform() * 3;
		if (kind == OUTLIER && rnd() % 50 == 0)
			x[i] *= 1000;
		if (kind == TINY)
			x[i] *= 0x1p-130f;
		if (kind == HUGE_)
			x[i] *= 0x1p+60f;
	}
	if (kind == SPECIAL && n) {
		x[rnd() % n] = INFINITY;
		x[rnd() % n] = -INFINITY;
		x[rnd() % n] = NAN;
		x[rnd() % n] = -0.0f;
	}
}

/* A result with guards. */
struct out {
	float mem[MAX_N + 2 * GUARD];
	float *p;
	uint32_t n;
};

static void out_init(struct out *o, uint32_t n, const float *from)
{
	const uint32_t g = GUARD_BITS;
	size_t i;

	for (i = 0; i < sizeof(o->mem) / 4; i++)
		memcpy(&o->mem[i], &g, 4);
	o->p = o->mem + GUARD;
	o->n = n;
	if (from)
		memcpy(o->p, from, n * sizeof(float));
}

static void out_guards(const struct out *o, const char *what)
{
	uint32_t i, v;

	for (i = 0; i < sizeof(o->mem) / 4; i++) {
		if (i >= GUARD && i < GUARD + o->n)
			continue;
		memcpy(&v, &o->mem[i], 4);
		MUST(v == GUARD_BITS, "%s: wrote at %d of %u", what,
		     (int)i - GUARD, o->n);
	}
}

static void same_bits(const struct out *a, const struct out *b,
		      const char *what, uint32_t level)
{
	uint32_t i;

	for (i = 0; i < a->n; i++) {
		if (isnan(a->p[i]) && isnan(b->p[i]))
			continue;
		MUST(!memcmp(&a->p[i], &b->p[i], 4),
		     "%s, %s: element %u of %u is %a, plain C has %a", what,
		     cpu_level_names[level], i, a->n, a->p[i], b->p[i]);
	}
	out_guards(a, what);
	out_guards(b, what);
}

static struct vec_kernels kernels[CPU_LEVEL_N];

static void setup(void)
{
	uint32_t i;

	for (i = 0; i < CPU_LEVEL_N; i++)
		vec_kernels_init(&kernels[i], (enum cpu_level)i);
}

static const uint32_t sizes[] = { 1,   2,    7,	   8,	 15,   16,  17,
				  31,  32,   33,   48,	 63,   64,  100,
				  127, 128,  255,  256,	 257,  511, 512,
				  576, 1000, 1024, 1290, 2048, 4096 };
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

#define FOR_EACH(n, kind)                       \
	for (size_t si = 0; si < N_SIZES; si++) \
		for (uint32_t n = sizes[si], kind = 0; kind < KINDS; kind++)

static void near(double got, double want, double tol, const char *what)
{
	if (isnan(want) || isinf(want) || isinf(got))
		return;
	MUST(fabs(got - want) <= tol, "%s: %.9g, should be %.9g", what, got,
	     want);
}

START_TEST(test_rmsnorm)
{
	static struct out a, b;
	static float x[MAX_N], w[MAX_N];
	double sum, s;
	uint32_t l, i;

	FOR_EACH(n, kind)
	{
		fill(x, n, kind);
		fill(w, n, PLAIN);
		out_init(&b, n, NULL);
		kernels[0].rmsnorm(b.p, x, w, n, 1e-5f);
		for (l = 1; l <= cpu_detect(); l++) {
			out_init(&a, n, NULL);
			kernels[l].rmsnorm(a.p, x, w, n, 1e-5f);
			same_bits(&a, &b, "rmsnorm", l);
			out_init(&a, n, x);
			kernels[l].rmsnorm(a.p, a.p, w, n, 1e-5f);
			same_bits(&a, &b, "rmsnorm in place", l);
		}
		if (kind > TINY)
			continue;
		for (sum = 0, i = 0; i < n; i++)
			sum += (double)x[i] * x[i];
		s = 1 / sqrt(sum / n + 1e-5);
		for (i = 0; i < n; i++)
			near(b.p[i], x[i] * s * w[i],
			     1e-6 * fabs(x[i] * s * w[i]) + 1e-38, "rmsnorm");
		kernels[0].rmsnorm(b.p, x, NULL, n, 1e-5f);
		for (l = 1; l <= cpu_detect(); l++) {
			out_init(&a, n, NULL);
			kernels[l].rmsnorm(a.p, x, NULL, n, 1e-5f);
			same_bits(&a, &b, "rmsnorm without weights", l);
		}
	}
}
END_TEST

START_TEST(test_add_scale)
{
	static struct out a, b;
	static float x[MAX_N], y[MAX_N];
	uint32_t l, i;

	FOR_EACH(n, kind)
	{
		fill(x, n, kind);
		fill(y, n, PLAIN);
		out_init(&b, n, y);
		kernels[0].add(b.p, x, n);
		kernels[0].scale(b.p, 1.7f, n);
		for (l = 1; l <= cpu_detect(); l++) {
			out_init(&a, n, y);
			kernels[l].add(a.p, x, n);
			kernels[l].scale(a.p, 1.7f, n);
			same_bits(&a, &b, "add, scale", l);
		}
		for (i = 0; kind == PLAIN && i < n; i++)
			near(b.p[i], ((double)x[i] + y[i]) * 1.7, 2e-6,
			     "add, scale");
	}
}
END_TEST

START_TEST(test_rope)
{
	static struct out a, b;
	static float x[MAX_N], c[MAX_N], s[MAX_N];
	uint32_t l, i, h, p, q;
	double angle;

	FOR_EACH(m, kind)
	{
		uint32_t n = m & ~1u;

		for (h = 0; h < 2 && n; h++) {
			fill(x, n, kind);
			for (i = 0; i < n / 2; i++) {
				p = h ? i : 2 * i;
				q = h ? i + n / 2 : 2 * i + 1;
				angle = uniform() * 100;
				c[p] = c[q] = (float)cos(angle);
				s[q] = (float)sin(angle);
				s[p] = -s[q];
			}
			out_init(&b, n, x);
			kernels[0].rope(b.p, c, s, n, h);
			for (l = 1; l <= cpu_detect(); l++) {
				out_init(&a, n, x);
				kernels[l].rope(a.p, c, s, n, h);
				same_bits(&a, &b, "rope", l);
			}
			for (i = 0; kind == PLAIN && i < n / 2; i++) {
				p = h ? i : 2 * i;
				q = h ? i + n / 2 : 2 * i + 1;
				near(b.p[p],
				     (double)x[p] * c[q] - (double)x[q] * s[q],
				     2e-6, "rope first");
				near(b.p[q],
				     (double)x[q] * c[q] + (double)x[p] * s[q],
				     2e-6, "rope second");
			}
		}
	}
}
END_TEST

static double act_double(uint32_t act, double x)
{
	double y = sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);

	return act == VEC_SILU ? x / (1 + exp(-x)) : 0.5 * x * (1 + tanh(y));
}

START_TEST(test_glu)
{
	static struct out a, b;
	static float g[MAX_N], u[MAX_N];
	uint32_t l, i, act;
	double want;

	FOR_EACH(n, kind)
	{
		for (act = 0; act < VEC_ACT_N; act++) {
			fill(g, n, kind);
			if (kind == PLAIN) /* the whole range of exp */
				for (i = 0; i < n; i++)
					g[i] *= (float)(rnd() % 40);
			fill(u, n, PLAIN);
			out_init(&b, n, NULL);
			kernels[0].glu[act](b.p, g, u, n);
			for (l = 1; l <= cpu_detect(); l++) {
				out_init(&a, n, g);
				kernels[l].glu[act](a.p, a.p, u, n);
				same_bits(&a, &b, "glu", l);
			}
			for (i = 0; kind <= TINY && i < n; i++) {
				want = act_double(act, g[i]) * u[i];
				/* gelu: exp magnifies the error of its
				 * argument, which is below 88 */
				near(b.p[i], want,
				     1e-6 * fabs(g[i] * u[i]) + 1e-37, "glu");
			}
		}
	}
}
END_TEST

START_TEST(test_exp)
{
	double x, e, worst = 0;

	for (x = -86.9; x < 88; x += 0.00037) {
		e = fabs(vec_exp((float)x) / exp((float)x) - 1);
		worst = e > worst ? e : worst;
	}
	MUST(worst < 2.5e-7, "exp: relative error %g", worst);
	ck_assert(vec_exp(0.0f) == 1.0f);
	ck_assert(vec_exp(-0.0f) == 1.0f);
	ck_assert(vec_exp(-87.5f) == 0.0f);
	ck_assert(vec_exp(-INFINITY) == 0.0f);
	ck_assert(isnan(vec_exp(NAN)));
	ck_assert(vec_exp(1000.0f) == vec_exp(88.0f));
}
END_TEST

START_TEST(test_f16)
{
	static uint16_t a[MAX_N + 1], b[MAX_N + 1];
	static float x[MAX_N];
	uint32_t l, i, v;
	float f;

	for (i = 0; i < 65536; i++) {
		f = vec_from_f16((uint16_t)i);
		MUST((i & 0x7fff) > 0x7c00 ? isnan(f) : vec_to_f16(f) == i,
		     "f16 %04x is %a", i, f);
	}
	/* Known values, and ties to even. */
	ck_assert(vec_from_f16(0x3c00) == 1.0f);
	ck_assert(vec_from_f16(0x0001) == 0x1p-24f);
	ck_assert(vec_from_f16(0x7bff) == 65504.0f);
	ck_assert_uint_eq(vec_to_f16(65519.99f), 0x7bff);
	ck_assert_uint_eq(vec_to_f16(65520.0f), 0x7c00);
	ck_assert_uint_eq(vec_to_f16(0x1p-25f), 0);
	ck_assert_uint_eq(vec_to_f16(0x1.8p-24f), 2);
	ck_assert_uint_eq(vec_to_f16(0x1.002p+0f), 0x3c00);
	ck_assert_uint_eq(vec_to_f16(0x1.006p+0f), 0x3c02);
	for (l = 1; l <= cpu_detect(); l++)
		FOR_EACH(n, kind)
		{
			fill(x, n, kind);
			for (i = 0; i < n && kind == PLAIN; i++) {
				v = rnd(); /* any bits at all */
				memcpy(&x[i], &v, 4);
			}
			for (i = 0; i < n && kind == OUTLIER; i++)
				x[i] *= 0x1p-15f; /* denormal halves */
			a[n] = b[n] = 0xa5a5;
			kernels[0].to_f16(b, x, n);
			kernels[l].to_f16(a, x, n);
			for (i = 0; i <= n; i++)
				MUST(a[i] == b[i],
				     "to_f16 of %a: %04x, not %04x", x[i], a[i],
				     b[i]);
		}
}
END_TEST

/* ---------------------------------------------------------- attention */

#define A_BLOCKS 128
#define A_DIM	 256

enum trouble { NONE, VALUES, KEYS, TROUBLES };

struct attn_case {
	uint32_t dim, group, n_tok, pos, window;
	enum trouble trouble;
};

struct attn_mem {
	uint16_t kv[A_BLOCKS][2 * A_DIM * VEC_ATTN_BLOCK];
	uint32_t blocks[A_BLOCKS];
	float q[VEC_ATTN_ROWS * A_DIM];
	float out[CPU_LEVEL_N][VEC_ATTN_ROWS * A_DIM + 2];
	float single[VEC_ATTN_ROWS * A_DIM];
};

static uint16_t *key_at(struct attn_mem *m, uint32_t pos, uint32_t d)
{
	return &m->kv[m->blocks[pos / VEC_ATTN_BLOCK]]
		     [d * VEC_ATTN_BLOCK + pos % VEC_ATTN_BLOCK];
}

static uint16_t *value_at(struct attn_mem *m, uint32_t dim, uint32_t pos,
			  uint32_t d)
{
	return &m->kv[m->blocks[pos / VEC_ATTN_BLOCK]]
		     [(VEC_ATTN_BLOCK + pos % VEC_ATTN_BLOCK) * dim + d];
}

/* Values of the last token overflowed, or keys of some positions in a row. */
static void attn_spoil(struct attn_mem *m, const struct attn_case *c)
{
	uint32_t end = c->pos + c->n_tok, p = end - 1, n;

	if (c->trouble == VALUES) {
		*value_at(m, c->dim, p, 0) = 0x7c00;
		*value_at(m, c->dim, p, c->dim - 1) = 0x7e00;
		return;
	}
	n = rnd() % 2 ? 1 : VEC_ATTN_BLOCK;
	p = rnd() % end;
	if (rnd() % 2) /* all that is seen of a block, maybe a span's first */
		p -= p % (rnd() % 2 ? VEC_ATTN_SPAN : VEC_ATTN_BLOCK);
	for (; n && p < end; n--, p++)
		*key_at(m, p, 0) = 0xfc00;
}

static void attn_fill(struct attn_mem *m, const struct attn_case *c)
{
	uint32_t i, j, p, d;

	memset(m->kv, 0xff, sizeof(m->kv)); /* stale: NaN */
	for (i = 0; i < A_BLOCKS; i++)
		m->blocks[i] = i;
	for (i = A_BLOCKS - 1; i; i--) {
		j = rnd() % (i + 1);
		p = m->blocks[i];
		m->blocks[i] = m->blocks[j];
		m->blocks[j] = p;
	}
	for (p = 0; p < c->pos + c->n_tok; p++) {
		for (d = 0; d < c->dim; d++) {
			*key_at(m, p, d) = vec_to_f16(uniform() * 2);
			*value_at(m, c->dim, p, d) = vec_to_f16(uniform() * 2);
		}
		/* largest scores differ from span to span */
		*key_at(m, p, 0) = vec_to_f16((float)(p / 150 % 5) - 2);
	}
	if (c->trouble)
		attn_spoil(m, c);
	for (i = 0; i < c->n_tok * c->group * c->dim; i++)
		m->q[i] = uniform() * (rnd() % 30 ? 1 : 20);
}

static struct vec_attn attn_of(struct attn_mem *m, const struct attn_case *c,
			       uint32_t first, uint32_t n, float *out)
{
	size_t row = (size_t)c->group * c->dim;
	struct vec_attn a = {
		.kv = m->kv[0],
		.stride = 2 * A_DIM * VEC_ATTN_BLOCK,
		.blocks = m->blocks,
		.head_dim = c->dim,
		.n_group = c->group,
		.n_tok = n,
		.pos = c->pos + first,
		.window = c->window,
		.scale = 1.0f / sqrtf((float)c->dim),
		.q = m->q + first * row,
		.q_stride = row,
		.out = out + first * row,
		.out_stride = row,
	};

	return a;
}

static void attn_double(struct attn_mem *m, const struct attn_case *c,
			uint32_t t, uint32_t g, double *out)
{
	const float *q = m->q + ((size_t)t * c->group + g) * c->dim;
	uint32_t last = c->pos + t, p, d, first;
	double w, sum = 0, s;

	first = c->window && last >= c->window ? last - c->window + 1 : 0;
	memset(out, 0, c->dim * sizeof(*out));
	for (p = first; p <= last; p++) {
		for (s = 0, d = 0; d < c->dim; d++)
			s += (double)q[d] * vec_from_f16(*key_at(m, p, d));
		w = exp(s / sqrt(c->dim));
		sum += w;
		for (d = 0; d < c->dim; d++)
			out[d] += w * vec_from_f16(*value_at(m, c->dim, p, d));
	}
	for (d = 0; d < c->dim; d++)
		out[d] /= sum;
}

static void attn_check(struct attn_mem *m, const struct attn_case *c)
{
	uint32_t n = c->n_tok * c->group * c->dim, l, i, t;
	const float guard = -12345.0f;
	double want[A_DIM];
	struct vec_attn a;

	attn_fill(m, c);
	for (l = 0; l <= cpu_detect(); l++) {
		m->out[l][n] = guard;
		a = attn_of(m, c, 0, c->n_tok, m->out[l]);
		kernels[l].attn(&a);
		ck_assert(m->out[l][n] == guard);
		for (t = 0; t < c->n_tok; t++) {
			a = attn_of(m, c, t, 1, m->single);
			kernels[l].attn(&a);
		}
		for (i = 0; i < n; i++) {
			if (isnan(m->out[0][i]) && isnan(m->out[l][i]) &&
			    isnan(m->single[i]))
				continue;
			MUST(!memcmp(&m->out[0][i], &m->out[l][i], 4),
			     "attn %s dim %u group %u tok %u pos %u window "
			     "%u: [%u] %a, plain C has %a",
			     cpu_level_names[l], c->dim, c->group, c->n_tok,
			     c->pos, c->window, i, m->out[l][i], m->out[0][i]);
			MUST(!memcmp(&m->single[i], &m->out[l][i], 4),
			     "attn %s dim %u group %u tok %u pos %u: [%u] "
			     "alone %a, together %a",
			     cpu_level_names[l], c->dim, c->group, c->n_tok,
			     c->pos, i, m->single[i], m->out[l][i]);
		}
	}
	for (i = 0; i < n; i++) {
		t = i / (c->group * c->dim);
		if (i % c->dim == 0)
			attn_double(m, c, t, i / c->dim % c->group, want);
		if (c->trouble == KEYS ||
		    (c->trouble == VALUES && t == c->n_tok - 1))
			continue;
		MUST(!isnan(m->out[0][i]), "attn: stale NaN");
		near(m->out[0][i], want[i % c->dim], 2e-5, "attn");
	}
}

static const uint32_t dims[] = { 8, 16, 40, 64, 80, 96, 100, 128, 256 };
static const uint32_t groups[] = { 1, 2, 3, 4, 5, 7, 8, 16, 32 };

START_TEST(test_attn)
{
	static const uint32_t windows[] = { 0, 0, 1, 5, 31, 32, 33, 100 };
	static struct attn_mem m;
	struct attn_case c;
	uint32_t i;

	for (i = 0; i < N_ATTN; i++) {
		c.dim = dims[rnd() % 9];
		c.group = groups[rnd() % 9];
		c.n_tok = 1 + rnd() % (VEC_ATTN_ROWS / c.group);
		c.pos = rnd() % (400 - c.n_tok);
		c.window = windows[rnd() % 8];
		c.trouble = i % 10 == 9 ? VALUES : i % 10 == 8 ? KEYS : NONE;
		attn_check(&m, &c);
	}
}
END_TEST

/* Where spans meet, and windows that begin in one. */
START_TEST(test_attn_spans)
{
	static const struct attn_case edges[] = {
		{ .n_tok = 1, .pos = 255 },
		{ .n_tok = 1, .pos = 256 },
		{ .n_tok = 1, .pos = 257 },
		{ .n_tok = 4, .pos = 254 },
		{ .n_tok = 9, .pos = 507 },
		{ .n_tok = 2, .pos = 1023 },
		{ .n_tok = 4, .pos = 253, .window = 255 },
		{ .n_tok = 4, .pos = 254, .window = 256 },
		{ .n_tok = 4, .pos = 510, .window = 256 },
		{ .n_tok = 4, .pos = 510, .window = 257 },
		{ .n_tok = 10, .pos = 254, .window = 3 },
		{ .n_tok = 10, .pos = 508, .window = 32 },
		{ .n_tok = 3, .pos = 900, .window = 700 },
		{ .n_tok = 3, .pos = 1024, .window = 512 },
	};
	static struct attn_mem m;
	struct attn_case c;
	uint32_t i, k;

	for (i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
		for (k = 0; k < TROUBLES; k++) {
			c = edges[i];
			c.trouble = (enum trouble)k;
			c.dim = dims[rnd() % 8];
			c.group = 1 + rnd() % 3;
			attn_check(&m, &c);
		}
	for (i = 0; i < N_ATTN / 5; i++) {
		c.dim = dims[rnd() % 8];
		c.group = 1 + rnd() % 4;
		c.n_tok = 1 + rnd() % 2;
		c.pos = 500 + rnd() % 1000;
		c.window = rnd() % 2 ? 0 : 200 + rnd() % 1000;
		c.trouble = i % 4 ? NONE : KEYS;
		attn_check(&m, &c);
	}
}
END_TEST

/* -------------------------------------------------------------- bench */

static double now(void)
{
	struct timespec t;

	/* its own time, not what others take of the core */
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#define BENCH(name, unit, per_call, call)                       \
	do {                                                    \
		double best = 1e9, t;                           \
		int k, r;                                       \
                                                                \
		for (r = 0; r < 7; r++) {                       \
			t = now();                              \
			for (k = 0; k < reps; k++)              \
				call;                           \
			t = (now() - t) / reps;                 \
			best = t < best ? t : best;             \
		}                                               \
		printf("%-14s %-7s %10.3f us %8.2f %s\n", name, \
		       cpu_level_names[l], best * 1e6,          \
		       (per_call) / best * 1e-9, unit);         \
	} while (0)

static void bench(void)
{
	static const struct attn_case cases[] = {
		{ .dim = 64, .group = 4, .n_tok = 1, .pos = 383 },
		{ .dim = 64, .group = 4, .n_tok = 8, .pos = 376 },
		{ .dim = 128, .group = 8, .n_tok = 4, .pos = 380 },
		{ .dim = 64, .group = 1, .n_tok = 1, .pos = 383 },
		{ .dim = 64, .group = 4, .n_tok = 1, .pos = 1023 },
		{ .dim = 64, .group = 4, .n_tok = 8, .pos = 1016 },
		{ .dim = 64, .group = 4, .n_tok = 1, .pos = 4095 },
		{ .dim = 64, .group = 4, .n_tok = 8, .pos = 4088 },
		{ .dim = 128, .group = 8, .n_tok = 1, .pos = 4095 },
		{ .dim = 128, .group = 8, .n_tok = 4, .pos = 4092 },
	};
	static struct attn_mem m;
	static float x[MAX_N], y[MAX_N], c1[MAX_N], s1[MAX_N], out[MAX_N];
	static uint16_t h[MAX_N];
	struct vec_attn a;
	char name[32];
	uint32_t l, i, seen;

	setup();
	fill(x, 4096, PLAIN);
	fill(y, 4096, PLAIN);
	fill(out, 4096, PLAIN);
	for (i = 0; i < 2048; i++) {
		c1[i] = cosf((float)(i / 2));
		s1[i] = i % 2 ? sinf((float)(i / 2)) : -sinf((float)(i / 2));
	}
	for (l = 0; l <= cpu_detect() && l <= CPU_AVX512; l++) {
		int reps = l ? 2000 : 100;

		BENCH("rope", "Gelem/s", 2048,
		      kernels[l].rope(out, c1, s1, 2048, false));
		BENCH("rmsnorm", "Gelem/s", 2048,
		      kernels[l].rmsnorm(out, x, y, 2048, 1e-5f));
		BENCH("rmsnorm4k", "Gelem/s", 4096,
		      kernels[l].rmsnorm(out, x, y, 4096, 1e-5f));
		BENCH("silu", "Gelem/s", 2048,
		      kernels[l].glu[VEC_SILU](out, x, y, 2048));
		BENCH("gelu", "Gelem/s", 2048,
		      kernels[l].glu[VEC_GELU_TANH](out, x, y, 2048));
		BENCH("to_f16", "Gelem/s", 2048, kernels[l].to_f16(h, x, 2048));
		for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			const struct attn_case *c = &cases[i];

			seen = c->pos + c->n_tok;
			reps = l ? (int)(100000 / seen) : 1;
			attn_fill(&m, c);
			a = attn_of(&m, c, 0, c->n_tok, m.out[l]);
			snprintf(name, sizeof(name), "attn%u-%ux%u@%u", c->dim,
				 c->n_tok, c->group, seen);
			BENCH(name, "GFMA/s",
			      2.0 * c->dim * c->group * c->n_tok * seen,
			      kernels[l].attn(&a));
		}
	}
}

int main(int argc, char **argv)
{
	Suite *s;
	SRunner *r;
	TCase *t;
	int failed;

	if (argc > 1 && !strcmp(argv[1], "--bench")) {
		bench();
		return 0;
	}
	s = suite_create("ops");
	t = tcase_create("ops");
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, test_rmsnorm);
	tcase_add_test(t, test_add_scale);
	tcase_add_test(t, test_rope);
	tcase_add_test(t, test_glu);
	tcase_add_test(t, test_exp);
	tcase_add_test(t, test_f16);
	tcase_add_test(t, test_attn);
	tcase_add_test(t, test_attn_spans);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
