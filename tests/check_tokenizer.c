/* SPDX-License-Identifier: MIT */
/*
 * check_tokenizer.c - tokens of texts and back: two vocabularies of our own
 * against a plain reference, hostile texts, and published ones if at hand.
 */
#include <check.h>
#include <errno.h>
#include <glob.h>
#include <time.h>

#include "../libclient/unicode.h"
#include "../libclient/vocab.h"
#include "vocab_make.h"

#define DATA "../shared/data/vocab/"

static struct hearth_model *bpe, *spm;
static void *bpe_image, *spm_image;
static struct gm gm_bpe, gm_spm;
static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33) % n;
}

static void setup(void)
{
	char why[160] = "";

	gm_init(&gm_bpe);
	gm_init(&gm_spm);
	vm_bpe(&gm_bpe, "gpt-2");
	ck_assert_msg(!vm_model(&gm_bpe, &bpe, &bpe_image, why), "%s", why);
	vm_spm_keys(&gm_spm);
	ck_assert_msg(!vm_model(&gm_spm, &spm, &spm_image, why), "%s", why);
	seed = (uint64_t)time(NULL);
	printf("seed %llu\n", (unsigned long long)seed);
}

static void teardown(void)
{
	hearth_model_close(&bpe);
	hearth_model_close(&spm);
	free(bpe_image);
	free(spm_image);
	gm_free(&gm_bpe);
	gm_free(&gm_spm);
}

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Texts of the tokens, each followed by a bar. */
static const char *shown(struct hearth_model *m, const char *text,
			 uint32_t flags)
{
	static char out[4096];
	uint32_t tok[256];
	size_t at = 0;
	int64_t n, i;

	n = hearth_tokenize(m, text, strlen(text), tok, 256, flags);
	ck_assert_int_ge(n, 0);
	ck_assert_int_le(n, 256);
	for (i = 0; i < n; i++) {
		const struct image_str *s = &m->im.tokens[tok[i]].text;

		memcpy(out + at, m->im.str + s->off, s->len);
		at += s->len;
		out[at++] = '|';
	}
	out[at] = 0;
	return out;
}

#define shows(m, text, flags, want) \
	ck_assert_str_eq(shown(m, text, flags), want)

/* ----------------------------------------------------------- known answers */

START_TEST(bpe_words)
{
	shows(bpe, "", 0, "");
	shows(bpe, "hello hello", 0, "hello|\xc4\xa0hello|");
	/* "he" is learnt before "th" */
	shows(bpe, "the  there's", 0, "t|he|\xc4\xa0|\xc4\xa0|t|he|re|'s|");
	shows(bpe, "1234", 0, "123|4|");
	shows(bpe, "\xc3\xa9", 0, "\xc3\x83\xc2\xa9|");
	shows(bpe, "\xff\n", 0, "\xc3\xbf|\xc4\x8a|");
}
END_TEST

START_TEST(bpe_specials)
{
	/* typed by a user, control tokens are letters */
	shows(bpe, "<|end|>", 0, "<|||e|n|d|||>|");
	shows(bpe, "hi<|end|>", HEARTH_TOK_SPECIAL, "hi|<|end|>|");
	/* the longest wins; what goes on differently falls back */
	shows(bpe, "<|end|>>", HEARTH_TOK_SPECIAL, "<|end|>>|");
	shows(bpe, "<|endless|>", HEARTH_TOK_SPECIAL, "<|endless|>|");
	shows(bpe, "<|end|><|end|>>>", HEARTH_TOK_SPECIAL,
	      "<|end|>|<|end|>>|>|");
	/* user-defined tokens always count, a longer control token or not */
	shows(bpe, "a<tool>b", 0, "a|<tool>|b|");
	shows(bpe, "a<tool>b", HEARTH_TOK_SPECIAL, "a|<tool>|b|");
	shows(bpe, "<toolx", HEARTH_TOK_SPECIAL, "<tool|x|");
	shows(bpe, "<toolx", 0, "<|t|oo|l|x|");
}
END_TEST

