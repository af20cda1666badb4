/* SPDX-License-Identifier: MIT */
/*
 * weights.c - where a model's weights go, packing them, finding them again.
 *
 * The tensors that the tape uses lie one after the other in an object, in
 * order of the image. They are packed in pieces of some hundred kilobytes,
 * each straight to its place. What the layout is depends on the image alone,
 * so that any process finds in an object what another one put there; a change
 * of it, or of what a packed panel is, is a new LAYOUT.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/cpu.h"
#include "weights.h"

#define LAYOUT	    "cpu-panel16-1"
#define PIECE_BYTES (512u << 10)
#define PAGE	    4096u
#define WHY	    160

/**
 * struct places - tensors in an object
 * @use: of each tensor
 * @off: where it begins
 */
struct places {
	uint32_t n;
	uint8_t *use;
	uint64_t *off;
	uint64_t bytes;
};

static int fail(const struct image *im, const struct image_tensor *t,
		uint64_t off, const char *what, char why[160])
{
	snprintf(why, WHY, "tensor %.*s: %s (file %u, offset %llu)",
		 (int)(t->name.len < 63 ? t->name.len : 63),
		 im->str + t->name.off, what, t->file, (unsigned long long)off);
	return -EBADMSG;
}

static bool all_finite(const float *x, size_t n, size_t *bad)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!isfinite(x[i])) {
			*bad = i;
			return false;
		}
	return true;
}

static int pack_vec(const struct image *im, const struct image_tensor *t,
		    const uint8_t *src, float *dst, char why[160])
{
	enum fmt f = (enum fmt)fmt_from_ggml(t->type);
	char what[64];
	size_t bad;

	fmt_info[f].dequant(src, dst, t->cols * t->rows);
	if (all_finite(dst, t->cols * t->rows, &bad))
		return 0;
	snprintf(what, sizeof(what), "element %zu is not finite", bad);
	return fail(im, t, t->off, what, why);
}

/* As fast as this machine can: the bytes are the same at every level. */
static struct mat_kernels best;
static pthread_once_t chosen = PTHREAD_ONCE_INIT;

static void choose(void)
{
	mat_kernels_init(&best, cpu_detect());
}

static int pack_mat(const struct image *im, const struct image_tensor *t,
		    const struct backend_piece *p, const uint8_t *src,
		    uint8_t *dst, char why[160])
{
	enum fmt f = (enum fmt)fmt_from_ggml(t->type);
	uint32_t cols = (uint32_t)t->cols, rows = (uint32_t)t->rows, i, n;
	uint64_t panel_bytes = mat_panel_bytes(f, cols);
	uint64_t row_bytes = t->bytes / t->rows;
	char what[64];

	pthread_once(&chosen, choose);
	for (i = p->part0; i < p->part1; i++, dst += panel_bytes) {
		n = rows - i * MAT_PANEL;
		n = n < MAT_PANEL ? n : MAT_PANEL;
		best.pack(f, cols, src, n, dst);
		src += n * row_bytes;
		if (mat_panel_finite(f, cols, dst))
			continue;
		snprintf(what, sizeof(what), "rows %u to %u are not finite",
			 i * MAT_PANEL, i * MAT_PANEL + n - 1);
		return fail(im, t, t->off + i * MAT_PANEL * row_bytes, what,
			    why);
	}
	return 0;
}

/* A vector's piece has no parts. */
int weights_pack(const struct image *im, const struct backend_piece *p,
		 const void *src, void *object, char why[160])
{
	const struct image_tensor *t = &im->tensors[p->tensor];
	void *dst = (uint8_t *)object + p->dst;

	return p->part1 ? pack_mat(im, t, p, src, dst, why)
			: pack_vec(im, t, src, dst, why);
}

enum use { USE_NONE, USE_MAT, USE_VEC };

static void use_op(const struct tape_op *o, uint8_t *use)
{
	bool vec = o->kind == TAPE_NORM || o->kind == TAPE_NORM_ADD ||
		   o->kind == TAPE_ROPE_KV;
	uint32_t i;

	for (i = 0; i < TAPE_MATS; i++) {
		if (o->w[i] != TAPE_NONE)
			use[o->w[i]] = vec ? USE_VEC : USE_MAT;
		if (o->b[i] != TAPE_NONE)
			use[o->b[i]] = USE_VEC;
	}
}

static void use_tape(const struct tape *tape, uint8_t *use)
{
	uint32_t i;

	for (i = 0; i < tape->n_ops; i++)
		use_op(&tape->ops[i], use);
	if (tape->rope_freqs != TAPE_NONE)
		use[tape->rope_freqs] = USE_VEC;
}

