/* SPDX-License-Identifier: MIT */
/* embed.cu - rows of a matrix by token, a block of threads a token. */
#include "op.h"
#include "panel.cuh"

template <class P> DEV void embed_row(const struct cu_embed &p, uint32_t t)
{
	uint32_t row = p.tokens[t], cols = p.m.cols, q;
	const uint8_t *panel = (const uint8_t *)p.m.data +
			       row / MAT_PANEL * panel_bytes<P>(cols);
	float4 *out = (float4 *)(p.out + (size_t)t * cols);

	for (q = threadIdx.x; q < cols / 4; q += blockDim.x) {
		float4 y = panel_row_quad<P>(panel, cols, row % MAT_PANEL, q);

		if (p.scale != 1)
			y = make_float4(y.x * p.scale, y.y * p.scale,
					y.z * p.scale, y.w * p.scale);
		out[q] = y;
	}
}

extern "C" __global__ void __launch_bounds__(128) embed(struct cu_embed p)
{
	grid_launch();
	ahead(p.ahead);
	grid_wait();
	panel_any(p.m.fmt,
		  [&](auto f) { embed_row<decltype(f)>(p, blockIdx.x); });
}
