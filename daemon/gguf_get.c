/* SPDX-License-Identifier: MIT */
/* gguf_get.c - asks a model's headers for the values of keys. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gguf_priv.h"

const char *const gguf_type_names[GGUF_TYPE_N] = {
	"u8",	"i8",	  "u16",   "i16", "u32", "i32", "f32",
	"bool", "string", "array", "u64", "i64", "f64",
};

const uint8_t gguf_type_bytes[GGUF_TYPE_N] = {
	[GGUF_U8] = 1,	[GGUF_I8] = 1,	[GGUF_U16] = 2, [GGUF_I16] = 2,
	[GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
	[GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

int gguf_fail(struct gguf_reader *r, int err, uint64_t at, const char *fmt, ...)
{
	size_t n = 0;
	va_list ap;

	if (r->g->n_parts > 1)
		n = (size_t)snprintf(r->why, 160,
				     "part %d: ", (int)(r->p - r->g->part) + 1);
	va_start(ap, fmt);
	vsnprintf(r->why + n, 160 - n, fmt, ap);
	va_end(ap);
	n = strlen(r->why);
	if (n > 130)
		n = 130;
	snprintf(r->why + n, 160 - n, " (at byte %" PRIu64 ")", at);
	return err;
}

int gguf_compare(const uint8_t *a, size_t na, const uint8_t *b, size_t nb)
{
	int c = memcmp(a, b, na < nb ? na : nb);

	return c ? c : (na > nb) - (na < nb);
}

static const struct gguf_kv *find(const struct gguf_part *p, const char *key)
{
	size_t n = strlen(key), lo = 0, hi = p->n_kv, mid;
	const struct gguf_kv *kv;
	int c;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		kv = &p->kv[p->kv_sorted[mid]];
		c = gguf_compare((const uint8_t *)key, n, p->buf + kv->key_off,
				 kv->key_len);
		if (!c)
			return kv;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

static bool to_int(enum gguf_type type, const uint8_t *p, int64_t *out)
{
	uint64_t v;

	if (type == GGUF_F32 || type == GGUF_F64 || !gguf_type_bytes[type])
		return false;
	v = gguf_load(p, gguf_type_bytes[type]);
	switch (type) {
	case GGUF_I8:
		*out = (int8_t)v;
		return true;
	case GGUF_I16:
		*out = (int16_t)v;
		return true;
	case GGUF_I32:
		*out = (int32_t)v;
		return true;
	case GGUF_U64:
		*out = (int64_t)v;
		return v <= INT64_MAX;
	default:
		*out = (int64_t)v;
		return true;
	}
}

int gguf_part_u32(struct gguf_reader *r, const char *key, uint32_t *out)
{
	const struct gguf_kv *kv = find(r->p, key);
	int64_t v = 0, first = 0;
	unsigned int size, type;
	uint32_t i, n = 1;

	if (!kv)
		return 0;
	type = kv->type;
	if (type == GGUF_ARRAY) {
		type = kv->elem;
		n = kv->n;
	}
	size = gguf_type_bytes[type];
	for (i = 0; i < n; i++) {
		if (!to_int(type, r->p->buf + kv->off + (size_t)i * size, &v))
			n = 0;
		if (!i)
			first = v;
		else if (v != first)
			return gguf_fail(
				r, -ENOTSUP, kv->off,
				"key %s: differs from layer to layer, not "
				"supported",
				key);
	}
	if (!n || type == GGUF_BOOL)
		return gguf_fail(r, -EBADMSG, kv->off, "key %s: no integer",
				 key);
	if (first < 0 || first > UINT32_MAX)
		return gguf_fail(r, -EBADMSG, kv->off, "key %s: %" PRId64, key,
				 first);
	*out = (uint32_t)first;
	return 1;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
	return find(&g->part[0], key);
}

static struct gguf_reader asker(const struct gguf *g, char *why)
{
	struct gguf *m = (struct gguf *)(uintptr_t)g; /* only read */

	return (struct gguf_reader){ .g = m, .p = m->part, .why = why };
}

int gguf_bad_key(const struct gguf *g, const char *key, char why[160],
		 const char *what)
{
	struct gguf_reader r = asker(g, why);
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv)
		return gguf_fail(&r, -ENOTSUP, r.p->pos, "key %s: %s", key,
				 what);
	return gguf_fail(&r, -ENOTSUP, kv->off, "key %s: %s", key, what);
}

