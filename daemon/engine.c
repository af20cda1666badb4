/* SPDX-License-Identifier: MIT */
/* engine.c - sessions in, tokens out: the one place that knows both ends. */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_priv.h"

void engine_backend_conf(const struct conf *conf, struct backend_conf *bc)
{
	memset(bc, 0, sizeof(*bc));
	bc->n_threads = (uint32_t)conf->threads;
	bc->cpu_level = -1;
	backend_conf_size(bc, conf->step_tokens, conf->max_batch);
	bc->spin_us = (uint32_t)conf->spin_us;
	bc->token_us = (uint32_t)conf->oracle_us;
	bc->gpu = conf->gpu;
	bc->gpu_layers = -1;
	if (isdigit((unsigned char)conf->gpu_layers[0]))
		bc->gpu_layers = (int32_t)strtoul(conf->gpu_layers, NULL, 10);
	bc->gpu_ahead = conf->gpu_ahead;
	bc->gpu_prompts = !strcmp(conf->gpu_prompts, "fast");
}

int engine_new(struct engine **out, const struct conf *conf,
	       const struct engine_env *env, const struct backend_ops *ops,
	       struct proc_stats *stats)
{
	const struct mem mem = { env->arg, env->alloc, env->free };
	struct engine *e;

	*out = NULL;
	e = mem_alloc(&mem, 1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->conf = conf;
	e->env = *env;
	e->mem = mem;
	e->ops = ops;
	e->st = stats;
	engine_backend_conf(conf, &e->bc);
	e->n_flows = PROC_MAX_SESSIONS;
	if (conf->max_sessions && conf->max_sessions < e->n_flows)
		e->n_flows = (uint32_t)conf->max_sessions;
	e->flows = mem_alloc(&mem, e->n_flows, sizeof(*e->flows));
	if (!e->flows) {
		mem_free(&mem, e);
		return -ENOMEM;
	}
	engine_set(&stats->busy, 0);
	engine_set(&stats->n_sessions, 0);
	*out = e;
	return 0;
}

void engine_free(struct engine *e)
{
	struct mem mem;

	if (!e)
		return;
	mem = e->mem;
	while (e->sessions)
		engine_session_end(e, e->sessions->id);
	while (e->n_models)
		engine_model_del(e, e->models[0]->id);
	sample_fini(&e->sampler, &mem);
	mem_free(&mem, e->flows);
	mem_free(&mem, e);
}

struct model *engine_find_model(const struct engine *e, uint64_t id)
{
	uint32_t i;

	for (i = 0; i < e->n_models; i++)
		if (e->models[i]->id == id)
			return e->models[i];
	return NULL;
}

static struct session *find_session(const struct engine *e, uint64_t id)
{
	struct session *s;

