/* SPDX-License-Identifier: MIT */
/* run.c - request records: a table of ranges, and a layout in D. */
#include "run.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "kv.h"

enum kind { U32, BITS, F32 };

/**
 * struct field - the range of one field
 * @open: bit 0: @min itself is out, bit 1: @max itself is out
 */
struct field {
	enum ring_field id;
	enum kind kind;
	uint32_t off;
	double min;
	double max;
	int open;
};

#define AT(x) offsetof(struct ring_run, x)
/* clang-format off */
static const struct field fields[] = {
	{ RING_F_FLAGS, BITS, AT(flags), 0, RING_RUN_ALL_FLAGS, 0 },
	{ RING_F_TEMPERATURE, F32, AT(temperature), 0, 100, 0 },
	{ RING_F_TOP_P, F32, AT(top_p), 0, 1, 1 },
	{ RING_F_MIN_P, F32, AT(min_p), 0, 1, 2 },
	{ RING_F_REPEAT_PENALTY, F32, AT(repeat_penalty), 0, 100, 1 },
	{ RING_F_PRESENCE_PENALTY, F32, AT(presence_penalty), -2, 2, 0 },
	{ RING_F_FREQUENCY_PENALTY, F32, AT(frequency_penalty), -2, 2, 0 },
	{ RING_F_N_TOP_LOGPROBS, U32, AT(n_top_logprobs), 0, RING_MAX_TOP_LOGPROBS, 0 },
	{ RING_F_N_BIAS, U32, AT(n_bias), 0, RING_MAX_BIAS, 0 },
	{ RING_F_N_STOP, U32, AT(n_stop), 0, RING_MAX_STOP, 0 },
	{ RING_F_N_LOGITS, U32, AT(n_logits), 0, RING_MAX_LOGITS, 0 },
};

static const struct array {
	enum ring_field id;
	uint32_t n;
	uint32_t off;
	uint32_t size;
} arrays[] = {
	{ RING_F_PROMPT_OFF, AT(n_prompt), AT(prompt_off), sizeof(uint32_t) },
	{ RING_F_BIAS_OFF, AT(n_bias), AT(bias_off), sizeof(struct ring_bias) },
	{ RING_F_STOP_OFF, AT(n_stop), AT(stop_off), sizeof(uint32_t) },
	{ RING_F_LOGITS_OFF, AT(n_logits), AT(logits_off), sizeof(uint32_t) },
	{ RING_F_DONE_OFF, AT(n_done), AT(done_off), sizeof(struct ring_token) },
};
/* clang-format on */

#define N_ARRAYS (sizeof(arrays) / sizeof(arrays[0]))

static uint32_t u32_at(const void *p, uint32_t off)
{
	uint32_t v;

	memcpy(&v, (const char *)p + off, sizeof(v));
	return v;
}

static bool in_range(const struct field *f, const struct ring_run *run)
{
	uint32_t u = u32_at(run, f->off);
	float x;

	switch (f->kind) {
	case BITS:
		return !(u & ~(uint32_t)f->max);
	case U32:
		return u <= (uint32_t)f->max;
	case F32:
		break;
	}
	memcpy(&x, &u, sizeof(x));
	/* A NaN fails every comparison. */
	if (f->open & 1 ? !(x > f->min) : !(x >= f->min))
		return false;
	return f->open & 2 ? x < f->max : x <= f->max;
}

int run_refuse(struct run_refusal *why, enum ring_refusal reason, int err,
	       uint64_t arg, uint64_t limit)
{
	why->reason = (uint16_t)reason;
	why->err = err;
	why->arg = arg;
	why->limit = limit;
	return err;
}

