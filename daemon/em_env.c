/* SPDX-License-Identifier: MIT */
/* em_env.c - what the engine asks for: time, waking clients, memory. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "em.h"

#define AIO_EVENTS 64

static uint64_t now(void *arg)
{
	(void)arg;
	return clock_ns();
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

static void wake(void *arg, uint64_t session, uint32_t *word, int eventfd,
		 uint32_t how)
{
	(void)session;
	if (how & RING_WAIT_FUTEX)
		syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	if (how & RING_WAIT_EVENTFD)
		signal_event(arg, eventfd);
}

/* The monitor never blocks, so room in the socket always comes. */
void em_say(struct em *em, enum proc_type type, const void *body, size_t n)
{
	struct pollfd p = { .fd = em->ctl.fd, .events = POLLOUT };
	int err;

	while ((err = proc_send(em->ctl.fd, type, body, n, NULL, 0)) == -EAGAIN)
		poll(&p, 1, 1000);
	if (err)
		em->exit = true;
}

static bool settled(void *arg)
{
	struct em *em = arg;
	struct pollfd p = { .fd = em->ctl.fd, .events = POLLIN };

	return poll(&p, 1, 0) <= 0;
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
	return bytes - bytes / CONF_RESERVE;
}

static void notify(void *arg, enum proc_type type, const void *body, size_t n)
{
	em_say(arg, type, body, n);
}

/* What a KV cache may take: what is free, within mem-bytes. */
static uint64_t mem_available(void *arg)
{
	struct em *em = arg;
	struct backend_info info;
	uint64_t free_bytes = mem_free(em);
	uint64_t used = 0;
	size_t i;

	if (!em->conf.mem_bytes)
		return free_bytes;
	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		if (!em->models[i].m || em->models[i].loading)
			continue;
		em->ops->info(em->models[i].m, &info);
		used += info.weight_bytes + info.scratch_bytes - info.own_bytes;
	}
	if (used >= em->conf.mem_bytes)
		return 0;
	used = em->conf.mem_bytes - used;
	return used < free_bytes ? used : free_bytes;
}

int em_env_open(struct em *em, struct engine_env *env)
{
	*env = (struct engine_env){ .arg = em,
				    .now_ns = now,
				    .wake = wake,
				    .notify = notify,
				    .settled = settled,
				    .mem_available = mem_available };
	em->aio_always = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	em->meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	if (em->aio_always < 0 || em->meminfo < 0)
		return -errno;
	return syscall(SYS_io_setup, AIO_EVENTS, &em->aio) ? -errno : 0;
}
