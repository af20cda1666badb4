/* SPDX-License-Identifier: MIT */
/* check_gguf.c - headers, images and tapes: good files, and one field wrong. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../daemon/arch.h"
#include "../daemon/image_write.h"
#include "gguf_make.h"

static struct gm m;
static struct gm_opts o;
static char why[160];

static void setup(void)
{
	o = (struct gm_opts){ .arch = "llama",
			      .fmt = FMT_F16,
			      .n_layer = 2,
			      .n_embd = 32,
			      .n_ff = 32,
			      .n_head = 2,
			      .n_head_kv = 1,
			      .head_dim = 16,
			      .n_ctx = 64,
			      .n_swa = 8,
			      .seed = 1 };
	gm_init(&m);
	why[0] = 0;
}

static void teardown(void)
{
	gm_free(&m);
}

/* Read and flatten m.out as 1 part; the image is the caller's. */
static int build(void **image, size_t *n)
{
	struct gguf_src src = { .mem = m.out.p, .bytes = m.out.n };
	struct gguf *g;
	int ret = gguf_open(&g, &src, 1, why);

	if (ret)
		return ret;
	ret = image_build(g, 0, image, n, why);
	gguf_close(g);
	return ret;
}

/* All the way to a tape. */
static int whole(void)
{
	struct image im;
	struct tape t;
	void *image;
	size_t n;
	int ret = build(&image, &n);

	if (ret)
		return ret;
	ck_assert_int_eq(image_open_mem(&im, image, n, why), 0);
	ret = tape_build(&t, &im, why);
	if (!ret)
		tape_free(&t);
	free(image);
	return ret;
}

static void refused(const char *what, int ret, int err, const char *says)
{
	ck_assert_msg(ret == err, "%s: %d (%s), want %d", what, ret, why, err);
	ck_assert_msg(strstr(why, says), "%s: says '%s', want '%s'", what, why,
		      says);
}

/* ------------------------------------------------------------ good files */

START_TEST(every_arch_and_type)
{
	static const char *const names[] = { "llama", "qwen2", "qwen3",
					     "gemma3" };
	unsigned int a, f;

	o.n_embd = o.n_ff = 256;
	o.head_dim = 128;
	for (a = 0; a < 4; a++) {
		for (f = 0; f < FMT_N; f++) {
			o.arch = names[a];
			o.fmt = f;
			o.tied = f % 2;
			gm_init(&m);
			gm_model(&m, &o);
			gm_finish(&m);
			ck_assert_msg(!whole(), "%s %s: %s", names[a],
				      fmt_info[f].name, why);
			gm_free(&m);
		}
	}
	gm_init(&m);
}
END_TEST

START_TEST(image_says_what_the_file_says)
{
	const struct image_hparams *hp;
	const char *p;
	struct image im;
	void *image;
	uint64_t i;
	size_t n;

	gm_model(&m, &o);
	gm_finish(&m);
	ck_assert_msg(!build(&image, &n), "%s", why);
	ck_assert_int_eq(image_open_mem(&im, image, n, why), 0);
	hp = &im.h->hp;
	ck_assert_uint_eq(hp->arch, ARCH_llama);
	ck_assert_uint_eq(hp->n_layer, 2);
	ck_assert_uint_eq(hp->n_embd, 32);
	ck_assert_uint_eq(hp->n_ff, 32);
	ck_assert_uint_eq(hp->n_head, 2);
	ck_assert_uint_eq(hp->n_head_kv, 1);
	ck_assert_uint_eq(hp->head_dim, 16);
	ck_assert_uint_eq(hp->n_ctx_train, 64);
	ck_assert_uint_eq(hp->n_vocab, GM_N_BYTES + 10);
	ck_assert_uint_eq(hp->tied, 0);
	ck_assert_uint_eq(hp->rope_pairs, IMAGE_ROPE_ADJACENT);
	ck_assert_uint_eq(hp->rope_scaling, IMAGE_ROPE_NONE);
	ck_assert(hp->attn_scale == 0.25f && hp->embd_scale == 1);
	ck_assert_uint_eq(im.h->vocab_kind, IMAGE_VOCAB_BPE);
	ck_assert_uint_eq(im.h->tok_flags, IMAGE_TOK_F_HAS_ADD_BOS);
	ck_assert_uint_eq(im.h->bos, 263);
	ck_assert_uint_eq(im.h->eos, 265);
	ck_assert_uint_eq(im.h->eot, 265);
	ck_assert_uint_eq(im.h->nl, 10);
	ck_assert_uint_eq(im.h->eog.n, 2);
	ck_assert_uint_eq(im.h->merges.n, 7);
	for (i = 0; i < im.h->tokens.n; i++)
		ck_assert_uint_eq(
			image_find_token(&im, im.str + im.tokens[i].text.off,
					 im.tokens[i].text.len),
			i);
	for (i = 0; i < im.h->merges.n; i++)
		ck_assert_uint_eq(image_find_merge(&im, im.merges[i].left,
						   im.merges[i].right),
				  i);
	ck_assert_uint_eq(image_find_token(&im, "absent", 6), IMAGE_NONE);
	ck_assert_uint_eq(image_find_merge(&im, 0, 0), IMAGE_NONE);
	ck_assert(image_meta_get(&im, "general.license", &p, &n));
	ck_assert(n == 3 && !memcmp(p, "mit", 3));
	ck_assert(image_meta_get(&im, "llama.block_count", &p, &n));
	ck_assert(n == 1 && *p == '2');
	ck_assert(image_meta_get(&im, "tokenizer.ggml.tokens", &p, &n));
	ck_assert(n == 14 && !memcmp(p, "[266 x string]", n));
	ck_assert(!image_meta_get(&im, "general.absent", &p, &n));
	free(image);
}
END_TEST

