/* SPDX-License-Identifier: MIT */
/*
 * t_read.c - read a file past the page cache as fast as it comes.
 *
 *	t_read FILE [DEPTH [KIB]]
 *
 * Keeps DEPTH direct reads of KIB kibibytes in flight by io_uring, looks at
 * nothing that arrives, and prints bytes and seconds: what a load of the file
 * can be measured by.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEPTH 64

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void die(const char *what, int err)
{
	fprintf(stderr, "t_read: %s: %s\n", what, strerror(err));
	exit(1);
}

struct job {
	struct io_uring ring;
	uint8_t *buf;
	uint64_t bytes;
	uint64_t next;
	size_t unit;
	int fd;
};

static void ask(struct job *j, uint64_t slot)
{
	struct io_uring_sqe *q = io_uring_get_sqe(&j->ring);

	io_uring_prep_read_fixed(q, j->fd, j->buf + slot * j->unit,
				 (unsigned int)j->unit, j->next, 0);
	io_uring_sqe_set_data64(q, slot);
	j->next += j->unit;
}

static uint64_t read_all(struct job *j, unsigned int depth)
{
	struct io_uring_cqe *cqe;
	uint64_t got = 0, slot;
	unsigned int flying = 0;
	int ret;

	for (slot = 0; slot < depth && j->next < j->bytes; slot++, flying++)
		ask(j, slot);
	for (; flying; flying--) {
		ret = io_uring_submit_and_wait(&j->ring, 1);
		if (ret >= 0)
			ret = io_uring_wait_cqe(&j->ring, &cqe);
		if (ret < 0)
			die("io_uring", -ret);
		if (cqe->res < 0)
			die("read", -cqe->res);
		got += (uint64_t)cqe->res;
		slot = cqe->user_data;
		io_uring_cqe_seen(&j->ring, cqe);
		if (j->next < j->bytes) {
			ask(j, slot);
			flying++;
		}
	}
	return got;
}

int main(int argc, char **argv)
{
	unsigned int depth = argc > 2 ? (unsigned int)atoi(argv[2]) : 16;
	size_t unit = (argc > 3 ? (size_t)atoi(argv[3]) : 1024) << 10;
	struct job j = { .unit = unit };
	struct iovec v;
	struct stat st;
	uint64_t got;
	double t;

	if (argc < 2 || !depth || depth > MAX_DEPTH || !unit ||
	    unit > 64u << 20) {
		fprintf(stderr, "usage: t_read FILE [DEPTH [KIB]]\n");
		return 2;
	}
	j.fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (j.fd < 0 || fstat(j.fd, &st))
		die(argv[1], errno);
	j.bytes = (uint64_t)st.st_size;
	v.iov_len = depth * unit;
	v.iov_base = mmap(NULL, v.iov_len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (v.iov_base == MAP_FAILED)
		die("buffers", errno);
	madvise(v.iov_base, v.iov_len, MADV_HUGEPAGE);
	j.buf = v.iov_base;
	if (io_uring_queue_init(MAX_DEPTH, &j.ring, 0) ||
	    io_uring_register_buffers(&j.ring, &v, 1))
		die("io_uring", errno);
	t = now();
	got = read_all(&j, depth);
	t = now() - t;
	if (got != j.bytes)
		die("the file ends too early", EIO);
	printf("%llu %.4f\n", (unsigned long long)got, t);
	return 0;
}
