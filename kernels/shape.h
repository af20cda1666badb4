/* SPDX-License-Identifier: MIT */
/*
 * shape.h - how each format's codes and scales lie in a packed panel.
 *
 * A panel of a quantised format has two parts, so that both are read in order:
 *
 * Codes, (lo + hi) * 64 bytes for each 32 columns. The 32 codes of a row are
 * eight quads of 4; a vector of 64 bytes holds a quad of all 16 rows, byte
 * 4 * row + k. Low bits come first:
 *	lo = 8	vector i holds quad i
 *	lo = 4	vector i holds quad i in the low nibbles, quad i + 4 in the high
 *	lo = 2	vector i holds quads 4i..4i+3 from the lowest bits up
 * then high bits:
 *	hi = 1	one vector, bit i is quad i's
 *	hi = 2	like lo = 2
 *
 * Scales, for each block of the format: half floats d[16] (one a row), then
 * m[16] if the format has minima; formats with scales of groups follow with
 * bytes sc[group][16], int8_t for OFF and uint8_t for SUB, then
 * mn[group][16]; but if a group is 16 wide and has a minimum, both are nibbles
 * of one byte, the minimum's the high one.
 *
 * A panel of a float format holds element k of the 16 rows side by side.
 */
#ifndef HEARTH_SHAPE_H
#define HEARTH_SHAPE_H

#include <stdint.h>

#include "fmt/fmt.h"
#include "mat.h"

enum shape_kind { SHAPE_OFF, SHAPE_ADD, SHAPE_SUB };

/**
 * struct shape - a row of quant.def as the packed side sees it
 * @lo, @hi: bits; 0 for float formats
 * @group: elements a scale
 * @kind: enum shape_kind
 * @scale_bytes: of a block, all 16 rows
 * @codes: a file block taken apart
 */
struct shape {
	uint8_t lo;
	uint8_t hi;
	uint8_t group;
	uint8_t kind;
	uint16_t scale_bytes;
	void (*codes)(const void *block, struct fmt_codes *c);
};

extern const struct shape shapes[FMT_N];

/* Bytes of 32 columns' codes. */
static inline uint32_t shape_code_bytes(const struct shape *s)
{
	return (s->lo + s->hi) * 64u;
}

/**
 * struct group_block - 32 columns of a panel, decoded, for plain C
 * @w: codes, offset not yet taken off
 * @scale: of each group, divided by 1 << shift for OFF
 * @min: what is added to each weight
 */
struct group_block {
	uint8_t w[MAT_PANEL][32];
	float scale[2][MAT_PANEL];
	float min[2][MAT_PANEL];
};

/* Decode columns [32 * b, 32 * b + 32) of a panel. */
void shape_decode(enum fmt f, uint32_t cols, const uint8_t *panel, uint32_t b,
		  struct group_block *g);

/* Overlays of the levels. */
void mat_init_c(struct mat_kernels *k);
void mat_init_avx2(struct mat_kernels *k);
void mat_init_avx512(struct mat_kernels *k);

void mat_pack_avx512(enum fmt f, uint32_t cols, const void *rows,
		     uint32_t n_rows, void *panel);

#endif
