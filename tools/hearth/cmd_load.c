/* SPDX-License-Identifier: MIT */
/*
 * cmd_load.c - hearth load: make models resident.
 */
#include <errno.h>

#include "hearth-tool.h"

struct args {
	uint64_t ctx;
};

/* clang-format off */
const struct opt opts_load[] = {
	{ 0, "ctx", "N", OPT_U64, offsetof(struct args, ctx), 0, 1e9,
	  "context to load with (default: the model's own)" },
	{ .type = OPT_END },
};
/* clang-format on */

static int load_one(struct hearth *h, const char *name, uint64_t ctx)
{
	struct hearth_model_info HEARTH_INIT(info);
	struct hearth_model *m;
	uint64_t t = now_ns();
	char a[32], b[32];
	int rc = tool_load(h, &m, name, (uint32_t)ctx, true);

	if (rc)
		return rc;
	rc = hearth_model_info(m, &info);
	if (rc < 0)
		tool_err("%s: %s", name, hearth_strerror(rc));
	else
		printf("%s: %s, %s, context %u, ready after %s\n", info.name,
		       info.quant, fmt_size(a, info.weight_bytes), info.n_ctx,
		       fmt_dur(b, now_ns() - t));
	hearth_model_close(&m);
	return rc < 0 ? rc : 0;
}

int cmd_load(const struct cmd *c, int argc, char **argv)
{
	struct args a = { 0 };
	struct hearth *h = NULL;
	int i, n = opt_parse(c, &a, argc, argv), rc;

	if (n < 0)
		return EXIT_USAGE;
	if (!n)
		return tool_usage(c, "which model?");
	term_catch_int();
	rc = tool_connect_for(&h, (const char *const *)argv, (size_t)n);
	for (i = 0; i < n && rc == 0; i++)
		rc = load_one(h, argv[i], a.ctx);
	if (h)
		hearth_close(&h);
	if (rc == -EINTR)
		return EXIT_INTR;
	return rc ? EXIT_FAIL : EXIT_OK;
}
