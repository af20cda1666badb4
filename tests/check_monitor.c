/* SPDX-License-Identifier: MIT */
/* check_monitor.c - handshakes, budgets, models, access, deaths. */
#include "mon_rig.h"

#include <check.h>
#include <sys/stat.h>

static struct wire_error we;
static struct wire_model wm;

static void setup(void)
{
	mr_open();
	memset(&we, 0, sizeof(we));
	memset(&wm, 0, sizeof(wm));
}

/* The answer must be an error that says this. */
static void refused(int i, int err, const char *text)
{
	int type;

	do {
		type = mr_answer(i, &we, sizeof(we));
	} while (type == WIRE_PROGRESS);
	ck_assert_int_eq(type, WIRE_ERROR);
	ck_assert_int_eq(we.err, err);
	ck_assert_msg(strstr(we.text, text) != NULL, "\"%s\" lacks \"%s\"",
		      we.text, text);
}

static void hello(int i)
{
	struct wire_hello h = { 0 };

	mr_ask(i, WIRE_HELLO, &h, sizeof(h), NULL, 0);
}

static void session(int i, uint32_t uid)
{
	mr_connect(i, uid);
	hello(i);
	ck_assert_int_eq(mr_answer(i, NULL, 0), WIRE_SESSION);
	mr_ask(i, WIRE_MAPPED, NULL, 0, NULL, 0);
	mr_work(0);
	ck_assert_int_eq(mr_answer(i, NULL, 0), WIRE_READY);
}

static void ask_load(int i, int file)
{
	struct wire_load l = { .n_files = 1, .name = "m" };

	mr_ask(i, WIRE_LOAD, &l, sizeof(l), &mr.file[file], 1);
}

/* Load file @file; the model's id. */
static uint32_t load(int i, int file)
{
	ask_load(i, file);
	mr_work(0); /* the parser, then */
	mr_work(0); /* the engine */
	ck_assert_int_eq(mr_answer(i, &wm, sizeof(wm)), WIRE_MODEL);
	ck_assert_int_eq(wm.state, WIRE_MODEL_READY);
	return wm.model;
}

static void by_id(int i, enum wire_type type, uint32_t id)
{
	struct wire_id w = { id, 0 };

	mr_ask(i, type, &w, sizeof(w), NULL, 0);
}

static void evict(int i, uint32_t id)
{
	struct wire_id w = { id, WIRE_EVICT };

	mr_ask(i, WIRE_UNLOAD, &w, sizeof(w), NULL, 0);
	mr_work(0);
	ck_assert_int_eq(mr_answer(i, NULL, 0), WIRE_OK);
}

START_TEST(handshake)
{
	session(0, 1000);
	hello(0);
	refused(0, -EALREADY, "has a session");
	mr_ask(0, WIRE_MAPPED, NULL, 0, NULL, 0);
	refused(0, -EPROTO, "no handshake is under way");
	ck_assert_int_eq(mr_answer(0, NULL, 0), 0);
}
END_TEST

START_TEST(budgets)
{
	session(0, 1000);
	session(1, 1000);
	mr_connect(2, 1000);
	hello(2);
	refused(2, -EDQUOT, "3 sessions of this user, limit 2");
	mr_hang_up(2);
	session(2, 1001);
	mr_connect(3, 1002);
	hello(3);
	refused(3, -EDQUOT, "4 sessions, limit 3");
	mr_hang_up(0);
	hello(3); /* the engine has not let go of it yet */
	refused(3, -EDQUOT, "limit 3");
	mr_work(0);
	hello(3);
	ck_assert_int_eq(mr_answer(3, NULL, 0), WIRE_SESSION);
}
END_TEST

/* As many connections as a user may have; the loop does not turn. */
static void fill_up(int *sock, size_t n)
{
	int sv[2];
	size_t i;

	for (i = 0; i < n; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX,
					    SOCK_SEQPACKET | SOCK_CLOEXEC |
						    SOCK_NONBLOCK,
					    0, sv),
				 0);
		sock[i] = sv[0];
		ck_assert_ptr_nonnull(mon_client_new(mr.m, sv[1], 1000));
	}
}

