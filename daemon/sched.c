/* SPDX-License-Identifier: MIT */
/* sched.c - deficit round robin, continuous batching, preemption. */
#include "sched.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

int sched_init(struct sched *s, const struct mem *mem, struct kv *kv,
	       uint32_t n_flows, uint32_t max_running)
{
	memset(s, 0, sizeof(*s));
	s->kv = kv;
	s->n_flows = n_flows;
	s->max_running = max_running;
	s->turn = SCHED_NONE;
	s->flows = mem_alloc(mem, n_flows, sizeof(*s->flows));
	s->run = mem_alloc(mem, max_running, sizeof(*s->run));
	return s->flows && s->run ? 0 : -ENOMEM;
}

void sched_fini(struct sched *s, const struct mem *mem)
{
	mem_free(mem, s->flows);
	mem_free(mem, s->run);
	memset(s, 0, sizeof(*s));
}

/* The ring of flows with waiting requests. */
static void ring_add(struct sched *s, uint32_t i)
{
	struct sched_flow *f = &s->flows[i], *t;

	f->deficit = 0;
	s->n_active_flows++;
	if (s->turn == SCHED_NONE) {
		f->next = f->prev = s->turn = i;
		return;
	}
	/* Behind everybody else: just before the one whose turn it is. */
	t = &s->flows[s->turn];
	f->next = s->turn;
	f->prev = t->prev;
	s->flows[t->prev].next = i;
	t->prev = i;
}

static void ring_del(struct sched *s, uint32_t i)
{
	struct sched_flow *f = &s->flows[i];

	s->n_active_flows--;
	if (f->next == i) {
		s->turn = SCHED_NONE;
		return;
	}
	s->flows[f->prev].next = f->next;
	s->flows[f->next].prev = f->prev;
	if (s->turn == i)
		s->turn = f->next;
}

static void suspect_add(struct sched *s, struct req *r)
{
	struct req *p = NULL, **at = &s->suspects;

	for (; *at && (*at)->age <= r->age; at = &p->next)
		p = *at;
	r->prev = p;
	r->next = *at;
	if (r->next)
		r->next->prev = r;
	*at = r;
}

static void suspect_del(struct sched *s, struct req *r)
{
	if (r->prev)
		r->prev->next = r->next;
	else
		s->suspects = r->next;
	if (r->next)
		r->next->prev = r->prev;
	r->next = r->prev = NULL;
}

/* Into its flow's queue by age: new ones at the end, preempted ones before. */
static void enqueue(struct sched *s, struct req *r)
{
	struct sched_flow *f = &s->flows[r->flow];
	struct req *p = f->tail;

	if (r->mark) {
		suspect_add(s, r);
		return;
	}
	if (!f->head)
		ring_add(s, r->flow);
	while (p && p->age > r->age)
		p = p->prev;
	r->prev = p;
	r->next = p ? p->next : f->head;
	if (r->next)
		r->next->prev = r;
	else
		f->tail = r;
	if (p)
		p->next = r;
	else
		f->head = r;
	s->n_waiting++;
}

static void dequeue(struct sched *s, struct req *r)
{
	struct sched_flow *f = &s->flows[r->flow];

	if (r->mark) {
		suspect_del(s, r);
		return;
	}
	if (r->prev)
		r->prev->next = r->next;
	else
		f->head = r->next;
	if (r->next)
		r->next->prev = r->prev;
	else
		f->tail = r->prev;
	r->next = r->prev = NULL;
	s->n_waiting--;
	if (!f->head)
		ring_del(s, r->flow);
}

void sched_add(struct sched *s, struct req *r)
{
	assert(r->state == REQ_QUEUED && r->flow < s->n_flows);
	enqueue(s, r);
}

static void run_add(struct sched *s, struct req *r)
{
	uint32_t i = s->n_running++;

	for (; i && s->run[i - 1]->age > r->age; i--)
		s->run[i] = s->run[i - 1];
	s->run[i] = r;
	s->flows[r->flow].n_running++;
	r->state = REQ_RUNNING;
}

