/* SPDX-License-Identifier: MIT */
/*
 * fetch.c - HTTP transfers on libcurl.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "fetch.h"
#include "sha256.h"

#define STALL_S	     30L
#define CONNECT_S    30L
#define RETRY_MS     250u
#define RETRY_MAX_MS 15000u

/* One transfer, the way libcurl's callbacks see it. */
struct transfer {
	const struct fetch *f;
	CURL *curl;
	/* memory */
	struct str *text;
	size_t max;
	char *next;
	/* file */
	int fd;
	uint64_t have;
	uint64_t total;	     /* 0 when unknown */
	uint64_t range_from; /* of Content-Range; UINT64_MAX without */
	char tag[200];	     /* ETag or Last-Modified */
	struct sha256 sha;
	struct progress bar;
	bool started; /* the body has begun and was found good */
	int err;      /* -errno of ours that ended the transfer */
	char why[CURL_ERROR_SIZE];
};

static CURL *curl_get(void)
{
	static CURL *curl;

	/* One handle: connections are reused between requests. */
	if (!curl && curl_global_init(CURL_GLOBAL_DEFAULT) == 0)
		curl = curl_easy_init();
	return curl;
}

static const char *header_value(const char *p, size_t n, const char *name,
				size_t *len)
{
	size_t k = strlen(name);

	if (n <= k || strncasecmp(p, name, k) || p[k] != ':')
		return NULL;
	p += k + 1;
	n -= k + 1;
	while (n && (*p == ' ' || *p == '\t')) {
		p++;
		n--;
	}
	while (n && (p[n - 1] == '\n' || p[n - 1] == '\r' || p[n - 1] == ' '))
		n--;
	*len = n;
	return p;
}

/* Link: <https://...>; rel="next" */
static void read_link(struct transfer *t, const char *v, size_t n)
{
	const char *end = memchr(v, '>', n);

	if (*v != '<' || !end ||
	    !memmem(end, n - (size_t)(end - v), "rel=\"next\"", 10))
		return;
	free(t->next);
	t->next = strndup(v + 1, (size_t)(end - v) - 1);
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	unsigned long long from, to, all;
	char text[128];
	const char *v;
	size_t len;

	n *= size;
	if (n >= 5 && !strncasecmp(p, "HTTP/", 5)) {
		/* A redirect's headers are not those of the answer. */
		t->range_from = UINT64_MAX;
		t->tag[0] = 0;
		t->total = t->f->size;
	}
	v = header_value(p, n, "Content-Range", &len);
	if (v && len < sizeof(text)) {
		memcpy(text, v, len);
		text[len] = 0;
		if (sscanf(text, "bytes %llu-%llu/%llu", &from, &to, &all) ==
		    3) {
			t->range_from = from;
			t->total = all;
		}
	}
	/* A weak ETag cannot promise equal bytes. */
	v = header_value(p, n, "ETag", &len);
	if (v && *v == '"' && len < sizeof(t->tag)) {
		memcpy(t->tag, v, len);
		t->tag[len] = 0;
	}
	v = header_value(p, n, "Link", &len);
	if (v && len && t->text)
		read_link(t, v, len);
	return n;
}

static size_t on_text(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;

	n *= size;
	if (t->text->n + n > t->max) {
		t->err = -E2BIG;
		return 0;
	}
	str_add(t->text, p, n);
	return n;
}

static int truncate_part(struct transfer *t)
{
	if (ftruncate(t->fd, 0) < 0 || lseek(t->fd, 0, SEEK_SET) < 0)
		return -errno;
	t->have = 0;
	sha256_init(&t->sha);
	return 0;
}

/* The body's first bytes are here: is it what was asked for? */
static int begin_body(struct transfer *t)
{
	curl_off_t len = -1;
	long code = 0;
	int rc = 0;

	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
	if (code == 206 && t->range_from == t->have) {
		t->started = true;
	} else if (code == 200) {
		/* The server sends all of it, whatever we asked for. */
		if (t->have)
			rc = truncate_part(t);
		curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T,
				  &len);
		if (len > 0)
			t->total = (uint64_t)len;
		t->started = true;
	}
	progress_start(&t->bar, t->f->label, NULL, t->have, 0);
	return rc;
}

