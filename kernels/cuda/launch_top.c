/* SPDX-License-Identifier: MIT */
/* launch_top.c - geometry of top.cu. */
#include <errno.h>

#include "../top.h"
#include "launch.h"

int cu_launch_top(struct cu_launch *l, const struct cu_top *p,
		  const struct cu_chip *chip)
{
	uint32_t chunks = (p->width + TOP_CHUNK - 1) / TOP_CHUNK;

	(void)chip;
	if (!p->width || chunks > CU_TOP_CHUNKS || p->n > 65535)
		return -ENOTSUP;
	*l = (struct cu_launch){
		.kernel = CU_top,
		.pdl = 1,
		.grid = { chunks, p->n, 1 },
		.block = TOP_LANES,
		.p.top = *p,
	};
	return 1;
}
