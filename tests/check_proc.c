/* SPDX-License-Identifier: MIT */
/* check_proc.c - messages: the table's checks, fds, full and closed sockets. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../daemon/conf.h"
#include "../daemon/loop.h"
#include "../daemon/monitor.h"
#include "../daemon/proc.h"

static int sv[2];
static char body[PROC_MAX_BODY];
static int fds[PROC_MAX_FDS + 8];
static unsigned int n_fds;
static size_t n;

static void setup(void)
{
	ck_assert(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sv));
	memset(body, 0, sizeof(body));
}

static void teardown(void)
{
	close(sv[0]);
	close(sv[1]);
}

static int n_open(void)
{
	int open_fds = 0;
	int i;

	for (i = 0; i < 512; i++)
		open_fds += fcntl(i, F_GETFD) >= 0;
	return open_fds;
}

/* Send bytes and @k descriptors as they are, around all checks. */
static void send_any(const void *p, size_t len, unsigned int k)
{
	char ctl[CMSG_SPACE(64 * sizeof(int))] = { 0 };
	struct iovec iov = { (void *)(uintptr_t)p, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *h;
	unsigned int i;

	if (k) {
		m.msg_control = ctl;
		m.msg_controllen = CMSG_SPACE(k * sizeof(int));
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(k * sizeof(int));
		for (i = 0; i < k; i++)
			memcpy(CMSG_DATA(h) + i * sizeof(int), &sv[1],
			       sizeof(int));
	}
	ck_assert_int_eq(sendmsg(sv[0], &m, 0), len);
}

/* Every type there and back, with the fewest and the most descriptors. */
START_TEST(round_trip)
{
	static const struct {
		enum proc_type type;
		size_t len;
		unsigned int fds;
	} all[] = {
		{ PROC_SESSION_NEW, sizeof(struct proc_session), 4 },
		{ PROC_SESSION_END, sizeof(struct proc_id), 0 },
		{ PROC_MODEL_LOAD, sizeof(struct proc_load), 2 },
		{ PROC_MODEL_LOAD, sizeof(struct proc_load), PROC_MAX_FDS },
		{ PROC_MODEL_UNLOAD, sizeof(struct proc_id), 0 },
		{ PROC_GRANT, sizeof(struct proc_grant), 0 },
		{ PROC_EXIT, 0, 0 },
		{ PROC_READY, 0, 0 },
		{ PROC_SESSION_UP, sizeof(struct proc_status), 0 },
		{ PROC_SESSION_BAD, sizeof(struct proc_status), 0 },
		{ PROC_SESSION_GONE, sizeof(struct proc_id), 0 },
		{ PROC_MODEL_STATE, sizeof(struct proc_model_state), 0 },
		{ PROC_PARSED, sizeof(struct proc_status), 0 },
		{ PROC_PLAN, sizeof(struct proc_plan), 0 },
		{ PROC_PROGRESS, sizeof(struct proc_progress), 0 },
		{ PROC_LOADED, sizeof(struct proc_loaded), 0 },
		{ PROC_PLACE, sizeof(struct proc_id), 1 },
		{ PROC_BUSY, 0, 0 },
	};
	int out[PROC_MAX_FDS];
	char sent[PROC_MAX_BODY];
	bool seen[PROC_TYPE_N] = { false };
	size_t i;
	size_t k;
	int before = n_open();

	for (i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(i * 7 + 1);
	for (k = 0; k < PROC_MAX_FDS; k++)
		out[k] = sv[1];
	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		seen[all[i].type] = true;
		ck_assert_int_eq(proc_send(sv[0], all[i].type, sent, all[i].len,
					   out, all[i].fds),
				 0);
		ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds),
				 all[i].type);
		ck_assert_int_eq(n, all[i].len);
		ck_assert_int_eq(n_fds, all[i].fds);
		ck_assert(!memcmp(body, sent, n));
		for (k = 0; k < n_fds; k++) {
			ck_assert(fcntl(fds[k], F_GETFD) & FD_CLOEXEC);
			close(fds[k]);
		}
		/* The sender keeps the same rules. */
		ck_assert_int_eq(proc_send(sv[0], all[i].type, sent,
					   all[i].len + 1, out, all[i].fds),
				 -EINVAL);
		ck_assert_int_eq(proc_send(sv[0], all[i].type, sent, all[i].len,
					   out, PROC_MAX_FDS + 1),
				 -EINVAL);
	}
	for (i = 1; i < PROC_TYPE_N; i++)
		ck_assert_msg(seen[i], "type %zu is not tested", i);
	ck_assert_int_eq(n_open(), before);
}
END_TEST

