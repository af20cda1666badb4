/* SPDX-License-Identifier: MIT */
/* launch_embed.c - geometry of embed.cu. */
#include <errno.h>

#include "launch.h"

int cu_launch_embed(struct cu_launch *l, const struct cu_embed *p,
		    const struct cu_chip *chip)
{
	if (p->m.cols % 4)
		return -ENOTSUP;
	*l = (struct cu_launch){
		.kernel = CU_embed,
		.pdl = chip->cc >= 90,
		.grid = { p->n, 1, 1 },
		.block = 128,
		.p.embed = *p,
	};
	return 1;
}
