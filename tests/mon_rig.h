/* SPDX-License-Identifier: MIT */
/*
 * mon_rig.h - the monitor with made-up processes, for its tests and fuzzer.
 *
 * Clients are socket pairs, the engine and parsers are whatever the test
 * says they answer. Nothing is started, no time passes by itself.
 */
#ifndef HEARTH_TESTS_MON_RIG_H
#define HEARTH_TESTS_MON_RIG_H

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../daemon/log.h"
#include "../daemon/monitor.h"

#define MR_CLIENTS  4
#define MR_CHILDREN 32

/* A process that is not: our end of its socket, and whether it "ended". */
struct mr_child {
	int ctl;   /* -1: free */
	int pidfd; /* the monitor's number of it, an eventfd */
	int own;   /* our duplicate of that eventfd */
	bool engine;
	bool loader;
	bool ended;
	int sig;	    /* that ended it */
	int status;	    /* or, if not 0, what it left with */
	uint64_t id;	    /* loader: of its model */
	uint8_t digest[32]; /* and of its file, as it will say */
};

struct mr_client {
	int sock;	       /* our end, -1: free */
	struct mon_client *cl; /* may be dropped meanwhile */
	uint32_t seq;
};

static struct mon_rig {
	struct mon *m;
	struct mr_child child[MR_CHILDREN];
	struct mr_client client[MR_CLIENTS];
	int file[4];	    /* three files and an eventfd */
	uint64_t plan;	    /* bytes that a loader asks for */
	char image;	    /* what a parser makes of any file */
	uint64_t n_parsers; /* started */
	uint64_t n_loaders;
} mr;

static inline void mr_close(const int *fds, unsigned int n)
{
	while (n)
		close(fds[--n]);
}

static inline struct mr_child *mr_by_pidfd(int pidfd)
{
	size_t i;

	for (i = 0; i < MR_CHILDREN; i++)
		if (mr.child[i].ctl >= 0 && mr.child[i].pidfd == pidfd)
			return &mr.child[i];
	return NULL;
}

static inline void mr_end(struct mr_child *c)
{
	uint64_t one = 1;

	c->ended = true;
	if (write(c->own, &one, sizeof(one)) < 0)
		abort();
}

/* It dies of itself. */
static inline void mr_crash(struct mr_child *c)
{
	c->sig = SIGSEGV;
	mr_end(c);
}

static inline int mr_spawn(struct child *c, const char *mode,
			   const struct conf *conf, int stats_fd)
{
	struct mr_child *k = NULL;
	int sv[2];
	size_t i;

	(void)conf;
	(void)stats_fd;
	for (i = 0; i < MR_CHILDREN && !k; i++)
		if (mr.child[i].ctl < 0)
			k = &mr.child[i];
	if (!k)
		return -EAGAIN;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		       0, sv))
		return -errno;
	c->pid = 0;
	c->ctl = sv[0];
	c->pidfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->ctl = sv[1];
	k->pidfd = c->pidfd;
	k->own = dup(c->pidfd);
	k->engine = !strcmp(mode, "--engine");
	k->loader = !strcmp(mode, "--loader");
	k->ended = false;
	k->sig = SIGKILL;
	k->status = 0;
	k->id = 0;
	mr.n_loaders += k->loader;
	mr.n_parsers += !k->loader && !k->engine;
	return 0;
}

static inline void mr_kill(int pidfd)
{
	struct mr_child *c = mr_by_pidfd(pidfd);

	if (c && !c->ended)
		mr_end(c);
}

static inline bool mr_wait(int pidfd, siginfo_t *si)
{
	struct mr_child *c = mr_by_pidfd(pidfd);

	memset(si, 0, sizeof(*si));
	if (!c || !c->ended)
		return false;
	si->si_pid = 1;
	si->si_code = c->status ? CLD_EXITED : CLD_KILLED;
	si->si_status = c->status ? c->status : c->sig;
	close(c->ctl);
	close(c->own);
	c->ctl = -1;
	return true;
}

static const struct mon_ops mr_ops = { mr_spawn, mr_kill, mr_wait };

/* Until nothing moves any more. */
static inline void mr_run(void)
{
	int quiet;

	for (quiet = 0; quiet < 2;)
		quiet = loop_run(mr.m->loop, false) ? 0 : quiet + 1;
}

static inline struct mr_child *mr_engine(void)
{
	size_t i;

	for (i = 0; i < MR_CHILDREN; i++)
		if (mr.child[i].ctl >= 0 && mr.child[i].engine &&
		    !mr.child[i].ended)
			return &mr.child[i];
	return NULL;
}

static inline void mr_say(struct mr_child *c, enum proc_type type,
			  const void *body, size_t n)
{
	proc_send(c->ctl, type, body, n, NULL, 0);
	mr_run();
}

