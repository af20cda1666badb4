/* SPDX-License-Identifier: MIT */
/*
 * t_hostile.c - attacks of a local client on the daemon, one function each.
 *
 *   t_hostile SOCKET MODEL ROUNDS [NAME...]
 *
 * Each attack runs in a process of its own, as another user when this is
 * root, while an honest client keeps asking and compares every answer. After
 * each: the daemon and its engine are the same processes, the honest client
 * has got on, and no descriptor or session is left over.
 */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "raw.h"
#include "util.h"

#define ATTACKER_UID  65533
#define HONEST_TOKENS 8

static const char *path;
static const char *model;
static int rounds;
static uint32_t model_id;

/* Shared with the honest client. */
static struct shared {
	_Atomic uint64_t answers;
	_Atomic int wrong;
	_Atomic int stop;
} * sh;

static int failed(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int failed(const char *fmt, ...)
{
	va_list ap;

	fputs("    ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return 1;
}

/* --------------------------------------------------------- honest client */

static int ask(struct raw *r, uint32_t id, uint32_t gen, uint32_t *out)
{
	const struct ring_slot *s = raw_slot(r, 0);
	const struct ring_token *tok;
	struct ring_cqe e;
	int err;
	int i;

	raw_run(r, 0, gen, id, 40, HONEST_TOKENS);
	err = raw_done(r, 0, &e, 20000);
	if (err)
		return err;
	if (e.event != RING_EV_DONE || s->n_out != HONEST_TOKENS)
		return -EBADMSG;
	tok = (const struct ring_token *)(const void *)(r->d + s->out_off);
	for (i = 0; i < HONEST_TOKENS; i++)
		out[i] = tok[i].token;
	raw_release(r, 0, gen);
	return 0;
}

static void __attribute__((noreturn)) honest(void)
{
	uint32_t first[HONEST_TOKENS];
	uint32_t out[HONEST_TOKENS];
	struct wire_model w = { 0 };
	struct raw r;
	uint32_t gen = 0;
	int err;

	err = raw_open(&r, path);
	if (!err)
		err = raw_load(r.sock, model, &w);
	if (!err)
		err = ask(&r, w.model, ++gen, first);
	while (!err && !atomic_load(&sh->stop)) {
		err = ask(&r, w.model, ++gen, out);
		if (!err && memcmp(first, out, sizeof(out)))
			err = -EBADMSG;
		if (!err)
			atomic_fetch_add(&sh->answers, 1);
		nap(1000);
	}
	if (err) {
		failed("honest client: answer %u: %s", gen, strerror(-err));
		atomic_store(&sh->wrong, 1);
	}
	raw_close(&r);
	exit(err ? 1 : 0);
}

/* A session with the model opened, ready to misbehave. */
static int open_session(struct raw *r)
{
	struct wire_model w = { 0 };
	int err = raw_open(r, path);

	if (!err)
		err = raw_load(r->sock, model, &w);
	if (err)
		return failed("session: %s", strerror(-err));
	model_id = w.model;
	return 0;
}

/* The daemon hung up on us, within @ms. */
static bool hung_up(int sock, int ms)
{
	uint64_t end = raw_now() + ms * 1000000ull;
	struct pollfd p = { .fd = sock, .events = POLLRDHUP };

	while (raw_now() < end)
		if (poll(&p, 1, 10) > 0 &&
		    (p.revents & (POLLRDHUP | POLLHUP | POLLERR)))
			return true;
	return false;
}

/* --------------------------------------------------------------- attacks */

/* As many as it takes, but no more at once than the ring holds, and none when
 * the daemon has hung up. */
static void many_nops(struct raw *r, uint32_t n)
{
	struct ring_sqe q = { .op = RING_OP_NOP };
	uint64_t end = raw_now() + 1000000000u;

	while (n && raw_now() < end) {
		if (r->sq_tail - __atomic_load_n(&raw_rd(r)->sq_head,
						 __ATOMIC_ACQUIRE) >=
		    r->l.sq_entries) {
			if (hung_up(r->sock, 1))
				return;
			continue;
		}
		raw_submit(r, &q);
		n--;
	}
}

/* 1: heads and tails that are random, go backwards or leap. */
static int a_indices(void)
{
	struct raw r;
	int i;

	for (i = 0; i < rounds; i++) {
		if (open_session(&r))
			return 1;
		raw_nop(&r, 1, 1000);
		switch (i % 4) {
		case 0: /* ahead of the ring */
			raw_rc(&r)->sq_tail = r.sq_tail + r.l.sq_entries + 1;
			break;
		case 1: /* back */
			raw_rc(&r)->sq_tail = r.sq_tail - 1;
			break;
		case 2: /* consumed more than was produced */
			raw_rc(&r)->cq_head = r.cq_head + 1000000;
			many_nops(&r, 4 * r.l.cq_entries);
			break;
		default:
			raw_rc(&r)->sq_tail = (uint32_t)rand() * 2654435761u;
			raw_rc(&r)->cq_head = (uint32_t)rand() * 2654435761u;
		}
		raw_kick(&r);
		if (i % 4 != 3 && !hung_up(r.sock, 10000))
			return failed("round %d: not disconnected", i);
		raw_close(&r);
	}
	return 0;
}

static void *flip(void *arg)
{
	struct raw *r = arg;
	volatile uint64_t *p = (volatile void *)r->c;
	size_t n = (r->l.c_data_off + 65536) / 8;
	unsigned int seed = 7;

	/* Everything behind the indices' page: entries and records. */
	while (!atomic_load(&sh->stop) && r->sock >= 0) {
		size_t i = r->l.c_sq_off / 8 +
			   (size_t)rand_r(&seed) % (n - r->l.c_sq_off / 8);

		p[i] ^= (uint64_t)rand_r(&seed) << (rand_r(&seed) & 32);
		if (!(rand_r(&seed) & 1023))
			sched_yield();
	}
	return NULL;
}

/* 2: another thread changes entries and records while they are taken. */
static int a_double_fetch(void)
{
	pthread_t t;
	struct raw r;
	struct raw copy;
	int i;

	if (open_session(&r))
		return 1;
	copy = r;
	if (pthread_create(&t, NULL, flip, &copy))
		return failed("no thread");
	for (i = 0; i < rounds * 50; i++) {
		raw_run(&r, (uint32_t)i % r.l.n_slots, (uint32_t)i, model_id,
			64, 4);
		raw_release(&r, (uint32_t)i % r.l.n_slots, (uint32_t)i);
		__atomic_store_n(&raw_rc(&r)->cq_head,
				 r.cq_head = raw_rd(&r)->cq_tail,
				 __ATOMIC_RELEASE);
		raw_kick(&r);
	}
	copy.sock = -1;
	pthread_join(t, NULL);
	raw_close(&r);
	return 0;
}

/* 3: offsets and lengths that overflow, overlap or point at the ring. */
static int a_offsets(void)
{
	static const uint64_t odd[] = {
		0,	    64,		4096,	    1,		63,
		UINT32_MAX, 1ull << 32, 1ull << 63, UINT64_MAX, UINT64_MAX - 63
	};
	struct ring_run run = { .top_p = 1, .repeat_penalty = 1 };
	struct ring_cqe e;
	struct raw r;
	size_t n = sizeof(odd) / sizeof(odd[0]);
	uint64_t v[12];
	int i;
	size_t k;

	if (open_session(&r))
		return 1;
	memcpy(v, odd, sizeof(odd));
	v[n++] = r.l.c_bytes;
	v[n++] = r.l.c_bytes - 64;
	for (i = 0; i < rounds * 20; i++) {
		struct ring_sqe q = { .op = RING_OP_RUN,
				      .gen = (uint32_t)i + 1 };
		uint32_t *f = (uint32_t *)(void *)&run;

		q.off = i & 1 ? v[(size_t)rand() % n] : r.l.c_data_off;
		q.len = i & 2 ? (uint32_t)v[(size_t)rand() % n] : 4096;
		run.model = model_id;
		run.n_prompt = 4;
		run.max_tokens = 1;
		run.prompt_off = sizeof(run);
		/* Any one word of the record becomes odd, floats too. */
		k = (size_t)rand() % (sizeof(run) / 4);
		f[k] = (uint32_t)v[(size_t)rand() % n];
		memcpy(r.c + r.l.c_data_off, &run, sizeof(run));
		f[k] = 0;
		run.top_p = 1;
		run.repeat_penalty = 1;
		raw_submit(&r, &q);
		if (raw_done(&r, 0, &e, 5000))
			return failed("round %d: no word about off %#llx "
				      "len %#x field %zu",
				      i, (unsigned long long)q.off, q.len, k);
		raw_release(&r, 0, q.gen);
	}
	raw_close(&r);
	return 0;
}

/* 4: slots used twice, of others, cancelled twice; unknown ops. */
static int a_ids(void)
{
	struct ring_sqe q;
	struct raw r;
	int i;

	if (open_session(&r))
		return 1;
	for (i = 0; i < rounds * 20; i++) {
		memset(&q, 0, sizeof(q));
		q.op = (uint16_t)(rand() % (RING_OP_N + 2));
		q.slot = rand() % 4 ? (uint32_t)rand() % 3
				    : (uint32_t)rand() * 4u;
		q.gen = (uint32_t)rand() % 3;
		if (rand() % 8 == 0)
			q.flags = (uint16_t)rand();
		if (rand() % 8 == 0)
			q.resv[rand() & 3] = 1;
		if (q.op == RING_OP_RUN && !q.flags)
			raw_run(&r, q.slot % r.l.n_slots, q.gen,
				rand() % 8 ? model_id : (uint32_t)rand(), 8,
				16);
		else
			raw_submit(&r, &q);
		r.cq_head =
			__atomic_load_n(&raw_rd(&r)->cq_tail, __ATOMIC_ACQUIRE);
		__atomic_store_n(&raw_rc(&r)->cq_head, r.cq_head,
				 __ATOMIC_RELEASE);
	}
	raw_close(&r);
	return 0;
}

/* 5: everything that would change a memory under the daemon. */
static int a_memory(void)
{
	struct raw r;
	char name[32];
	int c;
	int d;
	int fd;

	if (raw_hello(&r, path, NULL) || raw_map(&r))
		return failed("handshake");
	/* Before the seal only shrinking and growing are shut off. */
	if (!ftruncate(r.c_fd, 0) || !ftruncate(r.c_fd, 1 << 30))
		return failed("C could be resized");
	fallocate(r.c_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
	if (raw_mapped(&r))
		return failed("not ready");
	c = r.c_fd;
	d = r.d_fd;
	if (!fallocate(c, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096))
		return failed("a hole could be punched into C");
	if (!madvise(r.c, 4096, MADV_REMOVE))
		return failed("pages of C could be removed");
	if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, c, 0) !=
	    MAP_FAILED)
		return failed("C could be mapped again");
	if (!fcntl(c, F_ADD_SEALS, F_SEAL_WRITE))
		return failed("C could be sealed");
	if (!mprotect((void *)(uintptr_t)r.d, 4096, PROT_READ | PROT_WRITE))
		return failed("D could be made writable");
	if (!ftruncate(d, 0) || !fcntl(d, F_ADD_SEALS, F_SEAL_WRITE) ||
	    !fallocate(d, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096))
		return failed("D could be changed");
	snprintf(name, sizeof(name), "/proc/self/fd/%d", d);
	fd = open(name, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && getuid() == ATTACKER_UID)
		return failed("D could be opened for writing");
	if (raw_nop(&r, 9, 2000))
		return failed("the session does not work any more");
	raw_close(&r);
	return 0;
}

/* 6: descriptors of every wrong kind as model files. */
static int a_wrong_fds(void)
{
	struct wire_load l = { .n_files = 1, .name = "wrong" };
	struct wire_model good = { 0 };
	struct wire_model w = { 0 };
	char none[sizeof(struct wire_model)];
	int sv[2];
	int fd[9];
	int fds[WIRE_MAX_FDS];
	unsigned int n;
	size_t i;
	int s = raw_connect(path);
	int big;

	if (s < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
		return failed("sockets");
	fd[0] = open("/", O_RDONLY | O_DIRECTORY);
	fd[1] = sv[0];
	fd[2] = epoll_create1(0);
	fd[3] = eventfd(0, 0);
	fd[4] = open(model, O_PATH);
	fd[5] = open("/dev/zero", O_RDONLY);
	fd[6] = memfd_create("empty", 0);
	fd[7] = memfd_create("huge", MFD_HUGETLB);
	if (fd[7] < 0 || ftruncate(fd[7], 2 << 20))
		fd[7] = fd[6];
	fd[8] = memfd_create("holes", 0); /* a terabyte of nothing */
	if (ftruncate(fd[8], 1ll << 40))
		return failed("ftruncate");
	for (i = 0; i < 9; i++) {
		if (wire_send(s, WIRE_LOAD, 1, &l, sizeof(l), &fd[i], 1))
			return failed("file %zu: cannot be sent", i);
		if (!raw_expect(s, WIRE_MODEL, none, sizeof(none), fds, &n,
				40000))
			return failed("file %zu was loaded", i);
	}
	if (raw_load(s, model, &good))
		return failed("the honest model");
	/* A file that shrinks and changes while it is read. */
	big = memfd_create("shrinks", 0);
	for (i = 0; i < 20; i++) {
		int in = open(model, O_RDONLY | O_CLOEXEC);
		char buf[4096];
		ssize_t got;

		if (ftruncate(big, 0) || lseek(big, 0, SEEK_SET))
			return failed("lseek");
		while ((got = read(in, buf, sizeof(buf))) > 0)
			if (write(big, buf, got) != got)
				return failed("write");
		close(in);
		if (wire_send(s, WIRE_LOAD, 1, &l, sizeof(l), &big, 1))
			return failed("not sent");
		nap((uint64_t)i * 1000);
		if (ftruncate(big, (off_t)rand() % 100000))
			return failed("ftruncate");
		/* Read in time it is the honest one's model, by content. */
		if (!raw_expect(s, WIRE_MODEL, &w, sizeof(w), fds, &n, 40000) &&
		    w.model != good.model && raw_unload(s, w.model))
			return failed("model %u stays, not %u", w.model,
				      good.model);
	}
	close(s);
	return 0;
}

/* 7: never reads a completion, while slots and queues fill. */
static int a_never_reads(void)
{
	struct wire_hdr h = { WIRE_MAGIC, RING_ABI, WIRE_LIST, 1, 0 };
	struct raw r;
	int i;

	if (open_session(&r))
		return 1;
	for (i = 0; i < (int)r.l.n_slots; i++)
		raw_run(&r, (uint32_t)i, 1, model_id, 8, 64);
	many_nops(&r, (uint32_t)rounds * 100);
	/* Nor the socket: the daemon must not wait for us there either. */
	for (i = 0; i < 100000; i++)
		if (send(r.sock, &h, sizeof(h), MSG_DONTWAIT | MSG_NOSIGNAL) <
		    0)
			break;
	nap(200000);
	raw_close(&r);
	return 0;
}

static bool answered(const struct raw *r)
{
	return __atomic_load_n(&raw_rd(r)->cq_tail, __ATOMIC_ACQUIRE) !=
	       r->cq_head;
}

/* 8: the eventfd it signals is full, and a write to it would block. */
static int a_eventfd(void)
{
	uint64_t full = UINT64_MAX - 1;
	struct raw r;
	int i, k;

	if (open_session(&r))
		return 1;
	fcntl(r.event, F_SETFL, 0);
	fcntl(r.kick, F_SETFL, 0);
	if (write(r.event, &full, 8) != 8)
		return failed("cannot be filled");
	raw_rc(&r)->client_waiting = RING_WAIT_EVENTFD;
	for (i = 0; i < rounds; i++) {
		struct ring_sqe q = { .op = RING_OP_NOP };

		raw_submit(&r, &q);
		raw_rc(&r)->client_waiting = RING_WAIT_EVENTFD;
		raw_kick(&r);
		for (k = 0; k < 2000 && !answered(&r); k++)
			nap(1000);
		r.cq_head =
			__atomic_load_n(&raw_rd(&r)->cq_tail, __ATOMIC_ACQUIRE);
		__atomic_store_n(&raw_rc(&r)->cq_head, r.cq_head,
				 __ATOMIC_RELEASE);
	}
	raw_rc(&r)->client_waiting = 0;
	if (raw_nop(&r, 3, 2000))
		return failed("the session does not work any more");
	/* Its kicks drained and filled by itself: only its own harm. */
	fcntl(r.kick, F_SETFL, O_NONBLOCK);
	for (i = 0; i < rounds; i++) {
		if (write(r.kick, &full, 8) < 0 && errno != EAGAIN)
			return failed("kick");
		if (read(r.kick, &full, 8) < 0 && errno != EAGAIN)
			return failed("kick");
		full = UINT64_MAX - 1;
	}
	raw_close(&r);
	return 0;
}

/* 9: connections without a handshake, half of one, or rubbish. */
static int a_handshakes(void)
{
	struct wire_hdr h;
	char junk[2048];
	struct raw r;
	int keep[600];
	int n = 0;
	int s;
	int i;

	for (i = 0; i < rounds * 20; i++) {
		s = raw_connect(path);
		if (s < 0)
			return failed("connection %d: %s", i, strerror(-s));
		switch (i % 5) {
		case 0:
			break;
		case 1:
			if (n < 600)
				keep[n++] = dup(s);
			break;
		case 2:
			memset(junk, rand(), sizeof(junk));
			send(s, junk, (size_t)rand() % sizeof(junk),
			     MSG_DONTWAIT | MSG_NOSIGNAL);
			break;
		case 3:
			h = (struct wire_hdr){ WIRE_MAGIC, 99, WIRE_HELLO, 1,
					       0 };
			send(s, &h, sizeof(h), MSG_DONTWAIT | MSG_NOSIGNAL);
			if (!hung_up(s, 10000))
				return failed("version 99 is welcome");
			break;
		default:
			wire_send(s, WIRE_MAPPED, 1, NULL, 0, NULL, 0);
		}
		close(s);
	}
	while (n)
		close(keep[--n]);
	/* Until the daemon has seen those go, this user has too many. */
	for (i = 0; i < 100 && raw_hello(&r, path, NULL); i++)
		nap(10000);
	if (i == 100)
		return failed("refused a second after all others had gone");
	raw_close(&r);
	for (i = 0; i < rounds; i++) {
		if (raw_hello(&r, path, NULL))
			return failed("half handshake %d refused", i);
		raw_close(&r);
	}
	return 0;
}

/* 10: as many descriptors as the kernel takes, with no or any message. */
static int a_fd_flood(void)
{
	char ctl[CMSG_SPACE(253 * sizeof(int))];
	struct wire_hdr h = { WIRE_MAGIC, RING_ABI, WIRE_LIST, 1, 0 };
	struct iovec iov = { &h, sizeof(h) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	int fds[253];
	int s;
	int i;
	int k;

	for (k = 0; k < 253; k++)
		fds[k] = 1;
	for (i = 0; i < rounds; i++) {
		s = raw_connect(path);
		if (s < 0)
			return failed("connect");
		memset(ctl, 0, sizeof(ctl));
		m.msg_control = ctl;
		k = i % 3 ? 253 : 1 + rand() % 40;
		iov.iov_len = i % 4 ? sizeof(h) : 0; /* an empty packet */
		m.msg_controllen = CMSG_SPACE(k * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(k * sizeof(int));
		memcpy(CMSG_DATA(c), fds, k * sizeof(int));
		if (sendmsg(s, &m, MSG_NOSIGNAL) < 0)
			return failed("sendmsg: %s", strerror(errno));
		if (!hung_up(s, 10000))
			return failed("%d descriptors are welcome", k);
		close(s);
	}
	return 0;
}

/* 11: as many sessions as it can get, then as many requests. */
static int a_sessions(void)
{
	static struct raw r[1200];
	struct wire_hello small = { .n_slots = 8,
				    .c_bytes = 65536,
				    .d_bytes = 65536 };
	int n = 0;
	int err = 0;
	int i;

	while (n < 1200) {
		err = raw_hello(&r[n], path, &small);
		if (!err)
			err = raw_map(&r[n]);
		if (!err)
			err = raw_mapped(&r[n]);
		if (err)
			break;
		n++;
	}
	raw_close(&r[n < 1200 ? n : 0]);
	if (n == 1200)
		return failed("1200 sessions and no limit");
	if (err != -EDQUOT && err != -EUSERS)
		return failed("session %d: %s", n, strerror(-err));
	for (i = 0; i < n; i++)
		raw_nop(&r[i], 1, 2000);
	for (i = 0; i < n; i++)
		raw_close(&r[i]);
	return 0;
}

/* 12: stops between filling an entry and publishing it, and stays. */
static int a_stopped(void)
{
	struct raw r;
	pid_t p = fork();
	int status;

	if (!p) {
		if (open_session(&r))
			_exit(1);
		raw_run(&r, 0, 1, model_id, 8, 200);
		memset(r.c + r.l.c_sq_off + 64, 0xff, 64);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(p, &status, WUNTRACED);
	nap(1000000);
	kill(p, SIGKILL);
	waitpid(p, &status, 0);
	return 0;
}

/* 13: killed after each step of the protocol. */
static int a_killed(void)
{
	struct wire_model w = { 0 };
	struct raw r;
	int status;
	pid_t p;
	int i;

	for (i = 0; i < rounds; i++) {
		p = fork();
		if (!p) {
			int step = i % 7;

			if (step-- == 0)
				raise(SIGKILL);
			if (raw_hello(&r, path, NULL))
				_exit(1);
			if (step-- == 0)
				raise(SIGKILL);
			raw_map(&r);
			wire_send(r.sock, WIRE_MAPPED, 1, NULL, 0, NULL, 0);
			if (step-- == 0)
				raise(SIGKILL);
			raw_close(&r);
			if (raw_open(&r, path))
				_exit(2);
			if (step-- == 0)
				raise(SIGKILL);
			if (raw_load(r.sock, model, &w))
				_exit(3);
			if (step-- == 0)
				raise(SIGKILL);
			raw_run(&r, 0, 1, w.model, 100, 100);
			if (step-- == 0)
				raise(SIGKILL);
			nap((uint64_t)rand() % 5 * 1000);
			raise(SIGKILL);
		}
		waitpid(p, &status, 0);
		if (WIFEXITED(status))
			return failed("round %d: exit %d", i,
				      WEXITSTATUS(status));
	}
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(void);
} attacks[] = {
	{ "1-indices", a_indices },
	{ "2-double-fetch", a_double_fetch },
	{ "3-offsets", a_offsets },
	{ "4-ids", a_ids },
	{ "5-memory", a_memory },
	{ "6-wrong-fds", a_wrong_fds },
	{ "7-never-reads", a_never_reads },
	{ "8-eventfd", a_eventfd },
	{ "9-handshakes", a_handshakes },
	{ "10-fd-flood", a_fd_flood },
	{ "11-sessions", a_sessions },
	{ "12-stopped", a_stopped },
	{ "13-killed", a_killed },
};

/* ---------------------------------------------------------------- running */

struct state {
	long long pid;
	long long engine;
	long long sessions;
	long long models;
	long long active;
	int fds;
	int engine_fds;
};

static int count_fds(long long pid)
{
	char name[64];
	int n = 0;
	DIR *d;

	snprintf(name, sizeof(name), "/proc/%lld/fd", pid);
	d = opendir(name);
	if (!d)
		return 0; /* not ours to see */
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static struct state look(void)
{
	struct state s = { .pid = raw_stat(path, "pid"),
			   .engine = raw_stat(path, "engine_pid"),
			   .sessions = raw_stat(path, "sessions"),
			   .models = raw_stat(path, "models"),
			   .active = raw_stat(path, "active") };

	/* Those of the questions just asked are not left over. */
	nap(5000);
	s.fds = count_fds(s.pid);
	s.engine_fds = count_fds(s.engine);
	return s;
}

/* Only the honest client is left, or what is wrong. */
static const char *compare(const struct state *a)
{
	const char *wrong = NULL;
	struct state b;
	int i;

	for (i = 0; i < 250; i++) {
		b = look();
		wrong = b.pid != a->pid		    ? "another daemon"
			: b.engine != a->engine	    ? "another engine"
			: b.sessions != a->sessions ? "sessions left over"
			: b.models != a->models	    ? "models left over"
			: b.fds > a->fds	    ? "descriptors left over"
			: b.engine_fds > a->engine_fds
				? "engine's descriptors left over"
			: b.active > 1 ? "requests left over"
				       : NULL;
		if (!wrong || b.pid != a->pid || b.engine != a->engine)
			break;
		nap(20000);
	}
	return wrong;
}

static int run_attack(size_t k, const struct state *base)
{
	uint64_t before = atomic_load(&sh->answers);
	uint64_t t = raw_now();
	const char *wrong;
	int status = 0;
	int i;
	pid_t p;

	fflush(stdout);
	p = fork();
	if (!p) {
		if (!getuid() && (setgid(ATTACKER_UID) || setuid(ATTACKER_UID)))
			_exit(1);
		srand((unsigned int)k);
		_exit(attacks[k].fn());
	}
	waitpid(p, &status, 0);
	wrong = compare(base);
	for (i = 0; i < 500 && atomic_load(&sh->answers) < before + 3; i++)
		nap(10000);
	if (!wrong && status)
		wrong = WIFSIGNALED(status) ? "the attacker crashed"
					    : "the attack was not repelled";
	if (!wrong && atomic_load(&sh->wrong))
		wrong = "the honest client got a wrong answer";
	if (!wrong && atomic_load(&sh->answers) < before + 3)
		wrong = "the honest client does not get on";
	printf("%-6s %-16s %6.2f s, honest answers %llu%s%s\n",
	       wrong ? "FAIL" : "ok", attacks[k].name, (raw_now() - t) / 1e9,
	       (unsigned long long)(atomic_load(&sh->answers) - before),
	       wrong ? ": " : "", wrong ? wrong : "");
	return wrong != NULL;
}

static bool wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 4; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc == 4;
}

int main(int argc, char **argv)
{
	struct state base;
	int status;
	int bad = 0;
	pid_t good;
	size_t k;

	signal(SIGPIPE, SIG_IGN);
	if (argc < 4) {
		fprintf(stderr,
			"usage: t_hostile SOCKET MODEL ROUNDS [NAME]\n");
		return 2;
	}
	path = argv[1];
	model = argv[2];
	rounds = atoi(argv[3]);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		return 1;
	good = fork();
	if (!good)
		honest();
	while (atomic_load(&sh->answers) < 10 && !atomic_load(&sh->wrong))
		nap(10000);
	base = look();
	for (k = 0; k < sizeof(attacks) / sizeof(attacks[0]); k++)
		if (wanted(attacks[k].name, argc, argv))
			bad += run_attack(k, &base);
	atomic_store(&sh->stop, 1);
	waitpid(good, &status, 0);
	return bad || status ? 1 : 0;
}
