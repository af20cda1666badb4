/* SPDX-License-Identifier: MIT */
/*
 * pull_hf.c - hf.co/user/repo:QUANT: which files of a repository are meant.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pull.h"

#define PAGES 50
#define QUANT 64

/* What a file's name says: its quantisation, and which part of how many. */
struct shard {
	char quant[QUANT];
	unsigned part, parts;
};

/* Tried in this order when no quantisation is asked for. */
static const char *const wanted[] = { "Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1",
				      "Q5_K_M", "Q6_K",	  "Q8_0", "BF16",
				      "F16",	"F32" };

static bool is_word(const char *p, size_t n)
{
	size_t i;

	if (n < 2 || n >= QUANT || !strchr("QqIiFfBbTtMmNn", p[0]))
		return false;
	for (i = 0; i < n; i++)
		if (!isalnum((unsigned char)p[i]) && p[i] != '_')
			return false;
	for (i = 0; i < n; i++)
		if (isdigit((unsigned char)p[i]))
			return true;
	return false;
}

/* "dir/Name-1B-Q4_K_M-00001-of-00003.gguf" */
static void read_name(const char *path, struct shard *s)
{
	const char *base = strrchr(path, '/'), *p, *dash;
	size_t n;
	int used = 0;

	memset(s, 0, sizeof(*s));
	base = base ? base + 1 : path;
	n = strlen(base) - 5;
	if (n > 15 &&
	    sscanf(base + n - 15, "-%5u-of-%5u%n", &s->part, &s->parts,
		   &used) == 2 &&
	    used == 15)
		n -= 15;
	else
		s->part = s->parts = 0;
	/* The last word between dashes or dots. */
	for (p = dash = base; p < base + n; p++)
		if (*p == '-' || *p == '.')
			dash = p + 1;
	n -= (size_t)(dash - base);
	if (is_word(dash, n))
		memcpy(s->quant, dash, n);
}

static bool is_model(const json_t *e, const char **path)
{
	const char *type = json_string_value(json_object_get(e, "type"));
	const char *base;

	*path = json_string_value(json_object_get(e, "path"));
	if (!type || strcmp(type, "file") || !*path || !pull_is_gguf(*path))
		return false;
	base = strrchr(*path, '/');
	base = base ? base + 1 : *path;
	/* Vision projectors and importance matrices are no models. */
	return strncasecmp(base, "mmproj", 6) &&
	       strncasecmp(base, "imatrix", 7);
}

static int list(struct pull_plan *p, const char *base, const char *repo,
		json_t **out)
{
	struct str url = { 0 };
	char *next = NULL;
	json_t *page;
	int n, rc = 0;

	*out = json_array();
	str_addf(&url, "%s/api/models/%s/tree/main?recursive=true", base, repo);
	for (n = 0; n < PAGES && rc == 0; n++) {
		rc = pull_json(p, url.p, repo, &page, &next);
		if (rc == 0)
			json_array_extend(*out, page);
		json_decref(page);
		if (!next)
			break;
		url.n = 0;
		str_addf(&url, "%s", next);
		free(next);
		next = NULL;
	}
	free(next);
	str_free(&url);
	if (rc == -ENOENT)
		tool_err("there is no repository hf.co/%s", repo);
	return rc;
}

static void escape(struct str *s, const char *p)
{
	for (; *p; p++)
		if (isalnum((unsigned char)*p) || strchr("-._~/", *p))
			str_add(s, p, 1);
		else
			str_addf(s, "%%%02X", (unsigned char)*p);
}

static int add_file(struct pull_plan *p, const char *base, const char *repo,
		    const json_t *e)
{
	const json_t *lfs = json_object_get(e, "lfs");
	const char *path = json_string_value(json_object_get(e, "path"));
	const char *sha = json_string_value(json_object_get(lfs, "oid"));
	json_int_t size = json_integer_value(json_object_get(e, "size"));
	struct str url = { 0 };
	int rc;

	if (!sha || size <= 0) {
		tool_err("%s: %s: the index names no size or sha256", p->source,
			 path);
		return -EPROTO;
	}
	if (!strncmp(sha, "sha256:", 7))
		sha += 7;
	str_addf(&url, "%s/%s/resolve/main/", base, repo);
	escape(&url, path);
	rc = pull_add(p, url.p, path, (uint64_t)size, sha);
	str_free(&url);
	return rc;
}

