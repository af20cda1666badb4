/* SPDX-License-Identifier: MIT */
/*
 * pretok_match.c - the patterns of pre-tokenizers, each a matcher by hand.
 *
 * The comment above each matcher is the regular expression it stands for.
 */
#include <string.h>

#include "pretok_match.h"
#include "unicode.h"

/* Class of the character at @p and where the next one begins; at the end of
 * the piece the class is 0 and *next is @p. */
static unsigned at(const uint8_t *p, const uint8_t *e, const uint8_t **next)
{
	uint32_t cp;

	if (p >= e) {
		*next = p;
		return 0;
	}
	*next = p + utf8_get(p, e, &cp);
	return uni_class(cp);
}

static unsigned class_at(const uint8_t *p, const uint8_t *e)
{
	const uint8_t *next;

	return at(p, e, &next);
}

/* Class of the character that ends at @p, 0 at the start of the piece. */
static unsigned class_before(const uint8_t *b, const uint8_t *p)
{
	const uint8_t *q;
	uint32_t cp;
	int k;

	for (k = 1; k <= 4 && p - b >= k; k++) {
		q = p - k;
		if (utf8_valid(q, p) == (unsigned)k) {
			utf8_get(q, p, &cp);
			return uni_class(cp);
		}
	}
	return p > b ? uni_class(UNI_BAD) : 0;
}

static const uint8_t *skip_class(const uint8_t *p, const uint8_t *e,
				 unsigned mask)
{
	const uint8_t *q;

	while (at(p, e, &q) & mask)
		p = q;
	return p;
}

/* Past characters of none of the classes in @mask. */
static const uint8_t *skip_not(const uint8_t *p, const uint8_t *e,
			       unsigned mask)
{
	const uint8_t *q;

	while (p < e && !(at(p, e, &q) & mask))
		p = q;
	return p;
}

static bool is_nl(const uint8_t *p, const uint8_t *e)
{
	return p < e && (*p == '\r' || *p == '\n');
}

static const uint8_t *skip_nl(const uint8_t *p, const uint8_t *e)
{
	while (is_nl(p, e))
		p++;
	return p;
}

/* ' ?' */
static const uint8_t *opt_space(const uint8_t *p, const uint8_t *e)
{
	return p < e && *p == ' ' ? p + 1 : p;
}

static const uint8_t *some(const uint8_t *from, const uint8_t *to)
{
	return to > from ? to : NULL;
}

struct range {
	uint32_t lo;
	uint32_t hi;
};

static bool in_ranges(const struct range *r, uint32_t cp)
{
	for (; r->hi; r++)
		if (cp >= r->lo && cp <= r->hi)
			return true;
	return false;
}

static const uint8_t *skip_ranges(const struct range *r, const uint8_t *p,
				  const uint8_t *e)
{
	uint32_t cp;
	unsigned n;

	while (p < e) {
		n = utf8_get(p, e, &cp);
		if (!in_ranges(r, cp))
			break;
		p += n;
	}
	return p;
}

#define MATCHER(name)                                                \
	const uint8_t *pm_##name(const uint8_t *b, const uint8_t *p, \
				 const uint8_t *e)
#define UNUSED(x) ((void)(x))

/* ---------------------------------------------------------- contractions */

static const uint8_t *contraction(const uint8_t *p, const uint8_t *e, int fold)
{
	uint8_t c, d;

	if (e - p < 2 || *p != '\'')
		return NULL;
	c = (uint8_t)(p[1] | (p[1] >= 'A' && p[1] <= 'Z' ? fold : 0));
	if (c == 's' || c == 't' || c == 'm' || c == 'd')
		return p + 2;
	if (e - p < 3)
		return NULL;
	d = (uint8_t)(p[2] | (p[2] >= 'A' && p[2] <= 'Z' ? fold : 0));
	if ((c == 'r' && d == 'e') || (c == 'v' && d == 'e') ||
	    (c == 'l' && d == 'l'))
		return p + 3;
	return NULL;
}

/* 's|'t|'re|'ve|'m|'ll|'d */
MATCHER(contr)
{
	UNUSED(b);
	return contraction(p, e, 0);
}

/* the same, case folded */
MATCHER(contr_i)
{
	UNUSED(b);
	return contraction(p, e, 0x20);
}

/* --------------------------------------------------------------- letters */

/*  ?\p{L}+ */
MATCHER(sp_l)
{
	const uint8_t *q = opt_space(p, e);

	UNUSED(b);
	return some(q, skip_class(q, e, UC_L));
}