/* One thing wrong at a time: refused, and no descriptor stays. */
START_TEST(refused)
{
	struct {
		struct proc_hdr h;
		struct proc_id id;
		char more[8];
	} m = { { PROC_SESSION_END, sizeof(struct proc_id) }, { 1 }, { 0 } };
	size_t good = sizeof(m.h) + sizeof(m.id);
	char big[4096] = { 0 };
	int before = n_open();

	send_any(&m, good, 0);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds),
			 PROC_SESSION_END);
	send_any(&m, good, 1);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	send_any(&m, good, 40);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	send_any(&m, good - 1, 0);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	send_any(&m, good + 1, 0);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	send_any(&m, sizeof(m.h) - 1, 0);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	send_any(&m, 0, 2); /* empty, but not the end */
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	send_any(big, sizeof(big), 2);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	m.h.len++;
	send_any(&m, good, 0);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	m.h.len = UINT32_MAX;
	send_any(&m, good, 0);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	m.h.len = sizeof(m.id);
	m.h.type = 0;
	send_any(&m, good, 0);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	m.h.type = PROC_TYPE_N;
	send_any(&m, good, 0);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	m.h.type = UINT32_MAX;
	send_any(&m, good, 3);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EPROTO);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), -EAGAIN);
	ck_assert_int_eq(n_open(), before);
}
END_TEST

START_TEST(full_and_closed)
{
	struct proc_id id = { 1 };
	int err = 0;
	int i;

	for (i = 0; i < 100000 && !err; i++)
		err = proc_send(sv[0], PROC_SESSION_END, &id, sizeof(id), NULL,
				0);
	ck_assert_int_eq(err, -EAGAIN);
	close(sv[1]);
	err = proc_send(sv[0], PROC_EXIT, NULL, 0, NULL, 0);
	ck_assert(err == -EPIPE || err == -ECONNRESET);
	sv[1] = dup(sv[0]);
}
END_TEST

START_TEST(end_of_file)
{
	close(sv[0]);
	ck_assert_int_eq(proc_recv(sv[1], body, &n, fds, &n_fds), 0);
	sv[0] = dup(sv[1]);
}
END_TEST

struct msg {
	struct wire_hdr h;
	struct wire_load l;
};

static struct msg hello(void)
{
	struct msg m = { { WIRE_MAGIC, RING_ABI, WIRE_HELLO, 7,
			   sizeof(struct wire_hello) },
			 { 0 } };

	return m;
}

#define HELLO_LEN (sizeof(struct wire_hdr) + sizeof(struct wire_hello))

