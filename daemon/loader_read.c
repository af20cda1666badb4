/* SPDX-License-Identifier: MIT */
/*
 * loader_read.c - reading files for a load: directly by io_uring, or not.
 *
 * The threads of a load share one ring under a lock: who needs a unit takes
 * what has arrived, asks for more, and only waits when nothing is there. A
 * file that is in the page cache, or cannot be read directly, is read by each
 * thread for itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "loader_priv.h"
#include "object.h"

/* Enough that a disk always has something to do; getting it costs, too. */
#define STAGING	  (12u << 20)
#define MAX_SLOTS 16
#define SAMPLES	  16
#define AHEAD	  8 /* units that the kernel is asked to read ahead */
#define WHY	  160

struct reader {
	struct reader_file file[IMAGE_MAX_FILES];
	unsigned int n_files;
	const struct unit *units;
	uint32_t n_units;
	uint32_t next;
	uint8_t *staging;
	size_t staging_bytes;
	struct reader_slot slot[MAX_SLOTS + 64];
	uint32_t n_slots;
	uint32_t in_flight;
	struct io_uring ring;
	bool has_ring;
	bool fixed;
	bool direct;
	pthread_mutex_t lock;
};

const struct reader_file *reader_files(const struct reader *rd, unsigned int *n)
{
	*n = rd->n_files;
	return rd->file;
}

const char *reader_how(const struct reader *rd)
{
	if (!rd->direct)
		return "page cache";
	return rd->fixed ? "io_uring, direct, registered" : "io_uring, direct";
}

/* Some places of it are there already: then disks have nothing to do. */
static bool in_cache(int fd, uint64_t bytes)
{
	struct iovec v;
	char c;
	int i;

	for (i = 0; i < SAMPLES; i++) {
		v = (struct iovec){ &c, 1 };
		if (preadv2(fd, &v, 1, (off_t)(bytes / SAMPLES * (uint64_t)i),
			    RWF_NOWAIT) != 1)
			return false;
	}
	return true;
}

/*
 * A file description of our own: the one that came is shared with a client,
 * who would not like its flags to change.
 */
static int open_direct(int fd, uint64_t bytes)
{
	struct statx st;
	char path[32];
	int direct;

	if (in_cache(fd, bytes))
		return -1;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) ||
	    ((st.stx_mask & STATX_DIOALIGN) &&
	     (!st.stx_dio_mem_align || st.stx_dio_mem_align > READ_ALIGN ||
	      st.stx_dio_offset_align > READ_ALIGN)))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC | O_NOCTTY);
	return direct;
}

static int open_file(struct reader_file *f, int fd, unsigned int i,
		     char why[160])
{
	struct stat st;

	if (fstat(fd, &st)) {
		snprintf(why, WHY, "file %u: %s", i, strerrordesc_np(errno));
		return -EIO;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(why, WHY, "file %u: %s", i,
			 S_ISDIR(st.st_mode) ? "is a directory"
					     : "not a regular file");
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	}
	f->fd = fd;
	f->bytes = (uint64_t)st.st_size;
	f->mtime_s = st.st_mtim.tv_sec;
	f->mtime_ns = st.st_mtim.tv_nsec;
	f->ctime_s = st.st_ctim.tv_sec;
	f->ctime_ns = st.st_ctim.tv_nsec;
	f->verity = !hash_measure(fd, f->digest);
	f->direct = open_direct(fd, f->bytes);
	return 0;
}

static void open_ring(struct reader *rd)
{
	struct iovec v = { rd->staging, rd->staging_bytes };

	if (io_uring_queue_init(MAX_SLOTS * 2, &rd->ring, 0))
		return;
	rd->has_ring = true;
	/* Counts as locked memory, of which a user may have little. */
	rd->fixed = !io_uring_register_buffers(&rd->ring, &v, 1);
}

static int get_staging(struct reader *rd, size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	madvise(p, bytes, MADV_HUGEPAGE);
	rd->staging = p;
	rd->staging_bytes = bytes;
	return 0;
}