/* Open m as a model and look at its hyperparameters. */
static struct image_hparams hparams_of(void)
{
	struct image_hparams hp;
	struct image im;
	void *image;
	size_t n;

	gm_finish(&m);
	ck_assert_msg(!build(&image, &n), "%s", why);
	ck_assert_int_eq(image_open_mem(&im, image, n, why), 0);
	hp = im.h->hp;
	free(image);
	return hp;
}

START_TEST(gemma3_windows)
{
	struct image_hparams hp;
	struct image im;
	struct tape t;
	void *image;
	uint32_t i;
	size_t n;

	o.arch = "gemma3";
	o.n_layer = 7;
	gm_model(&m, &o);
	hp = hparams_of();
	ck_assert_uint_eq(hp.n_swa, 8);
	ck_assert_uint_eq(hp.swa_period, 6);
	ck_assert(hp.rope_base_local == 10000);
	ck_assert(hp.embd_scale == sqrtf(32));
	ck_assert_msg(!build(&image, &n), "%s", why);
	ck_assert_int_eq(image_open_mem(&im, image, n, why), 0);
	ck_assert_int_eq(tape_build(&t, &im, why), 0);
	for (i = 0; i < t.n_ops; i++) {
		bool global = t.ops[i].layer == 5;

		if (t.ops[i].kind == TAPE_ATTN)
			ck_assert_uint_eq(t.ops[i].window, global ? 0 : 8);
		if (t.ops[i].kind == TAPE_ROPE_KV)
			ck_assert_uint_eq(t.ops[i].rope,
					  global ? TAPE_ROPE_GLOBAL
						 : TAPE_ROPE_LOCAL);
	}
	tape_free(&t);
	free(image);
}
END_TEST

START_TEST(gemma3_pattern_of_booleans)
{
	const uint8_t slides[4] = { 1, 0, 1, 0 };

	o.arch = "gemma3";
	o.n_layer = 4;
	gm_model(&m, &o);
	gm_kv_array(&m, "gemma3.attention.sliding_window_pattern", GGUF_BOOL,
		    4);
	gm_put(&m.kv, slides, 4);
	ck_assert_uint_eq(hparams_of().swa_period, 2);
}
END_TEST

START_TEST(gemma3_27b_scales_by_width)
{
	o.arch = "gemma3";
	o.n_layer = 62;
	o.head_dim = 64;
	gm_model(&m, &o);
	ck_assert(hparams_of().attn_scale == 0.25f); /* 32 / 2 heads */
}
END_TEST

START_TEST(rope_scaling)
{
	struct image_hparams hp;

	o.rope_freqs = true;
	gm_model(&m, &o);
	ck_assert_uint_eq(hparams_of().rope_scaling, IMAGE_ROPE_FREQS);
	gm_free(&m);
	gm_init(&m);
	o.rope_freqs = false;
	gm_model(&m, &o);
	gm_kv_str(&m, "llama.rope.scaling.type", "linear");
	gm_kv_f32(&m, "llama.rope.scaling.factor", 4);
	hp = hparams_of();
	ck_assert_uint_eq(hp.rope_scaling, IMAGE_ROPE_LINEAR);
	ck_assert(hp.rope_factor == 4);
}
END_TEST

