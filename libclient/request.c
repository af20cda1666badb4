/* SPDX-License-Identifier: MIT */
/* request.c - requests: into the ring, out of it, and back to the slot. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "conn.h"

#define PENALTY_LAST 64

_Static_assert(sizeof(struct hearth_bias) == sizeof(struct ring_bias), "bias");
_Static_assert(sizeof(struct hearth_top) == sizeof(struct ring_top), "top");
_Static_assert((int)HEARTH_FINISH_DONE == (int)RING_FIN_DONE, "finish");

/* ------------------------------------------------------------------ slots */

uint64_t req_id(const struct req *r)
{
	return (uint64_t)r->gen << 32 | r->slot;
}

struct req *req_find(struct hearth *h, uint64_t id)
{
	uint32_t slot = (uint32_t)id;
	struct req *r;

	if (slot >= h->lay.n_slots)
		return NULL;
	r = &h->req[slot];
	if (r->state == REQ_FREE || r->release ||
	    r->gen != (uint32_t)(id >> 32))
		return NULL;
	return r;
}

const struct ring_slot *req_slot(const struct hearth *h, struct req *r)
{
	const struct ring_slot *s;

	s = (const struct ring_slot *)(const void *)(h->d + h->lay.d_slot_off) +
	    r->slot;
	/* the engine frees a slot before it gives it a new generation, and
	 * sets the state last */
	if (r->refused || __atomic_load_n(&s->gen, __ATOMIC_ACQUIRE) != r->gen)
		return NULL;
	if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) == RING_SLOT_FREE)
		return NULL;
	return s;
}

const void *req_range(const struct hearth *h, uint64_t off, uint64_t n,
		      uint64_t size)
{
	uint64_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes) || off & 3 ||
	    off < h->lay.d_arena_off || off > h->lay.d_bytes ||
	    bytes > h->lay.d_bytes - off)
		return NULL;
	return h->d + off;
}

const struct ring_token *req_tokens(const struct hearth *h, struct req *r)
{
	const struct ring_slot *s = req_slot(h, r);

	if (!s)
		return NULL;
	return req_range(h, s->out_off, s->max_out, sizeof(struct ring_token));
}

uint32_t req_n_out(const struct hearth *h, struct req *r)
{
	const struct ring_slot *s = req_slot(h, r);
	uint32_t n;

	if (!s)
		return 0;
	n = __atomic_load_n(&s->n_out, __ATOMIC_ACQUIRE);
	if (n > s->max_out)
		n = s->max_out;
	if (r->cut && n > r->n_shown)
		n = r->n_shown;
	return n;
}

static struct req *take_slot(struct hearth *h)
{
	struct req *r;
	uint32_t i;

	for (i = 0; i < h->lay.n_slots; i++) {
		r = &h->req[(h->next_slot + i) % h->lay.n_slots];
		if (r->state == REQ_FREE) {
			h->next_slot = r->slot + 1;
			return r;
		}
	}
	return NULL;
}

/* Out of the list of slots that may still have events. */
static void unlist(struct hearth *h, struct req *r)
{
	uint32_t last = h->live[--h->n_live];

	h->live[r->live_at] = last;
	h->req[last].live_at = r->live_at;
}

void req_over(struct hearth *h, struct req *r)
{
	unlist(h, r);
	r->state = REQ_OVER;
}

/* The slot is nobody's any more. Its generation stays: it is never reused. */
static void forget(struct hearth *h, struct req *r)
{
	uint32_t slot = r->slot;
	uint32_t gen = r->gen;

	if (r->state == REQ_LIVE || r->state == REQ_ENDED)
		unlist(h, r);
	stop_fini(&r->stop);
	model_put(r->model);
	memset(r, 0, sizeof(*r));
	r->slot = slot;
	r->gen = gen;
}

/* ------------------------------------------------- cancelling, releasing */

/* Send CANCEL or RELEASE; a full queue leaves a note for req_flush(). */
static int tell(struct hearth *h, struct req *r, enum ring_op op)
{
	struct ring_sqe e = {
		.op = (uint16_t)op,
		.slot = r->slot,
		.gen = r->gen,
	};

	return cring_push(h, &e);
}

