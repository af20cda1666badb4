/* SPDX-License-Identifier: MIT */
/*
 * sim_check.h - a simulated history, and what is right in it: every token,
 * embedding, row of logits and refusal against the oracle.
 */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

#include <math.h>

#include "../daemon/sample.h"
#include "rig.h"

#define MAX_SLOTS  8
#define MAX_PROMPT 160
#define MAX_DONE   24
#define SLOT_BYTES 2048 /* of C's data area, for one record */
#define NO_TOKEN   0xffffffffu

/* When the engine crashes over sim.poison. */
enum poison { ALWAYS, IN_A_CROWD, SOMETIMES, N_POISON };

enum sent { FREE, SENT, ENDED };

struct run {
	enum sent state;
	uint32_t gen;
	bool cancelled;
	uint32_t n_out;
	uint32_t max;
	struct ring_run run;
	uint32_t prompt[MAX_PROMPT];
	struct ring_bias bias[4];
	uint32_t stop[4];
	uint32_t logits[4];
	struct ring_token done[MAX_DONE];
};

struct client {
	uint32_t uid;
	uint32_t n_slots;
	bool hostile;
	bool asleep;
	bool draining;
	uint32_t wakes;
	uint64_t nop_sent;
	uint64_t nop_seen;
	uint32_t n_nops;
	struct run runs[MAX_SLOTS];
};

struct sim {
	struct rig rig;
	uint64_t rand;
	uint64_t seed;
	uint32_t n_clients;
	uint32_t n_models;
	uint32_t n_vocab[RIG_MAX_MODELS];
	uint32_t n_ctx[RIG_MAX_MODELS];
	uint64_t kv[RIG_MAX_MODELS];
	struct client clients[RIG_MAX_CLIENTS];
	struct sampler sampler;
	bool in_short; /* the backend has rows only for who asks */
	float *rows;   /* of @row logits each */
	uint32_t row;
	bool engine_asleep;
	bool kicked;
	bool lost_models; /* models may have gone while requests ran */
	uint32_t poison;
	enum poison how;
	bool crashed;	 /* the last engine died of itself */
	uint32_t gone;	 /* a model that did not come back with the engine */
	long kill_call;	 /* the engine dies in this call to the outside */
	long kill_store; /* or before this store into D */
	uint32_t n_deaths;
	uint32_t n_crashes;
	uint64_t n_done, n_cut, n_refused, n_bad, n_killers, n_resumed;
};

static struct sim sim;
static uint64_t totals[9];

static uint32_t rnd(uint32_t n)
{
	return (uint32_t)(rig_rand(&sim.rand) % n);
}