/* \s?\p{X}+ */
static const uint8_t *ws_some(const uint8_t *p, const uint8_t *e, unsigned mask)
{
	const uint8_t *q, *r;

	if (at(p, e, &q) & UC_WS) {
		r = some(q, skip_class(q, e, mask));
		if (r)
			return r;
	}
	return some(p, skip_class(p, e, mask));
}

MATCHER(ws_l)
{
	UNUSED(b);
	return ws_some(p, e, UC_L);
}

MATCHER(ws_cased)
{
	UNUSED(b);
	return ws_some(p, e, UC_LU | UC_LL);
}

MATCHER(ws_p)
{
	UNUSED(b);
	return ws_some(p, e, UC_P);
}

/* [^\r\n<mask>]?<run>+ */
static const uint8_t *lead_run(const uint8_t *p, const uint8_t *e,
			       unsigned not_lead, unsigned run)
{
	const uint8_t *q, *r;

	if (p < e && !is_nl(p, e) && !(at(p, e, &q) & not_lead)) {
		r = some(q, skip_class(q, e, run));
		if (r)
			return r;
	}
	return some(p, skip_class(p, e, run));
}

/* [^\r\n\p{L}\p{N}]?\p{L}+ */
MATCHER(lead_l)
{
	UNUSED(b);
	return lead_run(p, e, UC_L | UC_N, UC_L);
}

/* [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+ */
MATCHER(lead_lm)
{
	UNUSED(b);
	return lead_run(p, e, UC_L | UC_N, UC_L | UC_M);
}

/* [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+ */
MATCHER(leadps_lm)
{
	UNUSED(b);
	return lead_run(p, e, UC_L | UC_P | UC_S, UC_L | UC_M);
}

/* [^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+ */
MATCHER(lead_words)
{
	const uint8_t *q, *r;

	UNUSED(b);
	q = p;
	if (p < e && !is_nl(p, e) && !(at(p, e, &r) & (UC_L | UC_N)))
		q = r;
	if (!(class_at(q, e) & UC_L))
		return NULL;
	for (;;) {
		/* after a letter marks follow, and one space before a letter */
		q = skip_class(q, e, UC_L);
		q = skip_class(q, e, UC_M);
		if (class_at(q, e) & UC_L)
			continue;
		r = opt_space(q, e);
		if (r == q || !(class_at(r, e) & UC_L))
			return q;
		q = r;
	}
}

/* [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+ */
MATCHER(ascii_p_az)
{
	const uint8_t *q;

	UNUSED(b);
	if (p >= e || *p >= 128 || !(uni_class(*p) & (UC_P | UC_S)))
		return NULL;
	for (q = p + 1; q < e && *q < 128 && (uni_class(*q) & UC_L); q++)
		;
	return some(p + 1, q);
}

/* U*W+ from @p, greedy with what giving back would find: where the run of
 * upper case is followed by nothing lower, the match ends after the last
 * character that counts as both. */
static const uint8_t *upper_lower(const uint8_t *p, const uint8_t *e,
				  unsigned both)
{
	const uint8_t *q, *end = NULL;
	unsigned c;

	while ((c = at(p, e, &q)) & (UC_LU | both)) {
		if (c & both)
			end = q;
		p = q;
	}
	return c & UC_LL ? skip_class(p, e, UC_LL | both) : end;
}

/* U+W* from @p */
static const uint8_t *upper_some(const uint8_t *p, const uint8_t *e,
				 unsigned both)
{
	const uint8_t *q = skip_class(p, e, UC_LU | both);

	return q > p ? skip_class(q, e, UC_LL | both) : NULL;
}

/* L?U*W+|L?U+W* with U = \p{Lu}, \p{Lt} and @both, W = \p{Ll} and @both,
 * L = [^\r\n\p{L}\p{N}] */
static const uint8_t *cased(const uint8_t *p, const uint8_t *e, unsigned both)
{
	const uint8_t *q, *r = NULL;
	bool lead = p < e && !is_nl(p, e) && !(at(p, e, &q) & (UC_L | UC_N));

	if (lead)
		r = upper_lower(q, e, both);
	if (!r)
		r = upper_lower(p, e, both);
	if (!r && lead)
		r = upper_some(q, e, both);
	return r ? r : upper_some(p, e, both);
}

/* L?U*W+|L?U+W* with U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}],
 * W = [\p{Ll}\p{Lm}\p{Lo}\p{M}] and L = [^\r\n\p{L}\p{N}] */
MATCHER(camel)
{
	UNUSED(b);
	return cased(p, e, UC_LO | UC_LH | UC_M);
}