/* A parser's answer: an image of one byte, or an error. */
static inline void mr_parse(struct mr_child *c, int err)
{
	_Alignas(8) char body[PROC_MAX_BODY];
	struct proc_status st = { .err = err, .text = "made up" };
	int fds[PROC_MAX_FDS];
	unsigned int n_fds;
	size_t n;

	if (proc_recv(c->ctl, body, &n, fds, &n_fds) != PROC_MODEL_LOAD)
		return;
	assert(write(fds[0], &mr.image, 1) == 1);
	mr_close(fds, n_fds);
	mr_say(c, PROC_PARSED, &st, sizeof(st));
}

/* The loader's first message: what it needs. Its digest is of the file's
 * first bytes, which is all that there is of one here. */
static inline void mr_plan(struct mr_child *c)
{
	_Alignas(8) char body[PROC_MAX_BODY];
	struct proc_plan p = { .bytes = mr.plan, .layout = "test-1" };
	int fds[PROC_MAX_FDS];
	unsigned int n_fds;
	struct stat st;
	size_t n;

	if (proc_recv(c->ctl, body, &n, fds, &n_fds) != PROC_MODEL_LOAD)
		return;
	assert(n_fds >= 2 && !fstat(fds[1], &st));
	memcpy(&c->id, body, sizeof(c->id));
	memset(c->digest, 0, sizeof(c->digest));
	memcpy(c->digest, &st.st_size, sizeof(st.st_size));
	assert(pread(fds[1], c->digest + 16, 16, 0) >= 0);
	mr_close(fds, n_fds);
	p.id = c->id;
	mr_say(c, PROC_PLAN, &p, sizeof(p));
}

/* Its last: the object is full; or why not. */
static inline void mr_fill(struct mr_child *c, int err)
{
	_Alignas(8) char body[PROC_MAX_BODY];
	struct proc_loaded l = { .st = { .err = err, .text = "made up" } };
	int fds[PROC_MAX_FDS];
	unsigned int n_fds;
	size_t n;

	if (proc_recv(c->ctl, body, &n, fds, &n_fds) != PROC_PLACE)
		return;
	assert(n_fds == 1 && (fcntl(fds[0], F_GETFL) & O_ACCMODE) == O_RDWR);
	assert(err || !fallocate(fds[0], 0, 0, (off_t)mr.plan));
	mr_close(fds, n_fds);
	memcpy(l.digest, c->digest, sizeof(l.digest));
	l.st.id = c->id;
	mr_say(c, PROC_LOADED, &l, sizeof(l));
}

/* All a parser or a loader has to do. */
static inline void mr_kid(struct mr_child *c, int err)
{
	if (!c->loader) {
		mr_parse(c, err);
		return;
	}
	if (!c->id)
		mr_plan(c);
	if (!c->ended)
		mr_fill(c, err);
}

/* The engine does all it was asked; @err for what can fail. */
static inline void mr_engine_work(struct mr_child *c, int err)
{
	_Alignas(8) char body[PROC_MAX_BODY];
	struct proc_model_state ms = { .n_ctx = 8, .arch = "a", .quant = "q" };
	struct proc_status st = { .err = err };
	struct proc_id *id = (void *)body;
	int fds[PROC_MAX_FDS];
	unsigned int n_fds;
	size_t n;
	int type;

	while ((type = proc_recv(c->ctl, body, &n, fds, &n_fds)) > 0) {
		assert(type != PROC_MODEL_LOAD || n_fds == 2);
		if (type == PROC_MODEL_LOAD)
			assert((fcntl(fds[1], F_GETFL) & O_ACCMODE) ==
			       O_RDONLY);
		mr_close(fds, n_fds);
		st.id = ms.id = id->id; /* each begins with it */
		ms.err = 0;
		switch (type) {
		case PROC_SESSION_NEW:
			mr_say(c, PROC_SESSION_UP, &st, sizeof(st));
			break;
		case PROC_SESSION_END:
			mr_say(c, PROC_SESSION_GONE, id, sizeof(*id));
			break;
		case PROC_MODEL_LOAD:
			ms.state = err ? WIRE_MODEL_FAILED : WIRE_MODEL_READY;
			ms.err = err;
			mr_say(c, PROC_MODEL_STATE, &ms, sizeof(ms));
			break;
		case PROC_MODEL_UNLOAD:
			ms.state = WIRE_MODEL_UNLOADING;
			mr_say(c, PROC_MODEL_STATE, &ms, sizeof(ms));
			break;
		default:
			break;
		}
		if (c->ended)
			return;
	}
}

/* Every process answers everything, the engine first: what loaders finish
 * now, it has not seen yet. */
static inline void mr_work(int err)
{
	int i;

	mr_run();
	if (mr_engine())
		mr_engine_work(mr_engine(), err);
	for (i = 0; i < 2 * MR_CHILDREN; i++)
		if (mr.child[i % MR_CHILDREN].ctl >= 0 &&
		    !mr.child[i % MR_CHILDREN].ended &&
		    !mr.child[i % MR_CHILDREN].engine)
			mr_kid(&mr.child[i % MR_CHILDREN], err);
	mr_run();
}

