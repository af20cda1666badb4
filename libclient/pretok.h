/* SPDX-License-Identifier: MIT */
/*
 * pretok.h - how a text is cut into words before BPE merges inside them.
 *
 * A rule is a short list of passes; each pass cuts every piece that the one
 * before it left, by a list of patterns tried in order at each place. What no
 * pattern takes is a piece of its own. Patterns are hand-written matchers:
 * linear time, no memory, no backtracking.
 */
#ifndef HEARTH_PRETOK_H
#define HEARTH_PRETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PRETOK_PASSES 6
#define PRETOK_ALTS   10

typedef const uint8_t *pretok_match(const uint8_t *b, const uint8_t *p,
				    const uint8_t *e);

#define PRETOK_WHOLE  1u  /* a word that is a token is not merged further */
#define PRETOK_BOS    2u  /* begins with BOS unless the file says otherwise */
#define PRETOK_RAW    4u  /* merges work on UTF-8, spaces are U+2581 */
#define PRETOK_NL_RUN 8u  /* a run of line feeds that is a token is one */
#define PRETOK_SPACED 16u /* with PRETOK_RAW: leave spaces as they are */

struct pretok {
	unsigned flags;
	pretok_match *pass[PRETOK_PASSES][PRETOK_ALTS];
};

/* The rule of a name ("" is "default"), or NULL if there is none. */
const struct pretok *pretok_find(const char *name, size_t n);

/* The @i-th name known, or NULL past the end. */
const char *pretok_name(size_t i);

struct pretok_level {
	const uint8_t *b; /* start of the piece of the pass above */
	const uint8_t *p; /* where this pass is */
	const uint8_t *m; /* end of a match that begins at @p, or NULL */
	const uint8_t *e;
};

struct pretok_iter {
	const struct pretok *rule;
	unsigned n; /* passes */
	int at;	    /* level being walked, -1 at the end */
	struct pretok_level lv[PRETOK_PASSES];
};

void pretok_start(struct pretok_iter *it, const struct pretok *rule,
		  const uint8_t *p, const uint8_t *e);

/* Next word; false at the end. */
bool pretok_next(struct pretok_iter *it, const uint8_t **p, const uint8_t **e);

#endif
