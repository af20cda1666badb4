/* SPDX-License-Identifier: MIT */
/*
 * gguf.c - reads the headers of a model's GGUF files.
 *
 * The header of each file is read into memory as far as it goes, never more
 * than the file has; keys and tensors then refer to it by offset. A count in
 * the file is compared with the smallest space so many things could take in
 * the rest of the file before anything is allocated for them.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../kernels/quant.h"
#include "../libclient/safe.h"
#include "gguf.h"

#define MAGIC		 0x46554747u /* "GGUF" */
#define DEFAULT_ALIGN	 32
#define MAX_ALIGN	 65536
#define MAX_HEADER	 (256ull << 20)
#define FIRST_READ	 (64u << 10)
#define MAX_KEY		 256
#define MAX_NAME	 63
#define MAX_KV		 65536
#define MAX_DIMS	 4
#define MIN_KV_BYTES	 14 /* length, one letter, type, one byte */
#define MIN_TENSOR_BYTES 33 /* length, one letter, dims, 1 x 8, type, offset */

const char *const gguf_type_names[GGUF_TYPE_N] = {
	"u8",	"i8",	  "u16",   "i16", "u32", "i32", "f32",
	"bool", "string", "array", "u64", "i64", "f64",
};

const uint8_t gguf_type_bytes[GGUF_TYPE_N] = {
	[GGUF_U8] = 1,	[GGUF_I8] = 1,	[GGUF_U16] = 2, [GGUF_I16] = 2,
	[GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
	[GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

/* Where we are, for reading and for messages. */
struct reader {
	struct gguf *g;
	struct gguf_part *p;
	char *why;
};

/* "part 2: tensor x: what (at byte n)" */
__attribute__((format(printf, 4, 5))) static int
fail(struct reader *r, int err, uint64_t at, const char *fmt, ...)
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

/* ------------------------------------------------------------- reading */

static int read_at(struct reader *r, uint64_t off, uint8_t *buf, uint64_t n)
{
	const struct gguf_src *s = &r->p->src;
	ssize_t got;

	if (s->mem) {
		memcpy(buf, (const uint8_t *)s->mem + off, n);
		return 0;
	}
	while (n) {
		got = pread(s->fd, buf, n, (off_t)off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(r, -EIO, off, "read: %s", strerror(errno));
		if (!got)
			return fail(r, -EIO, off, "the file shrank");
		buf += got;
		off += (uint64_t)got;
		n -= (uint64_t)got;
	}
	return 0;
}

/* Have @n more bytes in the buffer, or say that the file ends. */
static int need_slow(struct reader *r, uint64_t n, const char *what)
{
	struct gguf_part *p = r->p;
	uint64_t cap;
	uint8_t *buf;
	int ret;

	if (!safe_range(p->pos, n, p->src.bytes))
		return fail(r, -EBADMSG, p->pos,
			    "%s: %" PRIu64 " bytes, the file has %" PRIu64
			    " left",
			    what, n, p->src.bytes - p->pos);
	if (p->pos + n > MAX_HEADER)
		return fail(r, -EBADMSG, p->pos, "the header is too large");
	cap = p->len ? 2 * p->len : FIRST_READ;
	if (cap < p->pos + n)
		cap = p->pos + n;
	if (cap > p->src.bytes)
		cap = p->src.bytes;
	buf = realloc(p->buf, cap);
	if (!buf)
		return fail(r, -ENOMEM, p->pos, "out of memory");
	p->buf = buf;
	ret = read_at(r, p->len, buf + p->len, cap - p->len);
	if (ret)
		return ret;
	p->len = cap;
	return 0;
}

static inline int need(struct reader *r, uint64_t n, const char *what)
{
	if (n <= r->p->len - r->p->pos)
		return 0;
	return need_slow(r, n, what);
}

static uint64_t load(const uint8_t *p, unsigned int bytes)
{
	uint64_t v = 0;

	memcpy(&v, p, bytes); /* little endian, like the file */
	return v;
}

static int read_u32(struct reader *r, const char *what, uint32_t *out)
{
	int ret = need(r, 4, what);

	if (ret)
		return ret;
	*out = (uint32_t)load(r->p->buf + r->p->pos, 4);
	r->p->pos += 4;
	return 0;
}

static int read_u64(struct reader *r, const char *what, uint64_t *out)
{
	int ret = need(r, 8, what);

	if (ret)
		return ret;
	*out = load(r->p->buf + r->p->pos, 8);
	r->p->pos += 8;
	return 0;
}

/* A name: 1..max printable ASCII letters, no blanks. */
static int read_name(struct reader *r, const char *what, uint32_t max,
		     uint32_t *off, uint32_t *len)
{
	struct gguf_part *p = r->p;
	uint64_t n, at = p->pos, i;
	int ret;

	ret = read_u64(r, what, &n);
	if (ret)
		return ret;
	if (!n || n > max)
		return fail(r, -EBADMSG, at,
			    "%s: name of %" PRIu64 " bytes, want 1..%u", what,
			    n, max);
	ret = need(r, n, what);
	if (ret)
		return ret;
	for (i = 0; i < n; i++)
		if (p->buf[p->pos + i] <= ' ' || p->buf[p->pos + i] > '~')
			return fail(r, -EBADMSG, p->pos + i,
				    "%s: name with byte 0x%02x", what,
				    p->buf[p->pos + i]);
	*off = (uint32_t)p->pos;
	*len = (uint32_t)n;
	p->pos += n;
	return 0;
}

/* -------------------------------------------------------------- keys */

static int read_text(struct reader *r, const char *what, uint32_t *off,
		     uint32_t *len)
{
	uint64_t n;
	int ret;

	ret = read_u64(r, what, &n);
	if (!ret)
		ret = need(r, n, what);
	if (ret)
		return ret;
	*off = (uint32_t)r->p->pos;
	*len = (uint32_t)n;
	r->p->pos += n;
	return 0;
}

static int check_bools(struct reader *r, const char *what, uint64_t n)
{
	struct gguf_part *p = r->p;
	uint64_t i;

	for (i = 0; i < n; i++)
		if (p->buf[p->pos + i] > 1)
			return fail(r, -EBADMSG, p->pos + i,
				    "%s: boolean of value %u", what,
				    p->buf[p->pos + i]);
	return 0;
}

static int read_array(struct reader *r, const char *what, struct gguf_kv *kv)
{
	struct gguf_part *p = r->p;
	uint64_t at = p->pos, n, i, bytes;
	uint32_t elem, off, len;
	int ret;

	ret = read_u32(r, what, &elem);
	if (!ret)
		ret = read_u64(r, what, &n);
	if (ret)
		return ret;
	if (elem >= GGUF_TYPE_N || elem == GGUF_ARRAY)
		return fail(r, -EBADMSG, at, "%s: array of %s", what,
			    elem == GGUF_ARRAY ? "arrays" : "unknown type");
	bytes = gguf_type_bytes[elem] ? gguf_type_bytes[elem] : 8;
	if (!safe_array(p->pos, n, bytes, p->src.bytes))
		return fail(r, -EBADMSG, at,
			    "%s: %" PRIu64 " elements, the file has %" PRIu64
			    " bytes left",
			    what, n, p->src.bytes - p->pos);
	kv->elem = (uint8_t)elem;
	kv->off = (uint32_t)p->pos;
	if (elem != GGUF_STRING) {
		ret = need(r, n * bytes, what);
		if (!ret && elem == GGUF_BOOL)
			ret = check_bools(r, what, n);
		p->pos += n * bytes;
		kv->n = (uint32_t)n;
		return ret;
	}
	for (i = 0; i < n; i++) {
		ret = read_text(r, what, &off, &len);
		if (ret)
			return ret;
	}
	kv->n = (uint32_t)n;
	return 0;
}

static int read_kv(struct reader *r, struct gguf_kv *kv)
{
	struct gguf_part *p = r->p;
	uint32_t type, len;
	char what[64];
	uint64_t at;
	int ret;

	ret = read_name(r, "key", MAX_KEY, &kv->key_off, &len);
	if (ret)
		return ret;
	kv->key_len = (uint16_t)len;
	snprintf(what, sizeof(what), "key %.*s", (int)(len < 56 ? len : 56),
		 (const char *)p->buf + kv->key_off);
	at = p->pos;
	ret = read_u32(r, what, &type);
	if (ret)
		return ret;
	if (type >= GGUF_TYPE_N)
		return fail(r, -EBADMSG, at, "%s: unknown type %u", what, type);
	kv->type = (uint8_t)type;
	if (type == GGUF_ARRAY)
		return read_array(r, what, kv);
	if (type == GGUF_STRING)
		return read_text(r, what, &kv->off, &kv->n);
	kv->off = (uint32_t)p->pos;
	ret = need(r, gguf_type_bytes[type], what);
	if (!ret && type == GGUF_BOOL)
		ret = check_bools(r, what, 1);
	p->pos += gguf_type_bytes[type];
	return ret;
}

static int compare(const uint8_t *a, size_t na, const uint8_t *b, size_t nb)
{
	int c = memcmp(a, b, na < nb ? na : nb);

	return c ? c : (na > nb) - (na < nb);
}

static int compare_keys(const void *a, const void *b, void *arg)
{
	const struct gguf_part *p = arg;
	const struct gguf_kv *x = &p->kv[*(const uint32_t *)a];
	const struct gguf_kv *y = &p->kv[*(const uint32_t *)b];

	return compare(p->buf + x->key_off, x->key_len, p->buf + y->key_off,
		       y->key_len);
}

static int read_keys(struct reader *r)
{
	struct gguf_part *p = r->p;
	const struct gguf_kv *kv;
	uint64_t i;
	int ret;

	p->kv = calloc(p->n_kv + 1, sizeof(*p->kv));
	p->kv_sorted = calloc(p->n_kv + 1, sizeof(*p->kv_sorted));
	if (!p->kv || !p->kv_sorted)
		return fail(r, -ENOMEM, p->pos, "out of memory");
	for (i = 0; i < p->n_kv; i++) {
		ret = read_kv(r, &p->kv[i]);
		if (ret)
			return ret;
		p->kv_sorted[i] = (uint32_t)i;
	}
	qsort_r(p->kv_sorted, p->n_kv, sizeof(*p->kv_sorted), compare_keys, p);
	for (i = 1; i < p->n_kv; i++) {
		if (compare_keys(&p->kv_sorted[i - 1], &p->kv_sorted[i], p))
			continue;
		kv = &p->kv[p->kv_sorted[i]];
		return fail(r, -EBADMSG, kv->key_off, "key %.*s: twice",
			    kv->key_len < 64 ? kv->key_len : 64,
			    (const char *)p->buf + kv->key_off);
	}
	return 0;
}

static const struct gguf_kv *find(const struct gguf_part *p, const char *key)
{
	size_t n = strlen(key), lo = 0, hi = p->n_kv, mid;
	const struct gguf_kv *kv;
	int c;

	while (lo < hi) {
		mid = lo + (hi - lo) / 2;
		kv = &p->kv[p->kv_sorted[mid]];
		c = compare((const uint8_t *)key, n, p->buf + kv->key_off,
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
	v = load(p, gguf_type_bytes[type]);
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

/* 1 found, 0 not there, or an error */
static int get_u32(struct reader *r, const char *key, uint32_t *out)
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
			return fail(r, -ENOTSUP, kv->off,
				    "key %s: differs from layer to layer, not "
				    "supported",
				    key);
	}
	if (!n || type == GGUF_BOOL)
		return fail(r, -EBADMSG, kv->off, "key %s: no integer", key);
	if (first < 0 || first > UINT32_MAX)
		return fail(r, -EBADMSG, kv->off, "key %s: %" PRId64, key,
			    first);
	*out = (uint32_t)first;
	return 1;
}

/* -------------------------------------------------------- tensors */

static int read_dims(struct reader *r, const char *what, struct gguf_tensor *t)
{
	uint64_t ne, at = r->p->pos;
	uint32_t i, n_dims;
	int ret;

	ret = read_u32(r, what, &n_dims);
	if (ret)
		return ret;
	if (!n_dims || n_dims > MAX_DIMS)
		return fail(r, -EBADMSG, at, "%s: %u dimensions", what, n_dims);
	t->cols = t->rows = 1;
	for (i = 0; i < n_dims; i++) {
		at = r->p->pos;
		ret = read_u64(r, what, &ne);
		if (ret)
			return ret;
		if (!ne)
			return fail(r, -EBADMSG, at, "%s: dimension of zero",
				    what);
		if (!i)
			t->cols = ne;
		else if (!safe_mul(t->rows, ne, &t->rows))
			return fail(r, -EBADMSG, at, "%s: too many elements",
				    what);
	}
	return 0;
}

static int read_type(struct reader *r, const char *what, struct gguf_tensor *t)
{
	uint64_t at = r->p->pos, n;
	const char *name;
	int ret, f;

	ret = read_u32(r, what, &t->type);
	if (ret)
		return ret;
	f = fmt_from_ggml(t->type);
	if (f < 0) {
		name = ggml_type_name(t->type);
		return fail(r, -ENOTSUP, at,
			    "%s: type %s (%u) is not supported", what,
			    name ? name : "unknown", t->type);
	}
	if (t->cols % fmt_info[f].block)
		return fail(r, -EBADMSG, at,
			    "%s: %" PRIu64 " columns, %s has blocks of %u",
			    what, t->cols, fmt_info[f].name, fmt_info[f].block);
	if (!safe_mul(t->cols, t->rows, &n))
		return fail(r, -EBADMSG, at, "%s: too many elements", what);
	t->bytes = fmt_bytes(f, n);
	if (!t->bytes || !safe_add(r->g->n_params, n, &r->g->n_params))
		return fail(r, -EBADMSG, at, "%s: too many elements", what);
	return 0;
}

static int read_tensor(struct reader *r, struct gguf_tensor *t)
{
	struct gguf_part *p = r->p;
	uint32_t len;
	char what[80];
	int ret;

	t->at = (uint32_t)p->pos;
	t->part = (uint8_t)(p - r->g->part);
	ret = read_name(r, "tensor", MAX_NAME, &t->name_off, &len);
	if (ret)
		return ret;
	t->name_len = (uint8_t)len;
	snprintf(what, sizeof(what), "tensor %.*s", (int)len,
		 (const char *)p->buf + t->name_off);
	ret = read_dims(r, what, t);
	if (!ret)
		ret = read_type(r, what, t);
	if (!ret)
		ret = read_u64(r, what, &t->off);
	return ret;
}

/* Now that the header's end is known: where the tensors' data lies. */
static int place_tensors(struct reader *r, uint32_t first)
{
	struct gguf_part *p = r->p;
	uint32_t i, align = DEFAULT_ALIGN;
	struct gguf_tensor *t;
	const char *name;
	int ret;

	ret = get_u32(r, "general.alignment", &align);
	if (ret < 0)
		return ret;
	if (!safe_pow2(align) || align > MAX_ALIGN)
		return fail(r, -EBADMSG, 0, "key general.alignment: value %u",
			    align);
	if (!safe_align(p->pos, align, &p->data_off))
		return fail(r, -EBADMSG, p->pos, "the header is too large");
	for (i = first; i < r->g->n_tensors; i++) {
		t = &r->g->tensors[i];
		name = (const char *)p->buf + t->name_off;
		if (t->off % align)
			return fail(r, -EBADMSG, t->at,
				    "tensor %.*s: offset %" PRIu64
				    " is not aligned to %u",
				    t->name_len, name, t->off, align);
		if (!safe_add(p->data_off, t->off, &t->off) ||
		    !safe_range(t->off, t->bytes, p->src.bytes))
			return fail(r, -EBADMSG, t->at,
				    "tensor %.*s: data of %" PRIu64
				    " bytes lies outside the file of %" PRIu64,
				    t->name_len, name, t->bytes, p->src.bytes);
	}
	return 0;
}

static int read_tensors(struct reader *r)
{
	struct gguf *g = r->g;
	uint32_t first = g->n_tensors;
	struct gguf_tensor *t;
	uint64_t i;
	int ret;

	t = realloc(g->tensors, (first + r->p->n_tensors + 1) * sizeof(*t));
	if (!t)
		return fail(r, -ENOMEM, r->p->pos, "out of memory");
	g->tensors = t;
	for (i = 0; i < r->p->n_tensors; i++) {
		ret = read_tensor(r, &t[first + i]);
		if (ret)
			return ret;
		g->n_tensors++;
	}
	return place_tensors(r, first);
}

static int compare_names(const void *a, const void *b, void *arg)
{
	const struct gguf *g = arg;
	const struct gguf_tensor *x = &g->tensors[*(const uint32_t *)a];
	const struct gguf_tensor *y = &g->tensors[*(const uint32_t *)b];

	return compare(g->part[x->part].buf + x->name_off, x->name_len,
		       g->part[y->part].buf + y->name_off, y->name_len);
}

static int compare_places(const void *a, const void *b, void *arg)
{
	const struct gguf *g = arg;
	const struct gguf_tensor *x = &g->tensors[*(const uint32_t *)a];
	const struct gguf_tensor *y = &g->tensors[*(const uint32_t *)b];

	if (x->part != y->part)
		return x->part < y->part ? -1 : 1;
	return (x->off > y->off) - (x->off < y->off);
}

/* No name twice in any part, no byte in two tensors. */
static int check_distinct(struct gguf *g, char why[160])
{
	struct reader r = { .g = g, .p = g->part, .why = why };
	const struct gguf_tensor *x, *y;
	uint32_t *idx, i, n = g->n_tensors;
	int ret = 0;

	idx = calloc(n + 1, sizeof(*idx));
	if (!idx)
		return fail(&r, -ENOMEM, 0, "out of memory");
	for (i = 0; i < n; i++)
		idx[i] = i;
	qsort_r(idx, n, sizeof(*idx), compare_names, g);
	for (i = 1; i < n && !ret; i++) {
		y = &g->tensors[idx[i]];
		r.p = &g->part[y->part];
		if (!compare_names(&idx[i - 1], &idx[i], g))
			ret = fail(&r, -EBADMSG, y->at, "tensor %.*s: twice",
				   y->name_len,
				   gguf_text(g, y->part, y->name_off));
	}
	qsort_r(idx, n, sizeof(*idx), compare_places, g);
	for (i = 1; i < n && !ret; i++) {
		x = &g->tensors[idx[i - 1]];
		y = &g->tensors[idx[i]];
		r.p = &g->part[y->part];
		if (x->part == y->part && y->off < x->off + x->bytes)
			ret = fail(&r, -EBADMSG, y->at,
				   "tensor %.*s: overlaps another", y->name_len,
				   gguf_text(g, y->part, y->name_off));
	}
	free(idx);
	return ret;
}

/* ------------------------------------------------------------ parts */

static int read_counts(struct reader *r)
{
	struct gguf_part *p = r->p;
	uint32_t magic, version;
	uint64_t left;
	int ret;

	ret = read_u32(r, "magic", &magic);
	if (ret)
		return ret;
	if (magic != MAGIC)
		return fail(r, -EBADMSG, 0, "not a GGUF file");
	ret = read_u32(r, "version", &version);
	if (ret)
		return ret;
	if (version && !(version & 0xffff))
		return fail(r, -ENOTSUP, 4, "big-endian file");
	if (version != 2 && version != 3)
		return fail(r, -ENOTSUP, 4, "GGUF version %u, want 2 or 3",
			    version);
	ret = read_u64(r, "tensor count", &p->n_tensors);
	if (!ret)
		ret = read_u64(r, "key count", &p->n_kv);
	if (ret)
		return ret;
	left = p->src.bytes - p->pos;
	if (p->n_tensors > left / MIN_TENSOR_BYTES ||
	    p->n_tensors > IMAGE_MAX_TENSORS - r->g->n_tensors)
		return fail(r, -EBADMSG, 8, "claims %" PRIu64 " tensors",
			    p->n_tensors);
	if (p->n_kv > left / MIN_KV_BYTES || p->n_kv > MAX_KV)
		return fail(r, -EBADMSG, 16, "claims %" PRIu64 " keys",
			    p->n_kv);
	return 0;
}

static int check_split(struct reader *r)
{
	unsigned int no = (unsigned int)(r->p - r->g->part);
	uint32_t count = 0, number = 0;
	int ret;

	ret = get_u32(r, "split.count", &count);
	if (ret >= 0)
		ret = get_u32(r, "split.no", &number);
	if (ret < 0)
		return ret;
	if (count <= 1 && r->g->n_parts == 1)
		return 0;
	if (count != r->g->n_parts)
		return fail(r, -EBADMSG, 0,
			    "key split.count: %u files, %u are given", count,
			    r->g->n_parts);
	if (number != no)
		return fail(r, -EBADMSG, 0,
			    "key split.no: this is part %u of the model",
			    number + 1);
	return 0;
}

static int read_part(struct reader *r)
{
	struct gguf_part *p = r->p;
	uint8_t *buf;
	int ret;

	ret = read_counts(r);
	if (!ret)
		ret = read_keys(r);
	if (!ret)
		ret = check_split(r);
	if (!ret)
		ret = read_tensors(r);
	if (ret)
		return ret;
	/* What was read beyond the header is not needed any more. */
	buf = realloc(p->buf, p->pos);
	if (buf)
		p->buf = buf;
	p->len = p->pos;
	return 0;
}

static int check_total(struct gguf *g, char why[160])
{
	struct reader r = { .g = g, .p = g->part, .why = why };
	uint32_t total = g->n_tensors;
	int ret;

	if (g->n_parts > 1) {
		ret = get_u32(&r, "split.tensors.count", &total);
		if (ret < 0)
			return ret;
		if (total != g->n_tensors)
			return fail(&r, -EBADMSG, 0,
				    "key split.tensors.count: %u, there are %u",
				    total, g->n_tensors);
	}
	return check_distinct(g, why);
}

int gguf_open(struct gguf **out, const struct gguf_src *src, unsigned int n,
	      char why[160])
{
	struct reader r;
	struct gguf *g;
	unsigned int i;
	int ret;

	if (!n || n > IMAGE_MAX_FILES) {
		snprintf(why, 160, "%u files, want 1..%u", n, IMAGE_MAX_FILES);
		return -EBADMSG;
	}
	g = calloc(1, sizeof(*g));
	if (!g) {
		snprintf(why, 160, "out of memory");
		return -ENOMEM;
	}
	g->n_parts = n;
	for (i = 0; i < n; i++) {
		g->part[i].src = src[i];
		r = (struct reader){ .g = g, .p = &g->part[i], .why = why };
		ret = read_part(&r);
		if (ret)
			goto err;
	}
	ret = check_total(g, why);
	if (ret)
		goto err;
	*out = g;
	return 0;
err:
	gguf_close(g);
	return ret;
}

void gguf_close(struct gguf *g)
{
	unsigned int i;

	if (!g)
		return;
	for (i = 0; i < g->n_parts; i++) {
		free(g->part[i].buf);
		free(g->part[i].kv);
		free(g->part[i].kv_sorted);
	}
	free(g->tensors);
	free(g);
}

/* ----------------------------------------------------------- asking */

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
	return find(&g->part[0], key);
}

static struct reader asker(const struct gguf *g, char *why)
{
	struct gguf *m = (struct gguf *)(uintptr_t)g; /* only read */

	return (struct reader){ .g = m, .p = m->part, .why = why };
}

int gguf_bad_key(const struct gguf *g, const char *key, char why[160],
		 const char *what)
{
	struct reader r = asker(g, why);
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv)
		return fail(&r, -ENOTSUP, r.p->pos, "key %s: %s", key, what);
	return fail(&r, -ENOTSUP, kv->off, "key %s: %s", key, what);
}

static int missing(struct reader *r, const char *key, bool required)
{
	if (!required)
		return 0;
	return fail(r, -EBADMSG, r->p->pos, "key %s: missing", key);
}

int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out,
		 bool required, char why[160])
{
	struct reader r = asker(g, why);
	int ret = get_u32(&r, key, out);

	if (ret < 0)
		return ret;
	return ret ? 0 : missing(&r, key, required);
}

int gguf_get_f32(const struct gguf *g, const char *key, float *out,
		 bool required, char why[160])
{
	const struct gguf_kv *kv = gguf_find(g, key);
	struct reader r = asker(g, why);
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
		return fail(&r, -EBADMSG, kv->off, "key %s: %s, want a float",
			    key, gguf_type_names[kv->type]);
	}
	if (!isfinite(f))
		return fail(&r, -EBADMSG, kv->off, "key %s: not finite", key);
	*out = f;
	return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *out,
		  bool required, char why[160])
{
	const struct gguf_kv *kv = gguf_find(g, key);
	struct reader r = asker(g, why);

	if (!kv)
		return missing(&r, key, required);
	if (kv->type != GGUF_BOOL)
		return fail(&r, -EBADMSG, kv->off, "key %s: %s, want a bool",
			    key, gguf_type_names[kv->type]);
	*out = r.p->buf[kv->off];
	return 0;
}

int gguf_get_str(const struct gguf *g, const char *key, const char **out,
		 size_t *n, bool required, char why[160])
{
	const struct gguf_kv *kv = gguf_find(g, key);
	struct reader r = asker(g, why);

	if (!kv)
		return missing(&r, key, required);
	if (kv->type != GGUF_STRING)
		return fail(&r, -EBADMSG, kv->off, "key %s: %s, want a string",
			    key, gguf_type_names[kv->type]);
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
	struct reader r = asker(g, why);
	int64_t v;

	if (!kv || kv->type != GGUF_ARRAY || i >= kv->n)
		return fail(&r, -EBADMSG, r.p->pos, "key %s: no element %u",
			    key, i);
	if (!to_int(kv->elem,
		    r.p->buf + kv->off + (size_t)i * gguf_type_bytes[kv->elem],
		    &v) ||
	    v < 0 || v > UINT32_MAX)
		return fail(&r, -EBADMSG, kv->off,
			    "key %s: element %u out of range", key, i);
	*out = (uint32_t)v;
	return 0;
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
		return snprintf(buf, n, "%" PRIu64, load(p, 8));
	default:
		to_int(type, p, &v);
		return snprintf(buf, n, "%" PRId64, v);
	}
}
