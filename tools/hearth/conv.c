/* SPDX-License-Identifier: MIT */
/*
 * conv.c - a conversation, and its JSON file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "answer.h"
#include "text.h"

static const char *const roles[] = { "system", "user", "assistant", "tool" };

void conv_add(struct conv *c, const char *role, const char *content)
{
	size_t i;

	if (c->n == c->max) {
		c->max = c->max * 2 + 16;
		c->msg = xrealloc(c->msg, c->max, sizeof(*c->msg));
	}
	for (i = 0; i + 1 < N_ELEM(roles) && strcmp(role, roles[i]); i++)
		;
	c->msg[c->n].role = roles[i];
	c->msg[c->n++].content = xstrdup(content);
}

void conv_pop(struct conv *c)
{
	if (c->n)
		free((char *)c->msg[--c->n].content);
}

void conv_clear(struct conv *c)
{
	while (c->n)
		conv_pop(c);
	free(c->msg);
	memset(c, 0, sizeof(*c));
}

int conv_save(const struct conv *c, const struct runner *r, const char *path)
{
	json_t *o, *list = json_array();
	const char *p;
	size_t i;
	int rc = 0;

	for (i = 0; i < c->n; i++) {
		p = c->msg[i].content;
		json_array_append_new(list, json_pack("{s:s, s:o}", "role",
						      c->msg[i].role, "content",
						      text_json(p, strlen(p))));
	}
	o = json_pack("{s:s, s:o}", "model", r->info.name, "messages", list);
	errno = 0;
	if (!o || json_dump_file(o, path, JSON_INDENT(2)) < 0) {
		rc = errno ? -errno : -EIO;
		tool_err("%s: %s", path, strerror(-rc));
	}
	json_decref(o);
	return rc;
}

static bool known_role(const char *role)
{
	size_t i;

	for (i = 0; i < N_ELEM(roles); i++)
		if (!strcmp(role, roles[i]))
			return true;
	return false;
}

int conv_load(struct conv *c, struct runner *r, const char *path)
{
	struct conv fresh = { 0 };
	const char *role, *text;
	json_t *o, *list, *e;
	json_error_t je;
	size_t i;
	int rc = 0;

	(void)r;
	o = json_load_file(path, 0, &je);
	if (!o) {
		tool_err("%s: %s", path, je.text);
		return -EINVAL;
	}
	list = json_is_array(o) ? o : json_object_get(o, "messages");
	if (!json_is_array(list)) {
		tool_err("%s: there are no messages in it", path);
		rc = -EINVAL;
	}
	json_array_foreach(list, i, e)
	{
		role = json_string_value(json_object_get(e, "role"));
		text = json_string_value(json_object_get(e, "content"));
		if (!role || !text || !known_role(role)) {
			tool_err("%s: message %zu has no role or content", path,
				 i);
			rc = -EINVAL;
			break;
		}
		conv_add(&fresh, role, text);
	}
	json_decref(o);
	if (rc) {
		conv_clear(&fresh);
		return rc;
	}
	conv_clear(c);
	*c = fresh;
	return 0;
}