static size_t on_data(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	ssize_t k;

	n *= size;
	if (!t->started) {
		t->err = begin_body(t);
		if (t->err)
			return 0;
		if (!t->started)
			return n; /* an error page */
	}
	if (t->f->size && n > t->f->size - t->have) {
		t->err = -EFBIG;
		return 0;
	}
	for (size = 0; size < n; size += (size_t)k) {
		k = write(t->fd, p + size, n - size);
		if (k < 0) {
			t->err = -errno;
			return 0;
		}
		sha256_add(&t->sha, p + size, (size_t)k);
		t->have += (uint64_t)k;
	}
	return n;
}

static int on_progress(void *arg, curl_off_t dt, curl_off_t dn, curl_off_t ut,
		       curl_off_t un)
{
	struct transfer *t = arg;

	(void)dt, (void)dn, (void)ut, (void)un;
	if (t->started)
		progress_update(&t->bar, t->have, t->total);
	return tool_interrupted != 0;
}

static void setup(struct transfer *t)
{
	bool plain = !strncasecmp(t->f->url, "http:", 5);
	/* who sits behind a proxy with a root of its own names it to curl so */
	const char *ca = getenv("CURL_CA_BUNDLE");
	CURL *c = t->curl;

	curl_easy_reset(c);
	t->why[0] = 0;
	t->err = 0;
	t->started = false;
	t->total = t->f->size;
	t->range_from = UINT64_MAX;
	curl_easy_setopt(c, CURLOPT_URL, t->f->url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR,
			 plain ? "http,https" : "https");
	curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR,
			 plain ? "http,https" : "https");
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
	curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "hearth/" HEARTH_VERSION);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->why);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL_S);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
	if (ca && *ca)
		curl_easy_setopt(c, CURLOPT_CAINFO, ca);
	if (t->f->bearer) {
		curl_easy_setopt(c, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
		curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, t->f->bearer);
	}
}

static bool transient(CURLcode cc, long code)
{
	switch (cc) {
	case CURLE_OK:
		return code == 408 || code == 425 || code == 429 || code >= 500;
	case CURLE_COULDNT_CONNECT:
	case CURLE_PARTIAL_FILE:
	case CURLE_OPERATION_TIMEDOUT:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
	case CURLE_SSL_CONNECT_ERROR:
		return true;
	default:
		return false;
	}
}

/* Wait before the @n-th repetition. -EINTR after Ctrl-C. */
static int back_off(const struct transfer *t, unsigned n, CURLcode cc,
		    long code)
{
	unsigned ms = RETRY_MS << (n < 6 ? n : 6);
	struct timespec ts;

	if (ms > RETRY_MAX_MS)
		ms = RETRY_MAX_MS;
	if (cc != CURLE_OK)
		tool_note("%s: %s; trying again in %.2g s", t->f->label,
			  *t->why ? t->why : curl_easy_strerror(cc),
			  ms / 1000.0);
	else
		tool_note("%s: the server answers %ld; trying again in %.2g s",
			  t->f->label, code, ms / 1000.0);
	ts.tv_sec = ms / 1000;
	ts.tv_nsec = (long)(ms % 1000) * 1000000;
	if (!tool_interrupted)
		nanosleep(&ts, NULL);
	return tool_interrupted ? -EINTR : 0;
}

static int give_up(const struct transfer *t, CURLcode cc)
{
	char a[32];

	if (tool_interrupted)
		return -EINTR;
	if (t->err == -E2BIG)
		tool_err("%s: the answer of %s is longer than %s", t->f->label,
			 t->f->url, fmt_size(a, t->max));
	else if (t->err == -EFBIG && t->f->size && t->have >= t->f->size)
		tool_err("%s: the server sends more than the %llu bytes that "
			 "were promised",
			 t->f->label, (unsigned long long)t->f->size);
	else if (t->err)
		tool_err("%s: write: %s", t->f->label, strerror(-t->err));
	else
		tool_err("%s: %s (%s)", t->f->label,
			 *t->why ? t->why : curl_easy_strerror(cc), t->f->url);
	return t->err ? t->err : -EIO;
}