START_TEST(spm_words)
{
	shows(spm, "", HEARTH_TOK_NO_BOS, "");
	shows(spm, "", 0, "<s>|");
	shows(spm, "hello", 0, "<s>|\xe2\x96\x81hello|");
	/* "llo" scores better than "he", so "hell" is never seen */
	shows(spm, "ahello", HEARTH_TOK_NO_BOS, "\xe2\x96\x81|a|he|llo|");
	shows(spm, "  aaaaa", HEARTH_TOK_NO_BOS,
	      "\xe2\x96\x81\xe2\x96\x81|\xe2\x96\x81|aaaa|a|");
	shows(spm, "z\xc3\xa9\xff", HEARTH_TOK_NO_BOS,
	      "\xe2\x96\x81|<0x7A>|\xc3\xa9|<0xFF>|");
	shows(spm, "<s>a", HEARTH_TOK_NO_BOS | HEARTH_TOK_SPECIAL,
	      "<s>|\xe2\x96\x81|a|");
	shows(spm, "a<tool>a", HEARTH_TOK_NO_BOS,
	      "\xe2\x96\x81|a|<tool>|\xe2\x96\x81|a|");
	/* a byte's name in a text is text */
	shows(spm, "<0x41>", HEARTH_TOK_NO_BOS,
	      "\xe2\x96\x81|<0x3C>|<0x30>|<0x78>|<0x34>|<0x31>|<0x3E>|");
}
END_TEST

START_TEST(flags)
{
	struct hearth_model *m;
	uint32_t tok[8];
	char why[160];
	struct gm g;
	void *image;

	gm_init(&g);
	vm_bpe(&g, "llama-bpe");
	gm_kv_bool(&g, "tokenizer.ggml.add_bos_token", true);
	gm_kv_bool(&g, "tokenizer.ggml.add_eos_token", true);
	ck_assert_int_eq(vm_model(&g, &m, &image, why), 0);
	shows(m, "hi", 0, "<|bos|>|hi|<|end|>|");
	shows(m, "hi", HEARTH_TOK_NO_BOS, "hi|");
	shows(m, "", 0, "<|bos|>|<|end|>|");
	/* only what fits is written, all is counted */
	tok[1] = 77;
	ck_assert_int_eq(hearth_tokenize(m, "hi", 2, tok, 1, 0), 3);
	ck_assert_uint_eq(tok[1], 77);
	ck_assert_int_eq(hearth_tokenize(m, NULL, 0, NULL, 0, 0), 2);
	ck_assert_int_eq(hearth_tokenize(m, NULL, 1, tok, 8, 0), -EINVAL);
	ck_assert_int_eq(hearth_tokenize(m, "a", 1, NULL, 8, 0), -EINVAL);
	ck_assert_int_eq(hearth_tokenize(m, "a", 1, tok, 8, 4), -EINVAL);
	ck_assert(hearth_token_is_eog(m, m->im.h->eos));
	ck_assert(!hearth_token_is_eog(m, 'a'));
	ck_assert(!hearth_token_is_eog(m, UINT32_MAX));
	hearth_model_close(&m);
	free(image);
	gm_free(&g);
}
END_TEST

START_TEST(unknown_kinds)
{
	struct hearth_model *m;
	uint32_t tok[8];
	char why[160];
	struct gm g;
	void *image;

	gm_init(&g);
	vm_bpe(&g, "no-such-rule");
	ck_assert_int_eq(vm_model(&g, &m, &image, why), 0);
	ck_assert_int_eq(hearth_tokenize(m, "a", 1, tok, 8, 0), -ENOTSUP);
	ck_assert_int_eq(hearth_detokenize(m, tok, 0, NULL, 0, 0), -ENOTSUP);
	hearth_model_close(&m);
	free(image);
	gm_free(&g);
}
END_TEST

/* ----------------------------------------------------- against a reference */