START_TEST(equal_array_is_a_number)
{
	gm_model(&m, &o);
	gm_kv_array(&m, "llama.expert_count", GGUF_I32, 2);
	gm_u32(&m.kv, 0);
	gm_u32(&m.kv, 0);
	ck_assert_uint_eq(hparams_of().n_head_kv, 1);
}
END_TEST

START_TEST(eog_tokens_become_control)
{
	struct image im;
	void *image;
	uint32_t id;
	uint8_t *p;
	size_t n;

	gm_model(&m, &o);
	gm_finish(&m);
	/* <|im_end|> is the last token: make it a normal one */
	p = memmem(m.out.p, m.out.n, "tokenizer.ggml.token_type", 25);
	p += 25 + 4 + 12 + 265 * 4;
	ck_assert_uint_eq(*p, IMAGE_TOK_CONTROL);
	*p = IMAGE_TOK_NORMAL;
	ck_assert_msg(!build(&image, &n), "%s", why);
	ck_assert_int_eq(image_open_mem(&im, image, n, why), 0);
	id = image_find_token(&im, "<|im_end|>", 10);
	ck_assert_uint_eq(id, 265);
	ck_assert_uint_eq(im.tokens[id].type, IMAGE_TOK_CONTROL);
	free(image);
}
END_TEST

START_TEST(nothing_but_a_vocabulary)
{
	struct gguf_src src;
	struct image im;
	struct gguf *g;
	void *image;
	size_t n;

	gm_kv_str(&m, "general.architecture", "mpt");
	gm_vocab(&m);
	gm_finish(&m);
	src = (struct gguf_src){ .mem = m.out.p, .bytes = m.out.n };
	ck_assert_int_eq(gguf_open(&g, &src, 1, why), 0);
	refused("without the flag", image_build(g, 0, &image, &n, why),
		-ENOTSUP, "architecture mpt");
	ck_assert_int_eq(image_build(g, MODEL_VOCAB_ONLY, &image, &n, why), 0);
	ck_assert_int_eq(image_open_mem(&im, image, n, why), 0);
	ck_assert_uint_eq(im.h->hp.arch, IMAGE_NONE);
	ck_assert_uint_eq(im.h->hp.n_vocab, 266);
	free(image);
	gguf_close(g);
}
END_TEST

START_TEST(version_2)
{
	m.version = 2;
	gm_model(&m, &o);
	gm_finish(&m);
	ck_assert_msg(!whole(), "%s", why);
}
END_TEST

/* ---------------------------------------------------- one number wrong */

enum anchor {
	FILE_START,
	KEY_LEN, /* the length before a key's name */
	KEY,	 /* after its name: type, then value */
	TENSOR_LEN,
	TENSOR, /* after its name: dimensions, extents, type, offset */
};

