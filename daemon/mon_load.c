/* SPDX-License-Identifier: MIT */
/*
 * mon_load.c - from files to an object in the pool: one parser, then one
 * loader a model, each a process that ends before it is believed.
 *
 * The image is sealed after its parser has exited, the object is published
 * after its loader has: then nobody can write either any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libclient/image.h"
#include "log.h"
#include "monitor.h"

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

/* ------------------------------------------------------ children in general */

static const char *kind(const struct mon_kid *k)
{
	return k->loader ? "loader" : "parser";
}

static void patience(struct mon_model *md)
{
	loop_timer_set(md->m->loop, &md->kid.timer,
		       md->m->conf.parse_ms * 1000000u);
}

/* A child that has exited, or is to be waited for by mon_reap(). */
static void let_go(struct mon_model *md)
{
	struct mon *m = md->m;

	loop_timer_clear(m->loop, &md->kid.timer);
	loop_del(m->loop, &md->kid.pid);
	loop_del(m->loop, &md->kid.ctl);
	close(md->kid.child.ctl);
}

void mon_load_stop(struct mon_model *md)
{
	md->room = false;
	if (md->kid.child.pidfd < 0)
		return;
	let_go(md);
	mon_reap(md->m, &md->kid.child);
	md->kid.child.pidfd = -1;
}

/* Why there is no result, if there is none. */
static int bad_end(const struct mon_model *md, const siginfo_t *si,
		   char text[WIRE_TEXT])
{
	const struct mon_kid *k = &md->kid;

	if (k->late) {
		snprintf(text, WIRE_TEXT, "%s in %llu ms (parse-ms)",
			 k->loader ? "no progress" : "header not read",
			 (unsigned long long)md->m->conf.parse_ms);
		return -ETIMEDOUT;
	}
	if (k->wrong) {
		snprintf(text, WIRE_TEXT, "the %s broke its protocol", kind(k));
		return -EBADMSG;
	}
	if (!k->said && si->si_code == CLD_EXITED) {
		snprintf(text, WIRE_TEXT,
			 "the %s ended without a result (status %d)", kind(k),
			 si->si_status);
		return -EBADMSG;
	}
	if (!k->said && k->loader && si->si_status == SIGKILL) {
		snprintf(text, WIRE_TEXT,
			 "the loader was killed (SIGKILL): has the system or "
			 "its memory cgroup run out of memory?");
		return -ENOMEM;
	}
	if (!k->said) {
		snprintf(text, WIRE_TEXT, "the %s was killed (SIG%s)", kind(k),
			 sigabbrev_np(si->si_status));
		return -EBADMSG;
	}
	if (k->last.st.err) {
		snprintf(text, WIRE_TEXT, "%s", k->last.st.text);
		return k->last.st.err < 0 ? k->last.st.err : -EBADMSG;
	}
	return 0;
}

static void parser_done(struct mon_model *md);
static void loader_done(struct mon_model *md);

static void kid_done(struct mon_model *md, const siginfo_t *si)
{
	char text[WIRE_TEXT];
	int err = bad_end(md, si, text);

	if (err)
		mon_model_fail(md, err, text);
	else if (md->kid.loader)
		loader_done(md);
	else
		parser_done(md);
}

static void kid_exit(struct loop_src *s, uint32_t revents)
{
	struct mon_model *md = s->arg;
	siginfo_t si;

	(void)revents;
	if (!md->m->ops->wait(s->fd, &si))
		return;
	/* What it said last may still be in the socket. */
	md->kid.ctl.fn(&md->kid.ctl, POLLIN);
	if (md->kid.child.pidfd < 0)
		return;
	let_go(md);
	close(md->kid.child.pidfd);
	md->kid.child.pidfd = -1;
	md->room = false;
	kid_done(md, &si);
}

static void kid_late(struct loop_timer *t)
{
	struct mon_model *md = t->arg;
	siginfo_t none = { 0 };

	md->kid.late = true;
	/* It may not even die (a file system that hangs): go on without it. */
	mon_load_stop(md);
	kid_done(md, &none);
}

