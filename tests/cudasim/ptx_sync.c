/* SPDX-License-Identifier: MIT */
/* ptx_sync.c - branches, the warp's collectives, barriers of a block. */
#include <string.h>
#include <time.h>

#include "ptx_ops.h"
#include "ptx_special.h"

static const char *const specials[] = {
	/* clang-format off */
	"%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z",
	"%ctaid.x", "%ctaid.y", "%ctaid.z",
	"%nctaid.x", "%nctaid.y", "%nctaid.z",
	"%laneid", "%warpid", "%nwarpid", "%lanemask_lt", "%lanemask_le",
	"%lanemask_eq", "%lanemask_ge", "%lanemask_gt", "%clock", "%clock64",
	"%globaltimer", "%smid", "%nsmid", "%dynamic_smem_size",
	"%total_smem_size", "%cluster_ctarank", "%cluster_nctarank",
	/* clang-format on */
};

int ptx_special_find(const char *name)
{
	unsigned int i;

	for (i = 0; i < sizeof(specials) / sizeof(*specials); i++)
		if (!strcmp(name, specials[i]))
			return (int)i;
	return -1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t ptx_special_read(struct ptx_warp *w, int special, int lane)
{
	const struct ptx_block *b = w->b;
	const struct ptx_launch *ln = b->ln;
	uint32_t t = (uint32_t)(w->id * 32 + lane);
	uint32_t bx = ln->block[0], by = ln->block[1];
	uint32_t eq = 1u << lane;
	const uint64_t v[] = {
		/* clang-format off */
		t % bx, t / bx % by, t / (bx * by), bx, by, ln->block[2],
		b->id[0], b->id[1], b->id[2],
		ln->grid[0], ln->grid[1], ln->grid[2],
		(uint64_t)lane, (uint64_t)w->id, (uint64_t)b->n_warps, eq - 1,
		(eq - 1) | eq, eq, ~(eq - 1), ~(eq - 1) & ~eq,
		(uint32_t)ln->insns, ln->insns, 0, 0, 1, ln->dyn,
		b->n_shared, 0, 1,
		/* clang-format on */
	};

	_Static_assert(sizeof(v) / sizeof(*v) ==
			       sizeof(specials) / sizeof(*specials),
		       "a value for each special register");
	if (!strcmp(specials[special], "%globaltimer"))
		return now_ns();
	return v[special];
}

void op_nop(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	(void)w, (void)x, (void)ex;
}

/* What the caches are told is nothing to the numbers. */
void op_policy(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	int l;

	EACH(l, ex) D[l] = 0;
}

void op_trap(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	if (ex)
		ptx_fault(w, x, __builtin_ctz(ex), ERR_FAILED, "trap");
}

void op_sleep(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	(void)x;
	w->slept |= ex != 0;
}

void op_grid_wait(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	(void)x;
	if (ex && !w->waited && !dev_waited(w->b->ln)) {
		w->slept = w->again = true;
		return;
	}
	w->waited |= ex != 0;
}

void op_grid_launch(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	struct ptx_block *b = w->b;

	(void)x;
	if (ex && !b->triggered) {
		b->triggered = true;
		b->ln->triggered++;
		b->ln->progress++;
	}
}

/* ------------------------------------------------------------ the warp */

void op_elect(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	uint64_t *P = ptx_count(x, 0) > 1 ? ptx_row(w, ptx_arg(x, 0, 1)) : NULL;
	int leader = __builtin_ctz(ex), l;

	EACH(l, ex)
	{
		D[l] = (uint64_t)leader;
		if (P)
			P[l] = l == leader;
	}
}

void op_activemask(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	int l;

	EACH(l, ex) D[l] = ex;
}

/* MODE: where lane l reads from, given the operand. */
enum shuffle { SH_BFLY, SH_DOWN, SH_UP, SH_IDX };

static void shuffle(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex,
		    enum shuffle mode)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	uint64_t *P = ptx_count(x, 0) > 1 ? ptx_row(w, ptx_arg(x, 0, 1)) : NULL;
	const uint64_t *B = ptx_op_row(w, x, 2), *C = ptx_op_row(w, x, 3);
	uint64_t from[32];
	int l, j;

	memcpy(from, ptx_op_row(w, x, 1), sizeof(from));
	EACH(l, ex)
	{
		int b = (int)(B[l] & 31), c = (int)(C[l] & 31);
		int seg = (int)(C[l] >> 8 & 31), top = (l & seg) | (c & ~seg);
		bool ok;

		j = mode == SH_BFLY   ? l ^ b
		    : mode == SH_DOWN ? l + b
		    : mode == SH_UP   ? l - b
				      : (l & seg) | (b & ~seg);
		ok = mode == SH_UP ? j >= top : j <= top;
		if (!ok)
			j = l;
		if (!(ex >> j & 1)) {
			ptx_fault(w, x, l, ERR_ILLEGAL,
				  "shuffle from lane %d, which its mask "
				  "0x%08x does not name",
				  j, ex);
			return;
		}
		D[l] = from[j];
		if (P)
			P[l] = ok;
	}
}