/* Put @size bytes of @value at @rel from the anchor. */
static const struct field {
	const char *what;
	enum anchor at;
	const char *name;
	unsigned int rel, size;
	uint64_t value;
	int err;
	const char *says;
} fields[] = {
	/* clang-format off */
	{ "magic", FILE_START, "", 0, 4, 0x46554748, -EBADMSG, "not a GGUF" },
	{ "version 1", FILE_START, "", 4, 4, 1, -ENOTSUP, "GGUF version 1" },
	{ "version 4", FILE_START, "", 4, 4, 4, -ENOTSUP, "GGUF version 4" },
	{ "endianness", FILE_START, "", 4, 4, 0x03000000, -ENOTSUP, "big-endian" },
	{ "tensor count", FILE_START, "", 8, 8, 1ull << 40, -EBADMSG, "tensors (at byte 8)" },
	{ "tensor count -1", FILE_START, "", 8, 8, -1ull, -EBADMSG, "tensors (at byte 8)" },
	{ "key count", FILE_START, "", 16, 8, 1ull << 62, -EBADMSG, "keys (at byte 16)" },
	{ "first key's length", FILE_START, "", 24, 8, 0, -EBADMSG, "name of 0 bytes" },
	{ "long key", KEY_LEN, "llama.block_count", 0, 8, 257, -EBADMSG, "name of 257 bytes" },
	{ "endless key", KEY_LEN, "llama.block_count", 0, 8, -1ull, -EBADMSG, "key: name of" },
	{ "blank in a key", KEY_LEN, "llama.block_count", 12, 1, ' ', -EBADMSG, "byte 0x20" },
	{ "byte in a key", KEY_LEN, "llama.block_count", 12, 1, 0xff, -EBADMSG, "byte 0xff" },
	{ "value type", KEY, "llama.block_count", 0, 4, 13, -EBADMSG, "key llama.block_count: unknown type 13" },
	{ "string length", KEY, "general.name", 4, 8, 1ull << 63, -EBADMSG, "key general.name" },
	{ "boolean", KEY, "tokenizer.ggml.add_bos_token", 4, 1, 2, -EBADMSG, "boolean of value 2" },
	{ "array of arrays", KEY, "tokenizer.ggml.token_type", 4, 4, GGUF_ARRAY, -EBADMSG, "array of arrays" },
	{ "array of what", KEY, "tokenizer.ggml.token_type", 4, 4, 99, -EBADMSG, "array of unknown" },
	{ "array length", KEY, "tokenizer.ggml.token_type", 8, 8, 1ull << 61, -EBADMSG, "elements, the file has" },
	{ "array of strings, length", KEY, "tokenizer.ggml.tokens", 8, 8, 1ull << 61, -EBADMSG, "elements, the file has" },
	{ "string in an array", KEY, "tokenizer.ggml.tokens", 16, 8, 1ull << 40, -EBADMSG, "key tokenizer.ggml.tokens" },
	{ "no name", TENSOR_LEN, "output_norm.weight", 0, 8, 0, -EBADMSG, "name of 0 bytes" },
	{ "long name", TENSOR_LEN, "output_norm.weight", 0, 8, 64, -EBADMSG, "name of 64 bytes" },
	{ "no dimension", TENSOR, "blk.0.attn_q.weight", 0, 4, 0, -EBADMSG, "tensor blk.0.attn_q.weight: 0 dimensions" },
	{ "five dimensions", TENSOR, "blk.0.attn_q.weight", 0, 4, 5, -EBADMSG, "5 dimensions" },
	{ "no column", TENSOR, "blk.0.attn_q.weight", 4, 8, 0, -EBADMSG, "dimension of zero" },
	{ "no row", TENSOR, "blk.0.attn_q.weight", 12, 8, 0, -EBADMSG, "dimension of zero" },
	{ "too many elements", TENSOR, "blk.0.attn_q.weight", 12, 8, 1ull << 60, -EBADMSG, "too many elements" },
	{ "too many bytes", TENSOR, "blk.0.attn_q.weight", 12, 8, 1ull << 58, -EBADMSG, "too many elements" },
	{ "odd type", TENSOR, "blk.0.attn_q.weight", 20, 4, 16, -ENOTSUP, "type IQ2_XXS (16) is not supported" },
	{ "unknown type", TENSOR, "blk.0.attn_q.weight", 20, 4, 777, -ENOTSUP, "type unknown (777)" },
	{ "part of a block", TENSOR, "blk.0.attn_q.weight", 20, 4, 12, -EBADMSG, "Q4_K has blocks of 256" },
	{ "alignment of data", TENSOR, "blk.0.attn_q.weight", 24, 8, 33, -EBADMSG, "is not aligned to 32" },
	{ "data outside", TENSOR, "blk.0.attn_q.weight", 24, 8, 1ull << 40, -EBADMSG, "outside the file" },
	{ "data wraps", TENSOR, "blk.0.attn_q.weight", 24, 8, -32ull, -EBADMSG, "outside the file" },
	{ "overlap", TENSOR, "blk.0.attn_q.weight", 24, 8, 0, -EBADMSG, "overlaps another" },
	{ "columns", TENSOR, "blk.0.attn_q.weight", 4, 8, 16, -EBADMSG, "tensor blk.0.attn_q.weight: shape 16 x 32, want 32 x 32" },
	{ "norm's type", TENSOR, "blk.0.attn_norm.weight", 12, 4, 8, -EBADMSG, "type Q8_0, want a float" },
	{ "layers", KEY, "llama.block_count", 4, 4, 1, -EBADMSG, "there are 1 layers" },
	{ "one layer more", KEY, "llama.block_count", 4, 4, 3, -EBADMSG, "tensor blk.2.attn_norm.weight: missing" },
	{ "no layer", KEY, "llama.block_count", 4, 4, 0, -ENOTSUP, "key llama.block_count: zero" },
	{ "many layers", KEY, "llama.block_count", 4, 4, 100000, -EBADMSG, "layers 100000" },
	{ "sign", KEY, "llama.block_count", 0, 8, GGUF_I32 | 0xfffffffeull << 32, -EBADMSG, "key llama.block_count: -2" },
	{ "float for integer", KEY, "llama.block_count", 0, 4, GGUF_F32, -EBADMSG, "no integer" },
	{ "heads", KEY, "llama.attention.head_count_kv", 4, 4, 0, -ENOTSUP, "does not divide" },
	{ "heads do not divide", KEY, "llama.attention.head_count_kv", 4, 4, 3, -ENOTSUP, "does not divide" },
	{ "odd head", KEY, "llama.attention.key_length", 4, 4, 15, -ENOTSUP, "zero or odd" },
	{ "value width", KEY, "llama.attention.value_length", 4, 4, 8, -ENOTSUP, "differs from the key length" },
	{ "rotated part", KEY, "llama.rope.dimension_count", 4, 4, 8, -ENOTSUP, "differs from the head" },
	{ "context", KEY, "llama.context_length", 4, 4, 0, -ENOTSUP, "key llama.context_length: zero" },
	{ "rope base", KEY, "llama.rope.freq_base", 4, 4, 0x7fc00000, -EBADMSG, "not finite" },
	{ "negative base", KEY, "llama.rope.freq_base", 4, 4, 0xbf800000, -EBADMSG, "rotation base" },
	{ "integer for float", KEY, "llama.rope.freq_base", 0, 4, GGUF_U32, -EBADMSG, "u32, want a float" },
	{ "epsilon", KEY, "llama.attention.layer_norm_rms_epsilon", 4, 4, 0xbf800000, -EBADMSG, "epsilon" },
	{ "architecture", KEY, "general.architecture", 12, 1, 'x', -ENOTSUP, "architecture xlama is not supported" },
	{ "unprintable architecture", KEY, "general.architecture", 12, 1, 27, -ENOTSUP, "architecture ?lama" },
	{ "token's type", KEY, "tokenizer.ggml.token_type", 16, 4, 9, -EBADMSG, "token 0: type 9" },
	{ "token types' type", KEY, "tokenizer.ggml.token_type", 4, 4, GGUF_F32, -EBADMSG, "want one i32 a token" },
	{ "flag's type", KEY, "tokenizer.ggml.bos_token_id", 0, 4, GGUF_F32, -EBADMSG, "no integer" },
	/* clang-format on */
};

