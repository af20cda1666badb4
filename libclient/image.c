/* SPDX-License-Identifier: MIT */
/*
 * image.c - checks and reads a model image, for engine, clients and fuzzers.
 *
 * The image comes from a sandboxed process that read a hostile file: nothing
 * in it is believed before image_check() has seen it.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "image.h"
#include "safe.h"
#include "why.h"

#define SECTION_ALIGN 64

#define MAX_EMBD     (1u << 20)
#define MAX_HEADS    4096u
#define MAX_HEAD_DIM 1024u
#define MAX_CTX	     (1u << 28)

_Static_assert(sizeof(struct image_hparams) == 128, "hparams");
_Static_assert(sizeof(struct image_tensor) == 56, "tensor");
_Static_assert(sizeof(struct image_token) == 16, "token");
_Static_assert(sizeof(struct image_merge) == 12, "merge");
_Static_assert(sizeof(struct image_meta) == 16, "meta");

#define bad(why, ...) say_why(why, -EBADMSG, __VA_ARGS__)

uint32_t image_hash(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint32_t h = 2166136261u;
	size_t i;

	for (i = 0; i < n; i++)
		h = (h ^ b[i]) * 16777619u;
	h ^= h >> 15;
	h *= 0x2c1b3c6du;
	return h ^ h >> 12;
}

uint32_t image_hash_pair(uint32_t left, uint32_t right)
{
	uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15ull;

	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	return (uint32_t)(h >> 32);
}

/* ------------------------------------------------------------- checking */

static int check_span(const struct image_span *s, size_t size, uint64_t bytes,
		      const char *name, char why[160])
{
	if (s->off % SECTION_ALIGN || s->off < sizeof(struct image_header))
		return bad(why, "image: %s: bad offset %llu", name,
			   (unsigned long long)s->off);
	if (!safe_array(s->off, s->n, size, bytes))
		return bad(why, "image: %s: %llu elements do not fit", name,
			   (unsigned long long)s->n);
	return 0;
}

static bool str_ok(const struct image_header *h, struct image_str s)
{
	return safe_range(s.off, s.len, h->strings.n);
}

static int check_header(const struct image_header *h, size_t n, char why[160])
{
	struct {
		const char *name;
		const struct image_span *span;
		size_t size;
	} spans[] = {
		{ "strings", &h->strings, 1 },
		{ "tensors", &h->tensors, sizeof(struct image_tensor) },
		{ "tokens", &h->tokens, sizeof(struct image_token) },
		{ "merges", &h->merges, sizeof(struct image_merge) },
		{ "token table", &h->tok_hash, sizeof(uint32_t) },
		{ "merge table", &h->merge_hash, sizeof(uint32_t) },
		{ "end tokens", &h->eog, sizeof(uint32_t) },
		{ "metadata", &h->meta, sizeof(struct image_meta) },
	};
	size_t i;
	int ret;

	if (h->magic != IMAGE_MAGIC)
		return bad(why, "image: not a model image");
	if (h->version != IMAGE_VERSION)
		return bad(why, "image: version %u, want %u", h->version,
			   IMAGE_VERSION);
	if (h->bytes != n)
		return bad(why, "image: says %llu bytes, has %zu",
			   (unsigned long long)h->bytes, n);
	for (i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		ret = check_span(spans[i].span, spans[i].size, n, spans[i].name,
				 why);
		if (ret)
			return ret;
	}
	if (!h->n_files || h->n_files > IMAGE_MAX_FILES)
		return bad(why, "image: %u files", h->n_files);
	for (i = h->n_files; i < IMAGE_MAX_FILES; i++)
		if (h->file_bytes[i])
			return bad(why, "image: size of a file that is not");
	for (i = 0; i < sizeof(h->resv) / sizeof(h->resv[0]); i++)
		if (h->resv[i])
			return bad(why, "image: reserved field is not zero");
	if (!str_ok(h, h->arch_name) || !str_ok(h, h->quant_name) ||
	    !str_ok(h, h->tok_model) || !str_ok(h, h->tok_pre) ||
	    !str_ok(h, h->chat_template))
		return bad(why, "image: a name lies outside the strings");
	return 0;
}