void op_shfl_bfly(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	shuffle(w, x, ex, SH_BFLY);
}

void op_shfl_down(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	shuffle(w, x, ex, SH_DOWN);
}

void op_shfl_up(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	shuffle(w, x, ex, SH_UP);
}

void op_shfl_idx(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	shuffle(w, x, ex, SH_IDX);
}

static uint32_t ballot(struct ptx_warp *w, const struct ptx_insn *x,
		       uint32_t ex)
{
	const uint64_t *A = ptx_op_row(w, x, 1);
	uint32_t v = 0;
	int l;

	EACH(l, ex) v |= (uint32_t)(A[l] & 1) << l;
	return x->not_arg == 2 ? ~v & ex : v;
}

static void all_get(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex,
		    uint64_t v)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	int l;

	EACH(l, ex) D[l] = v;
}

void op_ballot(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	all_get(w, x, ex, ballot(w, x, ex));
}

void op_vote_any(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	all_get(w, x, ex, ballot(w, x, ex) != 0);
}

void op_vote_all(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	all_get(w, x, ex, ballot(w, x, ex) == ex);
}

void op_match_any(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t mask = x->ty[0] == T_U64 ? ~UINT64_C(0) : 0xffffffff;
	uint64_t *D = ptx_op_row(w, x, 0), from[32];
	int l, j;

	memcpy(from, ptx_op_row(w, x, 1), sizeof(from));
	EACH(l, ex)
	{
		uint32_t v = 0;

		for (j = 0; j < 32; j++)
			if (ex >> j & 1 && !((from[j] ^ from[l]) & mask))
				v |= 1u << j;
		D[l] = v;
	}
}

void op_redux(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	const uint64_t *A = ptx_op_row(w, x, 1);
	bool is_signed = x->ty[0] == T_S32;
	uint32_t v = (uint32_t)A[__builtin_ctz(ex)];
	int l;

	EACH(l, ex & (ex - 1))
	{
		uint32_t a = (uint32_t)A[l];
		bool lt = is_signed ? (int32_t)a < (int32_t)v : a < v;

		switch (x->sub) {
		case SUB_ADD:
			v += a;
			break;
		case SUB_MIN:
			v = lt ? a : v;
			break;
		case SUB_MAX:
			v = lt ? v : a;
			break;
		case SUB_AND:
			v &= a;
			break;
		case SUB_OR:
			v |= a;
			break;
		default:
			v ^= a;
		}
	}
	all_get(w, x, ex, v);
}

/* ------------------------------------------------------ block's barriers */

enum reduce { RED_NONE, RED_POPC, RED_AND, RED_OR };

