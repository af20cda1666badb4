/* SPDX-License-Identifier: MIT */
/*
 * ptx_run.c - a block of threads: warps that take turns, lanes that part and
 * meet again.
 *
 * Of a warp's lanes those furthest behind go on, so that lanes that parted
 * meet. Warps take turns in an order that the seed gives.
 */
#include <fenv.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_ops.h"

#define QUANTUM	   2048 /* instructions of a warp's turn */
#define HANG_TURNS 200

uint64_t ptx_random(struct ptx_block *b)
{
	uint64_t z = b->rng += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* Only the first fault of a launch is told. */
void ptx_fault(struct ptx_warp *w, const struct ptx_insn *x, int lane, int err,
	       const char *fmt, ...)
{
	struct ptx_block *b = w->b;
	struct ptx_launch *ln = b->ln;
	va_list ap;
	int n;

	if (ln->error)
		return;
	ln->error = err;
	n = snprintf(ln->text, sizeof(ln->text),
		     "kernel %s, block (%u,%u,%u), ", w->k->name, b->id[0],
		     b->id[1], b->id[2]);
	if (lane >= 0)
		n += snprintf(ln->text + n, sizeof(ln->text) - (size_t)n,
			      "thread %d, ", w->id * 32 + lane);
	else
		n += snprintf(ln->text + n, sizeof(ln->text) - (size_t)n,
			      "warp %d, ", w->id);
	if (x)
		n += snprintf(ln->text + n, sizeof(ln->text) - (size_t)n,
			      "PTX line %d (%s): ", x->line, x->op->name);
	va_start(ap, fmt);
	vsnprintf(ln->text + n, sizeof(ln->text) - (size_t)n, fmt, ap);
	va_end(ap);
}

static void *get(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size);

	if (!p)
		abort();
	return p;
}

static void start_warp(struct ptx_block *b, int i)
{
	const struct ptx_kernel *k = b->ln->k;
	struct ptx_warp *w = &b->warp[i];
	int left = b->n_threads - 32 * i;

	w->b = b;
	w->k = k;
	w->id = i;
	/* A compiler writes a register before it reads it; there are thousands. */
	w->r = malloc(((size_t)k->n_reg + 1) * 32 * sizeof(*w->r));
	if (!w->r)
		abort();
	w->wg_reg = get((size_t)k->n_reg, 1);
	w->local = get((size_t)k->local, 32);
	w->alive = left >= 32 ? ~0u : (1u << left) - 1;
	w->uniform = true;
	w->waited = !b->ln->pdl;
	w->clock[i] = 1;
}

struct ptx_block *ptx_block_new(struct ptx_launch *ln, uint32_t index)
{
	const struct ptx_kernel *k = ln->k;
	struct ptx_block *b = get(1, sizeof(*b));
	int i;

	b->ln = ln;
	b->id[0] = index % ln->grid[0];
	b->id[1] = index / ln->grid[0] % ln->grid[1];
	b->id[2] = index / ln->grid[0] / ln->grid[1];
	b->n_threads = (int)(ln->block[0] * ln->block[1] * ln->block[2]);
	b->n_warps = (b->n_threads + 31) / 32;
	b->n_shared = (uint32_t)(k->shared + k->dyn_align - 1) /
			      (uint32_t)k->dyn_align * (uint32_t)k->dyn_align +
		      ln->dyn;
	if (!ln->dyn)
		b->n_shared = (uint32_t)k->shared;
	b->shared = aligned_alloc(1024, (b->n_shared + 2047) & ~1023u);
	if (!b->shared)
		abort();
	memset(b->shared, 0xcd, b->n_shared);
	b->shadow = get(b->n_shared / 4 + 1, sizeof(*b->shadow));
	b->rng = ln->seed * 0x2545f4914f6cdd1dull + index;
	for (i = 0; i < b->n_warps; i++)
		start_warp(b, i);
	return b;
}

void ptx_block_free(struct ptx_block *b)
{
	int i;

	if (!b)
		return;
	if (!b->triggered)
		b->ln->triggered++;
	for (i = 0; i < b->n_warps; i++) {
		struct ptx_warp *w = &b->warp[i];

		free(w->r);
		free(w->wg_reg);
		free(w->local);
		free(w->wg);
		ptx_copies_free(&w->copies);
	}
	ptx_copies_free(&b->bulk);
	free(b->shared);
	free(b->shadow);
	free(b);
}

