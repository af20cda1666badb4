/* SPDX-License-Identifier: MIT */
/*
 * engine_main.c - the engine process: its loop around engine.h.
 *
 * Start: give up privileges, open the backend, close the sandbox, say READY.
 * Then: messages from the monitor and kicks from clients come by the event
 * loop, work is done by engine_poll() and engine_step(), weights are mapped by
 * a thread a model. With work in flight it polls the rings for a moment
 * before it sleeps, if that has paid lately; when idle it sleeps for ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../kernels/cpu.h"
#include "em.h"
#include "log.h"
#include "sandbox.h"

#define MESSAGE_BUDGET 64
#define SPIN_MIN_NS    2000

/* --------------------------------------------------------------- messages */

static void message(struct em *em, int type, void *body, const int *fds,
		    unsigned int n_fds)
{
	struct proc_grant *g = body;
	struct proc_id *id = body;

	switch (type) {
	case PROC_SESSION_NEW:
		em_session_new(em, body, fds);
		break;
	case PROC_SESSION_END:
		em_session_end(em, id->id);
		break;
	case PROC_MODEL_LOAD:
		if (n_fds != 2)
			_exit(1); /* files are a loader's */
		em_model_load(em, body, fds);
		break;
	case PROC_MODEL_UNLOAD:
		em_model_unload(em, id->id);
		break;
	case PROC_GRANT:
		engine_grant(em->engine, g->session, g->model);
		break;
	default: /* PROC_EXIT, and nothing else is ours */
		em->exit = true;
	}
}

static void ctl_ready(struct loop_src *s, uint32_t revents)
{
	struct em *em = s->arg;
	_Alignas(8) char body[PROC_MAX_BODY];
	int fds[PROC_MAX_FDS];
	int budget = MESSAGE_BUDGET;
	unsigned int n_fds;
	size_t n;
	int type;

	(void)revents;
	while (budget-- && !em->exit) {
		type = proc_recv(s->fd, body, &n, fds, &n_fds);
		if (type == -EAGAIN)
			return;
		if (type <= 0)
			_exit(type ? 1 : 0); /* the monitor has gone */
		message(em, type, body, fds, n_fds);
	}
	loop_again(em->loop, s);
}

/* ------------------------------------------------------------------- loop */

/* Changes when any client's submission was taken, a NOP too. */
static uint32_t taken(const struct em *em)
{
	uint32_t sum = 0;
	uint32_t i;

	for (i = 0; i < em->top_session; i++)
		if (em->sessions[i].d)
			sum += __atomic_load_n(
				&((struct ring_d *)em->sessions[i].d)->sq_head,
				__ATOMIC_RELAXED);
	return sum;
}

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("yield" ::: "memory");
#endif
}

static void spin_longer(struct em *em)
{
	em->spin_ns *= 2;
	if (em->spin_ns > em->spin_max_ns)
		em->spin_ns = em->spin_max_ns;
}

/*
 * Look for work a moment longer before sleeping. It pays while clients poll
 * too: the moment doubles when work came and halves when none did.
 * Return: true if something came.
 */
static bool spin(struct em *em)
{
	uint64_t end = clock_ns() + em->spin_ns;
	uint32_t before = taken(em);
	uint32_t turn = 0;

	for (;;) {
		if (loop_ready(em->loop) || engine_poll(em->engine) ||
		    taken(em) != before) {
			spin_longer(em);
			return true;
		}
		if (!(++turn & 15) && clock_ns() >= end)
			break;
		relax();
	}
	em->spin_ns /= 2;
	if (em->spin_ns < SPIN_MIN_NS)
		em->spin_ns = SPIN_MIN_NS;
	return false;
}