/* BPE as it is defined: the best pair of all, again and again. */
static uint32_t slow_bpe(const struct vocab *v, const uint8_t *p, size_t n,
			 uint32_t *tok)
{
	uint32_t i, k, best, at, cut = (uint32_t)n;

	for (i = 0; i < n; i++)
		tok[i] = v->byte_id[p[i]];
	for (;;) {
		best = IMAGE_NONE;
		at = 0;
		for (i = 0; i + 1 < cut; i++) {
			k = image_find_merge(v->im, tok[i], tok[i + 1]);
			if (k < best) {
				best = k;
				at = i;
			}
		}
		if (best == IMAGE_NONE)
			return cut;
		tok[at] = v->im->merges[best].result;
		memmove(tok + at + 1, tok + at + 2,
			(cut - at - 2) * sizeof(*tok));
		cut--;
	}
}

START_TEST(bpe_reference)
{
	static const char abc[] = "helotaainger";
	const struct vocab *v;
	uint32_t got[200], want[200], n, i, round;
	char text[200];

	ck_assert_int_eq(vocab_get(bpe, &v), 0);
	for (round = 0; round < 5000; round++) {
		n = 1 + rnd(round % 10 ? 30 : 199);
		for (i = 0; i < n; i++)
			text[i] = abc[rnd(sizeof(abc) - 1)];
		i = slow_bpe(v, (uint8_t *)text, n, want);
		ck_assert_int_eq(hearth_tokenize(bpe, text, n, got, 200, 0), i);
		ck_assert(!memcmp(got, want, i * sizeof(*got)));
	}
}
END_TEST

/* SentencePiece: the best score of all neighbours, leftmost first. */
static uint32_t slow_spm(const struct vocab *v, const char *p, size_t n,
			 uint32_t *tok)
{
	uint32_t off[201], i, at, id, bid, count = (uint32_t)n;
	const struct image *im = v->im;
	float best;

	for (i = 0; i <= n; i++)
		off[i] = i;
	for (;;) {
		at = bid = IMAGE_NONE;
		best = 0;
		for (i = 0; i + 1 < count; i++) {
			id = image_find_token(im, p + off[i],
					      off[i + 2] - off[i]);
			if (id == IMAGE_NONE ||
			    (at != IMAGE_NONE && im->tokens[id].score <= best))
				continue;
			at = i;
			best = im->tokens[id].score;
		}
		if (at == IMAGE_NONE)
			break;
		memmove(off + at + 1, off + at + 2,
			(count - at - 1) * sizeof(*off));
		count--;
	}
	for (i = 0; i < count; i++)
		tok[i] = image_find_token(im, p + off[i], off[i + 1] - off[i]);
	return count;
}

START_TEST(spm_reference)
{
	static const char abc[] = "helloaa";
	const struct vocab *v;
	uint32_t got[210] = { 0 }, want[210], n, i, round;
	struct merger mg;
	struct tok_out o;
	char text[201];

	ck_assert_int_eq(vocab_get(spm, &v), 0);
	for (round = 0; round < 5000; round++) {
		n = 1 + rnd(round % 10 ? 30 : 199);
		for (i = 0; i < n; i++)
			text[i] = abc[rnd(sizeof(abc) - 1)];
		i = slow_spm(v, text, n, want);
		mg = (struct merger){ .v = v };
		o = (struct tok_out){ .out = got, .max = 210 };
		ck_assert_int_eq(spm_tokenize(&mg, (uint8_t *)text,
					      (uint8_t *)text + n, false, &o),
				 0);
		merge_fini(&mg);
		ck_assert_int_eq(o.n, i);
		ck_assert(!memcmp(got, want, i * sizeof(*got)));
	}
}
END_TEST

/* ---------------------------------------------------------------- and back */