/* the same with a contraction */
MATCHER(camel_contr)
{
	const uint8_t *q = pm_camel(b, p, e), *r;

	if (!q)
		return NULL;
	r = contraction(q, e, 0x20);
	return r ? r : q;
}

/* --------------------------------------------------------------- numbers */

/*  ?\p{N}+ */
MATCHER(sp_n)
{
	const uint8_t *q = opt_space(p, e);

	UNUSED(b);
	return some(q, skip_class(q, e, UC_N));
}

/* \p{N} */
MATCHER(n1)
{
	const uint8_t *q;

	UNUSED(b);
	return at(p, e, &q) & UC_N ? q : NULL;
}

/* \p{N}{1,3} */
MATCHER(n3)
{
	const uint8_t *q = p, *next;
	int i;

	UNUSED(b);
	for (i = 0; i < 3 && (at(q, e, &next) & UC_N); i++)
		q = next;
	return some(p, q);
}

/* \p{N}+ */
MATCHER(nn)
{
	UNUSED(b);
	return some(p, skip_class(p, e, UC_N));
}

/* [0-9][0-9][0-9] */
MATCHER(d3)
{
	UNUSED(b);
	if (e - p < 3 || p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9' ||
	    p[2] < '0' || p[2] > '9')
		return NULL;
	return p + 3;
}

/* \d{1,3}(?=(?:\d{3})*\b): groups of three from the right. The first group of
 * a run takes the odd digits, so after a digit three are always there. */
MATCHER(n3_right)
{
	const uint8_t *q = p, *next;
	size_t n = 0, k;

	if (class_before(b, p) & UC_N) {
		n = 3;
	} else {
		for (; at(q, e, &next) & UC_N; q = next)
			n++;
		n = n ? (n - 1) % 3 + 1 : 0;
	}
	for (q = p, k = 0; k < n && (at(q, e, &next) & UC_N); k++)
		q = next;
	return some(p, q);
}

/* ------------------------------------------------- punctuation and others */

static const uint8_t *sp_none(const uint8_t *p, const uint8_t *e, unsigned mask)
{
	const uint8_t *q = opt_space(p, e);

	return some(q, skip_not(q, e, mask));
}

/*  ?[^\s\p{L}\p{N}]+ */
MATCHER(sp_o)
{
	UNUSED(b);
	return sp_none(p, e, UC_WS | UC_L | UC_N);
}

/*  ?[^\s\p{L}\p{N}]+[\r\n]* */
MATCHER(sp_o_nl)
{
	const uint8_t *q = sp_none(p, e, UC_WS | UC_L | UC_N);

	UNUSED(b);
	return q ? skip_nl(q, e) : NULL;
}

/*  ?[^\s\p{L}\p{M}\p{N}]+[\r\n]* */
MATCHER(sp_om_nl)
{
	const uint8_t *q = sp_none(p, e, UC_WS | UC_L | UC_M | UC_N);

	UNUSED(b);
	return q ? skip_nl(q, e) : NULL;
}

/*  ?[^\s\p{L}\p{N}]+[\r\n/]* */
MATCHER(sp_o_nls)
{
	const uint8_t *q = sp_none(p, e, UC_WS | UC_L | UC_N);

	UNUSED(b);
	while (q && q < e && (is_nl(q, e) || *q == '/'))
		q++;
	return q;
}

/*  ?[^\s\p{L}\p{N}]+[\r\n/]? */
MATCHER(sp_o_nls1)
{
	const uint8_t *q = sp_none(p, e, UC_WS | UC_L | UC_N);

	UNUSED(b);
	return q && q < e && (is_nl(q, e) || *q == '/') ? q + 1 : q;
}

/*  ?[\p{P}\p{S}]+ */
MATCHER(sp_ps)
{
	const uint8_t *q = opt_space(p, e);

	UNUSED(b);
	return some(q, skip_class(q, e, UC_P | UC_S));
}

/*  ?[\p{P}\p{S}]+[\r\n]* */
MATCHER(sp_ps_nl)
{
	const uint8_t *q = pm_sp_ps(b, p, e);

	return q ? skip_nl(q, e) : NULL;
}

static const uint8_t *punct_run(const uint8_t *p, const uint8_t *e,
				const char *more)
{
	const uint8_t *q = p, *next;

	while (q < e && ((at(q, e, &next) & UC_P) ||
			 (*q && *q < 128 && strchr(more, *q))))
		q = next;
	return some(p, q);
}

/* [\p{P}\$\+<=>\^~\|]+ */
MATCHER(punct)
{
	UNUSED(b);
	return punct_run(p, e, "$+<=>^~|");
}

