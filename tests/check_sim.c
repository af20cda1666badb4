/* SPDX-License-Identifier: MIT */
/*
 * check_sim.c - a deterministic simulator: one seed is one history.
 *
 * Clients, some of them hostile, some slow, submit, cancel, release, close and
 * sleep at random; KV memory is short; models go and come; the engine dies in
 * the middle of things, before any single store into D, and while it takes
 * over from another that died, and the next one goes on; some tokens crash it.
 * Every token, embedding and row of logits is checked against the oracle, every
 * request must end exactly once, nobody may sleep through work, and in the end
 * nothing is in use.
 *
 *   check_sim [--seeds N] [--seed S]
 */
#include <signal.h>
#include <unistd.h>

#include "sim_check.h"
#include "trap.h"

/* -------------------------------------------------------- the clients */

static void publish(struct client *c, struct rig_client *rc)
{
	(void)c;
	rig_publish(rc);
	if (rc->rd->daemon_waiting)
		sim.kicked = true;
}

static bool sq_room(const struct rig_client *rc)
{
	return rc->sq_tail - rc->rd->sq_head < rc->l.sq_entries;
}

static void random_request(struct run *r)
{
	struct ring_run *q = &r->run;
	uint32_t m, n_vocab, i, k;

	memset(r, 0, sizeof(*r));
	m = rnd(sim.n_models);
	n_vocab = sim.n_vocab[m];
	q->model = m + 1;
	q->key = rig_rand(&sim.rand);
	q->seed = rig_rand(&sim.rand);
	q->n_prompt = 1 + rnd(rnd(3) ? 40 : MAX_PROMPT);
	q->max_tokens = rnd(4) ? rnd(40) : rnd(200);
	if (!rnd(20))
		q->max_tokens = RING_MAX_TOKENS_CTX;
	q->top_p = q->repeat_penalty = 1;
	for (i = 0; i < q->n_prompt; i++)
		r->prompt[i] = rnd(n_vocab);
	if (!rnd(3)) {
		q->temperature = 0.1f * (float)rnd(20);
		q->top_p = rnd(2) ? 1 : 0.01f * (float)(1 + rnd(100));
		q->top_k = rnd(2) ? 0 : rnd(20);
		q->min_p = rnd(2) ? 0 : 0.01f * (float)rnd(50);
	}
	if (!rnd(5)) {
		q->repeat_penalty = 1.3f;
		q->frequency_penalty = 0.3f;
		q->penalty_last = rnd(100);
	}
	if (!rnd(5)) {
		q->flags |= RING_RUN_LOGPROBS;
		q->n_top_logprobs = rnd(6);
	}
	if (!rnd(4))
		q->flags |= RING_RUN_IGNORE_EOS;
	if (!rnd(8))
		q->flags |= RING_RUN_GREEDY;
	if (!rnd(6))
		q->flags |= rnd(2) ? RING_RUN_EMBED_LAST : RING_RUN_EMBED_MEAN;
	if (!rnd(6))
		q->n_bias = 1 + rnd(4);
	for (i = 0; i < q->n_bias; i++) {
		r->bias[i].token = rnd(n_vocab);
		r->bias[i].bias = rnd(2) ? -INFINITY : 3;
	}
	if (!rnd(6))
		q->n_stop = 1 + rnd(4);
	for (i = 0; i < q->n_stop; i++)
		r->stop[i] = rnd(n_vocab);
	if (!rnd(6))
		q->n_logits = 1 + rnd(4);
	for (i = 0, k = 0; i < q->n_logits; i++) {
		k += rnd(q->n_prompt);
		if (k >= q->n_prompt)
			break;
		r->logits[i] = k++;
	}
	q->n_logits = i;
	r->max = q->max_tokens;
	if (r->max == RING_MAX_TOKENS_CTX)
		r->max = sim.n_ctx[m] - q->n_prompt;
	if (!rnd(6) && !q->n_top_logprobs && q->n_prompt < sim.n_ctx[m])
		make_done(r, 1 + rnd(MAX_DONE));
}

static uint32_t put(unsigned char *rec, uint32_t *at, const void *p, size_t n)
{
	uint32_t off = *at;

	memcpy(rec + off, p, n);
	*at += (uint32_t)n;
	return off;
}

