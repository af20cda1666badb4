/* SPDX-License-Identifier: MIT */
/*
 * tool.c - the table of verbs, and how one is found and called.
 */
#include <stdlib.h>
#include <string.h>

#include "hearth-tool.h"

#define CMD(name, args, summary) \
	{ #name, cmd_##name, opts_##name, args, summary },
const struct cmd cmds[] = {
#include "cmd.def"
	{ NULL, NULL, NULL, NULL, NULL },
};
#undef CMD

const struct cmd *cmd_find(const char *name)
{
	const struct cmd *c;

	for (c = cmds; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

int cmd_unknown(const char *name)
{
	const char *list[N_ELEM(cmds)];
	char buf[200];
	size_t n;

	for (n = 0; cmds[n].name; n++)
		list[n] = cmds[n].name;
	near_names(name, list, n, buf, sizeof(buf));
	return tool_usage(NULL,
			  "there is no verb '%s'%s%s (hearth help lists them)",
			  name, *buf ? "; near to it: " : "", buf);
}

/* Does the user ask for help with this verb? Only before a "--". */
static bool wants_help(int argc, char **argv)
{
	int i;

	for (i = 0; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	return false;
}

int tool_main(int argc, char **argv)
{
	const struct cmd *c;
	int i = 1, rc;

	term_init();
	while (i < argc && argv[i][0] == '-') {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			tool_overview(stdout);
			return tool_flush();
		}
		if (!strcmp(argv[i], "--version") || !strcmp(argv[i], "-V")) {
			printf("hearth %s\n", HEARTH_VERSION);
			return tool_flush();
		}
		if (!strncmp(argv[i], "--socket=", 9)) {
			tool_socket = argv[i++] + 9;
		} else if (!strcmp(argv[i], "--socket") && i + 1 < argc) {
			tool_socket = argv[i + 1];
			i += 2;
		} else {
			return tool_usage(NULL,
					  "there is no option %s before the "
					  "verb (hearth help)",
					  argv[i]);
		}
	}
	if (i == argc) {
		tool_overview(stderr);
		return EXIT_USAGE;
	}
	c = cmd_find(argv[i]);
	if (!c)
		return cmd_unknown(argv[i]);
	argc -= i + 1;
	argv += i + 1;
	if (wants_help(argc, argv)) {
		opt_help(c, stdout);
		return tool_flush();
	}
	rc = c->fn(c, argc, argv);
	i = tool_flush();
	return rc ? rc : i;
}
