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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../kernels/quant.h"
#include "../libclient/safe.h"
#include "gguf_priv.h"

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

/* ------------------------------------------------------------- reading */

static int read_at(struct gguf_reader *r, uint64_t off, uint8_t *buf,
		   uint64_t n)
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
			return gguf_fail(r, -EIO, off, "read: %s",
					 strerror(errno));
		if (!got)
			return gguf_fail(r, -EIO, off, "the file shrank");
		buf += got;
		off += (uint64_t)got;
		n -= (uint64_t)got;
	}
	return 0;
}

/* Have @n more bytes in the buffer, or say that the file ends. */
static int need_slow(struct gguf_reader *r, uint64_t n, const char *what)
{
	struct gguf_part *p = r->p;
	uint64_t cap;
	uint8_t *buf;
	int ret;

	if (!safe_range(p->pos, n, p->src.bytes))
		return gguf_fail(r, -EBADMSG, p->pos,
				 "%s: %" PRIu64 " bytes, the file has %" PRIu64
				 " left",
				 what, n, p->src.bytes - p->pos);
	if (p->pos + n > MAX_HEADER)
		return gguf_fail(r, -EBADMSG, p->pos,
				 "the header is too large");
	cap = p->len ? 2 * p->len : FIRST_READ;
	if (cap < p->pos + n)
		cap = p->pos + n;
	if (cap > p->src.bytes)
		cap = p->src.bytes;
	buf = realloc(p->buf, cap);
	if (!buf)
		return gguf_fail(r, -ENOMEM, p->pos, "out of memory");
	p->buf = buf;
	ret = read_at(r, p->len, buf + p->len, cap - p->len);
	if (ret)
		return ret;
	p->len = cap;
	return 0;
}

static inline int need(struct gguf_reader *r, uint64_t n, const char *what)
{
	if (n <= r->p->len - r->p->pos)
		return 0;
	return need_slow(r, n, what);
}

static int read_u32(struct gguf_reader *r, const char *what, uint32_t *out)
{
	int ret = need(r, 4, what);

	if (ret)
		return ret;
	*out = (uint32_t)gguf_load(r->p->buf + r->p->pos, 4);
	r->p->pos += 4;
	return 0;
}

static int read_u64(struct gguf_reader *r, const char *what, uint64_t *out)
{
	int ret = need(r, 8, what);

	if (ret)
		return ret;
	*out = gguf_load(r->p->buf + r->p->pos, 8);
	r->p->pos += 8;
	return 0;
}

/* A name: 1..max printable ASCII letters, no blanks. */
static int read_name(struct gguf_reader *r, const char *what, uint32_t max,
		     uint32_t *off, uint32_t *len)
{
	struct gguf_part *p = r->p;
	uint64_t n, at = p->pos, i;
	int ret;

	ret = read_u64(r, what, &n);
	if (ret)
		return ret;
	if (!n || n > max)
		return gguf_fail(r, -EBADMSG, at,
				 "%s: name of %" PRIu64 " bytes, want 1..%u",
				 what, n, max);
	ret = need(r, n, what);
	if (ret)
		return ret;
	for (i = 0; i < n; i++)
		if (p->buf[p->pos + i] <= ' ' || p->buf[p->pos + i] > '~')
			return gguf_fail(r, -EBADMSG, p->pos + i,
					 "%s: name with byte 0x%02x", what,
					 p->buf[p->pos + i]);
	*off = (uint32_t)p->pos;
	*len = (uint32_t)n;
	p->pos += n;
	return 0;
}

/* -------------------------------------------------------------- keys */