/* Pieces of many kinds, good and broken. */
static size_t random_text(char *p, size_t max)
{
	static const char *const bits[] = {
		"hello",
		" hello",
		"the",
		"  ",
		"\n",
		"\r\n",
		"\t",
		"a",
		"1",
		"123",
		"'s",
		"\xc3\xa9",
		"\xe4\xb8\xad",
		"\xf0\x9f\x98\x80",
		"\xe2\x96\x81",
		"\xc4\xa0",
		"\xff",
		"\xc3",
		"\xe2\x96",
		"\x80",
		"\xed\xa0\x80",
		"\xf4\x90\x80\x80",
		"<|end|>",
		"<|end",
		"<tool",
		"<tool>",
		"<s>",
		"<0x41>",
		".",
		"!?",
		"\xe0\xa4\x95",
		"AbC",
	};
	size_t n = 0, k;
	const char *s;

	while (n + 8 < max && rnd(50)) {
		s = bits[rnd(sizeof(bits) / sizeof(bits[0]))];
		k = strlen(s);
		memcpy(p + n, s, k);
		n += k;
		if (!rnd(4))
			p[n++] = (char)rnd(256);
	}
	return n;
}

static size_t streamed(struct hearth_model *m, const uint32_t *tok, size_t n,
		       char *out, size_t max, bool valid)
{
	struct hearth_stream s = { 0 };
	size_t at = 0, i;
	int k;

	for (i = 0; i <= n; i++) {
		k = hearth_stream_token(m, &s, i < n ? tok[i] : UINT32_MAX,
					out + at, max - at);
		ck_assert_int_ge(k, 0);
		/* of a valid text, whole characters only */
		if (valid)
			ck_assert_uint_eq(utf8_open_tail((uint8_t *)out + at,
							 (size_t)k),
					  0);
		at += (size_t)k;
	}
	ck_assert_uint_eq(s.n_held, 0);
	return at;
}

static bool all_valid(const char *p, size_t n)
{
	const uint8_t *b = (const uint8_t *)p, *e = b + n;
	unsigned k;

	for (; b < e; b += k)
		if (!(k = utf8_valid(b, e)))
			return false;
	return true;
}

static void there_and_back(struct hearth_model *m, const char *text, size_t n)
{
	char *back = malloc(n + 16);
	uint32_t *tok = malloc((n + 8) * sizeof(*tok));
	int64_t k, len;

	k = hearth_tokenize(m, text, n, tok, n + 8, HEARTH_TOK_NO_BOS);
	ck_assert_int_ge(k, 0);
	ck_assert_int_le(k, n + 8);
	len = hearth_detokenize(m, tok, (size_t)k, back, n + 16, false);
	ck_assert_int_eq(len, n);
	ck_assert(!memcmp(back, text, n));
	len = (int64_t)streamed(m, tok, (size_t)k, back, n + 16,
				all_valid(text, n));
	ck_assert_int_eq(len, n);
	ck_assert(!memcmp(back, text, n));
	free(back);
	free(tok);
}

START_TEST(round_trip)
{
	char text[600];
	int i;

#ifdef HEARTH_SANITIZE
	const int texts = 1000;
#else
	const int texts = 5000;
#endif

	for (i = 0; i < texts; i++) {
		size_t n = random_text(text, sizeof(text));

		there_and_back(bpe, text, n);
		/* the space that SentencePiece drops is the one it put; a
		 * U+2581 of the text cannot be told from a space */
		if (!memmem(text, n, "\xe2\x96\x81", 3) &&
		    !memmem(text, n, "<tool>", 6))
			there_and_back(spm, text, n);
	}
}
END_TEST

