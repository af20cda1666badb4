/* SPDX-License-Identifier: MIT */
/*
 * t_template.c - renders templates, for tests/golden/template.py.
 *
 * Usage: t_template NOW. Cases come on stdin, each two 32-bit lengths and a
 * template and a JSON object of these sizes; for each a 32-bit error (0 or
 * errno), a length and the rendered text or the message go out.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../libclient/jinja.h"

#define CASE_MAX (64u << 20)

int main(int argc, char **argv)
{
	struct jinja_limits lim = { 0 };
	uint32_t len[2], head[2];
	char why[2048], *buf, *out;
	const char *vars;
	size_t n_vars, n;
	int err;

	lim.now = argc > 1 ? atoll(argv[1]) : 0;
	while (fread(len, sizeof(len), 1, stdin) == 1) {
		if (len[0] > CASE_MAX || len[1] > CASE_MAX)
			return 1;
		buf = malloc((size_t)len[0] + len[1] + 1);
		if (!buf || fread(buf, 1, (size_t)len[0] + len[1], stdin) !=
				    (size_t)len[0] + len[1])
			return 1;
		vars = buf + len[0];
		n_vars = len[1];
		err = jinja_render(buf, len[0], &vars, &n_vars, 1, &lim, &out,
				   &n, why, sizeof(why));
		if (err)
			n = strlen(why);
		head[0] = (uint32_t)-err;
		head[1] = (uint32_t)n;
		fwrite(head, sizeof(head), 1, stdout);
		fwrite(err ? why : out, 1, n, stdout);
		fflush(stdout);
		free(out);
		free(buf);
	}
	return 0;
}