static uint8_t *find_anchor(const struct field *f)
{
	bool after = f->at == KEY || f->at == TENSOR;
	struct gm_buf needle = { 0 };
	uint8_t *p;

	if (f->at == FILE_START)
		return m.out.p;
	gm_str(&needle, f->name);
	p = memmem(m.out.p, m.out.n, needle.p, needle.n);
	ck_assert_msg(p, "%s is not in the file", f->name);
	if (after)
		p += needle.n;
	free(needle.p);
	return p;
}

START_TEST(one_field_wrong)
{
	const struct field *f = &fields[_i];

	gm_model(&m, &o);
	gm_finish(&m);
	ck_assert_msg(!whole(), "%s", why);
	memcpy(find_anchor(f) + f->rel, &f->value, f->size);
	refused(f->what, whole(), f->err, f->says);
}
END_TEST

/* Every prefix of a small model is refused, none is believed. */
START_TEST(truncated)
{
	struct gguf_src src;
	struct gguf *g;
	size_t n;

	o.n_layer = 1;
	gm_model(&m, &o);
	gm_finish(&m);
	for (n = 0; n < m.out.n; n += n < 6000 ? 1 : 61) {
		uint8_t *copy = malloc(n + 1);

		memcpy(copy, m.out.p, n);
		src = (struct gguf_src){ .mem = copy, .bytes = n };
		ck_assert_int_eq(gguf_open(&g, &src, 1, why), -EBADMSG);
		ck_assert_ptr_nonnull(strstr(why, "at byte"));
		free(copy);
	}
}
END_TEST

/* ------------------------------------------------- keys and tensors wrong */

static void add_array(const char *key, uint32_t elem, uint32_t n, uint32_t a,
		      uint32_t b)
{
	gm_kv_array(&m, key, elem, n);
	gm_u32(&m.kv, a);
	gm_u32(&m.kv, b);
}

static void twice_key(void)
{
	gm_kv_u32(&m, "general.name", 1);
}

static void twice_tensor(void)
{
	gm_weights(&m, "output_norm.weight", FMT_F32, 32, 0, 1, 0);
}

static void strange_tensor(void)
{
	gm_weights(&m, "blk.1.attn_output.bias", FMT_F32, 32, 0, 1, 0);
}

static void odd_layer_name(void)
{
	gm_weights(&m, "blk.01.attn_norm.weight", FMT_F32, 32, 0, 1, 0);
}

