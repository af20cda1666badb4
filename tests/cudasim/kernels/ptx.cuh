/* SPDX-License-Identifier: MIT */
/* ptx.cuh - inline PTX of the test kernels, one wrapper an instruction. */
#pragma once
#include <stdint.h>

#define DEV static __device__ __forceinline__

DEV uint32_t smem(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

DEV void cp_async16(void *d, const void *s)
{
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(smem(d)),
		     "l"(s)
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

DEV void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
		       "r"(b[1]));
}

DEV void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
		     "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
		       "r"(b[1]));
}

DEV void mma_s8(int d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
		     "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
		     : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
		       "r"(b[1]));
}

DEV void ldmatrix4(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 "
		     "{%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(smem(row))
		     : "memory");
}

DEV void mbar_init(uint64_t *m, uint32_t n)
{
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(smem(m)),
		     "r"(n)
		     : "memory");
}

DEV void mbar_expect(uint64_t *m, uint32_t bytes)
{
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::
			     "r"(smem(m)),
		     "r"(bytes)
		     : "memory");
}

DEV void mbar_arrive(uint64_t *m)
{
	asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(smem(m))
		     : "memory");
}

DEV void mbar_wait(uint64_t *m, uint32_t parity)
{
	asm volatile("{\n.reg .pred p;\n"
		     "W: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
		     "@p bra D;\nbra W;\nD:\n}" ::"r"(smem(m)),
		     "r"(parity)
		     : "memory");
}

DEV void bulk_load(void *d, const void *s, uint32_t n, uint64_t *m)
{
	asm volatile("cp.async.bulk.shared::cluster.global"
		     ".mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
			     "r"(smem(d)),
		     "l"(s), "r"(n), "r"(smem(m))
		     : "memory");
}

DEV void tile_load(void *d, const void *map, int x, int y, uint64_t *m)
{
	asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global"
		     ".mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
		     "[%4];" ::"r"(smem(d)),
		     "l"(map), "r"(x), "r"(y), "r"(smem(m))
		     : "memory");
}

DEV uint32_t load_acquire(const uint32_t *p)
{
	uint32_t v;

	asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
		     : "=r"(v)
		     : "l"(p)
		     : "memory");
	return v;
}

DEV void add_release(uint32_t *p, uint32_t v)
{
	asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(v)
		     : "memory");
}

DEV void grid_wait()
{
	asm volatile("griddepcontrol.wait;" ::: "memory");
}

DEV void grid_launch()
{
	asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/* K-major, rows of 128 bytes, swizzled. */
DEV uint64_t tile_desc(const void *p)
{
	uint64_t at = (smem(p) & 0x3ffff) >> 4;

	return at | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
	       (uint64_t)1 << 62;
}

#define F8(d, i)                                                               \
	"+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]),            \
		"+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS64                                                                 \
	"{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"              \
	"%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}"
#define WGMMA "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "

DEV void wgmma64(float *d, uint64_t a, uint64_t b)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n" WGMMA SUMS64
		     ", %32, %33, p, 1, 1, 0, 0;\n}"
		     : F8(d, 0), F8(d, 8), F8(d, 16), F8(d, 24)
		     : "l"(a), "l"(b));
}

DEV void wgmma64_regs(float *d, const uint32_t a[4], uint64_t b)
{
	asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n" WGMMA SUMS64
		     ", {%32,%33,%34,%35}, %36, p, 1, 1, 0;\n}"
		     : F8(d, 0), F8(d, 8), F8(d, 16), F8(d, 24)
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

DEV void wgmma_fence()
{
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

DEV void wgmma_commit()
{
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

DEV void wgmma_wait()
{
	asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}
