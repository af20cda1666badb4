/* SPDX-License-Identifier: MIT */
/*
 * tiny_model.h - random models in memory, and a plain evaluation in double.
 *
 * A tiny model is an image and a memfd that plays its file. Its tensors follow
 * the architecture's own list; the evaluation does not: it is written from
 * what the architectures are, over the dequantised weights, one position after
 * the other, and knows nothing of tapes, registers or caches.
 */
#ifndef HEARTH_TINY_MODEL_H
#define HEARTH_TINY_MODEL_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../daemon/arch.h"
#include "../kernels/quant.h"
#include "../libclient/image.h"

#define TINY_TENSORS 128
#define TINY_STRINGS 8192

struct tiny {
	struct image_hparams hp;
	struct image_header header;
	struct image_tensor tensors[TINY_TENSORS];
	char strings[TINY_STRINGS];
	float *w[TINY_TENSORS]; /* dequantised */
	uint32_t n_tensors;
	uint32_t n_strings;
	uint64_t off;
	uint64_t rng;
	int fd;
	struct image im;
};

static inline uint32_t tiny_rnd(uint64_t *rng)
{
	*rng = *rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*rng >> 32);
}

static inline float tiny_uniform(uint64_t *rng)
{
	return (float)tiny_rnd(rng) * 0x1p-31f - 1.0f;
}

static inline void tiny_die(const char *what)
{
	perror(what);
	abort();
}

static inline float *tiny_find(const struct tiny *m, uint32_t role,
			       uint32_t layer)
{
	uint32_t i;

	for (i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].role == role && m->tensors[i].layer == layer)
			return m->w[i];
	return NULL;
}

/* Random weights of a role: norms near one, biases and matrices around zero,
 * matrices as wide as keeps the stream's size. */
static inline float tiny_weight(struct tiny *m, uint32_t role, uint64_t cols,
				uint64_t rows)
{
	float u = tiny_uniform(&m->rng);

	if (role == ROLE_ROPE_FREQS)
		return 1.0f + 3.0f * (u + 1.0f);
	if (rows > 1)
		return u * 1.7f / sqrtf((float)cols) *
		       (role == ROLE_TOKEN_EMBD ? sqrtf((float)cols) : 1.0f);
	if (role == ROLE_ATTN_Q_BIAS || role == ROLE_ATTN_K_BIAS ||
	    role == ROLE_ATTN_V_BIAS)
		return u * 0.5f;
	return 1.0f + 0.3f * u;
}

static inline void tiny_add(struct tiny *m, const struct arch_tensor *at,
			    uint32_t layer, enum fmt f)
{
	struct image_tensor *t = &m->tensors[m->n_tensors];
	uint64_t cols = arch_dim_of(&m->hp, at->cols);
	uint64_t rows = arch_dim_of(&m->hp, at->rows), i, n = cols * rows;
	float *w = malloc(n * sizeof(*w));
	char name[64];
	void *raw;

	if (m->n_tensors == TINY_TENSORS || !w)
		tiny_die("too many tensors");
	if (rows == 1)
		f = FMT_F32;
	snprintf(name, sizeof(name), tensor_roles[at->role].name, layer);
	t->name.off = m->n_strings;
	t->name.len = (uint32_t)strlen(name);
	if (m->n_strings + t->name.len > TINY_STRINGS)
		tiny_die("too many names");
	memcpy(m->strings + m->n_strings, name, t->name.len);
	m->n_strings += t->name.len;
	t->role = at->role;
	t->layer = layer;
	t->type = fmt_info[f].ggml_type;
	t->cols = cols;
	t->rows = rows;
	t->bytes = fmt_bytes(f, n);
	t->off = m->off;
	m->off = (m->off + t->bytes + 31) & ~(uint64_t)31;
	for (i = 0; i < n; i++)
		w[i] = tiny_weight(m, at->role, cols, rows);
	raw = malloc(t->bytes);
	if (!t->bytes || !raw)
		tiny_die("tensor");
	fmt_info[f].quant(w, raw, n);
	fmt_info[f].dequant(raw, w, n);
	if (pwrite(m->fd, raw, t->bytes, (off_t)t->off) != (ssize_t)t->bytes)
		tiny_die("pwrite");
	free(raw);
	m->w[m->n_tensors++] = w;
}

