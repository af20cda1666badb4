/* SPDX-License-Identifier: MIT */
/*
 * oracle.h - what the oracle backend answers, for tests to know beforehand.
 *
 * The oracle is a backend without a model: the next token is a hash of all
 * tokens before it. It reads no weights, and finds the tokens before by the
 * block table in its own KV pages, so that a wrong page, a stale page or a
 * wrong position changes the answer.
 */
#ifndef HEARTH_ORACLE_H
#define HEARTH_ORACLE_H

#include "backend.h"

#define ORACLE_TOP 6   /* tokens of a row that stand out */
#define ORACLE_EOG 200 /* one in so many answers ends the turn */

/* Hash of a prefix: start with ORACLE_SEED, add tokens in order. */
#define ORACLE_SEED 0x6a09e667f3bcc908ull
uint64_t oracle_hash(uint64_t hash, uint32_t token, uint32_t pos);

/* The token with the greatest logit after a prefix. */
uint32_t oracle_next(uint64_t hash, const struct image *im);

/* The whole row of logits. */
void oracle_logits(uint64_t hash, const struct image *im, float *row);

/* Element @i of the final hidden state. */
float oracle_hidden(uint64_t hash, uint32_t i);

#endif
