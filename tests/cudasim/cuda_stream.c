/* SPDX-License-Identifier: MIT */
/* cuda_stream.c - streams and events: what comes after what. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define WAIT_GEQ 0u

struct op *op_new(enum op_kind kind)
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op)
		abort();
	op->kind = kind;
	return op;
}

void op_free(struct op *op)
{
	free(op->blob);
	free(op);
}

void vc_join(uint32_t *to, const uint32_t *from)
{
	int i;

	for (i = 0; i < DEV_SLOTS; i++)
		if (to[i] < from[i])
			to[i] = from[i];
}

bool vc_reached(const uint32_t *vc)
{
	int i;

	for (i = 0; i < DEV_SLOTS; i++)
		if (dev.done[i] < vc[i])
			return false;
	return true;
}

struct cu_stream *stream_new(bool nonblocking)
{
	struct cu_stream *s;
	int i;

	for (i = 0; i < DEV_SLOTS && dev.stream[i]; i++)
		;
	s = i < DEV_SLOTS ? calloc(1, sizeof(*s)) : NULL;
	if (!s)
		return NULL;
	s->slot = i;
	s->nonblocking = nonblocking;
	dev.stream[i] = s;
	return s;
}

void stream_free(struct cu_stream *s)
{
	dev.stream[s->slot] = NULL;
	free(s);
}

/* 0, legacy and per-thread handles are the default stream. */
struct cu_stream *stream_of(struct cu_stream *s)
{
	return (uintptr_t)s <= 2 ? dev.stream[0] : s;
}

int stream_push(struct cu_stream *s, struct op *op)
{
	int i;

	s = stream_of(s);
	if (s->capture)
		return graph_capture(s, op);
	vc_join(s->vc, dev.host);
	/* The default stream and the blocking ones wait for each other. */
	if (s->slot && !s->nonblocking)
		vc_join(s->vc, dev.stream[0]->vc);
	for (i = 1; i < DEV_SLOTS && !s->slot; i++)
		if (dev.stream[i] && !dev.stream[i]->nonblocking)
			vc_join(s->vc, dev.stream[i]->vc);
	memcpy(op->need, s->vc, sizeof(op->need));
	op->slot = s->slot;
	op->seq = ++dev.seq[s->slot];
	op->need[s->slot] = op->seq - 1;
	s->vc[s->slot] = op->seq;
	if (s->tail)
		s->tail->next = op;
	else
		s->head = op;
	s->tail = op;
	pthread_cond_signal(&dev.work);
	return 0;
}

static int wait_for(const uint32_t *vc)
{
	while (!dev.sticky && !vc_reached(vc))
		pthread_cond_wait(&dev.done_cond, &dev.lock);
	if (!dev.sticky)
		vc_join(dev.host, vc);
	return dev.sticky;
}

int stream_wait(struct cu_stream *s)
{
	uint32_t vc[DEV_SLOTS];

	if (s->capture)
		return CU_CAPTURE_UNSUPPORTED;
	memcpy(vc, s->vc, sizeof(vc));
	return wait_for(vc);
}

int stream_wait_all(void)
{
	int i, rc = 0;

	for (i = 0; i < DEV_SLOTS && !rc; i++)
		if (dev.stream[i])
			rc = stream_wait(dev.stream[i]);
	return rc;
}

int cuStreamCreateWithPriority(struct cu_stream **s, unsigned int flags,
			       int priority)
{
	ENTER(API_CTX);
	(void)priority;
	*s = stream_new(flags & CU_STREAM_NON_BLOCKING);
	dev.made[MADE_STREAM] += *s != NULL;
	return api_leave(*s ? 0 : CU_OUT_OF_RESOURCES);
}

int cuStreamCreate(struct cu_stream **s, unsigned int flags)
{
	return cuStreamCreateWithPriority(s, flags, 0);
}

int cuStreamDestroy_v2(struct cu_stream *s)
{
	ENTER(API_CTX);
	if (stream_of(s) != s)
		return api_leave(CU_INVALID_HANDLE);
	graph_drop(s);
	rc = stream_wait(s);
	if (!rc) {
		stream_free(s);
		dev.made[MADE_STREAM]--;
	}
	return api_leave(rc);
}

int cuStreamSynchronize(struct cu_stream *s)
{
	ENTER(API_CTX);
	return api_leave(stream_wait(stream_of(s)));
}

