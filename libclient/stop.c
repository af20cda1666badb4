/* SPDX-License-Identifier: MIT */
/* stop.c - texts that end an answer, matched across tokens. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stop.h"

int stop_init(struct stop *s, const char *const *text, size_t n)
{
	size_t total = 0;
	size_t len;
	size_t i;

	memset(s, 0, sizeof(*s));
	if (!n)
		return 0;
	if (n > STOP_MAX || !text)
		return -EINVAL;
	for (i = 0; i < n; i++) {
		len = text[i] ? strlen(text[i]) : 0;
		if (!len || len > STOP_MAX_BYTES)
			return -EINVAL;
		if (len > s->max_len)
			s->max_len = (uint32_t)len;
		total += len;
	}
	s->text = malloc(total);
	s->len = calloc(n, sizeof(*s->len));
	s->held = malloc(s->max_len);
	if (!s->text || !s->len || !s->held) {
		stop_fini(s);
		return -ENOMEM;
	}
	for (total = 0, i = 0; i < n; i++) {
		len = strlen(text[i]);
		memcpy(s->text + total, text[i], len);
		s->len[i] = (uint32_t)len;
		total += len;
	}
	s->n = (uint32_t)n;
	return 0;
}

void stop_fini(struct stop *s)
{
	free(s->text);
	free(s->len);
	free(s->held);
	memset(s, 0, sizeof(*s));
}

size_t stop_room(const struct stop *s)
{
	return s->n_held;
}

/* Longest stop text that ends where the first @end bytes of @buf end, or 0.
 * The longest is the one that began first. */
static size_t match_at(const struct stop *s, const char *buf, size_t end)
{
	const char *t = s->text;
	size_t best = 0;
	uint32_t i;

	for (i = 0; i < s->n; t += s->len[i], i++) {
		size_t len = s->len[i];

		if (len <= best || len > end || t[len - 1] != buf[end - 1])
			continue;
		if (!memcmp(buf + end - len, t, len))
			best = len;
	}
	return best;
}

/* Length of the longest end of @buf that is the start of a stop text. */
static size_t prefix_len(const struct stop *s, const char *buf, size_t n)
{
	size_t k = s->max_len - 1;
	const char *t;
	uint32_t i;

	if (k > n)
		k = n;
	for (; k; k--) {
		for (t = s->text, i = 0; i < s->n; t += s->len[i], i++) {
			if (s->len[i] > k && t[0] == buf[n - k] &&
			    !memcmp(t, buf + n - k, k))
				return k;
		}
	}
	return 0;
}

size_t stop_feed(struct stop *s, char *buf, size_t n, bool *hit)
{
	size_t held = s->n_held;
	size_t end;
	size_t len;

	*hit = false;
	if (!s->n || !n)
		return s->n ? 0 : n;
	memmove(buf + held, buf, n);
	memcpy(buf, s->held, held);
	n += held;
	for (end = held + 1; end <= n; end++) {
		len = match_at(s, buf, end);
		if (len) {
			*hit = true;
			s->n_held = 0;
			return end - len;
		}
	}
	len = prefix_len(s, buf, n);
	memcpy(s->held, buf + n - len, len);
	s->n_held = (uint32_t)len;
	return n - len;
}

size_t stop_flush(struct stop *s, char *buf)
{
	size_t n = s->n_held;

	if (n)
		memcpy(buf, s->held, n);
	s->n_held = 0;
	return n;
}
