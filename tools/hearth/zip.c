/* SPDX-License-Identifier: MIT */
/*
 * zip.c - a reader of zip archives on zlib.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "zip.h"

#define EOCD_BYTES    22u
#define EOCD64_BYTES  56u
#define LOCATOR_BYTES 20u
#define CENTRAL_BYTES 46u
#define LOCAL_BYTES   30u
#define TAIL_BYTES    (EOCD_BYTES + 65535u + LOCATOR_BYTES)
#define CHUNK	      131072u

#define FLAG_ENCRYPTED 1u

static uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static uint64_t le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

__attribute__((format(printf, 3, 4))) static int fail(struct zip *z, int err,
						      const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(z->why, sizeof(z->why), fmt, ap);
	va_end(ap);
	return err;
}

static int read_at(struct zip *z, void *p, uint64_t n, uint64_t off)
{
	uint8_t *at = p;
	ssize_t k;
	int err;

	if (off > z->file_bytes || n > z->file_bytes - off)
		return fail(z, -EINVAL,
			    "archive: %llu bytes at %llu lie past its end",
			    (unsigned long long)n, (unsigned long long)off);
	while (n) {
		k = pread(z->fd, at, n, (off_t)off);
		err = errno;
		if (k < 0 && err == EINTR)
			continue;
		if (k <= 0)
			return fail(z, k ? -err : -EIO, "archive: read: %s",
				    k ? strerror(err) : "file became shorter");
		at += k;
		off += (uint64_t)k;
		n -= (uint64_t)k;
	}
	return 0;
}

/* ------------------------------------------------------------ the directory */

/* @at is where the end record lies; with zip64 a locator lies before it. */
static int read_end64(struct zip *z, uint64_t at)
{
	uint8_t loc[LOCATOR_BYTES], end[EOCD64_BYTES];
	uint64_t off;
	int rc;

	if (at < LOCATOR_BYTES)
		return fail(z, -EINVAL, "archive: zip64 locator is missing");
	rc = read_at(z, loc, sizeof(loc), at - LOCATOR_BYTES);
	if (rc)
		return rc;
	if (le32(loc) != 0x07064b50)
		return fail(z, -EINVAL, "archive: zip64 locator is missing");
	off = le64(loc + 8);
	rc = read_at(z, end, sizeof(end), off);
	if (rc)
		return rc;
	if (le32(end) != 0x06064b50)
		return fail(z, -EINVAL, "archive: zip64 end record is missing");
	z->n_entries = le64(end + 32);
	z->dir_bytes = le64(end + 40);
	z->dir_at = le64(end + 48);
	return 0;
}

static int read_end(struct zip *z)
{
	uint64_t n = z->file_bytes < TAIL_BYTES ? z->file_bytes : TAIL_BYTES;
	uint64_t base = z->file_bytes - n, i;
	uint8_t *tail;
	int rc;

	if (n < EOCD_BYTES)
		return fail(z, -EINVAL, "archive: %llu bytes are no zip file",
			    (unsigned long long)z->file_bytes);
	tail = malloc(n);
	if (!tail)
		return fail(z, -ENOMEM, "out of memory");
	rc = read_at(z, tail, n, base);
	if (rc)
		goto out;
	for (i = n - EOCD_BYTES + 1; i-- > 0;)
		if (le32(tail + i) == 0x06054b50 &&
		    le16(tail + i + 20) <= n - i - EOCD_BYTES)
			break;
	if (i == UINT64_MAX) {
		rc = fail(z, -EINVAL,
			  "archive: no end record: not a zip file, "
			  "or cut off");
		goto out;
	}
	z->n_entries = le16(tail + i + 10);
	z->dir_bytes = le32(tail + i + 12);
	z->dir_at = le32(tail + i + 16);
	if (z->n_entries == 0xffff || z->dir_bytes == 0xffffffff ||
	    z->dir_at == 0xffffffff)
		rc = read_end64(z, base + i);
out:
	free(tail);
	return rc;
}