int reader_open(struct reader **out, const int *fds, unsigned int n_files,
		char why[160])
{
	struct reader *rd = calloc(1, sizeof(*rd));
	unsigned int i;
	int ret = -ENOMEM;

	snprintf(why, WHY, "no memory to read with");
	if (!rd)
		return ret;
	pthread_mutex_init(&rd->lock, NULL);
	for (i = 0; i < IMAGE_MAX_FILES; i++)
		rd->file[i].direct = -1;
	if (n_files > IMAGE_MAX_FILES) {
		snprintf(why, WHY, "%u files", n_files);
		ret = -EINVAL;
		goto fail;
	}
	if (get_staging(rd, STAGING))
		goto fail;
	rd->direct = n_files > 0;
	for (i = 0; i < n_files; i++) {
		ret = open_file(&rd->file[i], fds[i], i, why);
		if (ret)
			goto fail;
		rd->n_files++;
		rd->direct = rd->direct && rd->file[i].direct >= 0;
	}
	if (rd->direct)
		open_ring(rd);
	rd->direct = rd->direct && rd->has_ring;
	*out = rd;
	return 0;
fail:
	reader_close(rd);
	return ret;
}

void reader_close(struct reader *rd)
{
	unsigned int i;

	if (!rd)
		return;
	if (rd->has_ring)
		io_uring_queue_exit(&rd->ring);
	for (i = 0; i < IMAGE_MAX_FILES; i++)
		if (rd->file[i].direct >= 0)
			close(rd->file[i].direct);
	if (rd->staging)
		munmap(rd->staging, rd->staging_bytes);
	pthread_mutex_destroy(&rd->lock);
	free(rd);
}

int reader_start(struct reader *rd, const struct unit *units, uint32_t n_units,
		 uint64_t bytes, unsigned int n_threads)
{
	uint32_t i, least = n_threads + 1;

	if (bytes > UINT32_MAX - READ_ALIGN || least > 64)
		return -EFBIG;
	bytes = (bytes + READ_ALIGN - 1) & ~(uint64_t)(READ_ALIGN - 1);
	if (!bytes)
		bytes = READ_ALIGN;
	if (bytes * least > rd->staging_bytes) {
		munmap(rd->staging, rd->staging_bytes);
		rd->staging = NULL;
		rd->fixed = false; /* it is not the one that was registered */
		if (get_staging(rd, bytes * least))
			return -ENOMEM;
	}
	rd->n_slots = (uint32_t)(rd->staging_bytes / bytes);
	if (rd->n_slots > MAX_SLOTS && least <= MAX_SLOTS)
		rd->n_slots = MAX_SLOTS;
	else if (rd->n_slots > MAX_SLOTS)
		rd->n_slots = least;
	for (i = 0; i < rd->n_slots; i++)
		rd->slot[i] =
			(struct reader_slot){ .index = i,
					      .buf = rd->staging + i * bytes };
	rd->units = units;
	rd->n_units = n_units;
	rd->next = 0;
	rd->in_flight = 0;
	return 0;
}

static uint64_t start_of(const struct unit *u)
{
	return u->from & ~(uint64_t)(READ_ALIGN - 1);
}

/* The next unit's slot, or NULL. Under the lock. */
static struct reader_slot *take(struct reader *rd)
{
	const struct unit *u;
	struct reader_slot *s = NULL;
	uint64_t end;
	uint32_t i;

	for (i = 0; i < rd->n_slots && !s; i++)
		if (!rd->slot[i].busy)
			s = &rd->slot[i];
	if (!s || rd->next == rd->n_units)
		return NULL;
	u = &rd->units[rd->next];
	/* the unit's blocks, as far as the file goes */
	end = (u->to + READ_ALIGN - 1) & ~(uint64_t)(READ_ALIGN - 1);
	if (end > rd->file[u->file].bytes)
		end = rd->file[u->file].bytes;
	s->unit = rd->next++;
	s->want = (uint32_t)(end - start_of(u));
	s->got = 0;
	s->busy = true;
	return s;
}

static void ask(struct reader *rd, struct reader_slot *s)
{
	const struct unit *u = &rd->units[s->unit];
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rd->ring);
	int fd = rd->file[u->file].direct;
	uint32_t n = s->want - s->got;

	/* whole blocks, even where the file ends within one */
	n = (n + READ_ALIGN - 1) & ~(READ_ALIGN - 1);
	if (rd->fixed)
		io_uring_prep_read_fixed(sqe, fd, s->buf + s->got, n,
					 start_of(u) + s->got, 0);
	else
		io_uring_prep_read(sqe, fd, s->buf + s->got, n,
				   start_of(u) + s->got);
	io_uring_sqe_set_data64(sqe, s->index);
	rd->in_flight++;
}

