/* SPDX-License-Identifier: MIT */
/*
 * unicode.h - UTF-8 that may be broken, and classes of characters.
 *
 * What is not UTF-8 is taken byte by byte, each standing for U+FFFD, so that
 * every byte string has exactly one reading and nothing is lost.
 */
#ifndef HEARTH_UNICODE_H
#define HEARTH_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNI_BAD 0xfffdu

/* Classes: general categories by their first letter, letters by case. */
#define UC_LU 0x001u /* upper and title case */
#define UC_LL 0x002u /* lower case */
#define UC_LO 0x004u /* other letters and modifiers, but ... */
#define UC_LH 0x200u /* ... Han */
#define UC_L  0x207u
#define UC_N  0x008u
#define UC_P  0x010u
#define UC_S  0x020u
#define UC_M  0x040u
#define UC_WS 0x080u /* White_Space */
#define UC_C  0x100u /* control, format, unassigned, private */

/**
 * utf8_get() - decode one character
 * @p:  first byte
 * @e:  end of the text, > @p
 * @cp: the code point, UNI_BAD for a byte that is no UTF-8
 *
 * Return: bytes taken, 1..4.
 */
unsigned utf8_get(const uint8_t *p, const uint8_t *e, uint32_t *cp);

/* Is the byte (or sequence) at @p valid UTF-8? Bytes taken, 0 if not. */
unsigned utf8_valid(const uint8_t *p, const uint8_t *e);

/* Bytes at the end of [p, p + n) that begin a character but do not end it. */
size_t utf8_open_tail(const uint8_t *p, size_t n);

/* Encode; returns the bytes written, 1..4. */
unsigned utf8_put(uint8_t *out, uint32_t cp);

/* Class of a code point: exactly one category, maybe UC_WS besides. */
unsigned uni_class(uint32_t cp);

uint32_t uni_upper(uint32_t cp);
uint32_t uni_lower(uint32_t cp);
uint32_t uni_title(uint32_t cp);

#endif