void req_cancel(struct hearth *h, struct req *r)
{
	if (r->state != REQ_LIVE || r->cancelled)
		return;
	if (tell(h, r, RING_OP_CANCEL) == -EAGAIN) {
		h->n_deferred += !r->cancel;
		r->cancel = true;
		return;
	}
	h->n_deferred -= r->cancel;
	r->cancel = false;
	r->cancelled = true;
}

/* Give the slot back to the engine and then to the next request. RELEASE
 * stops what still runs, and what is left of it in the completion queue has
 * another generation than the next request in the slot. */
void req_release(struct hearth *h, struct req *r)
{
	if (r->cancel) {
		r->cancel = false;
		h->n_deferred--;
	}
	if (!r->refused && !r->lost && tell(h, r, RING_OP_RELEASE) == -EAGAIN) {
		h->n_deferred += !r->release;
		r->release = true;
		return;
	}
	h->n_deferred -= r->release;
	forget(h, r);
}

void req_flush(struct hearth *h)
{
	struct req *r;
	uint32_t i;

	for (i = 0; h->n_deferred && i < h->lay.n_slots; i++) {
		r = &h->req[i];
		if (r->state != REQ_FREE && r->release)
			req_release(h, r);
		else if (r->state == REQ_LIVE && r->cancel)
			req_cancel(h, r);
	}
}

void req_complete(struct hearth *h, const struct ring_cqe *e)
{
	struct req *r;

	if (e->event == RING_EV_NOP) {
		if (e->arg == h->nop_seen + 1 && e->arg <= h->nop_sent)
			h->nop_seen = e->arg;
		else if (e->arg > h->nop_given_up)
			h->nop_wrong++;
		return;
	}
	if ((e->event != RING_EV_DONE && e->event != RING_EV_REFUSED) ||
	    e->slot >= h->lay.n_slots)
		return;
	r = &h->req[e->slot];
	if (r->gen != e->gen || r->state != REQ_LIVE)
		return;
	r->state = REQ_ENDED;
	if (e->event == RING_EV_REFUSED) {
		r->refused = true;
		r->err = e->err < 0 ? e->err : -EIO;
		r->reason = e->reason;
		r->arg = e->arg;
		r->limit = e->limit;
	}
}

/* ------------------------------------------------------------- submitting */

static int check_range(struct hearth *h, const char *name, float v, float lo,
		       float hi)
{
	if (v >= lo && v <= hi)
		return 0;
	return err_set(h, -EINVAL, "%s is %g, allowed is %g to %g", name,
		       (double)v, (double)lo, (double)hi);
}

static int check_count(struct hearth *h, const char *name, size_t n, size_t max,
		       const void *p)
{
	if (n > max)
		return err_set(h, -EINVAL, "%zu %s, at most %zu", n, name, max);
	if (n && !p)
		return err_set(h, -EINVAL, "%zu %s but no array", n, name);
	return 0;
}

static int check_params(struct hearth *h, const struct hearth_request *q)
{
	int err;

	err = check_range(h, "temperature", q->temperature, 0, 100);
	if (!err)
		err = check_range(h, "top_p", q->top_p, 0, 1);
	if (!err)
		err = check_range(h, "min_p", q->min_p, 0, 0x1.fffffep-1f);
	if (!err)
		err = check_range(h, "repeat_penalty", q->repeat_penalty, 0,
				  100);
	if (!err)
		err = check_range(h, "presence_penalty", q->presence_penalty,
				  -2, 2);
	if (!err)
		err = check_range(h, "frequency_penalty", q->frequency_penalty,
				  -2, 2);
	if (!err)
		err = check_count(h, "biases", q->n_bias, RING_MAX_BIAS,
				  q->bias);
	if (!err)
		err = check_count(h, "stop tokens", q->n_stop_tokens,
				  RING_MAX_STOP, q->stop_tokens);
	if (!err)
		err = check_count(h, "logits positions", q->n_logits_pos,
				  RING_MAX_LOGITS, q->logits_pos);
	if (!err)
		err = check_count(h, "top log-probabilities", q->n_top_logprobs,
				  RING_MAX_TOP_LOGPROBS, "");
	return err;
}

