/* SPDX-License-Identifier: MIT */
/*
 * cmd_stop.c - hearth stop: unload models, and drop their weights.
 */
#include <errno.h>
#include <stdlib.h>

#include "hearth-tool.h"

struct args {
	bool all;
	bool evict;
};

/* clang-format off */
const struct opt opts_stop[] = {
	{ 'a', "all", NULL, OPT_FLAG, offsetof(struct args, all), 0, 0,
	  "unload every model" },
	{ 'e', "evict", NULL, OPT_FLAG, offsetof(struct args, evict), 0, 0,
	  "drop the weights from memory, too" },
	{ .type = OPT_END },
};
/* clang-format on */

/* Is it in memory still? Where the daemon cannot keep it, it is not. */
static bool is_kept(struct hearth *h, uint32_t id)
{
	struct hearth_model_info *list;
	int i, n = tool_list(h, &list);
	bool kept = false;

	for (i = 0; i < n; i++)
		kept |= list[i].id == id &&
			list[i].state == HEARTH_MODEL_RESIDENT;
	if (n >= 0)
		free(list);
	return kept;
}

static int stop_one(struct hearth *h, const struct hearth_model_info *info,
		    bool evict)
{
	char size[32];
	int rc;

	if (!evict && info->state == HEARTH_MODEL_RESIDENT) {
		printf("%s: not in the engine; --evict frees its %s\n",
		       info->name, fmt_size(size, info->weight_bytes));
		return 0;
	}
	rc = hearth_model_unload(h, info->id, evict ? HEARTH_EVICT : 0);
	if (rc < 0)
		tool_err("%s: %s", info->name, hearth_error(h));
	else if (!evict && is_kept(h, info->id))
		printf("%s: unloaded; its weights (%s) stay in memory, "
		       "--evict frees them\n",
		       info->name, fmt_size(size, info->weight_bytes));
	else
		printf("%s: unloaded, its memory is free\n", info->name);
	return rc < 0 ? rc : 0;
}

static int stop_all(struct hearth *h, bool evict)
{
	struct hearth_model_info *info;
	int i, rc, bad = 0, n = tool_list(h, &info);

	if (n < 0)
		return n;
	for (i = 0; i < n; i++) {
		rc = stop_one(h, info + i, evict);
		bad = bad ? bad : rc;
	}
	free(info);
	return bad;
}

static int stop_named(struct hearth *h, const char *name, bool evict)
{
	struct hearth_model_info one, *info;
	const char **list;
	char near[300];
	int i, n, rc = tool_resident(h, name, &one);

	if (rc == 0)
		return stop_one(h, &one, evict);
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
		bad = stop_all(h, a.evict);
	for (i = 0; i < n; i++) {
		rc = stop_named(h, argv[i], a.evict);
		bad = bad ? bad : rc;
	}
	hearth_close(&h);
	return bad ? EXIT_FAIL : EXIT_OK;
}
