/* SPDX-License-Identifier: MIT */
/*
 * engine_main.c - the engine process: its loop around engine.h.
 *
 * Start: give up privileges, open the backend, close the sandbox, say READY.
 * Then: messages from the monitor and kicks from clients come by the event
 * loop, work is done by engine_poll() and engine_step(), weights are read by
 * a thread per load. With work in flight it polls the rings for a moment
 * before it sleeps, if that has paid lately; when idle it sleeps for ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kernels/cpu.h"
#include "engine.h"
#include "loader.h"
#include "log.h"
#include "loop.h"
#include "sandbox.h"

#define MESSAGE_BUDGET 64
#define SPIN_MIN_NS    2000
#define PROGRESS_NS    50000000u
#define AIO_EVENTS     64

struct em;

struct em_session {
	struct loop_src src; /* its kick eventfd, polled, never read */
	uint64_t id;	     /* 0: free */
	void *c;
	void *d;
	size_t c_bytes;
	size_t d_bytes;
	int event;
};

struct em_model {
	struct em *em;
	struct proc_load load; /* id 0: free */
	struct image im;
	struct backend_model *m;
	struct backend_progress progress;
	struct proc_model_stats *stats;
	pthread_t thread;
	int image_fd;
	int object; /* of the pool, or spare */
	int fds[WIRE_MAX_FDS];
	bool loading;	  /* the thread has it */
	bool added;	  /* the engine has it */
	bool unload;	  /* drop it when the thread returns */
	_Atomic int done; /* the thread is through, @err and @why are set */
	int err;
	uint64_t t_start;
	uint64_t t_load_ns;
	char why[160];
};

struct em {
	struct conf conf;
	struct loop *loop;
	struct engine *engine;
	const struct backend_ops *ops;
	struct backend *be;
	struct proc_stats *stats;
	struct loop_src ctl;
	struct loop_src loaded; /* eventfd: a loader thread is through */
	struct loop_timer progress;
	struct em_session sessions[PROC_MAX_SESSIONS];
	struct em_model models[WIRE_MAX_MODELS];
	uint32_t top_session;	    /* sessions in use are below this index */
	int spare[WIRE_MAX_MODELS]; /* memory for models that come as files */
	int meminfo;
	aio_context_t aio;
	int aio_always; /* an fd that is always readable */
	uint64_t spin_ns;
	uint64_t spin_max_ns;
	bool exit;
};

/* ------------------------------------------------------- what engine asks */

static uint64_t env_now(void *arg)
{
	(void)arg;
	return loop_now();
}

/*
 * The client shares the eventfd's file description and may clear O_NONBLOCK
 * and fill the counter: a write could then block for ever. The kernel's own
 * signalling of a completed AIO cannot: so that is how it is signalled.
 */
static void signal_event(struct em *em, int fd)
{
	struct io_event out[AIO_EVENTS];
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_POLL,
			   .aio_fildes = (uint32_t)em->aio_always,
			   .aio_buf = POLLIN,
			   .aio_flags = IOCB_FLAG_RESFD,
			   .aio_resfd = (uint32_t)fd };
	struct iocb *list[1] = { &cb };

	if (syscall(SYS_io_submit, em->aio, 1, list) == 1)
		syscall(SYS_io_getevents, em->aio, 0, AIO_EVENTS, out, NULL);
}

static void env_wake(void *arg, uint64_t session, uint32_t *word, int eventfd,
		     uint32_t how)
{
	(void)session;
	if (how & RING_WAIT_FUTEX)
		syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	if (how & RING_WAIT_EVENTFD)
		signal_event(arg, eventfd);
}

/* The monitor never blocks, so room in the socket always comes. */
static void env_notify(void *arg, enum proc_type type, const void *body,
		       size_t n)
{
	struct em *em = arg;
	struct pollfd p = { .fd = em->ctl.fd, .events = POLLOUT };
	int err;

	while ((err = proc_send(em->ctl.fd, type, body, n, NULL, 0)) == -EAGAIN)
		poll(&p, 1, 1000);
	if (err)
		em->exit = true;
}

/* MemAvailable less a reserve for everybody else. */
static uint64_t mem_free(struct em *em)
{
	char buf[1024];
	unsigned long long kb = 0;
	uint64_t bytes;
	ssize_t n = pread(em->meminfo, buf, sizeof(buf) - 1, 0);
	char *p;

	if (n <= 0)
		return 0;
	buf[n] = 0;
	p = strstr(buf, "MemAvailable:");
	if (!p || sscanf(p, "MemAvailable: %llu", &kb) != 1)
		return 0;
	bytes = kb * 1024;
	return bytes - bytes / 16;
}