int zip_open(struct zip *z, int fd)
{
	struct stat st;
	int rc;

	memset(z, 0, sizeof(*z));
	z->fd = fd;
	if (fstat(fd, &st) < 0) {
		rc = -errno;
		return fail(z, rc, "archive: %s", strerror(-rc));
	}
	z->file_bytes = (uint64_t)st.st_size;
	rc = read_end(z);
	if (rc)
		return rc;
	if (z->dir_bytes > ZIP_MAX_DIR)
		return fail(z, -E2BIG,
			    "archive: directory of %llu bytes, at most %u",
			    (unsigned long long)z->dir_bytes, ZIP_MAX_DIR);
	if (z->n_entries > z->dir_bytes / CENTRAL_BYTES)
		return fail(z, -EINVAL,
			    "archive: %llu members in %llu bytes of directory",
			    (unsigned long long)z->n_entries,
			    (unsigned long long)z->dir_bytes);
	z->dir = malloc(z->dir_bytes + 1);
	if (!z->dir)
		return fail(z, -ENOMEM, "out of memory");
	rc = read_at(z, z->dir, z->dir_bytes, z->dir_at);
	if (rc)
		zip_close(z);
	return rc;
}

void zip_close(struct zip *z)
{
	free(z->dir);
	z->dir = NULL;
}

/* Take the 64-bit values that the 32-bit ones point to, in their order. */
static int read_extra64(struct zip *z, struct zip_entry *e, const uint8_t *p,
			size_t n)
{
	uint64_t *want[3];
	size_t n_want = 0, i, len;

	if (e->size == 0xffffffff)
		want[n_want++] = &e->size;
	if (e->packed == 0xffffffff)
		want[n_want++] = &e->packed;
	if (e->header == 0xffffffff)
		want[n_want++] = &e->header;
	if (!n_want)
		return 0;
	for (; n >= 4; p += 4 + len, n -= 4 + len) {
		len = le16(p + 2);
		if (len > n - 4)
			break;
		if (le16(p) != 1)
			continue;
		if (len < 8 * n_want)
			break;
		for (i = 0; i < n_want; i++)
			*want[i] = le64(p + 4 + 8 * i);
		return 0;
	}
	return fail(z, -EINVAL, "archive: member %llu: zip64 sizes are missing",
		    (unsigned long long)z->index);
}

int zip_next(struct zip *z, struct zip_entry *e)
{
	const uint8_t *p = z->dir + z->pos;
	uint64_t left = z->dir_bytes - z->pos, whole;
	size_t name, extra, note;
	int rc;

	if (z->index == z->n_entries)
		return -ENOENT;
	if (left < CENTRAL_BYTES || le32(p) != 0x02014b50)
		return fail(z, -EINVAL, "archive: member %llu: no entry",
			    (unsigned long long)z->index);
	name = le16(p + 28);
	extra = le16(p + 30);
	note = le16(p + 32);
	whole = CENTRAL_BYTES + name + extra + note;
	if (whole > left)
		return fail(z, -EINVAL,
			    "archive: member %llu: entry is cut off",
			    (unsigned long long)z->index);
	if (name >= ZIP_NAME || memchr(p + CENTRAL_BYTES, 0, name))
		return fail(z, -EINVAL, "archive: member %llu: bad name",
			    (unsigned long long)z->index);
	memset(e, 0, sizeof(*e));
	memcpy(e->name, p + CENTRAL_BYTES, name);
	e->flags = le16(p + 8);
	e->method = le16(p + 10);
	e->crc = le32(p + 16);
	e->packed = le32(p + 20);
	e->size = le32(p + 24);
	e->header = le32(p + 42);
	rc = read_extra64(z, e, p + CENTRAL_BYTES + name, extra);
	if (rc)
		return rc;
	z->pos += whole;
	z->index++;
	return 0;
}

/* --------------------------------------------------------------- a member */

struct reader {
	struct zip *z;
	const struct zip_entry *e;
	int (*sink)(void *arg, const void *p, size_t n);
	void *arg;
	uint64_t at;   /* next packed byte in the file */
	uint64_t left; /* packed bytes */
	uint64_t done; /* bytes given to the sink */
	uint32_t crc;
	uint8_t in[CHUNK];
	uint8_t out[CHUNK];
};