static int check_prompt(struct hearth *h, const struct hearth_request *q)
{
	uint32_t n_vocab = q->model->info.n_vocab;
	uint64_t n_ctx = q->model->info.n_ctx;
	uint64_t need;
	size_t i;

	if (!q->n_prompt || !q->prompt)
		return err_set(h, -EINVAL, "the prompt has no tokens");
	need = q->n_prompt;
	if (!q->no_generate)
		need += q->max_tokens ? q->max_tokens : 1;
	if (q->n_prompt > UINT32_MAX || (n_ctx && need > n_ctx))
		return err_set(h, -E2BIG,
			       "%zu prompt tokens and %llu to generate need "
			       "%llu, the context of %s holds %llu",
			       q->n_prompt,
			       (unsigned long long)(need - q->n_prompt),
			       (unsigned long long)need, q->model->info.name,
			       (unsigned long long)n_ctx);
	for (i = 0; n_vocab && i < q->n_prompt; i++) {
		if (q->prompt[i] >= n_vocab)
			return err_set(h, -EINVAL,
				       "token %zu of the prompt is %u, the "
				       "vocabulary has %u",
				       i, q->prompt[i], n_vocab);
	}
	for (i = 0; i < q->n_logits_pos; i++) {
		if (q->logits_pos[i] >= q->n_prompt ||
		    (i && q->logits_pos[i] <= q->logits_pos[i - 1]))
			return err_set(h, -EINVAL,
				       "logits position %zu is %u: positions "
				       "ascend and are below %zu",
				       i, q->logits_pos[i], q->n_prompt);
	}
	return 0;
}

static uint64_t draw_seed(const struct req *r)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = cring_now_ns() * 0x9e3779b97f4a7c15ull ^ req_id(r);
	return seed ? seed : 1;
}

static void fill_run(struct ring_run *run, const struct hearth_request *q,
		     const struct req *r)
{
	memset(run, 0, sizeof(*run));
	run->model = q->model->info.id;
	if (q->greedy || q->temperature == 0)
		run->flags |= RING_RUN_GREEDY;
	if (q->ignore_eos)
		run->flags |= RING_RUN_IGNORE_EOS;
	if (q->embed_last)
		run->flags |= RING_RUN_EMBED_LAST;
	if (q->embed_mean)
		run->flags |= RING_RUN_EMBED_MEAN;
	if (q->want_logprobs || q->n_top_logprobs)
		run->flags |= RING_RUN_LOGPROBS;
	run->key = q->key;
	run->seed = q->seed ? q->seed : draw_seed(r);
	run->n_prompt = (uint32_t)q->n_prompt;
	run->max_tokens = q->max_tokens ? q->max_tokens : RING_MAX_TOKENS_CTX;
	if (q->no_generate)
		run->max_tokens = 0;
	run->temperature = q->temperature;
	run->top_k = q->top_k;
	run->top_p = q->top_p > 0 ? q->top_p : 1;
	run->min_p = q->min_p;
	run->repeat_penalty = q->repeat_penalty > 0 ? q->repeat_penalty : 1;
	run->presence_penalty = q->presence_penalty;
	run->frequency_penalty = q->frequency_penalty;
	run->penalty_last = q->penalty_last ? q->penalty_last : PENALTY_LAST;
	run->n_top_logprobs = q->n_top_logprobs;
	run->n_bias = (uint32_t)q->n_bias;
	run->n_stop = (uint32_t)q->n_stop_tokens;
	run->n_logits = (uint32_t)q->n_logits_pos;
}

/* Append an array to a record. Return: where it is. */
static uint32_t append(uint8_t *base, size_t *at, const void *p, size_t bytes)
{
	size_t off = *at;

	if (!bytes)
		return 0;
	memcpy(base + off, p, bytes);
	*at = off + bytes;
	return (uint32_t)off;
}