/* What new weights or KV may take: what is free, within mem-bytes. */
static uint64_t env_mem(void *arg)
{
	struct em *em = arg;
	struct backend_info info;
	uint64_t free_bytes = mem_free(em);
	uint64_t used = 0;
	size_t i;

	if (!em->conf.mem_bytes)
		return free_bytes;
	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		if (!em->models[i].m)
			continue;
		em->ops->info(em->models[i].m, &info);
		used += info.weight_bytes + info.scratch_bytes;
	}
	if (used >= em->conf.mem_bytes)
		return 0;
	used = em->conf.mem_bytes - used;
	return used < free_bytes ? used : free_bytes;
}

/* --------------------------------------------------------------- sessions */

/* A kick needs no more than that the loop turns. */
static void kicked(struct loop_src *s, uint32_t revents)
{
	(void)s;
	(void)revents;
}

static struct em_session *session_find(struct em *em, uint64_t id)
{
	uint32_t i;

	for (i = 0; i < em->top_session; i++)
		if (em->sessions[i].id == id)
			return &em->sessions[i];
	return NULL;
}

static void session_unmap(struct em *em, struct em_session *s)
{
	loop_del(em->loop, &s->src);
	if (s->c)
		munmap(s->c, s->c_bytes);
	if (s->d)
		munmap(s->d, s->d_bytes);
	close(s->src.fd);
	close(s->event);
	memset(s, 0, sizeof(*s));
	while (em->top_session && !em->sessions[em->top_session - 1].id)
		em->top_session--;
}

/* C is only ever read here, and mapped so. */
static int session_map(struct em *em, struct em_session *s,
		       const struct proc_session *p, int c, int d)
{
	void *v;

	s->c_bytes = p->layout.c_bytes;
	s->d_bytes = p->layout.d_bytes;
	v = mmap(NULL, s->c_bytes, PROT_READ, MAP_SHARED, c, 0);
	if (v == MAP_FAILED)
		return -errno;
	s->c = v;
	v = mmap(NULL, s->d_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, d, 0);
	if (v == MAP_FAILED)
		return -errno;
	s->d = v;
	return loop_add(em->loop, &s->src);
}

static void session_new(struct em *em, const struct proc_session *p,
			const int *fds)
{
	struct proc_status st = { .id = p->id };
	struct em_session *s = NULL;
	uint32_t i;

	for (i = 0; i < PROC_MAX_SESSIONS && !s; i++)
		if (!em->sessions[i].id)
			s = &em->sessions[i];
	if (!s) {
		st.err = -ENOSPC;
		close(fds[2]);
		close(fds[3]);
	} else {
		if (s - em->sessions >= em->top_session)
			em->top_session = (uint32_t)(s - em->sessions) + 1;
		s->id = p->id;
		s->event = fds[3];
		s->src = (struct loop_src){
			.fd = fds[2], .events = POLLIN, .fn = kicked, .arg = s
		};
		st.err = session_map(em, s, p, fds[0], fds[1]);
		if (!st.err)
			st.err = engine_session_new(em->engine, p, s->c, s->d,
						    s->event);
		if (st.err)
			session_unmap(em, s);
	}
	close(fds[0]);
	close(fds[1]);
	if (st.err)
		snprintf(st.text, sizeof(st.text), "%s",
			 strerrordesc_np(-st.err));
	env_notify(em, PROC_SESSION_UP, &st, sizeof(st));
}

static void session_end(struct em *em, uint64_t id)
{
	struct em_session *s = session_find(em, id);
	struct proc_id gone = { .id = id };

	if (!s) {
		env_notify(em, PROC_SESSION_GONE, &gone, sizeof(gone));
		return;
	}
	engine_session_end(em->engine, id); /* says GONE */
	session_unmap(em, s);
}

/* ----------------------------------------------------------------- models */

static uint64_t bytes_of(const struct image *im)
{
	uint64_t n = 0;
	uint64_t i;

	for (i = 0; i < im->h->tensors.n; i++)
		n += im->tensors[i].bytes;
	return n;
}