static void run(struct em *em)
{
	uint64_t start;

	while (!em->exit) {
		if (loop_ready(em->loop))
			loop_run(em->loop, false);
		if (engine_poll(em->engine)) {
			engine_step(em->engine);
			if (engine_lost(em->engine))
				_exit(PROC_EXIT_DEVICE);
			continue;
		}
		if (em->spin_max_ns && em->top_session && spin(em))
			continue;
		if (engine_idle(em->engine)) {
			start = clock_ns();
			loop_run(em->loop, true);
			/* too early to bed: it would have come */
			if (clock_ns() - start <= em->spin_max_ns)
				spin_longer(em);
		}
		engine_awake(em->engine);
	}
}

/* ------------------------------------------------------------ start, exit */

static int n_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
}

static void open_backend(struct em *em)
{
	struct backend_conf bc;
	char why[160] = "";
	int err;

	engine_backend_conf(&em->conf, &bc);
	bc.beat = &em->stats->beat;
	bc.device = &em->stats->device;
	bc.why = why;
	bc.cpu_level = em->conf.cpu_mask[0] ? cpu_level_parse(em->conf.cpu_mask)
					    : -1;
	err = em->ops->open(&em->be, &bc);
	if (!err)
		return;
	log_warn(err, "start: backend %s%s%s", em->conf.backend,
		 *why ? ": " : "", why);
	exit(PROC_EXIT_BACKEND);
}

static int open_loop(struct em *em, int ctl)
{
	int err = loop_new(&em->loop, PROC_MAX_SESSIONS + 16);

	if (err)
		return err;
	fcntl(ctl, F_SETFL, O_NONBLOCK);
	em->ctl = (struct loop_src){
		.fd = ctl, .events = POLLIN, .fn = ctl_ready, .arg = em
	};
	return loop_add(em->loop, &em->ctl);
}

/* Orderly, so that leaks show; but wait for no thread. */
static void __attribute__((noreturn)) leave(struct em *em)
{
	uint32_t i;

	for (i = 0; i < PROC_MAX_SESSIONS; i++)
		if (em->sessions[i].id)
			em_session_end(em, em->sessions[i].id);
	if (!em_model_close(em))
		_exit(0);
	engine_free(em->engine);
	em->ops->close(em->be);
	loop_free(em->loop);
	free(em);
	exit(0);
}

void engine_main(const struct conf *conf, int ctl, int stats_fd)
{
	struct engine_env env;
	struct em *em = calloc(1, sizeof(*em));
	enum sandbox_kind kind;
	int err;

	if (!em)
		fatal(ENOMEM, "start");
	em->conf = *conf;
	em->spin_max_ns = n_cpus() > 1 ? conf->spin_us * 1000 : 0;
	em->spin_ns = em->spin_max_ns < SPIN_MIN_NS ? em->spin_max_ns
						    : SPIN_MIN_NS;
	em->stats = mmap(NULL, sizeof(*em->stats), PROT_READ | PROT_WRITE,
			 MAP_SHARED, stats_fd, 0);
	if (em->stats == MAP_FAILED)
		fatal(errno, "start: counters");
	close(stats_fd);
	err = open_loop(em, ctl);
	if (!err)
		err = em_model_open(em);
	if (!err)
		err = em_env_open(em, &env);
	if (err)
		fatal(err, "start: event loop");
	em->ops = backend_find(conf->backend);
	if (!em->ops)
		fatalx("start: no backend %s", conf->backend);
	kind = em->ops->device && em->ops->device() ? SANDBOX_GPU
						    : SANDBOX_ENGINE;
	err = sandbox_drop(conf, kind);
	if (err)
		fatal(err, "start: privileges cannot be given up");
	open_backend(em);
	err = engine_new(&em->engine, &em->conf, &env, em->ops, em->stats);
	if (err)
		fatal(err, "start: engine");
	if (!atomic_load(&em->stats->device))
		kind = SANDBOX_ENGINE;
	err = sandbox_filter(conf, kind);
	if (err)
		fatal(err, "start: sandbox");
	em_say(em, PROC_READY, NULL, 0);
	run(em);
	leave(em);
}