/* The record and its arrays, written where the engine will read them. */
static int write_run(struct hearth *h, const struct hearth_request *q,
		     const struct req *r, struct ring_sqe *e)
{
	uint64_t max = h->lay.c_bytes - h->lay.c_data_off;
	size_t n = sizeof(struct ring_run) + q->n_prompt * 4 + q->n_bias * 8 +
		   q->n_stop_tokens * 4 + q->n_logits_pos * 4;
	struct ring_run run;
	uint8_t *base;
	int err;

	err = cring_alloc(h, n, &e->off);
	if (err == -E2BIG)
		return err_set(h, err,
			       "the request takes %zu bytes, the session has "
			       "%llu for requests",
			       n, (unsigned long long)max);
	if (err == -EAGAIN)
		return err_set(h, err,
			       "the requests before this one have not "
			       "been read yet");
	if (err)
		return err;
	base = h->c + e->off;
	e->len = (uint32_t)n;
	fill_run(&run, q, r);
	n = sizeof(run);
	run.prompt_off = append(base, &n, q->prompt, q->n_prompt * 4);
	run.bias_off = append(base, &n, q->bias, q->n_bias * 8);
	run.stop_off = append(base, &n, q->stop_tokens, q->n_stop_tokens * 4);
	run.logits_off = append(base, &n, q->logits_pos, q->n_logits_pos * 4);
	memcpy(base, &run, sizeof(run));
	return 0;
}

static int check_request(struct hearth *h, const struct hearth_request *q)
{
	int err;

	if (!q->model)
		return err_set(h, -EINVAL, "the request names no model");
	if (!q->model->resident)
		return err_set(h, -EINVAL,
			       "%s was opened as a file and is not loaded",
			       q->model->info.name);
	err = check_params(h, q);
	return err ? err : check_prompt(h, q);
}

int hearth_submit(struct hearth *h, const struct hearth_request *rq,
		  uint64_t *id)
{
	struct hearth_request q;
	struct ring_sqe e = { .op = RING_OP_RUN };
	struct req *r;
	int err;

	*id = 0;
	if (h->lost)
		return -ENOTCONN;
	if (rq->size < sizeof(size_t))
		return err_set(h, -EINVAL, "struct hearth_request has no size");
	memset(&q, 0, sizeof(q));
	memcpy(&q, rq, rq->size < sizeof(q) ? rq->size : sizeof(q));
	err = check_request(h, &q);
	if (err)
		return err;
	req_flush(h);
	r = take_slot(h);
	if (!r && !cring_drain(h)) {
		req_flush(h);
		r = take_slot(h);
	}
	if (!r)
		return err_set(h, -EAGAIN,
			       "all %u requests of this connection are in use",
			       h->lay.n_slots);
	err = stop_init(&r->stop, q.stop_text, q.n_stop_text);
	if (err)
		return err_set(h, err,
			       "stop texts: at most %d, each 1 to %d bytes",
			       STOP_MAX, STOP_MAX_BYTES);
	r->gen = r->gen == UINT32_MAX ? 1 : r->gen + 1;
	e.slot = r->slot;
	e.gen = r->gen;
	err = write_run(h, &q, r, &e);
	if (err)
		goto fail;
	r->t_submit_ns = cring_now_ns();
	err = cring_push(h, &e);
	if (err == -EAGAIN)
		err_set(h, err, "the submission queue is full (%u entries)",
			h->lay.sq_entries);
	if (err)
		goto fail;
	cring_commit(h);
	r->state = REQ_LIVE;
	r->live_at = h->n_live;
	h->live[h->n_live++] = r->slot;
	r->n_prompt = (uint32_t)q.n_prompt;
	r->n_top = q.n_top_logprobs;
	r->n_logits = (uint32_t)q.n_logits_pos;
	r->model = model_get(q.model);
	r->n_vocab = q.model->info.n_vocab;
	*id = req_id(r);
	return 0;
fail:
	stop_fini(&r->stop);
	return err;
}

/* ------------------------------------------------------- by number, public */

static struct req *find(struct hearth *h, uint64_t id)
{
	struct req *r = req_find(h, id);

	if (!r)
		err_set(h, -ENOENT, "no request %llu on this connection",
			(unsigned long long)id);
	return r;
}

int hearth_cancel(struct hearth *h, uint64_t id)
{
	struct req *r = find(h, id);

	if (!r)
		return -ENOENT;
	req_cancel(h, r);
	return 0;
}

int hearth_release(struct hearth *h, uint64_t id)
{
	struct req *r = find(h, id);

	if (!r)
		return -ENOENT;
	req_release(h, r);
	return 0;
}
