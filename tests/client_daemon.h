/* SPDX-License-Identifier: MIT */
/*
 * client_daemon.h - a daemon played by a thread: socket, handshake, models and
 * an engine whose answers are known, and which dies where it is told to.
 *
 * One life after the other: each has its plan in struct life, its own session
 * memories and its own numbers for models. Token @i of an answer is
 * life_token(), so that lives agree.
 */
#ifndef HEARTH_CLIENT_DAEMON_H
#define HEARTH_CLIENT_DAEMON_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/un.h>

#include "../daemon/proc.h"
#include "client_fake.h"
#include "util.h"

enum die_at {
	DIE_NEVER,
	DIE_ACCEPT, /* before it reads a byte */
	DIE_HELLO,  /* has read it, says nothing */
	DIE_SESSION,
	DIE_MAPPED,
	DIE_READY,
	DIE_LOAD, /* has read LOAD, OPEN or LIST */
	DIE_PROGRESS,
	DIE_MODEL,
	DIE_RUN,      /* has seen a submission, and not accepted it */
	DIE_ACCEPTED, /* has accepted it */
	DIE_TOKENS,   /* after @after tokens of all requests */
	DIE_UNSAID,   /* an answer is complete in D, nobody was told */
	DIE_N,
};

struct life {
	enum die_at die;
	uint32_t after;	   /* DIE_TOKENS */
	uint32_t gap_ms;   /* nobody listens so long before this life */
	bool refuse;	   /* an error in place of READY, the first time */
	bool silent;	   /* never answers HELLO */
	bool no_load;	   /* LOAD is refused */
	bool absent;	   /* LIST does not have the model */
	bool other_file;   /* the model's image is another one */
	bool other_tokens; /* the answers are others */
	bool digest;	   /* the model's digest is known */
	bool later;	   /* reads no submissions at first */
	uint32_t uid;	   /* listens as this user */
};

#define SRV_LIVES 8

/* What the thread has seen, read after srv_stop() or under no race that
 * matters (counters only grow). */
struct srv {
	char path[64];
	struct life life[SRV_LIVES]; /* the caller's may be gone by the end */
	int n_lives;
	int now; /* which life */
	pthread_t th;
	volatile bool stop;
	int listen;
	int sock;
	struct fake f;
	int fd[4];
	uint32_t pos[FAKE_SLOTS];
	bool on[FAKE_SLOTS];
	uint32_t gen[FAKE_SLOTS];
	uint32_t n_tokens;
	uint64_t t_ready_ns;
	volatile int n_run[SRV_LIVES]; /* submissions accepted in each life */
	volatile int n_done[SRV_LIVES]; /* of them with an earlier one's tokens */
	volatile int n_release[SRV_LIVES];
	volatile int bad; /* tokens that came along and were not ours */
	volatile int n_load;
	volatile int n_open;
	bool dead;
};

static inline uint32_t life_token(uint64_t seed, uint32_t first, uint32_t i)
{
	return 'a' + (uint32_t)((seed * 31 + first * 7 + i * i + 3 * i) % 26);
}

/* An image as a model is opened from: a sealed memfd. */
static inline int life_image(bool other)
{
	struct hearth_model *m2 = fake_model();
	struct image_header *ih;
	size_t n = m2->im.h->bytes;
	uint8_t *p = malloc(n);
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	memcpy(p, m2->im.h, n);
	ih = (struct image_header *)(void *)p;
	ih->n_params += other;
	if (fd < 0 || write(fd, p, n) != (ssize_t)n ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		abort();
	free(p);
	hearth_model_close(&m2);
	return fd;
}

/* ------------------------------------------------------------- messages */

static inline void srv_send(struct srv *s, enum wire_type type, uint32_t seq,
			    const void *body, size_t n, const int *fds,
			    unsigned int n_fds)
{
	wire_send(s->sock, type, seq, body, n, fds, n_fds);
}

static inline void srv_error(struct srv *s, uint32_t seq, int err,
			     const char *text)
{
	struct wire_error e = { .err = err };

	snprintf(e.text, sizeof(e.text), "%s", text);
	srv_send(s, WIRE_ERROR, seq, &e, sizeof(e), NULL, 0);
}

static inline bool srv_dies(struct srv *s, enum die_at at)
{
	if (s->life[s->now].die != at)
		return false;
	s->dead = true;
	return true;
}

static inline int srv_memfd(uint64_t n)
{
	int fd = memfd_create("session", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)n))
		abort();
	return fd;
}