static uint64_t align_up(uint64_t n)
{
	return (n + MAT_ALIGN - 1) & ~(uint64_t)(MAT_ALIGN - 1);
}

static uint64_t page_up(uint64_t n)
{
	return (n + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static uint64_t place_bytes(const struct image_tensor *t, uint8_t use)
{
	if (use == USE_VEC)
		return t->cols * t->rows * sizeof(float);
	return mat_bytes((enum fmt)fmt_from_ggml(t->type), t->rows, t->cols);
}

static void places_free(struct places *pl)
{
	free(pl->use);
	free(pl->off);
}

/* Of the whole model, whatever part of it is looked for in there. */
static int places_find(struct places *pl, const struct image *im, char why[160])
{
	struct tape tape;
	uint32_t i;
	int ret;

	memset(pl, 0, sizeof(*pl));
	ret = tape_build(&tape, im, why);
	if (ret)
		return ret;
	pl->n = (uint32_t)im->h->tensors.n;
	pl->use = calloc(pl->n + 1, 1);
	pl->off = calloc(pl->n + 1, sizeof(*pl->off));
	if (!pl->use || !pl->off) {
		tape_free(&tape);
		places_free(pl);
		snprintf(why, WHY, "no memory for the weights' table");
		return -ENOMEM;
	}
	use_tape(&tape, pl->use);
	tape_free(&tape);
	for (i = 0; i < pl->n; i++) {
		pl->off[i] = pl->bytes;
		if (pl->use[i] != USE_NONE)
			pl->bytes += align_up(
				place_bytes(&im->tensors[i], pl->use[i]));
	}
	pl->bytes = page_up(pl->bytes);
	return 0;
}

static uint32_t pieces_of(const struct image *im, const struct places *pl,
			  uint32_t tensor, struct backend_piece *out)
{
	const struct image_tensor *t = &im->tensors[tensor];
	uint64_t row_bytes = t->bytes / t->rows, panel_bytes;
	uint32_t n = 0, per, i, rows, panels;
	struct backend_piece p = { .tensor = tensor,
				   .file = t->file,
				   .off = t->off,
				   .bytes = t->bytes,
				   .dst = pl->off[tensor] };

	if (pl->use[tensor] == USE_VEC) {
		p.dst_bytes = place_bytes(t, USE_VEC);
		if (out)
			*out = p;
		return 1;
	}
	panel_bytes =
		mat_panel_bytes((enum fmt)fmt_from_ggml(t->type), t->cols);
	panels = (uint32_t)((t->rows + MAT_PANEL - 1) / MAT_PANEL);
	per = (uint32_t)(PIECE_BYTES / (row_bytes * MAT_PANEL));
	per = per ? per : 1;
	for (i = 0; i < panels; i += per, n++) {
		p.part0 = i;
		p.part1 = panels - i < per ? panels : i + per;
		rows = p.part1 * MAT_PANEL < t->rows ? p.part1 * MAT_PANEL
						     : (uint32_t)t->rows;
		rows -= i * MAT_PANEL;
		p.off = t->off + (uint64_t)i * MAT_PANEL * row_bytes;
		p.bytes = rows * row_bytes;
		p.dst = pl->off[tensor] + i * panel_bytes;
		p.dst_bytes = (p.part1 - i) * panel_bytes;
		if (out)
			out[n] = p;
	}
	return n;
}

static int by_place(const void *a, const void *b)
{
	const struct backend_piece *x = a, *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

int weights_lay_out(const struct image *im, struct backend_layout *l,
		    char why[160])
{
	struct places pl = { 0 };
	uint32_t i, n = 0;
	int ret;

	memset(l, 0, sizeof(*l));
	ret = places_find(&pl, im, why);
	if (ret)
		return ret;
	for (i = 0; i < pl.n; i++)
		if (pl.use[i] != USE_NONE)
			n += pieces_of(im, &pl, i, NULL);
	l->pieces = calloc(n ? n : 1, sizeof(*l->pieces));
	if (!l->pieces) {
		snprintf(why, WHY, "no memory for the layout");
		ret = -ENOMEM;
		goto out;
	}
	for (i = 0; i < pl.n; i++)
		if (pl.use[i] != USE_NONE)
			l->n_pieces +=
				pieces_of(im, &pl, i, l->pieces + l->n_pieces);
	qsort(l->pieces, n, sizeof(*l->pieces), by_place);
	snprintf(l->name, sizeof(l->name), LAYOUT);
	l->bytes = pl.bytes;
out:
	places_free(&pl);
	return ret;
}

/* ------------------------------------------------------------ in the engine */

/* What lies beside the last run makes it longer. */
static void add_run(struct weights *w, uint64_t off, uint64_t bytes)
{
	struct weights_run *r = w->runs + w->n_runs;

	if (w->n_runs && r[-1].off + r[-1].bytes == off)
		r[-1].bytes += bytes;
	else
		w->runs[w->n_runs++] = (struct weights_run){ .off = off,
							     .at = w->used,
							     .bytes = bytes };
	w->used += bytes;
}

/* The tensors that @use says, where @pl says. */
static void point(struct weights *w, const struct image *im,
		  const struct places *pl, const uint8_t *use)
{
	uintptr_t base = (uintptr_t)w->object.p, at;
	const struct image_tensor *t;
	uint32_t i;

	for (i = 0; i < pl->n; i++) {
		t = &im->tensors[i];
		at = base + pl->off[i];
		if (use[i] == USE_NONE)
			continue;
		add_run(w, pl->off[i], align_up(place_bytes(t, use[i])));
		w->end[i] = w->used;
		if (use[i] == USE_VEC) {
			w->vec[i] = (const void *)at;
		} else {
			w->mat[i].fmt = (enum fmt)fmt_from_ggml(t->type);
			w->mat[i].rows = (uint32_t)t->rows;
			w->mat[i].cols = (uint32_t)t->cols;
			w->mat[i].data = (const void *)at;
		}
	}
	w->used = page_up(w->used);
}

/* With @object -1 there is none: sizes alone. */
static int find(struct weights *w, const struct image *im,
		const struct tape *tape, int object, uint64_t bytes,
		char why[160])
{
	uint32_t n = (uint32_t)im->h->tensors.n;
	struct places pl = { 0 };
	uint8_t *use;
	int ret;

	memset(w, 0, sizeof(*w));
	ret = places_find(&pl, im, why);
	if (ret)
		return ret;
	w->n = n;
	w->bytes = pl.bytes;
	w->mat = calloc(n + 1, sizeof(*w->mat));
	w->vec = calloc(n + 1, sizeof(*w->vec));
	w->runs = calloc(n + 1, sizeof(*w->runs));
	w->end = calloc(n + 1, sizeof(*w->end));
	use = calloc(n + 1, 1);
	if (!w->mat || !w->vec || !w->runs || !w->end || !use) {
		snprintf(why, WHY, "no memory for the weights' table");
		ret = -ENOMEM;
		goto out;
	}
	use_tape(tape, use);
	if (object >= 0 && pl.bytes > bytes) {
		snprintf(why, WHY, "weights of %llu bytes in an object of %llu",
			 (unsigned long long)pl.bytes,
			 (unsigned long long)bytes);
		ret = -EBADMSG;
	}
	if (!ret && object >= 0)
		ret = object_map(&w->object, object, pl.bytes, why);
	if (!ret)
		point(w, im, &pl, use);
out:
	free(use);
	places_free(&pl);
	if (ret)
		weights_free(w);
	return ret;
}

int weights_map(struct weights *w, const struct image *im,
		const struct tape *tape, int object, uint64_t bytes,
		char why[160])
{
	return find(w, im, tape, object, bytes, why);
}

int weights_measure(struct weights *w, const struct image *im,
		    const struct tape *tape, char why[160])
{
	return find(w, im, tape, -1, 0, why);
}

static const void *moved(const struct weights *w, const void *p, uint64_t at)
{
	uint64_t off = (uintptr_t)p - (uintptr_t)w->object.p;
	const struct weights_run *r = w->runs;

	while (off - r->off >= r->bytes)
		r++;
	return (const void *)(uintptr_t)(at + r->at + (off - r->off));
}

void weights_move(struct weights *w, uint64_t at)
{
	uint32_t i;

	for (i = 0; i < w->n; i++) {
		if (w->mat[i].data)
			w->mat[i].data = moved(w, w->mat[i].data, at);
		if (w->vec[i])
			w->vec[i] = moved(w, w->vec[i], at);
	}
}

void weights_readers(const struct weights *w, const struct tape *tape,
		     uint8_t wants[TAPE_REG_N])
{
	const struct tape_op *o;
	uint32_t i, j;

	memset(wants, 0, TAPE_REG_N);
	for (i = 0; i < tape->n_ops; i++) {
		o = &tape->ops[i];
		if (!tape_is_matmul(o->kind))
			continue;
		for (j = 0; j < o->n; j++)
			wants[o->src] |= mat_wants_q8(w->mat[o->w[j]].fmt)
						 ? WANT_Q8
						 : WANT_FLOAT;
	}
}

void weights_free(struct weights *w)
{
	object_unmap(&w->object);
	free(w->runs);
	free(w->end);
	free(w->mat);
	free(w->vec);
	memset(w, 0, sizeof(*w));
}
