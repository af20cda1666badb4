/* SPDX-License-Identifier: MIT */
/*
 * check_loader.c - loads: what they hash, what they pack, and how they fail.
 *
 * A backend that copies its pieces stands in: the object then shows which
 * bytes of the file came where.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../daemon/loader_priv.h"
#include "../daemon/object.h"
#include "../daemon/pool_priv.h"

#define TENSORS 40

/* An image with nothing but what a load looks at. */
struct file {
	struct image im;
	struct image_header h;
	struct image_tensor t[TENSORS];
	uint8_t *data;
	uint64_t bytes;
	int fd;
};

static uint64_t seed;

static uint64_t rnd(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % n;
}

static uint64_t piece_bytes; /* of the stand-in */
static int spoiled = -1;     /* tensor that it refuses */

static int copy_lay_out(const struct image *im, struct backend_layout *l,
			char why[160])
{
	uint64_t off, n, dst = 0;
	uint32_t i;

	(void)why;
	memset(l, 0, sizeof(*l));
	snprintf(l->name, sizeof(l->name), "copy-1");
	l->pieces = calloc(100000, sizeof(*l->pieces));
	ck_assert_ptr_nonnull(l->pieces);
	for (i = 0; i < im->h->tensors.n; i++) {
		const struct image_tensor *t = &im->tensors[i];

		for (off = 0; off < t->bytes; off += n, dst += n) {
			n = t->bytes - off;
			n = n < piece_bytes ? n : piece_bytes;
			ck_assert_uint_lt(l->n_pieces, 100000);
			l->pieces[l->n_pieces++] =
				(struct backend_piece){ .tensor = i,
							.off = t->off + off,
							.bytes = n,
							.dst = dst,
							.dst_bytes = n };
		}
	}
	l->bytes = (dst + 4095) & ~4095ull;
	return 0;
}

static int copy_pack(const struct image *im, const struct backend_piece *p,
		     const void *src, void *object, char why[160])
{
	(void)im;
	if ((int)p->tensor == spoiled) {
		snprintf(why, 160, "tensor %u is spoiled", p->tensor);
		return -EBADMSG;
	}
	memcpy((uint8_t *)object + p->dst, src, p->bytes);
	return 0;
}

static const struct backend_ops copy_ops = { .name = "copy",
					     .lay_out = copy_lay_out,
					     .pack = copy_pack };

/* Tensors of odd sizes, with gaps of odd sizes before, between and after. */
static void make(struct file *f, uint64_t scale)
{
	char path[] = "/var/tmp/check_loader.XXXXXX";
	uint64_t off = rnd(100000), i;

	memset(f, 0, sizeof(*f));
	for (i = 0; i < TENSORS; i++) {
		f->t[i].off = off;
		f->t[i].bytes = 1 + (i % 3 ? rnd(scale) : rnd(100));
		f->t[i].rows = 1;
		f->t[i].name.len = 4;
		off += f->t[i].bytes + (i % 4 ? rnd(50) : rnd(scale));
	}
	f->bytes = off + rnd(9000);
	f->data = malloc(f->bytes);
	ck_assert_ptr_nonnull(f->data);
	for (i = 0; i < f->bytes; i++)
		f->data[i] = (uint8_t)rnd(256);
	f->fd = mkstemp(path);
	ck_assert_int_ge(f->fd, 0);
	unlink(path);
	ck_assert_int_eq(write(f->fd, f->data, f->bytes), (ssize_t)f->bytes);
	f->h.n_files = 1;
	f->h.file_bytes[0] = f->bytes;
	f->h.tensors.n = TENSORS;
	f->im.h = &f->h;
	f->im.tensors = f->t;
	f->im.str = "name";
}

static void unmake(struct file *f)
{
	close(f->fd);
	free(f->data);
}