static inline void srv_hello(struct srv *s, uint32_t seq)
{
	struct wire_session ws = { .epoch = 1000 + (uint64_t)s->now,
				   .session = 1 };
	struct fake *f2 = &s->f;

	fake_layout(&f2->lay, 16, DATA);
	ws.layout = f2->lay;
	s->fd[0] = srv_memfd(f2->lay.c_bytes);
	s->fd[1] = srv_memfd(f2->lay.d_bytes);
	s->fd[2] = f2->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	s->fd[3] = f2->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f2->c = mmap(NULL, f2->lay.c_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		     s->fd[0], 0);
	f2->d = mmap(NULL, f2->lay.d_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		     s->fd[1], 0);
	f2->rc = (struct ring_c *)(void *)f2->c;
	f2->rd = (struct ring_d *)(void *)f2->d;
	f2->rd->magic = RING_MAGIC;
	f2->rd->abi = RING_ABI;
	srv_send(s, WIRE_SESSION, seq, &ws, sizeof(ws), s->fd, 4);
}

static inline void srv_model(struct srv *s, uint32_t seq)
{
	const struct life *l = &s->life[s->now];
	struct wire_model w = { .model = 7 + 100 * (uint32_t)s->now,
				.state = WIRE_MODEL_READY,
				.n_ctx = FAKE_CTX };
	int fd = life_image(l->other_file);

	strcpy(w.name, "fake");
	if (l->digest)
		memset(w.digest, 0x5a, sizeof(w.digest));
	srv_send(s, WIRE_MODEL, seq, &w, sizeof(w), &fd, 1);
	close(fd);
}

static inline void srv_list(struct srv *s, uint32_t seq)
{
	const struct life *l = &s->life[s->now];
	struct wire_model w = { .model = 7 + 100 * (uint32_t)s->now,
				.state = WIRE_MODEL_RESIDENT };

	strcpy(w.name, "fake");
	if (l->digest)
		memset(w.digest, 0x5a, sizeof(w.digest));
	srv_send(s, WIRE_MODELS, seq, &w, l->absent ? 0 : sizeof(w), NULL, 0);
}

static inline void srv_open(struct srv *s, const struct wire_hdr *hdr,
			    const void *body)
{
	const struct life *l = &s->life[s->now];
	struct wire_progress p = { .total_bytes = 2 };
	struct wire_id id;

	memcpy(&id, body, sizeof(id));
	if (hdr->type == WIRE_LOAD) {
		s->n_load++;
	} else if (id.model == 7 + 100 * (uint32_t)s->now) {
		s->n_open++;
	} else {
		srv_error(s, hdr->seq, -ENOENT, "open: no such model");
		return;
	}
	if (srv_dies(s, DIE_LOAD))
		return;
	if (hdr->type == WIRE_LOAD && l->no_load) {
		srv_error(s, hdr->seq, -EIO, "load: the file cannot be read");
		return;
	}
	srv_send(s, WIRE_PROGRESS, hdr->seq, &p, sizeof(p), NULL, 0);
	if (srv_dies(s, DIE_PROGRESS))
		return;
	srv_model(s, hdr->seq);
	srv_dies(s, DIE_MODEL);
}