static int missing(struct gguf_reader *r, const char *key, bool required)
{
	if (!required)
		return 0;
	return gguf_fail(r, -EBADMSG, r->p->pos, "key %s: missing", key);
}

int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out,
		 bool required, char why[160])
{
	struct gguf_reader r = asker(g, why);
	int ret = gguf_part_u32(&r, key, out);

	if (ret < 0)
		return ret;
	return ret ? 0 : missing(&r, key, required);
}

int gguf_get_f32(const struct gguf *g, const char *key, float *out,
		 bool required, char why[160])
{
	const struct gguf_kv *kv = gguf_find(g, key);
	struct gguf_reader r = asker(g, why);
	double d;
	float f;

	if (!kv)
		return missing(&r, key, required);
	if (kv->type == GGUF_F32) {
		memcpy(&f, r.p->buf + kv->off, sizeof(f));
	} else if (kv->type == GGUF_F64) {
		memcpy(&d, r.p->buf + kv->off, sizeof(d));
		f = fabs(d) < 3e38 ? (float)d : INFINITY;
	} else {
		return gguf_fail(&r, -EBADMSG, kv->off,
				 "key %s: %s, want a float", key,
				 gguf_type_names[kv->type]);
	}
	if (!isfinite(f))
		return gguf_fail(&r, -EBADMSG, kv->off, "key %s: not finite",
				 key);
	*out = f;
	return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *out,
		  bool required, char why[160])
{
	const struct gguf_kv *kv = gguf_find(g, key);
	struct gguf_reader r = asker(g, why);

	if (!kv)
		return missing(&r, key, required);
	if (kv->type != GGUF_BOOL)
		return gguf_fail(&r, -EBADMSG, kv->off,
				 "key %s: %s, want a bool", key,
				 gguf_type_names[kv->type]);
	*out = r.p->buf[kv->off];
	return 0;
}

int gguf_get_str(const struct gguf *g, const char *key, const char **out,
		 size_t *n, bool required, char why[160])
{
	const struct gguf_kv *kv = gguf_find(g, key);
	struct gguf_reader r = asker(g, why);

	if (!kv)
		return missing(&r, key, required);
	if (kv->type != GGUF_STRING)
		return gguf_fail(&r, -EBADMSG, kv->off,
				 "key %s: %s, want a string", key,
				 gguf_type_names[kv->type]);
	*out = gguf_text(g, 0, kv->off);
	*n = kv->n;
	return 0;
}

uint32_t gguf_array_len(const struct gguf *g, const char *key)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	return kv && kv->type == GGUF_ARRAY ? kv->n : 0;
}

int gguf_array_u32(const struct gguf *g, const char *key, uint32_t i,
		   uint32_t *out, char why[160])
{
	const struct gguf_kv *kv = gguf_find(g, key);
	struct gguf_reader r = asker(g, why);
	int64_t v;

	if (!kv || kv->type != GGUF_ARRAY || i >= kv->n)
		return gguf_fail(&r, -EBADMSG, r.p->pos,
				 "key %s: no element %u", key, i);
	if (!to_int(kv->elem,
		    r.p->buf + kv->off + (size_t)i * gguf_type_bytes[kv->elem],
		    &v) ||
	    v < 0 || v > UINT32_MAX)
		return gguf_fail(&r, -EBADMSG, kv->off,
				 "key %s: element %u out of range", key, i);
	*out = (uint32_t)v;
	return 0;
}

void gguf_printable(char *buf, size_t size, const char *text, size_t n)
{
	size_t i;

	for (i = 0; i < n && i + 1 < size; i++)
		buf[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	buf[i] = 0;
}

int gguf_print(char *buf, size_t n, enum gguf_type type, const uint8_t *p)
{
	int64_t v = 0;
	double d;
	float f;

	switch (type) {
	case GGUF_F32:
		memcpy(&f, p, sizeof(f));
		return snprintf(buf, n, "%.9g", (double)f);
	case GGUF_F64:
		memcpy(&d, p, sizeof(d));
		return snprintf(buf, n, "%.17g", d);
	case GGUF_BOOL:
		return snprintf(buf, n, "%s", *p ? "true" : "false");
	case GGUF_U64:
		return snprintf(buf, n, "%" PRIu64, gguf_load(p, 8));
	default:
		to_int(type, p, &v);
		return snprintf(buf, n, "%" PRId64, v);
	}
}