static void yarn(void)
{
	gm_kv_str(&m, "llama.rope.scaling.type", "yarn");
}

static void experts(void)
{
	gm_kv_u32(&m, "llama.expert_count", 8);
}

static void uneven(void)
{
	add_array("llama.expert_count", GGUF_U32, 2, 0, 1);
}

static void nan_score(void)
{
	uint32_t i;

	gm_kv_array(&m, "tokenizer.ggml.scores", GGUF_F32, 266);
	for (i = 0; i < 266; i++)
		gm_u32(&m.kv, i == 7 ? 0x7fc00000 : 0);
}

static void few_scores(void)
{
	add_array("tokenizer.ggml.scores", GGUF_F32, 2, 0, 0);
}

static void alignment_of_3(void)
{
	gm_kv_u32(&m, "general.alignment", 3);
}

static void alignment_of_0(void)
{
	gm_kv_u32(&m, "general.alignment", 0);
}

static void great_alignment(void)
{
	gm_kv_u32(&m, "general.alignment", 1u << 31);
}

static void part_of_two(void)
{
	gm_kv_u32(&m, "split.count", 2);
	gm_kv_u32(&m, "split.no", 0);
}

static void no_boolean(void)
{
	gm_kv_u32(&m, "tokenizer.ggml.add_eos_token", 1);
}

static const struct addition {
	const char *what;
	void (*add)(void);
	int err;
	const char *says;
} additions[] = {
	{ "key twice", twice_key, -EBADMSG, "key general.name: twice" },
	{ "tensor twice", twice_tensor, -EBADMSG,
	  "tensor output_norm.weight: twice" },
	{ "unknown tensor", strange_tensor, -ENOTSUP,
	  "tensor blk.1.attn_output.bias: not known in llama" },
	{ "layer 01", odd_layer_name, -ENOTSUP, "not known in llama" },
	{ "yarn", yarn, -ENOTSUP, "scaling yarn is not supported" },
	{ "experts", experts, -ENOTSUP, "experts are not supported" },
	{ "uneven layers", uneven, -ENOTSUP, "differs from layer to layer" },
	{ "score", nan_score, -EBADMSG, "token 7: not finite" },
	{ "scores", few_scores, -EBADMSG, "want one f32 a token" },
	{ "alignment 3", alignment_of_3, -EBADMSG, "general.alignment" },
	{ "alignment 0", alignment_of_0, -EBADMSG, "general.alignment" },
	{ "alignment 2G", great_alignment, -EBADMSG, "general.alignment" },
	{ "half a model", part_of_two, -EBADMSG, "2 files, 1 are given" },
	{ "no boolean", no_boolean, -EBADMSG, "u32, want a bool" },
};

START_TEST(one_addition)
{
	const struct addition *a = &additions[_i];

	gm_model(&m, &o);
	a->add();
	gm_finish(&m);
	refused(a->what, whole(), a->err, a->says);
}
END_TEST

START_TEST(gemma3_refusals)
{
	o.arch = "gemma3";
	gm_model(&m, &o);
	gm_kv_f32(&m, "gemma3.final_logit_softcapping", 30);
	gm_finish(&m);
	refused("softcap", whole(), -ENOTSUP, "softcapping: not supported");
	gm_free(&m);
	gm_init(&m);
	o.n_layer = 4;
	gm_model(&m, &o);
	gm_kv_array(&m, "gemma3.attention.sliding_window_pattern", GGUF_BOOL,
		    4);
	gm_put(&m.kv, "\1\0\1\1", 4);
	gm_finish(&m);
	refused("pattern", whole(), -ENOTSUP, "not periodic");
}
END_TEST

/* Each required key and each tensor left out by renaming it. */
START_TEST(one_missing)
{
	static const struct {
		const char *name, *says;
	} t[] = {
		{ "general.architecture", "general.architecture: missing" },
		{ "llama.context_length", "context_length: missing" },
		{ "llama.embedding_length", "embedding_length: missing" },
		{ "llama.block_count", "block_count: missing" },
		{ "llama.feed_forward_length", "feed_forward_length: missing" },
		{ "llama.attention.head_count", "head_count: missing" },
		{ "llama.attention.layer_norm_rms_epsilon",
		  "epsilon: missing" },
		{ "token_embd.weight", "token_embd.weight: missing" },
		{ "output_norm.weight", "not known in llama" },
	};
	uint8_t *p;
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct gm_buf needle = { 0 };

		gm_init(&m);
		gm_model(&m, &o);
		gm_finish(&m);
		gm_str(&needle, t[i].name);
		p = memmem(m.out.p, m.out.n, needle.p, needle.n);
		ck_assert_ptr_nonnull(p);
		p[needle.n - 1] ^= 0x1f;
		ck_assert_int_lt(whole(), 0);
		ck_assert_msg(strstr(why, t[i].says), "%s: %s", t[i].name, why);
		free(needle.p);
		gm_free(&m);
	}
	gm_init(&m);
}
END_TEST