/* What is missing after @got bytes, through the page cache. */
static int read_rest(struct reader *rd, struct reader_slot *s)
{
	const struct unit *u = &rd->units[s->unit];
	uint32_t ask_bytes;
	ssize_t n;

	while (s->got < s->want) {
		/* whole blocks: the file may have been opened for direct reads
		 * by who passed it */
		ask_bytes = s->want - s->got + READ_ALIGN - 1;
		ask_bytes &= ~(READ_ALIGN - 1);
		if (s->got % READ_ALIGN) /* no direct reads, nor room */
			ask_bytes = s->want - s->got;
		n = pread(rd->file[u->file].fd, s->buf + s->got, ask_bytes,
			  (off_t)(start_of(u) + s->got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -ENODATA;
		s->got += (uint32_t)n < s->want - s->got ? (uint32_t)n
							 : s->want - s->got;
	}
	return 0;
}

static int arrived(struct reader *rd, struct io_uring_cqe *cqe,
		   struct reader_slot **slot)
{
	struct reader_slot *s = &rd->slot[cqe->user_data];
	int res = cqe->res;

	io_uring_cqe_seen(&rd->ring, cqe);
	rd->in_flight--;
	*slot = s;
	if (res > 0)
		s->got += (uint32_t)res < s->want - s->got ? (uint32_t)res
							   : s->want - s->got;
	if (s->got == s->want)
		return 1;
	/* A file system that cannot after all, or a part of what was asked. */
	if (res > 0 || res == -EINVAL || res == -EOPNOTSUPP || res == -EAGAIN ||
	    res == -EINTR) {
		res = read_rest(rd, s);
		return res ? res : 1;
	}
	return res ? res : -ENODATA;
}

static int next_direct(struct reader *rd, struct reader_slot **slot)
{
	struct io_uring_cqe *cqe;
	struct reader_slot *s;
	int ret;

	for (;;) {
		while ((s = take(rd)))
			ask(rd, s);
		ret = io_uring_submit(&rd->ring);
		if (ret < 0 && ret != -EAGAIN && ret != -EBUSY && ret != -EINTR)
			return ret;
		if (!rd->in_flight)
			return 0; /* what there is, others have */
		ret = io_uring_wait_cqe(&rd->ring, &cqe);
		if (ret == -EINTR || ret == -EAGAIN)
			continue;
		return ret ? ret : arrived(rd, cqe, slot);
	}
}

static int next_cached(struct reader *rd, struct reader_slot **slot)
{
	const struct unit *u;
	uint32_t ahead = 0;

	pthread_mutex_lock(&rd->lock);
	*slot = take(rd);
	ahead = rd->next + AHEAD;
	pthread_mutex_unlock(&rd->lock);
	if (!*slot)
		return 0;
	if (ahead < rd->n_units) {
		u = &rd->units[ahead];
		posix_fadvise(rd->file[u->file].fd, (off_t)u->from,
			      (off_t)(u->to - u->from), POSIX_FADV_WILLNEED);
	}
	return read_rest(rd, *slot) ?: 1;
}

int reader_next(struct reader *rd, struct reader_slot **slot, uint32_t *at)
{
	int ret;

	*slot = NULL;
	if (rd->direct) {
		pthread_mutex_lock(&rd->lock);
		ret = next_direct(rd, slot);
		pthread_mutex_unlock(&rd->lock);
	} else {
		ret = next_cached(rd, slot);
	}
	*at = *slot ? (*slot)->unit : 0;
	return ret;
}

void reader_done(struct reader *rd, struct reader_slot *slot)
{
	pthread_mutex_lock(&rd->lock);
	slot->busy = false;
	pthread_mutex_unlock(&rd->lock);
}

int reader_check(const struct reader *rd, unsigned int *which)
{
	const struct reader_file *f;
	struct stat st;
	unsigned int i;

	for (i = 0; i < rd->n_files; i++) {
		f = &rd->file[i];
		*which = i;
		if (fstat(f->fd, &st) || (uint64_t)st.st_size != f->bytes ||
		    st.st_mtim.tv_sec != f->mtime_s ||
		    st.st_mtim.tv_nsec != f->mtime_ns ||
		    st.st_ctim.tv_sec != f->ctime_s ||
		    st.st_ctim.tv_nsec != f->ctime_ns)
			return -ESTALE;
	}
	return 0;
}