static void submit(struct client *c, struct rig_client *rc, uint32_t slot)
{
	struct run *r = &c->runs[slot];
	uint64_t off = (uint64_t)slot * SLOT_BYTES;
	unsigned char *rec = rc->c + rc->l.c_data_off + off;
	uint32_t len = sizeof(r->run);

	random_request(r);
	r->run.prompt_off = put(rec, &len, r->prompt, r->run.n_prompt * 4);
	r->run.bias_off = put(rec, &len, r->bias, r->run.n_bias * 8);
	r->run.stop_off = put(rec, &len, r->stop, r->run.n_stop * 4);
	r->run.logits_off = put(rec, &len, r->logits, r->run.n_logits * 4);
	r->run.done_off = put(rec, &len, r->done, r->run.n_done * 8);
	memcpy(rec, &r->run, sizeof(r->run));
	r->state = SENT;
	r->gen = ++rc->gen;
	rig_submit(rc, RING_OP_RUN, slot, r->gen, rc->l.c_data_off + off, len);
	if (rc->rd->daemon_waiting)
		sim.kicked = true;
}

static void reap(struct client *c, struct rig_client *rc, uint32_t max)
{
	const struct ring_slot *s;
	bool full = rc->rd->cq_tail - rc->cq_head > rc->l.cq_entries / 2;
	struct ring_cqe e;
	struct run *r;

	while (max-- && rig_reap(rc, &e)) {
		if (e.event == RING_EV_NOP) {
			CHECK(e.arg == c->nop_seen, "answer to NOP");
			c->nop_seen++;
			c->n_nops--;
			continue;
		}
		if (e.event == RING_EV_MODEL) {
			sim.lost_models = true;
			continue;
		}
		CHECK(e.slot < c->n_slots, "slot of an event");
		r = &c->runs[e.slot];
		s = rig_slot(rc, e.slot);
		if (r->state == FREE || r->gen != e.gen) {
			/* Released before its end was read, or known. */
			CHECK(e.gen <= rc->gen, "event %u of nobody", e.event);
			continue;
		}
		if (e.event == RING_EV_REFUSED) {
			check_refusal(r, &e);
			continue;
		}
		CHECK(r->state == SENT, "an event after the end");
		if (e.event == RING_EV_DONE) {
			check_end(rc, r, s, &e);
			continue;
		}
		CHECK(e.event == RING_EV_PROGRESS, "event %u", e.event);
		CHECK(s->n_out >= r->n_out, "tokens went away");
		r->n_out = s->n_out;
	}
	/* It may have kept the engine from answering. */
	if (full)
		sim.kicked = true;
}

/* Rubbish, everywhere the client can write. */
static void be_hostile(struct client *c, struct rig_client *rc)
{
	struct ring_sqe *e;
	uint32_t i, n;
	uint64_t x;

	switch (rnd(8)) {
	case 0:
		n = rnd(64);
		for (i = 0; i < n; i++)
			rc->c[rc->l.c_data_off +
			      rnd((uint32_t)(rc->l.c_bytes - rc->l.c_data_off))] =
				(unsigned char)rnd(256);
		break;
	case 1:
		e = rig_sqe(rc);
		for (i = 0; i < 8; i++) {
			x = rig_rand(&sim.rand);
			memcpy((char *)e + 8 * i, &x, 8);
		}
		e->op %= RING_OP_N + 1;
		e->flags = 0;
		if (rnd(2))
			memset(e->resv, 0, sizeof(e->resv));
		publish(c, rc);
		break;
	case 2:
		rig_submit(rc, rnd(4), rnd(c->n_slots + 1), rnd(20),
			   rnd((uint32_t)rc->l.c_bytes) & ~63u, rnd(4096));
		break;
	case 3:
		if (!rnd(20))
			rc->rc->sq_tail = (uint32_t)rig_rand(&sim.rand);
		break;
	case 4:
		if (!rnd(20))
			rc->rc->cq_head = (uint32_t)rig_rand(&sim.rand);
		break;
	case 5:
		rc->cq_head = rc->rd->cq_tail;
		rc->rc->cq_head = rc->cq_head;
		break;
	case 6:
		rc->rc->client_waiting = (uint32_t)rig_rand(&sim.rand);
		break;
	case 7:
		submit(c, rc, rnd(c->n_slots));
		/* Changed between submission and use. */
		rc->c[rc->l.c_data_off + rnd(SLOT_BYTES)] ^=
			(unsigned char)(1 << rnd(8));
		break;
	}
	/* Kicks without reason, and submissions without a kick. */
	if (rnd(2))
		sim.kicked = true;
}

