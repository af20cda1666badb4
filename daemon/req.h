/* SPDX-License-Identifier: MIT */
/*
 * req.h - one request on its way from a client's ring to its last token.
 *
 * The session makes it (from a slot of the client's), the scheduler queues and
 * runs it, batch and engine move it forward. All decisions come from this
 * private struct; arrays that it points to lie in D, which the client can only
 * read. Still, token ids from there are compared with the vocabulary at each
 * use: that costs nothing.
 */
#ifndef HEARTH_REQ_H
#define HEARTH_REQ_H

#include <stdbool.h>
#include <stdint.h>

#include "run.h"

struct session;
struct model;

enum req_state {
	REQ_FREE,    /* the slot is the client's to use */
	REQ_WAITING, /* a dead engine ran it; its model is not here yet */
	REQ_QUEUED,  /* in its flow's queue, has no KV blocks */
	REQ_RUNNING, /* has a sequence; may be in any step */
	REQ_DONE,    /* output stays until the client releases it */
};

/**
 * struct req - a request
 * @flow:    index of its uid's flow
 * @seq:     its sequence in the model's kv while RUNNING
 * @age:     order of acceptance; smaller is older, kept when preempted and
 *           when another engine takes over
 * @n_prompt, @n_out, @max_out: as in the slot
 * @n_done:  positions in the KV cache
 * @n_now:   new positions in this step
 * @n_prefill: prompt positions that were in the cache at some time
 * @n_embed: prompt positions that the embedding has seen
 * @next_logits: first entry of @logits_at that is still to be copied
 * @sum:     of the record and the output so far, as in the slot
 * @mark:    as in the slot: not 0, and it gets steps of its own
 * @fail:    set by batch or engine: ends with this error after the step
 * @how:     set in the step that ends it
 * @off:     its extent in the arena; @has_extent
 * @posted:  an unconsumed PROGRESS entry is at index @posted_at
 */
struct req {
	struct session *s;
	struct model *m;
	uint32_t slot;
	uint32_t gen;
	uint32_t flow;
	enum req_state state;
	int seq;
	uint64_t age;

	struct ring_run run;
	uint32_t n_prompt;
	uint32_t n_out;
	uint32_t max_out;
	uint32_t n_done;
	uint32_t n_now;
	uint32_t n_prefill;
	uint32_t n_embed;
	uint32_t next_logits;
	uint32_t mark;
	uint64_t sum;
	int fail;
	enum ring_finish how;

	bool started;
	bool has_extent;
	bool posted;
	uint32_t posted_at;
	uint64_t off;
	const uint32_t *prompt;
	const struct ring_bias *bias;
	const uint32_t *stop;
	const uint32_t *logits_at;
	struct ring_token *out;
	struct ring_top *top;
	float *logits;
	float *embed;

	struct req *next; /* in its flow's queue */
	struct req *prev;
};

/* Tokens it has: prompt and output. */
static inline uint32_t req_tokens(const struct req *r)
{
	return r->n_prompt + r->n_out;
}

/* Tokens that go through the model before the next one, or before the end. */
static inline uint32_t req_goal(const struct req *r)
{
	return r->n_out < r->max_out ? req_tokens(r) : r->n_prompt;
}

/* Those of them that have not yet. */
static inline uint32_t req_left(const struct req *r)
{
	return req_goal(r) - r->n_done;
}

/* Is its next token one of the prompt? */
static inline bool req_in_prompt(const struct req *r)
{
	return r->n_done < r->n_prompt;
}

static inline uint32_t req_token(const struct req *r, uint32_t pos)
{
	return pos < r->n_prompt ? r->prompt[pos]
				 : r->out[pos - r->n_prompt].token;
}

#endif