/* Who learns that it is done has waited for it. */
static int query(const uint32_t *vc)
{
	if (!vc_reached(vc))
		return CU_NOT_READY;
	vc_join(dev.host, vc);
	return 0;
}

int cuStreamQuery(struct cu_stream *s)
{
	ENTER(API_CTX);
	s = stream_of(s);
	return api_leave(s->capture ? CU_CAPTURE_UNSUPPORTED : query(s->vc));
}

int cuStreamWaitEvent(struct cu_stream *s, struct cu_event *e,
		      unsigned int flags)
{
	ENTER(API_CTX);
	(void)flags;
	s = stream_of(s);
	if (e->capture || s->capture)
		return api_leave(graph_joins(s, e) ? 0
						   : CU_CAPTURE_INVALIDATED);
	vc_join(s->vc, e->vc);
	return api_leave(0);
}

int cuStreamWriteValue32_v2(struct cu_stream *s, uint64_t at, uint32_t v,
			    unsigned int flags)
{
	struct op *op;

	ENTER(API_CTX);
	if (flags || !mem_find(at, 4) || at & 3)
		return api_leave(CU_INVALID_VALUE);
	op = op_new(OP_WRITE_VALUE);
	op->to = at;
	op->value = v;
	return api_leave(stream_push(s, op));
}

int cuStreamWaitValue32_v2(struct cu_stream *s, uint64_t at, uint32_t v,
			   unsigned int flags)
{
	struct op *op;

	ENTER(API_CTX);
	if (flags != WAIT_GEQ || !mem_find(at, 4) || at & 3)
		return api_leave(CU_INVALID_VALUE);
	op = op_new(OP_WAIT_VALUE);
	op->from = at;
	op->value = v;
	return api_leave(stream_push(s, op));
}

int cuLaunchHostFunc(struct cu_stream *s, void (*fn)(void *), void *arg)
{
	struct op *op;

	ENTER(API_CTX);
	op = op_new(OP_CALL);
	op->call = fn;
	op->arg = arg;
	return api_leave(stream_push(s, op));
}

/* --------------------------------------------------------------- events */

int cuEventCreate(struct cu_event **e, unsigned int flags)
{
	ENTER(API_CTX);
	(void)flags;
	*e = calloc(1, sizeof(**e));
	dev.made[MADE_EVENT] += *e != NULL;
	return api_leave(*e ? 0 : CU_OUT_OF_MEMORY);
}

int cuEventDestroy_v2(struct cu_event *e)
{
	int i;

	ENTER(API_CTX);
	if (!e)
		return api_leave(CU_INVALID_HANDLE);
	/* A stamp that is still to come has nowhere to go. */
	for (i = 0; i < DEV_SLOTS; i++) {
		struct op *op = dev.stream[i] ? dev.stream[i]->head : NULL;

		for (; op; op = op->next)
			if (op->event == e)
				op->event = NULL;
	}
	free(e);
	dev.made[MADE_EVENT]--;
	return api_leave(0);
}

int cuEventRecord(struct cu_event *e, struct cu_stream *s)
{
	struct op *op;

	ENTER(API_CTX);
	s = stream_of(s);
	op = op_new(OP_STAMP);
	op->event = e;
	rc = stream_push(s, op);
	if (!rc && !s->capture) {
		memcpy(e->vc, s->vc, sizeof(e->vc));
		e->recorded = true;
		e->capture = NULL;
	}
	return api_leave(rc);
}

int cuEventSynchronize(struct cu_event *e)
{
	uint32_t vc[DEV_SLOTS];

	ENTER(API_CTX);
	memcpy(vc, e->vc, sizeof(vc));
	return api_leave(e->capture ? CU_CAPTURE_UNSUPPORTED : wait_for(vc));
}

int cuEventQuery(struct cu_event *e)
{
	ENTER(API_CTX);
	return api_leave(e->capture ? CU_CAPTURE_UNSUPPORTED : query(e->vc));
}

int cuEventElapsedTime_v2(float *ms, struct cu_event *from, struct cu_event *to)
{
	ENTER(API_CTX);
	if (!from->recorded || !to->recorded)
		return api_leave(CU_INVALID_HANDLE);
	if (!vc_reached(from->vc) || !vc_reached(to->vc))
		return api_leave(CU_NOT_READY);
	*ms = (float)((double)(to->stamp_ns - from->stamp_ns) / 1e6);
	return api_leave(0);
}
