/* SPDX-License-Identifier: MIT */
/* ptx_mem.c - loads, stores and atomics in every space, each checked. */
#include <string.h>

#include "ptx_ops.h"

static const char *what(bool write)
{
	return write ? "writes" : "reads";
}

/* Atomics make known what was done before them, and learn the same. */
static void synchronise(struct ptx_warp *w)
{
	w->polled = true;
	ptx_join(w->b->sync, w->clock);
	ptx_join(w->clock, w->b->sync);
	w->clock[w->id]++;
}

static void *shared_at(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		       uint64_t at, uint32_t n, bool write)
{
	struct ptx_block *b = w->b;

	if (x->strong) {
		if (at > b->n_shared || n > b->n_shared - at) {
			ptx_fault(w, x, lane, ERR_ADDRESS,
				  "%s %u bytes at %u of %u bytes of shared "
				  "memory",
				  what(write), n, (uint32_t)at, b->n_shared);
			return NULL;
		}
		return b->shared + at;
	}
	if (!ptx_shared_access(w, x, lane, (uint32_t)at, n,
			       write ? ACC_WRITE : ACC_READ, w->clock, w->id))
		return NULL;
	return b->shared + at;
}

static void *window(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		    uint64_t at, uint32_t n, uint64_t room, void *base,
		    const char *name)
{
	if (at <= room && n <= room - at)
		return (uint8_t *)base + at;
	ptx_fault(w, x, lane, ERR_ADDRESS,
		  "%u bytes at %llu of %llu bytes of %s", n,
		  (unsigned long long)at, (unsigned long long)room, name);
	return NULL;
}

static int space_of(const struct ptx_insn *x, uint64_t *addr)
{
	static const struct {
		uint64_t base;
		int space;
	} windows[] = { { PTX_SHARED_BASE, SP_SHARED },
			{ PTX_LOCAL_BASE, SP_LOCAL },
			{ PTX_PARAM_BASE, SP_PARAM } };
	unsigned int i;

	if (x->space == SP_SHARED)
		*addr = (uint32_t)*addr;
	if (x->space == SP_SHARED || x->space == SP_LOCAL)
		return x->space;
	for (i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
		if (*addr - windows[i].base >= PTX_WINDOW)
			continue;
		*addr -= windows[i].base;
		return windows[i].space;
	}
	return SP_GLOBAL;
}

/* The host's address of N bytes, or NULL after a fault. */
void *ptx_memory(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		 uint64_t addr, uint32_t n, bool write)
{
	const struct ptx_kernel *k = w->k;
	uint64_t full = addr;
	const char *why;
	void *p;

	if (addr & (n - 1)) {
		ptx_fault(w, x, lane, ERR_MISALIGNED,
			  "%s %u bytes at 0x%llx, which is not aligned",
			  what(write), n, (unsigned long long)addr);
		return NULL;
	}
	switch (space_of(x, &addr)) {
	case SP_SHARED:
		return shared_at(w, x, lane, addr, n, write);
	case SP_LOCAL:
		return window(w, x, lane, addr, n, (uint64_t)k->local,
			      w->local + (size_t)lane * (size_t)k->local,
			      "local memory");
	case SP_PARAM:
		return window(w, x, lane, addr, n, (uint64_t)k->param_bytes,
			      w->b->ln->param, "parameters");
	default:
		break;
	}
	p = dev_access(w->b->ln, full, n, write, x->strong, w->waited, &why);
	if (!p)
		ptx_fault(w, x, lane, ERR_ADDRESS, "%s %u bytes at 0x%llx: %s",
			  what(write), n, (unsigned long long)full, why);
	return p;
}

static uint64_t load(const void *p, int ty)
{
	uint64_t v = 0;

	switch (ty) {
	case T_S8:
		return (uint64_t)(int64_t) * (const int8_t *)p;
	case T_S16:
		return (uint64_t)(int64_t) * (const int16_t *)p;
	case T_U32:
	case T_S32:
	case T_F32:
		return __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
	case T_U64:
	case T_S64:
	case T_F64:
		return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
	default:
		memcpy(&v, p, (size_t)ptx_type_size(ty));
		return v;
	}
}

