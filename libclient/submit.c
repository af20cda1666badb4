/* SPDX-License-Identifier: MIT */
/* submit.c - a request as the caller means it, checked and made a record. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "conn.h"

#define PENALTY_LAST 64
#define MIN_P_BELOW  1 /* min_p is less than this */

static int check_range(struct hearth *h, const char *name, float v, float lo,
		       float hi)
{
	if (v >= lo && v <= hi)
		return 0;
	return err_set(h, -EINVAL, "%s is %g, allowed is %g to %g", name,
		       (double)v, (double)lo, (double)hi);
}

static int check_min_p(struct hearth *h, float v)
{
	if (v >= 0 && v < MIN_P_BELOW)
		return 0;
	return err_set(h, -EINVAL, "min_p is %g, allowed is 0 to less than %d",
		       (double)v, MIN_P_BELOW);
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
		err = check_min_p(h, q->min_p);
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

/* The record and its arrays, which are kept until no daemon needs them. */
static int make_record(struct hearth *h, const struct hearth_request *q,
		       struct req *r)
{
	size_t n = sizeof(struct ring_run) + q->n_prompt * 4 + q->n_bias * 8 +
		   q->n_stop_tokens * 4 + q->n_logits_pos * 4;
	struct ring_run run;

	r->rec = malloc(n);
	if (!r->rec)
		return err_set(h, -ENOMEM,
			       "not enough memory for a request of %zu bytes",
			       n);
	r->rec_n = n;
	fill_run(&run, q, r);
	n = sizeof(run);
	run.prompt_off = append(r->rec, &n, q->prompt, q->n_prompt * 4);
	run.bias_off = append(r->rec, &n, q->bias, q->n_bias * 8);
	run.stop_off = append(r->rec, &n, q->stop_tokens, q->n_stop_tokens * 4);
	run.logits_off = append(r->rec, &n, q->logits_pos, q->n_logits_pos * 4);
	memcpy(r->rec, &run, sizeof(run));
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

/* A slot, a record and the model, for req_push() and all that follows. */
static int make_request(struct hearth *h, const struct hearth_request *q,
			struct req **out)
{
	struct req *r;
	int err;

	req_flush(h);
	r = req_take(h);
	if (!r && !cring_drain(h)) {
		req_flush(h);
		r = req_take(h);
	}
	if (!r)
		return err_set(h, -EAGAIN,
			       "all %u requests of this connection are in use",
			       h->n_slots);
	err = stop_init(&r->stop, q->stop_text, q->n_stop_text);
	if (err)
		return err_set(h, err,
			       "stop texts: at most %d, each 1 to %d bytes",
			       STOP_MAX, STOP_MAX_BYTES);
	r->gen = r->gen == UINT32_MAX ? 1 : r->gen + 1;
	r->n_prompt = (uint32_t)q->n_prompt;
	r->n_top = q->n_top_logprobs;
	r->n_logits = (uint32_t)q->n_logits_pos;
	r->n_vocab = q->model->info.n_vocab;
	err = make_record(h, q, r);
	if (err)
		stop_fini(&r->stop);
	else
		r->model = model_get(q->model);
	*out = r;
	return err;
}

/* What the engine would have to refuse as too big is refused here. */
static int check_room(struct hearth *h, const struct req *r)
{
	uint64_t max;

	if (!h->mem)
		return 0;
	max = h->mem->lay.c_bytes - h->mem->lay.c_data_off;
	if (r->rec_n <= (max & ~63ull))
		return 0;
	return err_set(h, -E2BIG,
		       "the request takes %zu bytes, the session has "
		       "%llu for requests",
		       r->rec_n, (unsigned long long)max);
}

int hearth_submit(struct hearth *h, const struct hearth_request *rq,
		  uint64_t *id)
{
	struct hearth_request q;
	struct link_model *e;
	struct req *r = NULL;
	int err;

	*id = 0;
	if (h->lost)
		return err_set(h, -ENOTCONN, "%s", h->lost_why);
	if (rq->size < sizeof(size_t))
		return err_set(h, -EINVAL, "struct hearth_request has no size");
	memset(&q, 0, sizeof(q));
	memcpy(&q, rq, rq->size < sizeof(q) ? rq->size : sizeof(q));
	err = check_request(h, &q);
	if (err)
		return err;
	/* not into the memory of a daemon that died while we slept */
	if (h->link.path && h->link.state == LINK_UP)
		conn_alive(h);
	e = link_model(h, q.model);
	if (!e)
		return err_set(h, -ENOMEM, "not enough memory for a model");
	if (e->why[0])
		return err_set(h, -ECONNRESET, "%s", e->why);
	err = make_request(h, &q, &r);
	if (err)
		return err;
	r->t_submit_ns = cring_now_ns();
	req_begin(h, r);
	err = check_room(h, r);
	if (!err)
		err = req_push(h, r);
	/* no daemon just now: it goes to the next one */
	if (err == -EAGAIN && h->link.state != LINK_UP && !h->lost)
		err = 0;
	if (err) {
		req_forget(h, r);
		return err;
	}
	*id = req_id(r);
	/* for a caller who goes from here to its event loop */
	cring_rearm(h);
	return 0;
}