static void run_del(struct sched *s, struct req *r)
{
	uint32_t i = 0;

	while (s->run[i] != r)
		i++;
	s->n_running--;
	memmove(&s->run[i], &s->run[i + 1],
		(s->n_running - i) * sizeof(*s->run));
	s->flows[r->flow].n_running--;
	kv_seq_put(s->kv, r->seq);
	r->seq = -1;
	r->n_now = 0;
	if (s->suspect == r)
		s->suspect = NULL;
}

void sched_del(struct sched *s, struct req *r)
{
	if (r->state == REQ_RUNNING)
		run_del(s, r);
	else if (r->state == REQ_QUEUED)
		dequeue(s, r);
}

/* Back to the queue: what it computed is gone, its tokens are not. */
static void preempt(struct sched *s, struct req *r)
{
	run_del(s, r);
	r->n_done = 0;
	/* The mean over the prompt begins anew, unless it is complete. */
	if (r->n_embed < r->n_prompt)
		r->n_embed = 0;
	r->state = REQ_QUEUED;
	enqueue(s, r);
	s->n_preempted++;
}

/* Tokens that running it to its end may cost. */
static uint64_t cost(const struct req *r)
{
	return (uint64_t)req_left(r) + (r->max_out - r->n_out);
}

/* Blocks with which it may start: for its tokens so far, and the next one. */
static uint64_t first_blocks(const struct req *r)
{
	return kv_blocks_for((uint64_t)req_goal(r) + (r->n_out < r->max_out));
}

/*
 * May it start? Those that run already keep a free block each, so that they
 * need not be preempted at once. Alone it fits: admission saw to that.
 */
static bool has_blocks(const struct sched *s, const struct req *r)
{
	return !s->n_running || first_blocks(r) + s->n_running <= s->kv->n_free;
}

/*
 * The flow whose head goes next. Each flow earns SCHED_QUANTUM a round; rounds
 * in which nobody could afford anything are skipped in one stride.
 */
static uint32_t next_flow(struct sched *s)
{
	uint64_t rounds, least = UINT64_MAX, c;
	struct sched_flow *f;
	uint32_t i, n;

	if (s->turn == SCHED_NONE)
		return SCHED_NONE;
	for (i = s->turn, n = s->n_active_flows; n; n--, i = f->next) {
		f = &s->flows[i];
		c = cost(f->head);
		if (c <= f->deficit)
			return i;
		rounds = (c - f->deficit + SCHED_QUANTUM - 1) / SCHED_QUANTUM;
		if (rounds < least)
			least = rounds;
	}
	for (i = s->turn, n = s->n_active_flows; n; n--, i = f->next) {
		f = &s->flows[i];
		f->deficit += least * SCHED_QUANTUM;
	}
	for (i = s->turn; s->flows[i].deficit < cost(s->flows[i].head);)
		i = s->flows[i].next;
	return i;
}

/* The flow with the most running requests. */
static uint32_t greatest_flow(const struct sched *s)
{
	uint32_t k, most = s->run[0]->flow;

	for (k = 1; k < s->n_running; k++)
		if (s->flows[s->run[k]->flow].n_running >
		    s->flows[most].n_running)
			most = s->run[k]->flow;
	return most;
}

static uint32_t fair_share(const struct sched *s)
{
	uint32_t k, n = 0, share;

	for (k = 0; k < s->n_flows; k++)
		n += s->flows[k].head || s->flows[k].n_running;
	assert(n);
	share = s->max_running / n;
	return share ? share : 1;
}

/*
 * Flow @i waits and has nothing running: the flow with the most gives its
 * youngest requests back, down to its share, if that is enough to start.
 */
static bool make_room(struct sched *s, uint32_t i)
{
	uint64_t need, room = s->kv->n_free;
	uint32_t k, most, left, share;

	if (!s->n_running)
		return false;
	most = greatest_flow(s);
	share = fair_share(s);
	left = s->flows[most].n_running;
	need = first_blocks(s->flows[i].head) + s->n_running;
	for (k = s->n_running; k-- > 0 && left > share;) {
		if (s->run[k]->flow != most)
			continue;
		room += s->kv->len[s->run[k]->seq];
		need--;
		left--;
		if (need <= room)
			goto enough;
	}
	return false;
enough:
	for (k = s->n_running; s->flows[most].n_running > left;)
		if (s->run[--k]->flow == most)
			preempt(s, s->run[k]);
	return true;
}