static inline void srv_message(struct srv *s)
{
	static int refused;
	const struct life *l = &s->life[s->now];
	char buf[1024];
	struct wire_hdr hdr;
	ssize_t n = recv(s->sock, buf, sizeof(buf), MSG_CMSG_CLOEXEC);

	if (n <= 0) {
		s->dead = true;
		return;
	}
	memcpy(&hdr, buf, sizeof(hdr));
	switch (hdr.type) {
	case WIRE_HELLO:
		if (srv_dies(s, DIE_HELLO) || l->silent)
			return;
		srv_hello(s, hdr.seq);
		srv_dies(s, DIE_SESSION);
		break;
	case WIRE_MAPPED:
		if (srv_dies(s, DIE_MAPPED))
			return;
		if (l->refuse && !refused++) {
			srv_error(s, hdr.seq, -EDQUOT, "too many sessions");
			s->dead = true;
			return;
		}
		srv_send(s, WIRE_READY, hdr.seq, NULL, 0, NULL, 0);
		s->t_ready_ns = cring_now_ns();
		srv_dies(s, DIE_READY);
		break;
	case WIRE_LIST:
		if (!srv_dies(s, DIE_LOAD))
			srv_list(s, hdr.seq);
		break;
	case WIRE_LIMITS:
	case WIRE_STATS:
		srv_send(s, WIRE_TEXT_REPLY, hdr.seq, "lives 1\n", 8, NULL, 0);
		break;
	case WIRE_UNLOAD:
		srv_send(s, WIRE_OK, hdr.seq, NULL, 0, NULL, 0);
		break;
	default:
		srv_open(s, &hdr, buf + sizeof(hdr));
	}
}

/* --------------------------------------------------------------- engine */

static inline uint32_t srv_token(struct srv *s, uint32_t slot, uint32_t i)
{
	uint32_t t = life_token(s->f.run[slot].seed, 65, i);

	return s->life[s->now].other_tokens && i == 2 ? t ^ 1 : t;
}

/* Accept a RUN, with the tokens that came along. */
static inline void srv_run(struct srv *s, const struct ring_sqe *e)
{
	struct ring_run *run = &s->f.run[e->slot];
	struct ring_token t;
	uint32_t i;

	fake_accept(&s->f, e);
	if (run->model != 7 + 100 * (uint32_t)s->now)
		s->bad++;
	for (i = 0; i < run->n_done; i++) {
		memcpy(&t, s->f.c + e->off + run->done_off + i * sizeof(t),
		       sizeof(t));
		s->bad += t.token != srv_token(s, e->slot, i);
		s->bad += t.logprob != -(float)i;
		fake_token(&s->f, e->slot, t.token, t.logprob);
	}
	s->n_done[s->now] += run->n_done > 0;
	s->n_run[s->now]++;
	s->pos[e->slot] = run->n_done;
	s->gen[e->slot] = e->gen;
	s->on[e->slot] = true;
}

static inline void srv_take(struct srv *s)
{
	struct ring_sqe e;
	struct ring_cqe c = { .event = RING_EV_NOP };

	while (!s->dead && fake_pop(&s->f, &e)) {
		switch (e.op) {
		case RING_OP_NOP:
			c.arg = e.arg;
			fake_push(&s->f, &c);
			break;
		case RING_OP_RUN:
			if (srv_dies(s, DIE_RUN))
				return;
			srv_run(s, &e);
			srv_dies(s, DIE_ACCEPTED);
			break;
		case RING_OP_CANCEL:
			if (s->on[e.slot] && s->gen[e.slot] == e.gen)
				fake_done(&s->f, e.slot, RING_FIN_CANCEL, 0);
			s->on[e.slot] = false;
			break;
		default:
			s->n_release[s->now]++;
			s->on[e.slot] = false;
		}
	}
}

static inline void srv_step(struct srv *s)
{
	struct ring_slot *sl;
	uint32_t max;
	uint32_t i;

	for (i = 0; i < FAKE_SLOTS && !s->dead; i++) {
		if (!s->on[i])
			continue;
		max = s->f.run[i].max_tokens;
		if (s->pos[i] < max) {
			fake_token(&s->f, i, srv_token(s, i, s->pos[i]),
				   -(float)s->pos[i]);
			s->pos[i]++;
			s->n_tokens++;
			if (s->n_tokens >= s->life[s->now].after &&
			    srv_dies(s, DIE_TOKENS))
				return;
		}
		sl = fake_slot(&s->f, i);
		if (s->pos[i] < max) {
			/* as the engine: one unread entry a slot at most */
			if (__atomic_load_n(&s->f.rc->cq_head,
					    __ATOMIC_ACQUIRE) == s->f.cq_tail)
				fake_event(&s->f, RING_EV_PROGRESS, i);
			continue;
		}
		s->on[i] = false;
		if (s->life[s->now].die == DIE_UNSAID) {
			sl->finish = RING_FIN_LENGTH;
			__atomic_store_n(&sl->state, RING_SLOT_DONE,
					 __ATOMIC_RELEASE);
			srv_dies(s, DIE_UNSAID);
			return;
		}
		fake_done(&s->f, i, RING_FIN_LENGTH, 0);
	}
}

