/* SPDX-License-Identifier: MIT */
/*
 * quant.h - the table of tensor formats.
 *
 * A format is a row of quant.def: its ggml number and name, how many elements
 * a block has and how many bytes, its reference dequantisation (byte-equal to
 * ggml's) and quantisation. Everything that depends on a format asks here.
 */
#ifndef HEARTH_QUANT_H
#define HEARTH_QUANT_H

#include <stddef.h>
#include <stdint.h>

enum fmt {
	FMT_F32,
	FMT_F16,
	FMT_BF16,
	FMT_Q4_0,
	FMT_Q4_1,
	FMT_Q5_0,
	FMT_Q5_1,
	FMT_Q8_0,
	FMT_Q2_K,
	FMT_Q3_K,
	FMT_Q4_K,
	FMT_Q5_K,
	FMT_Q6_K,
	FMT_N,
};

struct fmt_info {
	const char *name; /* "Q4_K" */
	uint32_t ggml_type;
	uint32_t block; /* elements in a block */
	uint32_t bytes; /* bytes of a block */
	/* @n elements, a multiple of @block */
	void (*dequant)(const void *src, float *dst, size_t n);
	void (*quant)(const float *src, void *dst, size_t n);
};

extern const struct fmt_info fmt_info[FMT_N];

/* enum fmt of a ggml type number, or -ENOTSUP. */
int fmt_from_ggml(uint32_t type);

/* Name of any ggml type number, known to Hearth or not ("IQ2_XXS"), so that a
 * refusal can name it; "type 77" style numbers give NULL. */
const char *ggml_type_name(uint32_t type);

/* Bytes of @n elements; 0 if n is no multiple of the block or it overflows. */
uint64_t fmt_bytes(enum fmt f, uint64_t n);

#endif