static void act(struct client *c, struct rig_client *rc)
{
	uint32_t slot = rnd(c->n_slots), what = rnd(16);
	struct run *r = &c->runs[slot];

	if (c->hostile && !c->draining) {
		be_hostile(c, rc);
		return;
	}
	if (c->asleep) {
		if (rc->n_wakes == c->wakes && rnd(50))
			return;
		/* Woken, or by its own decision. */
		c->asleep = false;
		rc->rc->client_waiting = 0;
	}
	if (c->draining || what < 6)
		reap(c, rc, c->draining ? UINT32_MAX : rnd(5));
	if (!sq_room(rc))
		return;
	if (what < 10 && r->state == FREE && !c->draining) {
		submit(c, rc, slot);
	} else if (r->state == ENDED || (what == 15 && r->state == SENT &&
					 !rnd(3) && !c->draining)) {
		if (r->state == SENT)
			sim.n_cut++;
		r->state = FREE;
		rig_submit(rc, RING_OP_RELEASE, slot, r->gen, 0, 0);
		if (rc->rd->daemon_waiting)
			sim.kicked = true;
	} else if (what == 10 && r->state == SENT && !c->draining) {
		r->cancelled = true;
		rig_submit(rc, RING_OP_CANCEL, slot, r->gen, 0, 0);
		if (rc->rd->daemon_waiting)
			sim.kicked = true;
	} else if (what == 11 && c->n_nops < c->n_slots && !c->draining) {
		rig_sqe(rc)->arg = c->nop_sent++;
		c->n_nops++;
		publish(c, rc);
	} else if (what == 12 || c->draining) {
		c->wakes = rc->n_wakes;
		rc->rc->client_waiting = RING_WAIT_FUTEX;
		c->asleep = rc->cq_head == rc->rd->cq_tail;
		if (!c->asleep)
			rc->rc->client_waiting = 0;
	}
}

/* --------------------------------------------------------- the machine */

static void attach(uint32_t i)
{
	struct client *c = &sim.clients[i];

	memset(c, 0, sizeof(*c));
	rig_client_free(&sim.rig.clients[i]);
	c->uid = 1000 + rnd(3);
	c->n_slots = 1 + rnd(MAX_SLOTS);
	c->hostile = !rnd(4);
	CHECK(!rig_client(&sim.rig, (int)i, c->uid, c->n_slots, 1u << rnd(6),
			  MAX_SLOTS * SLOT_BYTES,
			  4096 + rnd(rnd(2) ? 8192 : 100000)),
	      "session %u", i);
	/* A message to the engine's process: it polls before it sleeps. */
	sim.kicked = true;
}

static void detach(uint32_t i)
{
	engine_session_end(sim.rig.e, sim.rig.clients[i].id);
	CHECK(sim.rig.clients[i].gone, "no GONE");
}

static void load(uint32_t m)
{
	uint32_t i;

	CHECK(!rig_model(&sim.rig, (int)m, sim.n_vocab[m], 8, sim.n_ctx[m],
			 sim.kv[m]),
	      "%s", sim.rig.why);
	for (i = 0; i < sim.n_clients; i++)
		engine_grant(sim.rig.e, sim.rig.clients[i].id, m + 1);
}

/* As a device does: rows in short, what is picked of them, and all of a row only
 * if it is asked for. */
