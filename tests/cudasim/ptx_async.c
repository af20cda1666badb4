/* SPDX-License-Identifier: MIT */
/*
 * ptx_async.c - copies that end later, and the mbarriers that say when.
 *
 * A copy lands as late as the program allows, or by the seed at once; until
 * then its destination is written by nobody and read by nobody.
 */
#include <stdlib.h>
#include <string.h>

#include "ptx_ops.h"
#include "tma.h"

struct ptx_copy *ptx_copy_add(struct ptx_copies *q)
{
	if (q->n == q->room) {
		q->room = q->room ? 2 * q->room : 16;
		q->c = realloc(q->c, (size_t)q->room * sizeof(*q->c));
		if (!q->c)
			abort();
	}
	memset(&q->c[q->n], 0, sizeof(*q->c));
	return &q->c[q->n++];
}

void ptx_copies_free(struct ptx_copies *q)
{
	free(q->c);
}

static const void *source(struct ptx_warp *w, const struct ptx_insn *x,
			  int lane, uint64_t at, uint32_t n)
{
	const char *why = "";
	const void *p =
		dev_access(w->b->ln, at, n, false, false, w->waited, &why);

	if (!p)
		ptx_fault(w, x, lane, ERR_ADDRESS,
			  "copies %u bytes from 0x%llx: %s", n,
			  (unsigned long long)at, why);
	return p;
}

/* Nothing comes of them, but who asks for what is no memory has counted wrong. */
void op_prefetch(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	const uint64_t *N = x->n_groups > 1 ? ptx_op_row(w, x, 1) : NULL;
	const char *why = "";
	int l;

	EACH(l, ex)
	{
		uint64_t at =
			ptx_op_row(w, x, 0)[l] + (uint64_t)(int64_t)x->off[0];
		uint32_t n = N ? (uint32_t)N[l] : 1;

		if (N && ((at | n) & 15 || !n)) {
			ptx_fault(w, x, l, ERR_MISALIGNED,
				  "prefetch of %u bytes from 0x%llx: not by 16",
				  n, (unsigned long long)at);
			return;
		}
		if (!dev_access(w->b->ln, at, n, false, false, w->waited,
				&why)) {
			ptx_fault(w, x, l, ERR_ADDRESS,
				  "prefetches %u bytes from 0x%llx: %s", n,
				  (unsigned long long)at, why);
			return;
		}
	}
}

/* -------------------------------------------------------------- cp.async */

void op_cp_async(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	const uint64_t *D = ptx_op_row(w, x, 0), *S = ptx_op_row(w, x, 1);
	const uint64_t *N = ptx_op_row(w, x, 2);
	const uint64_t *B = x->n_groups > 3 ? ptx_op_row(w, x, 3) : N;
	int l;

	w->b->ln->progress++;
	EACH(l, ex)
	{
		uint32_t at = (uint32_t)D[l] + (uint32_t)x->off[0];
		uint32_t n = (uint32_t)N[l], bytes = (uint32_t)B[l];
		uint64_t from = S[l] + (uint64_t)(int64_t)x->off[1];
		struct ptx_copy *c;

		if ((n != 4 && n != 8 && n != 16) || bytes > n ||
		    (at | from) & (n - 1)) {
			ptx_fault(w, x, l, ERR_MISALIGNED,
				  "cp.async of %u of %u bytes from 0x%llx to "
				  "%u",
				  bytes, n, (unsigned long long)from, at);
			return;
		}
		if ((bytes && !source(w, x, l, from, bytes)) ||
		    !ptx_shared_access(w, x, l, at, n, ACC_FLIGHT, w->clock,
				       w->id))
			return;
		c = ptx_copy_add(&w->copies);
		c->dst = at;
		c->src = from;
		c->bytes = bytes;
		c->fill = n - bytes;
		c->group = w->group[l];
		c->x = x;
		c->lane = l;
	}
}

static void land(struct ptx_warp *w, const struct ptx_copy *c)
{
	uint8_t *to = w->b->shared + c->dst;

	if (c->bytes) {
		const void *from = source(w, c->x, c->lane, c->src, c->bytes);

		if (!from)
			return;
		memcpy(to, from, c->bytes);
	}
	memset(to + c->bytes, 0, c->fill);
	ptx_shared_access(w, c->x, c->lane, (uint32_t)c->dst,
			  c->bytes + c->fill, ACC_LAND, w->clock, w->id);
}

/* All but the last ALLOWED groups of these lanes land. */
static void wait_groups(struct ptx_warp *w, uint32_t ex, uint32_t allowed)
{
	struct ptx_copies *q = &w->copies;
	int i, kept = 0;

	for (i = 0; i < q->n; i++) {
		struct ptx_copy *c = &q->c[i];

		if ((ex >> c->lane & 1) &&
		    w->group[c->lane] - c->group > allowed)
			land(w, c);
		else
			q->c[kept++] = *c;
	}
	q->n = kept;
}

void op_cp_commit(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	int l;

	(void)x;
	EACH(l, ex) w->group[l]++;
}

