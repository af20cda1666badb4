/* SPDX-License-Identifier: MIT */
/*
 * cmd_tokenize.c - hearth tokenize: text to tokens and back, without a daemon.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "hearth-tool.h"

#define TEXT_MAX (1u << 30)

struct args {
	bool pieces;
	bool count;
	bool no_special;
	bool no_bos;
	bool json;
	bool decode;
};

/* clang-format off */
const struct opt opts_tokenize[] = {
	{ 'p', "pieces", NULL, OPT_FLAG, offsetof(struct args, pieces), 0, 0,
	  "print each token's number and text on a line" },
	{ 'c', "count", NULL, OPT_FLAG, offsetof(struct args, count), 0, 0,
	  "print how many tokens there are" },
	{ 'd', "decode", NULL, OPT_FLAG, offsetof(struct args, decode), 0, 0,
	  "the other way: print the text of token numbers" },
	{ 0, "no-special", NULL, OPT_FLAG, offsetof(struct args, no_special),
	  0, 0, "control tokens in the text are plain text" },
	{ 0, "no-bos", NULL, OPT_FLAG, offsetof(struct args, no_bos), 0, 0,
	  "do not add the tokens that begin and end a text" },
	{ 0, "json", NULL, OPT_FLAG, offsetof(struct args, json), 0, 0,
	  "print a JSON array of numbers" },
	{ .type = OPT_END },
};
/* clang-format on */

/* The piece's bytes as a JSON string, or as \x escapes when no UTF-8. */
static void print_piece(const char *p, size_t n)
{
	json_t *s = json_stringn(p, n);
	char *text = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL;
	size_t i;

	if (text) {
		fputs(text, stdout);
	} else {
		putchar('"');
		for (i = 0; i < n; i++)
			printf("\\x%02x", (unsigned char)p[i]);
		putchar('"');
	}
	free(text);
	json_decref(s);
}

static void print_tokens(const struct hearth_model *m, const struct args *a,
			 const uint32_t *tok, size_t n)
{
	char piece[4096];
	int64_t k;
	size_t i;

	if (a->count) {
		printf("%zu\n", n);
		return;
	}
	if (a->json)
		putchar('[');
	for (i = 0; i < n; i++) {
		if (a->pieces) {
			k = hearth_detokenize(m, tok + i, 1, piece,
					      sizeof(piece), true);
			printf("%u\t", tok[i]);
			if (k > (int64_t)sizeof(piece))
				k = sizeof(piece);
			print_piece(piece, k > 0 ? (size_t)k : 0);
			putchar('\n');
		} else if (a->json) {
			printf("%s%u", i ? ", " : "", tok[i]);
		} else {
			printf("%s%u", i ? " " : "", tok[i]);
		}
	}
	if (a->json)
		puts("]");
	else if (!a->pieces)
		putchar('\n');
}

static int encode(const struct hearth_model *m, const struct args *a,
		  const struct str *s)
{
	uint32_t flags = (a->no_special ? 0 : HEARTH_TOK_SPECIAL) |
			 (a->no_bos ? HEARTH_TOK_NO_BOS : 0);
	int64_t n = hearth_tokenize(m, s->p, s->n, NULL, 0, flags);
	uint32_t *tok;

	if (n < 0) {
		tool_err("tokenize: %s", hearth_strerror((int)n));
		return EXIT_FAIL;
	}
	tok = xrealloc(NULL, (size_t)n, sizeof(*tok));
	hearth_tokenize(m, s->p, s->n, tok, (size_t)n, flags);
	print_tokens(m, a, tok, (size_t)n);
	free(tok);
	return EXIT_OK;
}

static int decode(const struct hearth_model *m, const struct str *s)
{
	uint32_t *tok = xrealloc(NULL, s->n + 1, sizeof(*tok));
	const char *p = s->p;
	unsigned long v;
	size_t n = 0;
	int64_t k;
	char *end, *text;
	int rc = EXIT_FAIL;

	/* Spaces, commas and brackets separate, so that --json reads back. */
	for (p += strspn(p, " ,[]\t\r\n"); *p; p += strspn(p, " ,[]\t\r\n")) {
		errno = 0;
		v = strtoul(p, &end, 10);
		if (end == p || *p == '-' || errno || v > UINT32_MAX) {
			tool_err("tokenize: '%.20s' is no token number", p);
			goto out;
		}
		tok[n++] = (uint32_t)v;
		p = end;
	}
	k = hearth_detokenize(m, tok, n, NULL, 0, true);
	if (k < 0) {
		tool_err("tokenize: %s", hearth_strerror((int)k));
		goto out;
	}
	text = xrealloc(NULL, (size_t)k + 1, 1);
	hearth_detokenize(m, tok, n, text, (size_t)k + 1, true);
	fwrite(text, 1, (size_t)k, stdout);
	if (term_is_tty(1) && k && text[k - 1] != '\n')
		putchar('\n');
	free(text);
	rc = EXIT_OK;
out:
	free(tok);
	return rc;
}

static int read_text(struct str *s, int n, char **word)
{
	char buf[65536];
	size_t k;
	int i;

	str_add(s, "", 0);
	for (i = 0; i < n; i++)
		str_addf(s, "%s%s", i ? " " : "", word[i]);
	while (!n && (k = fread(buf, 1, sizeof(buf), stdin)) > 0) {
		str_add(s, buf, k);
		if (s->n > TEXT_MAX) {
			tool_err("standard input: longer than %u bytes",
				 TEXT_MAX);
			return -E2BIG;
		}
	}
	if (ferror(stdin)) {
		tool_err("standard input: read failed");
		return -EIO;
	}
	return 0;
}

int cmd_tokenize(const struct cmd *c, int argc, char **argv)
{
	struct args a = { 0 };
	struct hearth_model *m;
	struct str s = { 0 };
	int n = opt_parse(c, &a, argc, argv), rc;

	if (n < 0)
		return EXIT_USAGE;
	if (!n)
		return tool_usage(c, "which model?");
	if (a.pieces + a.count + a.decode + a.json > 1)
		return tool_usage(c, "--pieces, --count, --json and --decode "
				     "exclude each other");
	if (tool_open_file(&m, argv[0]))
		return EXIT_FAIL;
	rc = read_text(&s, n - 1, argv + 1) ? EXIT_FAIL : EXIT_OK;
	if (rc == EXIT_OK)
		rc = a.decode ? decode(m, &s) : encode(m, &a, &s);
	hearth_model_close(&m);
	str_free(&s);
	return rc;
}