static int check_limits(const struct image_hparams *hp, char why[160])
{
	const struct {
		const char *name;
		uint32_t v, max;
	} lim[] = {
		{ "layers", hp->n_layer, IMAGE_MAX_LAYERS },
		{ "width", hp->n_embd, MAX_EMBD },
		{ "feed-forward width", hp->n_ff, MAX_EMBD },
		{ "heads", hp->n_head, MAX_HEADS },
		{ "key/value heads", hp->n_head_kv, MAX_HEADS },
		{ "head width", hp->head_dim, MAX_HEAD_DIM },
		{ "vocabulary", hp->n_vocab, IMAGE_MAX_VOCAB },
		{ "context", hp->n_ctx_train, MAX_CTX },
	};
	size_t i;

	for (i = 0; i < sizeof(lim) / sizeof(lim[0]); i++)
		if (!lim[i].v || lim[i].v > lim[i].max)
			return bad(why, "image: %s %u is not in 1..%u",
				   lim[i].name, lim[i].v, lim[i].max);
	return 0;
}

static bool positive(float f)
{
	return isfinite(f) && f > 0;
}

static int check_hparams(const struct image_hparams *hp, char why[160])
{
	size_t i;
	int ret;

	for (i = 0; i < sizeof(hp->resv) / sizeof(hp->resv[0]); i++)
		if (hp->resv[i])
			return bad(why, "image: reserved field is not zero");
	if (hp->arch == IMAGE_NONE) { /* a vocabulary alone */
		if (hp->n_layer || hp->n_vocab > IMAGE_MAX_VOCAB)
			return bad(why, "image: layers without architecture");
		return 0;
	}
	ret = check_limits(hp, why);
	if (ret)
		return ret;
	if (hp->n_head % hp->n_head_kv)
		return bad(why, "image: %u heads over %u key/value heads",
			   hp->n_head, hp->n_head_kv);
	if (!hp->n_rope || hp->n_rope % 2 || hp->n_rope > hp->head_dim)
		return bad(why, "image: %u rotated of %u", hp->n_rope,
			   hp->head_dim);
	if (hp->rope_pairs > IMAGE_ROPE_HALVES ||
	    hp->rope_scaling > IMAGE_ROPE_FREQS)
		return bad(why, "image: unknown kind of rotation");
	if (!positive(hp->rope_base) || !positive(hp->rope_factor) ||
	    !positive(hp->rope_base_local))
		return bad(why, "image: rotation base or factor out of range");
	if (hp->n_swa > MAX_CTX || (hp->n_swa && !hp->swa_period))
		return bad(why, "image: sliding window %u every %u", hp->n_swa,
			   hp->swa_period);
	if (!isfinite(hp->norm_eps) || hp->norm_eps < 0 || hp->norm_eps > 1 ||
	    !positive(hp->attn_scale) || !positive(hp->embd_scale))
		return bad(why, "image: epsilon or scale out of range");
	if (hp->tied > 1)
		return bad(why, "image: tied is no boolean");
	return 0;
}

static int check_tensors(const struct image *im, char why[160])
{
	const struct image_header *h = im->h;
	const struct image_tensor *t;
	uint64_t i;

	if (h->tensors.n > IMAGE_MAX_TENSORS)
		return bad(why, "image: %llu tensors",
			   (unsigned long long)h->tensors.n);
	if (h->hp.arch == IMAGE_NONE && h->tensors.n)
		return bad(why, "image: tensors without architecture");
	for (i = 0; i < h->tensors.n; i++) {
		t = &im->tensors[i];
		if (!str_ok(h, t->name))
			return bad(why, "image: tensor %llu: bad name",
				   (unsigned long long)i);
		if (t->layer >= h->hp.n_layer)
			return bad(why, "image: tensor %llu: layer %u of %u",
				   (unsigned long long)i, t->layer,
				   h->hp.n_layer);
		if (t->file >= h->n_files)
			return bad(why, "image: tensor %llu: file %u of %u",
				   (unsigned long long)i, t->file, h->n_files);
		if (!t->cols || !t->rows || t->cols > MAX_EMBD ||
		    t->rows > IMAGE_MAX_VOCAB || !t->bytes)
			return bad(why, "image: tensor %llu: bad shape",
				   (unsigned long long)i);
		if (!safe_range(t->off, t->bytes, h->file_bytes[t->file]))
			return bad(why,
				   "image: tensor %llu: data outside the file",
				   (unsigned long long)i);
	}
	return 0;
}