/* The file's digest, block after block. */
static void plain_digest(const struct file *f, uint8_t out[HASH_BYTES])
{
	uint8_t block[HASH_BLOCK], h[HASH_BYTES];
	struct hash_tree t;
	uint64_t i, n;

	ck_assert_int_eq(hash_tree_init(&t, f->bytes), 0);
	for (i = 0; i < f->bytes; i += HASH_BLOCK) {
		n = f->bytes - i < HASH_BLOCK ? f->bytes - i : HASH_BLOCK;
		memset(block, 0, sizeof(block));
		memcpy(block, f->data + i, n);
		hash_block(h, block);
		ck_assert_int_eq(hash_tree_put(&t, i / HASH_BLOCK, h), 0);
	}
	hash_tree_digest(&t, out);
	hash_tree_fini(&t);
}

static int load(const struct file *f, unsigned int threads, int stop,
		uint8_t digest[HASH_BYTES], char why[160])
{
	struct backend_progress pg = { .stop = stop };
	struct loader_way way = { .n_threads = threads, .pg = &pg };
	uint64_t bytes, at = 0, i;
	uint8_t *p;
	int object, ret;

	ret = loader_run(&copy_ops, &f->im, &f->fd, &way, &object, &bytes,
			 digest, why);
	if (ret) {
		ck_assert_int_eq(object, -1);
		return ret;
	}
	ck_assert_uint_eq(pg.done_bytes, f->bytes); /* each byte, once */
	ck_assert_uint_eq(pg.total_bytes, f->bytes);
	p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, object, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	for (i = 0; i < TENSORS; at += f->t[i].bytes, i++)
		ck_assert(
			!memcmp(p + at, f->data + f->t[i].off, f->t[i].bytes));
	munmap(p, bytes);
	close(object);
	return 0;
}

START_TEST(test_same)
{
	static const uint64_t sizes[] = { 1000, 5000, 100000, 524288, 3000000 };
	uint8_t want[HASH_BYTES], is[HASH_BYTES];
	unsigned int threads, i, cached;
	struct file f;
	char why[160];

	seed = (uint64_t)_i + 1;
	spoiled = -1;
	make(&f, _i % 2 ? 700000 : 3000);
	plain_digest(&f, want);
	for (cached = 0; cached < 2; cached++)
		for (threads = 1; threads <= 4; threads++)
			for (i = 0; i < 5; i++) {
				piece_bytes = sizes[i];
				if (piece_bytes < 50000 && _i % 2)
					continue;
				if (!cached) {
					fdatasync(f.fd);
					posix_fadvise(f.fd, 0, 0,
						      POSIX_FADV_DONTNEED);
				}
				ck_assert_int_eq(load(&f, threads, 0, is, why),
						 0);
				ck_assert_mem_eq(is, want, HASH_BYTES);
			}
	unmake(&f);
}
END_TEST

START_TEST(test_fails)
{
	uint8_t d[HASH_BYTES];
	struct file f;
	char why[160] = "";

	seed = 7;
	piece_bytes = 1 << 19;
	spoiled = -1;
	make(&f, 700000);
	ck_assert_int_eq(load(&f, 2, 1, d, why), -ECANCELED);
	spoiled = 17;
	ck_assert_int_eq(load(&f, 2, 0, d, why), -EBADMSG);
	ck_assert_str_eq(why, "tensor 17 is spoiled");
	spoiled = -1;
	f.t[5].off = f.t[4].off; /* two at one place */
	ck_assert_int_eq(load(&f, 2, 0, d, why), -EBADMSG);
	ck_assert_msg(strstr(why, "no room"), "%s", why);
	unmake(&f);
	make(&f, 700000);
	f.t[TENSORS - 1].bytes = f.bytes; /* past the end */
	ck_assert_int_eq(load(&f, 2, 0, d, why), -EBADMSG);
	unmake(&f);
	make(&f, 700000);
	f.h.file_bytes[0]++;
	ck_assert_int_eq(load(&f, 2, 0, d, why), -ESTALE);
	unmake(&f);
}
END_TEST

