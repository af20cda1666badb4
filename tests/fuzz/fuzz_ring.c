/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ring.c - a client that writes anything, into rings, records and D's
 * page before a recovery, over the whole engine with the oracle backend.
 *
 * An input is a program: each byte an action with operands from the bytes
 * after it. Beside it an honest client runs one request; it must end right.
 */
#include "../rig.h"

static struct rig rig;
static const unsigned char *in;
static size_t left;

static uint64_t take(unsigned int n)
{
	uint64_t x = 0;

	while (n-- && left) {
		x = x << 8 | *in++;
		left--;
	}
	return x;
}

static uint32_t edge(void)
{
	static const uint32_t v[] = { 0,	  1,	      2,
				      4,	  63,	      64,
				      136,	  0x7fffffff, 0x80000000,
				      0xffffffff, 0x7f800000, 0x7fc00000,
				      0x3f800000, 0xfffffffc };
	uint32_t x = (uint32_t)take(1);

	return x < 14 ? v[x] : x < 128 ? x : (uint32_t)take(4);
}

static void turn(void)
{
	engine_poll(rig.e);
	engine_step(rig.e);
	if (rig.clients[0].bad && !rig.clients[0].gone)
		engine_session_end(rig.e, 1);
}

/* A new engine finds the fuzzed client's D as it now is, and damaged. */
static void die(void)
{
	struct rig_client *c = &rig.clients[0];
	uint32_t n = (uint32_t)take(1) % 8, off, x;
	const uint32_t prompt[] = { 1, 2, 3 };

	rig_sweep(&rig);
	rig.ops.unload(rig.be, rig.bm[0]);
	rig.ops.close(rig.be);
	rig.bm[0] = NULL;
	while (n--) {
		off = (uint32_t)(take(2) % (c->l.d_arena_off / 4));
		x = edge();
		memcpy(c->d + off * 4ull, &x, 4);
	}
	if (rig_start(&rig) || rig_model(&rig, 0, 64, 8, 96, 0))
		abort();
	if (!c->gone && rig_attach(&rig, 0, 1, 1000, PROC_SESSION_RECOVER))
		c->gone = true;
	if (rig_attach(&rig, 1, 2, 1001, 0))
		abort();
	rig.clients[1].sq_tail = rig.clients[1].cq_head = 0;
	memset(rig.clients[1].c, 0, RING_PAGE);
	rig_run_prompt(&rig.clients[1], 0, 0, prompt, 3, 9);
}

static void act(struct rig_client *c)
{
	static const uint32_t prompt[] = { 3, 9, 11, 20, 63 };
	struct ring_run *run;
	struct ring_sqe *e;
	struct ring_cqe cqe;
	uint32_t i, x;

	switch (take(1) % 12) {
	case 0:
		turn();
		break;
	case 1:
		i = (uint32_t)(take(2) % ((c->l.c_bytes - 3) / 4));
		x = edge();
		memcpy(c->c + i * 4ull, &x, 4);
		break;
	case 2:
		e = rig_sqe(c);
		e->op = (uint16_t)edge();
		e->flags = (uint16_t)take(1);
		e->slot = edge();
		e->gen = edge();
		e->len = edge();
		e->off = c->l.c_data_off + edge();
		e->resv[take(1) % 4] = take(1);
		rig_publish(c);
		break;
	case 3:
		i = (uint32_t)take(1) % 4;
		run = rig_record(c, i * 512ull, prompt, 5,
				 (uint32_t)take(1) % 80);
		for (x = (uint32_t)take(1) % 4; x; x--)
			((uint32_t *)run)[take(1) % 60] = edge();
		rig_run(c, i, i * 512ull, 512);
		break;
	case 4:
		rig_submit(c, RING_OP_CANCEL + take(1) % 2,
			   (uint32_t)take(1) % 5, c->gen - take(1) % 4, 0, 0);
		break;
	case 5:
		c->rc->sq_tail = c->sq_tail + (int8_t)take(1);
		break;
	case 6:
		c->rc->cq_head = c->cq_head + (int8_t)take(1);
		break;
	case 7:
		/* The page may be damaged: no more than there could be. */
		for (i = 0; i < 64 && rig_reap(c, &cqe); i++)
			;
		break;
	case 8:
		if (engine_idle(rig.e))
			engine_awake(rig.e);
		break;
	case 9:
		c->rc->client_waiting = edge();
		break;
	case 10:
		rig_publish(c);
		break;
	case 11:
		die();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint32_t prompt[] = { 1, 2, 3 };
	int i;

	in = data;
	left = size;
	rig_init(&rig);
	rig.conf.max_batch = 3;
	rig.conf.step_tokens = 1;
	if (rig_start(&rig) || rig_model(&rig, 0, 64, 8, 96, 0) ||
	    rig_client(&rig, 0, 1000, 4, 16, 2048 + 16, 4096) ||
	    rig_client(&rig, 1, 1001, 2, 4, 1024, 4096))
		abort();
	rig_run_prompt(&rig.clients[1], 0, 0, prompt, 3, 9);
	for (i = 0; left && i < 400; i++)
		act(&rig.clients[0]);
	for (i = 0; i < 3000 && engine_poll(rig.e); i++)
		engine_step(rig.e);
	if (i == 3000 ||
	    rig_slot(&rig.clients[1], 0)->state != RING_SLOT_DONE ||
	    !rig_right(&rig, &rig.clients[1], 0, prompt, 3) ||
	    rig.clients[1].bad || !rig_quiet(&rig))
		abort();
	rig_stop(&rig);
	if (rig.n_live)
		abort();
	return 0;
}
