/* SPDX-License-Identifier: MIT */
/* mat.c - packing, taking apart and sizing of matrices and activations. */
#include "mat.h"

#include <string.h>

#include "shape.h"

_Static_assert(sizeof(struct act_block) == 64, "one cache line");

bool mat_wants_q8(enum fmt f)
{
	return shapes[f].lo != 0;
}

uint64_t mat_panel_bytes(enum fmt f, uint64_t cols)
{
	const struct shape *s = &shapes[f];
	const struct fmt_info *info = &fmt_info[f];
	uint64_t bytes;

	/* far above any real matrix, and far from overflow below */
	if (cols % info->block || cols > UINT32_MAX)
		return 0;
	if (!s->lo)
		bytes = cols * MAT_PANEL * info->bytes;
	else
		bytes = cols / ACT_BLOCK * shape_code_bytes(s) +
			cols / info->block * s->scale_bytes;
	return (bytes + MAT_ALIGN - 1) / MAT_ALIGN * MAT_ALIGN;
}

uint64_t mat_bytes(enum fmt f, uint64_t rows, uint64_t cols)
{
	uint64_t panel = mat_panel_bytes(f, cols), bytes;
	uint64_t n = rows / MAT_PANEL + (rows % MAT_PANEL != 0);

	if (__builtin_mul_overflow(n, panel, &bytes))
		return 0;
	return bytes;
}

/* Four codes of a row at once. */
static inline void put_quad(uint8_t *base, int row, uint32_t codes)
{
	memcpy(base + 4 * row, &codes, 4);
}

static inline uint32_t get_quad(const uint8_t *base, int row)
{
	uint32_t v;

	memcpy(&v, base + 4 * row, 4);
	return v;
}

/* Four quads of 2-bit fields at bit @pos, from the lowest bits up. */
static inline uint32_t four_quads(const uint32_t *v, int pos)
{
	return (v[0] >> pos & 0x03030303) | (v[1] >> pos & 0x03030303) << 2 |
	       (v[2] >> pos & 0x03030303) << 4 |
	       (v[3] >> pos & 0x03030303) << 6;
}

static inline void put_codes(uint8_t *base, int lo, int hi, int row,
			     const uint8_t *q)
{
	uint8_t *high = base + 64 * lo;
	uint32_t v[8], h = 0;
	int i;

	memcpy(v, q, sizeof(v));
	if (lo == 8) {
		for (i = 0; i < 8; i++)
			put_quad(base + 64 * i, row, v[i]);
	} else if (lo == 4) {
		for (i = 0; i < 4; i++)
			put_quad(base + 64 * i, row,
				 (v[i] & 0x0f0f0f0f) | (v[i + 4] & 0x0f0f0f0f)
							       << 4);
	} else {
		for (i = 0; i < 2; i++)
			put_quad(base + 64 * i, row, four_quads(v + 4 * i, 0));
	}
	if (hi == 1) {
		for (i = 0; i < 8; i++)
			h |= (v[i] >> lo & 0x01010101) << i;
		put_quad(high, row, h);
	} else if (hi == 2) {
		for (i = 0; i < 2; i++)
			put_quad(high + 64 * i, row, four_quads(v + 4 * i, lo));
	}
}

/* The same with constants, which the compiler makes straight code of. */
static void put_block(const struct shape *s, uint8_t *base, int row,
		      const uint8_t *q)
{
	switch (s->lo << 4 | s->hi) {
	case 0x80:
		put_codes(base, 8, 0, row, q);
		break;
	case 0x40:
		put_codes(base, 4, 0, row, q);
		break;
	case 0x41:
		put_codes(base, 4, 1, row, q);
		break;
	case 0x42:
		put_codes(base, 4, 2, row, q);
		break;
	case 0x20:
		put_codes(base, 2, 0, row, q);
		break;
	case 0x21:
		put_codes(base, 2, 1, row, q);
		break;
	}
}

static inline void get_codes(const uint8_t *base, int lo, int hi, int row,
			     uint8_t *q)
{
	const uint8_t *high = base + 64 * lo;
	uint32_t v;
	int i;

	for (i = 0; i < 8; i++) {
		if (lo == 8)
			v = get_quad(base + 64 * i, row);
		else if (lo == 4)
			v = get_quad(base + 64 * (i & 3), row) >>
				    ((i >> 2) * 4) &
			    0x0f0f0f0f;
		else
			v = get_quad(base + 64 * (i >> 2), row) >>
				    ((i & 3) * 2) &
			    0x03030303;
		if (hi == 1)
			v |= (get_quad(high, row) >> i & 0x01010101) << lo;
		else if (hi == 2)
			v |= (get_quad(high + 64 * (i >> 2), row) >>
				      ((i & 3) * 2) &
			      0x03030303)
			     << lo;
		memcpy(q + 4 * i, &v, 4);
	}
}