void op_ld(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	const uint64_t *A = ptx_op_row(w, x, 1);
	int n = ptx_type_size(x->ty[0]), vec = ptx_count(x, 0), i, l;

	if (x->strong && ex)
		synchronise(w);
	EACH(l, ex)
	{
		uint64_t at = A[l] + (uint64_t)(int64_t)x->off[1];
		uint8_t *p =
			ptx_memory(w, x, l, at, (uint32_t)(n * vec), false);

		if (!p)
			return;
		if (x->strong)
			__atomic_thread_fence(__ATOMIC_ACQUIRE);
		for (i = 0; i < vec; i++)
			ptx_row(w, ptx_arg(x, 0, i))[l] =
				load(p + i * n, x->ty[0]);
	}
}

void op_st(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	const uint64_t *A = ptx_op_row(w, x, 0);
	int n = ptx_type_size(x->ty[0]), vec = ptx_count(x, 1), i, l;

	if (x->strong && ex)
		synchronise(w);
	w->b->ln->progress++;
	EACH(l, ex)
	{
		uint64_t at = A[l] + (uint64_t)(int64_t)x->off[0];
		uint8_t *p = ptx_memory(w, x, l, at, (uint32_t)(n * vec), true);

		if (!p)
			return;
		if (x->strong)
			__atomic_thread_fence(__ATOMIC_RELEASE);
		for (i = 0; i < vec; i++) {
			uint64_t v = ptx_row(w, ptx_arg(x, 1, i))[l];

			if (n == 4)
				__atomic_store_n((uint32_t *)(p + i * 4),
						 (uint32_t)v, __ATOMIC_RELAXED);
			else if (n == 8)
				__atomic_store_n((uint64_t *)(p + i * 8), v,
						 __ATOMIC_RELAXED);
			else
				memcpy(p + i * n, &v, (size_t)n);
		}
	}
}

/* ------------------------------------------------------------- atomics */

static uint64_t add_of(int ty, uint64_t a, uint64_t b)
{
	double p, q;

	switch (ty) {
	case T_F32:
		return of_f32(f32_of(a) + f32_of(b));
	case T_F16:
		return of_f16(f16_of(a) + f16_of(b));
	case T_BF16:
		return of_bf16(bf16_of(a) + bf16_of(b));
	case T_F64:
		memcpy(&p, &a, 8);
		memcpy(&q, &b, 8);
		p += q;
		memcpy(&a, &p, 8);
		return a;
	default:
		return a + b;
	}
}

static bool less(int ty, uint64_t a, uint64_t b)
{
	switch (ty) {
	case T_S32:
		return (int32_t)a < (int32_t)b;
	case T_S64:
		return (int64_t)a < (int64_t)b;
	case T_U32:
		return (uint32_t)a < (uint32_t)b;
	default:
		return a < b;
	}
}

static uint64_t combine(const struct ptx_insn *x, uint64_t old, uint64_t b,
			uint64_t c)
{
	int ty = x->ty[0];

	switch (x->sub) {
	case SUB_ADD:
		return add_of(ty, old, b);
	case SUB_MIN:
		return less(ty, b, old) ? b : old;
	case SUB_MAX:
		return less(ty, old, b) ? b : old;
	case SUB_AND:
		return old & b;
	case SUB_OR:
		return old | b;
	case SUB_XOR:
		return old ^ b;
	case SUB_INC:
		return (uint32_t)old >= (uint32_t)b ? 0 : old + 1;
	case SUB_DEC:
		return !(uint32_t)old || (uint32_t)old > (uint32_t)b ? b
								     : old - 1;
	case SUB_CAS:
		return ptx_type_size(ty) == 4
			       ? (uint32_t)old == (uint32_t)b ? c : old
		       : old == b ? c
				  : old;
	default:
		return b;
	}
}