static int find_data(struct zip *z, const struct zip_entry *e, uint64_t *at)
{
	uint8_t h[LOCAL_BYTES];
	int rc = read_at(z, h, sizeof(h), e->header);

	if (rc)
		return rc;
	if (le32(h) != 0x04034b50)
		return fail(z, -EINVAL, "archive: %.100s: no local header",
			    e->name);
	*at = e->header + LOCAL_BYTES + le16(h + 26) + le16(h + 28);
	if (*at > z->file_bytes || e->packed > z->file_bytes - *at)
		return fail(z, -EINVAL,
			    "archive: %.100s: data lies past its end", e->name);
	return 0;
}

static int fill(struct reader *r, size_t *n)
{
	int rc;

	*n = r->left < CHUNK ? r->left : CHUNK;
	rc = read_at(r->z, r->in, *n, r->at);
	r->at += *n;
	r->left -= *n;
	return rc;
}

static int give(struct reader *r, const uint8_t *p, size_t n)
{
	if (n > r->e->size - r->done)
		return fail(r->z, -EINVAL,
			    "archive: %.100s: longer than its %llu bytes",
			    r->e->name, (unsigned long long)r->e->size);
	r->crc = (uint32_t)crc32(r->crc, p, (uInt)n);
	r->done += n;
	return r->sink(r->arg, p, n);
}

static int copy_stored(struct reader *r)
{
	size_t n;
	int rc = 0;

	while (rc == 0 && r->left) {
		rc = fill(r, &n);
		if (rc == 0)
			rc = give(r, r->in, n);
	}
	return rc;
}

static int inflate_all(struct reader *r)
{
	z_stream s;
	size_t n;
	int rc = 0, zr;

	memset(&s, 0, sizeof(s));
	if (inflateInit2(&s, -MAX_WBITS) != Z_OK)
		return fail(r->z, -ENOMEM, "out of memory");
	do {
		if (!s.avail_in && r->left) {
			rc = fill(r, &n);
			if (rc)
				break;
			s.next_in = r->in;
			s.avail_in = (uInt)n;
		}
		s.next_out = r->out;
		s.avail_out = CHUNK;
		zr = inflate(&s, Z_NO_FLUSH);
		if (zr != Z_OK && zr != Z_STREAM_END) {
			rc = fail(r->z, -EINVAL,
				  "archive: %.100s: bad compressed data near "
				  "byte %llu",
				  r->e->name, (unsigned long long)r->done);
			break;
		}
		rc = give(r, r->out, CHUNK - s.avail_out);
	} while (rc == 0 && zr != Z_STREAM_END);
	inflateEnd(&s);
	return rc;
}

int zip_extract(struct zip *z, const struct zip_entry *e,
		int (*sink)(void *arg, const void *p, size_t n), void *arg)
{
	struct reader *r;
	int rc;

	z->why[0] = 0;
	if (e->flags & FLAG_ENCRYPTED)
		return fail(z, -EINVAL, "archive: %.100s: encrypted", e->name);
	if (e->method != 0 && e->method != 8)
		return fail(z, -EINVAL,
			    "archive: %.100s: compression method %u is not "
			    "supported",
			    e->name, e->method);
	r = calloc(1, sizeof(*r));
	if (!r)
		return fail(z, -ENOMEM, "out of memory");
	r->z = z;
	r->e = e;
	r->sink = sink;
	r->arg = arg;
	r->left = e->packed;
	r->crc = (uint32_t)crc32(0, NULL, 0);
	rc = find_data(z, e, &r->at);
	if (rc == 0)
		rc = e->method ? inflate_all(r) : copy_stored(r);
	if (rc == 0 && r->done != e->size)
		rc = fail(z, -EINVAL,
			  "archive: %.100s: %llu bytes instead of %llu",
			  e->name, (unsigned long long)r->done,
			  (unsigned long long)e->size);
	if (rc == 0 && r->crc != e->crc)
		rc = fail(z, -EINVAL,
			  "archive: %.100s: checksum is %08x instead of %08x",
			  e->name, r->crc, e->crc);
	free(r);
	return rc;
}
