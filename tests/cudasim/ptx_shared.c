/* SPDX-License-Identifier: MIT */
/*
 * ptx_shared.c - shared memory: its bounds, and who may see whose bytes.
 *
 * Every warp has a vector of clocks: what of each other warp it knows to have
 * happened. Barriers, mbarriers and atomics join the vectors; an access to
 * bytes whose last access is not known to have happened is a race, whatever
 * order this run happened to take. Bytes that a copy has yet to bring are
 * written by nobody until it lands.
 */
#include <string.h>

#include "ptx.h"

#define CLOCK_BITS 26
#define FLIGHT	   (63u << CLOCK_BITS)

void ptx_join(uint32_t *to, const uint32_t *from)
{
	int i;

	for (i = 0; i < PTX_ASYNC; i++)
		if (to[i] < from[i])
			to[i] = from[i];
}

static uint32_t epoch(int who, uint32_t clock)
{
	return (uint32_t)who << CLOCK_BITS | (clock & ((1u << CLOCK_BITS) - 1));
}

static bool known(uint32_t e, const uint32_t *clock, int who)
{
	int of = (int)(e >> CLOCK_BITS);

	return !e || of == who || clock[of] >= (e & ((1u << CLOCK_BITS) - 1));
}

static void race(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		 uint32_t at, uint32_t e, const char *now, const char *before)
{
	int of = (int)(e >> CLOCK_BITS);

	if (of == PTX_WARPS)
		ptx_fault(w, x, lane, ERR_FAILED,
			  "race: %s shared memory at %u, which a bulk copy "
			  "wrote and no mbarrier was waited for",
			  now, at);
	else
		ptx_fault(w, x, lane, ERR_FAILED,
			  "race: %s shared memory at %u, which warp %d %s, "
			  "with no barrier between them",
			  now, at, of, before);
}

static bool note_read(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		      struct ptx_shadow *s, uint32_t at, uint8_t mask,
		      const uint32_t *clock, int who)
{
	uint32_t e = epoch(who, clock[who]);
	int i;

	if (s->writer == FLIGHT && (s->wmask & mask)) {
		ptx_fault(w, x, lane, ERR_FAILED,
			  "read of shared memory at %u before an asynchronous "
			  "copy to it was waited for",
			  at);
		return false;
	}
	if ((s->wmask & mask) && !known(s->writer, clock, who)) {
		race(w, x, lane, at, s->writer, "reads", "wrote");
		return false;
	}
	/* The place of a reader that this one comes after, else at random. */
	for (i = 0; i < 2 && !known(s->reader[i], clock, who); i++)
		;
	if (i == 2)
		i = (int)(ptx_random(w->b) & 1);
	if (!s->reader[0] && !s->reader[1])
		s->rmask = 0;
	s->reader[i] = e;
	s->rmask |= mask;
	return true;
}

static bool note_write(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		       struct ptx_shadow *s, uint32_t at, uint8_t mask,
		       enum ptx_access how, const uint32_t *clock, int who)
{
	int i;

	if (how == ACC_LAND) {
		s->writer = epoch(who, clock[who]);
		s->wmask = mask;
		return true;
	}
	if (s->writer == FLIGHT && (s->wmask & mask)) {
		ptx_fault(w, x, lane, ERR_FAILED,
			  "write to shared memory at %u, to which an "
			  "asynchronous copy is under way",
			  at);
		return false;
	}
	if ((s->wmask & mask) && !known(s->writer, clock, who)) {
		race(w, x, lane, at, s->writer, "writes", "wrote");
		return false;
	}
	for (i = 0; i < 2; i++) {
		if (!(s->rmask & mask) || known(s->reader[i], clock, who))
			continue;
		race(w, x, lane, at, s->reader[i], "writes", "read");
		return false;
	}
	/* Neighbours in the same word that others wrote stay unsaid. */
	s->writer = how == ACC_FLIGHT ? FLIGHT : epoch(who, clock[who]);
	s->wmask = mask;
	s->reader[0] = s->reader[1] = 0;
	s->rmask = 0;
	return true;
}

bool ptx_shared_access(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		       uint32_t at, uint32_t n, enum ptx_access how,
		       const uint32_t *clock, int who)
{
	struct ptx_block *b = w->b;
	uint32_t end = at + n;

	if (at > b->n_shared || n > b->n_shared - at) {
		ptx_fault(w, x, lane, ERR_ADDRESS,
			  "%s %u bytes at %u of %u bytes of shared memory",
			  how == ACC_READ ? "reads" : "writes", n, at,
			  b->n_shared);
		return false;
	}
	while (at < end) {
		struct ptx_shadow *s = &b->shadow[at / 4];
		uint32_t from = at & 3, to = end - (at & ~3u);
		uint8_t mask;
		bool ok;

		if (to > 4)
			to = 4;
		mask = (uint8_t)((0xf << from) & (0xf >> (4 - to)));
		ok = how == ACC_READ
			     ? note_read(w, x, lane, s, at, mask, clock, who)
			     : note_write(w, x, lane, s, at, mask, how, clock,
					  who);
		if (!ok)
			return false;
		at = (at & ~3u) + 4;
	}
	return true;
}