/* Others may write too: the host, to memory it registered. */
static uint64_t exchange(const struct ptx_insn *x, void *p, uint64_t b,
			 uint64_t c)
{
	uint64_t o8;
	uint32_t o4;
	uint16_t o2;

	switch (ptx_type_size(x->ty[0])) {
	case 8:
		o8 = __atomic_load_n((uint64_t *)p, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(
			(uint64_t *)p, &o8, combine(x, o8, b, c), false,
			__ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			;
		return o8;
	case 4:
		o4 = __atomic_load_n((uint32_t *)p, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(
			(uint32_t *)p, &o4, (uint32_t)combine(x, o4, b, c),
			false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			;
		return o4;
	default:
		o2 = __atomic_load_n((uint16_t *)p, __ATOMIC_RELAXED);
		while (!__atomic_compare_exchange_n(
			(uint16_t *)p, &o2, (uint16_t)combine(x, o2, b, c),
			false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			;
		return o2;
	}
}

static void atomic(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex,
		   int at, uint64_t *D)
{
	struct ptx_insn strong = *x;
	const uint64_t *A = ptx_op_row(w, x, at);
	const uint64_t *B = ptx_op_row(w, x, at + 1);
	const uint64_t *C = x->n_groups > at + 2 ? ptx_op_row(w, x, at + 2) : B;
	int l;

	if (!x->sub || !ptx_type_size(x->ty[0])) {
		ptx_fault(w, x, -1, ERR_FAILED,
			  "the simulator lacks this kind of atomic");
		return;
	}
	strong.strong = true;
	if (ex)
		synchronise(w);
	w->b->ln->progress++;
	EACH(l, ex)
	{
		uint64_t addr = A[l] + (uint64_t)(int64_t)x->off[at], b = B[l];
		uint64_t c = C[l], old;
		void *p = ptx_memory(w, &strong, l, addr,
				     (uint32_t)ptx_type_size(x->ty[0]), true);

		if (!p)
			return;
		old = exchange(x, p, b, c);
		if (D)
			D[l] = old;
	}
}

void op_atom(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	atomic(w, x, ex, 1, ptx_op_row(w, x, 0));
}

void op_red(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	atomic(w, x, ex, 0, NULL);
}

/* ----------------------------------------------------- address windows */

static uint64_t base_of(const struct ptx_insn *x)
{
	return x->space == SP_SHARED  ? PTX_SHARED_BASE
	       : x->space == SP_LOCAL ? PTX_LOCAL_BASE
				      : 0;
}

void op_cvta(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	const uint64_t *A = ptx_op_row(w, x, 1);
	int l;

	EACH(l, ex) D[l] = A[l] + base_of(x);
}

void op_cvta_to(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	const uint64_t *A = ptx_op_row(w, x, 1);
	int l;

	EACH(l, ex) D[l] = A[l] - base_of(x);
}

void op_isspacep(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	struct ptx_insn generic = *x;
	uint64_t *D = ptx_op_row(w, x, 0);
	const uint64_t *A = ptx_op_row(w, x, 1);
	int l;

	generic.space = SP_GENERIC;
	EACH(l, ex)
	{
		uint64_t at = A[l];

		D[l] = space_of(&generic, &at) == x->space;
	}
}

/* ------------------------------------------------------ 8x8 matrices */

/* Lane 8i + r says where row r of matrix i is; lane l has pair l of it. */
static void matrix(struct ptx_warp *w, const struct ptx_insn *x, int regs,
		   int at, bool write)
{
	const uint64_t *A = ptx_op_row(w, x, at);
	int i, r, c, n = ptx_count(x, regs);

	for (i = 0; i < n; i++) {
		uint64_t *D = ptx_row(w, ptx_arg(x, regs, i));

		for (r = 0; r < 8; r++) {
			int lane = 8 * i + r;
			uint64_t a = A[lane] + (uint64_t)(int64_t)x->off[at];
			uint16_t *p = ptx_memory(w, x, lane, a, 16, write);

			if (!p)
				return;
			for (c = 0; c < 8; c++) {
				int l = x->trans ? c * 4 + r / 2
						 : r * 4 + c / 2;
				int h = (x->trans ? r : c) % 2 * 16;

				if (write)
					p[c] = (uint16_t)(D[l] >> h);
				else
					D[l] = (D[l] & 0xffff0000u >> h) |
					       (uint64_t)p[c] << h;
			}
		}
	}
}

void op_ldmatrix(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	(void)ex;
	matrix(w, x, 0, 1, false);
}

void op_stmatrix(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	(void)ex;
	w->b->ln->progress++;
	matrix(w, x, 1, 0, true);
}
