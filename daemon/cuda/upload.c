/* SPDX-License-Identifier: MIT */
/*
 * upload.c - host memory on its way to the device: registered piece by piece,
 * each copied while the next one is registered; through buffers what cannot be.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../clock.h"
#include "../log.h"
#include "../weights.h"
#include "device.h"

#define GIB  ((double)(1 << 30))
#define PAGE 4096u

/**
 * struct filler - an upload in the making
 * @flags:    that memory is registered with
 * @ends:     no more is
 * @covered:  what is before it, and is no run's, is registered
 * @pinned:   bytes that are; @ns: what that took
 * @why:      of the registration that failed
 * @buffered: bytes that went through buffers
 * @last:     the copy out of each of them, counted from 1
 */
struct filler {
	struct cu_upload *u;
	const struct cu_host *h;
	unsigned int flags;
	bool ends;
	uint64_t covered;
	uint64_t pinned;
	uint64_t ns;
	uint64_t buffered;
	uint32_t n_buffered;
	uint32_t last[2];
	char why[CU_WHY];
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---------------------------------------------------------- registration */

static const char *how(const struct filler *f)
{
	return f->flags & CU_HOST_READ_ONLY ? "read-only" : "writable";
}

static int pin(struct filler *f, uint64_t from, uint64_t bytes)
{
	struct cu_upload *u = f->u;
	/* The driver's prototype has no const; it does not write. */
	void *p = (void *)(uintptr_t)(u->base + from);
	struct cu_pin *v;
	int rc;

	v = realloc(u->pin, (u->n_pins + 1) * sizeof(*v));
	if (!v)
		return cu_fail(u->d, -ENOMEM, "cuda: no memory for an upload");
	u->pin = v;
	rc = CU(u->d, cuMemHostRegister(p, bytes, f->flags | CU_HOST_PORTABLE),
		"registering %s memory at %.1f GiB", how(f),
		(double)from / GIB);
	if (rc)
		return rc;
	u->pin[u->n_pins++] = (struct cu_pin){ p };
	f->covered = from + bytes;
	f->pinned += bytes;
	backend_beat(&u->d->conf);
	return 0;
}

/* Have byte @at of a run that goes to @end registered, with what follows it.
 * What cannot be can be copied: it is a failure only if the device is lost. */
static int cover(struct filler *f, uint64_t at, uint64_t end)
{
	struct cu_dev *d = f->u->d;
	uint64_t from = at / PAGE * PAGE, start = clock_ns(), bytes;
	int rc;

	if (at < f->covered || f->ends)
		return 0;
	/* The page before may be another run's, too. */
	if (from < f->covered)
		from = f->covered;
	bytes = least((end - from + PAGE - 1) / PAGE * PAGE, d->pin_bytes);
	rc = pin(f, from, bytes);
	if (rc && f->flags && !f->pinned && !d->lost) {
		snprintf(f->why, sizeof(f->why), "%s", d->why);
		f->flags = 0;
		rc = pin(f, from, bytes);
	}
	f->ns += clock_ns() - start;
	f->ends = rc;
	if (rc)
		snprintf(f->why, sizeof(f->why), "%s", d->why);
	return d->lost ? rc : 0;
}

static void say(const struct filler *f)
{
	double all = (double)f->u->bytes / GIB, s = (double)f->ns / 1e9;

	if (!f->ends)
		log_info("cuda: %s: %.2f GiB registered %s in %.2f s%s%s%s",
			 f->h->what, all, how(f), s, *f->why ? " (" : "",
			 f->why, *f->why ? ")" : "");
	else
		log_info("cuda: %s: %.2f GiB of %.2f go through buffers (%s)",
			 f->h->what, (double)f->buffered / GIB, all, f->why);
}

/* ---------------------------------------------------------------- copies */

static int have_buffers(struct cu_upload *u)
{
	uint64_t at;
	int rc = 0;
	int i;

	for (i = 0; i < 2 && !rc; i++)
		if (!u->buffer[i])
			rc = cu_pinned_new(u->d, u->d->piece_bytes,
					   &u->buffer[i], &at);
	return rc;
}

/* The next copy, of @n bytes at @src, goes through a buffer. */
static int through_buffer(struct filler *f, const void **src, uint64_t n)
{
	struct cu_upload *u = f->u;
	uint32_t i = f->n_buffered++ & 1;
	int rc = have_buffers(u);

	if (!rc && f->last[i])
		rc = cu_upload_wait(u, u->copy[f->last[i] - 1].end);
	if (rc)
		return rc;
	memcpy(u->buffer[i], *src, n);
	*src = u->buffer[i];
	f->last[i] = u->n_copies;
	f->buffered += n;
	backend_beat(&u->d->conf);
	return 0;
}

static struct cu_copy *copy_new(struct cu_upload *u)
{
	struct cu_copy *v;