/* A small shape of an architecture that any format fits (cols % 256 == 0). */
static inline struct image_hparams tiny_hparams(uint32_t arch)
{
	struct image_hparams hp = {
		.arch = arch,
		.n_layer = 2,
		.n_embd = 256,
		.n_ff = 512,
		.n_head = 4,
		.n_head_kv = 2,
		.head_dim = 64,
		.n_vocab = 300,
		.n_ctx_train = 4096,
		.n_rope = 64,
		.rope_pairs = arch == ARCH_llama ? IMAGE_ROPE_ADJACENT
						 : IMAGE_ROPE_HALVES,
		.rope_base = 10000,
		.rope_factor = 1,
		.rope_base_local = 10000,
		.norm_eps = 1e-5f,
		.attn_scale = 0.125f,
		.embd_scale = 1,
		.tied = 1,
	};

	if (arch == ARCH_gemma3) {
		hp.n_layer = 3;
		hp.n_swa = 20;
		hp.swa_period = 3;
		hp.rope_base_local = 1000;
		hp.embd_scale = 2;
	}
	return hp;
}

static inline void tiny_make(struct tiny *m, const struct image_hparams *hp,
			     enum fmt f, uint64_t seed)
{
	const struct arch *a = archs[hp->arch];
	const struct arch_tensor *at;
	uint32_t layer;
	size_t i;

	memset(m, 0, sizeof(*m));
	m->hp = *hp;
	m->rng = seed;
	m->fd = memfd_create("tiny", MFD_CLOEXEC);
	if (m->fd < 0)
		tiny_die("memfd_create");
	for (i = 0; i < a->n_tensors; i++) {
		at = &a->tensors[i];
		if ((at->role == ROLE_OUTPUT && hp->tied) ||
		    (at->role == ROLE_ROPE_FREQS &&
		     hp->rope_scaling != IMAGE_ROPE_FREQS) ||
		    (at->role >= ROLE_ATTN_Q_BIAS &&
		     at->role <= ROLE_ATTN_V_BIAS && hp->arch == ARCH_llama))
			continue;
		for (layer = 0; layer < hp->n_layer; layer++)
			if (!layer || tensor_roles[at->role].per_layer)
				tiny_add(m, at, layer, f);
	}
	if (ftruncate(m->fd, (off_t)m->off))
		tiny_die("ftruncate");
	m->header.hp = *hp;
	m->header.n_files = 1;
	m->header.file_bytes[0] = m->off;
	m->header.tensors.n = m->n_tensors;
	m->im.h = &m->header;
	m->im.str = m->strings;
	m->im.tensors = m->tensors;
}

static inline void tiny_free(struct tiny *m)
{
	uint32_t i;

	for (i = 0; i < m->n_tensors; i++)
		free(m->w[i]);
	close(m->fd);
}

/* ------------------------------------------------- evaluation in double */