/* A flow that waits with nothing running, or SCHED_NONE. */
static uint32_t starved_flow(const struct sched *s)
{
	uint32_t i = s->turn, n;

	for (n = s->n_active_flows; n; n--, i = s->flows[i].next)
		if (!s->flows[i].n_running)
			return i;
	return SCHED_NONE;
}

static bool start(struct sched *s, uint32_t i)
{
	struct sched_flow *f = &s->flows[i];
	struct req *r = f->head;
	uint64_t c = cost(r);

	if (!has_blocks(s, r))
		return false;
	r->seq = kv_seq_get(s->kv);
	assert(r->seq >= 0);
	f->deficit -= c < f->deficit ? c : f->deficit;
	dequeue(s, r);
	run_add(s, r);
	return true;
}

/* The next suspect, if the last has passed. Its blocks come as it grows. */
static void admit_suspect(struct sched *s)
{
	struct req *r = s->suspects;

	if (s->suspect && !s->suspect->mark)
		s->suspect = NULL;
	if (s->suspect || !r)
		return;
	if (s->n_running == s->max_running)
		preempt(s, s->run[s->n_running - 1]);
	r->seq = kv_seq_get(s->kv);
	assert(r->seq >= 0);
	dequeue(s, r);
	/* Nobody takes blocks from the oldest. */
	r->age = 0;
	run_add(s, r);
	s->suspect = r;
}

void sched_admit(struct sched *s)
{
	uint32_t i;

	admit_suspect(s);
	while (s->n_waiting && s->n_running < s->max_running) {
		i = next_flow(s);
		if (!start(s, i))
			break;
		if (s->flows[i].head)
			s->turn = i;
	}
	i = s->n_waiting ? starved_flow(s) : SCHED_NONE;
	if (i != SCHED_NONE && make_room(s, i))
		start(s, i);
}

uint32_t sched_rows(const struct req *r, uint32_t n)
{
	const uint32_t from = r->n_done, to = from + n, last = r->n_prompt - 1;
	const uint32_t flags = r->run.flags, n_logits = r->run.n_logits;
	const bool embed = r->n_embed < r->n_prompt;
	bool listed, last_row;
	uint32_t rows = 0, i;

	/* The row that the next token comes from, when it is not the prompt's. */
	if (r->n_out && r->n_out < r->max_out && to == req_tokens(r))
		rows++;
	if (from > last)
		return rows;
	if (flags & RING_RUN_EMBED_MEAN && embed)
		return rows + (to <= last ? to : r->n_prompt) - from;
	for (i = r->next_logits; i < n_logits && r->logits_at[i] < to; i++)
		rows++;
	if (to <= last)
		return rows;
	listed = n_logits && r->next_logits < n_logits &&
		 r->logits_at[n_logits - 1] == last;
	last_row = (flags & RING_RUN_EMBED_LAST && embed) ||
		   (!r->n_out && r->max_out);
	return rows + (last_row && !listed);
}

/* Most tokens, at most @n, whose rows fit. */
static uint32_t fit_rows(const struct req *r, uint32_t n, uint32_t rows)
{
	uint32_t lo = 0, mid;

	/* Rows grow with tokens: bisect. */
	while (lo < n) {
		mid = lo + (n - lo + 1) / 2;
		if (sched_rows(r, mid) <= rows)
			lo = mid;
		else
			n = mid - 1;
	}
	return lo;
}

/* Blocks for @n more positions of @r, taking from the younger if need be. */
static uint32_t claim(struct sched *s, struct req *r, uint32_t n)
{
	struct req *young;
	uint64_t reach;

	for (;;) {
		reach = kv_reach(s->kv, r->seq);
		if (reach > r->n_done)
			break;
		young = s->run[s->n_running - 1];
		if (young == r)
			return 0;
		preempt(s, young);
	}
	if (n > reach - r->n_done)
		n = (uint32_t)(reach - r->n_done);
	if (kv_grow(s->kv, r->seq, r->n_done + n))
		return 0;
	return n;
}