int fetch_text(const struct fetch *f, struct str *out, size_t max, char **next)
{
	struct transfer t = { .f = f, .text = out, .max = max, .fd = -1 };
	unsigned n;
	CURLcode cc = CURLE_OK;
	long code = 0;
	int rc;

	t.curl = curl_get();
	if (!t.curl) {
		tool_err("libcurl does not start");
		return -ENOMEM;
	}
	for (n = 0;; n++) {
		setup(&t);
		out->n = 0;
		str_add(out, "", 0);
		curl_easy_setopt(t.curl, CURLOPT_ACCEPT_ENCODING, "");
		curl_easy_setopt(t.curl, CURLOPT_WRITEFUNCTION, on_text);
		curl_easy_setopt(t.curl, CURLOPT_WRITEDATA, &t);
		cc = curl_easy_perform(t.curl);
		curl_easy_getinfo(t.curl, CURLINFO_RESPONSE_CODE, &code);
		if (!transient(cc, code) || n + 1 >= f->tries ||
		    tool_interrupted)
			break;
		rc = back_off(&t, n, cc, code);
		if (rc)
			break;
	}
	rc = cc == CURLE_OK ? (int)code : give_up(&t, cc);
	if (next && rc == 200) {
		*next = t.next;
		t.next = NULL;
	}
	free(t.next);
	return rc;
}

/* ----------------------------------------------------------------- to disk */

int fetch_room(const char *dir, uint64_t need)
{
	struct statvfs v;
	uint64_t room;
	char a[32], b[32];

	if (statvfs(dir, &v) < 0)
		return 0; /* the write will tell */
	room = (uint64_t)v.f_bavail * v.f_frsize;
	if (room >= need)
		return 0;
	tool_err("%s: no room: %s are needed and %s are free", dir,
		 fmt_size(a, need), fmt_size(b, room));
	return -ENOSPC;
}

/* Without a known checksum a part can only go on if the server still has the
 * same file: its ETag lies beside the part. */
static void tag_path(char buf[4096 + 8], const char *part)
{
	snprintf(buf, 4096 + 8, "%s.tag", part);
}

static void tag_read(const char *part, char tag[200])
{
	char path[4096 + 8];
	FILE *f;

	tag[0] = 0;
	tag_path(path, part);
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(tag, 200, f))
		tag[0] = 0;
	fclose(f);
}

static void tag_write(const char *part, const char *tag)
{
	char path[4096 + 8];
	FILE *f;

	tag_path(path, part);
	f = fopen(path, "we");
	if (!f)
		return;
	fputs(tag, f);
	/* Half a tag matches nothing, so a full disk does no harm here. */
	fclose(f);
}

static void tag_remove(const char *part)
{
	char path[4096 + 8];

	tag_path(path, part);
	unlink(path);
}

static int open_part(struct transfer *t, const char *part)
{
	struct stat st;
	int rc;

	t->fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (t->fd < 0 || fstat(t->fd, &st) < 0) {
		rc = -errno;
		tool_err("%s: %s", part, strerror(-rc));
		return rc;
	}
	if (!S_ISREG(st.st_mode)) {
		tool_err("%s: not a regular file", part);
		return -EINVAL;
	}
	if (flock(t->fd, LOCK_EX | LOCK_NB) < 0) {
		rc = -errno;
		tool_err("%s: %s", part,
			 rc == -EWOULDBLOCK ? "another pull is writing it"
					    : strerror(-rc));
		return rc;
	}
	t->have = (uint64_t)st.st_size;
	return 0;
}

/* Hash what an earlier try left. */
static int rehash(struct transfer *t)
{
	uint8_t buf[65536];
	uint64_t done = 0;
	ssize_t k;
	int rc;

	sha256_init(&t->sha);
	while (done < t->have) {
		k = pread(t->fd, buf, sizeof(buf), (off_t)done);
		if (tool_interrupted)
			return -EINTR;
		if (k <= 0) {
			rc = k < 0 ? -errno : -EIO;
			tool_err("%s: read: %s", t->f->label, strerror(-rc));
			return rc;
		}
		sha256_add(&t->sha, buf, (size_t)k);
		done += (uint64_t)k;
	}
	return lseek(t->fd, (off_t)t->have, SEEK_SET) < 0 ? -errno : 0;
}

