/* SPDX-License-Identifier: MIT */
/*
 * tape.c - builds a model's tape from its image.
 *
 * Runs in the engine, on an image that another process wrote: roles, shapes
 * and formats are checked again here, against the same tables the parser used.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/quant.h"
#include "../libclient/why.h"
#include "arch.h"
#include "backend.h"
#include "tape.h"

#define MAX_OPS_LAYER 16
#define MAX_OPS_MODEL 8 /* outside the layers */

struct tape_builder {
	struct tape *t;
	const struct image *im;
	const struct arch *arch;
	uint32_t *index; /* [layer][role], global roles in layer 0 */
	uint32_t max_ops;
	uint32_t layer0;
	bool gathered;
};

#define bad(why, ...) say_why(why, -EBADMSG, __VA_ARGS__)

/* ------------------------------------------------------- emitting ops */

uint32_t tape_tensor(struct tape_builder *tb, enum tensor_role role,
		     uint32_t layer)
{
	return tb->index[(size_t)layer * ROLE_N + role];
}

const struct image_hparams *tape_hparams(const struct tape_builder *tb)
{
	return &tb->im->h->hp;
}

enum tape_reg tape_residual(const struct tape_builder *tb)
{
	return tb->gathered ? TAPE_O : TAPE_X;
}

static struct tape_op *emit(struct tape_builder *tb, enum tape_kind kind,
			    enum tape_reg dst, enum tape_reg src)
{
	struct tape_op *op;
	int i;

	/* An architecture emits a fixed number a layer: never too many. */
	if (tb->t->n_ops >= tb->max_ops)
		abort();
	op = &tb->t->ops[tb->t->n_ops++];
	memset(op, 0, sizeof(*op));
	op->kind = kind;
	op->src = src;
	op->n = 1;
	for (i = 0; i < TAPE_MATS; i++) {
		op->dst[i] = dst;
		op->w[i] = TAPE_NONE;
		op->b[i] = TAPE_NONE;
	}
	return op;
}

void tape_norm(struct tape_builder *tb, enum tape_reg dst, enum tape_reg src,
	       uint32_t w)
{
	struct tape_op *op = emit(tb, TAPE_NORM, dst, src);

	op->w[0] = w;
	op->f[0] = tape_hparams(tb)->norm_eps;
}

void tape_norm_add(struct tape_builder *tb, enum tape_reg dst,
		   enum tape_reg src, uint32_t w)
{
	struct tape_op *op = emit(tb, TAPE_NORM_ADD, dst, src);

	op->w[0] = w;
	op->f[0] = tape_hparams(tb)->norm_eps;
}

void tape_matmul(struct tape_builder *tb, unsigned int n,
		 const enum tape_reg *dst, enum tape_reg src, const uint32_t *w,
		 const uint32_t *b)
{
	struct tape_op *op = emit(tb, TAPE_MATMUL, dst[0], src);
	unsigned int i;

	op->n = n;
	for (i = 0; i < n; i++) {
		op->dst[i] = dst[i];
		op->w[i] = w[i];
		if (b)
			op->b[i] = b[i];
	}
}

void tape_matmul_add(struct tape_builder *tb, enum tape_reg dst,
		     enum tape_reg src, uint32_t w)
{
	emit(tb, TAPE_MATMUL_ADD, dst, src)->w[0] = w;
}

void tape_rope_kv(struct tape_builder *tb, uint32_t layer, enum tape_rope rope,
		  uint32_t q_norm, uint32_t k_norm)
{
	struct tape_op *op = emit(tb, TAPE_ROPE_KV, TAPE_Q, TAPE_Q);

	op->dst[1] = TAPE_K;
	op->layer = layer - tb->layer0;
	op->rope = rope;
	op->w[0] = q_norm;
	op->w[1] = k_norm;
	op->f[0] = tape_hparams(tb)->norm_eps;
}

