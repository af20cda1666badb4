/* SPDX-License-Identifier: MIT */
/*
 * sched.h - who goes next on one model: queues by uid, running requests.
 *
 * A request waits in its flow (a uid's queue, first in first out), then runs
 * until it is done. Between flows, deficit round robin over the tokens that a
 * request may cost. At most @max_running run; each has a KV sequence. A uid
 * that has nothing running need not wait for one that has more than its share:
 * the latter's youngest request goes back to its queue.
 *
 * A step has a budget of tokens: first one token for each request that
 * generates, then prompts in chunks, the rest shared evenly between flows.
 * When no KV block is left, the youngest running request gives its blocks back
 * and waits; kernels are bit-reproducible, so when its tokens are computed
 * again later the answer goes on as it would have. The oldest request of all
 * is never taken from and fits alone (admission saw to it): it always ends, and
 * so does everyone.
 *
 * A suspect (req.mark: an engine died in a step with it) counts as the oldest.
 * One at a time runs, in every other step and alone in it, until it has passed
 * the place; then it is like all others.
 */
#ifndef HEARTH_SCHED_H
#define HEARTH_SCHED_H

#include "kv.h"
#include "mem.h"
#include "req.h"

#define SCHED_QUANTUM 256 /* tokens a flow earns in a round */

/**
 * struct sched_flow - what one uid has on this model
 * @head, @tail: waiting requests, oldest first
 * @next, @prev: ring of flows that have some waiting
 */
struct sched_flow {
	struct req *head;
	struct req *tail;
	uint64_t deficit;
	uint32_t n_running;
	uint32_t next;
	uint32_t prev;
};

/**
 * struct sched - the scheduler of one model
 * @kv:        borrowed
 * @turn:      flow of the ring whose turn it is, SCHED_NONE if all are empty
 * @run:       running requests, oldest first
 * @suspects:  suspects that wait, oldest first; not among @n_waiting
 * @suspect:   the one that runs
 * @alone:     the last step was for it
 * @turn_prefill: rotates which flow's prompt gets the odd tokens
 * @n_preempted: how often a running request had to go back
 */
struct sched {
	struct kv *kv;
	struct sched_flow *flows;
	uint32_t n_flows;
	uint32_t turn;
	uint32_t n_waiting;
	uint32_t n_active_flows;
	uint32_t max_running;
	uint32_t n_running;
	uint32_t turn_prefill;
	uint64_t n_preempted;
	struct req **run;
	struct req *suspects;
	struct req *suspect;
	bool alone;
};

#define SCHED_NONE 0xffffffffu

int sched_init(struct sched *s, const struct mem *mem, struct kv *kv,
	       uint32_t n_flows, uint32_t max_running);
void sched_fini(struct sched *s, const struct mem *mem);

/* A request that was accepted: state QUEUED. */
void sched_add(struct sched *s, struct req *r);

/* Take a request out, wherever it is; its blocks are free on return. */
void sched_del(struct sched *s, struct req *r);

/* Move from the queues to @run what has room. */
void sched_admit(struct sched *s);

/**
 * sched_plan() - decide the step: n_now of each running request
 * @tokens: budget of tokens
 * @rows:   budget of output rows
 * KV tables cover what is planned. Return: tokens planned; 0 only when
 * nothing runs.
 */
uint32_t sched_plan(struct sched *s, uint32_t tokens, uint32_t rows);

/* Output rows that the next @n tokens of @r need. */
uint32_t sched_rows(const struct req *r, uint32_t n);

static inline bool sched_busy(const struct sched *s)
{
	return s->n_running || s->n_waiting || s->suspects;
}

#endif
