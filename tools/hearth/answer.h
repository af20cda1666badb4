/* SPDX-License-Identifier: MIT */
/*
 * answer.h - one prompt and its answer, as `hearth run` shows them.
 */
#ifndef HEARTH_TOOL_ANSWER_H
#define HEARTH_TOOL_ANSWER_H

#include "hearth-tool.h"

/* Options of `hearth run`; /set changes most of them. */
struct run_args {
	const char *system;
	float temp;
	uint64_t top_k;
	float top_p;
	float min_p;
	float repeat_penalty;
	float presence_penalty;
	float frequency_penalty;
	uint64_t penalty_last;
	uint64_t seed;
	uint64_t max_tokens;
	uint64_t ctx;
	uint64_t top_logprobs;
	bool greedy;
	bool ignore_eos;
	bool raw;
	bool logprobs;
	bool json;
	bool verbose;
	bool no_stats;
	struct strs stop;
	const char *template;
	const char *vars;
};

/**
 * struct runner - a loaded model and how to talk to it
 * @tmpl:    text of --template, or NULL
 * @load_ns: how long opening the model took
 */
struct runner {
	struct hearth *h;
	struct hearth_model *m;
	struct hearth_model_info info;
	struct run_args *a;
	char *tmpl;
	uint64_t load_ns;
};

/* Messages of a conversation; contents are ours. */
struct conv {
	struct hearth_message *msg;
	size_t n;
	size_t max;
};

void conv_add(struct conv *c, const char *role, const char *content);
void conv_pop(struct conv *c);
void conv_clear(struct conv *c);
/* JSON files of /save and /load. 0 or -errno after an error text. */
int conv_save(const struct conv *c, const struct runner *r, const char *path);
int conv_load(struct conv *c, struct runner *r, const char *path);

/* Tokens of a text or of the rendered conversation (malloc()ed). Returns how
 * many, or -errno after an error text. */
int64_t answer_tokenize(struct runner *r, const char *text, size_t n,
			uint32_t **out);
int64_t answer_render(struct runner *r, const struct conv *c, uint32_t **out);

/**
 * answer_run() - print the answer to @tok
 * @text: receives the answer, also when it was cut short; may be NULL
 * Return: an exit code; EXIT_INTR after Ctrl-C.
 */
int answer_run(struct runner *r, const uint32_t *tok, size_t n,
	       struct str *text);

/* Chat until the user leaves (chat.c). Returns an exit code. */
int chat(struct runner *r, struct conv *c);

#endif