void tape_attn(struct tape_builder *tb, uint32_t layer, uint32_t window)
{
	struct tape_op *op = emit(tb, TAPE_ATTN, TAPE_A, TAPE_Q);

	op->layer = layer - tb->layer0;
	op->window = window;
	op->f[0] = tape_hparams(tb)->attn_scale;
}

void tape_glu(struct tape_builder *tb, enum tape_act act)
{
	emit(tb, TAPE_GLU, TAPE_G, TAPE_G)->act = act;
}

void tape_gather_last(struct tape_builder *tb, uint32_t layer)
{
	if (layer + 1 != tape_hparams(tb)->n_layer)
		return;
	emit(tb, TAPE_GATHER, TAPE_O, TAPE_X);
	tb->gathered = true;
}

void arch_layer_plain(struct tape_builder *tb, uint32_t layer)
{
	const enum tape_reg qkv[] = { TAPE_Q, TAPE_K, TAPE_V };
	const enum tape_reg gu[] = { TAPE_G, TAPE_U };
	uint32_t w[TAPE_MATS], b[TAPE_MATS];
	enum tape_reg x;

	tape_norm(tb, TAPE_H, TAPE_X, tape_tensor(tb, ROLE_ATTN_NORM, layer));
	w[0] = tape_tensor(tb, ROLE_ATTN_Q, layer);
	w[1] = tape_tensor(tb, ROLE_ATTN_K, layer);
	w[2] = tape_tensor(tb, ROLE_ATTN_V, layer);
	b[0] = tape_tensor(tb, ROLE_ATTN_Q_BIAS, layer);
	b[1] = tape_tensor(tb, ROLE_ATTN_K_BIAS, layer);
	b[2] = tape_tensor(tb, ROLE_ATTN_V_BIAS, layer);
	tape_matmul(tb, 3, qkv, TAPE_H, w, b);
	tape_rope_kv(tb, layer, TAPE_ROPE_GLOBAL,
		     tape_tensor(tb, ROLE_ATTN_Q_NORM, layer),
		     tape_tensor(tb, ROLE_ATTN_K_NORM, layer));
	tape_attn(tb, layer, 0);
	tape_matmul_add(tb, TAPE_X, TAPE_A,
			tape_tensor(tb, ROLE_ATTN_OUT, layer));
	tape_gather_last(tb, layer);
	x = tape_residual(tb);
	tape_norm(tb, TAPE_H, x, tape_tensor(tb, ROLE_FFN_NORM, layer));
	w[0] = tape_tensor(tb, ROLE_FFN_GATE, layer);
	w[1] = tape_tensor(tb, ROLE_FFN_UP, layer);
	tape_matmul(tb, 2, gu, TAPE_H, w, NULL);
	tape_glu(tb, TAPE_SILU);
	tape_matmul_add(tb, x, TAPE_G, tape_tensor(tb, ROLE_FFN_DOWN, layer));
}

/* ----------------------------------------------------- checking the image */

static int add_tensor(struct tape_builder *tb, uint32_t i, char why[160])
{
	const struct image_tensor *t = &tb->im->tensors[i];
	const struct image_hparams *hp = tape_hparams(tb);
	const struct arch_tensor *at;
	char name[64];
	uint32_t *slot;
	int ret, f;

	snprintf(name, sizeof(name), "%.*s",
		 (int)(t->name.len < 63 ? t->name.len : 63),
		 tb->im->str + t->name.off);
	at = t->role < ROLE_N ? arch_tensor_find(tb->arch, t->role) : NULL;
	if (!at)
		return bad(why, "tensor %.48s: no part of %s", name,
			   tb->arch->name);
	ret = arch_tensor_check(hp, at, t->type, t->cols, t->rows, name, why);
	if (ret)
		return ret;
	f = fmt_from_ggml(t->type);
	if (t->bytes != fmt_bytes(f, t->cols * t->rows) ||
	    t->cols % fmt_info[f].block)
		return bad(why, "tensor %.48s: %llu bytes", name,
			   (unsigned long long)t->bytes);
	if (!tensor_roles[t->role].per_layer && t->layer)
		return bad(why, "tensor %.48s: in layer %u", name, t->layer);
	slot = &tb->index[(size_t)t->layer * ROLE_N + t->role];
	if (*slot != TAPE_NONE)
		return bad(why, "tensor %.48s: twice", name);
	*slot = i;
	return 0;
}

