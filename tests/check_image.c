/* SPDX-License-Identifier: MIT */
/* check_image.c - images: a good one opens; one field wrong, and none does. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../daemon/arch.h"
#include "../daemon/image_write.h"
#include "../libclient/safe.h"
#include "gguf_make.h"

static struct image_header *h;
static size_t n_bytes;
static char why[160];

/* A tiny model's image, writable. */
static void setup(void)
{
	struct gm_opts o = { .arch = "llama",
			     .fmt = FMT_Q8_0,
			     .n_layer = 2,
			     .n_embd = 32,
			     .n_ff = 64,
			     .n_head = 2,
			     .n_head_kv = 1,
			     .head_dim = 16,
			     .n_ctx = 64,
			     .seed = 1 };
	struct gguf_src src;
	struct gguf *g;
	struct gm m;
	void *p;

	gm_init(&m);
	gm_model(&m, &o);
	gm_finish(&m);
	src = (struct gguf_src){ .mem = m.out.p, .bytes = m.out.n };
	ck_assert_msg(!gguf_open(&g, &src, 1, why), "%s", why);
	ck_assert_msg(!image_build(g, 0, &p, &n_bytes, why), "%s", why);
	gguf_close(g);
	gm_free(&m);
	h = p;
	why[0] = 0;
}

static void teardown(void)
{
	free(h);
}

static int open_it(void)
{
	struct image im;

	return image_open_mem(&im, h, n_bytes, why);
}

static int tape_of_it(void)
{
	struct image im;
	struct tape t;
	int ret = image_open_mem(&im, h, n_bytes, why);

	if (ret)
		return ret;
	ret = tape_build(&t, &im, why);
	if (!ret)
		tape_free(&t);
	return ret;
}

/* ------------------------------------------------------- one field wrong */

/* Where a field lies: in the header, or in the first element of a section. */
enum section {
	HEADER,
	TENSORS,
	TOKENS,
	MERGES,
	TOK_HASH,
	MERGE_HASH,
	EOG,
	META
};

#define H(f)                                      \
	HEADER, offsetof(struct image_header, f), \
		sizeof(((struct image_header *)0)->f)
#define HP(f) H(hp.f)
#define T(f)                                       \
	TENSORS, offsetof(struct image_tensor, f), \
		sizeof(((struct image_tensor *)0)->f)
#define TOK(f)                                   \
	TOKENS, offsetof(struct image_token, f), \
		sizeof(((struct image_token *)0)->f)
#define MRG(f)                                   \
	MERGES, offsetof(struct image_merge, f), \
		sizeof(((struct image_merge *)0)->f)
#define NAN32	 0x7fc00000
#define INF32	 0x7f800000
#define MINUS_1F 0xbf800000

