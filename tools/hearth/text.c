/* SPDX-License-Identifier: MIT */
/*
 * text.c - what a model says as JSON strings, whatever bytes it is made of.
 */
#include "text.h"

#define DOUBT_BYTES 4

json_t *text_json(const char *p, size_t n)
{
	json_t *s = json_stringn(p, n);
	struct str fixed = { 0 };
	size_t i;

	if (s)
		return s;
	str_add(&fixed, "", 0);
	for (i = 0; i < n;) {
		size_t k = 1;

		while (k <= DOUBT_BYTES && i + k <= n) {
			json_t *t = json_stringn(p + i, k);
			bool ok = t != NULL;

			json_decref(t);
			if (ok)
				break;
			k++;
		}
		if (k <= DOUBT_BYTES && i + k <= n) {
			str_add(&fixed, p + i, k);
			i += k;
		} else {
			str_add(&fixed, "\xef\xbf\xbd", 3);
			i++;
		}
	}
	s = json_stringn(fixed.p, fixed.n);
	str_free(&fixed);
	return s;
}