START_TEST(connections)
{
	int sock[18]; /* 2 sessions, and 16 without */
	size_t i;

	fill_up(sock, 18);
	mr_connect(0, 1000);
	ck_assert_ptr_null(mr.client[0].cl);
	refused(0, -EUSERS, "too many connections of this user (limit 18)");
	mr_connect(1, 1001);
	ck_assert_ptr_nonnull(mr.client[1].cl);
	/* Who has gone is in nobody's way, noticed or not. */
	for (i = 0; i < 18; i += 2)
		close(sock[i]);
	mr_connect(2, 1000);
	ck_assert_ptr_nonnull(mr.client[2].cl);
	ck_assert_uint_eq(mr.m->n_clients, 9 + 2);
	for (i = 1; i < 18; i += 2)
		close(sock[i]);
}
END_TEST

START_TEST(shared_bytes)
{
	session(0, 1000);
	mr.m->conf.max_shared_uid = 262143;
	mr_connect(1, 1000);
	hello(1);
	refused(1, -EDQUOT, "262144 bytes of shared memory of this user");
	mr.m->conf.max_shared_uid++;
	hello(1);
	ck_assert_int_eq(mr_answer(1, NULL, 0), WIRE_SESSION);
}
END_TEST

START_TEST(engine_cannot_map)
{
	mr_connect(0, 1000);
	hello(0);
	ck_assert_int_eq(mr_answer(0, NULL, 0), WIRE_SESSION);
	mr_ask(0, WIRE_MAPPED, NULL, 0, NULL, 0);
	mr_work(-ENOMEM);
	refused(0, -ENOMEM, "cannot map it");
	ck_assert_int_eq(mr_answer(0, NULL, 0), 0);
}
END_TEST

/* The same file is the same model, for whoever passes it. */
START_TEST(shared_model)
{
	uint32_t a;

	mr_connect(0, 1000);
	mr_connect(1, 1001);
	a = load(0, 0);
	ask_load(1, 0);
	ck_assert_int_eq(mr_answer(1, &wm, sizeof(wm)), WIRE_MODEL);
	ck_assert_uint_eq(wm.model, a);
	ck_assert_uint_eq(wm.n_sessions, 2);
	ck_assert_uint_ne(load(0, 1), a);
}
END_TEST

static void count_one(void *arg, const struct pool_entry *e)
{
	(void)e;
	++*(unsigned int *)arg;
}

/*
 * Files of the same content share an object, if their headers were read as the
 * same, too: who shows the parser another header gets one of his own.
 */
START_TEST(same_content)
{
	unsigned int n = 0;
	uint32_t a;
	uint32_t b;

	mr_connect(0, 1000);
	mr_connect(1, 1001);
	ck_assert(!ftruncate(mr.file[1], 4096) && !ftruncate(mr.file[2], 4096));
	a = load(0, 0);
	ck_assert_uint_eq(load(1, 1), a);
	ck_assert_uint_eq(wm.n_sessions, 2);
	ck_assert_uint_eq(mr.n_loaders, 2);
	mr.image = 'x';
	b = load(1, 2);
	ck_assert_uint_ne(b, a);
	mr.m->pool.ops->list(&mr.m->pool, count_one, &n);
	ck_assert_uint_eq(n, 2);
	/* each file leads to its own from now on */
	ck_assert_uint_eq(load(0, 0), a);
	ck_assert_uint_eq(load(0, 2), b);
	ck_assert_uint_eq(mr.n_loaders, 3);
}
END_TEST

