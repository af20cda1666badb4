/* SPDX-License-Identifier: MIT */
/*
 * check_tool.c - parts of hearth(1): archives, checksums, options, names,
 * numbers. Each way to refuse an archive has a test that breaks one field.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "../tools/hearth/hearth-tool.h"
#include "../tools/hearth/pull.h"
#include "../tools/hearth/sha256.h"
#include "../tools/hearth/tar.h"
#include "../tools/hearth/zip.h"

/* ------------------------------------------------------------------ sha256 */

static void hash_of(const char *p, size_t n, size_t step, char hex[65])
{
	struct sha256 s = { 0 };
	size_t k;

	sha256_init(&s);
	for (; n; p += k, n -= k) {
		k = n < step ? n : step;
		sha256_add(&s, p, k);
	}
	sha256_end(&s, hex);
}

START_TEST(sha256_vectors)
{
	static const struct {
		const char *text, *hex;
	} v[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb924"
		      "27ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223"
			 "b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039"
		  "a33ce45964ff2167f6ecedd419db06c1" },
	};
	char hex[65], *million;
	size_t i, step;

	for (i = 0; i < N_ELEM(v); i++) {
		for (step = 1; step < 70; step++) {
			hash_of(v[i].text, strlen(v[i].text), step, hex);
			ck_assert_str_eq(hex, v[i].hex);
		}
	}
	million = malloc(1000000);
	memset(million, 'a', 1000000);
	hash_of(million, 1000000, 997, hex);
	ck_assert_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67"
			      "f1809a48a497200e046d39ccc7112cd0");
	free(million);
}
END_TEST

/* -------------------------------------------------------------------- zip */

struct buf {
	uint8_t p[65536];
	size_t n;
};

static void put(struct buf *b, const void *p, size_t n)
{
	ck_assert_uint_le(b->n + n, sizeof(b->p));
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void put_le(struct buf *b, uint64_t v, size_t n)
{
	uint8_t le[16] = { 0 };
	size_t i;

	for (i = 0; i < 8; i++)
		le[i] = (uint8_t)(v >> (8 * i));
	put(b, le, n);
}

/* An archive with one member; the fields say how it is made. */
struct spec {
	const char *name;
	uint16_t method;
	uint16_t flags;
	bool zip64;
	uint32_t crc_xor;
	int64_t size_add;
	int64_t packed_add;
	int64_t header_add;
	int64_t dir_add; /* to the directory's offset */
	uint16_t n_add;	 /* to the number of members */
	const char *note;
};

static const char text[] = "GGUF and what follows, follows, follows, follows";

static size_t pack(const struct spec *s, uint8_t *out, size_t max)
{
	z_stream z;

	if (!s->method) {
		memcpy(out, text, sizeof(text));
		return sizeof(text);
	}
	memset(&z, 0, sizeof(z));
	ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8,
				      Z_DEFAULT_STRATEGY),
			 Z_OK);
	z.next_in = (Bytef *)(uintptr_t)text;
	z.avail_in = sizeof(text);
	z.next_out = out;
	z.avail_out = (uInt)max;
	ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	max = z.total_out;
	deflateEnd(&z);
	return max;
}

static void put_end(struct buf *b, const struct spec *s, uint64_t dir,
		    uint64_t dir_n)
{
	uint64_t end64 = b->n;
	uint16_t n = (uint16_t)(1 + s->n_add);

	dir += (uint64_t)s->dir_add;
	if (s->zip64) {
		put_le(b, 0x06064b50, 4);
		put_le(b, 44, 8);
		put_le(b, 45 | 45 << 16, 4);
		put_le(b, 0, 8);
		put_le(b, n, 8);
		put_le(b, n, 8);
		put_le(b, dir_n, 8);
		put_le(b, dir, 8);
		put_le(b, 0x07064b50, 4);
		put_le(b, 0, 4);
		put_le(b, end64, 8);
		put_le(b, 1, 4);
	}
	put_le(b, 0x06054b50, 4);
	put_le(b, 0, 4);
	put_le(b, s->zip64 ? 0xffff : n, 2);
	put_le(b, s->zip64 ? 0xffff : n, 2);
	put_le(b, s->zip64 ? 0xffffffff : dir_n, 4);
	put_le(b, s->zip64 ? 0xffffffff : dir, 4);
	put_le(b, s->note ? strlen(s->note) : 0, 2);
	if (s->note)
		put(b, s->note, strlen(s->note));
}

