/* SPDX-License-Identifier: MIT */
/* upload.c - host memory registered with the driver, and copied to the device. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../log.h"
#include "device.h"

#define GIB ((double)(1 << 30))

/* ---------------------------------------------------------- registration */

static uint64_t piece_at(const struct cu_host *h, uint64_t off)
{
	uint64_t n = h->bytes - off;

	return n < CU_REGISTER_PIECE ? n : CU_REGISTER_PIECE;
}

/* Pieces from where it stands, until one fails. */
static int register_all(struct cu_dev *d, struct cu_host *h, unsigned int flags)
{
	while (h->registered < h->bytes) {
		uint64_t n = piece_at(h, h->registered);
		/* The driver's prototype has no const; it does not write. */
		void *p = (void *)(uintptr_t)(h->base + h->registered);
		int rc =
			CU(d, cuMemHostRegister(p, n, flags | CU_HOST_PORTABLE),
			   "registering %s memory at %.1f GiB of %.1f",
			   flags & CU_HOST_READ_ONLY ? "read-only" : "writable",
			   (double)h->registered / GIB, (double)h->bytes / GIB);

		if (rc)
			return rc;
		h->registered += n;
		backend_beat(&d->conf);
	}
	return 0;
}

static void say(const struct cu_dev *d, const struct cu_host *h,
		const char *what, const char *why, double s)
{
	const char *how = h->pinned_read_only ? "read-only" : "writable";

	if (h->registered == h->bytes && !*why)
		log_info("cuda: %s: %.2f GiB registered %s in %.2f s", what,
			 (double)h->bytes / GIB, how, s);
	else if (h->registered == h->bytes)
		log_info("cuda: %s: %.2f GiB registered %s in %.2f s (%s)",
			 what, (double)h->bytes / GIB, how, s, why);
	else
		log_info("cuda: %s: %.2f GiB of %.2f go through buffers (%s)",
			 what, (double)(h->bytes - h->registered) / GIB,
			 (double)h->bytes / GIB,
			 d->registers ? why : "the device registers nothing");
}

int cu_host_open(struct cu_dev *d, struct cu_host *h, const char *what,
		 const void *base, uint64_t bytes, bool read_only)
{
	struct timespec t0;
	struct timespec t1;
	char why[CU_WHY] = "";
	int rc = -EOPNOTSUPP;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	*h = (struct cu_host){ .base = base, .bytes = bytes };
	if (read_only && d->registers && !d->read_only)
		snprintf(why, sizeof(why),
			 "the device registers none that is read-only");
	if (read_only && d->read_only) {
		rc = register_all(d, h, CU_HOST_READ_ONLY);
		h->pinned_read_only = h->registered;
	}
	if (rc && !d->lost && !h->registered && d->registers) {
		if (read_only && d->read_only)
			snprintf(why, sizeof(why), "%s", d->why);
		rc = register_all(d, h, 0);
	}
	if (d->lost) {
		cu_host_close(d, h);
		return -EIO;
	}
	/* What cannot be registered can be copied. */
	if (rc && d->registers)
		snprintf(why, sizeof(why), "%s", d->why);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	say(d, h, what, why,
	    (double)(t1.tv_sec - t0.tv_sec) +
		    (double)(t1.tv_nsec - t0.tv_nsec) / 1e9);
	return 0;
}

void cu_host_close(struct cu_dev *d, struct cu_host *h)
{
	uint64_t off;

	for (off = 0; off < h->registered; off += CU_REGISTER_PIECE)
		CU_DROP(d, cuMemHostUnregister(
				   (void *)(uintptr_t)(h->base + off)));
	memset(h, 0, sizeof(*h));
}

/* --------------------------------------------------------------- uploads */

/*
 * Pieces end at multiples of CU_UPLOAD_PIECE of the host memory, so that none crosses
 * from one registration into another: the driver would refuse it.
 */
static uint64_t piece_end(const struct cu_upload *u, uint64_t from)
{
	uint64_t at = u->off + from;
	uint64_t end = (at / CU_UPLOAD_PIECE + 1) * CU_UPLOAD_PIECE - u->off;

	return end < u->bytes ? end : u->bytes;
}

static bool by_itself(const struct cu_upload *u, uint64_t end)
{
	return u->off + end <= u->host->registered;
}

static int have_buffers(struct cu_upload *u)
{
	uint64_t at;
	int rc = 0;
	int i;

	for (i = 0; i < 2 && !rc; i++)
		if (!u->buffer[i])
			rc = cu_pinned_new(u->d, CU_UPLOAD_PIECE, &u->buffer[i],
					   &at);
	return rc;
}

/* Where the next piece is copied from: what is there, or a buffer with it. */
static int source(struct cu_upload *u, uint64_t end, const void **src)
{
	uint64_t n = end - u->queued;
	uint32_t i = u->n_events;
	int rc;

	*src = u->host->base + u->off + u->queued;
	if (by_itself(u, end))
		return 0;
	rc = have_buffers(u);
	/* The piece before the last was in this buffer. */
	if (!rc && i >= 2)
		rc = cu_wait(u->d, u->event[i - 2], "waiting for a copy");
	if (rc)
		return rc;
	memcpy(u->buffer[i & 1], *src, n);
	*src = u->buffer[i & 1];
	backend_beat(&u->d->conf);
	return 0;
}

