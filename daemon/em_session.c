/* SPDX-License-Identifier: MIT */
/* em_session.c - sessions' memories come to the engine and leave it. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "em.h"

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

void em_session_new(struct em *em, const struct proc_session *p, const int *fds)
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
	em_say(em, PROC_SESSION_UP, &st, sizeof(st));
}

void em_session_end(struct em *em, uint64_t id)
{
	struct em_session *s = session_find(em, id);
	struct proc_id gone = { .id = id };

	if (!s) {
		em_say(em, PROC_SESSION_GONE, &gone, sizeof(gone));
		return;
	}
	engine_session_end(em->engine, id); /* says GONE */
	session_unmap(em, s);
}