static inline void mr_connect(int i, uint32_t uid)
{
	int sv[2];

	if (mr.client[i].sock >= 0)
		return;
	assert(!socketpair(
		AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv));
	mr.client[i].sock = sv[0];
	mr.client[i].cl = mon_client_new(mr.m, sv[1], uid);
}

static inline void mr_hang_up(int i)
{
	if (mr.client[i].sock < 0)
		return;
	close(mr.client[i].sock);
	mr.client[i].sock = -1;
	mr_run();
}

static inline void mr_ask(int i, enum wire_type type, const void *body,
			  size_t n, const int *fds, unsigned int n_fds)
{
	if (mr.client[i].sock < 0)
		return;
	wire_send(mr.client[i].sock, type, ++mr.client[i].seq, body, n, fds,
		  n_fds);
	mr_run();
}

/*
 * Next answer. Return: its type, 0 at the end, -EAGAIN. What the monitor
 * sends must be well-formed whatever it was sent.
 */
static inline int mr_answer(int i, void *body, size_t max)
{
	static char buf[WIRE_MAX_BYTES];
	struct wire_hdr h;
	int fds[WIRE_MAX_FDS];
	unsigned int n_fds;
	int n;

	if (mr.client[i].sock < 0)
		return 0;
	do { /* what comes on a slow machine only is no answer */
		n = wire_recv(mr.client[i].sock, buf, sizeof(buf), fds, &n_fds);
		mr_close(fds, n_fds);
		if (n <= 0)
			return n == -EAGAIN ? n : 0;
		assert(n >= (int)sizeof(h));
		memcpy(&h, buf, sizeof(h));
	} while (h.type == WIRE_PROGRESS);
	assert(h.magic == WIRE_MAGIC && h.abi == RING_ABI);
	assert(h.len == n - sizeof(h) && h.type >= WIRE_SESSION);
	assert(n_fds == (h.type == WIRE_SESSION ? 4u
			 : h.type == WIRE_MODEL ? 1u
						: 0u));
	if (body)
		memcpy(body, buf + sizeof(h), h.len < max ? h.len : max);
	return h.type;
}

static inline void mr_open(void)
{
	struct conf conf;
	char why[160];
	size_t i;

	log_init("test", -1);
	memset(&mr, 0, sizeof(mr));
	for (i = 0; i < MR_CHILDREN; i++)
		mr.child[i].ctl = -1;
	for (i = 0; i < MR_CLIENTS; i++)
		mr.client[i].sock = -1;
	for (i = 0; i < 3; i++) {
		mr.file[i] = memfd_create("file", MFD_CLOEXEC);
		assert(!ftruncate(mr.file[i], 4096 + (off_t)i));
		assert(!fchmod(mr.file[i], 0644));
	}
	mr.file[3] = eventfd(0, EFD_CLOEXEC);
	conf_init(&conf);
	conf.max_in_bytes = 65536;
	conf.max_out_bytes = 65536;
	conf.max_slots = 8;
	conf.max_sessions = 3;
	conf.max_sessions_uid = 2;
	conf.max_models = 3;
	conf.max_models_uid = 2;
	conf.handshake_ms = conf.parse_ms = 3600000;
	snprintf(conf.pool, sizeof(conf.pool), "private");
	mr.plan = 8192;
	assert(!mon_new(&mr.m, &conf, &mr_ops, -1, why));
	assert(!mon_engine_start(mr.m));
	mr_say(mr_engine(), PROC_READY, NULL, 0);
}

/* All clients hang up, all processes answer: only idle models may be left. */
static inline void mr_settle(void)
{
	struct mr_child *e;
	size_t i;
	int k;

	for (i = 0; i < MR_CLIENTS; i++)
		mr_hang_up((int)i);
	for (k = 0; k < 8; k++) {
		mr_work(0);
		e = mr_engine();
		if (e && !mr.m->engine.ready)
			mr_say(e, PROC_READY, NULL, 0);
	}
	assert(!mr.m->n_clients);
	for (i = 0; i < PROC_MAX_SESSIONS; i++)
		assert(mr.m->sessions[i].state == MON_S_FREE);
	for (i = 0; i < MON_MAX_WAITS; i++)
		assert(!mr.m->waits[i].client);
	for (i = 0; i < WIRE_MAX_MODELS; i++)
		assert(!mr.m->models[i].id ||
		       mr.m->models[i].state == WIRE_MODEL_READY ||
		       mr.m->models[i].state == WIRE_MODEL_RESIDENT);
}

static inline void mr_shut(void)
{
	size_t i;

	for (i = 0; i < MR_CLIENTS; i++)
		mr_hang_up((int)i);
	for (i = 0; i < MR_CHILDREN; i++)
		if (mr.child[i].ctl >= 0 && !mr.child[i].ended)
			mr_end(&mr.child[i]);
	mon_free(mr.m);
	for (i = 0; i < MR_CHILDREN; i++) {
		if (mr.child[i].ctl < 0)
			continue;
		close(mr.child[i].ctl);
		close(mr.child[i].own);
	}
	mr_close(mr.file, 4);
}

#endif