static void place(struct mon_model *md)
{
	struct proc_id id = { .id = md->id };
	char why[160];
	int err = mon_pool_place(md, md->meta.weight_bytes, why);

	md->room = err == -EAGAIN;
	if (md->room) {
		/* Not its fault: its time stands still. */
		loop_timer_clear(md->m->loop, &md->kid.timer);
		return;
	}
	if (err) {
		mon_model_fail(md, err, why);
		return;
	}
	md->kid.placed = true;
	patience(md);
	/* Its first message to a new socket: there is room. */
	if (proc_send(md->kid.child.ctl, PROC_PLACE, &id, sizeof(id),
		      &md->object, 1))
		md->m->ops->kill(md->kid.child.pidfd);
}

void mon_load_room(struct mon_model *md)
{
	if (md->room)
		place(md);
}

/* False: it is not what a loader says now. */
static bool take_plan(struct mon_model *md, const struct proc_plan *p)
{
	size_t i;

	if (!md->kid.loader || md->kid.placed || md->room)
		return false;
	for (i = 0; i < sizeof(p->layout) && p->layout[i]; i++)
		;
	if (!i || i == sizeof(p->layout))
		return false;
	memcpy(md->meta.layout, p->layout, sizeof(md->meta.layout));
	md->meta.weight_bytes = p->bytes;
	place(md);
	return true;
}

static bool take_progress(struct mon_model *md, const struct proc_progress *p)
{
	if (!md->kid.loader || !md->kid.placed)
		return false;
	/* Only progress buys time. */
	if (p->done > md->kid.done)
		patience(md);
	md->kid.done = p->done;
	md->kid.total = p->total;
	return true;
}

static bool take_last(struct mon_model *md, int type, const void *body)
{
	struct mon_kid *k = &md->kid;

	if (k->loader != (type == PROC_LOADED))
		return false;
	if (k->loader)
		memcpy(&k->last, body, sizeof(k->last));
	else
		memcpy(&k->last.st, body, sizeof(k->last.st));
	k->last.st.text[sizeof(k->last.st.text) - 1] = 0;
	if (!k->last.st.err && k->loader && !k->placed)
		return false;
	k->said = true;
	/* It has no reason to live any more. */
	md->m->ops->kill(k->child.pidfd);
	return true;
}

static bool kid_message(struct mon_model *md, int type, const void *body)
{
	struct proc_progress pr;
	struct proc_plan pl;

	switch (type) {
	case PROC_PARSED:
	case PROC_LOADED:
		return take_last(md, type, body);
	case PROC_PLAN:
		memcpy(&pl, body, sizeof(pl));
		return take_plan(md, &pl);
	case PROC_PROGRESS:
		memcpy(&pr, body, sizeof(pr));
		return take_progress(md, &pr);
	default:
		return false;
	}
}

static void kid_ready(struct loop_src *s, uint32_t revents)
{
	struct mon_model *md = s->arg;
	struct mon_kid *k = &md->kid;
	_Alignas(8) char body[PROC_MAX_BODY];
	int fds[PROC_MAX_FDS];
	unsigned int n_fds;
	size_t n;
	int type;

	(void)revents;
	/* One that is being placed may fail, and the record go. */
	while (k->child.pidfd >= 0 && !k->said && !k->wrong) {
		type = proc_recv(s->fd, body, &n, fds, &n_fds);
		if (type == -EAGAIN)
			return;
		while (type > 0 && n_fds)
			close(fds[--n_fds]);
		if (type > 0 && kid_message(md, type, body))
			continue;
		if (k->child.pidfd < 0)
			return;
		k->wrong = type > 0 || type == -EPROTO;
		md->m->ops->kill(k->child.pidfd);
		return;
	}
}

static int kid_start(struct mon_model *md, bool loader)
{
	struct mon_kid *k = &md->kid;
	struct mon *m = md->m;
	struct proc_load l = { .id = md->id,
			       .uid = md->uid,
			       .n_files = md->n_fds };
	int fds[WIRE_MAX_FDS + 1];
	int err;

	memset(k, 0, sizeof(*k));
	k->loader = loader;
	k->child.pidfd = -1;
	err = m->ops->spawn(&k->child, loader ? "--loader" : "--parser",
			    &m->child_conf, -1);
	if (err) {
		k->child.pidfd = -1;
		return err;
	}
	k->ctl = (struct loop_src){
		.fd = k->child.ctl, .events = POLLIN, .fn = kid_ready, .arg = md
	};
	k->pid = (struct loop_src){ .fd = k->child.pidfd,
				    .events = POLLIN,
				    .fn = kid_exit,
				    .arg = md };
	k->timer.fn = kid_late;
	k->timer.arg = md;
	err = loop_add(m->loop, &k->ctl);
	if (!err)
		err = loop_add(m->loop, &k->pid);
	if (!err)
		patience(md);
	fds[0] = md->image;
	memcpy(fds + 1, md->fd, md->n_fds * sizeof(int));
	if (!err)
		err = proc_send(k->child.ctl, PROC_MODEL_LOAD, &l, sizeof(l),
				fds, md->n_fds + 1);
	return err;
}

