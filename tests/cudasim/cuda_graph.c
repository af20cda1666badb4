/* SPDX-License-Identifier: MIT */
/*
 * cuda_graph.c - operations captured from streams, to be launched as one.
 *
 * A graph is its operations in the order of capture, each on a branch: the
 * stream it was captured from. To launch one, its branches become streams of
 * the graph's own and the operations are pushed there anew.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define BRANCHES 16

struct node {
	struct op *op;
	int branch;
	int waits; /* OP_WAIT_EVENT: for what was captured up to this node */
};

struct cu_graph {
	struct node *node;
	int n;
	struct cu_stream *origin;
	struct cu_stream *branch[BRANCHES];
	bool joined[BRANCHES]; /* the origin waits for all of it */
	int n_branch;
	bool spoilt;
};

struct cu_exec {
	struct cu_graph *g;
	struct cu_stream *stream[BRANCHES];
};

static void add(struct cu_graph *g, struct op *op, int branch, int waits)
{
	g->node = realloc(g->node, ((size_t)g->n + 1) * sizeof(*g->node));
	if (!g->node)
		abort();
	g->node[g->n++] = (struct node){ op, branch, waits };
}

int graph_capture(struct cu_stream *s, struct op *op)
{
	struct cu_graph *g = s->capture;

	if (op->from_host || op->to_host) {
		/* A graph's copies read what is there when it is launched. */
		op_free(op);
		g->spoilt = true;
		return CU_CAPTURE_UNSUPPORTED;
	}
	if (op->kind == OP_STAMP) {
		op->event->capture = g;
		op->event->node = g->n;
		op->event = NULL;
	}
	if (s->branch)
		g->joined[s->branch] = false;
	add(g, op, s->branch, 0);
	return 0;
}

/* S waits for E, which was recorded in a capture; S may join by it. */
bool graph_joins(struct cu_stream *s, struct cu_event *e)
{
	struct cu_graph *g = e->capture;

	if (!g || (s->capture && s->capture != g)) {
		if (s->capture)
			s->capture->spoilt = true;
		return false;
	}
	if (!s->capture) {
		if (g->n_branch == BRANCHES) {
			g->spoilt = true;
			return false;
		}
		s->capture = g;
		s->branch = g->n_branch;
		g->branch[g->n_branch++] = s;
	}
	if (!s->branch)
		g->joined[g->node[e->node].branch] = true;
	else
		g->joined[s->branch] = false;
	add(g, op_new(OP_WAIT_EVENT), s->branch, e->node);
	return true;
}

int cuStreamBeginCapture_v2(struct cu_stream *s, int mode)
{
	struct cu_graph *g;

	ENTER(API_CTX);
	(void)mode;
	s = stream_of(s);
	if (!s->slot || s->capture)
		return api_leave(CU_CAPTURE_UNSUPPORTED);
	g = calloc(1, sizeof(*g));
	if (!g)
		return api_leave(CU_OUT_OF_MEMORY);
	g->origin = s;
	g->branch[g->n_branch++] = s;
	s->capture = g;
	s->branch = 0;
	return api_leave(0);
}

static void graph_free(struct cu_graph *g)
{
	int i;

	for (i = 0; i < g->n; i++)
		op_free(g->node[i].op);
	free(g->node);
	free(g);
}

void graph_drop(struct cu_stream *s)
{
	struct cu_graph *g = s->capture;
	int i;

	for (i = 0; g && i < g->n_branch; i++)
		g->branch[i]->capture = NULL;
	if (g)
		graph_free(g);
}

int cuStreamEndCapture(struct cu_stream *s, struct cu_graph **out)
{
	struct cu_graph *g;
	int i;

	ENTER(API_CTX);
	s = stream_of(s);
	g = s->capture;
	if (!g || g->origin != s)
		return api_leave(CU_INVALID_VALUE);
	for (i = 0; i < g->n_branch; i++) {
		g->branch[i]->capture = NULL;
		if (i && !g->joined[i])
			rc = CU_CAPTURE_UNJOINED;
	}
	if (g->spoilt)
		rc = CU_CAPTURE_INVALIDATED;
	if (rc)
		graph_free(g);
	*out = rc ? NULL : g;
	dev.made[MADE_GRAPH] += !rc;
	return api_leave(rc);
}

