/* SPDX-License-Identifier: MIT */
/*
 * cmd_completion.c - hearth completion: a shell's completion from the tables.
 */
#include <string.h>

#include "hearth-tool.h"

const struct opt opts_completion[] = { { .type = OPT_END } };

/* What the arguments of a verb are. */
static const char *kind(const struct cmd *c)
{
	if (!strncmp(c->args, "MODEL", 5))
		return strcmp(c->name, "stop") ? "files" : "resident";
	return strcmp(c->name, "help") ? "none" : "verbs";
}

static void print_options(void)
{
	const struct cmd *c;
	const struct opt *o;

	puts("_hearth_options() {\n\tcase $1 in");
	for (c = cmds; c->name; c++) {
		printf("\t%s) echo \"--help", c->name);
		for (o = c->opts; o->type != OPT_END; o++)
			printf(" --%s", o->name);
		puts("\" ;;");
	}
	puts("\tesac\n}\n");
}

static void print_kinds(void)
{
	const struct cmd *c;

	puts("_hearth_kind() {\n\tcase $1 in");
	for (c = cmds; c->name; c++)
		printf("\t%s) echo %s ;;\n", c->name, kind(c));
	puts("\tesac\n}\n");
}

static void print_bash(void)
{
	const struct cmd *c;

	puts("# SPDX-License-Identifier: MIT\n"
	     "# bash completion for hearth(1), "
	     "printed by: hearth completion bash\n");
	printf("_hearth_verbs=\"");
	for (c = cmds; c->name; c++)
		printf("%s%s", c == cmds ? "" : " ", c->name);
	puts("\"\n");
	print_options();
	print_kinds();
	puts("_hearth() {\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} verb='' i words=''\n"
	     "\tCOMPREPLY=()\n"
	     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	     "\t\tcase ${COMP_WORDS[i]} in\n"
	     "\t\t--socket) ((i++)) ;;\n"
	     "\t\t-*) ;;\n"
	     "\t\t*) verb=${COMP_WORDS[i]}; break ;;\n"
	     "\t\tesac\n"
	     "\tdone\n"
	     "\tif [[ -z $verb ]]; then\n"
	     "\t\twords=\"$_hearth_verbs --help --version --socket\"\n"
	     "\telif [[ $cur == -* ]]; then\n"
	     "\t\twords=$(_hearth_options \"$verb\")\n"
	     "\telse\n"
	     "\t\tcase $(_hearth_kind \"$verb\") in\n"
	     "\t\tfiles) words=$(hearth ls --quiet 2>/dev/null) ;;\n"
	     "\t\tresident) words=$(hearth ps 2>/dev/null |\n"
	     "\t\t\tawk '!NF { exit } NR > 1 { print $1 }') ;;\n"
	     "\t\tverbs) words=$_hearth_verbs ;;\n"
	     "\t\tesac\n"
	     "\tfi\n"
	     "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	     "\t# a model may be any file, too\n"
	     "\tif [[ -n $verb && $cur != -* ]]; then\n"
	     "\t\tlocal f\n"
	     "\t\twhile IFS= read -r f; do COMPREPLY+=(\"$f\"); "
	     "done < <(compgen -f -- \"$cur\")\n"
	     "\tfi\n"
	     "}\n"
	     "complete -o filenames -F _hearth hearth");
}

int cmd_completion(const struct cmd *c, int argc, char **argv)
{
	char none;
	int n = opt_parse(c, &none, argc, argv);

	if (n < 0)
		return EXIT_USAGE;
	if (n != 1 || strcmp(argv[0], "bash"))
		return tool_usage(c, "takes the name of a shell: bash");
	print_bash();
	return EXIT_OK;
}