int run_check(const struct ring_run *run, uint32_t len, struct run_refusal *why)
{
	static const uint32_t zero[sizeof(run->resv) / sizeof(uint32_t)];
	const uint32_t both = RING_RUN_EMBED_LAST | RING_RUN_EMBED_MEAN;
	const struct array *a;
	const struct field *f;
	uint64_t off, n;
	size_t i;

	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		f = &fields[i];
		if (!in_range(f, run))
			return run_refuse(why, RING_BAD_PARAM, -EINVAL, f->id,
					  (uint64_t)f->max);
	}
	if ((run->flags & both) == both)
		return run_refuse(why, RING_BAD_PARAM, -EINVAL, RING_F_FLAGS,
				  RING_RUN_ALL_FLAGS);
	/* No alternatives to tokens of another session are known. */
	if (run->n_done && run->n_top_logprobs)
		return run_refuse(why, RING_BAD_PARAM, -EINVAL, RING_F_N_DONE,
				  0);
	if (run->n_done > run->max_tokens)
		return run_refuse(why, RING_BAD_PARAM, -EINVAL, RING_F_N_DONE,
				  run->max_tokens);
	if (memcmp(run->resv, zero, sizeof(zero)))
		return run_refuse(why, RING_BAD_RECORD, -EINVAL, RING_F_RESV,
				  0);
	if (!run->n_prompt)
		return run_refuse(why, RING_NO_PROMPT, -EINVAL, 0, 1);
	for (i = 0; i < N_ARRAYS; i++) {
		a = &arrays[i];
		n = u32_at(run, a->n);
		off = u32_at(run, a->off);
		if (!n)
			continue;
		if (off % 4 || off < sizeof(*run) || off > len ||
		    n * a->size > len - off)
			return run_refuse(why, RING_BAD_RECORD, -EINVAL, a->id,
					  len);
	}
	return 0;
}

int run_fit(const struct ring_run *run, const struct run_limits *lim,
	    uint32_t *max_out, struct run_refusal *why)
{
	uint64_t need, blocks;

	if (run->max_tokens == RING_MAX_TOKENS_CTX)
		need = (uint64_t)run->n_prompt +
		       (run->n_done ? run->n_done : 1);
	else
		need = (uint64_t)run->n_prompt + run->max_tokens;
	if (need > lim->n_ctx)
		return run_refuse(why, RING_NO_CONTEXT, -EMSGSIZE, need,
				  lim->n_ctx);
	*max_out = run->max_tokens;
	if (run->max_tokens == RING_MAX_TOKENS_CTX)
		*max_out = lim->n_ctx - run->n_prompt;
	/* The last token of an answer never enters the cache. */
	need = (uint64_t)run->n_prompt + (*max_out ? *max_out - 1 : 0);
	blocks = kv_blocks_for(need);
	if (blocks > lim->n_blocks)
		return run_refuse(why, RING_NO_KV, -ENOMEM,
				  blocks * lim->block_bytes,
				  lim->n_blocks * lim->block_bytes);
	return 0;
}

/* Append @n elements of @size at *@at, 64-aligned: their offset, 0 if none. */
static int append(uint64_t *at, uint64_t n, uint64_t size, uint64_t align,
		  uint64_t *off)
{
	uint64_t bytes, start;

	*off = 0;
	if (!n)
		return 0;
	if (__builtin_mul_overflow(n, size, &bytes) ||
	    __builtin_add_overflow(*at, align - 1, &start))
		return -EOVERFLOW;
	start &= ~(align - 1);
	if (__builtin_add_overflow(start, bytes, at))
		return -EOVERFLOW;
	*off = start;
	return 0;
}

int run_lay(const struct ring_run *run, uint32_t n_vocab, uint32_t n_embd,
	    uint32_t max_out, struct run_layout *lay)
{
	const uint32_t embeds = RING_RUN_EMBED_LAST | RING_RUN_EMBED_MEAN;
	uint64_t at = sizeof(*run), off[N_ARRAYS], n_top;
	size_t i;

	memset(lay, 0, sizeof(*lay));
	for (i = 0; i < N_ARRAYS; i++)
		if (append(&at, u32_at(run, arrays[i].n), arrays[i].size, 4,
			   &off[i]))
			return -EOVERFLOW;
	if (at > UINT32_MAX)
		return -EOVERFLOW;
	lay->rec_len = at;
	lay->prompt_off = (uint32_t)off[0];
	lay->bias_off = (uint32_t)off[1];
	lay->stop_off = (uint32_t)off[2];
	lay->logits_off = (uint32_t)off[3];
	lay->done_off = (uint32_t)off[4];
	n_top = run->flags & RING_RUN_LOGPROBS ? run->n_top_logprobs : 0;
	if (append(&at, max_out, sizeof(struct ring_token), 64, &lay->out) ||
	    append(&at, (uint64_t)max_out * n_top, sizeof(struct ring_top), 64,
		   &lay->top) ||
	    append(&at, (uint64_t)run->n_logits * n_vocab, sizeof(float), 64,
		   &lay->logits) ||
	    append(&at, run->flags & embeds ? n_embd : 0, sizeof(float), 64,
		   &lay->embed))
		return -EOVERFLOW;
	lay->bytes = at;
	return 0;
}

