/* SPDX-License-Identifier: MIT */
/*
 * mon_parser.c - one parser a load: its start, its one message, its end.
 *
 * The image is believed only after its parser has exited: then nobody can
 * write it any more, and it is sealed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../libclient/image.h"
#include "monitor.h"

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

void mon_parser_stop(struct mon_model *md)
{
	struct mon *m = md->m;

	loop_timer_clear(m->loop, &md->parser_timer);
	if (md->parser.pidfd < 0)
		return;
	loop_del(m->loop, &md->parser_pid);
	loop_del(m->loop, &md->parser_ctl);
	close(md->parser.ctl);
	mon_reap(m, &md->parser);
	md->parser.pidfd = -1;
}

/* The parser has exited, so nobody can write the image any more. */
static void parser_done(struct mon_model *md, const siginfo_t *si)
{
	char text[WIRE_TEXT];
	struct stat st;

	if (md->parse_late) {
		snprintf(text, sizeof(text),
			 "header not read in %llu ms (parse-ms)",
			 (unsigned long long)md->m->conf.parse_ms);
		mon_model_fail(md, -ETIMEDOUT, text);
		return;
	}
	if (!md->parsed) {
		if (si->si_code == CLD_EXITED)
			snprintf(text, sizeof(text),
				 "the parser ended without a result "
				 "(status %d)",
				 si->si_status);
		else
			snprintf(text, sizeof(text),
				 "the parser was killed (SIG%s)",
				 sigabbrev_np(si->si_status));
		mon_model_fail(md, -EBADMSG, text);
		return;
	}
	if (md->parse.err) {
		mon_model_fail(md, md->parse.err < 0 ? md->parse.err : -EBADMSG,
			       md->parse.text);
		return;
	}
	if (fstat(md->image, &st) || st.st_size <= 0 ||
	    st.st_size > (off_t)IMAGE_MAX_BYTES ||
	    fcntl(md->image, F_ADD_SEALS, ALL_SEALS)) {
		mon_model_fail(md, -EBADMSG,
			       "the model image cannot be sealed");
		return;
	}
	mon_model_parsed(md);
}

static void parser_exit(struct loop_src *s, uint32_t revents)
{
	struct mon_model *md = s->arg;
	siginfo_t si;

	(void)revents;
	if (!md->m->ops->wait(s->fd, &si))
		return;
	/* What it said last may still be in the socket. */
	md->parser_ctl.fn(&md->parser_ctl, POLLIN);
	loop_timer_clear(md->m->loop, &md->parser_timer);
	loop_del(md->m->loop, &md->parser_pid);
	loop_del(md->m->loop, &md->parser_ctl);
	close(md->parser.pidfd);
	close(md->parser.ctl);
	md->parser.pidfd = -1;
	parser_done(md, &si);
}

/* One message is all a parser ever sends; then it has no reason to live. */
static void parser_message(struct loop_src *s, uint32_t revents)
{
	struct mon_model *md = s->arg;
	_Alignas(8) char body[PROC_MAX_BODY];
	int fds[PROC_MAX_FDS];
	unsigned int n_fds;
	size_t n;
	int type;

	(void)revents;
	if (md->parsed)
		return;
	type = proc_recv(s->fd, body, &n, fds, &n_fds);
	if (type == PROC_PARSED) {
		memcpy(&md->parse, body, sizeof(md->parse));
		md->parse.text[sizeof(md->parse.text) - 1] = 0;
		md->parsed = true;
	} else if (type > 0) {
		while (n_fds)
			close(fds[--n_fds]);
	}
	if (type != -EAGAIN)
		md->m->ops->kill(md->parser.pidfd);
}

static void parser_late(struct loop_timer *t)
{
	struct mon_model *md = t->arg;
	siginfo_t none = { 0 };

	md->parse_late = true;
	/* It may not even die (a file system that hangs): go on without it. */
	mon_parser_stop(md);
	parser_done(md, &none);
}

int mon_parser_start(struct mon_model *md)
{
	struct mon *m = md->m;
	struct proc_load l = { .id = md->id, .n_files = md->n_files };
	int fds[WIRE_MAX_FDS + 1];
	int err;

	md->image = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (md->image < 0)
		return -errno;
	err = m->ops->spawn(&md->parser, "--parser", &m->child_conf, -1);
	if (err)
		return err;
	md->parser_ctl = (struct loop_src){ .fd = md->parser.ctl,
					    .events = POLLIN,
					    .fn = parser_message,
					    .arg = md };
	md->parser_pid = (struct loop_src){ .fd = md->parser.pidfd,
					    .events = POLLIN,
					    .fn = parser_exit,
					    .arg = md };
	md->parser_timer.fn = parser_late;
	md->parser_timer.arg = md;
	err = loop_add(m->loop, &md->parser_ctl);
	if (!err)
		err = loop_add(m->loop, &md->parser_pid);
	if (!err)
		err = loop_timer_set(m->loop, &md->parser_timer,
				     m->conf.parse_ms * 1000000u);
	fds[0] = md->image;
	memcpy(fds + 1, md->fd, md->n_files * sizeof(int));
	if (!err)
		err = proc_send(md->parser.ctl, PROC_MODEL_LOAD, &l, sizeof(l),
				fds, md->n_files + 1);
	return err;
}