static void shorten(struct backend_model *m, struct batch *b)
{
	static struct top_row top[256];
	static float picked[256 * BATCH_PICKS];
	uint32_t i, k;
	size_t at;

	for (i = 0; sim.rig.bm[i] != m; i++)
		;
	sim.rows = b->logits;
	sim.row = sim.n_vocab[i];
	CHECK(b->n_logits <= sizeof(top) / sizeof(top[0]), "rows");
	for (i = 0; i < b->n_logits; i++) {
		top_row(&top[i], sim.rows + (size_t)i * sim.row, sim.row);
		at = (size_t)i * BATCH_PICKS;
		for (k = 0; k < b->n_picks[i]; k++, at++)
			picked[at] =
				sim.rows[(size_t)i * sim.row + b->picks[at]];
	}
	b->top = top;
	b->picked = picked;
	b->logits = NULL;
}

static int fetch_row(struct backend_model *m, uint32_t row, float **x)
{
	(void)m;
	*x = sim.rows + (size_t)row * sim.row;
	return rnd(50) ? 0 : -ENODEV;
}

/* A backend that crashes over a token. */
static int poisoned_step(struct backend_model *m, struct batch *b)
{
	bool crash = false;
	uint32_t i;
	int err;

	for (i = 0; i < b->n_tokens; i++)
		crash |= b->tokens[i] == sim.poison;
	if (sim.how == IN_A_CROWD)
		crash &= b->n_seqs > 1;
	if (sim.how == SOMETIMES)
		crash = crash && !rnd(3);
	if (crash) {
		sim.crashed = true;
		sim.n_crashes++;
		siglongjmp(sim.rig.killed, 1);
	}
	err = backend_oracle.step(m, b);
	if (!err && sim.in_short)
		shorten(m, b);
	return err;
}

static void start_engine(void)
{
	memset(&sim.rig.st, 0, sizeof(sim.rig.st));
	sim.rig.ops.step = poisoned_step;
	sim.rig.ops.logits = fetch_row;
	sim.in_short = !sim.in_short;
	CHECK(!rig_start(&sim.rig), "no engine");
	sim.engine_asleep = false;
}

/* It dies soon, in a call to the outside or before a store into D. */
static void doom(void)
{
	uint32_t i;

	sim.rig.kill_at = sim.kill_call;
	if (sim.kill_store) {
		trap.n = 0;
		for (i = 0; i < sim.n_clients; i++)
			trap_add(sim.rig.clients[i].d_map,
				 sim.rig.clients[i].d_map_bytes);
		trap_arm(sim.kill_store, &sim.rig.killed);
	}
	sim.kill_call = sim.kill_store = 0;
}

static void spare(void)
{
	trap_disarm();
	sim.rig.kill_at = 0;
}

static void sweep_up(void)
{
	struct rig *r = &sim.rig;
	uint32_t m;

	rig_sweep(r);
	for (m = 0; m < sim.n_models; m++) {
		if (r->bm[m])
			r->ops.unload(r->be, r->bm[m]);
		r->bm[m] = NULL;
	}
	if (r->be)
		r->ops.close(r->be);
	r->be = NULL;
}

static void load_all(void)
{
	uint32_t m;

	for (m = 0; m < sim.n_models; m++)
		if (m + 1 != sim.gone)
			load(m);
}

/* It broke the rules: the monitor has ended it. */
static bool is_over(uint32_t i)
{
	return sim.rig.clients[i].bad || sim.rig.clients[i].gone;
}

/* Models come before the sessions or after, and some not at all. */
static void take_over(bool crashed)
{
	uint32_t flags = PROC_SESSION_RECOVER, i;
	bool late = rnd(2);

	if (crashed)
		flags |= PROC_SESSION_CRASHED;
	start_engine();
	if (!late)
		load_all();
	for (i = 0; i < sim.n_clients; i++)
		CHECK(is_over(i) || !rig_attach(&sim.rig, (int)i, i + 1,
						sim.clients[i].uid, flags),
		      "session %u is not taken over", i);
	if (late)
		load_all();
	for (i = 0; i < sim.n_clients; i++)
		engine_grant(sim.rig.e, i + 1, 0);
}

