/* SPDX-License-Identifier: MIT */
/*
 * cmd_stop.c - hearth stop: unload resident models.
 */
#include <errno.h>
#include <stdlib.h>

#include "hearth-tool.h"

struct args {
	bool all;
};

/* clang-format off */
const struct opt opts_stop[] = {
	{ 'a', "all", NULL, OPT_FLAG, offsetof(struct args, all), 0, 0,
	  "unload every model" },
	{ .type = OPT_END },
};
/* clang-format on */

static int stop_one(struct hearth *h, const struct hearth_model_info *info)
{
	int rc = hearth_model_unload(h, info->id);

	if (rc < 0)
		tool_err("%s: %s", info->name, hearth_error(h));
	else
		printf("%s: unloaded\n", info->name);
	return rc < 0 ? rc : 0;
}

static int stop_all(struct hearth *h)
{
	struct hearth_model_info *info;
	int i, rc, bad = 0, n = tool_list(h, &info);

	if (n < 0)
		return n;
	for (i = 0; i < n; i++) {
		rc = stop_one(h, info + i);
		bad = bad ? bad : rc;
	}
	free(info);
	return bad;
}

static int stop_named(struct hearth *h, const char *name)
{
	struct hearth_model_info one, *info;
	const char **list;
	char near[300];
	int i, n, rc = tool_resident(h, name, &one);

	if (rc == 0)
		return stop_one(h, &one);
	if (rc != -ENOENT)
		return rc;
	n = tool_list(h, &info);
	if (n < 0)
		return n;
	list = xrealloc(NULL, (size_t)n + 1, sizeof(*list));
	for (i = 0; i < n; i++)
		list[i] = info[i].name;
	near_names(name, list, (size_t)n, near, sizeof(near));
	tool_err("no resident model is called '%.200s'%s%s (hearth ps)", name,
		 *near ? "; near to it: " : "", near);
	free(list);
	free(info);
	return -ENOENT;
}

int cmd_stop(const struct cmd *c, int argc, char **argv)
{
	struct args a = { 0 };
	struct hearth *h = NULL;
	int i, n = opt_parse(c, &a, argc, argv), rc, bad = 0;

	if (n < 0)
		return EXIT_USAGE;
	if (!n == !a.all)
		return tool_usage(c, "name models, or say --all");
	rc = tool_connect(&h, a.all ? TOOL_QUIET : 0);
	/* Without a daemon all models are unloaded already. */
	if (a.all && (rc == -ENOENT || rc == -ECONNREFUSED))
		return EXIT_OK;
	if (rc)
		return EXIT_FAIL;
	if (a.all)
		bad = stop_all(h);
	for (i = 0; i < n; i++) {
		rc = stop_named(h, argv[i]);
		bad = bad ? bad : rc;
	}
	hearth_close(&h);
	return bad ? EXIT_FAIL : EXIT_OK;
}