/* A table has room for one more at least, so a search ends. */
static int check_table(const uint32_t *table, uint64_t n, uint64_t n_values,
		       const char *name, char why[160])
{
	uint64_t i, used = 0;

	if (!n && !n_values)
		return 0;
	if (!safe_pow2(n) || n <= n_values || n > UINT32_MAX)
		return bad(why, "image: %s: size %llu for %llu entries", name,
			   (unsigned long long)n, (unsigned long long)n_values);
	for (i = 0; i < n; i++) {
		if (table[i] == IMAGE_NONE)
			continue;
		if (table[i] >= n_values)
			return bad(why, "image: %s: entry %u of %llu", name,
				   table[i], (unsigned long long)n_values);
		used++;
	}
	if (used > n_values)
		return bad(why, "image: %s: too many entries", name);
	return 0;
}

static bool id_ok(const struct image_header *h, uint32_t id)
{
	return id == IMAGE_NONE || id < h->hp.n_vocab;
}

/* What runs tokens knows of them. */
static int check_ends(const struct image *im, char why[160])
{
	const struct image_header *h = im->h;
	uint64_t i;

	if (!id_ok(h, h->bos) || !id_ok(h, h->eos) || !id_ok(h, h->unk) ||
	    !id_ok(h, h->pad) || !id_ok(h, h->sep) || !id_ok(h, h->nl) ||
	    !id_ok(h, h->eot))
		return bad(why, "image: a special token is outside the "
				"vocabulary");
	if (h->eog.n > h->hp.n_vocab)
		return bad(why, "image: too many end tokens");
	for (i = 0; i < h->eog.n; i++)
		if (im->eog[i] >= h->hp.n_vocab)
			return bad(why, "image: end token %u of %u", im->eog[i],
				   h->hp.n_vocab);
	return 0;
}

static int check_tokens(const struct image *im, char why[160])
{
	const struct image_header *h = im->h;
	const struct image_token *t;
	uint64_t i;

	if (h->tokens.n > h->hp.n_vocab)
		return bad(why, "image: %llu tokens, vocabulary %u",
			   (unsigned long long)h->tokens.n, h->hp.n_vocab);
	for (i = 0; i < h->tokens.n; i++) {
		t = &im->tokens[i];
		if (!str_ok(h, t->text) || !isfinite(t->score) ||
		    t->type > IMAGE_TOK_BYTE)
			return bad(why, "image: token %llu is bad",
				   (unsigned long long)i);
	}
	return check_table(im->tok_hash, h->tok_hash.n, h->tokens.n,
			   "token table", why);
}

static int check_vocab(const struct image *im, char why[160])
{
	const struct image_header *h = im->h;
	const struct image_merge *m;
	uint64_t i;
	int ret;

	if (h->vocab_kind > IMAGE_VOCAB_OTHER)
		return bad(why, "image: vocabulary kind %u", h->vocab_kind);
	if (h->tok_flags &
	    ~(IMAGE_TOK_F_ADD_BOS | IMAGE_TOK_F_ADD_EOS |
	      IMAGE_TOK_F_SPACE_PREFIX | IMAGE_TOK_F_HAS_ADD_BOS))
		return bad(why, "image: unknown tokenizer flag");
	ret = check_tokens(im, why);
	if (ret)
		return ret;
	for (i = 0; i < h->merges.n; i++) {
		m = &im->merges[i];
		if (m->left >= h->tokens.n || m->right >= h->tokens.n ||
		    m->result >= h->tokens.n)
			return bad(why, "image: merge %llu names no token",
				   (unsigned long long)i);
	}
	ret = check_table(im->merge_hash, h->merge_hash.n, h->merges.n,
			  "merge table", why);
	if (ret)
		return ret;
	for (i = 0; i < h->meta.n; i++)
		if (!str_ok(h, im->meta[i].key) ||
		    !str_ok(h, im->meta[i].value))
			return bad(why, "image: metadata %llu is bad",
				   (unsigned long long)i);
	return 0;
}