static const struct field {
	const char *what;
	enum section in;
	size_t off, size;
	uint64_t value;
	const char *says;
} fields[] = {
	/* clang-format off */
	{ "magic", H(magic), 0, "not a model image" },
	{ "version", H(version), 2, "version 2" },
	{ "bytes", H(bytes), 1, "says 1 bytes" },
	{ "resv", H(resv[15]), 1, "reserved" },
	{ "hp.resv", HP(resv[10]), 1, "reserved" },
	{ "no files", H(n_files), 0, "0 files" },
	{ "files", H(n_files), 33, "33 files" },
	{ "a file too much", H(file_bytes[1]), 5, "size of a file" },
	{ "strings.off", H(strings.off), 3, "strings: bad offset" },
	{ "strings in the header", H(strings.off), 64, "strings: bad offset" },
	{ "strings.n", H(strings.n), 1ull << 40, "strings: " },
	{ "tensors.off", H(tensors.off), 1ull << 32, "tensors: " },
	{ "tensors.n", H(tensors.n), 1ull << 60, "tensors: " },
	{ "tokens.n", H(tokens.n), -1ull, "tokens: " },
	{ "merges.n", H(merges.n), 1ull << 62, "merges: " },
	{ "tok_hash.n", H(tok_hash.n), 1ull << 62, "token table: " },
	{ "tok_hash no power", H(tok_hash.n), 600, "token table: size 600" },
	{ "tok_hash too small", H(tok_hash.n), 256, "token table: size 256" },
	{ "tok_hash none", H(tok_hash.n), 0, "token table: size 0" },
	{ "merge_hash too small", H(merge_hash.n), 4, "merge table: size 4" },
	{ "merge_hash.off", H(merge_hash.off), -64ull, "merge table: " },
	{ "eog.n", H(eog.n), 1ull << 33, "end tokens: " },
	{ "eog.off", H(eog.off), 12345, "end tokens: bad offset" },
	{ "meta.n", H(meta.n), 1ull << 50, "metadata: " },
	{ "arch name", H(arch_name.off), -1u, "a name lies outside" },
	{ "quant name", H(quant_name.len), -1u, "a name lies outside" },
	{ "tok model", H(tok_model.len), -1u, "a name lies outside" },
	{ "tok pre", H(tok_pre.off), -1u, "a name lies outside" },
	{ "template", H(chat_template.len), -1u, "a name lies outside" },
	{ "no layer", HP(n_layer), 0, "layers 0" },
	{ "layers", HP(n_layer), 513, "layers 513" },
	{ "fewer layers", HP(n_layer), 1, "layer 1 of 1" },
	{ "n_embd", HP(n_embd), 0, "width 0" },
	{ "n_ff", HP(n_ff), 1u << 31, "feed-forward width" },
	{ "n_head", HP(n_head), 0, "heads 0" },
	{ "n_head_kv", HP(n_head_kv), 0, "key/value heads 0" },
	{ "n_head_kv 3", HP(n_head_kv), 3, "2 heads over 3" },
	{ "head_dim", HP(head_dim), 5000, "head width 5000" },
	{ "n_vocab", HP(n_vocab), 0, "vocabulary 0" },
	{ "great n_vocab", HP(n_vocab), -1u, "vocabulary" },
	{ "n_vocab < tokens", HP(n_vocab), 100, "266 tokens, vocabulary 100" },
	{ "n_ctx", HP(n_ctx_train), 0, "context 0" },
	{ "n_rope 0", HP(n_rope), 0, "0 rotated" },
	{ "n_rope odd", HP(n_rope), 3, "3 rotated" },
	{ "n_rope > head", HP(n_rope), 18, "18 rotated of 16" },
	{ "pairs", HP(rope_pairs), 2, "kind of rotation" },
	{ "scaling", HP(rope_scaling), 3, "kind of rotation" },
	{ "base", HP(rope_base), NAN32, "rotation base" },
	{ "base 0", HP(rope_base), 0, "rotation base" },
	{ "factor", HP(rope_factor), INF32, "rotation base" },
	{ "local base", HP(rope_base_local), MINUS_1F, "rotation base" },
	{ "window", HP(n_swa), 8, "sliding window 8 every 0" },
	{ "epsilon", HP(norm_eps), NAN32, "epsilon" },
	{ "negative epsilon", HP(norm_eps), MINUS_1F, "epsilon" },
	{ "attn_scale", HP(attn_scale), 0, "scale" },
	{ "embd_scale", HP(embd_scale), INF32, "scale" },
	{ "tied", HP(tied), 2, "tied" },
	{ "tensor name", T(name.off), -1u, "tensor 0: bad name" },
	{ "tensor layer", T(layer), 2, "tensor 0: layer 2 of 2" },
	{ "tensor file", T(file), 1, "tensor 0: file 1 of 1" },
	{ "tensor cols", T(cols), 0, "tensor 0: bad shape" },
	{ "tensor rows", T(rows), 1ull << 40, "tensor 0: bad shape" },
	{ "tensor no bytes", T(bytes), 0, "tensor 0: bad shape" },
	{ "tensor bytes", T(bytes), 1ull << 40, "data outside" },
	{ "tensor off", T(off), -32ull, "data outside" },
	{ "vocab kind", H(vocab_kind), 4, "vocabulary kind 4" },
	{ "flags", H(tok_flags), 16, "tokenizer flag" },
	{ "bos", H(bos), 266, "special token" },
	{ "eos", H(eos), 266, "special token" },
	{ "unk", H(unk), 266, "special token" },
	{ "pad", H(pad), 266, "special token" },
	{ "sep", H(sep), 266, "special token" },
	{ "nl", H(nl), 266, "special token" },
	{ "eot", H(eot), 266, "special token" },
	{ "token text", TOK(text.off), -1u, "token 0 is bad" },
	{ "token length", TOK(text.len), -1u, "token 0 is bad" },
	{ "token score", TOK(score), NAN32, "token 0 is bad" },
	{ "token type", TOK(type), 7, "token 0 is bad" },
	{ "merge left", MRG(left), 266, "merge 0" },
	{ "merge right", MRG(right), 266, "merge 0" },
	{ "merge result", MRG(result), -1u, "merge 0" },
	{ "eog", EOG, 0, 4, 266, "end token 266" },
	{ "tok_hash", TOK_HASH, 0, 4, 266, "token table: entry 266 of 266" },
	{ "merge_hash", MERGE_HASH, 0, 4, 7, "merge table: entry 7 of 7" },
	{ "meta key", META, 0, 4, -1u, "metadata 0" },
	{ "meta value", META, 12, 4, -1u, "metadata 0" },
	{ "arch none", HP(arch), -1u, "layers without architecture" },
	/* what only the engine can know */
	{ "arch", HP(arch), ARCH_N, "no architecture 4" },
	{ "other arch", HP(arch), ARCH_qwen2, "attn_q.bias: missing" },
	{ "role", T(role), ROLE_N, "no part of llama" },
	{ "role of another arch", T(role), ROLE_ATTN_Q_NORM, "no part of llama" },
	{ "other role", T(role), ROLE_OUTPUT, "output.weight: twice" },
	{ "type", T(type), 16, "unknown type 16" },
	{ "type's bytes", T(type), 0, "bytes" },
	{ "shape", T(cols), 64, "shape 64 x" },
	{ "half the bytes", T(bytes), 4522, "4522 bytes" },
	{ "global layer", T(layer), 1, "in layer 1" },
	{ "tied model", HP(tied), 1, "tied says 1" },
	{ "freqs", HP(rope_scaling), IMAGE_ROPE_FREQS, "rope_freqs.weight" },
	/* clang-format on */
};