/* Names of the quantisations there are, for the error text. */
static void say_which(const char *repo, const char *quant, const json_t *files)
{
	struct str have = { 0 };
	const char *path;
	const json_t *e;
	struct shard s;
	size_t i;

	str_add(&have, "", 0);
	json_array_foreach(files, i, e)
	{
		if (!is_model(e, &path))
			continue;
		read_name(path, &s);
		if (*s.quant && !strstr(have.p, s.quant))
			str_addf(&have, "%s%s", have.n ? ", " : "", s.quant);
	}
	if (!have.n)
		tool_err("hf.co/%s has no .gguf file", repo);
	else if (*quant)
		tool_err("hf.co/%s has no %s; it has %s", repo, quant, have.p);
	else
		tool_err("hf.co/%s:QUANT: which? It has %s", repo, have.p);
	str_free(&have);
}

/* Add the files of one quantisation: one, or all parts of a split model. */
static int add_quant(struct pull_plan *p, const char *base, const char *repo,
		     const json_t *files, const char *quant)
{
	unsigned parts = 0, seen = 0;
	const char *path;
	const json_t *e;
	struct shard s;
	size_t i;
	int rc;

	json_array_foreach(files, i, e)
	{
		if (!is_model(e, &path))
			continue;
		read_name(path, &s);
		if (strcasecmp(s.quant, quant))
			continue;
		if (seen && s.parts != parts)
			continue;
		if (seen && !parts)
			continue; /* a second one of the same kind */
		rc = add_file(p, base, repo, e);
		if (rc)
			return rc;
		parts = s.parts;
		seen++;
	}
	if (seen && parts && seen != parts) {
		tool_err("hf.co/%s:%s: %u of %u parts are there", repo, quant,
			 seen, parts);
		return -ENOENT;
	}
	return seen ? 0 : -ENOENT;
}

static int choose(struct pull_plan *p, const char *base, const char *repo,
		  const char *quant, const json_t *files)
{
	const char *path;
	const json_t *e, *only = NULL;
	size_t i, n = 0;
	int rc = -ENOENT;

	json_array_foreach(files, i, e)
	{
		if (!is_model(e, &path))
			continue;
		/* A whole file name may stand in place of the quantisation. */
		if (*quant && !strcasecmp(path, quant))
			return add_file(p, base, repo, e);
		only = e;
		n++;
	}
	if (*quant)
		rc = add_quant(p, base, repo, files, quant);
	else if (n == 1)
		rc = add_file(p, base, repo, only);
	else
		for (i = 0; i < N_ELEM(wanted) && rc == -ENOENT && !p->n; i++)
			rc = add_quant(p, base, repo, files, wanted[i]);
	if (rc == -ENOENT && !p->n)
		say_which(repo, quant, files);
	return rc;
}

int pull_hf(struct pull_plan *p, const char *name)
{
	const char *base = getenv("HEARTH_HF_URL");
	const char *colon = strchr(name, ':'), *quant = colon ? colon + 1 : "";
	char repo[256];
	size_t n = colon ? (size_t)(colon - name) : strlen(name);
	const char *slash;
	json_t *files = NULL;
	int rc;

	while (n && name[n - 1] == '/')
		n--;
	snprintf(repo, sizeof(repo), "%.*s", (int)(n < 255 ? n : 255), name);
	slash = strchr(repo, '/');
	if (!slash || slash == repo || strchr(slash + 1, '/') ||
	    strspn(repo, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			 "0123456789._-/") != n ||
	    strstr(repo, "..")) {
		tool_err("'hf.co/%.200s' is not of the form "
			 "hf.co/user/repo:QUANT",
			 name);
		return -EINVAL;
	}
	if (!base || !*base)
		base = "https://huggingface.co";
	p->bearer = getenv("HF_TOKEN");
	if (p->bearer && !*p->bearer)
		p->bearer = NULL;
	snprintf(p->source, sizeof(p->source), "hf.co/%.250s%s%.200s", repo,
		 *quant ? ":" : "", quant);
	rc = list(p, base, repo, &files);
	if (rc == 0)
		rc = choose(p, base, repo, quant, files);
	json_decref(files);
	return rc;
}
