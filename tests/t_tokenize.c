/* SPDX-License-Identifier: MIT */
/*
 * t_tokenize.c - tokens of texts, for tests/golden/tokenizer.py.
 *
 * Usage: t_tokenize MODEL.gguf [FLAGS]. Texts come on stdin, each a 32-bit
 * length and that many bytes; for each a line of token ids goes out.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../daemon/gguf.h"
#include "../libclient/lib.h"

#define TEXT_MAX (64u << 20)

static int answer(const struct hearth_model *m, const char *text, uint32_t n,
		  uint32_t flags)
{
	uint32_t *tok = malloc(((size_t)n + 8) * sizeof(*tok));
	int64_t k, i;

	if (!tok)
		return 1;
	k = hearth_tokenize(m, text, n, tok, (size_t)n + 8, flags);
	if (k < 0 || k > (int64_t)n + 8) {
		fprintf(stderr, "t_tokenize: %lld\n", (long long)k);
		free(tok);
		return 1;
	}
	for (i = 0; i < k; i++)
		printf("%s%u", i ? " " : "", tok[i]);
	putchar('\n');
	free(tok);
	return 0;
}

int main(int argc, char **argv)
{
	struct hearth_model *m = NULL;
	uint32_t n, flags;
	char why[160];
	char *text;
	int fd, err;

	if (argc < 2) {
		fprintf(stderr, "usage: t_tokenize MODEL.gguf [FLAGS]\n");
		return 2;
	}
	flags = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 0;
	err = model_parse_path(argv[1], MODEL_VOCAB_ONLY, &fd, NULL, NULL, why);
	if (!err)
		err = model_new_fd(&m, fd, why);
	if (err) {
		fprintf(stderr, "t_tokenize: %s\n", why);
		return 1;
	}
	while (!err && fread(&n, sizeof(n), 1, stdin) == 1) {
		if (n > TEXT_MAX || !(text = malloc((size_t)n + 1)))
			return 1;
		err = fread(text, 1, n, stdin) == n ? answer(m, text, n, flags)
						    : 1;
		free(text);
	}
	hearth_model_close(&m);
	return err;
}