void run_snapshot(void *dst, const void *src, uint64_t n)
{
	const volatile uint32_t *s = src;
	uint32_t *d = dst;
	uint64_t i;

	for (i = 0; i < n / sizeof(*d); i++)
		d[i] = s[i];
}

int run_check_arrays(const void *at, const struct ring_run *run,
		     const struct run_layout *lay, uint32_t n_vocab,
		     struct run_refusal *why)
{
	const char *rec = at;
	const uint32_t *id = (const uint32_t *)(rec + lay->prompt_off);
	const struct ring_token *t;
	const struct ring_bias *b;
	uint32_t i;

	for (i = 0; i < run->n_prompt; i++)
		if (id[i] >= n_vocab)
			return run_refuse(why, RING_BAD_TOKEN, -EINVAL, i,
					  n_vocab);
	b = (const struct ring_bias *)(rec + lay->bias_off);
	for (i = 0; i < run->n_bias; i++)
		if (b[i].token >= n_vocab || isnan(b[i].bias) ||
		    b[i].bias == INFINITY)
			return run_refuse(why, RING_BAD_PARAM, -EINVAL,
					  RING_F_BIAS_OFF, n_vocab - 1);
	id = (const uint32_t *)(rec + lay->stop_off);
	for (i = 0; i < run->n_stop; i++)
		if (id[i] >= n_vocab)
			return run_refuse(why, RING_BAD_PARAM, -EINVAL,
					  RING_F_STOP_OFF, n_vocab - 1);
	id = (const uint32_t *)(rec + lay->logits_off);
	for (i = 0; i < run->n_logits; i++)
		if (id[i] >= run->n_prompt || (i && id[i] <= id[i - 1]))
			return run_refuse(why, RING_BAD_PARAM, -EINVAL,
					  RING_F_LOGITS_OFF, run->n_prompt - 1);
	t = (const struct ring_token *)(rec + lay->done_off);
	for (i = 0; i < run->n_done; i++)
		if (t[i].token >= n_vocab)
			return run_refuse(why, RING_BAD_PARAM, -EINVAL,
					  RING_F_DONE_OFF, n_vocab - 1);
	return 0;
}

int run_copy(void *dst, const void *src, const struct ring_run *run,
	     const struct run_layout *lay, uint32_t n_vocab,
	     struct run_refusal *why)
{
	struct ring_run rec = *run;
	const char *s = src;
	char *d = dst;

	rec.prompt_off = lay->prompt_off;
	rec.bias_off = lay->bias_off;
	rec.stop_off = lay->stop_off;
	rec.logits_off = lay->logits_off;
	rec.done_off = lay->done_off;
	memcpy(d, &rec, sizeof(rec));
	run_snapshot(d + lay->prompt_off, s + run->prompt_off,
		     (uint64_t)run->n_prompt * sizeof(uint32_t));
	if (run->n_bias)
		run_snapshot(d + lay->bias_off, s + run->bias_off,
			     (uint64_t)run->n_bias * sizeof(struct ring_bias));
	if (run->n_stop)
		run_snapshot(d + lay->stop_off, s + run->stop_off,
			     (uint64_t)run->n_stop * sizeof(uint32_t));
	if (run->n_logits)
		run_snapshot(d + lay->logits_off, s + run->logits_off,
			     (uint64_t)run->n_logits * sizeof(uint32_t));
	if (run->n_done)
		run_snapshot(d + lay->done_off, s + run->done_off,
			     (uint64_t)run->n_done * sizeof(struct ring_token));
	return run_check_arrays(d, run, lay, n_vocab, why);
}