START_TEST(stream_edges)
{
	struct hearth_stream s = { 0 };
	char out[64];
	uint32_t tok[8];

	/* an emoji in four tokens comes at once */
	ck_assert_int_eq(hearth_tokenize(bpe, "\xf0\x9f\x98\x80", 4, tok, 8, 0),
			 4);
	ck_assert_int_eq(hearth_stream_token(bpe, &s, tok[0], out, 64), 0);
	ck_assert_int_eq(hearth_stream_token(bpe, &s, tok[1], out, 64), 0);
	ck_assert_int_eq(hearth_stream_token(bpe, &s, tok[2], out, 64), 0);
	/* no room: nothing is consumed, and the next try is the same */
	ck_assert_int_eq(hearth_stream_token(bpe, &s, tok[3], out, 3), -ENOSPC);
	ck_assert_int_eq(hearth_stream_token(bpe, &s, tok[3], out, 4), 4);
	ck_assert(!memcmp(out, "\xf0\x9f\x98\x80", 4));
	/* broken: held bytes come out with the letter that follows */
	ck_assert_int_eq(hearth_stream_token(bpe, &s, tok[0], out, 64), 0);
	ck_assert_int_eq(hearth_tokenize(bpe, "a", 1, tok + 4, 1, 0), 1);
	ck_assert_int_eq(hearth_stream_token(bpe, &s, tok[4], out, 64), 2);
	/* or when the stream ends */
	ck_assert_int_eq(hearth_stream_token(bpe, &s, tok[0], out, 64), 0);
	ck_assert_int_eq(hearth_stream_token(bpe, &s, UINT32_MAX, out, 64), 1);
	ck_assert_int_eq(hearth_stream_token(bpe, &s, 1u << 30, out, 64),
			 -EINVAL);
	s.n_held = 99;
	ck_assert_int_eq(hearth_stream_token(bpe, &s, 1, out, 64), -EINVAL);
	/* control tokens are silent unless asked for */
	tok[0] = bpe->im.h->bos;
	ck_assert_int_eq(hearth_detokenize(bpe, tok, 1, out, 64, false), 0);
	ck_assert_int_eq(hearth_detokenize(bpe, tok, 1, out, 64, true), 7);
	ck_assert_int_eq(hearth_detokenize(bpe, tok, 1, out, 3, true), 7);
	tok[0] = 1u << 30;
	ck_assert_int_eq(hearth_detokenize(bpe, tok, 1, out, 64, true),
			 -EINVAL);
}
END_TEST

/* ----------------------------------------------------------- hostile texts */

static const char *const patterns[] = {
	"a",	    "A",   " ",	 "\n",		 "\r\n ",    "1",
	"'",	    ".",   "aB", "\xff",	 "\xc3\xa9", "a ",
	"\xcc\x81", " \n", "'s", "\xe4\xb8\xad", "<|end",    "\xe2\x96\x81",
	"<",	    "$a",  "1a",
};

static void repeated(char *p, size_t n, const char *s)
{
	size_t k = strlen(s), i;

	for (i = 0; i < n; i++)
		p[i] = s[i % k];
}

START_TEST(megabytes)
{
	const size_t n = 1 << 20;
	uint32_t *tok = malloc(2 * n * sizeof(*tok));
	char *text = malloc(n);
	double t, worst = 0;
	size_t i;

	for (i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		repeated(text, n, patterns[i]);
		t = cpu_s();
		ck_assert_int_gt(hearth_tokenize(bpe, text, n, tok, 2 * n,
						 HEARTH_TOK_SPECIAL),
				 0);
		ck_assert_int_gt(hearth_tokenize(spm, text, n, tok, 2 * n,
						 HEARTH_TOK_SPECIAL),
				 0);
		t = cpu_s() - t;
		worst = t > worst ? t : worst;
	}
	printf("worst 1 MiB: %.3f s\n", worst);
#ifndef HEARTH_SANITIZE
	ck_assert(worst < 2);
#endif
	/* a run without a place to cut is cut, and loses nothing */
	repeated(text, n, "helotaaa");
	there_and_back(bpe, text, 100000);
	there_and_back(spm, text, 100000);
	free(text);
	free(tok);
}
END_TEST

static void cover(const struct pretok *rule, const char *name, const uint8_t *p,
		  size_t n)
{
	const uint8_t *b, *e, *at = p;
	struct pretok_iter it;

	pretok_start(&it, rule, p, p + n);
	while (pretok_next(&it, &b, &e)) {
		ck_assert_msg(b == at && e > b, "%s: a gap or nothing", name);
		at = e;
	}
	ck_assert_msg(at == p + n, "%s: the end is missing", name);
}