START_TEST(rights)
{
	uint32_t id;

	mr_connect(0, 1000);
	mr_connect(1, 1001);
	mr_connect(2, 0);
	ck_assert(!fchmod(mr.file[0], 0600));
	id = load(0, 0);
	by_id(1, WIRE_OPEN, id);
	refused(1, -EACCES, "belongs to uid 1000");
	by_id(1, WIRE_UNLOAD, id);
	refused(1, -EPERM, "belongs to uid 1000");
	by_id(2, WIRE_OPEN, id); /* root may */
	ck_assert_int_eq(mr_answer(2, NULL, 0), WIRE_MODEL);
	/* and who shows the file: read, for it may be of any file system */
	ck_assert_uint_eq(load(1, 0), id);
	by_id(1, WIRE_OPEN, id);
	ck_assert_int_eq(mr_answer(1, NULL, 0), WIRE_MODEL);
	by_id(1, WIRE_UNLOAD, id);
	refused(1, -EPERM, "belongs to uid 1000");
	ck_assert(!fchmod(mr.file[1], 0644));
	id = load(0, 1); /* a file that all may read */
	mr_hang_up(2);
	mr_connect(2, 1002);
	by_id(2, WIRE_OPEN, id);
	ck_assert_int_eq(mr_answer(2, NULL, 0), WIRE_MODEL);
	by_id(2, WIRE_OPEN, id + 1);
	refused(2, -ENOENT, "no such model");
	evict(0, id);
	by_id(2, WIRE_OPEN, id);
	refused(2, -ENOENT, "no such model");
}
END_TEST

START_TEST(model_budgets)
{
	mr_connect(0, 1000);
	mr_connect(1, 1001);
	load(0, 0);
	load(0, 1);
	ask_load(0, 2);
	refused(0, -EDQUOT, "2 models of this user are in use, limit 2");
	load(1, 2);
	mr.m->conf.max_models_uid = 64;
	ck_assert(!ftruncate(mr.file[0], 99));
	ask_load(0, 0);
	refused(0, -EDQUOT, "3 models are in use, limit 3");
}
END_TEST

START_TEST(failures)
{
	struct wire_load l = { .n_files = 2 };

	mr_connect(0, 1000);
	ask_load(0, 3);
	refused(0, -EINVAL, "file 1 of 1: not a regular file");
	mr_ask(0, WIRE_LOAD, &l, sizeof(l), mr.file, 1);
	refused(0, -EINVAL, "2 files, but 1 file descriptors");
	ask_load(0, 0);
	mr_work(-EBADMSG); /* the parser */
	refused(0, -EBADMSG, "made up");
	ask_load(0, 0);
	mr_work(0);
	mr_work(-ENOMEM); /* the engine */
	ck_assert_int_eq(mr_answer(0, &we, sizeof(we)), WIRE_ERROR);
	ck_assert_int_eq(we.err, -ENOMEM);
	load(0, 0);
}
END_TEST

START_TEST(parser_dies)
{
	size_t i;

	mr_connect(0, 1000);
	ask_load(0, 0);
	for (i = 0; i < MR_CHILDREN; i++)
		if (mr.child[i].ctl >= 0 && !mr.child[i].engine)
			mr_end(&mr.child[i]);
	mr_run();
	refused(0, -EBADMSG, "the parser was killed (SIGKILL)");
}
END_TEST

/* As memory that runs out kills it. */
START_TEST(loader_dies)
{
	size_t i;

	session(0, 1000);
	ask_load(0, 0);
	mr_run();
	for (i = 0; i < MR_CHILDREN; i++)
		if (mr.child[i].ctl >= 0 && !mr.child[i].engine)
			mr_parse(&mr.child[i], 0);
	mr_run();
	ck_assert_uint_eq(mr.n_loaders, 1);
	for (i = 0; i < MR_CHILDREN; i++)
		if (mr.child[i].ctl >= 0 && mr.child[i].loader)
			mr_end(&mr.child[i]);
	mr_run();
	refused(0, -ENOMEM, "the loader was killed (SIGKILL)");
	load(0, 0); /* another time it may go well */
}
END_TEST