static void make_zip(struct buf *b, const struct spec *s)
{
	uint8_t packed[4096];
	size_t n = pack(s, packed, sizeof(packed)), name = strlen(s->name);
	uint64_t dir, size = sizeof(text) + (uint64_t)s->size_add;
	uint64_t header = (uint64_t)s->header_add;
	uint32_t crc = (uint32_t)crc32(0, (const Bytef *)text, sizeof(text));

	b->n = 0;
	put_le(b, 0x04034b50, 4);
	put_le(b, 20, 2);
	put_le(b, s->flags, 2);
	put_le(b, s->method, 2);
	put_le(b, 0, 16);
	put_le(b, name, 2);
	put_le(b, 4, 2);
	put(b, s->name, name);
	put_le(b, 0, 4);
	put(b, packed, n);
	n += (size_t)s->packed_add;
	dir = b->n;
	put_le(b, 0x02014b50, 4);
	put_le(b, 20 | 20 << 16, 4);
	put_le(b, s->flags, 2);
	put_le(b, s->method, 2);
	put_le(b, 0, 4);
	put_le(b, crc ^ s->crc_xor, 4);
	put_le(b, s->zip64 ? 0xffffffff : n, 4);
	put_le(b, s->zip64 ? 0xffffffff : size, 4);
	put_le(b, name, 2);
	put_le(b, s->zip64 ? 28 : 0, 2);
	put_le(b, 0, 10);
	put_le(b, s->zip64 ? 0xffffffff : header, 4);
	put(b, s->name, name);
	if (s->zip64) {
		put_le(b, 1 | 24 << 16, 4);
		put_le(b, size, 8);
		put_le(b, n, 8);
		put_le(b, header, 8);
	}
	put_end(b, s, dir, b->n - dir);
}

static int temp_fd(const void *p, size_t n)
{
	char path[] = "/tmp/check_tool.XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	unlink(path);
	ck_assert_int_eq(write(fd, p, n), (ssize_t)n);
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static int take(void *arg, const void *p, size_t n)
{
	put(arg, p, n);
	return 0;
}

/* Read all members; 0 if all is well, and the last one's bytes. */
static int read_zip(const struct buf *b, struct buf *out, char why[200])
{
	int fd = temp_fd(b->p, b->n), rc;
	struct zip_entry e;
	struct zip z;

	rc = zip_open(&z, fd);
	while (rc == 0) {
		rc = zip_next(&z, &e);
		if (rc)
			break;
		out->n = 0;
		rc = zip_extract(&z, &e, take, out);
		ck_assert(rc || out->n == e.size);
	}
	memcpy(why, z.why, 200);
	ck_assert_msg(rc == -ENOENT || (rc < 0 && *why), "no reason");
	zip_close(&z);
	close(fd);
	return rc == -ENOENT ? 0 : rc;
}

START_TEST(zip_reads)
{
	static const struct spec good[] = {
		{ .name = "a.gguf" },
		{ .name = "a.gguf", .method = 8 },
		{ .name = "a.gguf", .method = 8, .zip64 = true },
		{ .name = "a.gguf", .zip64 = true, .note = "a note" },
		{ .name = "a.gguf", .note = "PK\5\6 and more" },
	};
	struct buf b, out;
	char why[200];
	size_t i;

	for (i = 0; i < N_ELEM(good); i++) {
		make_zip(&b, good + i);
		ck_assert_msg(read_zip(&b, &out, why) == 0, "%zu: %s", i, why);
		ck_assert_uint_eq(out.n, sizeof(text));
		ck_assert_mem_eq(out.p, text, out.n);
	}
}
END_TEST

START_TEST(zip_refuses)
{
	static const struct {
		struct spec s;
		const char *why;
	} bad[] = {
		{ { .name = "a", .crc_xor = 1 }, "checksum" },
		{ { .name = "a", .method = 8, .crc_xor = 1 }, "checksum" },
		{ { .name = "a", .size_add = 1 }, "instead of" },
		{ { .name = "a", .method = 8, .size_add = 1 }, "instead of" },
		{ { .name = "a", .size_add = -1 }, "longer than" },
		{ { .name = "a", .method = 8, .size_add = -1 }, "longer than" },
		{ { .name = "a", .packed_add = -1 }, "instead of" },
		{ { .name = "a", .method = 8, .packed_add = -3 }, "bad comp" },
		{ { .name = "a", .packed_add = 100000 }, "past its end" },
		{ { .name = "a", .header_add = 1 }, "no local header" },
		{ { .name = "a", .header_add = 1000000 }, "past its end" },
		{ { .name = "a", .zip64 = true, .header_add = INT64_MIN },
		  "past its end" },
		{ { .name = "a", .zip64 = true, .packed_add = INT64_MAX },
		  "past its end" },
		{ { .name = "a", .zip64 = true, .dir_add = INT64_MIN },
		  "past its end" },
		{ { .name = "a", .dir_add = 1 }, "no entry" },
		{ { .name = "a", .dir_add = 1000 }, "past its end" },
		{ { .name = "a", .n_add = 1 }, "in 47 bytes" },
		{ { .name = "a", .zip64 = true, .n_add = 9 }, "members in" },
		{ { .name = "a", .flags = 1 }, "encrypted" },
		{ { .name = "a", .method = 12 }, "not supported" },
	};
	struct buf b, out;
	char why[200];
	size_t i;

	for (i = 0; i < N_ELEM(bad); i++) {
		make_zip(&b, &bad[i].s);
		ck_assert_msg(read_zip(&b, &out, why) < 0, "%zu", i);
		ck_assert_msg(strstr(why, bad[i].why) != NULL, "%zu: %s", i,
			      why);
	}
	/* cut off anywhere: never a crash, never a success */
	make_zip(&b, &(struct spec){ .name = "a", .method = 8 });
	while (b.n--)
		ck_assert_int_lt(read_zip(&b, &out, why), 0);
}
END_TEST

static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((seed >> 33) % n);
}