START_TEST(wire_checks)
{
	char why[160];
	struct msg m = hello();

	ck_assert_int_eq(wire_check(&m, HELLO_LEN, 0, why), WIRE_HELLO);
	ck_assert_int_eq(wire_check(&m, HELLO_LEN, 1, why), -EPROTO);
	ck_assert_int_eq(wire_check(&m, HELLO_LEN - 1, 0, why), -EPROTO);
	ck_assert_int_eq(wire_check(&m, HELLO_LEN + 1, 0, why), -EPROTO);
	ck_assert_int_eq(wire_check(&m, 0, 0, why), -EPROTO);
	ck_assert_int_eq(wire_check(&m, sizeof(m.h) - 1, 0, why), -EPROTO);
	m.h.magic++;
	ck_assert_int_eq(wire_check(&m, HELLO_LEN, 0, why), -EPROTO);
	m = hello();
	m.h.abi++;
	ck_assert_int_eq(wire_check(&m, HELLO_LEN, 0, why), -EPROTONOSUPPORT);
	ck_assert_ptr_nonnull(strstr(why, "version 2, this daemon speaks 1"));
	m = hello();
	m.h.type = WIRE_SESSION; /* an answer is no question */
	ck_assert_int_eq(wire_check(&m, HELLO_LEN, 0, why), -EPROTO);
	m.h.type = 0;
	ck_assert_int_eq(wire_check(&m, HELLO_LEN, 0, why), -EPROTO);
	m.h.type = UINT16_MAX;
	ck_assert_int_eq(wire_check(&m, HELLO_LEN, 0, why), -EPROTO);
	m.h.type = WIRE_LOAD;
	m.h.len = sizeof(m.l);
	ck_assert_int_eq(wire_check(&m, sizeof(m), 0, why), -EPROTO);
	ck_assert_int_eq(wire_check(&m, sizeof(m), 1, why), WIRE_LOAD);
	ck_assert_int_eq(wire_check(&m, sizeof(m), WIRE_MAX_FDS, why),
			 WIRE_LOAD);
	ck_assert_int_eq(wire_check(&m, sizeof(m), WIRE_MAX_FDS + 1, why),
			 -EPROTO);
}
END_TEST

/* More descriptors than allowed: none beyond the limit is ever opened. */
START_TEST(wire_fds)
{
	struct msg m = hello();
	unsigned int i;
	int before = n_open();

	send_any(&m, HELLO_LEN, 60);
	ck_assert_int_eq(wire_recv(sv[1], body, sizeof(body), fds, &n_fds),
			 -EMSGSIZE);
	ck_assert_int_le(n_fds, WIRE_MAX_FDS);
	for (i = 0; i < n_fds; i++)
		close(fds[i]);
	ck_assert_int_eq(n_open(), before);
}
END_TEST

/* Whatever a client asks for, its memories have the right shape. */
START_TEST(layouts)
{
	struct wire_hello h = { 0 };
	struct ring_layout l;
	struct conf conf;
	unsigned int seed = 1;
	int i;

	conf_init(&conf);
	for (i = 0; i < 100000; i++) {
		h.n_slots = (uint32_t)rand_r(&seed) >> (rand_r(&seed) & 31);
		h.sq_entries = (uint32_t)rand_r(&seed) >> (rand_r(&seed) & 31);
		h.c_bytes = (uint64_t)rand_r(&seed) << (rand_r(&seed) & 31);
		h.d_bytes = UINT64_MAX >> (rand_r(&seed) & 63);
		if (mon_layout(&conf, &h, &l))
			continue;
		ck_assert_uint_ge(l.n_slots, 1);
		ck_assert_uint_le(l.n_slots, conf.max_slots);
		ck_assert_uint_eq(l.sq_entries & (l.sq_entries - 1), 0);
		ck_assert_uint_eq(l.cq_entries & (l.cq_entries - 1), 0);
		ck_assert_uint_ge(l.cq_entries, 4 * l.n_slots);
		ck_assert_uint_le(l.c_bytes, conf.max_in_bytes);
		ck_assert_uint_le(l.d_bytes, conf.max_out_bytes);
		ck_assert_uint_ge(l.c_sq_off, RING_PAGE);
		ck_assert_uint_ge(l.c_data_off,
				  l.c_sq_off + l.sq_entries * 64ull);
		ck_assert_uint_lt(l.c_data_off, l.c_bytes);
		ck_assert_uint_ge(l.d_slot_off,
				  l.d_cq_off + l.cq_entries * 64ull);
		ck_assert_uint_ge(l.d_arena_off,
				  l.d_slot_off + l.n_slots * 256ull);
		ck_assert_uint_lt(l.d_arena_off, l.d_bytes);
		ck_assert_uint_eq((l.c_bytes | l.d_bytes | l.c_data_off |
				   l.d_slot_off | l.d_arena_off) %
					  RING_PAGE,
				  0);
	}
}
END_TEST