/* No loader was there: it is done here, into memory that was made before. */
static int load_files(struct em_model *md)
{
	struct em *em = md->em;
	struct loader_way way = { .n_threads = loader_cores(),
				  .pg = &md->progress };
	uint8_t digest[HASH_BYTES];
	struct reader *rd = NULL;
	struct loader *ld = NULL;
	int ret;

	md->object = em->spare[md - em->models];
	ret = reader_open(&rd, md->fds, md->load.n_files, md->why);
	if (!ret)
		ret = loader_new(&ld, em->ops, &md->im, rd, md->why);
	if (ret)
		goto out;
	md->load.weight_bytes = loader_layout(ld)->bytes;
	if (ftruncate(md->object, (off_t)md->load.weight_bytes)) {
		ret = -errno;
		snprintf(md->why, sizeof(md->why), "no memory for weights");
		goto out;
	}
	ret = loader_fill(ld, md->object, &way, digest, md->why);
out:
	loader_free(ld);
	reader_close(rd);
	return ret;
}

static void *load_thread(void *arg)
{
	struct em_model *md = arg;
	struct em *em = md->em;
	uint64_t one = 1;
	uint32_t i;

	prctl(PR_SET_NAME, "hearthd-load");
	if (md->load.n_files)
		md->err = load_files(md);
	if (!md->err)
		md->err = em->ops->load(em->be, &md->im, md->object,
					md->load.weight_bytes, &md->m, md->why);
	/* Here, because a stranger's file may take its time to close. */
	for (i = 0; i < md->load.n_files; i++)
		close(md->fds[i]);
	md->load.n_files = 0;
	atomic_store(&md->done, 1);
	if (write(em->loaded.fd, &one, sizeof(one)) < 0)
		log_warn(errno, "load: cannot be reported");
	return NULL;
}

static void model_free(struct em_model *md)
{
	struct em *em = md->em;
	uint32_t i;

	if (md->m)
		em->ops->unload(em->be, md->m);
	image_close(&md->im);
	if (md->image_fd >= 0)
		close(md->image_fd);
	if (md->object == em->spare[md - em->models]) {
		if (ftruncate(md->object, 0))
			log_warn(errno, "weights: memory is not given back");
	} else if (md->object >= 0) {
		close(md->object);
	}
	for (i = 0; i < md->load.n_files; i++)
		close(md->fds[i]);
	if (md->stats)
		atomic_store(&md->stats->id, 0);
	memset(md, 0, sizeof(*md));
	md->em = em;
}

static void say_state(struct em *em, uint64_t id, enum wire_model_state state,
		      int err, const char *text)
{
	struct proc_model_state st = { .id = id, .state = state, .err = err };

	snprintf(st.text, sizeof(st.text), "%s", text);
	env_notify(em, PROC_MODEL_STATE, &st, sizeof(st));
}

static void model_failed(struct em_model *md, int err)
{
	uint64_t id = md->load.id;
	char why[160];

	memcpy(why, md->why, sizeof(why));
	why[sizeof(why) - 1] = 0;
	if (!why[0])
		snprintf(why, sizeof(why), "load: %s", strerrordesc_np(-err));
	/* What a dead engine ran on it has waited for nothing. */
	engine_model_del(md->em->engine, id);
	model_free(md);
	say_state(md->em, id, WIRE_MODEL_FAILED, err, why);
}

static void copy_str(char *out, size_t n, const struct image *im,
		     struct image_str s)
{
	size_t len = s.len < n - 1 ? s.len : n - 1;
	size_t i;

	for (i = 0; i < len; i++)
		out[i] = im->str[s.off + i] < 32 ? '?' : im->str[s.off + i];
	out[len] = 0;
}

static void model_ready(struct em_model *md)
{
	struct em *em = md->em;
	struct proc_model_state st = { .id = md->load.id,
				       .state = WIRE_MODEL_READY,
				       .t_load_ns = md->t_load_ns };
	struct backend_info info;
	int err;

	err = engine_model_add(em->engine, &md->load, &md->im, md->m, &st.n_ctx,
			       &st.kv_bytes, md->why);
	if (err) {
		model_failed(md, err);
		return;
	}
	md->added = true;
	em->ops->info(md->m, &info);
	st.weight_bytes = info.weight_bytes;
	st.n_ctx_train = md->im.h->hp.n_ctx_train;
	memcpy(st.backend, info.text, sizeof(st.backend));
	copy_str(st.arch, sizeof(st.arch), &md->im, md->im.h->arch_name);
	copy_str(st.quant, sizeof(st.quant), &md->im, md->im.h->quant_name);
	env_notify(em, PROC_MODEL_STATE, &st, sizeof(st));
}