/* ------------------------------------------------------------- one warp */

/* Each lane's own place; from here on they may part. */
static void part(struct ptx_warp *w)
{
	int l;

	for (l = 0; w->uniform && l < 32; l++)
		w->pc[l] = w->upc;
	w->uniform = false;
}

/* The lanes that go on, all at *pc. */
static uint32_t pick(struct ptx_warp *w, int *pc)
{
	uint32_t run = w->alive & ~w->at_bar & ~w->at_warp, m = 0;
	int l;

	if (w->uniform && run == w->alive) {
		*pc = w->upc;
		return run;
	}
	part(w);
	*pc = 0x7fffffff;
	EACH(l, run)
	{
		if (w->pc[l] < *pc) {
			*pc = w->pc[l];
			m = 0;
		}
		if (w->pc[l] == *pc)
			m |= 1u << l;
	}
	if (m && m == w->alive) {
		w->uniform = true;
		w->upc = *pc;
	}
	return m;
}

static void advance(struct ptx_warp *w, uint32_t act)
{
	int l;

	if (w->uniform)
		w->upc++;
	else
		EACH(l, act) w->pc[l]++;
}

void op_bra(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	int l;

	if (w->uniform && ex == w->alive) {
		w->upc = x->target;
		return;
	}
	part(w);
	EACH(l, ex) w->pc[l] = x->target;
}

void op_ret(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	if (ex && w->n_wg)
		ptx_fault(w, x, -1, ERR_FAILED,
			  "returns, and wgmma was never waited for");
	w->alive &= ~ex;
	w->b->ln->progress++;
}

static uint32_t guarded(struct ptx_warp *w, const struct ptx_insn *x,
			uint32_t act)
{
	const uint64_t *p = ptx_row(w, x->pred);
	uint32_t ex = 0;
	int l;

	EACH(l, act) ex |= (uint32_t)((p[l] & 1) != x->pred_not) << l;
	return ex;
}

/* All the lanes a collective names are here, or it waits: 0. */
static uint32_t gather(struct ptx_warp *w, const struct ptx_insn *x, int pc,
		       uint32_t *act, uint32_t ex)
{
	uint32_t mask = w->alive, here = 0;
	int l;

	if (x->op->flags & OP_WARP)
		mask = (uint32_t)ptx_op_row(w, x,
					    x->n_groups - 1)[__builtin_ctz(ex)];
	else
		mask = w->b->n_threads - 32 * w->id >= 32 ? ~0u : mask;
	if (mask & ~w->alive) {
		ptx_fault(w, x, __builtin_ctz(ex), ERR_ILLEGAL,
			  "names lanes 0x%08x, of which 0x%08x have returned",
			  mask, mask & ~w->alive);
		return 0;
	}
	if (w->uniform && *act == w->alive) {
		here = *act;
	} else {
		for (l = 0; l < 32; l++)
			if ((w->alive & ~w->at_bar) >> l & 1 && w->pc[l] == pc)
				here |= 1u << l;
	}
	if ((here & mask) != mask) {
		part(w);
		w->at_warp |= *act;
		return 0;
	}
	w->at_warp &= ~mask;
	*act = mask;
	if (x->pred < 0)
		return mask;
	return guarded(w, x, mask);
}

static bool touches_wgmma(struct ptx_warp *w, const struct ptx_insn *x)
{
	int i, n = x->first[x->n_groups];

	for (i = 0; i < n; i++) {
		if (x->arg[i] < 0 || !w->wg_reg[x->arg[i]])
			continue;
		ptx_fault(w, x, -1, ERR_FAILED,
			  "uses a register that wgmma is still writing: "
			  "wgmma.wait_group is missing");
		return true;
	}
	return false;
}

static void run(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	static const int mode[] = {
		[RN_ZERO] = FE_TOWARDZERO,
		[RN_DOWN] = FE_DOWNWARD,
		[RN_UP] = FE_UPWARD,
	};

	if (x->directed)
		fesetround(mode[x->round]);
	x->op->run(w, x, ex);
	if (x->directed)
		fesetround(FE_TONEAREST);
}