/* Thousands of tokens with one text are one entry, not a long chain. */
START_TEST(many_equal_tokens)
{
	uint32_t i, n = 20000;
	struct gguf_src src;
	struct image im;
	struct gguf *g;
	void *image;
	size_t bytes;

	gm_kv_str(&m, "general.architecture", "none");
	gm_kv_str(&m, "tokenizer.ggml.model", "gpt2");
	gm_kv_array(&m, "tokenizer.ggml.tokens", GGUF_STRING, n);
	for (i = 0; i < n; i++)
		gm_str(&m.kv, "same");
	gm_finish(&m);
	src = (struct gguf_src){ .mem = m.out.p, .bytes = m.out.n };
	ck_assert_int_eq(gguf_open(&g, &src, 1, why), 0);
	ck_assert_msg(!image_build(g, MODEL_VOCAB_ONLY, &image, &bytes, why),
		      "%s", why);
	ck_assert_int_eq(image_open_mem(&im, image, bytes, why), 0);
	ck_assert_uint_eq(image_find_token(&im, "same", 4), 0);
	free(image);
	gguf_close(g);
}
END_TEST

/* ----------------------------------------------------------- several files */

static void put_part(struct gm *p, uint32_t no, uint32_t count, uint32_t total)
{
	gm_kv_u32(p, "split.no", no);
	gm_kv_u32(p, "split.count", count);
	gm_kv_u32(p, "split.tensors.count", total);
}

/* The model in three parts: the tensors of m cut by name. */
static void three_parts(struct gm *p)
{
	uint32_t i;

	o.n_layer = 1;
	for (i = 0; i < 3; i++)
		gm_init(&p[i]);
	gm_hparams(&p[0], &o);
	gm_vocab(&p[0]);
	gm_weights(&p[0], "token_embd.weight", FMT_F16, 32, 266, 0, 1);
	gm_layer(&p[1], &o, 0);
	gm_weights(&p[2], "output_norm.weight", FMT_F32, 32, 0, 1, 0);
	for (i = 0; i < 3; i++)
		put_part(&p[i], i, 3, 11);
}

static int open_parts(struct gm *p, unsigned int n)
{
	struct gguf_src src[3];
	struct image im;
	struct gguf *g;
	struct tape t;
	unsigned int i;
	void *image;
	size_t bytes;
	int ret;

	for (i = 0; i < n; i++) {
		gm_finish(&p[i]);
		src[i] = (struct gguf_src){ .mem = p[i].out.p,
					    .bytes = p[i].out.n };
	}
	ret = gguf_open(&g, src, n, why);
	if (ret)
		return ret;
	ret = image_build(g, 0, &image, &bytes, why);
	gguf_close(g);
	if (ret)
		return ret;
	ck_assert_int_eq(image_open_mem(&im, image, bytes, why), 0);
	ck_assert_uint_eq(im.h->n_files, 3);
	ret = tape_build(&t, &im, why);
	if (!ret)
		tape_free(&t);
	free(image);
	return ret;
}

static void free_parts(struct gm *p)
{
	int i;

	for (i = 0; i < 3; i++)
		gm_free(&p[i]);
}

START_TEST(split_model)
{
	struct gm p[3], swap;

	three_parts(p);
	ck_assert_msg(!open_parts(p, 3), "%s", why);
	refused("two of three", open_parts(p, 2), -EBADMSG,
		"3 files, 2 are given");
	swap = p[1];
	p[1] = p[2];
	p[2] = swap;
	refused("order", open_parts(p, 3), -EBADMSG,
		"part 2: key split.no: this is part 3");
	p[2] = p[1];
	p[1] = swap;
	gm_weights(&p[2], "token_embd.weight", FMT_F32, 32, 0, 1, 0);
	refused("count", open_parts(p, 3), -EBADMSG,
		"split.tensors.count: 11, there are 12");
	/* the last key of part 1 is the total */
	memcpy(p[0].kv.p + p[0].kv.n - 4, &(uint32_t){ 12 }, 4);
	refused("tensor in two parts", open_parts(p, 3), -EBADMSG,
		"tensor token_embd.weight: twice");
	free_parts(p);
}
END_TEST