static void model_loaded(struct em_model *md)
{
	uint64_t id = md->load.id;

	pthread_join(md->thread, NULL);
	md->loading = false;
	md->t_load_ns = loop_now() - md->t_start;
	if (md->unload) {
		model_free(md);
		say_state(md->em, id, WIRE_MODEL_UNLOADING, 0, "");
	} else if (md->err) {
		model_failed(md, md->err);
	} else {
		model_ready(md);
	}
}

static void loaded_ready(struct loop_src *s, uint32_t revents)
{
	struct em *em = s->arg;
	uint64_t n;
	size_t i;

	(void)revents;
	if (read(s->fd, &n, sizeof(n)) < 0)
		return;
	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (em->models[i].loading && atomic_load(&em->models[i].done))
			model_loaded(&em->models[i]);
}

/* The monitor shows progress from the counters while anything loads. */
static void copy_progress(struct loop_timer *t)
{
	struct em *em = t->arg;
	struct em_model *md;
	bool more = false;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &em->models[i];
		if (!md->loading)
			continue;
		more = true;
		if (!md->stats)
			continue;
		atomic_store(&md->stats->load_total,
			     atomic_load(&md->progress.total_bytes));
		atomic_store(&md->stats->load_done,
			     atomic_load(&md->progress.done_bytes));
	}
	if (more)
		loop_timer_set(em->loop, t, PROGRESS_NS);
}

static void take_stats(struct em_model *md)
{
	struct proc_stats *st = md->em->stats;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		if (atomic_load(&st->model[i].id))
			continue;
		md->stats = &st->model[i];
		memset(md->stats, 0, sizeof(*md->stats));
		atomic_store(&md->stats->id, md->load.id);
		return;
	}
}

static int model_start(struct em_model *md)
{
	struct em *em = md->em;
	uint64_t need;
	uint64_t have;
	int err;

	err = image_open_fd(&md->im, md->image_fd, md->why);
	if (err)
		return err;
	/* An object is there already. */
	need = md->load.n_files ? bytes_of(&md->im) : 0;
	have = env_mem(em);
	if (need > have) {
		snprintf(md->why, sizeof(md->why),
			 "weights need %llu MiB, %llu MiB are free",
			 (unsigned long long)(need >> 20),
			 (unsigned long long)(have >> 20));
		return -ENOMEM;
	}
	take_stats(md);
	md->t_start = loop_now();
	err = pthread_create(&md->thread, NULL, load_thread, md);
	if (err) {
		snprintf(md->why, sizeof(md->why), "no thread to load with");
		return -err;
	}
	md->loading = true;
	copy_progress(&em->progress);
	return 0;
}

static void model_load(struct em *em, const struct proc_load *l, const int *fds,
		       unsigned int n_fds)
{
	struct em_model *md = NULL;
	unsigned int i;
	int err;

	for (i = 0; i < WIRE_MAX_MODELS && !md; i++)
		if (!em->models[i].load.id)
			md = &em->models[i];
	if (!md || (l->n_files ? l->n_files != n_fds - 1 : n_fds != 2)) {
		for (i = 0; i < n_fds; i++)
			close(fds[i]);
		say_state(em, l->id, WIRE_MODEL_FAILED, -ENOSPC,
			  "no room for another model");
		return;
	}
	md->em = em;
	md->load = *l;
	md->image_fd = fds[0];
	md->object = l->n_files ? -1 : fds[1];
	memcpy(md->fds, fds + 1, l->n_files * sizeof(int));
	err = model_start(md);
	if (err)
		model_failed(md, err);
}

static void model_unload(struct em *em, uint64_t id)
{
	struct em_model *md = NULL;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS && !md; i++)
		if (em->models[i].load.id == id)
			md = &em->models[i];
	if (md && md->loading) {
		md->unload = true;
		atomic_store(&md->progress.stop, 1);
		return;
	}
	engine_model_del(em->engine, id);
	if (md)
		model_free(md);
	say_state(em, id, WIRE_MODEL_UNLOADING, 0, "");
}

/* --------------------------------------------------------------- messages */

