/* SPDX-License-Identifier: MIT */
/*
 * cmd_version.c - hearth version: of the tool, the library and the daemon.
 */
#include <errno.h>

#include "hearth-tool.h"

const struct opt opts_version[] = { { .type = OPT_END } };

int cmd_version(const struct cmd *c, int argc, char **argv)
{
	char text[16384], version[32], none;
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
		tool_stat(text, "version", version, sizeof(version));
		printf("hearthd    %s\n", *version ? version : "running");
	}
	hearth_close(&h);
	return n < 0 ? EXIT_FAIL : EXIT_OK;
}
