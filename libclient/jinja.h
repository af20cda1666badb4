/* SPDX-License-Identifier: MIT */
/*
 * jinja.h - the interpreter of chat templates.
 *
 * Renders a template with variables, as Python's jinja2 does when transformers
 * configures it (blocks are trimmed, loop controls and generation blocks are
 * there, JSON is written plainly). A template and its variables are hostile:
 * nesting, steps and memory have limits, and what exceeds them is an error.
 */
#ifndef HEARTH_JINJA_H
#define HEARTH_JINJA_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct jinja_limits - what one rendering may use
 * @mem:   bytes, everything included; 0 is JINJA_MEM and 64 times the input
 * @steps: nodes visited and bytes touched; 0 is JINJA_STEPS
 * @now:   the time that strftime_now() sees, seconds since 1970
 */
struct jinja_limits {
	size_t mem;
	uint64_t steps;
	int64_t now;
};

#define JINJA_MEM   (64u << 20)
#define JINJA_STEPS (100ull << 20)

/* Nesting in a template's text, in JSON, and of what runs. */
#define JINJA_DEPTH_PARSE 256
#define JINJA_DEPTH_JSON  64
#define JINJA_DEPTH_RUN	  600

/**
 * jinja_render() - render @tmpl
 * @vars: JSON objects, one after another; later ones replace what earlier
 *        ones set
 * @n_vars: length of each
 * @k:    how many
 * @out:  new, malloc()ed; the caller frees it
 *
 * Return: 0; -EINVAL for an error in the template or the variables, or one it
 * raises; -E2BIG past a limit; -ENOMEM. @why says where ("line 3: ...").
 */
int jinja_render(const char *tmpl, size_t n, const char *const *vars,
		 const size_t *n_vars, size_t k, const struct jinja_limits *lim,
		 char **out, size_t *out_n, char *why, size_t why_n);

#endif