/* The engine died in the middle of something: another one takes over. */
static void restart_engine(void)
{
	bool crashed;
	uint32_t i;

	if (!rnd(20)) {
		sim.gone = 1 + rnd(sim.n_models);
		sim.lost_models = true;
	}
	/* The next one may die while it takes over, and the one after that. */
	sigsetjmp(sim.rig.killed, 1);
	spare();
	crashed = sim.crashed;
	sim.crashed = false;
	sim.n_deaths++;
	sweep_up();
	if (!rnd(3))
		sim.kill_store = 1 + rnd(60);
	doom();
	take_over(crashed);
	spare();
	if (sim.gone)
		load(sim.gone - 1);
	sim.gone = 0;
	sim.kicked = true;
	for (i = 0; i < sim.n_clients; i++)
		if (is_over(i))
			attach(i);
}

static void engine_turn(void)
{
	struct engine *e = sim.rig.e;
	bool more;
	uint32_t i;

	if (sim.engine_asleep && !sim.kicked)
		return;
	sim.kicked = false;
	if (sigsetjmp(sim.rig.killed, 1)) {
		restart_engine();
		return;
	}
	doom();
	if (sim.engine_asleep)
		engine_awake(e);
	sim.engine_asleep = false;
	more = engine_poll(e);
	more |= engine_step(e);
	if (engine_lost(e)) {
		restart_engine();
		return;
	}
	if (!more)
		sim.engine_asleep = engine_idle(e);
	spare();
	for (i = 0; i < sim.n_clients; i++) {
		if (!sim.rig.clients[i].bad)
			continue;
		CHECK(sim.clients[i].hostile, "an honest session is bad");
		sim.n_bad++;
		detach(i);
		attach(i);
	}
}

/* Something is still to come that an honest client waits for, or does. */
static bool outstanding(bool own)
{
	uint32_t i, k;

	for (i = 0; i < sim.n_clients; i++) {
		if (sim.clients[i].hostile)
			continue;
		if (sim.clients[i].n_nops)
			return true;
		for (k = 0; k < sim.clients[i].n_slots; k++)
			if (sim.clients[i].runs[k].state == SENT ||
			    (own && sim.clients[i].runs[k].state == ENDED))
				return true;
	}
	return false;
}

static void show(void)
{
	const struct rig_client *rc;
	const struct client *c;
	uint32_t i, k;

	for (i = 0; i < sim.n_clients; i++) {
		c = &sim.clients[i];
		rc = &sim.rig.clients[i];
		printf("client %u: hostile %d, sq %u of %u, cq %u of %u, "
		       "%u nops\n",
		       i, c->hostile, rc->rd->sq_head, rc->sq_tail, rc->cq_head,
		       rc->rd->cq_tail, c->n_nops);
		for (k = 0; k < c->n_slots; k++)
			printf("  slot %u: %d gen %u, in D %u gen %u\n", k,
			       c->runs[k].state, c->runs[k].gen,
			       rig_slot(rc, k)->state, rig_slot(rc, k)->gen);
	}
}

static void nobody_sleeps_on_work(void)
{
	uint32_t i;

	if (!sim.engine_asleep || sim.kicked || !outstanding(false))
		return;
	for (i = 0; i < sim.n_clients; i++)
		if (!sim.clients[i].hostile &&
		    (!sim.clients[i].asleep ||
		     sim.rig.clients[i].n_wakes != sim.clients[i].wakes))
			return;
	show();
	CHECK(false, "everybody sleeps and there is work");
}

static void setup(void)
{
	struct rig *r = &sim.rig;
	uint32_t i, m;

	rig_init(r);
	r->conf.max_batch = 1 + rnd(8);
	r->conf.step_tokens = 1 + rnd(100);
	r->conf.max_requests_uid = rnd(4) ? 100 : 1 + rnd(8);
	sim.n_models = 1 + rnd(2);
	sim.n_clients = 1 + rnd(6);
	for (m = 0; m < sim.n_models; m++) {
		sim.n_vocab[m] = 16 + rnd(200);
		sim.n_ctx[m] = 32 * (2 + rnd(10));
		/* At least one whole context, at most a few. */
		sim.kv[m] = sim.n_ctx[m] * 8ull * (1 + rnd(3)) + rnd(4) * 256;
	}
	sim.poison = NO_TOKEN;
	if (!rnd(4)) {
		sim.poison = rnd(sim.n_vocab[0]);
		sim.how = rnd(N_POISON);
	}
	start_engine();
	load_all();
	for (i = 0; i < sim.n_clients; i++)
		attach(i);
}