static void message(struct em *em, int type, void *body, const int *fds,
		    unsigned int n_fds)
{
	struct proc_grant *g = body;
	struct proc_id *id = body;

	switch (type) {
	case PROC_SESSION_NEW:
		session_new(em, body, fds);
		break;
	case PROC_SESSION_END:
		session_end(em, id->id);
		break;
	case PROC_MODEL_LOAD:
		model_load(em, body, fds, n_fds);
		break;
	case PROC_MODEL_UNLOAD:
		model_unload(em, id->id);
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
	uint64_t end = loop_now() + em->spin_ns;
	uint32_t before = taken(em);
	uint32_t turn = 0;

	for (;;) {
		if (loop_ready(em->loop) || engine_poll(em->engine) ||
		    taken(em) != before) {
			spin_longer(em);
			return true;
		}
		if (!(++turn & 15) && loop_now() >= end)
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
			continue;
		}
		if (em->spin_max_ns && em->top_session && spin(em))
			continue;
		if (engine_idle(em->engine)) {
			start = loop_now();
			loop_run(em->loop, true);
			/* too early to bed: it would have come */
			if (loop_now() - start <= em->spin_max_ns)
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

static int open_backend(struct em *em)
{
	struct backend_conf bc;
	size_t i;

	for (i = 0; backends[i]; i++)
		if (!strcmp(backends[i]->name, em->conf.backend))
			em->ops = backends[i];
	if (!em->ops)
		return -EINVAL;
	memset(&bc, 0, sizeof(bc));
	engine_backend_conf(&em->conf, &bc);
	bc.beat = &em->stats->beat;
	bc.cpu_level = em->conf.cpu_mask[0] ? cpu_level_parse(em->conf.cpu_mask)
					    : -1;
	return em->ops->open(&em->be, &bc);
}

static int open_loop(struct em *em, int ctl)
{
	size_t i;
	int err;

	err = loop_new(&em->loop, PROC_MAX_SESSIONS + 16);
	if (err)
		return err;
	fcntl(ctl, F_SETFL, O_NONBLOCK);
	em->ctl = (struct loop_src){
		.fd = ctl, .events = POLLIN, .fn = ctl_ready, .arg = em
	};
	em->loaded =
		(struct loop_src){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
				   .events = POLLIN,
				   .fn = loaded_ready,
				   .arg = em };
	em->progress.fn = copy_progress;
	em->progress.arg = em;
	em->aio_always = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		em->spare[i] = memfd_create("weights", MFD_CLOEXEC);
		if (em->spare[i] < 0)
			return -errno;
	}
	em->meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	if (em->loaded.fd < 0 || em->aio_always < 0 || em->meminfo < 0)
		return -errno;
	if (syscall(SYS_io_setup, AIO_EVENTS, &em->aio))
		return -errno;
	err = loop_add(em->loop, &em->ctl);
	return err ? err : loop_add(em->loop, &em->loaded);
}

/* Orderly, so that leaks show; but wait for no loader. */
static void __attribute__((noreturn)) leave(struct em *em)
{
	uint32_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (em->models[i].loading)
			_exit(0);
	for (i = 0; i < PROC_MAX_SESSIONS; i++)
		if (em->sessions[i].id)
			session_end(em, em->sessions[i].id);
	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		if (!em->models[i].load.id)
			continue;
		engine_model_del(em->engine, em->models[i].load.id);
		model_free(&em->models[i]);
	}
	engine_free(em->engine);
	em->ops->close(em->be);
	loop_free(em->loop);
	free(em);
	exit(0);
}

void engine_main(const struct conf *conf, int ctl, int stats_fd)
{
	struct engine_env env = { .now_ns = env_now,
				  .wake = env_wake,
				  .notify = env_notify,
				  .mem_available = env_mem };
	struct em *em = calloc(1, sizeof(*em));
	int err;

	if (!em)
		fatal(ENOMEM, "start");
	em->conf = *conf;
	env.arg = em;
	em->spin_max_ns = n_cpus() > 1 ? conf->spin_us * 1000 : 0;
	em->spin_ns = em->spin_max_ns < SPIN_MIN_NS ? em->spin_max_ns
						    : SPIN_MIN_NS;
	em->stats = mmap(NULL, sizeof(*em->stats), PROT_READ | PROT_WRITE,
			 MAP_SHARED, stats_fd, 0);
	if (em->stats == MAP_FAILED)
		fatal(errno, "start: counters");
	close(stats_fd);
	err = open_loop(em, ctl);
	if (err)
		fatal(err, "start: event loop");
	err = sandbox_drop(conf, SANDBOX_ENGINE);
	if (err)
		fatal(err, "start: privileges cannot be given up");
	err = open_backend(em);
	if (err)
		fatal(err, "start: backend %s", conf->backend);
	err = engine_new(&em->engine, &em->conf, &env, em->ops, em->stats);
	if (err)
		fatal(err, "start: engine");
	err = sandbox_filter(conf, SANDBOX_ENGINE);
	if (err)
		fatal(err, "start: sandbox");
	env_notify(em, PROC_READY, NULL, 0);
	run(em);
	leave(em);
}
