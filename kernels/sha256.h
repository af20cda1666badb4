/* SPDX-License-Identifier: MIT */
/*
 * sha256.h - SHA-256 of many blocks at once, a block a lane.
 *
 * One message's rounds wait for each other, those of 16 messages do not. What
 * a level has no kernel for is left to the caller, and to libcrypto.
 */
#ifndef HEARTH_SHA256_H
#define HEARTH_SHA256_H

#include <stddef.h>
#include <stdint.h>

#include "cpu.h"

#define SHA256_BYTES 32
#define SHA256_LANES 16

/**
 * struct sha256_kernels - slots, chosen once for a CPU level
 * @lanes: SHA256_LANES messages of @bytes each (a multiple of 64), one after
 *         the other; NULL: this level has none
 */
struct sha256_kernels {
	void (*lanes)(const uint8_t *data, size_t bytes,
		      uint8_t out[SHA256_LANES][SHA256_BYTES]);
};

void sha256_kernels_init(struct sha256_kernels *k, enum cpu_level level);

void sha256_lanes_avx512(const uint8_t *data, size_t bytes,
			 uint8_t out[SHA256_LANES][SHA256_BYTES]);

#endif