static void teardown(void)
{
	totals[5] += sim.rig.st.n_preempted;
	rig_stop(&sim.rig);
	CHECK(!sim.rig.n_live, "the engine leaks");
}

static void disturb(void)
{
	uint32_t i = rnd(sim.n_clients), m;

	switch (rnd(400)) {
	case 0:
		detach(i);
		attach(i);
		break;
	case 1:
		m = rnd(sim.n_models);
		sim.lost_models = true;
		rig_model_del(&sim.rig, (int)m);
		load(m);
		/* It may be asleep, with submissions that nobody kicks for. */
		sim.kicked = true;
		break;
	case 2:
	case 3:
		sim.kill_call = 1 + rnd(20);
		break;
	case 4:
	case 5:
	case 6:
		sim.kill_store = 1 + rnd(120);
		break;
	case 7:
		restart_engine();
		break;
	default:
		break;
	}
}

static void history(uint64_t seed)
{
	uint32_t turns, i, k;
	long left;

	memset(&sim, 0, sizeof(sim));
	sim.seed = seed;
	sim.rand = seed * 0x9e3779b97f4a7c15ull + 1;
	CHECK(!sample_init(&sim.sampler, &(struct mem){ 0 }, 4096), "memory");
	setup();
	turns = 200 + rnd(1500);
	for (i = 0; i < turns; i++) {
		disturb();
		if (rnd(3))
			engine_turn();
		k = rnd(sim.n_clients);
		act(&sim.clients[k], &sim.rig.clients[k]);
	}
	/* No more comes: all that was accepted must end. */
	sim.kill_call = sim.kill_store = 0;
	for (i = 0; i < sim.n_clients; i++) {
		if (sim.clients[i].hostile) {
			detach(i);
			attach(i);
			sim.clients[i].hostile = false;
		}
		sim.clients[i].draining = true;
	}
	for (left = 20000; left && outstanding(true); left--) {
		engine_turn();
		for (i = 0; i < sim.n_clients; i++)
			act(&sim.clients[i], &sim.rig.clients[i]);
		nobody_sleeps_on_work();
	}
	if (!left)
		show();
	CHECK(left, "not everything ends");
	for (i = 0; i < 100; i++)
		engine_turn();
	CHECK(rig_quiet(&sim.rig), "KV blocks or requests are left");
	CHECK(!sim.rig.st.busy, "busy with nothing");
	teardown();
	sample_fini(&sim.sampler, &(struct mem){ 0 });
	totals[0] += sim.n_done;
	totals[1] += sim.n_cut;
	totals[2] += sim.n_refused;
	totals[3] += sim.n_bad;
	totals[4] += sim.n_deaths;
	totals[6] += sim.n_resumed;
	totals[7] += sim.n_crashes;
	totals[8] += sim.n_killers;
}

static void hung(int sig)
{
	static const char text[] = "a history does not end\n";

	(void)sig;
	if (write(1, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

int main(int argc, char **argv)
{
#ifdef HEARTH_SANITIZE
	unsigned long long first = 1, n = 300, i;
#else
	unsigned long long first = 1, n = 1000, i;
#endif
	int k;

	for (k = 1; k + 1 < argc; k += 2) {
		if (!strcmp(argv[k], "--seeds"))
			n = strtoull(argv[k + 1], NULL, 0);
		if (!strcmp(argv[k], "--seed")) {
			first = strtoull(argv[k + 1], NULL, 0);
			n = 1;
		}
	}
	signal(SIGALRM, hung);
	for (i = first; i < first + n; i++) {
		alarm(60);
		history(i);
	}
	printf("%llu seeds: %llu answers, %llu cut short, %llu refused, "
	       "%llu sessions expelled, %llu preempted\n",
	       n, (unsigned long long)totals[0], (unsigned long long)totals[1],
	       (unsigned long long)totals[2], (unsigned long long)totals[3],
	       (unsigned long long)totals[5]);
	printf("%llu engines died (%llu of a request): %llu answers went on to "
	       "their end, %llu were given up\n",
	       (unsigned long long)totals[4], (unsigned long long)totals[7],
	       (unsigned long long)totals[6], (unsigned long long)totals[8]);
	return 0;
}