static void give(struct ptx_warp *w, const struct ptx_bar *bar, enum reduce how)
{
	uint64_t *D = ptx_row(w, bar->result[w->id] - 1);
	int l;

	EACH(l, bar->waiting[w->id])
	D[l] = (uint64_t)(how == RED_POPC  ? bar->yes
			  : how == RED_AND ? bar->yes == bar->expected
					   : bar->yes > 0);
}

static void release(struct ptx_block *b, struct ptx_bar *bar, enum reduce how)
{
	int i;

	for (i = 0; i < b->n_warps; i++) {
		struct ptx_warp *w = &b->warp[i];

		if (!bar->waiting[i])
			continue;
		if (bar->result[i])
			give(w, bar, how);
		w->at_bar &= ~bar->waiting[i];
		ptx_join(w->clock, bar->clock);
	}
	memset(bar, 0, sizeof(*bar));
	b->ln->progress++;
}

/* The barrier of ID, if these lanes may come to it, to be N in all. */
static struct ptx_bar *bar_of(struct ptx_warp *w, const struct ptx_insn *x,
			      uint32_t ex, uint64_t id, uint64_t n)
{
	struct ptx_block *b = w->b;
	struct ptx_bar *bar = &b->bar[id % PTX_BARS];

	if (id >= PTX_BARS || !n || n > (uint64_t)b->n_threads) {
		ptx_fault(w, x, __builtin_ctz(ex), ERR_ILLEGAL,
			  "barrier %llu for %llu of %d threads",
			  (unsigned long long)id, (unsigned long long)n,
			  b->n_threads);
		return NULL;
	}
	if (bar->arrived && bar->expected != (int)n) {
		ptx_fault(w, x, __builtin_ctz(ex), ERR_ILLEGAL,
			  "barrier %llu for %llu threads, where others wait "
			  "for %d",
			  (unsigned long long)id, (unsigned long long)n,
			  bar->expected);
		return NULL;
	}
	bar->expected = (int)n;
	return bar;
}

static void come(struct ptx_warp *w, struct ptx_bar *bar, uint32_t ex,
		 int count, bool wait, enum reduce how)
{
	bar->arrived += count;
	ptx_join(bar->clock, w->clock);
	w->clock[w->id]++;
	if (wait) {
		bar->waiting[w->id] |= ex;
		w->at_bar |= ex;
	}
	if (bar->arrived >= bar->expected)
		release(w->b, bar, how);
}

static void arrive(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex,
		   bool wait)
{
	int first = __builtin_ctz(ex);
	bool counts = x->n_groups > 1;
	uint64_t id = ptx_op_row(w, x, 0)[first];
	uint64_t n = counts ? ptx_op_row(w, x, 1)[first]
			    : (uint64_t)w->b->n_threads;
	struct ptx_bar *bar = bar_of(w, x, ex, id, n);

	/* With a count, whole warps arrive, as the chip counts them. */
	if (bar)
		come(w, bar, ex,
		     counts ? 32 * (bar->waiting[w->id] == 0)
			    : __builtin_popcount(ex),
		     wait, RED_NONE);
}

static void reduce(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex,
		   enum reduce how)
{
	const uint64_t *P = ptx_op_row(w, x, 2);
	struct ptx_bar *bar = bar_of(w, x, ex,
				     ptx_op_row(w, x, 1)[__builtin_ctz(ex)],
				     (uint64_t)w->b->n_threads);
	int l;

	if (!bar)
		return;
	EACH(l, ex) bar->yes += (int)(P[l] & 1) ^ (x->not_arg == 3);
	bar->result[w->id] = ptx_arg(x, 0, 0) + 1;
	come(w, bar, ex, __builtin_popcount(ex), true, how);
}

void op_bar_popc(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	reduce(w, x, ex, RED_POPC);
}

void op_bar_and(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	reduce(w, x, ex, RED_AND);
}

void op_bar_or(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	reduce(w, x, ex, RED_OR);
}

void op_bar_sync(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	arrive(w, x, ex, true);
}

void op_bar_arrive(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	arrive(w, x, ex, false);
}