/* ------------------------------------------------------------------ parser */

int mon_load_start(struct mon_model *md)
{
	md->t_start = clock_ns();
	md->image = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (md->image < 0)
		return -errno;
	return kid_start(md, false);
}

/* The parser has exited, so nobody can write the image any more. */
static void parser_done(struct mon_model *md)
{
	struct stat st;
	int err;

	if (fstat(md->image, &st) || st.st_size <= 0 ||
	    st.st_size > (off_t)IMAGE_MAX_BYTES ||
	    fcntl(md->image, F_ADD_SEALS, ALL_SEALS)) {
		mon_model_fail(md, -EBADMSG,
			       "the model image cannot be sealed");
		return;
	}
	md->state = WIRE_MODEL_LOADING;
	err = kid_start(md, true);
	if (err)
		mon_model_fail(md, err, "the loader cannot be started");
}

/* ------------------------------------------------------------------ loader */

static bool files_changed(const struct mon_model *md)
{
	struct pool_file f;
	char why[160];
	uint32_t i;

	for (i = 0; i < md->n_fds; i++)
		if (mon_look_at(md->fd[i], &f, why) ||
		    !mon_same_file(&f, &md->meta.file[i]))
			return true;
	return false;
}

/* Its bytes are there already, under another's name: that one it is. */
static void use_other(struct mon_model *md, struct mon_model *other)
{
	log_client("model %u: has the content of model %u (%s)", md->id,
		   other->id, md->meta.name);
	other->also.n = md->meta.n_files;
	memcpy(other->also.part, md->meta.file, sizeof(other->also.part));
	other->evict = false;
	mon_model_move(md, other);
	mon_model_free(md);
	if (other->state == WIRE_MODEL_READY)
		mon_model_answer(other, WIRE_LOAD, 0, NULL);
	else if (other->state == WIRE_MODEL_RESIDENT && mon_attach(other))
		mon_model_answer(other, WIRE_LOAD, -ENOENT,
				 "its memory was taken; load it again");
}

static struct mon_model *same_object(const struct mon_model *md,
				     const char *name)
{
	struct mon *m = md->m;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (m->models[i].id && !strcmp(m->models[i].obj, name))
			return &m->models[i];
	return NULL;
}

void mon_load_close_files(struct mon_model *md)
{
	while (md->n_fds)
		loop_close(md->m->loop, md->fd[--md->n_fds]);
}

/* The loader has exited: nobody has the object mapped writable any more. */
static void loader_done(struct mon_model *md)
{
	struct mon_model *other;
	char name[POOL_NAME];
	char why[160] = "";
	int err;

	if (files_changed(md)) {
		mon_model_fail(md, -ESTALE, "a file changed while it was read");
		return;
	}
	mon_load_close_files(md);
	memcpy(md->meta.digest, md->kid.last.digest, sizeof(md->meta.digest));
	err = pool_image_digest(md->image, md->meta.image_digest);
	if (err) {
		mon_model_fail(md, err, "the model image cannot be read");
		return;
	}
	pool_name(name, &md->meta);
	other = same_object(md, name);
	if (other) {
		use_other(md, other);
		return;
	}
	md->meta.t_load_ns = clock_ns() - md->t_start;
	err = mon_pool_publish(md, why);
	if (!err) {
		md->m->n_loads++;
		log_client("model %u: loaded, %llu MiB in %llu ms (%s)", md->id,
			   (unsigned long long)(md->meta.weight_bytes >> 20),
			   (unsigned long long)(md->meta.t_load_ns / 1000000),
			   md->meta.name);
		err = mon_attach(md);
	}
	if (err)
		mon_model_fail(md, err, *why ? why : strerrordesc_np(-err));
}