void op_cp_wait(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	if (ex)
		wait_groups(w, ex, (uint32_t)ptx_op_row(w, x, 0)[0]);
}

void op_cp_wait_all(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	op_cp_commit(w, x, ex);
	wait_groups(w, ex, 0);
}

/* ------------------------------------------------------------- mbarriers */

static struct ptx_mbar *find_mbar(struct ptx_warp *w, const struct ptx_insn *x,
				  int lane, uint32_t at)
{
	struct ptx_block *b = w->b;
	int i;

	for (i = 0; i < b->n_mbar; i++)
		if (b->mbar[i].at == at && b->mbar[i].expect)
			return &b->mbar[i];
	ptx_fault(w, x, lane, ERR_ILLEGAL, "no mbarrier was initialised at %u",
		  at);
	return NULL;
}

/* The one an operand names; its bytes count as read by this warp. */
static struct ptx_mbar *mbar_of(struct ptx_warp *w, const struct ptx_insn *x,
				int lane, int group)
{
	uint32_t at = (uint32_t)ptx_op_row(w, x, group)[lane] +
		      (uint32_t)x->off[group];
	struct ptx_mbar *m = find_mbar(w, x, lane, at);

	if (m &&
	    !ptx_shared_access(w, x, lane, at, 8, ACC_READ, w->clock, w->id))
		return NULL;
	return m;
}

static void phase_check(struct ptx_block *b, struct ptx_mbar *m)
{
	if (m->pending || m->tx)
		return;
	ptx_join(m->done, m->clock);
	m->phase++;
	m->pending = m->expect;
	b->ln->progress++;
}

void op_mbar_init(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	struct ptx_block *b = w->b;
	int l, i;

	EACH(l, ex)
	{
		uint32_t at =
			(uint32_t)ptx_op_row(w, x, 0)[l] + (uint32_t)x->off[0];
		uint32_t n = (uint32_t)ptx_op_row(w, x, 1)[l];

		if (!n || n >= 1u << 20 || at & 7) {
			ptx_fault(w, x, l, ERR_ILLEGAL,
				  "mbarrier at %u for %u arrivals", at, n);
			return;
		}
		if (!ptx_shared_access(w, x, l, at, 8, ACC_WRITE, w->clock,
				       w->id))
			return;
		for (i = 0; i < b->n_mbar && b->mbar[i].at != at; i++)
			;
		if (i == PTX_MBARS) {
			ptx_fault(w, x, l, ERR_FAILED, "more than %d mbarriers",
				  PTX_MBARS);
			return;
		}
		b->n_mbar += i == b->n_mbar;
		b->mbar[i] = (struct ptx_mbar){ .at = at,
						.expect = n,
						.pending = n };
	}
}

void op_mbar_inval(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	int l;

	EACH(l, ex)
	{
		struct ptx_mbar *m = mbar_of(w, x, l, 0);

		if (!m)
			return;
		m->expect = 0;
	}
}

static void expect(struct ptx_mbar *m, uint64_t bytes)
{
	m->tx += (int64_t)(uint32_t)bytes;
}

void op_mbar_expect(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	int l;

	EACH(l, ex)
	{
		struct ptx_mbar *m = mbar_of(w, x, l, 0);

		if (!m)
			return;
		expect(m, ptx_op_row(w, x, 1)[l]);
	}
}

void op_mbar_arrive(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	int l;

	EACH(l, ex)
	{
		struct ptx_mbar *m = mbar_of(w, x, l, 1);
		uint64_t v = x->n_groups > 2 ? ptx_op_row(w, x, 2)[l] : 1;
		uint32_t n = x->expect_tx ? 1 : (uint32_t)v;

		if (!m)
			return;
		if (x->expect_tx)
			expect(m, v);
		if (n > m->pending) {
			ptx_fault(w, x, l, ERR_ILLEGAL,
				  "%u arrivals at the mbarrier at %u, which "
				  "waits for %u",
				  n, m->at, m->pending);
			return;
		}
		D[l] = m->phase;
		ptx_join(m->clock, w->clock);
		m->pending -= n;
		phase_check(w->b, m);
	}
	if (ex)
		w->clock[w->id]++;
}

static void test(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex,
		 bool parity)
{
	uint64_t *D = ptx_op_row(w, x, 0);
	const uint64_t *S = ptx_op_row(w, x, 2);
	int l;

	EACH(l, ex)
	{
		struct ptx_mbar *m = mbar_of(w, x, l, 1);
		uint64_t phase;

		if (!m)
			return;
		phase = parity ? m->phase & 1 : m->phase;
		D[l] = phase != (parity ? S[l] & 1 : S[l]);
		if (D[l]) {
			ptx_join(w->clock, m->done);
		} else {
			w->slept = true;
			w->at_mbar = m;
		}
	}
}

void op_mbar_test(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	test(w, x, ex, false);
}

void op_mbar_parity(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	test(w, x, ex, true);
}

/* ----------------------------------------------------------- bulk copies */

static uint32_t swizzled(uint32_t a, uint32_t mode)
{
	/* 1: 32 bytes, 2: 64, 3: 128 */
	return mode ? a ^ (a >> 7 & ((1u << mode) - 1)) << 4 : a;
}

