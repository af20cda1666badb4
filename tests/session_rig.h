/* SPDX-License-Identifier: MIT */
/*
 * session_rig.h - two clients of one engine: what the tests of sessions share.
 *
 * The first does what a test is about; the other one is only ever well served.
 */
#ifndef HEARTH_TESTS_SESSION_RIG_H
#define HEARTH_TESTS_SESSION_RIG_H

#include <check.h>
#include <math.h>

#include "../daemon/session.h"
#include "rig.h"

#define N_VOCAB 1000
#define N_CTX	512
#define N_SLOTS 4
#define ARENA	65536
#define C_DATA	65536

static struct rig rig;
static struct rig_client *const client = &rig.clients[0];
static struct rig_client *const other = &rig.clients[1];
static const uint32_t prompt[] = { 5, 6, 7, 8 };

static inline void setup(void)
{
	rig_init(&rig);
	ck_assert_int_eq(rig_start(&rig), 0);
	ck_assert_int_eq(rig_model(&rig, 0, N_VOCAB, 16, N_CTX, 0), 0);
	ck_assert_int_eq(rig_client(&rig, 0, 1000, N_SLOTS, 16, C_DATA, ARENA),
			 0);
	ck_assert_int_eq(rig_client(&rig, 1, 1001, N_SLOTS, 16, C_DATA, ARENA),
			 0);
}

static inline void teardown(void)
{
	rig_stop(&rig);
	ck_assert_int_eq(rig.n_live, 0);
}

static inline void drive(void)
{
	ck_assert_int_ge(rig_drive(&rig, 10000), 0);
}

/* The only completion there is. */
static inline struct ring_cqe only(struct rig_client *c)
{
	struct ring_cqe e, more;

	ck_assert(rig_reap(c, &e));
	ck_assert(!rig_reap(c, &more));
	return e;
}

/* The completion of a request: progress before it does not matter. */
static inline struct ring_cqe final(struct rig_client *c)
{
	struct ring_cqe e;

	do
		ck_assert(rig_reap(c, &e));
	while (e.event == RING_EV_PROGRESS);
	return e;
}

/* The other client is served as if nothing had happened. */
static inline void other_is_well(void)
{
	struct ring_cqe e;

	rig_run_prompt(other, 0, 0, prompt, 4, 10);
	drive();
	e = final(other);
	ck_assert_int_eq(e.event, RING_EV_DONE);
	ck_assert_int_eq(e.err, 0);
	ck_assert(rig_right(&rig, other, 0, prompt, 4));
	ck_assert(!other->bad);
	rig_submit(other, RING_OP_RELEASE, 0, other->gen, 0, 0);
	drive();
	ck_assert(rig_quiet(&rig));
}

/* A record with every array, all of it right. */
static inline struct ring_run *full_record(uint32_t *len)
{
	struct ring_run *run = rig_record(client, 0, prompt, 4, 8);
	unsigned char *p = (unsigned char *)run;
	const uint32_t stop[] = { 11, 12 }, at[] = { 0, 3 };
	const struct ring_token done[] = { { 21, 0 }, { 22, -1.5f } };
	const struct ring_bias bias[] = { { 1, 0.5f }, { 2, -INFINITY } };
	uint32_t off = run->prompt_off + 16;

	run->n_bias = run->n_stop = run->n_logits = run->n_done = 2;
	run->bias_off = off;
	memcpy(p + off, bias, sizeof(bias));
	run->stop_off = off += sizeof(bias);
	memcpy(p + off, stop, sizeof(stop));
	run->logits_off = off += sizeof(stop);
	memcpy(p + off, at, sizeof(at));
	run->done_off = off += sizeof(at);
	memcpy(p + off, done, sizeof(done));
	*len = off + (uint32_t)sizeof(done);
	return run;
}

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

static inline int run_suite(Suite *s)
{
	SRunner *sr = srunner_create(s);
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}

#endif