START_TEST(zip_mutants)
{
	static const struct spec s[] = { { .name = "a" },
					 { .name = "a", .method = 8 },
					 { .name = "a", .zip64 = true } };
	struct buf b, out;
	char why[200];
	unsigned i, k;

	seed = (uint64_t)time(NULL);
	printf("zip_mutants: seed %llu\n", (unsigned long long)seed);
	for (i = 0; i < 6000; i++) {
		make_zip(&b, s + i % N_ELEM(s));
		for (k = rnd(4) + 1; k; k--)
			b.p[rnd((uint32_t)b.n)] = rnd(3) ? (uint8_t)rnd(256)
							 : 0xff;
		read_zip(&b, &out, why);
	}
}
END_TEST

/* -------------------------------------------------------------------- tar */

static void tar_head(struct buf *b, const char *name, char type, uint64_t size)
{
	uint8_t h[512] = { 0 };
	unsigned sum = 0, i;

	memcpy(h, name, strlen(name) < 100 ? strlen(name) : 100);
	snprintf((char *)h + 124, 12, "%011llo", (unsigned long long)size);
	h[156] = (uint8_t)type;
	memcpy(h + 257, "ustar", 6);
	memset(h + 148, ' ', 8);
	for (i = 0; i < 512; i++)
		sum += h[i];
	snprintf((char *)h + 148, 8, "%06o", sum);
	put(b, h, 512);
}

static void tar_data(struct buf *b, const void *p, size_t n)
{
	static const uint8_t zero[512];

	put(b, p, n);
	put(b, zero, (512 - n % 512) % 512);
}

static void make_tar(struct buf *b)
{
	static const char pax[] = "17 path=d/long.x\n";
	static const uint8_t zero[1024];

	b->n = 0;
	tar_head(b, "dir/", '5', 0);
	tar_head(b, "a.gguf", '0', sizeof(text));
	tar_data(b, text, sizeof(text));
	tar_head(b, "pax", 'x', sizeof(pax) - 1);
	tar_data(b, pax, sizeof(pax) - 1);
	tar_head(b, "short", '0', 3);
	tar_data(b, "xyz", 3);
	tar_head(b, "link", '2', 0);
	put(b, zero, sizeof(zero));
}

static void gzip(struct buf *out, const struct buf *in)
{
	z_stream z;

	memset(&z, 0, sizeof(z));
	ck_assert_int_eq(deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8,
				      Z_DEFAULT_STRATEGY),
			 Z_OK);
	z.next_in = (Bytef *)(uintptr_t)in->p;
	z.avail_in = (uInt)in->n;
	z.next_out = out->p;
	z.avail_out = sizeof(out->p);
	ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	out->n = z.total_out;
	deflateEnd(&z);
}

