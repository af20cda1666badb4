/* SPDX-License-Identifier: MIT */
/* result.c - what a request produced, read in place where the engine wrote. */
#include <errno.h>
#include <string.h>

#include "conn.h"

static const struct ring_slot *find(struct hearth *h, uint64_t id,
				    struct req **r)
{
	const struct ring_slot *s;

	*r = req_find(h, id);
	if (!*r) {
		err_set(h, -ENOENT, "no request %llu on this connection",
			(unsigned long long)id);
		return NULL;
	}
	s = req_slot(*r);
	if (!s)
		err_set(h, -ENOENT, "request %llu was not accepted (yet)",
			(unsigned long long)id);
	return s;
}

static uint64_t diff(uint64_t from, uint64_t to)
{
	return from && to > from ? to - from : 0;
}

int hearth_timings(struct hearth *h, uint64_t id, struct hearth_timings *t)
{
	const struct ring_slot *s;
	struct hearth_timings v;
	size_t size = t->size;
	struct req *r;

	if (size < sizeof(size_t))
		return err_set(h, -EINVAL, "struct hearth_timings has no size");
	s = find(h, id, &r);
	if (!s)
		return -ENOENT;
	memset(&v, 0, sizeof(v));
	v.size = size;
	v.n_prompt = r->n_prompt;
	v.n_out = req_n_out(r);
	v.n_cached = s->n_cached;
	v.n_restart = s->n_restart + r->n_again;
	v.queue_ns = diff(s->t_submit_ns, s->t_start_ns);
	v.prefill_ns = diff(s->t_start_ns, s->t_first_ns);
	v.decode_ns = diff(s->t_first_ns, s->t_last_ns);
	v.first_ns = diff(r->t_submit_ns, r->t_seen_ns);
	memcpy(t, &v, size < sizeof(v) ? size : sizeof(v));
	return 0;
}

int hearth_token_at(struct hearth *h, uint64_t id, uint32_t i, uint32_t *token,
		    float *logprob)
{
	const struct ring_token *tok;
	struct req *r;

	if (!find(h, id, &r))
		return -ENOENT;
	if (i >= req_n_out(r))
		return err_set(h, -ENOENT, "the answer has %u tokens (yet)",
			       req_n_out(r));
	tok = req_tokens(r);
	if (!tok)
		return err_set(h, -EPROTO,
			       "the answer lies outside the "
			       "daemon's memory");
	if (token)
		*token = tok[i].token;
	if (logprob)
		*logprob = tok[i].logprob;
	return 0;
}

int hearth_top_at(struct hearth *h, uint64_t id, uint32_t i,
		  const struct hearth_top **top)
{
	const struct ring_slot *s;
	const struct ring_top *p;
	struct req *r;

	*top = NULL;
	s = find(h, id, &r);
	if (!s)
		return -ENOENT;
	if (!r->n_top || !s->top_off)
		return err_set(h, -ENOENT,
			       "the request asked for no "
			       "alternatives");
	if (i >= req_n_out(r))
		return err_set(h, -ENOENT, "the answer has %u tokens (yet)",
			       req_n_out(r));
	p = req_range(r->mem, s->top_off, (uint64_t)s->max_out * r->n_top,
		      sizeof(*p));
	if (!p)
		return err_set(h, -EPROTO,
			       "the alternatives lie outside the "
			       "daemon's memory");
	*top = (const struct hearth_top *)(const void *)(p +
							 (size_t)i * r->n_top);
	return (int)r->n_top;
}

/* Results that are complete only when the prompt has been computed. */
static bool prompt_done(const struct req *r, const struct ring_slot *s)
{
	uint32_t state = __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);

	if (state == RING_SLOT_DONE)
		return s->finish != RING_FIN_ERROR;
	return req_n_out(r) > 0;
}

int hearth_logits(struct hearth *h, uint64_t id, uint32_t i,
		  const float **logits, uint32_t *n_vocab)
{
	const struct ring_slot *s;
	const float *p;
	struct req *r;

	*logits = NULL;
	s = find(h, id, &r);
	if (!s)
		return -ENOENT;
	if (i >= r->n_logits || !s->logits_off)
		return err_set(h, -ENOENT,
			       "the request asked for logits of %u positions",
			       r->n_logits);
	if (!prompt_done(r, s))
		return err_set(h, -ENOENT, "the logits are not there");
	p = req_range(r->mem, s->logits_off, (uint64_t)r->n_logits * s->n_vocab,
		      sizeof(*p));
	if (!p)
		return err_set(h, -EPROTO,
			       "the logits lie outside the "
			       "daemon's memory");
	*logits = p + (size_t)i * s->n_vocab;
	if (n_vocab)
		*n_vocab = s->n_vocab;
	return 0;
}

int hearth_embedding(struct hearth *h, uint64_t id, const float **v,
		     uint32_t *n_embd)
{
	const struct ring_slot *s;
	struct req *r;

	*v = NULL;
	s = find(h, id, &r);
	if (!s)
		return -ENOENT;
	if (!s->embed_off)
		return err_set(h, -ENOENT,
			       "the request asked for no "
			       "embedding");
	if (!prompt_done(r, s))
		return err_set(h, -ENOENT, "the embedding is not there");
	*v = req_range(r->mem, s->embed_off, s->n_embd, sizeof(**v));
	if (!*v)
		return err_set(h, -EPROTO,
			       "the embedding lies outside the "
			       "daemon's memory");
	if (n_embd)
		*n_embd = s->n_embd;
	return 0;
}