static int index_tensors(struct tape_builder *tb, char why[160])
{
	const struct image_hparams *hp = tape_hparams(tb);
	const struct arch_tensor *at;
	char name[64];
	uint32_t i, layer;
	size_t k;
	int ret;

	for (i = 0; i < tb->im->h->tensors.n; i++) {
		ret = add_tensor(tb, i, why);
		if (ret)
			return ret;
	}
	for (k = 0; k < tb->arch->n_tensors; k++) {
		at = &tb->arch->tensors[k];
		if (at->flags & ARCH_OPTIONAL)
			continue;
		for (layer = 0; layer < hp->n_layer; layer++) {
			if (layer && !tensor_roles[at->role].per_layer)
				break;
			if (tape_tensor(tb, at->role, layer) != TAPE_NONE)
				continue;

			snprintf(name, sizeof(name),
				 tensor_roles[at->role].name, layer);
			return bad(why, "tensor %.48s: missing", name);
		}
	}
	if (hp->tied != (tape_tensor(tb, ROLE_OUTPUT, 0) == TAPE_NONE))
		return bad(why, "output.weight: tied says %u", hp->tied);
	return 0;
}

/* --------------------------------------------------------------- building */

static int make_angles(struct tape *t, const struct image_hparams *hp)
{
	const double base[TAPE_ROPE_N] = { hp->rope_base, hp->rope_base_local };
	/* Only the global table is stretched. */
	const double factor[TAPE_ROPE_N] = { hp->rope_factor, 1 };
	uint32_t i, r, n = hp->n_rope / 2;

	for (r = 0; r < TAPE_ROPE_N; r++) {
		t->rope_inv_freq[r] = calloc(n, sizeof(double));
		if (!t->rope_inv_freq[r])
			return -ENOMEM;
		for (i = 0; i < n; i++)
			t->rope_inv_freq[r][i] =
				pow(base[r], -2.0 * i / hp->n_rope) / factor[r];
	}
	return 0;
}

static void set_widths(struct tape *t, const struct image_hparams *hp)
{
	const uint32_t q = hp->n_head * hp->head_dim;
	const uint32_t kv = hp->n_head_kv * hp->head_dim;
	const uint32_t width[TAPE_REG_N] = {
		[TAPE_X] = hp->n_embd, [TAPE_H] = hp->n_embd,
		[TAPE_Q] = q,	       [TAPE_K] = kv,
		[TAPE_V] = kv,	       [TAPE_A] = q,
		[TAPE_T] = hp->n_embd, [TAPE_G] = hp->n_ff,
		[TAPE_U] = hp->n_ff,   [TAPE_O] = hp->n_embd,
		[TAPE_E] = hp->n_embd, [TAPE_L] = hp->n_vocab,
	};
	uint32_t i, k;

	for (i = 0; i < t->n_ops; i++) {
		t->width[t->ops[i].src] = width[t->ops[i].src];
		for (k = 0; k < TAPE_MATS; k++)
			t->width[t->ops[i].dst[k]] = width[t->ops[i].dst[k]];
	}
	t->width[TAPE_K] = t->width[TAPE_V] = kv;
	t->width[TAPE_U] = hp->n_ff;
}

