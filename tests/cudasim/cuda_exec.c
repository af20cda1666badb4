/* SPDX-License-Identifier: MIT */
/*
 * cuda_exec.c - the device's thread: it picks, by the seed, among the
 * operations that may begin and the blocks that are resident, and does a piece.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

bool dev_waited(struct ptx_launch *ln)
{
	const struct op *op = ln->op;

	return dev.done[op->slot] >= op->seq - 1;
}

/* The context is lost: everything that waits is let go. */
void dev_fail(int error)
{
	if (!dev.sticky)
		dev.sticky = error;
	pthread_cond_broadcast(&dev.done_cond);
	pthread_cond_signal(&dev.work);
}

static uint32_t n_blocks(const struct op *op)
{
	return op->grid[0] * op->grid[1] * op->grid[2];
}

static void finish(struct op *op)
{
	struct cu_stream *s = dev.stream[op->slot];

	op->finished = true;
	while (s->head && s->head->finished) {
		struct op *first = s->head;

		s->head = first->next;
		if (!s->head)
			s->tail = NULL;
		dev.done[s->slot] = first->seq;
		op_free(first);
	}
	pthread_cond_broadcast(&dev.done_cond);
}

static void fault(const struct op *op, const char *what, const char *why)
{
	dev_note("%s in stream %d: %s", what, op->slot, why);
	dev_fail(CU_ILLEGAL_ADDRESS);
}

static void copy(struct op *op)
{
	const char *why = NULL;

	if (!op->from_host)
		why = mem_touch(op, op->from, op->n, false, true);
	if (!why && !op->to_host)
		why = mem_touch(op, op->to, op->n, true, true);
	if (why)
		fault(op, "a copy", why);
	else
		memmove((void *)(uintptr_t)op->to,
			(const void *)(uintptr_t)op->from, op->n);
}

static void set(struct op *op)
{
	const char *why = mem_touch(op, op->to, op->n, true, true);
	size_t i;

	if (why) {
		fault(op, "a memset", why);
		return;
	}
	for (i = 0; i < op->n; i += (size_t)op->unit)
		memcpy((uint8_t *)(uintptr_t)op->to + i, &op->value,
		       (size_t)op->unit);
}

static void start_kernel(struct op *op)
{
	op->ln = (struct ptx_launch){
		.k = op->func->k,
		.dyn = op->dyn,
		.param = op->blob,
		.seed = dev.seed * 1000003u + op->seq,
		.pdl = op->pdl,
		.op = op,
	};
	memcpy(op->ln.grid, op->grid, sizeof(op->grid));
	memcpy(op->ln.block, op->block, sizeof(op->block));
	dev.run[dev.n_run++] = op;
	dev.progress_ns = dev_ns();
}

/* Do OP, or a kernel's beginning. */
static void exec_op(struct op *op)
{
	switch (op->kind) {
	case OP_KERNEL:
		start_kernel(op);
		return;
	case OP_COPY:
		copy(op);
		break;
	case OP_SET:
		set(op);
		break;
	case OP_STAMP:
		if (op->event)
			op->event->stamp_ns = dev_ns();
		break;
	case OP_WRITE_VALUE:
		__atomic_store_n((uint32_t *)(uintptr_t)op->to, op->value,
				 __ATOMIC_RELEASE);
		break;
	case OP_CALL:
		/* It may not call the driver, but it may take its time. */
		pthread_mutex_unlock(&dev.lock);
		op->call(op->arg);
		pthread_mutex_lock(&dev.lock);
		break;
	default:
		break;
	}
	if (!dev.sticky)
		finish(op);
}

static bool is_running(const struct op *op)
{
	int i;

	for (i = 0; i < dev.n_run; i++)
		if (dev.run[i] == op)
			return true;
	return false;
}

static bool value_there(const struct op *op)
{
	uint32_t v = __atomic_load_n((const uint32_t *)(uintptr_t)op->from,
				     __ATOMIC_ACQUIRE);

	return (int32_t)(v - op->value) >= 0;
}

static bool others_reached(const struct op *op)
{
	int i;

	for (i = 0; i < DEV_SLOTS; i++)
		if (i != op->slot && dev.done[i] < op->need[i])
			return false;
	return true;
}

/* The operation of S that may begin now, if any. */
static struct op *ready(struct cu_stream *s, bool *poll)
{
	struct op *op = s->head;