/* Models and sessions outlive an engine; who waits goes on waiting. */
START_TEST(engine_dies)
{
	uint64_t epoch;

	session(0, 1000);
	load(0, 0);
	epoch = mr.m->sessions[0].epoch;
	session(1, 1000);
	mr_hang_up(1); /* what it was to end is ended by its death */
	mr_end(mr_engine());
	mr_run();
	ck_assert(!mr.m->engine.ready);
	ck_assert_uint_eq(mr.m->models[0].state, WIRE_MODEL_LOADING);
	ck_assert_int_eq(mr.m->sessions[1].state, MON_S_FREE);
	by_id(0, WIRE_OPEN, mr.m->models[0].id);
	ck_assert_int_eq(mr_answer(0, NULL, 0), -EAGAIN);
	mr_say(mr_engine(), PROC_READY, NULL, 0);
	mr_work(0);
	ck_assert_int_eq(mr_answer(0, NULL, 0), WIRE_MODEL);
	ck_assert_int_eq(mr.m->sessions[0].state, MON_S_UP);
	ck_assert_uint_ne(mr.m->sessions[0].epoch, epoch);
}
END_TEST

/* A model that takes its engine along each time is given up, and its memory.
 * An engine that is killed from outside says nothing about the model. */
START_TEST(poison)
{
	int i;

	mr_connect(0, 1000);
	ask_load(0, 0);
	mr_work(0);
	ck_assert_uint_eq(mr.m->models[0].state, WIRE_MODEL_LOADING);
	ck_assert(mr.m->models[0].attaching);
	for (i = 0; i < 6; i++) {
		while (!mr_engine())
			loop_run(mr.m->loop, true);
		mr_say(mr_engine(), PROC_READY, NULL, 0);
		ck_assert_uint_ne(mr.m->models[0].id, 0);
		if (i < 4)
			mr_end(mr_engine());
		else
			mr_crash(mr_engine());
		mr_run();
	}
	refused(0, -EIO, "the engine died while loading it");
	ck_assert_uint_eq(mr.m->models[0].id, 0);
	ck_assert_uint_eq(mr.m->n_evicted, 1);
}
END_TEST

/* The next engine, ready, with a GPU in use, dies of itself. */
static void gpu_crash(void)
{
	while (!mr_engine())
		loop_run(mr.m->loop, true);
	mr_say(mr_engine(), PROC_READY, NULL, 0);
	mr_work(0);
	atomic_store(&mr.m->engine.stats->device, 1);
	mr_crash(mr_engine());
	mr_run();
}

/* With the CPU to go on with, a death is the GPU's fault; after the second one
 * there is no GPU to blame. Where there must be one, requests may be. */
START_TEST(gpu)
{
	const char *backend = _i ? "cuda" : "auto";
	int i;

	strcpy(mr.m->child_conf.backend, backend);
	session(0, 1000);
	for (i = 0; i < 2; i++) {
		ck_assert_str_eq(mr.m->child_conf.backend, backend);
		gpu_crash();
		ck_assert_int_eq(mr.m->sessions[0].crashed, _i);
	}
	ck_assert_str_eq(mr.m->child_conf.backend, _i ? "cuda" : "cpu");
	ck_assert_uint_eq(mr.m->n_crashes, 2);
	gpu_crash();
	ck_assert(mr.m->sessions[0].crashed);
}
END_TEST

/* An engine that never had its backend is not tried again. */
START_TEST(no_backend)
{
	struct mr_child *c;

	mr.m->engine.was_ready = false;
	mr_crash(mr_engine());
	mr_run();
	while (!mr_engine())
		loop_run(mr.m->loop, true);
	ck_assert(!mr.m->stop);
	c = mr_engine();
	c->status = PROC_EXIT_BACKEND;
	mr_end(c);
	mr_run();
	ck_assert(mr.m->stop);
	ck_assert_int_eq(mr.m->fail, -ENODEV);
}
END_TEST