static void put_scales(const struct shape *s, uint32_t block, uint8_t *base,
		       int row, const struct fmt_codes *c)
{
	uint8_t *p = base + 32 * (s->kind == SHAPE_OFF ? 1 : 2);
	uint32_t g, groups = block / s->group;

	memcpy(base + 2 * row, &c->d, 2);
	if (s->kind != SHAPE_OFF)
		memcpy(base + 32 + 2 * row, &c->m, 2);
	if (block == ACT_BLOCK)
		return;
	for (g = 0; g < groups; g++) {
		if (s->kind == SHAPE_SUB && s->group == 16) {
			p[16 * g + row] = (uint8_t)(c->sc[g] | c->mn[g] << 4);
			continue;
		}
		p[16 * g + row] = (uint8_t)c->sc[g];
		if (s->kind == SHAPE_SUB)
			p[16 * (groups + g) + row] = c->mn[g];
	}
}

/* d * sc and m * mn of the groups of row @row in the 32 columns from 32 * b. */
static void get_scales(const struct shape *s, uint32_t block,
		       const uint8_t *base, int row, uint32_t b, float ds[2],
		       float ms[2])
{
	const uint8_t *p = base + 32 * (s->kind == SHAPE_OFF ? 1 : 2);
	uint32_t groups = block / s->group, n = ACT_BLOCK / s->group, i, g;
	uint16_t d, m = 0;
	int sc, mn;

	memcpy(&d, base + 2 * row, 2);
	if (s->kind != SHAPE_OFF)
		memcpy(&m, base + 32 + 2 * row, 2);
	for (i = 0; i < n; i++) {
		g = b % (block / ACT_BLOCK) * n + i;
		sc = mn = 1;
		if (block != ACT_BLOCK) {
			sc = (int8_t)p[16 * g + row];
			if (s->kind == SHAPE_SUB && s->group == 16) {
				mn = p[16 * g + row] >> 4;
				sc &= 15;
			} else if (s->kind == SHAPE_SUB) {
				mn = p[16 * (groups + g) + row];
			}
		}
		ds[i] = f16_to_f32(d) * (float)sc;
		ms[i] = f16_to_f32(m) * (float)mn;
	}
}

static inline void pack_floats(size_t size, uint32_t cols, const uint8_t *src,
			       uint32_t n_rows, uint8_t *dst)
{
	size_t row_bytes = size * cols;
	uint32_t r, i;

	for (i = 0; i < cols; i++, src += size, dst += MAT_PANEL * size)
		for (r = 0; r < n_rows; r++)
			memcpy(dst + r * size, src + r * row_bytes, size);
}

void mat_pack(enum fmt f, uint32_t cols, const void *rows, uint32_t n_rows,
	      void *panel)
{
	const struct shape *s = &shapes[f];
	const struct fmt_info *info = &fmt_info[f];
	uint32_t per = info->block / ACT_BLOCK, unit = shape_code_bytes(s);
	uint64_t row_bytes = fmt_bytes(f, cols);
	uint8_t *dst = panel;
	uint8_t *scales = dst + (size_t)cols / ACT_BLOCK * unit;
	uint64_t bytes = mat_panel_bytes(f, cols);
	struct fmt_codes c;
	uint32_t r, b, i;

	if (!bytes)
		return;
	/* what no row covers: missing rows, and the end of the panel */
	if (n_rows < MAT_PANEL)
		memset(panel, 0, bytes);
	else
		memset((uint8_t *)panel + bytes - MAT_ALIGN, 0, MAT_ALIGN);
	if (!s->lo) {
		if (info->bytes == 4)
			pack_floats(4, cols, rows, n_rows, panel);
		else
			pack_floats(2, cols, rows, n_rows, panel);
		return;
	}
	for (b = 0; b < cols / info->block; b++) {
		for (r = 0; r < n_rows; r++) {
			s->codes((const uint8_t *)rows + r * row_bytes +
					 (size_t)b * info->bytes,
				 &c);
			put_scales(s, info->block, scales, (int)r, &c);
			for (i = 0; i < per; i++)
				put_block(s, dst + i * unit, (int)r,
					  c.q + 32 * i);
		}
		dst += per * unit;
		scales += s->scale_bytes;
	}
}

/* Is no half float, or float with these exponent bits, all ones there? */
static bool finite16(const uint8_t *p, size_t n, uint16_t exponent)
{
	uint16_t v, bad = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		memcpy(&v, p + 2 * i, 2);
		bad |= (v & exponent) == exponent;
	}
	return !bad;
}