/* --------------------------------------------------------------- thread */

static inline void srv_bury(struct srv *s)
{
	int i;

	if (s->sock >= 0)
		close(s->sock);
	s->sock = -1;
	if (!s->f.c)
		return;
	munmap(s->f.c, s->f.lay.c_bytes);
	munmap(s->f.d, s->f.lay.d_bytes);
	for (i = 0; i < 4; i++)
		close(s->fd[i]);
	memset(&s->f, 0, sizeof(s->f));
	memset(s->on, 0, sizeof(s->on));
	s->t_ready_ns = 0;
}

static inline void srv_listen(struct srv *s)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	uint32_t uid = s->life[s->now].uid;

	strcpy(a.sun_path, s->path);
	unlink(s->path);
	/* this thread alone: the C library would change all of them */
	if (uid && syscall(SYS_setresuid, -1, uid, -1))
		abort();
	s->listen = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s->listen < 0)
		abort();
	if (uid && syscall(SYS_setresuid, -1, 0, -1))
		abort();
	if (bind(s->listen, (struct sockaddr *)&a, sizeof(a)))
		abort();
	if (uid && syscall(SYS_setresuid, -1, uid, -1))
		abort();
	if (listen(s->listen, 8))
		abort();
	if (uid && syscall(SYS_setresuid, -1, 0, -1))
		abort();
}

static inline bool srv_wait(struct srv *s, int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (!s->stop && ms >= 0) {
		if (poll(&p, 1, 5) > 0)
			return true;
		ms -= 5;
	}
	return false;
}

/* One connection, until it is over. */
static inline void srv_serve(struct srv *s)
{
	bool later;

	while (!s->stop && !s->dead) {
		struct pollfd p[2] = { { .fd = s->sock, .events = POLLIN },
				       { .fd = s->f.kick_fd,
					 .events = POLLIN } };

		if (poll(p, 1, 1) > 0)
			srv_message(s);
		later = s->life[s->now].later &&
			cring_now_ns() < s->t_ready_ns + 50000000;
		if (!s->dead && s->t_ready_ns && !later) {
			srv_take(s);
			srv_step(s);
		}
	}
}

static inline void *srv_thread(void *arg)
{
	struct srv *s = arg;

	for (s->now = 0; s->now < s->n_lives && !s->stop; s->now++) {
		nap(s->life[s->now].gap_ms * 1000);
		srv_listen(s);
		for (;;) {
			s->n_tokens = 0;
			s->dead = false;
			if (!srv_wait(s, s->listen, 60000))
				break;
			s->sock = accept4(s->listen, NULL, NULL, SOCK_CLOEXEC);
			if (!srv_dies(s, DIE_ACCEPT))
				srv_serve(s);
			srv_bury(s);
			/* a refused one may come again */
			if (!s->life[s->now].refuse || s->stop)
				break;
		}
		close(s->listen);
	}
	unlink(s->path);
	return NULL;
}

static inline void srv_start(struct srv *s, const struct life *life, int n)
{
	memset(s, 0, sizeof(*s));
	s->sock = -1;
	if (n > SRV_LIVES)
		abort();
	memcpy(s->life, life, (size_t)n * sizeof(*life));
	s->n_lives = n;
	snprintf(s->path, sizeof(s->path), "/tmp/check-client-%d.sock",
		 (int)getpid());
	pthread_create(&s->th, NULL, srv_thread, s);
}

static inline void srv_stop(struct srv *s)
{
	s->stop = true;
	pthread_join(s->th, NULL);
}

#endif