int cuStreamIsCapturing(struct cu_stream *s, int *status)
{
	ENTER(API_CTX);
	*status = stream_of(s)->capture != NULL;
	return api_leave(0);
}

static struct op *op_copy(const struct op *from)
{
	struct op *op = op_new(from->kind);

	*op = *from;
	op->next = NULL;
	if (from->blob) {
		op->blob = malloc(from->blob_n ? from->blob_n : 1);
		if (!op->blob)
			abort();
		memcpy(op->blob, from->blob, from->blob_n);
	}
	return op;
}

int cuGraphInstantiateWithFlags(struct cu_exec **out, struct cu_graph *g,
				uint64_t flags)
{
	struct cu_exec *x;
	int i;

	ENTER(API_CTX);
	(void)flags;
	x = calloc(1, sizeof(*x));
	if (x)
		x->g = calloc(1, sizeof(*x->g));
	if (!x || !x->g)
		return api_leave(CU_OUT_OF_MEMORY);
	for (i = 0; i < g->n; i++)
		add(x->g, op_copy(g->node[i].op), g->node[i].branch,
		    g->node[i].waits);
	x->g->n_branch = g->n_branch;
	for (i = 0; i < g->n_branch && !rc; i++) {
		x->stream[i] = stream_new(true);
		if (!x->stream[i])
			rc = CU_OUT_OF_RESOURCES;
	}
	*out = x;
	dev.made[MADE_EXEC]++;
	return api_leave(rc);
}

int cuGraphGetNodes(struct cu_graph *g, void **nodes, size_t *n)
{
	size_t i, k = 0;

	ENTER(API_CTX);
	for (i = 0; i < (size_t)g->n; i++) {
		enum op_kind kind = g->node[i].op->kind;

		if (kind == OP_STAMP || kind == OP_WAIT_EVENT)
			continue;
		if (nodes && k < *n)
			nodes[k] = g->node[i].op;
		k++;
	}
	*n = nodes && k > *n ? *n : k;
	return api_leave(0);
}

int cuGraphUpload(struct cu_exec *x, struct cu_stream *s)
{
	ENTER(API_CTX);
	(void)x, (void)s;
	return api_leave(0);
}

int cuGraphLaunch(struct cu_exec *x, struct cu_stream *s)
{
	uint32_t(*vc)[DEV_SLOTS];
	int i;

	ENTER(API_CTX);
	s = stream_of(s);
	if (s->capture)
		return api_leave(CU_CAPTURE_UNSUPPORTED);
	/* What each node had come after, for those that wait for it. */
	vc = calloc((size_t)x->g->n + 1, sizeof(*vc));
	if (!vc)
		return api_leave(CU_OUT_OF_MEMORY);
	vc_join(s->vc, dev.host);
	if (!s->nonblocking)
		vc_join(s->vc, dev.stream[0]->vc);
	for (i = 0; i < x->g->n_branch; i++)
		vc_join(x->stream[i]->vc, s->vc);
	for (i = 0; i < x->g->n; i++) {
		const struct node *n = &x->g->node[i];
		struct cu_stream *on = x->stream[n->branch];

		if (n->op->kind == OP_WAIT_EVENT)
			vc_join(on->vc, vc[n->waits]);
		else if (n->op->kind != OP_STAMP)
			stream_push(on, op_copy(n->op));
		memcpy(vc[i], on->vc, sizeof(vc[i]));
	}
	for (i = 0; i < x->g->n_branch; i++)
		vc_join(s->vc, x->stream[i]->vc);
	free(vc);
	return api_leave(0);
}

int cuGraphExecDestroy(struct cu_exec *x)
{
	int i;

	ENTER(API_CTX);
	for (i = 0; i < BRANCHES && !rc; i++) {
		if (!x->stream[i])
			continue;
		rc = stream_wait(x->stream[i]);
		if (!rc)
			stream_free(x->stream[i]);
	}
	graph_free(x->g);
	free(x);
	dev.made[MADE_EXEC]--;
	return api_leave(rc);
}

int cuGraphDestroy(struct cu_graph *g)
{
	ENTER(API_CTX);
	graph_free(g);
	dev.made[MADE_GRAPH]--;
	return api_leave(0);
}