static char *section(enum section s)
{
	const uint64_t off[] = {
		[HEADER] = 0,
		[TENSORS] = h->tensors.off,
		[TOKENS] = h->tokens.off,
		[MERGES] = h->merges.off,
		[TOK_HASH] = h->tok_hash.off,
		[MERGE_HASH] = h->merge_hash.off,
		[EOG] = h->eog.off,
		[META] = h->meta.off,
	};

	return (char *)h + off[s];
}

START_TEST(one_field_wrong)
{
	const struct field *f = &fields[_i];

	ck_assert_msg(!tape_of_it(), "%s", why);
	memcpy(section(f->in) + f->off, &f->value, f->size);
	ck_assert_msg(tape_of_it() == -EBADMSG, "%s was accepted", f->what);
	ck_assert_msg(strstr(why, f->says), "%s: says '%s', want '%s'", f->what,
		      why, f->says);
}
END_TEST

START_TEST(every_length)
{
	size_t full = n_bytes;

	for (n_bytes = 0; n_bytes < full; n_bytes += 7)
		ck_assert_int_eq(open_it(), -EBADMSG);
	n_bytes = full;
	ck_assert_int_eq(open_it(), 0);
}
END_TEST

START_TEST(not_aligned)
{
	char *p = malloc(n_bytes + 8);
	struct image im;

	memcpy(p + 4, h, n_bytes);
	ck_assert_int_eq(image_open_mem(&im, p + 4, n_bytes, why), -EBADMSG);
	free(p);
}
END_TEST

/* A table that a hostile parser filled to the brim still lets searches end. */
START_TEST(full_tables)
{
	uint32_t *t = (uint32_t *)section(TOK_HASH);
	struct image im;
	uint64_t i;

	for (i = 0; i < h->tok_hash.n; i++)
		t[i] = 0;
	ck_assert_int_eq(open_it(), -EBADMSG);
	for (i = h->tokens.n; i < h->tok_hash.n; i++)
		t[i] = IMAGE_NONE;
	ck_assert_int_eq(image_open_mem(&im, h, n_bytes, why), 0);
	ck_assert_uint_eq(image_find_token(&im, "absent", 6), IMAGE_NONE);
	ck_assert_uint_eq(image_find_merge(&im, 1, 2), IMAGE_NONE);
}
END_TEST

/* ---------------------------------------------------------------- memfds */

static int memfd(size_t n, int seals)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, h, n), (ssize_t)n);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

START_TEST(sealed_memfd)
{
	const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	const int some[] = { 0, F_SEAL_SHRINK | F_SEAL_GROW,
			     F_SEAL_SHRINK | F_SEAL_WRITE,
			     F_SEAL_GROW | F_SEAL_WRITE };
	struct image im;
	size_t i;
	int fd;

	fd = memfd(n_bytes, all);
	ck_assert_msg(!image_open_fd(&im, fd, why), "%s", why);
	ck_assert_uint_eq(im.map_bytes, n_bytes);
	close(fd); /* the mapping stays */
	ck_assert_uint_eq(im.h->magic, IMAGE_MAGIC);
	image_close(&im);
	ck_assert_ptr_null(im.h);
	for (i = 0; i < 4; i++) {
		fd = memfd(n_bytes, some[i]);
		ck_assert_int_eq(image_open_fd(&im, fd, why), -EBADMSG);
		ck_assert_str_eq(why, "image: not sealed");
		close(fd);
	}
	fd = memfd(100, all);
	ck_assert_int_eq(image_open_fd(&im, fd, why), -EBADMSG);
	close(fd);
	fd = memfd(n_bytes - 1, all);
	ck_assert_int_eq(image_open_fd(&im, fd, why), -EBADMSG);
	close(fd);
	fd = open("/dev/null", O_RDONLY);
	ck_assert_int_eq(image_open_fd(&im, fd, why), -EBADMSG);
	close(fd);
	ck_assert_int_eq(image_open_fd(&im, -1, why), -EBADMSG);
}
END_TEST