/* False: this warp can do nothing more for now. */
static bool run_one(struct ptx_warp *w)
{
	const struct ptx_insn *x;
	uint32_t act, ex;
	int pc;

	act = pick(w, &pc);
	if (!act)
		return false;
	x = &w->k->code[pc];
	ex = x->pred < 0 ? act : guarded(w, x, act);
	if (w->n_wg && !(x->op->flags & OP_WGMMA) && touches_wgmma(w, x))
		return false;
	if (x->op->flags & (OP_WARP | OP_ALL)) {
		if (!ex) {
			advance(w, act);
			return true;
		}
		ex = gather(w, x, pc, &act, ex);
		if (!ex)
			return !w->b->ln->error;
		if (act != w->alive)
			part(w);
	}
	w->b->ln->insns++;
	if (x->op->flags & OP_SETS_PC && ex) {
		if (act != ex) {
			part(w);
			advance(w, act & ~ex);
		}
		x->op->run(w, x, ex);
		return !w->b->ln->error;
	}
	w->again = false;
	/* Where it stops at a barrier, it goes on behind it. */
	if (ex)
		run(w, x, ex);
	if (!w->again)
		advance(w, act);
	return !w->slept && !w->b->ln->error;
}

static bool turn(struct ptx_warp *w)
{
	int n = 0;

	w->slept = w->polled = false;
	w->at_mbar = NULL;
	while (n < QUANTUM && run_one(w))
		n++;
	return n || w->slept;
}

/* ------------------------------------------------------------ the block */

static void stuck(struct ptx_block *b)
{
	int i, j, waiting = 0, gone = b->n_threads;
	struct ptx_warp *at = &b->warp[0];
	const struct ptx_insn *x = NULL;

	for (i = 0; i < b->n_warps; i++) {
		struct ptx_warp *w = &b->warp[i];

		gone -= __builtin_popcount(w->alive);
		waiting += __builtin_popcount(w->at_bar);
		if (!w->at_bar && !w->at_warp)
			continue;
		at = w;
		j = __builtin_ctz(w->at_bar | w->at_warp);
		j = w->uniform ? w->upc : w->pc[j];
		x = &w->k->code[j - (w->at_bar && j > 0)];
	}
	ptx_fault(at, x, -1, ERR_ILLEGAL,
		  "deadlock: %d threads wait at a barrier, %d of %d have "
		  "returned, the rest wait for each other",
		  waiting, gone, b->n_threads);
}

/*
 * Only the block itself arrives at its mbarriers: if all it does is to wait at
 * them, and no copy is under way, it waits for ever.
 */
static bool hangs(struct ptx_block *b)
{
	const struct ptx_mbar *m = NULL;
	struct ptx_warp *at = NULL;
	int i;

	for (i = 0; i < b->n_warps; i++) {
		struct ptx_warp *w = &b->warp[i];

		if (!(w->alive & ~w->at_bar & ~w->at_warp))
			continue;
		if (!w->at_mbar || w->polled)
			return false;
		m = w->at_mbar;
		at = w;
	}
	if (!m || ++b->hung < HANG_TURNS)
		return m != NULL;
	ptx_fault(at, NULL, -1, ERR_FAILED,
		  "waits for ever at the mbarrier in shared memory at %u: its "
		  "phase %llu lacks %u arrivals and %lld bytes, which nobody "
		  "will bring",
		  m->at, (unsigned long long)m->phase, m->pending,
		  (long long)m->tx);
	return true;
}

enum ptx_state ptx_block_run(struct ptx_block *b)
{
	int i, first = (int)(ptx_random(b) % (uint64_t)b->n_warps);
	uint64_t before = b->ln->progress;
	bool ran = false, slept = false;
	uint32_t alive = 0;

	for (i = 0; i < b->n_warps && !b->ln->error; i++) {
		struct ptx_warp *w = &b->warp[(first + i) % b->n_warps];

		ran |= turn(w);
		slept |= w->slept;
		alive |= w->alive;
	}
	if (b->ln->progress != before || b->bulk.n || !hangs(b))
		b->hung = 0;
	if (b->ln->error)
		return PTX_FAULT;
	for (i = b->bulk.n - 1; i >= 0; i--)
		if (!ran || b->ln->progress == before || ptx_random(b) & 1)
			ptx_land_bulk(b, i);
	if (b->ln->error)
		return PTX_FAULT;
	if (!alive)
		return PTX_DONE;
	if (!ran && b->ln->progress == before) {
		stuck(b);
		return PTX_FAULT;
	}
	return slept && b->ln->progress == before ? PTX_IDLE : PTX_RAN;
}
