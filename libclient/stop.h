/* SPDX-License-Identifier: MIT */
/*
 * stop.h - texts that end an answer, matched across tokens.
 *
 * The answer ends with the first byte that completes a stop text; of several
 * that end there the one that began first counts. That is a property of the
 * bytes alone, so how they were split into tokens makes no difference. Text
 * that may still become a stop text is held back.
 */
#ifndef HEARTH_STOP_H
#define HEARTH_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STOP_MAX       64   /* texts in a request */
#define STOP_MAX_BYTES 4096 /* bytes of one */

/**
 * struct stop - matcher of one request
 * @n:      stop texts; 0 holds nothing back
 * @text:   their bytes one after the other
 * @len:    their lengths
 * @held:   bytes that begin a stop text, not given out yet
 */
struct stop {
	uint32_t n;
	uint32_t max_len;
	uint32_t n_held;
	char *text;
	uint32_t *len;
	char *held;
};

/* Return 0, -EINVAL (an empty or too long text, too many), or -ENOMEM. */
int stop_init(struct stop *s, const char *const *text, size_t n);
void stop_fini(struct stop *s);

/**
 * stop_feed() - more text of the answer
 * @buf: in: @n new bytes, with room for stop_room() more; out: what may be
 *       given out, after what was held back
 * @hit: a stop text is complete; the bytes returned are the end of the answer
 *
 * Return: bytes in @buf.
 */
size_t stop_feed(struct stop *s, char *buf, size_t n, bool *hit);

/* Bytes that stop_feed() may put before new text. */
size_t stop_room(const struct stop *s);

/* End of the answer: give out what is held. Return: bytes in @buf. */
size_t stop_flush(struct stop *s, char *buf);

#endif
