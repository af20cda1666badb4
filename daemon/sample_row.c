/* SPDX-License-Identifier: MIT */
/*
 * sample_row.c - bias and penalties: on a row in short where it can be, else on
 * the row itself, which is changed in place and changed back.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "sample_priv.h"

/* Of a sum, what must remain when the edited tokens' terms are taken away. */
#define LEAST_REST 0x1p-24

int sample_row_get(struct sample_row *row)
{
	return row->x ? 0 : row->get(row->arg, &row->x);
}

/* How many of the last tokens penalties look at. */
static uint32_t window(const struct req *r)
{
	const struct ring_run *run = &r->run;
	uint32_t n = req_tokens(r);

	if (run->repeat_penalty == 1 && run->presence_penalty == 0 &&
	    run->frequency_penalty == 0)
		return 0;
	return n < run->penalty_last ? n : run->penalty_last;
}

uint32_t sample_picks(const struct req *r, uint32_t n_vocab, uint32_t *token,
		      uint32_t max)
{
	uint32_t last = window(r), n = 0, i, id;

	if ((uint64_t)r->run.n_bias + last > max)
		return 0;
	for (i = 0; i < r->run.n_bias; i++)
		if (r->bias[i].token < n_vocab)
			token[n++] = r->bias[i].token;
	for (i = req_tokens(r) - last; i < req_tokens(r); i++) {
		id = req_token(r, i);
		if (id < n_vocab)
			token[n++] = id;
	}
	return n;
}

/* ----------------------------------------------------------------- edits */

/* Edits in the making: @at picks have been met. */
struct editor {
	struct sampler *s;
	struct sample_row *row;
	uint32_t n;
	uint32_t at;
};

/* What changed must stay comparable: no NaN, no +inf; -inf is a ban. */
static float tame(double x)
{
	if (x > FLT_MAX)
		return FLT_MAX;
	if (x == -INFINITY)
		return -INFINITY;
	return x < -FLT_MAX ? -FLT_MAX : (float)x;
}

/* The next pick, if it is @token, is its logit. */
static int logit_of(struct editor *e, uint32_t token, float *logit)
{
	struct sample_row *row = e->row;
	int rc;

	if (!row->x && e->at < row->n_picks && row->picks[e->at] == token) {
		*logit = row->picked[e->at];
		return 0;
	}
	rc = sample_row_get(row);
	if (!rc)
		*logit = row->x[token];
	return rc;
}

/* The edit of @token: a new one if it is the first time. */
static int met(struct editor *e, uint32_t token, struct sample_edit **edit)
{
	struct sampler *s = e->s;
	struct sample_edit *new = &s->edit[e->n];
	int rc = 0;

	if (!s->where[token]) {
		*new = (struct sample_edit){ .token = token };
		rc = logit_of(e, token, &new->raw);
		if (rc)
			return rc;
		new->now = new->raw;
		s->where[token] = ++e->n;
	}
	e->at++;
	*edit = &s->edit[s->where[token] - 1];
	return 0;
}

static void penalise(const struct ring_run *run, struct sample_edit *e)
{
	double x = e->now;

	x = x > 0 ? x / (double)run->repeat_penalty
		  : x * (double)run->repeat_penalty;
	x -= (double)run->frequency_penalty * e->n +
	     (double)run->presence_penalty;
	e->now = tame(x);
}

static int make_edits(struct editor *e, const struct req *r)
{
	uint32_t end = req_tokens(r), last = window(r), i, id;
	const struct ring_bias *b = r->bias;
	struct sample_edit *edit;
	int rc = 0;

	for (i = 0; i < r->run.n_bias && !rc; i++, b++) {
		if (b->token >= e->row->n)
			continue;
		rc = met(e, b->token, &edit);
		if (!rc && !isnan(b->bias))
			edit->now = tame((double)edit->now + (double)b->bias);
	}
	for (i = end - last; i < end && !rc; i++) {
		id = req_token(r, i);
		if (id >= e->row->n)
			continue;
		rc = met(e, id, &edit);
		if (!rc)
			edit->n++;
	}
	for (i = 0; i < e->n && !rc; i++)
		if (e->s->edit[i].n)
			penalise(&r->run, &e->s->edit[i]);
	return rc;
}

/* ---------------------------------------------------------- the row itself */

static void change(struct view *v)
{
	const struct sample_edit *e = v->edit;

	for (; e < v->edit + v->n_edits; e++)
		v->row->x[e->token] = e->now;
	v->done = true;
}

static void change_back(struct view *v)
{
	const struct sample_edit *e = v->edit;

	for (; e < v->edit + v->n_edits && v->done; e++)
		v->row->x[e->token] = e->raw;
	v->done = false;
}

int view_get(struct view *v)
{
	int rc = sample_row_get(v->row);

	if (!rc && !v->done)
		change(v);
	return rc;
}