/* [\p{P}\$\+<=>\^~\|`]+ */
MATCHER(punct_tick)
{
	UNUSED(b);
	return punct_run(p, e, "$+<=>^~|`");
}

/* [\p{P}!-/:-@\[-`{-~] */
MATCHER(punct1)
{
	const uint8_t *q;
	unsigned c = at(p, e, &q);

	UNUSED(b);
	return (c & UC_P) || (p < e && *p < 128 && (c & UC_S)) ? q : NULL;
}

/* \s?[!-/:-~！-／：-～‘-‟　-。]+ */
MATCHER(ws_marks)
{
	static const struct range r[] = {
		{ '!', '/' },	    { ':', '~' },	{ 0xff01, 0xff0f },
		{ 0xff1a, 0xff5e }, { 0x2018, 0x201f }, { 0x3000, 0x3002 },
		{ 0, 0 },
	};
	const uint8_t *q, *m;

	UNUSED(b);
	if (at(p, e, &q) & UC_WS) {
		m = some(q, skip_ranges(r, q, e));
		if (m)
			return m;
	}
	return some(p, skip_ranges(r, p, e));
}

/*  ?[^(\s|.,!?…。，、।۔،)]+ */
MATCHER(sp_word)
{
	static const struct range r[] = {
		{ '(', ')' },	    { '|', '|' },	{ '.', '.' },
		{ ',', ',' },	    { '!', '!' },	{ '?', '?' },
		{ 0x2026, 0x2026 }, { 0x3001, 0x3002 }, { 0xff0c, 0xff0c },
		{ 0x0964, 0x0964 }, { 0x06d4, 0x06d4 }, { 0x060c, 0x060c },
		{ 0, 0 },
	};
	const uint8_t *q = opt_space(p, e), *from = q;
	uint32_t cp;
	unsigned n;

	UNUSED(b);
	while (q < e) {
		n = utf8_get(q, e, &cp);
		if (in_ranges(r, cp) || (uni_class(cp) & UC_WS))
			break;
		q += n;
	}
	return some(from, q);
}

/* ------------------------------------------------------------ whitespace */

/* \s*[\r\n]+ : to the last line end of the run. After other whitespace this
 * was tried before and there is no line end: looking again at each of a
 * million blanks would take for ever. */
MATCHER(ws_nl)
{
	const uint8_t *q = p, *next, *last = NULL;

	if (p > b && !is_nl(p - 1, p) && (class_before(b, p) & UC_WS))
		return NULL;
	while (at(q, e, &next) & UC_WS) {
		if (is_nl(q, e))
			last = next;
		q = next;
	}
	return last;
}

/* \s+(?!\S) : all, but one if something follows */
MATCHER(ws_tail)
{
	const uint8_t *q = p, *next, *last = p;

	UNUSED(b);
	while (at(q, e, &next) & UC_WS) {
		last = q;
		q = next;
	}
	return q < e ? some(p, last) : some(p, q);
}

/* \s+ */
MATCHER(ws)
{
	UNUSED(b);
	return some(p, skip_class(p, e, UC_WS));
}

/* \s+$ : begins where the run begins, or nowhere */
MATCHER(ws_end)
{
	const uint8_t *q;

	if (class_before(b, p) & UC_WS)
		return NULL;
	q = skip_class(p, e, UC_WS);
	return q == e ? some(p, q) : NULL;
}

/* \s{512}(?!\S)|\s{256}(?!\S)|...|\s{1,2}(?!\S)|\s{1} */
MATCHER(ws_powers)
{
	static const unsigned sizes[] = { 512, 256, 128, 64, 32, 16, 8, 4, 2 };
	const uint8_t *q = p, *next, *end[10];
	unsigned n = 0, i;

	UNUSED(b);
	memset(end, 0, sizeof(end));
	/* one more than the longest tells whether something follows it */
	while (n <= 512 && (at(q, e, &next) & UC_WS)) {
		q = next;
		n++;
		for (i = 0; i < 9; i++)
			if (n == sizes[i])
				end[i] = q;
	}
	if (!n)
		return NULL;
	for (i = 0; i < 9; i++)
		if (n > sizes[i] || (n == sizes[i] && q == e))
			return end[i];
	at(p, e, &next);
	return next;
}

/* [\r\n] */
MATCHER(nl1)
{
	UNUSED(b);
	return is_nl(p, e) ? p + 1 : NULL;
}