/* Every rule cuts every text without loss, in linear time. */
START_TEST(rules)
{
	const size_t n = 1 << 16;
	const struct pretok *rule, *last = NULL;
	char *text = malloc(n), small[600];
	const char *name;
	double t;
	size_t i, k;

	for (i = 0; (name = pretok_name(i)); i++) {
		rule = pretok_find(name, strlen(name));
		ck_assert_ptr_nonnull(rule);
		if (rule == last)
			continue;
		last = rule;
		t = cpu_s();
		for (k = 0; k < sizeof(patterns) / sizeof(patterns[0]); k++) {
			repeated(text, n, patterns[k]);
			cover(rule, name, (uint8_t *)text, n);
		}
		for (k = 0; k < 200; k++)
			cover(rule, name, (uint8_t *)small,
			      random_text(small, sizeof(small)));
		t = cpu_s() - t;
		/* 1.4 MB; a quadratic matcher takes minutes */
		ck_assert_msg(t < 5, "%s: %.1f s", name, t);
	}
	ck_assert_ptr_null(pretok_find("no such", 7));
	ck_assert_ptr_eq(pretok_find("", 0), pretok_find("default", 7));
	free(text);
}
END_TEST

/* Words of one text by one rule, each followed by a bar. */
static void cuts(const char *name, const char *text, const char *want)
{
	const uint8_t *b, *e, *p = (const uint8_t *)text;
	struct pretok_iter it;
	char out[512];
	size_t at = 0;

	pretok_start(&it, pretok_find(name, strlen(name)), p, p + strlen(text));
	while (pretok_next(&it, &b, &e)) {
		memcpy(out + at, b, (size_t)(e - b));
		at += (size_t)(e - b);
		out[at++] = '|';
	}
	out[at] = 0;
	ck_assert_msg(!strcmp(out, want), "%s: '%s' -> '%s', want '%s'", name,
		      text, out, want);
}

START_TEST(rule_words)
{
	cuts("gpt-2", "It's 12 o'clock,  ok", "It|'s| 12| o|'|clock|,| | ok|");
	cuts("gpt-2", "x  \n y", "x|  \n| y|");
	cuts("llama-bpe", "IT'S 12345\n\n ok!\n",
	     "IT|'S| |123|45|\n\n| ok|!\n|");
	cuts("qwen2", "a 123", "a| |1|2|3|");
	cuts("smollm", "a 12!", "a| |1|2|!|");
	cuts("gpt-4o", "HTMLParser's OKay helloWorld/",
	     "HTMLParser's| OKay| hello|World|/|");
	cuts("tekken", "CamelCase 12", "Camel|Case| |1|2|");
	cuts("deepseek-v3", "12345 \xe4\xb8\xad\xe5\x9b\xbdok (fn",
	     "123|45| |\xe4\xb8\xad\xe5\x9b\xbd|ok| (|fn|");
	cuts("falcon", "a1234$$b", "a|123|4|$$|b|");
	cuts("default", "ab 1234!", "ab| |123|4|!|");
	cuts("superbpe", "x 1234567 y", "x |1|234|567| y|");
	cuts("afmoe", "1234567", "1|234|567|");
	cuts("kimi-k2", "ab\xe4\xb8\xad\xe6\x96\x87 Cd 1234",
	     "ab|\xe4\xb8\xad\xe6\x96\x87| Cd| |123|4|");
	cuts("bloom", "one two, three", "one| two|,| three|");
	cuts("gemma4", "a b\n\nc", "a b|\n\n|c|");
}
END_TEST

/* ----------------------------------------------------------- published data */