START_TEST(too_many_files)
{
	struct gguf_src src[IMAGE_MAX_FILES + 1] = { 0 };
	struct gguf *g;

	refused("33", gguf_open(&g, src, IMAGE_MAX_FILES + 1, why), -EBADMSG,
		"33 files");
	refused("none", gguf_open(&g, src, 0, why), -EBADMSG, "0 files");
}
END_TEST

/* ----------------------------------------------------------------- by path */

static void write_file(const char *path, const struct gm_buf *b)
{
	FILE *f = fopen(path, "wb");

	ck_assert_ptr_nonnull(f);
	if (b->n)
		ck_assert_uint_eq(fwrite(b->p, 1, b->n, f), b->n);
	ck_assert_int_eq(fclose(f), 0);
}

static int parse_path(const char *path)
{
	int image_fd, fds[IMAGE_MAX_FILES], ret;
	struct image im;
	unsigned int n;

	ret = model_parse_path(path, 0, &image_fd, fds, &n, why);
	if (ret)
		return ret;
	ret = image_open_fd(&im, image_fd, why);
	ck_assert_msg(!ret, "%s", why);
	ck_assert_int_eq(ftruncate(image_fd, 1), -1); /* sealed */
	image_close(&im);
	close(image_fd);
	while (n)
		close(fds[--n]);
	return 0;
}

START_TEST(by_path)
{
	static const char *const names[] = {
		"m-00001-of-00003.gguf",
		"m-00002-of-00003.gguf",
		"m-00003-of-00003.gguf",
		"one.gguf",
		"empty.gguf",
	};
	char dir[] = "/tmp/check_gguf.XXXXXX";
	struct gm_buf none = { 0 };
	struct gm p[3];
	int i;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	three_parts(p);
	for (i = 0; i < 3; i++) {
		gm_finish(&p[i]);
		write_file(names[i], &p[i].out);
	}
	o.n_layer = 2;
	/* a header of more than one read */
	gm_kv_array(&m, "padding", GGUF_U8, 300000);
	while (m.kv.n < 300100)
		gm_put(&m.kv, "\0\0\0\0", 4);
	m.kv.n = 300000 + 8 + 7 + 4 + 12;
	gm_model(&m, &o);
	gm_finish(&m);
	write_file("one.gguf", &m.out);
	write_file("empty.gguf", &none);
	ck_assert_msg(!parse_path(names[0]), "%s", why);
	ck_assert_msg(!parse_path("one.gguf"), "%s", why);
	refused("a later part", parse_path(names[1]), -EBADMSG, "split.count");
	refused("empty", parse_path("empty.gguf"), -EBADMSG, "file has 0 left");
	refused("folder", parse_path("."), -EISDIR, "not a regular file");
	refused("nothing", parse_path("absent.gguf"), -ENOENT, "No such file");
	refused("device", parse_path("/dev/null"), -EINVAL,
		"not a regular file");
	unlink(names[2]);
	refused("part missing", parse_path(names[0]), -ENOENT, names[2]);
	for (i = 0; i < 5; i++)
		unlink(names[i]);
	ck_assert_int_eq(chdir("/"), 0);
	rmdir(dir);
	free_parts(p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gguf");
	TCase *t = tcase_create("gguf");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, every_arch_and_type);
	tcase_add_test(t, image_says_what_the_file_says);
	tcase_add_test(t, gemma3_windows);
	tcase_add_test(t, gemma3_pattern_of_booleans);
	tcase_add_test(t, gemma3_27b_scales_by_width);
	tcase_add_test(t, rope_scaling);
	tcase_add_test(t, equal_array_is_a_number);
	tcase_add_test(t, eog_tokens_become_control);
	tcase_add_test(t, nothing_but_a_vocabulary);
	tcase_add_test(t, version_2);
	tcase_add_loop_test(t, one_field_wrong, 0,
			    sizeof(fields) / sizeof(fields[0]));
	tcase_add_test(t, truncated);
	tcase_add_loop_test(t, one_addition, 0,
			    sizeof(additions) / sizeof(additions[0]));
	tcase_add_test(t, gemma3_refusals);
	tcase_add_test(t, one_missing);
	tcase_add_test(t, many_equal_tokens);
	tcase_add_test(t, split_model);
	tcase_add_test(t, too_many_files);
	tcase_add_test(t, by_path);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