/* [^\n]+|[\n]+ */
MATCHER(lines)
{
	const uint8_t *q = p;

	UNUSED(b);
	if (p >= e)
		return NULL;
	if (*p == '\n') {
		while (q < e && *q == '\n')
			q++;
		return q;
	}
	q = memchr(p, '\n', (size_t)(e - p));
	return q ? q : e;
}

/* \S+ */
MATCHER(non_ws)
{
	UNUSED(b);
	return some(p, skip_not(p, e, UC_WS));
}

/* --------------------------------------------------------------- scripts */

/* [一-龥぀-ゟ゠-ヿ]+ */
MATCHER(cjk_kana)
{
	static const struct range r[] = { { 0x4e00, 0x9fa5 },
					  { 0x3040, 0x30ff },
					  { 0, 0 } };

	UNUSED(b);
	return some(p, skip_ranges(r, p, e));
}

/* [一-龥ࠀ-一가-퟿]+ */
MATCHER(cjk_wide)
{
	static const struct range r[] = { { 0x0800, 0x9fa5 },
					  { 0xac00, 0xd7ff },
					  { 0, 0 } };

	UNUSED(b);
	return some(p, skip_ranges(r, p, e));
}

/* CJK and the scripts of Asia that write without spaces */
MATCHER(asia)
{
	static const struct range r[] = {
		{ 0x4e00, 0x9fff }, { 0x3400, 0x4dbf }, { 0xf900, 0xfaff },
		{ 0x3040, 0x30ff }, { 0xff65, 0xff9f }, { 0x2f00, 0x2fdf },
		{ 0x0e40, 0x0e7f }, { 0x0e80, 0x0eff }, { 0x1780, 0x17ff },
		{ 0x1000, 0x109f }, { 0xaa60, 0xaa7f }, { 0xa9e0, 0xa9ff },
		{ 0xac00, 0xd7af }, { 0x1100, 0x11ff }, { 0, 0 },
	};

	UNUSED(b);
	return some(p, skip_ranges(r, p, e));
}

/* [\p{Han}]+ */
MATCHER(han)
{
	UNUSED(b);
	return some(p, skip_class(p, e, UC_LH));
}

/* camel_contr whose letters are not Han */
MATCHER(camel_no_han)
{
	const uint8_t *q = cased(p, e, UC_LO | UC_M), *r;

	UNUSED(b);
	r = q ? contraction(q, e, 0x20) : NULL;
	return r ? r : q;
}

/* [가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+ */
MATCHER(asia_groups)
{
	static const struct range hangul[] = { { 0xac00, 0xd7a3 },
					       { 0x3131, 0x318e },
					       { 0, 0 } };
	static const struct range marks[] = {
		{ 0xff01, 0xff01 }, { 0x2026, 0x2026 }, { 0x201c, 0x201d },
		{ 0x2018, 0x2019 }, { 0x2014, 0x2014 }, { 0xff1a, 0xff1b },
		{ 0xff0c, 0xff0c }, { 0x3001, 0x303f }, { 0xfe30, 0xfe4f },
		{ 0, 0 },
	};
	static const struct range bopomofo[] = { { 0x3105, 0x312f }, { 0, 0 } };
	const uint8_t *q;

	q = some(p, skip_ranges(hangul, p, e));
	if (!q)
		q = some(p, skip_ranges(marks, p, e));
	if (!q)
		q = some(p, skip_ranges(bopomofo, p, e));
	return q ? q : pm_cjk_kana(b, p, e);
}

/* ------------------------------------------------------------- chameleon */

/* <sentinel:[0-9]+>|IMGIMG[A-I]{1,4}Z */
MATCHER(image_marks)
{
	const uint8_t *q;
	size_t n = (size_t)(e - p);

	UNUSED(b);
	if (n > 10 && !memcmp(p, "<sentinel:", 10)) {
		for (q = p + 10; q < e && *q >= '0' && *q <= '9'; q++)
			;
		if (q > p + 10 && q < e && *q == '>')
			return q + 1;
	}
	if (n > 6 && !memcmp(p, "IMGIMG", 6)) {
		for (q = p + 6; q < e && q < p + 10 && *q >= 'A' && *q <= 'I';
		     q++)
			;
		if (q > p + 6 && q < e && *q == 'Z')
			return q + 1;
	}
	return NULL;
}

/* ([\t\n]|    |  ) */
MATCHER(indents)
{
	size_t n = (size_t)(e - p);

	UNUSED(b);
	if (n && (*p == '\t' || *p == '\n'))
		return p + 1;
	if (n >= 4 && !memcmp(p, "    ", 4))
		return p + 4;
	if (n >= 2 && !memcmp(p, "  ", 2))
		return p + 2;
	return NULL;
}
