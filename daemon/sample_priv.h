/* SPDX-License-Identifier: MIT */
/* sample_priv.h - a row as truncation and draw see it: with bias and penalties,
 * in short where that is enough. */
#ifndef HEARTH_SAMPLE_PRIV_H
#define HEARTH_SAMPLE_PRIV_H

#include "sample.h"

/**
 * struct sample_edit - a token that bias or penalties touch
 * @n:   times in the penalties' window
 * @raw, @now: its logit before and after
 */
struct sample_edit {
	uint32_t token;
	uint32_t n;
	float raw;
	float now;
};

/**
 * struct view - a row, and what of it has changed
 * @edit: n_edits tokens, in the order in which they were first met
 * @cand: the first @n candidates, in order; 0 of them: none are known
 * @floor: no other has a greater logit
 * @whole: there is no other, but such as are banned
 * @done: the row itself is at hand, and changed
 * @own:  room for @cand
 */
struct view {
	struct sampler *s;
	struct sample_row *row;
	const struct sample_edit *edit;
	uint32_t n_edits;
	const struct top_cand *cand;
	uint32_t n;
	float floor;
	bool whole;
	bool done;
	struct top_cand own[TOP_N];
};

/* As the model gave it. */
void view_raw(struct view *v, struct sampler *s, struct sample_row *row);
/* As bias and penalties of @r make it. Close it, whatever comes. */
int view_open(struct view *v, struct sampler *s, const struct req *r,
	      struct sample_row *row);
void view_close(struct view *v);

/* Have all of it, in v->row->x. */
int view_get(struct view *v);

/* The first of all. */
int view_best(struct view *v, struct top_cand *c);

/* Sum of exp(x - max), @max being the greatest; see sample.h. */
int view_sum(struct view *v, float max, double *sum);

/* Is whatever is not among the candidates at hand below @least? */
bool view_ends(const struct view *v, float least);

/* The @k first candidates, in order, into @c, or as many as there are. */
int view_first(struct view *v, struct top_cand *c, uint32_t *k);

#endif