/* Names of the members, each followed by a blank. */
static int read_tar(const struct buf *b, char names[512], struct buf *out)
{
	int fd = temp_fd(b->p, b->n), rc;
	struct tar *t;

	names[0] = 0;
	ck_assert_int_eq(tar_open(&t, fd), 0);
	while ((rc = tar_next(t)) == 0) {
		out->n = 0;
		if (tar_size(t) > sizeof(out->p))
			continue;
		rc = tar_extract(t, take, out);
		if (rc)
			break;
		if (strlen(names) + strlen(tar_name(t)) < 500) {
			strcat(names, tar_name(t));
			strcat(names, " ");
		}
	}
	tar_close(&t);
	close(fd);
	return rc == -ENOENT ? 0 : rc;
}

START_TEST(tar_reads)
{
	struct buf plain, b = { .n = 0 }, out;
	char names[512];
	unsigned i, k;

	make_tar(&plain);
	gzip(&b, &plain);
	ck_assert_int_eq(read_tar(&b, names, &out), 0);
	ck_assert_str_eq(names, "a.gguf d/long.x ");
	ck_assert_uint_eq(out.n, 3);
	ck_assert_mem_eq(out.p, "xyz", 3);
	/* a bad checksum, a bad size, a record cut off */
	plain.p[512] ^= 1;
	gzip(&b, &plain);
	ck_assert_int_lt(read_tar(&b, names, &out), 0);
	make_tar(&plain);
	plain.n = 1600;
	gzip(&b, &plain);
	ck_assert_int_lt(read_tar(&b, names, &out), 0);
	b.n /= 2;
	ck_assert_int_lt(read_tar(&b, names, &out), 0);
	seed = (uint64_t)time(NULL);
	printf("tar_reads: seed %llu\n", (unsigned long long)seed);
	for (i = 0; i < 2000; i++) {
		make_tar(&plain);
		k = rnd(5) * 512 + 124 + rnd(40);
		plain.p[k] = (uint8_t)rnd(256);
		gzip(&b, &plain);
		read_tar(&b, names, &out);
	}
}
END_TEST

/* ------------------------------------------------------- names and options */

START_TEST(clean_names)
{
	char name[256], big[400];

	ck_assert(pull_clean_name("a/b/Model-1.Q4_0.gguf", name));
	ck_assert_str_eq(name, "Model-1.Q4_0.gguf");
	ck_assert(pull_clean_name("../..\\$(x) y.gguf", name));
	ck_assert_ptr_eq(strpbrk(name, "/\\$() "), NULL);
	ck_assert(pull_clean_name("...hidden.gguf", name));
	ck_assert_str_eq(name, "hidden.gguf");
	ck_assert(!pull_clean_name("dir/", name));
	ck_assert(!pull_clean_name("..", name));
	memset(big, 'a', sizeof(big));
	big[sizeof(big) - 1] = 0;
	ck_assert(!pull_clean_name(big, name));
	ck_assert(pull_is_sha256("e3b0c44298fc1c149afbf4c8996fb924"
				 "27ae41e4649b934ca495991b7852b855"));
	ck_assert(!pull_is_sha256("e3b0c44298fc1c149afbf4c8996fb924"));
	ck_assert(!pull_is_sha256("g3b0c44298fc1c149afbf4c8996fb924"
				  "27ae41e4649b934ca495991b7852b855"));
}
END_TEST

struct vals {
	bool flag;
	uint64_t n;
	float x;
	const char *s;
	struct strs list;
};

static const struct opt opts[] = {
	{ 'f', "flag", NULL, OPT_FLAG, offsetof(struct vals, flag), 0, 0, "" },
	{ 'n', "number", "N", OPT_U64, offsetof(struct vals, n), 1, 10, "" },
	{ 0, "real", "X", OPT_F32, offsetof(struct vals, x), -1, 1, "" },
	{ 's', "text", "S", OPT_STR, offsetof(struct vals, s), 0, 0, "" },
	{ 0, "list", "S", OPT_STRS, offsetof(struct vals, list), 0, 0, "" },
	{ .type = OPT_END },
};

static int parse(struct vals *v, char *line, char *rest[16])
{
	static const struct cmd c = { .name = "test", .opts = opts };
	int n = 0;

	memset(v, 0, sizeof(*v));
	for (line = strtok(line, " "); line && n < 15; line = strtok(NULL, " "))
		rest[n++] = line;
	rest[n] = NULL;
	return opt_parse(&c, v, n, rest);
}