/* One try to get the rest. Returns the HTTP status and *cc. */
static long get_rest(struct transfer *t, const char *part, CURLcode *cc)
{
	struct curl_slist *extra = NULL;
	char range[32], head[256], tag[200] = "";
	long code = 0;

	setup(t);
	curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
	if (t->have) {
		snprintf(range, sizeof(range), "%llu-",
			 (unsigned long long)t->have);
		curl_easy_setopt(t->curl, CURLOPT_RANGE, range);
	}
	if (t->have && !*t->f->sha256) {
		tag_read(part, tag);
		snprintf(head, sizeof(head), "If-Range: %s", tag);
		extra = curl_slist_append(NULL, head);
		curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, extra);
	}
	*cc = curl_easy_perform(t->curl);
	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
	curl_slist_free_all(extra);
	if (code == 200 && t->started && !*t->f->sha256)
		tag_write(part, t->tag);
	return code;
}

static int get_all(struct transfer *t, const char *part)
{
	unsigned n = 0;
	uint64_t before;
	char tag[200];
	CURLcode cc;
	long code;
	int rc;

	if (t->have && !*t->f->sha256) {
		tag_read(part, tag);
		if (!*tag && truncate_part(t) < 0)
			return -EIO;
	}
	while (!t->f->size || t->have < t->f->size) {
		before = t->have;
		code = get_rest(t, part, &cc);
		progress_end(&t->bar, t->have, cc == CURLE_OK && t->started);
		if (cc == CURLE_OK && t->started)
			break;
		if (cc == CURLE_OK && code == 416 && t->have) {
			/* Past the end: the part is of another file. */
			rc = truncate_part(t);
			if (rc)
				return rc;
			continue;
		}
		if (t->have > before)
			n = 0;
		if (!transient(cc, code) || ++n >= t->f->tries ||
		    tool_interrupted) {
			if (cc != CURLE_OK)
				return give_up(t, cc);
			tool_err("%s: the server answers %ld (%s)", t->f->label,
				 code, t->f->url);
			return code == 404 ? -ENOENT : -EIO;
		}
		rc = back_off(t, n - 1, cc, code);
		if (rc)
			return rc;
	}
	return 0;
}

static int check(struct transfer *t, char hex[65])
{
	if (t->f->size && t->have != t->f->size) {
		tool_err("%s: %llu bytes came instead of %llu", t->f->label,
			 (unsigned long long)t->have,
			 (unsigned long long)t->f->size);
		return -EIO;
	}
	sha256_end(&t->sha, hex);
	if (*t->f->sha256 && strcasecmp(hex, t->f->sha256))
		return -EBADMSG;
	return 0;
}

int fetch_file(const struct fetch *f, const char *part, char hex[65])
{
	struct transfer t = { .f = f, .fd = -1 };
	bool resumed;
	int rc, round;

	t.curl = curl_get();
	if (!t.curl) {
		tool_err("libcurl does not start");
		return -ENOMEM;
	}
	rc = open_part(&t, part);
	for (round = 0; rc == 0 && round < 2; round++) {
		if (f->size && t.have > f->size)
			rc = truncate_part(&t);
		resumed = t.have > 0;
		if (rc == 0)
			rc = rehash(&t);
		if (rc == 0)
			rc = get_all(&t, part);
		if (rc == 0)
			rc = check(&t, hex);
		if (rc != -EBADMSG || !resumed || round)
			break;
		tool_note("%s: what an earlier try left is not right; "
			  "starting over",
			  f->label);
		rc = truncate_part(&t);
	}
	if (rc == -EBADMSG) {
		tool_err("%s: sha256 is %s and should be %s", f->label, hex,
			 f->sha256);
		unlink(part);
	}
	if (rc == 0 && fsync(t.fd) < 0) {
		rc = -errno;
		tool_err("%s: %s", part, strerror(-rc));
	}
	if (rc == 0)
		tag_remove(part);
	sha256_free(&t.sha);
	if (t.fd >= 0)
		close(t.fd);
	return rc;
}