static char *read_all(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *p = NULL;

	*n = 0;
	while (f) {
		/* cppcheck-suppress memleakOnRealloc ; the test ends there */
		p = realloc(p, *n + 65537);
		ck_assert_ptr_nonnull(p);
		*n += fread(p + *n, 1, 65536, f);
		if (feof(f) || ferror(f))
			break;
	}
	if (f) {
		fclose(f);
		p[*n] = 0;
	}
	return p;
}

static void check_text(struct hearth_model *m, const char *file,
		       const char *text, size_t n, const char *want)
{
	uint32_t *tok = malloc((n + 8) * sizeof(*tok));
	int64_t k, i;
	char *end;

	k = hearth_tokenize(m, text, n, tok, n + 8, HEARTH_TOK_NO_BOS);
	ck_assert_int_ge(k, 0);
	for (i = 0; i < k; i++) {
		ck_assert_msg(strtoul(want, &end, 10) == tok[i] && end != want,
			      "%s: '%.*s': token %lld is %u, want %.20s", file,
			      (int)n, text, (long long)i, tok[i], want);
		want = end;
	}
	ck_assert_msg(want[strspn(want, " ")] == '\n' ||
			      !want[strspn(want, " ")],
		      "%s: '%.*s': more tokens wanted", file, (int)n, text);
	free(tok);
	there_and_back(m, text, n);
}

/* All texts of one file; the count, or 0 if the kind is not supported. */
static int published(const char *inp)
{
	static const char mark[] = "\n__ggml_vocab_test__\n";
	char gguf[512], out[520], why[160];
	char *texts, *wants, *p, *q, *w;
	struct hearth_model *m;
	size_t n, k;
	int fd, count = 0;

	snprintf(gguf, sizeof(gguf), "%.*s", (int)(strlen(inp) - 4), inp);
	snprintf(out, sizeof(out), "%s.out", gguf);
	ck_assert_msg(!model_parse_path(gguf, MODEL_VOCAB_ONLY, &fd, NULL, NULL,
					why),
		      "%s: %s", gguf, why);
	ck_assert_int_eq(model_new_fd(&m, fd, why), 0);
	texts = read_all(inp, &n);
	wants = w = read_all(out, &k);
	ck_assert(texts && wants);
	if (m->im.h->vocab_kind == IMAGE_VOCAB_OTHER) {
		printf("not supported: %s\n", gguf);
		goto done;
	}
	for (p = texts; p; p = q ? q + strlen(mark) : NULL) {
		q = memmem(p, (size_t)(texts + n - p), mark, strlen(mark));
		check_text(m, gguf, p, (size_t)((q ? q : texts + n) - p), w);
		w = strchr(w, '\n');
		w = w ? w + 1 : wants + k;
		count++;
	}
done:
	hearth_model_close(&m);
	free(texts);
	free(wants);
	return count;
}

START_TEST(data)
{
	int texts = 0, files = 0, n;
	glob_t g;
	size_t i;

	if (glob(DATA "*.inp", 0, NULL, &g)) {
		printf("skipped: no data in " DATA "\n");
		return;
	}
	for (i = 0; i < g.gl_pathc; i++) {
		n = published(g.gl_pathv[i]);
		texts += n;
		files += n > 0;
	}
	printf("published: %d texts of %d vocabularies equal\n", texts, files);
	ck_assert_int_gt(files, 0);
	globfree(&g);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tokenizer");
	TCase *t = tcase_create("own"), *d = tcase_create("data");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_set_timeout(d, 120);
	tcase_add_test(t, bpe_words);
	tcase_add_test(t, bpe_specials);
	tcase_add_test(t, spm_words);
	tcase_add_test(t, flags);
	tcase_add_test(t, unknown_kinds);
	tcase_add_test(t, bpe_reference);
	tcase_add_test(t, spm_reference);
	tcase_add_test(t, round_trip);
	tcase_add_test(t, stream_edges);
	tcase_add_test(t, megabytes);
	tcase_add_test(t, rules);
	tcase_add_test(t, rule_words);
	tcase_add_test(d, data);
	suite_add_tcase(s, t);
	suite_add_tcase(s, d);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
