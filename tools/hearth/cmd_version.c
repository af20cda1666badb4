/* SPDX-License-Identifier: MIT */
/*
 * cmd_version.c - hearth version: of the tool, the library and the daemon.
 */
#include <errno.h>
#include <string.h>

#include "hearth-tool.h"

const struct opt opts_version[] = { { .type = OPT_END } };

int cmd_version(const struct cmd *c, int argc, char **argv)
{
	char text[8192], none, *p, *end;
	struct hearth *h = NULL;
	int n = opt_parse(c, &none, argc, argv), rc;

	if (n < 0)
		return EXIT_USAGE;
	if (n)
		return tool_usage(c, "takes no arguments");
	printf("hearth     %s\nlibhearth  %s\n", HEARTH_VERSION,
	       hearth_version());
	rc = tool_connect(&h, TOOL_QUIET);
	if (rc == -ENOENT || rc == -ECONNREFUSED)
		puts("hearthd    not running");
	if (rc)
		return rc == -ENOENT || rc == -ECONNREFUSED ? EXIT_OK
							    : EXIT_FAIL;
	n = hearth_stats(h, text, sizeof(text));
	if (n < 0) {
		tool_err("%s", hearth_error(h));
	} else {
		/* "version 0.1.0" is one of its lines. */
		for (p = text; p && strncmp(p, "version ", 8); p = end) {
			end = strchr(p, '\n');
			end = end && end[1] ? end + 1 : NULL;
		}
		printf("hearthd    %.*s\n", p ? (int)strcspn(p + 8, "\n") : 7,
		       p ? p + 8 : "running");
	}
	hearth_close(&h);
	return n < 0 ? EXIT_FAIL : EXIT_OK;
}