static inline void tiny_norm(double *out, const double *x, const float *w,
			     uint32_t n, double eps)
{
	double sum = 0;
	uint32_t i;

	for (i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (i = 0; i < n; i++)
		out[i] = x[i] / sqrt(sum / n + eps) * (double)w[i];
}

static inline void tiny_mul(double *out, const float *w, const float *bias,
			    const double *x, uint32_t rows, uint32_t cols)
{
	uint32_t r, c;
	double sum;

	for (r = 0; r < rows; r++) {
		sum = bias ? (double)bias[r] : 0;
		for (c = 0; c < cols; c++)
			sum += (double)w[(size_t)r * cols + c] * x[c];
		out[r] = sum;
	}
}

static inline void tiny_rope(const struct tiny *m, double *x, uint32_t pos,
			     double base, const float *div)
{
	uint32_t i, a, b, n = m->hp.n_rope;
	double angle, xa, xb;

	for (i = 0; i < n / 2; i++) {
		angle = pos * pow(base, -2.0 * i / n) /
			(div ? (double)div[i] : 1.0);
		a = m->hp.rope_pairs == IMAGE_ROPE_HALVES ? i : 2 * i;
		b = m->hp.rope_pairs == IMAGE_ROPE_HALVES ? i + n / 2
							  : 2 * i + 1;
		xa = x[a];
		xb = x[b];
		x[a] = xa * cos(angle) - xb * sin(angle);
		x[b] = xb * cos(angle) + xa * sin(angle);
	}
}

#define TINY_MAX 1024 /* widest vector, and most positions */

/* Keys and values of one layer so far. */
struct tiny_past {
	double *k, *v; /* [pos][kv width] */
};

static inline void tiny_attn(const struct tiny *m, double *out, const double *q,
			     const struct tiny_past *past, uint32_t pos,
			     uint32_t window)
{
	uint32_t kvw = m->hp.n_head_kv * m->hp.head_dim, d = m->hp.head_dim;
	uint32_t first, h, p, i, kh;
	double s[TINY_MAX], top, sum;

	first = window && pos >= window ? pos - window + 1 : 0;
	for (h = 0; h < m->hp.n_head; h++) {
		kh = h / (m->hp.n_head / m->hp.n_head_kv) * d;
		top = -INFINITY;
		for (p = first; p <= pos; p++) {
			s[p] = 0;
			for (i = 0; i < d; i++)
				s[p] += q[h * d + i] *
					past->k[(size_t)p * kvw + kh + i];
			s[p] *= (double)m->hp.attn_scale;
			top = s[p] > top ? s[p] : top;
		}
		for (sum = 0, p = first; p <= pos; p++) {
			s[p] = exp(s[p] - top);
			sum += s[p];
		}
		for (i = 0; i < d; i++)
			out[h * d + i] = 0;
		for (p = first; p <= pos; p++)
			for (i = 0; i < d; i++)
				out[h * d + i] +=
					s[p] / sum *
					past->v[(size_t)p * kvw + kh + i];
	}
}

static inline void tiny_layer(const struct tiny *m, uint32_t l, double *x,
			      struct tiny_past *past, uint32_t pos)
{
	const struct image_hparams *hp = &m->hp;
	uint32_t qw = hp->n_head * hp->head_dim, i, h;
	uint32_t kvw = hp->n_head_kv * hp->head_dim;
	bool gemma = hp->arch == ARCH_gemma3;
	bool local = gemma && hp->n_swa && (l + 1) % hp->swa_period;
	double base = local ? hp->rope_base_local : hp->rope_base;
	double t[TINY_MAX], q[TINY_MAX], a[TINY_MAX], g[TINY_MAX], u[TINY_MAX];
	double *k = past->k + (size_t)pos * kvw;
	double *v = past->v + (size_t)pos * kvw;
	const float *qn = tiny_find(m, ROLE_ATTN_Q_NORM, l);
	const float *kn = tiny_find(m, ROLE_ATTN_K_NORM, l);
	const float *div = tiny_find(m, ROLE_ROPE_FREQS, 0);

	tiny_norm(t, x, tiny_find(m, ROLE_ATTN_NORM, l), hp->n_embd,
		  hp->norm_eps);
	tiny_mul(q, tiny_find(m, ROLE_ATTN_Q, l),
		 tiny_find(m, ROLE_ATTN_Q_BIAS, l), t, qw, hp->n_embd);
	tiny_mul(k, tiny_find(m, ROLE_ATTN_K, l),
		 tiny_find(m, ROLE_ATTN_K_BIAS, l), t, kvw, hp->n_embd);
	tiny_mul(v, tiny_find(m, ROLE_ATTN_V, l),
		 tiny_find(m, ROLE_ATTN_V_BIAS, l), t, kvw, hp->n_embd);
	for (h = 0; h < hp->n_head; h++) {
		if (qn)
			tiny_norm(q + h * hp->head_dim, q + h * hp->head_dim,
				  qn, hp->head_dim, hp->norm_eps);
		tiny_rope(m, q + h * hp->head_dim, pos, base, div);
	}
	for (h = 0; h < hp->n_head_kv; h++) {
		if (kn)
			tiny_norm(k + h * hp->head_dim, k + h * hp->head_dim,
				  kn, hp->head_dim, hp->norm_eps);
		tiny_rope(m, k + h * hp->head_dim, pos, base, div);
	}
	tiny_attn(m, a, q, past, pos, local ? hp->n_swa : 0);
	tiny_mul(t, tiny_find(m, ROLE_ATTN_OUT, l), NULL, a, hp->n_embd, qw);
	if (gemma)
		tiny_norm(t, t, tiny_find(m, ROLE_ATTN_POST_NORM, l),
			  hp->n_embd, hp->norm_eps);
	for (i = 0; i < hp->n_embd; i++)
		x[i] += t[i];
	tiny_norm(t, x, tiny_find(m, ROLE_FFN_NORM, l), hp->n_embd,
		  hp->norm_eps);
	tiny_mul(g, tiny_find(m, ROLE_FFN_GATE, l), NULL, t, hp->n_ff,
		 hp->n_embd);
	tiny_mul(u, tiny_find(m, ROLE_FFN_UP, l), NULL, t, hp->n_ff,
		 hp->n_embd);
	for (i = 0; i < hp->n_ff; i++) {
		if (gemma)
			g[i] = 0.5 * g[i] *
			       (1 +
				tanh(sqrt(2 / M_PI) *
				     (g[i] + 0.044715 * g[i] * g[i] * g[i])));
		else
			g[i] = g[i] / (1 + exp(-g[i]));
		g[i] *= u[i];
	}
	tiny_mul(t, tiny_find(m, ROLE_FFN_DOWN, l), NULL, g, hp->n_embd,
		 hp->n_ff);
	if (gemma)
		tiny_norm(t, t, tiny_find(m, ROLE_FFN_POST_NORM, l), hp->n_embd,
			  hp->norm_eps);
	for (i = 0; i < hp->n_embd; i++)
		x[i] += t[i];
}

/* Logits of every position: double[n][n_vocab], the caller's to free. */
static inline double *tiny_eval(const struct tiny *m, const uint32_t *tokens,
				uint32_t n)
{
	const struct image_hparams *hp = &m->hp;
	uint32_t kvw = hp->n_head_kv * hp->head_dim, pos, l, i;
	const float *embd = tiny_find(m, ROLE_TOKEN_EMBD, 0), *out;
	struct tiny_past *past = calloc(hp->n_layer, sizeof(*past));
	double *logits = malloc((size_t)n * hp->n_vocab * sizeof(*logits));
	double x[TINY_MAX];

	if (!past || !logits)
		tiny_die("memory");
	for (l = 0; l < hp->n_layer; l++) {
		past[l].k = malloc((size_t)n * kvw * sizeof(double));
		past[l].v = malloc((size_t)n * kvw * sizeof(double));
		if (!past[l].k || !past[l].v)
			tiny_die("memory");
	}
	out = hp->tied ? embd : tiny_find(m, ROLE_OUTPUT, 0);
	for (pos = 0; pos < n; pos++) {
		for (i = 0; i < hp->n_embd; i++)
			x[i] = (double)embd[(size_t)tokens[pos] * hp->n_embd +
					    i] *
			       (double)hp->embd_scale;
		for (l = 0; l < hp->n_layer; l++)
			tiny_layer(m, l, x, &past[l], pos);
		tiny_norm(x, x, tiny_find(m, ROLE_OUTPUT_NORM, 0), hp->n_embd,
			  hp->norm_eps);
		tiny_mul(logits + (size_t)pos * hp->n_vocab, out, NULL, x,
			 hp->n_vocab, hp->n_embd);
	}
	for (l = 0; l < hp->n_layer; l++) {
		free(past[l].k);
		free(past[l].v);
	}
	free(past);
	return logits;
}

#endif
