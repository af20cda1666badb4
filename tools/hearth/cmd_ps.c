/* SPDX-License-Identifier: MIT */
/*
 * cmd_ps.c - hearth ps: the models in memory, and where their weights are.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "hearth-tool.h"

struct args {
	bool json;
};

/* clang-format off */
const struct opt opts_ps[] = {
	{ 0, "json", NULL, OPT_FLAG, offsetof(struct args, json), 0, 0,
	  "print a JSON array" },
	{ .type = OPT_END },
};
/* clang-format on */

static json_t *to_json(const struct hearth_model_info *i)
{
	static const uint8_t unknown[32];
	char hex[65];
	json_t *o;

	o = json_pack(
		"{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:i, s:i, s:I, "
		"s:I, s:I, s:I, s:I, s:I}",
		"id", (int)i->id, "name", i->name, "state",
		model_state_name(i->state), "arch", i->arch, "quant", i->quant,
		"backend", i->backend, "uid", (json_int_t)i->uid, "n_ctx",
		(int)i->n_ctx, "n_ctx_train", (int)i->n_ctx_train, "n_sessions",
		(int)i->n_sessions, "n_active", (int)i->n_active, "file_bytes",
		(json_int_t)i->file_bytes, "weight_bytes",
		(json_int_t)i->weight_bytes, "kv_bytes",
		(json_int_t)i->kv_bytes, "kv_used", (json_int_t)i->kv_used,
		"load_ns", (json_int_t)i->load_ns, "idle_ns",
		(json_int_t)i->idle_ns);
	json_object_set_new(o, "digest",
			    memcmp(i->digest, unknown, sizeof(unknown))
				    ? json_string(fmt_hex(hex, i->digest))
				    : json_null());
	return o;
}

static void print_table(const struct hearth_model_info *info, int n)
{
	static const char *const head[] = { "NAME",    "STATE", "ARCH",
					    "QUANT",   "SIZE",	"CONTEXT",
					    "KV USED", "RUN",	"ON",
					    "IDLE" };
	struct table t;
	char a[32], b[32], c[32];
	int i;

	table_init(&t, head, N_ELEM(head), 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7);
	for (i = 0; i < n; i++, info++) {
		table_cell(&t, "%s", info->name);
		table_cell(&t, "%s", model_state_name(info->state));
		table_cell(&t, "%s", *info->arch ? info->arch : "-");
		table_cell(&t, "%s", *info->quant ? info->quant : "-");
		table_cell(&t, "%s", fmt_size(a, info->weight_bytes));
		if (info->state == HEARTH_MODEL_RESIDENT) {
			table_cell(&t, "-");
			table_cell(&t, "-");
			table_cell(&t, "-");
			table_cell(&t, "-");
		} else {
			table_cell(&t, "%u", info->n_ctx);
			table_cell(&t, "%s of %s", fmt_size(a, info->kv_used),
				   fmt_size(b, info->kv_bytes));
			table_cell(&t, "%u", info->n_active);
			table_cell(&t, "%s", info->backend);
		}
		table_cell(&t, "%s",
			   info->n_active ? "-" : fmt_dur(c, info->idle_ns));
	}
	table_print(&t, stdout);
	table_fini(&t);
}

/* Where weights are, as the daemon says it. */
static void print_pool(struct hearth *h)
{
	char stats[16384], where[256], n[24], bytes[24], size[32];

	if (hearth_stats(h, stats, sizeof(stats)) < 0)
		return;
	tool_stat(stats, "pool", where, sizeof(where));
	tool_stat(stats, "pool_objects", n, sizeof(n));
	tool_stat(stats, "pool_bytes", bytes, sizeof(bytes));
	if (*where)
		printf("\npool: %s: %s model%s, %s\n", where, n,
		       strcmp(n, "1") ? "s" : "",
		       fmt_size(size, strtoull(bytes, NULL, 10)));
}

int cmd_ps(const struct cmd *c, int argc, char **argv)
{
	struct hearth_model_info *info = NULL;
	struct args a = { 0 };
	struct hearth *h = NULL;
	json_t *list;
	int i, n = opt_parse(c, &a, argc, argv), rc;

	if (n < 0)
		return EXIT_USAGE;
	if (n)
		return tool_usage(c, "takes no arguments");
	/* No daemon means no resident models, which is no failure. */
	rc = tool_connect(&h, TOOL_QUIET);
	if (rc == -ENOENT || rc == -ECONNREFUSED)
		tool_note("no daemon is running");
	else if (rc)
		return EXIT_FAIL;
	n = h ? tool_list(h, &info) : 0;
	if (n >= 0 && a.json) {
		list = json_array();
		for (i = 0; i < n; i++)
			json_array_append_new(list, to_json(info + i));
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(list);
	} else if (h && n >= 0) {
		print_table(info, n);
		print_pool(h);
	}
	free(info);
	if (h)
		hearth_close(&h);
	return n < 0 ? EXIT_FAIL : EXIT_OK;
}