	if (op && is_running(op)) {
		/* Its successor may, if all its blocks have let it. */
		if (!op->next || !op->next->pdl || is_running(op->next) ||
		    op->finished || op->ln.triggered < (int)n_blocks(op))
			return NULL;
		op = op->next;
		if (!others_reached(op))
			return NULL;
	} else if (!op || !vc_reached(op->need)) {
		return NULL;
	}
	if (op->kind == OP_KERNEL && dev.n_run == DEV_RUNNING)
		return NULL;
	if (op->kind == OP_COPY && dev_holds() && mem_is_registered(op->from))
		return NULL;
	if (op->kind == OP_WAIT_VALUE && !value_there(op)) {
		*poll = true;
		return NULL;
	}
	return op;
}

static void fill_residents(void)
{
	int i;

	for (i = 0; i < dev.n_run; i++) {
		struct op *op = dev.run[i];

		while (dev.n_block < dev.n_sm &&
		       op->next_block < n_blocks(op)) {
			struct resident *r = &dev.block[dev.n_block++];

			r->op = op;
			r->b = ptx_block_new(&op->ln, op->next_block++);
		}
	}
}

static void end_kernel(struct op *op)
{
	int i;

	for (i = 0; dev.run[i] != op; i++)
		;
	dev.run[i] = dev.run[--dev.n_run];
	finish(op);
}

static void drop_blocks(void)
{
	while (dev.n_block)
		ptx_block_free(dev.block[--dev.n_block].b);
	dev.n_run = 0;
}

static void kernel_fault(struct op *op)
{
	dev_note("%s", op->ln.text);
	dev_fail(op->ln.error);
	drop_blocks();
}

/* Nobody stores, arrives or returns for so long: they wait for each other. */
static void watch(struct op *op)
{
	uint64_t now = dev_ns();

	if ((double)(now - dev.progress_ns) < dev.watchdog_s * 1e9)
		return;
	op->ln.error = CU_TIMEOUT;
	snprintf(op->ln.text, sizeof(op->ln.text),
		 "kernel %s: no progress for %.1f s; %u of its %u blocks have "
		 "begun, %u are done, %d fit at a time%s",
		 op->func->k->name, dev.watchdog_s, op->next_block,
		 n_blocks(op), op->done_blocks, dev.n_sm,
		 op->next_block < n_blocks(op)
			 ? ": they wait for blocks that are not resident"
			 : "");
	kernel_fault(op);
}

static bool run_block(int i)
{
	struct resident *r = &dev.block[i];
	struct op *op = r->op;
	uint64_t before = op->ln.progress;
	enum ptx_state state = ptx_block_run(r->b);

	if (state == PTX_FAULT) {
		kernel_fault(op);
		return true;
	}
	if (op->ln.progress != before || state == PTX_DONE)
		dev.progress_ns = dev_ns();
	if (state == PTX_DONE) {
		ptx_block_free(r->b);
		*r = dev.block[--dev.n_block];
		if (++op->done_blocks == n_blocks(op))
			end_kernel(op);
		return true;
	}
	if (op->ln.progress == before)
		watch(op);
	return state == PTX_RAN;
}

/* Something was done, or 1: wait a little, or -1: wait for work. */
static int step(void)
{
	struct op *can[DEV_SLOTS];
	int n = 0, i;
	bool poll = false;

	for (i = 0; i < DEV_SLOTS; i++) {
		can[n] = dev.stream[i] ? ready(dev.stream[i], &poll) : NULL;
		n += can[n] != NULL;
	}
	fill_residents();
	if (!n && !dev.n_block)
		return poll ? 1 : -1;
	i = (int)(dev_random() % (uint64_t)(n + dev.n_block));
	if (i < n) {
		exec_op(can[i]);
		return 0;
	}
	return run_block(i - n) ? 0 : 1;
}

static void *device_main(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&dev.lock);
	for (;;) {
		int rc;

		if (dev.sticky && dev.n_block)
			drop_blocks();
		rc = dev.sticky ? -1 : step();
		if (rc < 0) {
			pthread_cond_wait(&dev.work, &dev.lock);
			continue;
		}
		pthread_mutex_unlock(&dev.lock);
		if (rc)
			usleep(20);
		while (__atomic_load_n(&dev.waiting, __ATOMIC_SEQ_CST))
			sched_yield();
		pthread_mutex_lock(&dev.lock);
	}
	return NULL;
}

void dev_start(void)
{
	pthread_t t;

	if (!stream_new(false) || pthread_create(&t, NULL, device_main, NULL))
		abort();
	pthread_detach(t);
}
