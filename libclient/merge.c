/* SPDX-License-Identifier: MIT */
/*
 * merge.c - merging neighbours best pair first, as BPE and SentencePiece do.
 *
 * Symbols form a doubly linked list; candidates sit in a binary heap and are
 * checked when they come up: a pair whose length changed has become another.
 */
#include <errno.h>
#include <stdlib.h>

#include "vocab.h"

#define NIL 0xffffffffu

int merge_text(struct merger *mg, size_t n)
{
	uint8_t *p;

	if (n <= mg->cap_text)
		return 0;
	p = realloc(mg->text, n);
	if (!p)
		return -ENOMEM;
	mg->text = p;
	mg->cap_text = n;
	return 0;
}

int merge_start(struct merger *mg, size_t n)
{
	mg->n = 0;
	mg->n_heap = 0;
	mg->n_text = 0;
	if (n > MERGE_MAX)
		n = MERGE_MAX;
	if (n <= mg->cap)
		return 0;
	if (n < 64)
		n = 64;
	free(mg->sym);
	free(mg->heap);
	mg->cap = 0;
	/* a merge takes one candidate out and puts two in: 2n is enough */
	mg->sym = malloc(n * sizeof(*mg->sym));
	mg->heap = malloc(2 * n * sizeof(*mg->heap));
	if (!mg->sym || !mg->heap)
		return -ENOMEM;
	mg->cap = (uint32_t)n;
	return 0;
}

void merge_fini(struct merger *mg)
{
	free(mg->text);
	free(mg->sym);
	free(mg->heap);
}

void merge_add(struct merger *mg, uint32_t id, uint32_t off, uint32_t len)
{
	uint32_t i = mg->n++;

	mg->sym[i] = (struct merge_sym){ .id = id,
					 .off = off,
					 .len = len,
					 .prev = i ? i - 1 : NIL,
					 .next = NIL };
	if (i)
		mg->sym[i - 1].next = i;
}

static bool before(const struct merge_cand *a, const struct merge_cand *b)
{
	return a->key < b->key || (a->key == b->key && a->left < b->left);
}

static void push(struct merger *mg, const struct merge_cand *c)
{
	uint32_t i = mg->n_heap++, up;

	while (i) {
		up = (i - 1) / 2;
		if (!before(c, &mg->heap[up]))
			break;
		mg->heap[i] = mg->heap[up];
		i = up;
	}
	mg->heap[i] = *c;
}

static struct merge_cand pop(struct merger *mg)
{
	struct merge_cand top = mg->heap[0], last;
	uint32_t i = 0, k;

	last = mg->heap[--mg->n_heap];
	for (;;) {
		k = 2 * i + 1;
		if (k >= mg->n_heap)
			break;
		if (k + 1 < mg->n_heap &&
		    before(&mg->heap[k + 1], &mg->heap[k]))
			k++;
		if (!before(&mg->heap[k], &last))
			break;
		mg->heap[i] = mg->heap[k];
		i = k;
	}
	mg->heap[i] = last;
	return top;
}

static void consider(struct merger *mg, uint32_t left)
{
	const struct merge_sym *l, *r;
	struct merge_cand c;

	if (left == NIL || mg->sym[left].next == NIL)
		return;
	l = &mg->sym[left];
	r = &mg->sym[l->next];
	if (!mg->pair(mg, l, r, &c.key, &c.id))
		return;
	c.left = left;
	c.len = l->len + r->len;
	push(mg, &c);
}

void merge_run(struct merger *mg)
{
	struct merge_sym *l, *r;
	struct merge_cand c;
	uint32_t i;

	for (i = 0; i + 1 < mg->n; i++)
		consider(mg, i);
	while (mg->n_heap) {
		c = pop(mg);
		l = &mg->sym[c.left];
		if (!l->len || l->next == NIL)
			continue;
		r = &mg->sym[l->next];
		/* both only ever grow, so an equal sum is the same pair */
		if (l->len + r->len != c.len)
			continue;
		l->id = c.id;
		l->len += r->len;
		r->len = 0;
		l->next = r->next;
		if (l->next != NIL)
			mg->sym[l->next].prev = c.left;
		consider(mg, l->prev);
		consider(mg, c.left);
	}
}