static int read_text(struct gguf_reader *r, const char *what, uint32_t *off,
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

static int check_bools(struct gguf_reader *r, const char *what, uint64_t n)
{
	struct gguf_part *p = r->p;
	uint64_t i;

	for (i = 0; i < n; i++)
		if (p->buf[p->pos + i] > 1)
			return gguf_fail(r, -EBADMSG, p->pos + i,
					 "%s: boolean of value %u", what,
					 p->buf[p->pos + i]);
	return 0;
}

static int read_array(struct gguf_reader *r, const char *what,
		      struct gguf_kv *kv)
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
		return gguf_fail(r, -EBADMSG, at, "%s: array of %s", what,
				 elem == GGUF_ARRAY ? "arrays"
						    : "unknown type");
	bytes = gguf_type_bytes[elem] ? gguf_type_bytes[elem] : 8;
	if (!safe_array(p->pos, n, bytes, p->src.bytes))
		return gguf_fail(r, -EBADMSG, at,
				 "%s: %" PRIu64
				 " elements, the file has %" PRIu64
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

static int read_kv(struct gguf_reader *r, struct gguf_kv *kv)
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
		return gguf_fail(r, -EBADMSG, at, "%s: unknown type %u", what,
				 type);
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

static int compare_keys(const void *a, const void *b, void *arg)
{
	const struct gguf_part *p = arg;
	const struct gguf_kv *x = &p->kv[*(const uint32_t *)a];
	const struct gguf_kv *y = &p->kv[*(const uint32_t *)b];

	return gguf_compare(p->buf + x->key_off, x->key_len,
			    p->buf + y->key_off, y->key_len);
}

static int read_keys(struct gguf_reader *r)
{
	struct gguf_part *p = r->p;
	const struct gguf_kv *kv;
	uint64_t i;
	int ret;

	p->kv = calloc(p->n_kv + 1, sizeof(*p->kv));
	p->kv_sorted = calloc(p->n_kv + 1, sizeof(*p->kv_sorted));
	if (!p->kv || !p->kv_sorted)
		return gguf_fail(r, -ENOMEM, p->pos, "out of memory");
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
		return gguf_fail(r, -EBADMSG, kv->key_off, "key %.*s: twice",
				 kv->key_len < 64 ? kv->key_len : 64,
				 (const char *)p->buf + kv->key_off);
	}
	return 0;
}

/* -------------------------------------------------------- tensors */

static int read_dims(struct gguf_reader *r, const char *what,
		     struct gguf_tensor *t)
{
	uint64_t ne, at = r->p->pos;
	uint32_t i, n_dims;
	int ret;

	ret = read_u32(r, what, &n_dims);
	if (ret)
		return ret;
	if (!n_dims || n_dims > MAX_DIMS)
		return gguf_fail(r, -EBADMSG, at, "%s: %u dimensions", what,
				 n_dims);
	t->cols = t->rows = 1;
	for (i = 0; i < n_dims; i++) {
		at = r->p->pos;
		ret = read_u64(r, what, &ne);
		if (ret)
			return ret;
		if (!ne)
			return gguf_fail(r, -EBADMSG, at,
					 "%s: dimension of zero", what);
		if (!i)
			t->cols = ne;
		else if (!safe_mul(t->rows, ne, &t->rows))
			return gguf_fail(r, -EBADMSG, at,
					 "%s: too many elements", what);
	}
	return 0;
}

static int read_type(struct gguf_reader *r, const char *what,
		     struct gguf_tensor *t)
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
		return gguf_fail(r, -ENOTSUP, at,
				 "%s: type %s (%u) is not supported", what,
				 name ? name : "unknown", t->type);
	}
	if (t->cols % fmt_info[f].block)
		return gguf_fail(r, -EBADMSG, at,
				 "%s: %" PRIu64 " columns, %s has blocks of %u",
				 what, t->cols, fmt_info[f].name,
				 fmt_info[f].block);
	if (!safe_mul(t->cols, t->rows, &n))
		return gguf_fail(r, -EBADMSG, at, "%s: too many elements",
				 what);
	t->bytes = fmt_bytes(f, n);
	if (!t->bytes || !safe_add(r->g->n_params, n, &r->g->n_params))
		return gguf_fail(r, -EBADMSG, at, "%s: too many elements",
				 what);
	return 0;
}

static int read_tensor(struct gguf_reader *r, struct gguf_tensor *t)
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
static int place_tensors(struct gguf_reader *r, uint32_t first)
{
	struct gguf_part *p = r->p;
	uint32_t i, align = DEFAULT_ALIGN;
	struct gguf_tensor *t;
	const char *name;
	int ret;

	ret = gguf_part_u32(r, "general.alignment", &align);
	if (ret < 0)
		return ret;
	if (!safe_pow2(align) || align > MAX_ALIGN)
		return gguf_fail(r, -EBADMSG, 0,
				 "key general.alignment: value %u", align);
	if (!safe_align(p->pos, align, &p->data_off))
		return gguf_fail(r, -EBADMSG, p->pos,
				 "the header is too large");
	for (i = first; i < r->g->n_tensors; i++) {
		t = &r->g->tensors[i];
		name = (const char *)p->buf + t->name_off;
		if (t->off % align)
			return gguf_fail(r, -EBADMSG, t->at,
					 "tensor %.*s: offset %" PRIu64
					 " is not aligned to %u",
					 t->name_len, name, t->off, align);
		if (!safe_add(p->data_off, t->off, &t->off) ||
		    !safe_range(t->off, t->bytes, p->src.bytes))
			return gguf_fail(
				r, -EBADMSG, t->at,
				"tensor %.*s: data of %" PRIu64
				" bytes lies outside the file of %" PRIu64,
				t->name_len, name, t->bytes, p->src.bytes);
	}
	return 0;
}

