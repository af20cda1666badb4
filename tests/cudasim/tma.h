/* SPDX-License-Identifier: MIT */
/* tma.h - what the simulator keeps in a CUtensorMap's 128 opaque bytes. */
#ifndef CUDASIM_TMA_H
#define CUDASIM_TMA_H

#include <stdint.h>

#define TMA_MAGIC 0x7a3a9u

struct tma_map {
	uint32_t magic;
	uint32_t elem; /* bytes */
	uint32_t swizzle;
	uint32_t rank;
	uint64_t addr;
	uint64_t dim[2];
	uint64_t stride; /* bytes from row to row */
	uint32_t box[2];
};

#endif