/* --------------------------------------------------------------- in short */

/* Room is made for @c, where it belongs. Return: was one left out for it? */
static bool insert(struct top_cand *list, uint32_t *n, struct top_cand c)
{
	bool full = *n == TOP_N;
	uint32_t i;

	if (full && !top_before(&c, &list[TOP_N - 1]))
		return true;
	i = full ? TOP_N - 1 : (*n)++;
	for (; i && top_before(&c, &list[i - 1]); i--)
		list[i] = list[i - 1];
	list[i] = c;
	return full;
}

/*
 * What was not in short comes after the last that was. So the order of all that
 * come before that one is known, changed or not, and of no others.
 */
static void shorten(struct view *v)
{
	const struct top_row *t = v->row->top;
	const struct top_cand *last = &t->cand[t->n - 1];
	const struct sample_edit *e = v->edit;
	struct top_cand c;
	uint32_t i;

	for (i = 0; i < t->n; i++)
		if (!v->s->where[t->cand[i].token])
			v->own[v->n++] = t->cand[i];
	for (; e < v->edit + v->n_edits; e++) {
		c = (struct top_cand){ e->now, e->token };
		if (c.logit == -INFINITY || (!v->whole && top_before(last, &c)))
			continue;
		if (insert(v->own, &v->n, c))
			v->floor = v->own[TOP_N - 1].logit;
	}
	v->cand = v->own;
}

void view_raw(struct view *v, struct sampler *s, struct sample_row *row)
{
	const struct top_row *t = row->top;

	v->s = s;
	v->row = row;
	v->edit = s->edit;
	v->n_edits = 0;
	v->cand = t ? t->cand : NULL;
	v->n = t ? t->n : 0;
	v->floor = t ? t->cand[t->n - 1].logit : INFINITY;
	v->whole = v->n == row->n;
	v->done = false;
}

int view_open(struct view *v, struct sampler *s, const struct req *r,
	      struct sample_row *row)
{
	struct editor e = { .s = s, .row = row };
	int rc = make_edits(&e, r);

	view_raw(v, s, row);
	v->n_edits = e.n;
	if (!rc && e.n && row->top) {
		v->n = 0;
		shorten(v);
	}
	return rc;
}

void view_close(struct view *v)
{
	uint32_t i;

	change_back(v);
	for (i = 0; i < v->n_edits; i++)
		v->s->where[v->edit[i].token] = 0;
}

/* ---------------------------------------------------------- what is asked */

int view_best(struct view *v, struct top_cand *c)
{
	const float *x;
	int rc;

	if (v->n) {
		*c = v->cand[0];
		return 0;
	}
	rc = view_get(v);
	if (rc)
		return rc;
	x = v->row->x;
	*c = (struct top_cand){ .logit = top_max(x, v->row->n) };
	while (x[c->token] != c->logit)
		c->token++;
	return 0;
}

/* Before bias and penalties, with the greatest logit. */
static double raw_sum(struct view *v, float *max)
{
	struct sample_row *row = v->row;
	double sum;

	if (row->top) {
		*max = row->top->cand[0].logit;
		return row->top->sum;
	}
	change_back(v);
	*max = top_max(row->x, row->n);
	sum = top_sum(row->x, row->n, *max);
	change(v);
	return sum;
}

int view_sum(struct view *v, float max, double *sum)
{
	const struct sample_edit *e = v->edit;
	double all, rest, come = 0;
	float raw_max;
	int rc = 0;

	if (!v->row->top)
		rc = view_get(v);
	if (rc)
		return rc;
	if (!v->n_edits) {
		*sum = v->row->top ? v->row->top->sum
				   : top_sum(v->row->x, v->row->n, max);
		return 0;
	}
	all = rest = raw_sum(v, &raw_max);
	for (; e < v->edit + v->n_edits; e++) {
		rest -= top_exp((double)e->raw - (double)raw_max);
		come += top_exp((double)e->now - (double)max);
	}
	if (rest < LEAST_REST * all) {
		rc = view_get(v);
		if (!rc)
			*sum = top_sum(v->row->x, v->row->n, max);
		return rc;
	}
	if (max > raw_max)
		rest *= top_exp((double)raw_max - (double)max);
	else
		rest /= top_exp((double)max - (double)raw_max);
	*sum = rest + come;
	return 0;
}

bool view_ends(const struct view *v, float least)
{
	return v->n && (v->whole || v->floor < least);
}

int view_first(struct view *v, struct top_cand *c, uint32_t *k)
{
	int rc;

	if (v->n && (*k <= v->n || v->whole)) {
		*k = *k < v->n ? *k : v->n;
		memcpy(c, v->cand, *k * sizeof(*c));
		return 0;
	}
	rc = view_get(v);
	if (!rc)
		*k = top_first(c, v->row->x, v->row->n, *k);
	return rc;
}