START_TEST(options)
{
	static const char *const wrong[] = {
		"--nothing", "-x",    "--number",   "--number=0", "-n 11",
		"-n -1",     "-n 1x", "--real 2",   "--real nan", "--flag=1",
		"-n",	     "-n ",   "--number= ",
	};
	char good[] = "a -fn3 --real=-0.5 b -s text --list x --list=y -- -z";
	char line[64], *rest[16];
	struct vals v;
	size_t i;

	ck_assert_int_eq(parse(&v, good, rest), 3);
	ck_assert_str_eq(rest[0], "a");
	ck_assert_str_eq(rest[1], "b");
	ck_assert_str_eq(rest[2], "-z");
	ck_assert(v.flag && v.n == 3 && v.x == -0.5f && v.list.n == 2);
	ck_assert_str_eq(v.s, "text");
	ck_assert_str_eq(v.list.v[1], "y");
	if (!freopen("/dev/null", "w", stderr))
		ck_abort();
	for (i = 0; i < N_ELEM(wrong); i++) {
		snprintf(line, sizeof(line), "%s", wrong[i]);
		ck_assert_msg(parse(&v, line, rest) == -1, "%s", wrong[i]);
	}
}
END_TEST

START_TEST(near)
{
	static const char *const list[] = { "run", "ps", "pull", "tokenize",
					    "Tiny-Llama.Q8_0" };
	char buf[100];

	near_names("pul", list, 5, buf, sizeof(buf));
	ck_assert_str_eq(buf, "pull");
	near_names("tokenzie", list, 5, buf, sizeof(buf));
	ck_assert_str_eq(buf, "tokenize");
	near_names("tok", list, 5, buf, sizeof(buf));
	ck_assert_str_eq(buf, "tokenize");
	near_names("tiny-lama", list, 5, buf, sizeof(buf));
	ck_assert_str_eq(buf, "Tiny-Llama.Q8_0");
	near_names("entirely-different", list, 5, buf, sizeof(buf));
	ck_assert_str_eq(buf, "");
	near_names("pul", list, 5, buf, 3);
	ck_assert_str_eq(buf, "");
}
END_TEST

START_TEST(numbers)
{
	char b[32];

	ck_assert_str_eq(fmt_size(b, 0), "0 B");
	ck_assert_str_eq(fmt_size(b, 999), "999 B");
	ck_assert_str_eq(fmt_size(b, 1000), "1.0 kB");
	ck_assert_str_eq(fmt_size(b, 92871040), "92.9 MB");
	ck_assert_str_eq(fmt_size(b, 999999999), "1.0 GB");
	ck_assert_str_eq(fmt_count(b, 134515008), "135 M");
	ck_assert_str_eq(fmt_dur(b, 1500), "1.5 us");
	ck_assert_str_eq(fmt_dur(b, 80500000), "80.5 ms");
	ck_assert_str_eq(fmt_dur(b, 1230000000), "1.23 s");
	ck_assert_str_eq(fmt_dur(b, 61000000000), "1 min 01 s");
	ck_assert_str_eq(fmt_dur(b, 7260000000000), "2 h 01 min");
	ck_assert_str_eq(fmt_rate(b, 1234.5), "1234");
	ck_assert_str_eq(fmt_rate(b, 12.34), "12.3");
	ck_assert_str_eq(fmt_rate(b, 1.234), "1.23");
}
END_TEST

/* Every verb has its options' help, and no letter or name twice. */
START_TEST(tables)
{
	const struct cmd *c;
	const struct opt *o, *p;

	for (c = cmds; c->name; c++) {
		ck_assert_ptr_eq(cmd_find(c->name), c);
		ck_assert(*c->summary);
		for (o = c->opts; o->type != OPT_END; o++) {
			ck_assert_msg(*o->help, "%s --%s", c->name, o->name);
			ck_assert((o->type == OPT_FLAG) == !o->arg);
			for (p = c->opts; p != o; p++) {
				ck_assert_str_ne(p->name, o->name);
				ck_assert(!p->c || p->c != o->c);
			}
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tool");
	TCase *t = tcase_create("tool");
	SRunner *r;
	int bad;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, sha256_vectors);
	tcase_add_test(t, zip_reads);
	tcase_add_test(t, zip_refuses);
	tcase_add_test(t, zip_mutants);
	tcase_add_test(t, tar_reads);
	tcase_add_test(t, clean_names);
	tcase_add_test(t, options);
	tcase_add_test(t, near);
	tcase_add_test(t, numbers);
	tcase_add_test(t, tables);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	bad = srunner_ntests_failed(r);
	srunner_free(r);
	return bad ? 1 : 0;
}