static int open_tensors(struct image *im)
{
	int fd = memfd(n_bytes, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	int ret = image_open_tensors(im, fd, why);

	close(fd);
	return ret;
}

/* Not more than an engine needs is looked at, but that is. */
START_TEST(tensors_alone)
{
	struct image_token *tok = (void *)((char *)h + h->tokens.off);
	struct image_tensor *t = (void *)((char *)h + h->tensors.off);
	uint32_t *eog = (void *)((char *)h + h->eog.off);
	struct image im;

	ck_assert_uint_ge(h->eog.n, 1);
	tok[0].type = 99;
	ck_assert_int_eq(open_it(), -EBADMSG);
	ck_assert_msg(!open_tensors(&im), "%s", why);
	ck_assert_ptr_null(im.tokens);
	ck_assert_ptr_null(im.merges);
	ck_assert_ptr_null(im.tok_hash);
	ck_assert_ptr_null(im.merge_hash);
	ck_assert_ptr_null(im.meta);
	ck_assert_uint_eq(im.eog[0], eog[0]);
	image_close(&im);
	eog[0] = h->hp.n_vocab;
	ck_assert_int_eq(open_tensors(&im), -EBADMSG);
	eog[0] = 0;
	t[0].rows = 0;
	ck_assert_int_eq(open_tensors(&im), -EBADMSG);
}
END_TEST

/* ------------------------------------------------------ checked arithmetic */

START_TEST(safe_boundaries)
{
	const uint64_t max = UINT64_MAX, top = 1ull << 63;
	uint64_t r, acc;
	uint32_t s;

	ck_assert(safe_add(max - 1, 1, &r) && r == max);
	ck_assert(!safe_add(max, 1, &r) && !safe_add(top, top, &r));
	ck_assert(safe_mul(1ull << 32, (1ull << 32) - 1, &r));
	ck_assert(!safe_mul(1ull << 32, 1ull << 32, &r));
	ck_assert(safe_mul(0, max, &r) && r == 0);
	acc = 5;
	ck_assert(safe_add_mul(&acc, 3, 4) && acc == 17);
	ck_assert(!safe_add_mul(&acc, 1, max));
	ck_assert(!safe_add_mul(&acc, top, 2));
	ck_assert(safe_align(0, 32, &r) && r == 0);
	ck_assert(safe_align(1, 32, &r) && r == 32);
	ck_assert(safe_align(max - 31, 32, &r) && r == max - 31);
	ck_assert(!safe_align(max - 30, 32, &r) && !safe_align(max, 2, &r));
	ck_assert(safe_range(0, 0, 0) && safe_range(8, 0, 8));
	ck_assert(safe_range(0, 8, 8) && !safe_range(1, 8, 8));
	ck_assert(!safe_range(9, 0, 8) && !safe_range(max, 1, 8));
	ck_assert(!safe_range(8, max, 8) && !safe_range(max, max, max - 1));
	ck_assert(safe_array(8, 2, 4, 16) && !safe_array(9, 2, 4, 16));
	ck_assert(!safe_array(0, top, 2, max));
	ck_assert(safe_u32(UINT32_MAX, &s) && s == UINT32_MAX);
	ck_assert(!safe_u32(1ull << 32, &s));
	ck_assert(safe_pow2(1) && safe_pow2(top));
	ck_assert(!safe_pow2(0) && !safe_pow2(3) && !safe_pow2(max));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("image");
	TCase *t = tcase_create("image");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, one_field_wrong, 0,
			    sizeof(fields) / sizeof(fields[0]));
	tcase_add_test(t, every_length);
	tcase_add_test(t, not_aligned);
	tcase_add_test(t, full_tables);
	tcase_add_test(t, sealed_memfd);
	tcase_add_test(t, tensors_alone);
	tcase_add_test(t, safe_boundaries);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
