/* SPDX-License-Identifier: MIT */
/* ptx.cuh - inline PTX that kernels share, one wrapper an instruction. */
#pragma once
#include <stdint.h>

#define DEV static __device__ __forceinline__

DEV uint32_t smem_at(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* 16 bytes past L1, for what is read once. */
DEV void cp_async16(uint32_t to, const void *from)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to),
		     "l"(from)
		     : "memory");
}

DEV void cp_async4(uint32_t to, const void *from)
{
	asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to),
		     "l"(from)
		     : "memory");
}

DEV void cp_commit()
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> DEV void cp_wait()
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* A warp asks for [from, from + bytes), L2_PIECE at most and a multiple of 16, to
 * be in the L2 cache. */
#define L2_PIECE 4096u

DEV void l2_prefetch(const uint8_t *from, uint32_t bytes, uint32_t lane)
{
#if __CUDA_ARCH__ >= 900
	if (lane == 0)
		asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(
				     from),
			     "r"(bytes)
			     : "memory");
#else
	if (lane * (L2_PIECE / 32) < bytes)
		asm volatile("prefetch.global.L2 [%0];" ::"l"(
				     from + lane * (L2_PIECE / 32))
			     : "memory");
#endif
}

/* Programmatic dependent launch: what the grid before this one wrote may be
 * read, and written to, after grid_wait(); grid_launch() lets the next begin. */
DEV void grid_wait()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

DEV void grid_launch()
{
#if __CUDA_ARCH__ >= 900
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Four 8 x 8 matrices of b16; lane l names row l % 8 of matrix l / 8. */
DEV void ldmatrix4(uint32_t r[4], uint32_t row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 "
		     "{%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(row)
		     : "memory");
}

/* Two of them, of lanes 0 to 15. */
DEV void ldmatrix2(uint32_t r[2], uint32_t row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
		     : "=r"(r[0]), "=r"(r[1])
		     : "r"(row)
		     : "memory");
}

/* d = a . b + c of bytes, c being the same in all elements */
DEV void mma_k32(int d[4], const uint32_t a[4], const uint32_t b[2], int c)
{
	asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
	    "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%10,%10,%10};"
	    : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]),
	      "r"(c));
}

DEV void mma_k16(int d[4], const uint32_t a[2], uint32_t b, int c)
{
	asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 "
	    "{%0,%1,%2,%3},{%4,%5},{%6},{%7,%7,%7,%7};"
	    : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(b), "r"(c));
}