/* The file changes between the plan and the reading. */
START_TEST(test_changes)
{
	struct backend_progress pg = { 0 };
	struct loader_way way = { .n_threads = 2, .pg = &pg };
	int object = memfd_create("object", 0), ret;
	uint8_t d[HASH_BYTES];
	struct loader *ld;
	struct reader *rd;
	struct file f;
	char why[160] = "";

	seed = 11;
	piece_bytes = 1 << 19;
	spoiled = -1;
	make(&f, 700000);
	ck_assert_int_eq(reader_open(&rd, &f.fd, 1, why), 0);
	ck_assert_int_eq(loader_new(&ld, &copy_ops, &f.im, rd, why), 0);
	ck_assert(!ftruncate(object, (off_t)loader_layout(ld)->bytes));
	if (_i)
		ck_assert(!ftruncate(f.fd, (off_t)f.t[20].off + 1));
	else
		ck_assert_int_eq(pwrite(f.fd, "x", 1, 5), 1);
	ret = loader_fill(ld, object, &way, d, why);
	ck_assert_int_eq(ret, _i ? -ENODATA : -ESTALE);
	ck_assert_msg(strstr(why, _i ? "the file ends" : "changed"), "%s", why);
	loader_free(ld);
	reader_close(rd);
	close(object);
	unmake(&f);
}
END_TEST

/* Fill @object, of whatever size it is. */
static int fill(const struct file *f, int object, uint64_t *bytes,
		char why[160])
{
	struct backend_progress pg = { 0 };
	struct loader_way way = { .n_threads = 2, .pg = &pg };
	uint8_t d[HASH_BYTES];
	struct loader *ld;
	struct reader *rd;
	int ret;

	ck_assert_int_eq(reader_open(&rd, &f->fd, 1, why), 0);
	ck_assert_int_eq(loader_new(&ld, &copy_ops, &f->im, rd, why), 0);
	*bytes = loader_layout(ld)->bytes;
	if (ftruncate(object, (off_t)((*bytes + OBJECT_HUGE - 1) &
				      ~(uint64_t)(OBJECT_HUGE - 1))))
		ret = -errno;
	else
		ret = loader_fill(ld, object, &way, d, why);
	loader_free(ld);
	reader_close(rd);
	return ret;
}

static void put(const char *path, const char *fmt, unsigned int id)
{
	int fd = open(path, O_WRONLY);

	ck_assert_int_gt(dprintf(fd, fmt, id), 0);
	close(fd);
}

/* Where this process may mount. */
static bool own_mounts(void)
{
	unsigned int uid = getuid(), gid = getgid();

	if (!unshare(CLONE_NEWNS))
		return true;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return false;
	put("/proc/self/setgroups", "deny", 0);
	put("/proc/self/uid_map", "0 %u 1", uid);
	put("/proc/self/gid_map", "0 %u 1", gid);
	return true;
}

/* A file system that fills up meanwhile: an error, and no signal. */
START_TEST(test_no_room)
{
	char dir[] = "/var/tmp/check_loader.XXXXXX", why[160] = "";
	struct file f;
	uint64_t bytes;
	int object, ret;

	if (!own_mounts()) {
		printf("no room: not tried, no namespace (%s)\n",
		       strerror(errno));
		return;
	}
	seed = 13;
	piece_bytes = 1 << 19;
	spoiled = -1;
	make(&f, 1000000);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	ret = mount("none", dir, "tmpfs", 0,
		    _i ? "size=5m,huge=always" : "size=5m");
	ck_assert_msg(!ret || _i, "tmpfs: %s", strerror(errno));
	if (!ret) {
		object = open(dir, O_TMPFILE | O_RDWR, 0600);
		ck_assert_int_ge(object, 0);
		ret = fill(&f, object, &bytes, why);
		ck_assert_uint_gt(bytes, 5u << 20);
		ck_assert_msg(ret == -ENOSPC, "%d, %s", ret, why);
		ck_assert_msg(strstr(why, "KiB pages) has no room for bytes"),
			      "%s", why);
		close(object);
		umount(dir);
	}
	rmdir(dir);
	unmake(&f);
}
END_TEST

