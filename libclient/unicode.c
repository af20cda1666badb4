/* SPDX-License-Identifier: MIT */
/*
 * unicode.c - UTF-8 that may be broken, and classes of characters.
 */
#include <utf8proc.h>

#include "unicode.h"

unsigned utf8_valid(const uint8_t *p, const uint8_t *e)
{
	size_t n = (size_t)(e - p);
	uint8_t c = p[0];

	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4 || n < 2 || (p[1] & 0xc0) != 0x80)
		return 0;
	if (c < 0xe0)
		return 2;
	if (n < 3 || (p[2] & 0xc0) != 0x80)
		return 0;
	if (c < 0xf0) {
		/* overlong, or half a surrogate pair */
		if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f))
			return 0;
		return 3;
	}
	if (n < 4 || (p[3] & 0xc0) != 0x80)
		return 0;
	if ((c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f))
		return 0;
	return 4;
}

unsigned utf8_get(const uint8_t *p, const uint8_t *e, uint32_t *cp)
{
	unsigned n = utf8_valid(p, e);

	switch (n) {
	case 1:
		*cp = p[0];
		return 1;
	case 2:
		*cp = (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
		return 2;
	case 3:
		*cp = (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 |
		      (p[2] & 0x3fu);
		return 3;
	case 4:
		*cp = (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 |
		      (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
		return 4;
	default:
		*cp = UNI_BAD;
		return 1;
	}
}

/* Could [p, e), shorter than a character, grow into a valid one? */
static bool can_grow(const uint8_t *p, const uint8_t *e)
{
	uint8_t c = p[0];
	size_t n = (size_t)(e - p), need, i;

	if (c < 0xc2 || c > 0xf4)
		return false;
	need = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (n >= need)
		return false;
	for (i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return false;
	if (n < 2)
		return true;
	return !((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) ||
		 (c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f));
}

size_t utf8_open_tail(const uint8_t *p, size_t n)
{
	size_t k;

	for (k = 1; k <= 3 && k <= n; k++)
		if (can_grow(p + n - k, p + n))
			return k;
	return 0;
}

unsigned utf8_put(uint8_t *out, uint32_t cp)
{
	if (cp < 0x80) {
		out[0] = (uint8_t)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (uint8_t)(0xc0 | cp >> 6);
		out[1] = (uint8_t)(0x80 | (cp & 0x3f));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (uint8_t)(0xe0 | cp >> 12);
		out[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
		out[2] = (uint8_t)(0x80 | (cp & 0x3f));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | cp >> 18);
	out[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3f));
	out[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3f));
	out[3] = (uint8_t)(0x80 | (cp & 0x3f));
	return 4;
}

/* ASCII, where nearly all text is; everything else asks utf8proc. */
static const uint16_t ascii[128] = {
	[0 ... 8] = UC_C,      [9 ... 13] = UC_C | UC_WS,
	[14 ... 31] = UC_C,    [' '] = UC_WS,
	['!' ... '#'] = UC_P,  ['$'] = UC_S,
	['%' ... '*'] = UC_P,  ['+'] = UC_S,
	[',' ... '/'] = UC_P,  ['0' ... '9'] = UC_N,
	[':' ... ';'] = UC_P,  ['<' ... '>'] = UC_S,
	['?' ... '@'] = UC_P,  ['A' ... 'Z'] = UC_LU,
	['[' ... ']'] = UC_P,  ['^'] = UC_S,
	['_'] = UC_P,	       ['`'] = UC_S,
	['a' ... 'z'] = UC_LL, ['{'] = UC_P,
	['|'] = UC_S,	       ['}'] = UC_P,
	['~'] = UC_S,	       [127] = UC_C,
};

static bool is_space(uint32_t cp)
{
	return cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
	       (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
	       cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

static unsigned uni_category(uint32_t cp)
{
	static const uint16_t cat[] = {
		[UTF8PROC_CATEGORY_CN] = UC_C,	[UTF8PROC_CATEGORY_LU] = UC_LU,
		[UTF8PROC_CATEGORY_LL] = UC_LL, [UTF8PROC_CATEGORY_LT] = UC_LU,
		[UTF8PROC_CATEGORY_LM] = UC_LO, [UTF8PROC_CATEGORY_LO] = UC_LO,
		[UTF8PROC_CATEGORY_MN] = UC_M,	[UTF8PROC_CATEGORY_MC] = UC_M,
		[UTF8PROC_CATEGORY_ME] = UC_M,	[UTF8PROC_CATEGORY_ND] = UC_N,
		[UTF8PROC_CATEGORY_NL] = UC_N,	[UTF8PROC_CATEGORY_NO] = UC_N,
		[UTF8PROC_CATEGORY_PC] = UC_P,	[UTF8PROC_CATEGORY_PD] = UC_P,
		[UTF8PROC_CATEGORY_PS] = UC_P,	[UTF8PROC_CATEGORY_PE] = UC_P,
		[UTF8PROC_CATEGORY_PI] = UC_P,	[UTF8PROC_CATEGORY_PF] = UC_P,
		[UTF8PROC_CATEGORY_PO] = UC_P,	[UTF8PROC_CATEGORY_SM] = UC_S,
		[UTF8PROC_CATEGORY_SC] = UC_S,	[UTF8PROC_CATEGORY_SK] = UC_S,
		[UTF8PROC_CATEGORY_SO] = UC_S,	[UTF8PROC_CATEGORY_ZS] = 0,
		[UTF8PROC_CATEGORY_ZL] = 0,	[UTF8PROC_CATEGORY_ZP] = 0,
		[UTF8PROC_CATEGORY_CC] = UC_C,	[UTF8PROC_CATEGORY_CF] = UC_C,
		[UTF8PROC_CATEGORY_CS] = UC_C,	[UTF8PROC_CATEGORY_CO] = UC_C,
	};
	unsigned c;

	if (cp < 128)
		return ascii[cp];
	c = (unsigned)utf8proc_category((utf8proc_int32_t)cp);
	c = c < sizeof(cat) / sizeof(cat[0]) ? cat[c] : UC_C;
	return is_space(cp) ? c | UC_WS : c;
}

/* Ideographs proper, without the marks that the script also has. */
static bool is_han(uint32_t cp)
{
	return (cp >= 0x3400 && cp <= 0x4dbf) ||
	       (cp >= 0x4e00 && cp <= 0x9fff) ||
	       (cp >= 0xf900 && cp <= 0xfaff) ||
	       (cp >= 0x20000 && cp <= 0x2a6df) ||
	       (cp >= 0x2a700 && cp <= 0x2ebef) ||
	       (cp >= 0x2f800 && cp <= 0x2fa1f);
}

unsigned uni_class(uint32_t cp)
{
	unsigned c = uni_category(cp);

	return c == UC_LO && cp >= 0x3400 && is_han(cp) ? UC_LH : c;
}

uint32_t uni_upper(uint32_t cp)
{
	return (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
}

uint32_t uni_lower(uint32_t cp)
{
	return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

uint32_t uni_title(uint32_t cp)
{
	return (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp);
}