static int read_tensors(struct gguf_reader *r)
{
	struct gguf *g = r->g;
	uint32_t first = g->n_tensors;
	struct gguf_tensor *t;
	uint64_t i;
	int ret;

	t = realloc(g->tensors, (first + r->p->n_tensors + 1) * sizeof(*t));
	if (!t)
		return gguf_fail(r, -ENOMEM, r->p->pos, "out of memory");
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

	return gguf_compare(g->part[x->part].buf + x->name_off, x->name_len,
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
	struct gguf_reader r = { .g = g, .p = g->part, .why = why };
	const struct gguf_tensor *x, *y;
	uint32_t *idx, i, n = g->n_tensors;
	int ret = 0;

	idx = calloc(n + 1, sizeof(*idx));
	if (!idx)
		return gguf_fail(&r, -ENOMEM, 0, "out of memory");
	for (i = 0; i < n; i++)
		idx[i] = i;
	qsort_r(idx, n, sizeof(*idx), compare_names, g);
	for (i = 1; i < n && !ret; i++) {
		y = &g->tensors[idx[i]];
		r.p = &g->part[y->part];
		if (!compare_names(&idx[i - 1], &idx[i], g))
			ret = gguf_fail(&r, -EBADMSG, y->at,
					"tensor %.*s: twice", y->name_len,
					gguf_text(g, y->part, y->name_off));
	}
	qsort_r(idx, n, sizeof(*idx), compare_places, g);
	for (i = 1; i < n && !ret; i++) {
		x = &g->tensors[idx[i - 1]];
		y = &g->tensors[idx[i]];
		r.p = &g->part[y->part];
		if (x->part == y->part && y->off < x->off + x->bytes)
			ret = gguf_fail(&r, -EBADMSG, y->at,
					"tensor %.*s: overlaps another",
					y->name_len,
					gguf_text(g, y->part, y->name_off));
	}
	free(idx);
	return ret;
}

/* ------------------------------------------------------------ parts */

static int read_counts(struct gguf_reader *r)
{
	struct gguf_part *p = r->p;
	uint32_t magic, version;
	uint64_t left;
	int ret;

	ret = read_u32(r, "magic", &magic);
	if (ret)
		return ret;
	if (magic != MAGIC)
		return gguf_fail(r, -EBADMSG, 0, "not a GGUF file");
	ret = read_u32(r, "version", &version);
	if (ret)
		return ret;
	if (version && !(version & 0xffff))
		return gguf_fail(r, -ENOTSUP, 4, "big-endian file");
	if (version != 2 && version != 3)
		return gguf_fail(r, -ENOTSUP, 4, "GGUF version %u, want 2 or 3",
				 version);
	ret = read_u64(r, "tensor count", &p->n_tensors);
	if (!ret)
		ret = read_u64(r, "key count", &p->n_kv);
	if (ret)
		return ret;
	left = p->src.bytes - p->pos;
	if (p->n_tensors > left / MIN_TENSOR_BYTES ||
	    p->n_tensors > IMAGE_MAX_TENSORS - r->g->n_tensors)
		return gguf_fail(r, -EBADMSG, 8, "claims %" PRIu64 " tensors",
				 p->n_tensors);
	if (p->n_kv > left / MIN_KV_BYTES || p->n_kv > MAX_KV)
		return gguf_fail(r, -EBADMSG, 16, "claims %" PRIu64 " keys",
				 p->n_kv);
	return 0;
}

static int check_split(struct gguf_reader *r)
{
	unsigned int no = (unsigned int)(r->p - r->g->part);
	uint32_t count = 0, number = 0;
	int ret;

	ret = gguf_part_u32(r, "split.count", &count);
	if (ret >= 0)
		ret = gguf_part_u32(r, "split.no", &number);
	if (ret < 0)
		return ret;
	if (count <= 1 && r->g->n_parts == 1)
		return 0;
	if (count != r->g->n_parts)
		return gguf_fail(r, -EBADMSG, 0,
				 "key split.count: %u files, %u are given",
				 count, r->g->n_parts);
	if (number != no)
		return gguf_fail(r, -EBADMSG, 0,
				 "key split.no: this is part %u of the model",
				 number + 1);
	return 0;
}

static int read_part(struct gguf_reader *r)
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
	struct gguf_reader r = { .g = g, .p = g->part, .why = why };
	uint32_t total = g->n_tensors;
	int ret;

	if (g->n_parts > 1) {
		ret = gguf_part_u32(&r, "split.tensors.count", &total);
		if (ret < 0)
			return ret;
		if (total != g->n_tensors)
			return gguf_fail(
				&r, -EBADMSG, 0,
				"key split.tensors.count: %u, there are %u",
				total, g->n_tensors);
	}
	return check_distinct(g, why);
}

int gguf_open(struct gguf **out, const struct gguf_src *src, unsigned int n,
	      char why[160])
{
	struct gguf_reader r;
	struct gguf *g;
	unsigned int i;
	int ret;

	if (!n || n > IMAGE_MAX_FILES) {
		snprintf(why, 160, "%u files, want 1..%d", n, IMAGE_MAX_FILES);
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
		r = (struct gguf_reader){ .g = g,
					  .p = &g->part[i],
					  .why = why };
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