/* Huge pages that are not there. */
START_TEST(test_no_huge)
{
	char why[160] = "";
	struct pool_huge h;
	struct file f;
	uint64_t bytes;
	int object, ret;

	object = memfd_create("object", MFD_HUGETLB);
	if (object < 0 || pool_huge_read(&h, 0) || h.free) {
		printf("no huge pages: not tried, %llu are free\n",
		       object < 0 ? 0 : (unsigned long long)h.free);
		return;
	}
	seed = 13;
	piece_bytes = 1 << 19;
	spoiled = -1;
	make(&f, 1000000);
	ret = fill(&f, object, &bytes, why);
	ck_assert_msg(ret == -ENOMEM, "%d, %s", ret, why);
	ck_assert_msg(strstr(why, "KiB pages cannot be mapped"), "%s", why);
	close(object);
	unmake(&f);
}
END_TEST

/* KiB of a field of /proc/self/smaps, of the mapping that begins at @p. */
static uint64_t smaps(const void *p, const char *field)
{
	unsigned long long from, to, kib = 0;
	size_t n = strlen(field);
	bool here = false;
	char line[512];
	FILE *s = fopen("/proc/self/smaps", "r");

	ck_assert_ptr_nonnull(s);
	while (fgets(line, sizeof(line), s)) {
		if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
			here = from == (uintptr_t)p;
		else if (here && !strncmp(line, field, n) && line[n] == ':')
			sscanf(line + n + 1, "%llu", &kib);
	}
	fclose(s);
	return kib;
}

/* Can this kernel make shmem huge, now? */
static bool can_collapse(void)
{
	struct object o;
	char why[160];
	bool can;
	int fd = memfd_create("probe", 0);

	ck_assert(!ftruncate(fd, OBJECT_HUGE));
	ck_assert_int_eq(object_map_write(&o, fd, OBJECT_HUGE, why), 0);
	memset(o.p, 1, 1);
	can = !madvise(o.p, OBJECT_HUGE, 25 /* MADV_COLLAPSE */);
	object_unmap(&o);
	close(fd);
	return can;
}

/* What an engine maps is on huge pages: private memory, tmpfs, hugetlbfs. */
START_TEST(test_mapped_huge)
{
	char why[160] = "";
	uint64_t bytes, huge;
	struct object o;
	struct file f;
	int fd, ret;

	if (_i < 2 && !can_collapse()) {
		printf("huge mappings: not tried, shmem stays small here\n");
		return;
	}
	if (_i == 2)
		fd = memfd_create("object", MFD_HUGETLB);
	else
		fd = _i ? open("/dev/shm", O_TMPFILE | O_RDWR, 0600)
			: memfd_create("object", 0);
	seed = 17;
	piece_bytes = 1 << 19;
	spoiled = -1;
	make(&f, 1000000);
	ret = fd < 0 ? -errno : fill(&f, fd, &bytes, why);
	if (ret && _i) {
		printf("huge mappings: %s not tried, %s (%s)\n",
		       _i == 2 ? "hugetlbfs" : "tmpfs", why, strerror(-ret));
		goto out;
	}
	ck_assert_msg(!ret, "%s", why);
	ck_assert_int_eq(object_map(&o, fd, bytes, why), 0);
	huge = smaps(o.p, _i == 2 ? "Shared_Hugetlb" : "ShmemPmdMapped");
	if (_i == 2)
		huge += smaps(o.p, "Private_Hugetlb");
	ck_assert_uint_gt(bytes, 2 * OBJECT_HUGE);
	ck_assert_msg(huge >= bytes / OBJECT_HUGE * (OBJECT_HUGE >> 10),
		      "%llu KiB of %llu on huge pages",
		      (unsigned long long)huge,
		      (unsigned long long)bytes >> 10);
	object_unmap(&o);
out:
	if (fd >= 0)
		close(fd);
	unmake(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loader");
	TCase *t = tcase_create("loader");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, test_same, 0, 4);
	tcase_add_test(t, test_fails);
	tcase_add_loop_test(t, test_changes, 0, 2);
	tcase_add_loop_test(t, test_no_room, 0, 2);
	tcase_add_test(t, test_no_huge);
	tcase_add_loop_test(t, test_mapped_huge, 0, 3);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
