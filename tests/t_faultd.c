/* SPDX-License-Identifier: MIT */
/*
 * t_faultd.c - hearthd whose backend dies of certain tokens.
 *
 * The real daemon with another table of backends: its oracle is the oracle
 * but for a token that follows itself. Then, when the second one is computed,
 * the engine crashes, aborts, exits, hangs, or crashes unless it is alone in
 * its step (t_resume faults knows the numbers).
 */
#include <stdlib.h>
#include <string.h>

#include "../daemon/main.c"

#include "../daemon/oracle.h"

enum fault { CRASH = 251, ABORT, EXIT, HANG, CROWD, FAULT_END };

/* The token at each place of the cache. */
static uint32_t *cells;

static int fault_kv_alloc(struct backend_model *m, uint32_t n_blocks)
{
	free(cells);
	cells = calloc((size_t)n_blocks * KV_BLOCK, sizeof(*cells));
	if (!cells)
		return -ENOMEM;
	return backend_oracle.kv_alloc(m, n_blocks);
}

static uint32_t *cell(const struct batch_seq *s, uint32_t pos)
{
	return &cells[s->blocks[pos / KV_BLOCK] * KV_BLOCK + pos % KV_BLOCK];
}

static void fail(enum fault f, bool crowd)
{
	volatile int *nowhere = NULL;
	volatile int turn = 0;

	switch (f) {
	case CROWD:
		if (!crowd)
			return;
		*nowhere = 1;
		break;
	case CRASH:
		*nowhere = 1;
		break;
	case ABORT:
		abort();
	case EXIT:
		_exit(3);
	case HANG:
		while (!turn)
			;
		break;
	case FAULT_END:
		break;
	}
}

static int fault_step(struct backend_model *m, struct batch *b)
{
	const struct batch_seq *s;
	uint32_t i, k, token;

	for (i = 0; i < b->n_seqs; i++) {
		s = &b->seqs[i];
		for (k = 0; k < s->n; k++) {
			token = b->tokens[s->first + k];
			*cell(s, s->pos + k) = token;
			if (token >= CRASH && token < FAULT_END && s->pos + k &&
			    *cell(s, s->pos + k - 1) == token)
				fail(token, b->n_seqs > 1);
		}
	}
	return backend_oracle.step(m, b);
}

static struct backend_ops backend_fault;

const struct backend_ops *const backends[] = { &backend_cpu, &backend_fault,
					       NULL };

static void __attribute__((constructor)) init(void)
{
	backend_fault = backend_oracle;
	backend_fault.kv_alloc = fault_kv_alloc;
	backend_fault.step = fault_step;
}
