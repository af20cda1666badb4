/* SPDX-License-Identifier: MIT */
/*
 * cmd_help.c - hearth help: the verbs, or the options of one.
 */
#include "hearth-tool.h"

void tool_overview(FILE *f)
{
	const struct cmd *c;
	const char *b = term_style(f, STYLE_BOLD);
	const char *e = term_style(f, STYLE_NONE);

	fputs("usage: hearth [--socket PATH] VERB [options] [arguments]\n\n",
	      f);
	for (c = cmds; c->name; c++)
		fprintf(f, "  %s%-11s%s %s\n", b, c->name, e, c->summary);
	fputs("\nhearth help VERB shows a verb's options; "
	      "hearth(1) has the rest.\n",
	      f);
}

const struct opt opts_help[] = { { .type = OPT_END } };

int cmd_help(const struct cmd *c, int argc, char **argv)
{
	const struct cmd *v;

	if (argc > 1)
		return tool_usage(c, "takes one verb");
	if (!argc) {
		tool_overview(stdout);
		return EXIT_OK;
	}
	v = cmd_find(argv[0]);
	if (!v)
		return cmd_unknown(argv[0]);
	opt_help(v, stdout);
	return EXIT_OK;
}