static int check_all(struct image *im, const void *p, size_t n, bool vocab,
		     char why[160])
{
	const struct image_header *h = p;
	const char *base = p;
	int ret;

	memset(im, 0, sizeof(*im));
	if (n < sizeof(*h) || n > IMAGE_MAX_BYTES)
		return bad(why, "image: %zu bytes", n);
	if ((uintptr_t)p % 8)
		return bad(why, "image: not aligned");
	ret = check_header(h, n, why);
	if (ret)
		return ret;
	im->h = h;
	im->str = base + h->strings.off;
	im->tensors = (const void *)(base + h->tensors.off);
	im->eog = (const void *)(base + h->eog.off);
	ret = check_hparams(&h->hp, why);
	if (!ret)
		ret = check_tensors(im, why);
	if (ret)
		return ret;
	if (!vocab)
		return check_ends(im, why);
	im->tokens = (const void *)(base + h->tokens.off);
	im->merges = (const void *)(base + h->merges.off);
	im->tok_hash = (const void *)(base + h->tok_hash.off);
	im->merge_hash = (const void *)(base + h->merge_hash.off);
	im->meta = (const void *)(base + h->meta.off);
	ret = check_vocab(im, why);
	return ret ? ret : check_ends(im, why);
}

int image_open_mem(struct image *im, const void *p, size_t n, char why[160])
{
	return check_all(im, p, n, true, why);
}

static int open_fd(struct image *im, int fd, bool vocab, char why[160])
{
	int need = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	struct stat st;
	void *p;
	int seals, ret;

	memset(im, 0, sizeof(*im));
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & need) != need)
		return bad(why, "image: not sealed");
	if (fstat(fd, &st) < 0) {
		ret = -errno;
		bad(why, "image: fstat: %s", strerror(-ret));
		return ret;
	}
	if (st.st_size < (off_t)sizeof(struct image_header) ||
	    st.st_size > (off_t)IMAGE_MAX_BYTES)
		return bad(why, "image: %lld bytes", (long long)st.st_size);
	p = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		ret = -errno;
		bad(why, "image: mmap: %s", strerror(-ret));
		return ret;
	}
	ret = check_all(im, p, st.st_size, vocab, why);
	if (ret) {
		munmap(p, st.st_size);
		memset(im, 0, sizeof(*im));
		return ret;
	}
	im->map_bytes = st.st_size;
	return 0;
}

int image_open_fd(struct image *im, int fd, char why[160])
{
	return open_fd(im, fd, true, why);
}

int image_open_tensors(struct image *im, int fd, char why[160])
{
	return open_fd(im, fd, false, why);
}

void image_close(struct image *im)
{
	if (im->map_bytes)
		munmap((void *)(uintptr_t)im->h, im->map_bytes);
	memset(im, 0, sizeof(*im));
}

/* ------------------------------------------------------------- searching */

uint32_t image_find_token(const struct image *im, const void *p, size_t n)
{
	uint64_t mask = im->h->tok_hash.n - 1;
	uint64_t slot = image_hash(p, n);
	const struct image_token *t;
	uint32_t i, id;

	if (!im->h->tok_hash.n)
		return IMAGE_NONE;
	for (i = 0; i < IMAGE_MAX_PROBE; i++) {
		id = im->tok_hash[(slot + i) & mask];
		if (id == IMAGE_NONE)
			return IMAGE_NONE;
		t = &im->tokens[id];
		if (t->text.len == n && !memcmp(im->str + t->text.off, p, n))
			return id;
	}
	return IMAGE_NONE;
}

uint32_t image_find_merge(const struct image *im, uint32_t left, uint32_t right)
{
	uint64_t mask = im->h->merge_hash.n - 1;
	uint64_t slot = image_hash_pair(left, right);
	const struct image_merge *m;
	uint32_t i, idx;

	if (!im->h->merge_hash.n)
		return IMAGE_NONE;
	for (i = 0; i < IMAGE_MAX_PROBE; i++) {
		idx = im->merge_hash[(slot + i) & mask];
		if (idx == IMAGE_NONE)
			return IMAGE_NONE;
		m = &im->merges[idx];
		if (m->left == left && m->right == right)
			return idx;
	}
	return IMAGE_NONE;
}

bool image_meta_get(const struct image *im, const char *key, const char **p,
		    size_t *n)
{
	size_t len = strlen(key);
	const struct image_meta *m;
	uint64_t i;

	for (i = 0; i < im->h->meta.n; i++) {
		m = &im->meta[i];
		if (m->key.len != len || memcmp(im->str + m->key.off, key, len))
			continue;
		*p = im->str + m->value.off;
		*n = m->value.len;
		return true;
	}
	return false;
}
