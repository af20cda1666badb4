/* SPDX-License-Identifier: MIT */
/*
 * cmd_pull.c - hearth pull: fetch models into a model directory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "pull.h"

struct args {
	const char *dir;
	const char *sha256;
	uint64_t tries;
	bool force;
	bool dry_run;
};

/* clang-format off */
const struct opt opts_pull[] = {
	{ 'd', "dir", "DIR", OPT_STR, offsetof(struct args, dir), 0, 0,
	  "put the files there (default: the first model directory)" },
	{ 0, "sha256", "HEX", OPT_STR, offsetof(struct args, sha256), 0, 0,
	  "checksum that a URL's file must have" },
	{ 0, "tries", "N", OPT_U64, offsetof(struct args, tries), 1, 1000,
	  "give up after N failures without a new byte (default 8)" },
	{ 'f', "force", NULL, OPT_FLAG, offsetof(struct args, force), 0, 0,
	  "fetch again and replace what is there" },
	{ 0, "dry-run", NULL, OPT_FLAG, offsetof(struct args, dry_run), 0, 0,
	  "only print the addresses, sizes and checksums" },
	{ .type = OPT_END },
};
/* clang-format on */

static int make_dirs(const char *dir)
{
	char *copy = xstrdup(dir), *p;
	struct stat st;
	int rc = 0;

	for (p = copy + 1;; p++) {
		if (*p && *p != '/')
			continue;
		if (*p == '/') {
			*p = 0;
			mkdir(copy, 0755);
			*p = '/';
			continue;
		}
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			rc = -errno;
		break;
	}
	if (rc == 0 && stat(copy, &st) < 0)
		rc = -errno;
	else if (rc == 0 && !S_ISDIR(st.st_mode))
		rc = -ENOTDIR;
	if (rc)
		tool_err("%s: %s", dir, strerror(-rc));
	free(copy);
	return rc;
}

/* The part after hf.co/ in any of its spellings, or NULL. */
static const char *hf_name(const char *name)
{
	static const char *const head[] = { "hf.co/", "huggingface.co/",
					    "https://hf.co/",
					    "https://huggingface.co/" };
	size_t i, n;

	for (i = 0; i < N_ELEM(head); i++) {
		n = strlen(head[i]);
		/* A file's address is a plain URL. */
		if (!strncasecmp(name, head[i], n) &&
		    !strstr(name + n, "/resolve/"))
			return name + n;
	}
	return NULL;
}

static int make_plan(struct pull_plan *p, const struct args *a,
		     const char *name)
{
	const char *hf = hf_name(name);
	int rc;

	memset(p, 0, sizeof(*p));
	p->tries = (unsigned)a->tries;
	if (hf)
		rc = pull_hf(p, hf);
	else if (strstr(name, "://"))
		rc = pull_url(p, name, a->sha256);
	else
		rc = pull_pypi(p, name);
	return rc;
}

static int pull_one(const struct args *a, const char *name)
{
	struct pull_plan p;
	char size[32];
	size_t i;
	int rc = make_plan(&p, a, name);

	for (i = 0; i < p.n && rc == 0; i++) {
		if (!a->dry_run) {
			rc = pull_place(&p, p.file + i, a->dir, a->force);
			fflush(stdout);
			continue;
		}
		printf("%s %s %s %s\n", p.file[i].name,
		       p.file[i].size ? fmt_size(size, p.file[i].size) : "?",
		       *p.file[i].sha256 ? p.file[i].sha256 : "?",
		       p.file[i].url);
	}
	if (rc == -EINTR)
		tool_err("stopped; the same command goes on from here");
	pull_plan_free(&p);
	return rc;
}

int cmd_pull(const struct cmd *c, int argc, char **argv)
{
	struct args a = { .sha256 = "", .tries = 8 };
	char dirs[4096], *colon;
	int i, n = opt_parse(c, &a, argc, argv), rc = 0;

	if (n < 0)
		return EXIT_USAGE;
	if (!n)
		return tool_usage(c, "which model? (hearth help pull)");
	if (*a.sha256 && !pull_is_sha256(a.sha256))
		return tool_usage(c, "--sha256 takes 64 hex digits");
	if (*a.sha256 && (n > 1 || !strstr(argv[0], "://")))
		return tool_usage(c, "--sha256 goes with one URL");
	if (!a.dir) {
		rc = hearth_model_dirs(dirs, sizeof(dirs));
		if (rc < 0 || (size_t)rc >= sizeof(dirs)) {
			tool_err("there is no model directory; name one with "
				 "--dir");
			return EXIT_FAIL;
		}
		colon = strchr(dirs, ':');
		if (colon)
			*colon = 0;
		a.dir = dirs;
	}
	if (!a.dry_run && make_dirs(a.dir))
		return EXIT_FAIL;
	term_catch_int();
	for (i = 0, rc = 0; i < n && rc == 0; i++)
		rc = pull_one(&a, argv[i]);
	if (rc == -EINTR)
		return EXIT_INTR;
	return rc ? EXIT_FAIL : EXIT_OK;
}