static int queue_piece(struct cu_upload *u)
{
	uint64_t end = piece_end(u, u->queued);
	struct cu_dev *d = u->d;
	struct cu_event *e;
	const void *src;
	int rc;

	rc = source(u, end, &src);
	if (!rc)
		rc = CU(d,
			cuMemcpyHtoDAsync(u->dst + u->queued, src,
					  end - u->queued, d->copy),
			"uploading at %.2f GiB", (double)u->queued / GIB);
	if (!rc)
		rc = cu_event_new(d, &e, false);
	if (rc)
		return rc;
	u->event[u->n_events++] = e;
	u->queued = end;
	return CU(d, cuEventRecord(e, d->copy), "uploading");
}

static int queue_until(struct cu_upload *u, uint64_t upto)
{
	int rc = 0;

	while (!rc && u->queued < upto)
		rc = queue_piece(u);
	return rc;
}

int cu_upload_start(struct cu_upload *u, struct cu_dev *d, uint64_t dst,
		    const struct cu_host *h, uint64_t off, uint64_t bytes)
{
	uint64_t alone = 0;
	int rc;

	*u = (struct cu_upload){
		.d = d,
		.host = h,
		.dst = dst,
		.off = off,
		.bytes = bytes,
		.n_max = (uint32_t)(bytes / CU_UPLOAD_PIECE + 2),
	};
	if (off > h->bytes || bytes > h->bytes - off)
		return cu_fail(d, -EINVAL,
			       "cuda: an upload of what is not "
			       "there");
	u->event = calloc(u->n_max, sizeof(*u->event));
	if (!u->event)
		return cu_fail(d, -ENOMEM, "cuda: no memory for an upload");
	if (h->registered > off)
		alone = h->registered - off;
	rc = queue_until(u, alone < bytes
				    ? alone / CU_UPLOAD_PIECE * CU_UPLOAD_PIECE
				    : bytes);
	if (rc)
		cu_upload_drop(u);
	return rc;
}

/* The event of the piece that has byte @at. */
static struct cu_event *event_of(const struct cu_upload *u, uint64_t at)
{
	return u->event[(u->off + at) / CU_UPLOAD_PIECE -
			u->off / CU_UPLOAD_PIECE];
}

int cu_upload_order(struct cu_upload *u, uint64_t upto, struct cu_stream *s)
{
	int rc;

	if (upto > u->bytes)
		upto = u->bytes;
	if (!upto)
		return 0;
	rc = queue_until(u, upto);
	if (rc)
		return rc;
	return CU(u->d, cuStreamWaitEvent(s, event_of(u, upto - 1), 0),
		  "waiting for an upload");
}

int cu_upload_end(struct cu_upload *u)
{
	uint32_t i;
	int rc;

	rc = queue_until(u, u->bytes);
	for (i = 0; !rc && i < u->n_events; i++) {
		rc = cu_wait(u->d, u->event[i], "waiting for an upload");
		if (rc)
			break;
		u->done = piece_end(u, u->done);
		backend_beat(&u->d->conf);
	}
	cu_upload_drop(u);
	return rc;
}

void cu_upload_drop(struct cu_upload *u)
{
	struct cu_dev *d = u->d;
	uint32_t i;
	int k;

	/* A copy that is still to come would read memory that is gone. */
	if (u->done < u->queued)
		CU_DROP(d, cuStreamSynchronize(d->copy));
	for (i = 0; i < u->n_events; i++)
		cu_event_free(d, &u->event[i]);
	free(u->event);
	u->event = NULL;
	u->n_events = 0;
	for (k = 0; k < 2; k++) {
		cu_pinned_free(d, u->buffer[k], CU_UPLOAD_PIECE);
		u->buffer[k] = NULL;
	}
}

/* Memory of the caller's is his again when no copy is under way. What cannot be
 * waited for, at a second try either, is lost. */
static int wait_copy(struct cu_dev *d, const char *doing, uint64_t bytes)
{
	int rc = CU(d, cuStreamSynchronize(d->copy), "%s %llu bytes", doing,
		    (unsigned long long)bytes);

	if (rc && !d->lost)
		d->lost = d->drv.cuStreamSynchronize(d->copy);
	return rc;
}

int cu_put(struct cu_dev *d, uint64_t dst, const void *src, uint64_t bytes)
{
	int rc = CU(d, cuMemcpyHtoDAsync(dst, src, bytes, d->copy),
		    "putting %llu bytes", (unsigned long long)bytes);

	return rc ? rc : wait_copy(d, "putting", bytes);
}

int cu_get(struct cu_dev *d, void *dst, uint64_t src, uint64_t bytes)
{
	int rc = CU(d, cuMemcpyDtoHAsync(dst, src, bytes, d->copy),
		    "getting %llu bytes", (unsigned long long)bytes);

	return rc ? rc : wait_copy(d, "getting", bytes);
}