#define CHECK(x, ...)                                                        \
	do {                                                                 \
		if (!(x)) {                                                  \
			printf("seed %llu: ", (unsigned long long)sim.seed); \
			printf(__VA_ARGS__);                                 \
			printf(" (%s:%d: %s)\n", __FILE__, __LINE__, #x);    \
			fflush(stdout);                                      \
			abort();                                             \
		}                                                            \
	} while (0)

/* ------------------------------------------------------- what is right */

static const struct image *image_of(const struct run *r)
{
	return &sim.rig.images[r->run.model - 1].im;
}

static uint64_t hash_to(const struct run *r, uint32_t pos)
{
	uint64_t h = ORACLE_SEED;
	uint32_t i;

	for (i = 0; i <= pos; i++)
		h = oracle_hash(h, r->prompt[i], i);
	return h;
}

static bool one_of(const uint32_t *ids, uint64_t n, uint32_t token)
{
	uint64_t i;

	for (i = 0; i < n; i++)
		if (ids[i] == token)
			return true;
	return false;
}

static const void *in_d(const struct rig_client *rc, uint64_t off)
{
	CHECK(off >= rc->l.d_arena_off && off < rc->l.d_bytes, "offset in D");
	return rc->d + off;
}

/* Request @r as the sampler wants it. */
static struct req as_req(const struct run *r, const struct ring_token *out)
{
	return (struct req){
		.run = r->run,
		.prompt = r->prompt,
		.n_prompt = r->run.n_prompt,
		.bias = r->bias,
		.out = (struct ring_token *)(uintptr_t)out,
	};
}

static uint32_t end_of(const struct run *r, uint32_t token)
{
	const struct image *im = image_of(r);

	if (one_of(r->stop, r->run.n_stop, token))
		return RING_FIN_STOP;
	if (!(r->run.flags & RING_RUN_IGNORE_EOS) &&
	    one_of(im->eog, im->h->eog.n, token))
		return RING_FIN_EOS;
	return RING_FIN_NONE;
}

/* The sampler's choice of the oracle's logits after @h. */
static int sample_of(const struct image *im, uint64_t h, const struct req *q,
		     struct ring_token *t, struct ring_top *top)
{
	static float x[4096];
	struct sample_row row = { .n = im->h->hp.n_vocab, .x = x };

	oracle_logits(h, im, x);
	return sample_token(&sim.sampler, q, &row, t, top);
}

/* The first tokens of the answer, as if another daemon had given them. */
static void make_done(struct run *r, uint32_t n)
{
	const struct image *im = image_of(r);
	uint64_t h = hash_to(r, r->run.n_prompt - 1);
	struct req q = as_req(r, r->done);
	struct ring_token t;

	while (q.n_out < n && q.n_out < r->max) {
		CHECK(!sample_of(im, h, &q, &t, NULL), "no token");
		if (end_of(r, t.token))
			break;
		h = oracle_hash(h, t.token, q.n_prompt + q.n_out);
		r->done[q.n_out++] = t;
	}
	r->run.n_done = q.n_out;
}

/* Replay the request with the sampler on the oracle's own rows. */
static void check_tokens(const struct rig_client *rc, const struct run *r,
			 const struct ring_slot *s)
{
	const struct image *im = image_of(r);
	const uint32_t n_top =
		r->run.flags & RING_RUN_LOGPROBS ? r->run.n_top_logprobs : 0;
	struct ring_top top[RING_MAX_TOP_LOGPROBS];
	const struct ring_top *tops = NULL;
	const struct ring_token *out = NULL;
	struct req q;
	struct ring_token t;
	uint32_t i, fin = RING_FIN_NONE;
	uint64_t h = hash_to(r, r->run.n_prompt - 1);

	if (s->out_off)
		out = in_d(rc, s->out_off);
	if (s->top_off)
		tops = in_d(rc, s->top_off);
	CHECK(s->max_out == r->max, "max_out %u, not %u", s->max_out, r->max);
	CHECK(s->n_out <= s->max_out, "more tokens than asked for");
	q = as_req(r, out);
	for (i = 0; i <= s->n_out && i < s->max_out; i++) {
		q.n_out = i;
		CHECK(!sample_of(im, h, &q, &t, top), "no token");
		fin = end_of(r, t.token);
		if (i == s->n_out)
			break;
		CHECK(!fin, "a token after the end");
		CHECK(out[i].token == t.token && out[i].logprob == t.logprob,
		      "token %u of %u is %u, not %u", i, s->n_out, out[i].token,
		      t.token);
		CHECK(!n_top || !memcmp(tops + i * n_top, top,
					n_top * sizeof(*top)),
		      "alternatives of token %u", i);
		h = oracle_hash(h, t.token, r->run.n_prompt + i);
	}
	if (s->state != RING_SLOT_DONE || s->finish == RING_FIN_CANCEL ||
	    s->finish == RING_FIN_ERROR)
		return;
	if (!r->max)
		fin = RING_FIN_DONE;
	else if (s->n_out == s->max_out)
		fin = RING_FIN_LENGTH;
	CHECK(s->finish == fin, "finish %u, not %u", s->finish, fin);
}

/* Embedding and logits of a request that came to its end. */
static void check_arrays(const struct rig_client *rc, const struct run *r,
			 const struct ring_slot *s)
{
	const struct image *im = image_of(r);
	const uint32_t n_vocab = im->h->hp.n_vocab, n = im->h->hp.n_embd;
	const float *x;
	static float row[4096];
	uint32_t i, k;
	double sum;

	for (i = 0; i < r->run.n_logits; i++) {
		x = in_d(rc, s->logits_off);
		oracle_logits(hash_to(r, r->logits[i]), im, row);
		CHECK(!memcmp(x + (size_t)i * n_vocab, row,
			      n_vocab * sizeof(*x)),
		      "logits of position %u", r->logits[i]);
	}
	if (!(r->run.flags & (RING_RUN_EMBED_LAST | RING_RUN_EMBED_MEAN)))
		return;
	x = in_d(rc, s->embed_off);
	for (i = 0; i < n; i++) {
		if (r->run.flags & RING_RUN_EMBED_LAST) {
			sum = (double)oracle_hidden(
				hash_to(r, r->run.n_prompt - 1), i);
		} else {
			uint64_t h = ORACLE_SEED;

			for (sum = 0, k = 0; k < r->run.n_prompt; k++) {
				h = oracle_hash(h, r->prompt[k], k);
				sum += (double)oracle_hidden(h, i);
			}
			sum /= r->run.n_prompt;
		}
		CHECK(x[i] == (float)sum, "element %u of the embedding", i);
	}
}

static bool has_poison(const struct rig_client *rc, const struct run *r,
		       const struct ring_slot *s)
{
	const struct ring_token *out = NULL;
	uint32_t i;

	if (s->n_out)
		out = in_d(rc, s->out_off);
	for (i = 0; i < s->n_out; i++)
		if (out[i].token == sim.poison)
			return true;
	return one_of(r->prompt, r->run.n_prompt, sim.poison);
}

static void check_end(const struct rig_client *rc, struct run *r,
		      const struct ring_slot *s, const struct ring_cqe *e)
{
	CHECK(s->state == RING_SLOT_DONE && s->gen == r->gen, "slot state");
	CHECK(s->err == e->err, "err %d and %d", s->err, e->err);
	CHECK(s->n_restart <= sim.n_deaths, "restarts");
	check_tokens(rc, r, s);
	switch ((enum ring_finish)s->finish) {
	case RING_FIN_CANCEL:
		CHECK(r->cancelled, "cancelled by nobody");
		sim.n_cut++;
		break;
	case RING_FIN_ERROR:
		if (e->err == -ENOTRECOVERABLE) {
			CHECK(e->reason == RING_KILLS_ENGINE &&
				      s->n_restart > 1 && s->n_strikes > 1 &&
				      sim.n_crashes > 1 &&
				      sim.how != IN_A_CROWD &&
				      has_poison(rc, r, s),
			      "blamed: %u restarts, %u strikes, %u crashes, "
			      "poison %u in %s, mode %u",
			      s->n_restart, s->n_strikes, sim.n_crashes,
			      sim.poison,
			      has_poison(rc, r, s) ? "it" : "others",
			      (unsigned int)sim.how);
			sim.n_killers++;
		} else {
			CHECK(e->err == -ENODEV && sim.lost_models, "error %d",
			      e->err);
		}
		sim.n_cut++;
		break;
	case RING_FIN_NONE:
	case RING_FIN_EOS:
	case RING_FIN_STOP:
	case RING_FIN_LENGTH:
	case RING_FIN_DONE:
		CHECK(!s->err, "err %d", s->err);
		CHECK(s->n_prefill == r->run.n_prompt, "prefill");
		CHECK(!s->step_to && !s->mark, "a suspect at its end");
		check_arrays(rc, r, s);
		sim.n_resumed += s->n_restart > 0;
		sim.n_done++;
		break;
	}
	r->state = ENDED;
}

/* Only for these reasons, and with the right numbers. */
static void check_refusal(struct run *r, const struct ring_cqe *e)
{
	uint32_t ctx = sim.n_ctx[r->run.model - 1];
	uint64_t need = (uint64_t)r->run.n_prompt + r->run.max_tokens;

	switch (e->reason) {
	case RING_NO_CONTEXT:
		if (r->run.max_tokens == RING_MAX_TOKENS_CTX)
			need = (uint64_t)r->run.n_prompt + 1;
		CHECK(need > ctx && e->arg == need && e->limit == ctx,
		      "context %llu of %llu", (unsigned long long)e->arg,
		      (unsigned long long)e->limit);
		break;
	case RING_NO_ARENA:
		CHECK(e->arg > e->limit || sim.n_deaths, "arena");
		break;
	case RING_TOO_MANY:
		CHECK(e->arg > e->limit &&
			      e->limit == sim.rig.conf.max_requests_uid,
		      "requests of a uid");
		break;
	case RING_BAD_MODEL:
	case RING_NOT_READY:
		CHECK(sim.lost_models, "model");
		break;
	default:
		CHECK(false, "refused for %u", e->reason);
	}
	sim.n_refused++;
	r->state = FREE;
}

#endif