	for (s = e->sessions; s; s = s->next)
		if (s->id == id)
			return s;
	return NULL;
}

void engine_wake(struct engine *e)
{
	struct session *s;
	uint32_t how;

	for (s = e->sessions; s; s = s->next) {
		how = session_wake(s);
		if (how)
			e->env.wake(e->env.arg, s->id, &s->ring_d->cq_tail,
				    s->event_fd, how);
	}
}

static void show_kv(struct model *m)
{
	engine_set(&m->st->kv_used, (uint64_t)(m->kv.n_blocks - m->kv.n_free) *
					    m->lim.block_bytes);
}

/* Out of scheduler and accounts: the session part is the caller's. */
static void unschedule(struct engine *e, struct req *r)
{
	struct model *m = r->m;

	e->flows[r->flow].n_reqs--;
	if (!m)
		return; /* it was waiting for its model */
	sched_del(&m->sched, r);
	engine_count(&m->st->n_active, (uint64_t)-1);
	engine_set(&m->st->t_idle_ns, engine_now(e));
	show_kv(m);
}

void engine_end(struct engine *e, struct req *r, enum ring_finish how, int err)
{
	if (how == RING_FIN_CANCEL)
		engine_count(&e->st->n_cancelled, 1);
	unschedule(e, r);
	session_finish(r, how, err, RING_OK, engine_now(e));
}

static void end_all(struct engine *e, struct session *s, int err)
{
	uint32_t i;

	for (i = 0; i < s->l.n_slots && s->n_live; i++)
		if (engine_live(&s->reqs[i]))
			engine_end(e, &s->reqs[i], RING_FIN_ERROR, err);
}

/*
 * Nothing is said of it: the client has gone, or the daemon goes, and then the
 * client is to see a request that was cut off and not one that has ended.
 */
static void drop_all(struct engine *e, struct session *s)
{
	uint32_t i;

	for (i = 0; i < s->l.n_slots; i++) {
		if (!engine_live(&s->reqs[i]))
			continue;
		engine_count(&e->st->n_cancelled, 1);
		unschedule(e, &s->reqs[i]);
	}
}

/* ------------------------------------------------------------- sessions */

static int flow_get(struct engine *e, uint32_t uid, uint32_t *flow)
{
	uint32_t i, unused = e->n_flows;

	for (i = 0; i < e->n_flows; i++) {
		if (!e->flows[i].n_sessions && unused == e->n_flows)
			unused = i;
		if (e->flows[i].n_sessions && e->flows[i].uid == uid)
			break;
	}
	if (i == e->n_flows)
		i = unused;
	if (i == e->n_flows)
		return -EAGAIN;
	e->flows[i].uid = uid;
	e->flows[i].n_sessions++;
	*flow = i;
	return 0;
}

/* What the dead engine ran counts for its uid as before. */
static void adopt_all(struct engine *e, struct session *s)
{
	uint32_t i;

	for (i = 0; i < s->l.n_slots && s->n_live; i++) {
		if (!engine_live(&s->reqs[i]))
			continue;
		s->reqs[i].flow = s->flow;
		e->flows[s->flow].n_reqs++;
		/* No later request is older. */
		if (s->reqs[i].age > e->age)
			e->age = s->reqs[i].age;
	}
}

int engine_session_new(struct engine *e, const struct proc_session *ps, void *c,
		       void *d, int event_fd)
{
	struct session *s;
	uint32_t flow;
	int err;

	if (find_session(e, ps->id))
		return -EEXIST;
	err = flow_get(e, ps->uid, &flow);
	if (err)
		return err;
	err = session_new(&s, &e->mem, ps, c, d, event_fd, engine_now(e));
	if (err) {
		e->flows[flow].n_sessions--;
		return err;
	}
	s->flow = flow;
	s->next = e->sessions;
	e->sessions = s;
	engine_count(&e->st->n_sessions, 1);
	adopt_all(e, s);
	/* A recovered one may have been told something. */
	engine_wake(e);
	return 0;
}

void engine_session_end(struct engine *e, uint64_t id)
{
	struct session **p, *s;
	struct proc_id gone = { id };

	for (p = &e->sessions; *p && (*p)->id != id; p = &(*p)->next)
		;
	s = *p;
	if (!s)
		return;
	drop_all(e, s);
	*p = s->next;
	e->flows[s->flow].n_sessions--;
	engine_count(&e->st->n_sessions, (uint64_t)-1);
	session_free(s, &e->mem);
	e->env.notify(e->env.arg, PROC_SESSION_GONE, &gone, sizeof(gone));
}

void engine_grant(struct engine *e, uint64_t session, uint64_t model)
{
	struct session *s = find_session(e, session);
	struct model *m = engine_find_model(e, model);
	uint32_t i;

	if (!s)
		return;
	if (!model) {
		s->all_granted = true;
		engine_give_up(e, s);
		engine_wake(e);
		return;
	}
	if (session_grant(s, model)) {
		/* Full: models that never came, or went before the grant. */
		for (i = s->n_grants; i-- > 0;)
			if (!engine_find_model(e, s->grants[i]))
				session_revoke(s, s->grants[i]);
		session_grant(s, model);
	}
	if (m) {
		engine_resume(e, s, m);
		engine_wake(e);
	}
}

/* It broke the protocol: nothing of it runs on, the monitor hangs up. */
static void expel(struct engine *e, struct session *s)
{
	struct proc_status st = { .id = s->id, .err = -EPROTO };

	s->told = true;
	end_all(e, s, -EPROTO);
	snprintf(st.text, sizeof(st.text), "%s", s->bad);
	e->env.notify(e->env.arg, PROC_SESSION_BAD, &st, sizeof(st));
}

/* ------------------------------------------- client ring -> session -> queue */

static void refuse(struct session *s, const struct session_cmd *cmd,
		   enum ring_refusal reason, int err, uint64_t arg,
		   uint64_t limit)
{
	struct run_refusal why;

	run_refuse(&why, reason, err, arg, limit);
	session_refuse(s, cmd, &why);
}

/* Older is smaller, also than what an engine after this one accepts. */
static uint64_t next_age(struct engine *e)
{
	uint64_t t = engine_now(e);

	e->age = t > e->age ? t : e->age + 1;
	return e->age;
}

void engine_queue(struct engine *e, struct model *m, struct req *r)
{
	(void)e;
	r->m = m;
	engine_count(&m->st->n_active, 1);
	sched_add(&m->sched, r);
}

/* Return: is it dealt with? */
static bool run(struct engine *e, struct session *s,
		const struct session_cmd *cmd)
{
	struct engine_flow *f = &e->flows[s->flow];
	struct model *m = engine_find_model(e, cmd->run.model);
	struct req *r;

	if (!session_granted(s, cmd->run.model)) {
		if (e->env.settled && !e->env.settled(e->env.arg))
			return false;
		refuse(s, cmd, RING_BAD_MODEL, -ENOENT, cmd->run.model, 0);
		return true;
	}
	if (!m) {
		refuse(s, cmd, RING_NOT_READY, -EAGAIN, cmd->run.model, 0);
		return true;
	}
	if (e->conf->max_requests_uid &&
	    f->n_reqs >= e->conf->max_requests_uid) {
		refuse(s, cmd, RING_TOO_MANY, -EAGAIN, f->n_reqs + 1,
		       e->conf->max_requests_uid);
		return true;
	}
	if (session_accept(s, cmd, &m->lim, engine_now(e), &r))
		return true;
	r->age = next_age(e);
	f->n_reqs++;
	engine_count(&e->st->n_requests, 1);
	engine_queue(e, m, r);
	return true;
}

/* Is all that the session may use here, or gone? */
static void look_held(const struct engine *e, struct session *s)
{
	uint32_t i;

	if (!s->all_granted)
		return;
	for (i = 0; i < s->n_grants; i++)
		if (!engine_find_model(e, s->grants[i]))
			return;
	s->held = false;
}

/* Take what one session has submitted. Return: true if there is more. */
static bool poll_session(struct engine *e, struct session *s)
{
	struct session_cmd cmd;
	int n;

	if (s->held)
		look_held(e, s);
	for (n = 0; n < SESSION_BUDGET; n++) {
		switch (session_take(s, &cmd)) {
		case SESSION_NOTHING:
			return false;
		case SESSION_HANDLED:
			continue;
		case SESSION_RUN:
			if (!run(e, s, &cmd))
				return true;
			break;
		case SESSION_CANCEL:
			engine_end(e, cmd.req, RING_FIN_CANCEL, 0);
			break;
		case SESSION_RELEASE:
			if (engine_live(cmd.req)) {
				engine_count(&e->st->n_cancelled, 1);
				unschedule(e, cmd.req);
			}
			session_release(cmd.req);
			break;
		}
		session_taken(s);
	}
	return session_ready(s);
}

void engine_busy(struct engine *e)
{
	if (e->busy)
		return;
	e->busy = true;
	engine_set(&e->st->busy, 1);
	/* Pairs with the monitor's, between watched and busy. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&e->st->watched, memory_order_relaxed))
		e->env.notify(e->env.arg, PROC_BUSY, NULL, 0);
}

bool engine_poll(struct engine *e)
{
	struct session *s;
	bool more = false;
	uint32_t i;

	for (s = e->sessions; s; s = s->next) {
		more |= poll_session(e, s);
		if (s->n_refused)
			engine_count(&e->st->n_refused, s->n_refused);
		s->n_refused = 0;
		if (s->bad && !s->told)
			expel(e, s);
	}
	engine_wake(e);
	for (i = 0; i < e->n_models; i++)
		more |= sched_busy(&e->models[i]->sched);
	if (more)
		engine_busy(e);
	engine_count(&e->st->beat, 1);
	return more;
}

/* ------------------------------------------------- backend -> sampler -> ring */

static bool is_in(const uint32_t *ids, uint64_t n, uint32_t token)
{
	uint64_t i;

	for (i = 0; i < n; i++)
		if (ids[i] == token)
			return true;
	return false;
}

/* The next token of @r, and whether it is the last. */
static void choose(struct engine *e, struct model *m, struct req *r,
		   struct sample_row *row, uint64_t t)
{
	struct ring_top top[RING_MAX_TOP_LOGPROBS];
	const struct image *im = m->im;
	struct ring_token token;

	r->fail =
		sample_token(&e->sampler, r, row, &token, r->top ? top : NULL);
	if (r->fail)
		return;
	if (is_in(r->stop, r->run.n_stop, token.token)) {
		r->how = RING_FIN_STOP;
		return;
	}
	if (!(r->run.flags & RING_RUN_IGNORE_EOS) &&
	    is_in(im->eog, im->h->eog.n, token.token)) {
		r->how = RING_FIN_EOS;
		return;
	}
	session_token(r, &token, top, t);
	engine_count(&m->st->n_decode, 1);
	if (r->n_out == r->max_out)
		r->how = RING_FIN_LENGTH;
}

static void embed(struct model *m, struct req *r, const float *hidden)
{
	const uint32_t n = m->lim.n_embd;
	double *sum = m->sum + (size_t)r->seq * n;
	uint32_t i;

	if (!top_finite(hidden, n)) {
		r->fail = -EDOM;
		return;
	}
	if (r->run.flags & RING_RUN_EMBED_LAST) {
		memcpy(r->embed, hidden, n * sizeof(*hidden));
		r->n_embed = r->n_prompt;
		return;
	}
	if (!r->n_embed)
		memset(sum, 0, n * sizeof(*sum));
	for (i = 0; i < n; i++)
		sum[i] += (double)hidden[i];
	if (++r->n_embed < r->n_prompt)
		return;
	for (i = 0; i < n; i++)
		r->embed[i] = (float)(sum[i] / r->n_prompt);
}

static void keep_logits(struct req *r, struct sample_row *row)
{
	r->fail = sample_row_get(row);
	if (!r->fail && !top_finite(row->x, row->n))
		r->fail = -EDOM;
	if (!r->fail)
		memcpy(r->logits + (size_t)r->next_logits++ * row->n, row->x,
		       row->n * sizeof(*row->x));
}

/* A row of a step: what the backend has brought of it. */
struct step_row {
	struct engine *e;
	struct model *m;
	uint32_t row;
	struct sample_row logits;
};

static int fetch_row(void *arg, float **x)
{
	struct step_row *s = arg;
	int rc = s->e->ops->logits(s->m->bm, s->row, x);

	engine_count(&s->e->st->n_rows_fetched, 1);
	s->e->lost |= rc == -ENODEV;
	return rc;
}

static struct sample_row *step_row(struct step_row *s, struct engine *e,
				   struct model *m, uint32_t row)
{
	const struct batch *b = &m->plan.b;
	const size_t n = m->lim.n_vocab, pick = (size_t)row * BATCH_PICKS;

	*s = (struct step_row){ .e = e, .m = m, .row = row };
	s->logits = (struct sample_row){
		.n = m->lim.n_vocab,
		.n_picks = b->picked && row < b->n_logits ? b->n_picks[row] : 0,
		.x = b->logits ? b->logits + row * n : NULL,
		.top = b->top ? b->top + row : NULL,
		.picks = b->picks + pick,
		.picked = b->picked ? b->picked + pick : NULL,
		.get = fetch_row,
		.arg = s,
	};
	return &s->logits;
}

/* What the step gave: to the requests, row by row. */
static void take_rows(struct engine *e, struct model *m, uint64_t t)
{
	const struct batch *b = &m->plan.b;
	const struct batch_row *w;
	struct sample_row *logits;
	uint32_t i = 0, j = 0, row;
	struct step_row s;

	while (!e->lost && (w = batch_next(&m->plan, &i, &j, &row))) {
		logits = step_row(&s, e, m, row);
		if (w->what & BATCH_LOGITS && !w->r->fail)
			keep_logits(w->r, logits);
		if (w->what & BATCH_EMBED && !w->r->fail)
			embed(m, w->r, b->hidden + (size_t)row * m->lim.n_embd);
		if (w->what & BATCH_SAMPLE && !w->r->fail)
			choose(e, m, w->r, logits, t);
	}
}

static void take(struct engine *e, struct model *m, int err)
{
	const struct batch *b = &m->plan.b;
	uint64_t t = engine_now(e), n_prompt = 0;
	struct req *r;
	uint32_t i;

	for (i = 0; i < b->n_seqs; i++) {
		r = m->plan.reqs[i];
		if (err) {
			r->fail = err;
			continue;
		}
		if (r->n_done < r->n_prompt)
			n_prompt += r->n_now < r->n_prompt - r->n_done
					    ? r->n_now
					    : r->n_prompt - r->n_done;
		r->n_done += r->n_now;
		session_prefilled(r);
	}
	engine_count(&m->st->n_prefill, n_prompt);
	if (!err)
		take_rows(e, m, t);
	if (e->lost)
		return; /* as below: what has been told has been told */
	for (i = 0; i < b->n_seqs; i++) {
		r = m->plan.reqs[i];
		/* Nothing was to be generated, or it had been before. */
		if (!r->how && r->n_out == r->max_out &&
		    r->n_done == r->n_prompt)
			r->how = r->max_out ? RING_FIN_LENGTH : RING_FIN_DONE;
		session_stepped(r);
		if (r->fail)
			engine_end(e, r, RING_FIN_ERROR, r->fail);
		else if (r->how)
			engine_end(e, r, r->how, 0);
		else
			session_progress(r);
	}
}

/* One step of one model: queue -> batch -> backend -> sampler -> rings. */
static void step(struct engine *e, struct model *m)
{
	uint64_t n_preempted = m->sched.n_preempted, t;
	uint32_t i;
	int err;

	sched_admit(&m->sched);
	if (!sched_plan(&m->sched, e->bc.max_tokens, e->bc.max_out))
		return;
	batch_build(&m->plan, &m->sched, m->lim.n_vocab);
	t = engine_now(e);
	for (i = 0; i < m->plan.b.n_seqs; i++)
		session_stepping(m->plan.reqs[i], m->plan.b.n_seqs == 1, t);
	err = e->ops->step(m->bm, &m->plan.b);
	if (err == -ENODEV) {
		e->lost = true; /* nothing ends: an engine after us goes on */
		return;
	}
	take(e, m, err);
	if (e->lost)
		return;
	engine_count(&e->st->n_steps, 1);
	engine_count(&e->st->n_preempted, m->sched.n_preempted - n_preempted);
	show_kv(m);
}

bool engine_step(struct engine *e)
{
	bool more = false;
	uint32_t i;

	for (i = 0; i < e->n_models; i++) {
		if (!sched_busy(&e->models[i]->sched))
			continue;
		step(e, e->models[i]);
		if (e->lost)
			return false;
		engine_wake(e);
		more |= sched_busy(&e->models[i]->sched);
	}
	engine_count(&e->st->beat, 1);
	return more;
}

bool engine_idle(struct engine *e)
{
	struct session *s;
	uint32_t i;

	for (i = 0; i < e->n_models; i++)
		if (sched_busy(&e->models[i]->sched))
			return false;
	for (s = e->sessions; s; s = s->next)
		session_sleep(s, true);
	/* Pairs with the clients', between sq_tail and daemon_waiting. */
	atomic_thread_fence(memory_order_seq_cst);
	for (s = e->sessions; s; s = s->next) {
		if (session_ready(s) || (s->bad && !s->told)) {
			engine_awake(e);
			return false;
		}
	}
	if (e->n_attaching)
		return true; /* it sleeps, but is watched */
	e->busy = false;
	engine_set(&e->st->busy, 0);
	return true;
}

bool engine_lost(const struct engine *e)
{
	return e->lost;
}

void engine_awake(struct engine *e)
{
	struct session *s;

	engine_busy(e);
	for (s = e->sessions; s; s = s->next)
		session_sleep(s, false);
}