static bool finite32(const uint8_t *p, size_t n)
{
	uint32_t v, bad = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		memcpy(&v, p + 4 * i, 4);
		bad |= (v & 0x7f800000) == 0x7f800000;
	}
	return !bad;
}

bool mat_panel_finite(enum fmt f, uint32_t cols, const void *panel)
{
	const struct shape *s = &shapes[f];
	uint32_t n = cols / fmt_info[f].block, b;
	const uint8_t *p = panel;

	if (f == FMT_F32)
		return finite32(p, (size_t)n * MAT_PANEL);
	if (!s->lo)
		return finite16(p, (size_t)n * MAT_PANEL,
				f == FMT_F16 ? 0x7c00 : 0x7f80);
	p += (size_t)cols / ACT_BLOCK * shape_code_bytes(s);
	for (b = 0; b < n; b++, p += s->scale_bytes)
		if (!finite16(p, s->kind == SHAPE_OFF ? 16 : 32, 0x7c00))
			return false;
	return true;
}

/* Codes and scales of one row in 32 columns. */
static void row_block(enum fmt f, uint32_t cols, const uint8_t *panel, int row,
		      uint32_t b, uint8_t *q, float ds[2], float ms[2])
{
	const struct shape *s = &shapes[f];
	uint32_t block = fmt_info[f].block, unit = shape_code_bytes(s);
	const uint8_t *scales = panel + (size_t)cols / ACT_BLOCK * unit;

	get_codes(panel + (size_t)b * unit, s->lo, s->hi, row, q);
	get_scales(s, block,
		   scales + (size_t)(b / (block / ACT_BLOCK)) * s->scale_bytes,
		   row, b, ds, ms);
}

void shape_decode(enum fmt f, uint32_t cols, const uint8_t *panel, uint32_t b,
		  struct group_block *g)
{
	const struct shape *s = &shapes[f];
	float ds[2] = { 0 }, ms[2] = { 0 };
	float unshift = 1.0f / (float)(1 << (8 - s->lo - s->hi));
	int r, i;

	for (r = 0; r < MAT_PANEL; r++) {
		row_block(f, cols, panel, r, b, g->w[r], ds, ms);
		for (i = 0; i < 2; i++) {
			g->scale[i][r] = ds[i];
			g->min[i][r] = ms[i];
			if (s->kind == SHAPE_OFF)
				g->scale[i][r] = ds[i] * unshift;
			else if (s->kind == SHAPE_SUB)
				g->min[i][r] = -ms[i];
		}
	}
}

void mat_row(const struct mat *m, uint32_t row, float *out)
{
	const struct shape *s = &shapes[m->fmt];
	const struct fmt_info *info = &fmt_info[m->fmt];
	const uint8_t *panel =
		(const uint8_t *)m->data +
		row / MAT_PANEL * mat_panel_bytes(m->fmt, m->cols);
	int offset = 1 << (s->lo + s->hi) >> 1;
	int r = row % MAT_PANEL, i;
	uint8_t q[ACT_BLOCK];
	float ds[2], ms[2];
	uint32_t b;

	if (!s->lo) {
		for (b = 0; b < m->cols; b++)
			info->dequant(panel + (16ul * b + r) * info->bytes,
				      out + b, 1);
		return;
	}
	for (b = 0; b < m->cols / ACT_BLOCK; b++, out += ACT_BLOCK) {
		row_block(m->fmt, m->cols, panel, r, b, q, ds, ms);
		for (i = 0; i < ACT_BLOCK; i++) {
			int g = i / s->group;

			if (s->kind == SHAPE_OFF)
				out[i] = ds[g] * (float)(q[i] - offset);
			else if (s->kind == SHAPE_ADD)
				out[i] = ds[g] * (float)q[i] + ms[g];
			else
				out[i] = ds[g] * (float)q[i] - ms[g];
		}
	}
}

size_t act_bytes(uint32_t n, uint32_t cols)
{
	return (size_t)n * (cols / ACT_BLOCK) * sizeof(struct act_block);
}

void act_init(struct act *a, uint32_t n, uint32_t cols, void *mem)
{
	a->n = n;
	a->cols = cols;
	a->f = NULL;
	a->blk = mem;
}

void mat_kernels_init(struct mat_kernels *k, enum cpu_level level)
{
	memset(k, 0, sizeof(*k));
	mat_init_c(k);
	k->level = CPU_C;
#if defined(__x86_64__)
	if (level >= CPU_AVX2) {
		mat_init_avx2(k);
		k->level = CPU_AVX2;
	}
	if (level >= CPU_AVX512) {
		mat_init_avx512(k);
		k->level = CPU_AVX512;
	}
#else
	(void)level;
#endif
}