	/* At powers of two it is full. */
	if (u->n_copies & (u->n_copies - 1))
		return &u->copy[u->n_copies];
	v = realloc(u->copy, (u->n_copies ? 2 * u->n_copies : 1) * sizeof(*v));
	if (!v)
		return NULL;
	u->copy = v;
	return &v[u->n_copies];
}

/* Copy [@at, @to) of the host memory. */
static int copy(struct filler *f, uint64_t at, uint64_t to)
{
	const void *src = f->h->base + at;
	struct cu_upload *u = f->u;
	struct cu_copy *p = copy_new(u);
	struct cu_dev *d = u->d;
	int rc;

	if (!p)
		return cu_fail(d, -ENOMEM, "cuda: no memory for an upload");
	rc = cu_event_new(d, &p->arrived, false);
	if (rc)
		return rc;
	p->end = u->queued + (to - at);
	u->n_copies++;
	if (at >= f->covered)
		rc = through_buffer(f, &src, to - at);
	if (!rc)
		rc = CU(d,
			cuMemcpyHtoDAsync(u->dst + u->queued, src, to - at,
					  d->copy),
			"uploading at %.2f GiB", (double)u->queued / GIB);
	if (rc)
		return rc;
	u->queued = p->end;
	return CU(d, cuEventRecord(p->arrived, d->copy), "uploading");
}

/* A copy out of two registrations would be refused: each ends with one. */
static int copy_run(struct filler *f, const struct weights_run *r)
{
	uint64_t piece = f->u->d->piece_bytes;
	uint64_t at = r->off, end = r->off + r->bytes, to;
	int rc = 0;

	for (; at < end && !rc; at = to) {
		rc = cover(f, at, end);
		to = least((at / piece + 1) * piece, end);
		if (at < f->covered)
			to = least(to, f->covered);
		if (!rc)
			rc = copy(f, at, to);
	}
	return rc;
}

static void free_buffers(struct cu_upload *u)
{
	int i;

	for (i = 0; i < 2; i++) {
		cu_pinned_free(u->d, u->buffer[i], u->d->piece_bytes);
		u->buffer[i] = NULL;
	}
}

int cu_upload_start(struct cu_upload *u, struct cu_dev *d, uint64_t dst,
		    const struct cu_host *h)
{
	struct filler f = { .u = u, .h = h, .ends = !d->registers };
	const char *cannot = "";
	uint32_t i;
	int rc = 0;

	*u = (struct cu_upload){ .d = d, .base = h->base, .dst = dst };
	for (i = 0; i < h->n_runs; i++)
		u->bytes += h->run[i].bytes;
	if (h->read_only && d->read_only)
		f.flags = CU_HOST_READ_ONLY;
	else if (h->read_only)
		cannot = "the device registers none that is read-only";
	if (!d->registers)
		cannot = "the device registers nothing";
	snprintf(f.why, sizeof(f.why), "%s", cannot);
	for (i = 0; i < h->n_runs && !rc; i++)
		rc = copy_run(&f, &h->run[i]);
	/* Buffers are this thread's. */
	if (!rc && f.n_buffered)
		rc = cu_upload_wait(u, u->bytes);
	if (rc) {
		u->failed = true;
		cu_upload_drop(u);
		return rc;
	}
	free_buffers(u);
	say(&f);
	return 0;
}

/* --------------------------------------------------------------- arrival */

int cu_upload_order(struct cu_upload *u, uint64_t upto, struct cu_stream *s)
{
	uint32_t i = u->n_done;
	int rc;

	upto = least(upto, u->bytes);
	if (upto <= u->ordered || upto <= u->done)
		return 0;
	while (u->copy[i].end < upto)
		i++;
	rc = CU(u->d, cuStreamWaitEvent(s, u->copy[i].arrived, 0),
		"waiting for an upload");
	if (rc)
		return rc;
	u->ordered = u->copy[i].end;
	return 1;
}

static void arrived(struct cu_upload *u)
{
	struct cu_copy *p = &u->copy[u->n_done++];

	u->done = p->end;
	cu_event_free(u->d, &p->arrived);
	backend_beat(&u->d->conf);
}

int cu_upload_poll(struct cu_upload *u)
{
	int result;

	while (u->done < u->queued) {
		result = u->d->drv.cuEventQuery(u->copy[u->n_done].arrived);
		if (result == CU_NOT_READY)
			return 0;
		if (result) {
			u->failed = true;
			return cu_check(u->d, result, "cuEventQuery",
					"looking for an upload");
		}
		arrived(u);
	}
	return 0;
}

int cu_upload_wait(struct cu_upload *u, uint64_t upto)
{
	int rc;

	while (u->done < least(upto, u->queued)) {
		rc = cu_wait(u->d, u->copy[u->n_done].arrived,
			     "waiting for an upload");
		if (rc) {
			u->failed = true;
			return rc;
		}
		arrived(u);
	}
	return 0;
}

bool cu_upload_unpin(struct cu_upload *u)
{
	if (!u->n_pins)
		return false;
	u->n_pins--;
	CU_DROP(u->d, cuMemHostUnregister(u->pin[u->n_pins].p));
	backend_beat(&u->d->conf);
	return true;
}

/* Events tell of each copy, but for those of an upload that failed: one may not
 * be recorded. */
static void wait_all(struct cu_upload *u)
{
	struct cu_dev *d = u->d;
	int result = 0;

	while (!d->lost && !u->failed && u->done < u->queued) {
		u->failed =
			d->drv.cuEventSynchronize(u->copy[u->n_done].arrived);
		if (!u->failed)
			arrived(u);
	}
	if (u->done == u->queued || d->lost)
		return;
	result = d->drv.cuStreamSynchronize(d->copy);
	if (result)
		result = d->drv.cuStreamSynchronize(d->copy);
	if (!result)
		return;
	/* What cannot be waited for is nobody's any more. */
	cu_dropped(d, result, "cuStreamSynchronize");
	d->lost = true;
}

void cu_upload_drop(struct cu_upload *u)
{
	uint32_t i;

	if (!u->base)
		return;
	/* A copy that is still to come would read memory that is gone. */
	wait_all(u);
	for (i = u->n_done; i < u->n_copies; i++)
		cu_event_free(u->d, &u->copy[i].arrived);
	free_buffers(u);
	while (cu_upload_unpin(u))
		;
	free(u->copy);
	free(u->pin);
	memset(u, 0, sizeof(*u));
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