/* Who waits alone and leaves stops the load; unload answers everybody. */
START_TEST(give_up)
{
	uint32_t id;

	mr_connect(0, 1000);
	mr_connect(1, 1000);
	ask_load(0, 0);
	mr_hang_up(0);
	ck_assert_uint_eq(mr.m->models[0].id, 0);
	ask_load(1, 0);
	mr_connect(0, 1000);
	ask_load(0, 0);
	id = mr.m->models[0].id;
	mr_hang_up(1);
	ck_assert_uint_eq(mr.m->models[0].id, id);
	mr_connect(1, 1000);
	by_id(1, WIRE_UNLOAD, id);
	refused(0, -ECANCELED, "unloaded while loading");
	ck_assert_int_eq(mr_answer(1, NULL, 0), WIRE_OK);
}
END_TEST

/* A client that does not read is dropped, and nobody waits for it. */
START_TEST(deaf)
{
	int i;

	mr_connect(0, 1000);
	for (i = 0; i < 100000 && mr.m->n_clients; i++)
		mr_ask(0, WIRE_LIMITS, NULL, 0, NULL, 0);
	ck_assert_uint_eq(mr.m->n_clients, 0);
}
END_TEST

/* An empty packet with files looks like the end of the connection. */
START_TEST(empty_packet)
{
	union {
		struct cmsghdr h;
		char b[CMSG_SPACE(4 * sizeof(int))];
	} c = { 0 };
	struct msghdr m = { .msg_control = c.b, .msg_controllen = sizeof(c.b) };
	int before;
	int i;

	c.h.cmsg_level = SOL_SOCKET;
	c.h.cmsg_type = SCM_RIGHTS;
	c.h.cmsg_len = CMSG_LEN(4 * sizeof(int));
	memcpy(CMSG_DATA(&c.h), mr.file, 4 * sizeof(int));
	before = dup(0);
	close(before);
	for (i = 0; i < 20; i++) {
		mr_connect(0, 1000);
		ck_assert_int_eq(sendmsg(mr.client[0].sock, &m, 0), 0);
		mr_run();
		ck_assert_int_eq(mr_answer(0, NULL, 0), 0);
		mr_hang_up(0);
	}
	ck_assert_int_eq(dup(0), before);
	close(before);
}
END_TEST

START_TEST(texts)
{
	char text[8192] = "";

	mr_connect(0, 1000);
	mr_ask(0, WIRE_LIMITS, NULL, 0, NULL, 0);
	ck_assert_int_eq(mr_answer(0, text, sizeof(text) - 1), WIRE_TEXT_REPLY);
	ck_assert_ptr_nonnull(strstr(text, "max-sessions 3\n"));
	mr_ask(0, WIRE_STATS, NULL, 0, NULL, 0);
	memset(text, 0, sizeof(text));
	ck_assert_int_eq(mr_answer(0, text, sizeof(text) - 1), WIRE_TEXT_REPLY);
	ck_assert_ptr_nonnull(strstr(text, "\nclients 1\n"));
	mr_ask(0, WIRE_LIST, NULL, 0, NULL, 0);
	ck_assert_int_eq(mr_answer(0, NULL, 0), WIRE_MODELS);
}
END_TEST

static void teardown(void)
{
	mr_settle();
	mr_shut();
}

int main(void)
{
	Suite *s = suite_create("monitor");
	TCase *t = tcase_create("monitor");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, handshake);
	tcase_add_test(t, budgets);
	tcase_add_test(t, connections);
	tcase_add_test(t, shared_bytes);
	tcase_add_test(t, engine_cannot_map);
	tcase_add_test(t, shared_model);
	tcase_add_test(t, same_content);
	tcase_add_test(t, rights);
	tcase_add_test(t, model_budgets);
	tcase_add_test(t, failures);
	tcase_add_test(t, parser_dies);
	tcase_add_test(t, loader_dies);
	tcase_add_test(t, engine_dies);
	tcase_add_test(t, poison);
	tcase_add_loop_test(t, gpu, 0, 2);
	tcase_add_test(t, no_backend);
	tcase_add_test(t, give_up);
	tcase_add_test(t, deaf);
	tcase_add_test(t, empty_packet);
	tcase_add_test(t, texts);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