/* The request generates: one token, one row; or it gives its place back. */
static uint32_t plan_decode(struct sched *s, uint32_t tokens, uint32_t *rows)
{
	uint32_t i, n = 0, need;
	struct req *r;

	for (i = 0; i < s->n_running && n < tokens; i++) {
		r = s->run[i];
		if (req_left(r) != 1 || r == s->suspect)
			continue;
		need = sched_rows(r, 1);
		if (need > *rows)
			continue;
		r->n_now = claim(s, r, 1);
		if (!r->n_now) {
			/* It is the youngest itself. */
			preempt(s, r);
			break;
		}
		*rows -= need;
		n++;
	}
	return n;
}

/* Oldest request of flow @flow that has a prompt to compute. */
static struct req *prefill_of(const struct sched *s, uint32_t flow)
{
	uint32_t i;

	for (i = 0; i < s->n_running; i++)
		if (s->run[i]->flow == flow && !s->run[i]->n_now &&
		    s->run[i] != s->suspect && req_left(s->run[i]) > 1)
			return s->run[i];
	return NULL;
}

static uint32_t give(struct sched *s, struct req *r, uint32_t n, uint32_t *rows)
{
	if (n > req_left(r))
		n = req_left(r);
	/* What was generated is no prompt, see struct batch_seq. */
	if (req_in_prompt(r) && n > r->n_prompt - r->n_done)
		n = r->n_prompt - r->n_done;
	n = fit_rows(r, n, *rows);
	if (!n)
		return 0;
	n = claim(s, r, n);
	if (!n)
		return 0;
	*rows -= sched_rows(r, n);
	r->n_now = n;
	return n;
}

/*
 * Prompts: the rest of the budget in even shares, one request of each flow in
 * turn. A flow whose request took less than its share leaves it to the others.
 */
static uint32_t plan_prefill(struct sched *s, uint32_t tokens, uint32_t *rows)
{
	uint32_t flow, k, n_left = 0, n = 0, got, start_at;
	uint32_t seen = SCHED_NONE;
	struct req *r;

	for (flow = 0; flow < s->n_flows; flow++)
		n_left += s->flows[flow].n_running &&
			  prefill_of(s, flow) != NULL;
	if (!n_left)
		return 0;
	start_at = s->turn_prefill;
	for (k = 0; k < s->n_flows && tokens && n_left; k++) {
		flow = (start_at + k) % s->n_flows;
		r = s->flows[flow].n_running ? prefill_of(s, flow) : NULL;
		if (!r)
			continue;
		if (seen == SCHED_NONE)
			seen = flow;
		got = give(s, r, (tokens + n_left - 1) / n_left, rows);
		tokens -= got;
		n += got;
		n_left--;
	}
	if (seen != SCHED_NONE)
		s->turn_prefill = (seen + 1) % s->n_flows;
	/* What is left over: to anybody, oldest first. */
	for (k = 0; k < s->n_running && tokens; k++) {
		r = s->run[k];
		if (r->n_now || req_left(r) <= 1 || r == s->suspect)
			continue;
		got = give(s, r, tokens, rows);
		tokens -= got;
		n += got;
	}
	return n;
}

/* Everybody but the suspect. */
static uint32_t plan_many(struct sched *s, uint32_t tokens, uint32_t rows)
{
	uint32_t i, n = 0;

	plan_decode(s, tokens, &rows);
	for (i = 0; i < s->n_running; i++)
		n += s->run[i]->n_now;
	plan_prefill(s, tokens - n, &rows);
	for (i = 0, n = 0; i < s->n_running; i++)
		n += s->run[i]->n_now;
	return n;
}

uint32_t sched_plan(struct sched *s, uint32_t tokens, uint32_t rows)
{
	uint32_t i, n = 0;

	for (i = 0; i < s->n_running; i++)
		s->run[i]->n_now = 0;
	if (!s->suspect)
		return plan_many(s, tokens, rows);
	s->alone = !s->alone;
	if (!s->alone)
		n = plan_many(s, tokens, rows);
	if (!n)
		n = give(s, s->suspect, tokens, &rows);
	if (!n && s->alone)
		n = plan_many(s, tokens, rows);
	return n;
}