/* Rows and columns outside the tensor are zeros. */
static bool land_tile(struct ptx_warp *w, const struct ptx_copy *c)
{
	const struct tma_map *t = c->map;
	uint32_t row = t->box[0] * t->elem, y, i;
	uint8_t *to = w->b->shared;

	for (y = 0; y < t->box[1]; y++) {
		int64_t gy = (int64_t)c->at[1] + y;

		for (i = 0; i < row; i += t->elem) {
			int64_t gx = (int64_t)c->at[0] + i / t->elem;
			uint32_t at = swizzled((uint32_t)c->dst + y * row + i,
					       t->swizzle);
			const void *from;

			if (gx < 0 || gy < 0 || gx >= (int64_t)t->dim[0] ||
			    gy >= (int64_t)t->dim[1]) {
				memset(to + at, 0, t->elem);
				continue;
			}
			from = source(w, c->x, c->lane,
				      t->addr + (uint64_t)gy * t->stride +
					      (uint64_t)gx * t->elem,
				      t->elem);
			if (!from)
				return false;
			memcpy(to + at, from, t->elem);
		}
	}
	return true;
}

void ptx_land_bulk(struct ptx_block *b, int i)
{
	struct ptx_copy c = b->bulk.c[i];
	struct ptx_warp *w = &b->warp[c.warp];
	uint32_t clock[PTX_ASYNC] = { 0 };
	struct ptx_mbar *m;

	b->bulk.c[i] = b->bulk.c[--b->bulk.n];
	b->ln->progress++;
	if (c.map) {
		if (!land_tile(w, &c))
			return;
	} else {
		const void *from = source(w, c.x, c.lane, c.src, c.bytes);

		if (!from)
			return;
		memcpy(b->shared + c.dst, from, c.bytes);
	}
	clock[PTX_WARPS] = ++b->landed;
	ptx_shared_access(w, c.x, c.lane, (uint32_t)c.dst, c.bytes, ACC_LAND,
			  clock, PTX_WARPS);
	m = find_mbar(w, c.x, c.lane, c.mbar);
	if (!m)
		return;
	ptx_join(m->clock, clock);
	m->tx -= c.bytes;
	phase_check(b, m);
}

static bool start(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		  struct ptx_copy *c, int mbar)
{
	struct ptx_mbar *m = mbar_of(w, x, lane, mbar);

	if (!m || !ptx_shared_access(w, x, lane, (uint32_t)c->dst, c->bytes,
				     ACC_FLIGHT, w->clock, w->id))
		return false;
	c->mbar = m->at;
	c->x = x;
	c->lane = lane;
	c->warp = w->id;
	*ptx_copy_add(&w->b->bulk) = *c;
	w->b->ln->progress++;
	if (ptx_random(w->b) & 1)
		ptx_land_bulk(w->b, w->b->bulk.n - 1);
	return true;
}

void op_bulk(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	int l;

	EACH(l, ex)
	{
		struct ptx_copy c = {
			.dst = (uint32_t)ptx_op_row(w, x, 0)[l] +
			       (uint32_t)x->off[0],
			.src = ptx_op_row(w, x, 1)[l] +
			       (uint64_t)(int64_t)x->off[1],
			.bytes = (uint32_t)ptx_op_row(w, x, 2)[l],
		};

		if ((c.dst | c.src | c.bytes) & 15 || !c.bytes) {
			ptx_fault(w, x, l, ERR_MISALIGNED,
				  "bulk copy of %u bytes from 0x%llx to %u: "
				  "not by 16",
				  c.bytes, (unsigned long long)c.src,
				  (uint32_t)c.dst);
			return;
		}
		if (!source(w, x, l, c.src, c.bytes) || !start(w, x, l, &c, 3))
			return;
	}
}

void op_tma2d(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex)
{
	int l;

	EACH(l, ex)
	{
		const struct tma_map *t = ptx_memory(
			w, x, l, ptx_row(w, ptx_arg(x, 1, 0))[l], 64, false);
		struct ptx_copy c = {
			.dst = (uint32_t)ptx_op_row(w, x, 0)[l] +
			       (uint32_t)x->off[0],
			.map = t,
			.at = { (int)ptx_row(w, ptx_arg(x, 1, 1))[l],
				(int)ptx_row(w, ptx_arg(x, 1, 2))[l] },
		};

		if (!t)
			return;
		if (t->magic != TMA_MAGIC || t->rank != 2) {
			ptx_fault(w, x, l, ERR_ILLEGAL,
				  "no tensor map of rank 2 where it says");
			return;
		}
		c.bytes = t->box[0] * t->box[1] * t->elem;
		if (c.dst & 127 ||
		    (t->swizzle && c.dst & ((128u << t->swizzle) - 1))) {
			ptx_fault(w, x, l, ERR_MISALIGNED,
				  "tile at %u, not aligned to its swizzle",
				  (uint32_t)c.dst);
			return;
		}
		if (!start(w, x, l, &c, 2))
			return;
	}
}