static void emit_begin(struct tape_builder *tb)
{
	struct tape_op *op;

	if (tb->layer0) {
		emit(tb, TAPE_TAKE, TAPE_X, TAPE_X);
		return;
	}
	op = emit(tb, TAPE_EMBED, TAPE_X, TAPE_X);
	op->w[0] = tape_tensor(tb, ROLE_TOKEN_EMBD, 0);
	op->f[0] = tape_hparams(tb)->embd_scale;
}

static void emit_end(struct tape_builder *tb, uint32_t layer1)
{
	const struct image_hparams *hp = tape_hparams(tb);
	uint32_t out;

	if (layer1 < hp->n_layer) {
		emit(tb, TAPE_GIVE, TAPE_X, TAPE_X);
		return;
	}
	tape_norm(tb, TAPE_E, TAPE_O, tape_tensor(tb, ROLE_OUTPUT_NORM, 0));
	out = tape_tensor(tb, hp->tied ? ROLE_TOKEN_EMBD : ROLE_OUTPUT, 0);
	emit(tb, TAPE_LOGITS, TAPE_L, TAPE_E)->w[0] = out;
}

static int emit_all(struct tape_builder *tb, const struct backend_part *part,
		    char why[160])
{
	const struct image_hparams *hp = tape_hparams(tb);
	uint32_t layer, layer1 = hp->n_layer;

	if (part) {
		tb->layer0 = part->layer0;
		layer1 = part->layer1;
	}
	if (tb->layer0 >= layer1 || layer1 > hp->n_layer)
		return say_why(why, -EINVAL, "layers %u to %u of %u",
			       tb->layer0, layer1, hp->n_layer);
	tb->t->n_layer = layer1 - tb->layer0;
	emit_begin(tb);
	for (layer = tb->layer0; layer < layer1; layer++)
		tb->arch->layer(tb, layer);
	emit_end(tb, layer1);
	set_widths(tb->t, hp);
	return 0;
}

int tape_build(struct tape *t, const struct image *im, char why[160])
{
	return tape_build_part(t, im, NULL, why);
}

int tape_build_part(struct tape *t, const struct image *im,
		    const struct backend_part *part, char why[160])
{
	const struct image_hparams *hp = &im->h->hp;
	struct tape_builder tb = { .t = t, .im = im };
	size_t n_index;
	int ret;

	memset(t, 0, sizeof(*t));
	if (hp->arch >= ARCH_N)
		return bad(why, "image: no architecture %u", hp->arch);
	tb.arch = archs[hp->arch];
	tb.max_ops = hp->n_layer * MAX_OPS_LAYER + MAX_OPS_MODEL;
	n_index = (size_t)hp->n_layer * ROLE_N;
	tb.index = malloc(n_index * sizeof(*tb.index));
	t->ops = calloc(tb.max_ops, sizeof(*t->ops));
	if (!tb.index || !t->ops) {
		snprintf(why, 160, "tape: out of memory");
		ret = -ENOMEM;
		goto out;
	}
	memset(tb.index, 0xff, n_index * sizeof(*tb.index));
	ret = index_tensors(&tb, why);
	if (ret)
		goto out;
	t->rope_freqs = tape_tensor(&tb, ROLE_ROPE_FREQS, 0);
	if ((t->rope_freqs != TAPE_NONE) !=
	    (hp->rope_scaling == IMAGE_ROPE_FREQS)) {
		ret = bad(why, "rope_freqs.weight: scaling says %u",
			  hp->rope_scaling);
		goto out;
	}
	ret = emit_all(&tb, part, why);
	if (ret)
		goto out;
	ret = make_angles(t, hp);
	if (ret)
		snprintf(why, 160, "tape: out of memory");
out:
	free(tb.index);
	if (ret)
		tape_free(t);
	return ret;
}

void tape_free(struct tape *t)
{
	unsigned int r;

	for (r = 0; r < TAPE_ROPE_N; r++)
		free(t->rope_inv_freq[r]);
	free(t->ops);
	memset(t, 0, sizeof(*t));
}