static int n_events;
static int n_timers;

static void on_event(struct loop_src *s, uint32_t revents)
{
	char c;

	n_events++;
	ck_assert(revents & (POLLIN | POLLHUP));
	while (read(s->fd, &c, 1) == 1)
		;
}

static void on_timer(struct loop_timer *t)
{
	int *order = t->arg;

	*order = n_timers++;
}

/* Sources, again, stale events and timers; on the driver that _i says. */
START_TEST(loop_both)
{
	struct loop_src s[2] = { { .events = POLLIN, .fn = on_event },
				 { .events = POLLIN, .fn = on_event } };
	struct loop_timer t[5];
	int order[5];
	struct loop *l;
	int i;

	if (_i)
		setenv("HEARTH_EPOLL", "1", 1);
	else
		unsetenv("HEARTH_EPOLL");
	ck_assert_int_eq(loop_new(&l, 8), 0);
	if (_i)
		ck_assert_str_eq(loop_kind(l), "epoll");
	n_events = 0;
	for (i = 0; i < 2; i++) {
		s[i].fd = sv[i];
		ck_assert_int_eq(loop_add(l, &s[i]), 0);
		ck_assert_int_eq(loop_add(l, &s[i]), -EEXIST);
	}
	loop_run(l, false);
	ck_assert_int_eq(n_events, 0);
	ck_assert_int_eq(write(sv[0], "x", 1), 1);
	ck_assert(loop_ready(l));
	loop_run(l, true);
	ck_assert_int_eq(n_events, 1);
	loop_run(l, false);
	ck_assert_int_eq(n_events, 1);
	loop_again(l, &s[1]);
	loop_again(l, &s[1]);
	loop_run(l, true);
	ck_assert_int_eq(n_events, 2);
	/* An event that was due when its source went is nobody's. */
	ck_assert_int_eq(write(sv[0], "x", 1), 1);
	loop_again(l, &s[1]);
	loop_del(l, &s[1]);
	loop_del(l, &s[1]);
	loop_run(l, false);
	ck_assert_int_eq(n_events, 2);
	ck_assert_int_eq(loop_add(l, &s[1]), 0);
	loop_run(l, true);
	ck_assert_int_eq(n_events, 3);
	/* Timers fire in order of their deadlines, a cleared one never. */
	for (i = 0; i < 5; i++) {
		order[i] = -1;
		t[i] = (struct loop_timer){ .fn = on_timer, .arg = &order[i] };
		ck_assert_int_eq(loop_timer_set(l, &t[i], (5 - i) * 4000000u),
				 0);
	}
	loop_timer_clear(l, &t[2]);
	loop_timer_set(l, &t[4], 30000000);
	n_timers = 0;
	while (n_timers < 4)
		loop_run(l, true);
	ck_assert_int_eq(order[3], 0);
	ck_assert_int_eq(order[1], 1);
	ck_assert_int_eq(order[0], 2);
	ck_assert_int_eq(order[4], 3);
	ck_assert_int_eq(order[2], -1);
	loop_free(l);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("proc");
	TCase *t = tcase_create("proc");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, round_trip);
	tcase_add_test(t, refused);
	tcase_add_test(t, full_and_closed);
	tcase_add_test(t, end_of_file);
	tcase_add_test(t, wire_checks);
	tcase_add_test(t, wire_fds);
	tcase_add_test(t, layouts);
	tcase_add_loop_test(t, loop_both, 0, 2);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
