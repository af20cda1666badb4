/* SPDX-License-Identifier: MIT */
/*
 * image.h - the model image: what the parser makes of a model file's header.
 *
 * The parser (a sandboxed process, one a load) reads the headers of a model's
 * files and writes this flat structure into a memfd, which the monitor then
 * seals against every change. The engine reads hyperparameters and tensors,
 * clients map it read-only for the vocabulary, template and metadata. Nobody
 * else ever looks at a GGUF header. Every reader calls image_open(), which
 * checks every offset, count and relation, and trusts nothing before.
 *
 * Layout: struct image_header, then sections in any order, each 64-byte
 * aligned, named by struct image_span in the header. Strings are (offset,
 * length) into the string section, not NUL-terminated, any bytes.
 */
#ifndef HEARTH_IMAGE_H
#define HEARTH_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_MAGIC	  0x49545248u /* "HRTI" */
#define IMAGE_VERSION	  1
#define IMAGE_MAX_BYTES	  (1ull << 30)
#define IMAGE_MAX_TENSORS 65536
#define IMAGE_MAX_LAYERS  512
#define IMAGE_MAX_VOCAB	  (1u << 20)
#define IMAGE_MAX_FILES	  32
#define IMAGE_NONE	  0xffffffffu
/* A longer chain in a hash table is an attack: the parser refuses the file. */
#define IMAGE_MAX_PROBE 256

struct image_span {
	uint64_t off; /* bytes from the start of the image */
	uint64_t n;   /* elements (bytes for the string section) */
};

struct image_str {
	uint32_t off; /* in the string section */
	uint32_t len;
};

enum image_rope_scaling {
	IMAGE_ROPE_NONE,
	IMAGE_ROPE_LINEAR, /* angle = pos / factor */
	IMAGE_ROPE_FREQS,  /* llama 3: a tensor of divisors, one a pair */
};

enum image_rope_pairs {
	IMAGE_ROPE_ADJACENT, /* rotates (2i, 2i+1): llama */
	IMAGE_ROPE_HALVES,   /* rotates (i, i+d/2): qwen, gemma */
};

/**
 * struct image_hparams - hyperparameters, already checked against each other
 * @arch:        enum arch_id of daemon/arch.def (its name is in the header), or
 *               IMAGE_NONE: a vocabulary alone, all else but n_vocab is zero
 * @n_embd:      width of the residual stream
 * @n_ff:        width of the feed-forward layer
 * @n_head:      query heads
 * @n_head_kv:   key/value heads; divides @n_head
 * @head_dim:    width of one head, keys and values alike
 * @n_rope:      how many of a head's dimensions are rotated (even)
 * @rope_pairs:  enum image_rope_pairs
 * @rope_scaling: enum image_rope_scaling
 * @rope_base:   base of the angles
 * @rope_factor: linear scaling factor (1 is none)
 * @rope_base_local: base in sliding-window layers (gemma3)
 * @n_swa:       sliding window in positions, 0 is none
 * @swa_period:  every @swa_period-th layer is global, the others slide
 * @norm_eps:    epsilon of RMS norm
 * @attn_scale:  factor on q.k
 * @embd_scale:  factor on embeddings (1 is none; gemma: sqrt(n_embd))
 * @tied:        the output matrix is the token embedding
 */
struct image_hparams {
	uint32_t arch;
	uint32_t n_layer;
	uint32_t n_embd;
	uint32_t n_ff;
	uint32_t n_head;
	uint32_t n_head_kv;
	uint32_t head_dim;
	uint32_t n_vocab;
	uint32_t n_ctx_train;
	uint32_t n_rope;
	uint32_t rope_pairs;
	uint32_t rope_scaling;
	float rope_base;
	float rope_factor;
	float rope_base_local;
	uint32_t n_swa;
	uint32_t swa_period;
	float norm_eps;
	float attn_scale;
	float embd_scale;
	uint32_t tied;
	uint32_t resv[11];
};

/**
 * struct image_tensor - one tensor the graph uses
 * @name:  as in the file, for messages
 * @role:  enum tensor_role of daemon/tensor.def
 * @layer: its layer, or 0
 * @type:  ggml type number, one of kernels/quant.def
 * @file:  which file of a split model
 * @cols:  elements in a row (ne[0]); a vector has one row
 * @rows:  ne[1]
 * @off:   byte offset in the file
 * @bytes: rows * row bytes
 */
struct image_tensor {
	struct image_str name;
	uint32_t role;
	uint32_t layer;
	uint32_t type;
	uint32_t file;
	uint64_t cols;
	uint64_t rows;
	uint64_t off;
	uint64_t bytes;
};

enum image_vocab_kind {
	IMAGE_VOCAB_NONE,  /* the file has no vocabulary: tokens only */
	IMAGE_VOCAB_BPE,   /* byte-level BPE ("gpt2") */
	IMAGE_VOCAB_SPM,   /* SentencePiece BPE with scores ("llama") */
	IMAGE_VOCAB_OTHER, /* known to exist, not supported: name in tok_model */
};

/* Token types: the numbers of tokenizer.ggml.token_type. */
enum image_token_type {
	IMAGE_TOK_UNDEFINED,
	IMAGE_TOK_NORMAL,
	IMAGE_TOK_UNKNOWN,
	IMAGE_TOK_CONTROL,
	IMAGE_TOK_USER,
	IMAGE_TOK_UNUSED,
	IMAGE_TOK_BYTE,
};

struct image_token {
	struct image_str text; /* as in the file */
	float score;
	uint32_t type;
};

/* One BPE merge, in rank order; pieces that are no tokens are left out. */
struct image_merge {
	uint32_t left;
	uint32_t right;
	uint32_t result;
};

/* Metadata, values as text; arrays only as "[n x type]". */
struct image_meta {
	struct image_str key;
	struct image_str value;
};

#define IMAGE_TOK_F_ADD_BOS	 1u
#define IMAGE_TOK_F_ADD_EOS	 2u
#define IMAGE_TOK_F_SPACE_PREFIX 4u
#define IMAGE_TOK_F_HAS_ADD_BOS	 8u /* the file said so, else by kind */

/**
 * struct image_header - start of an image
 * @bytes:      size of the whole image
 * @file_bytes: sizes of the model's files, as fstat gave them
 * @n_params:   elements in all tensors of the file, used or not
 * @tok_hash:   open-addressing table of token ids by text: slot
 *              image_hash(text) & (n - 1), linear probing, IMAGE_NONE empty;
 *              n is a power of two > the number of tokens; first id wins
 * @merge_hash: the same over (left, right): values are merge indices
 * @eog:        token ids that end a turn (EOS, EOT, EOM, ...)
 */
struct image_header {
	uint32_t magic;
	uint32_t version;
	uint64_t bytes;
	uint64_t n_params;
	struct image_hparams hp;
	uint32_t n_files;
	uint32_t vocab_kind;
	uint32_t tok_flags;			   /* IMAGE_TOK_F_* */
	uint32_t bos, eos, unk, pad, sep, nl, eot; /* IMAGE_NONE if none */
	uint64_t file_bytes[IMAGE_MAX_FILES];
	struct image_str arch_name;
	struct image_str
		quant_name; /* "Q4_K_M" as the file says, or the main type */
	struct image_str tok_model;
	struct image_str tok_pre;
	struct image_str chat_template;
	struct image_span strings;    /* bytes */
	struct image_span tensors;    /* struct image_tensor */
	struct image_span tokens;     /* struct image_token */
	struct image_span merges;     /* struct image_merge */
	struct image_span tok_hash;   /* uint32_t */
	struct image_span merge_hash; /* uint32_t */
	struct image_span eog;	      /* uint32_t */
	struct image_span meta;	      /* struct image_meta */
	uint64_t resv[16];
};

/**
 * struct image - a checked, mapped image
 *
 * All pointers lie in the mapping. Read-only, shared by any number of threads.
 */
struct image {
	const struct image_header *h;
	const char *str;
	const struct image_tensor *tensors;
	const struct image_token *tokens;
	const struct image_merge *merges;
	const uint32_t *tok_hash;
	const uint32_t *merge_hash;
	const uint32_t *eog;
	const struct image_meta *meta;
	size_t map_bytes; /* 0 when the caller owns the memory */
};

/**
 * image_open_fd() - map and check an image
 * @im:  filled on success; close with image_close()
 * @fd:  borrowed; must be a memfd sealed SHRINK|GROW|WRITE
 * @why: text of the first thing that is wrong, at least 160 bytes
 *
 * Return: 0, -EBADMSG if it is not a valid image, or another -errno.
 */
int image_open_fd(struct image *im, int fd, char why[160]);

/*
 * The same for who runs tokens and knows no text: of the vocabulary only special
 * and end tokens are looked at and there, the rest is NULL. Checking all of it
 * takes longer than mapping the weights.
 */
int image_open_tensors(struct image *im, int fd, char why[160]);

/* The same over memory that the caller keeps alive (tests, fuzzers). */
int image_open_mem(struct image *im, const void *p, size_t n, char why[160]);
void image_close(struct image *im);

/* Hash of a token's text, and of a merge's pair. FNV-1a, 32 bits, mixed. */
uint32_t image_hash(const void *p, size_t n);
uint32_t image_hash_pair(uint32_t left, uint32_t right);

/* First token with exactly this text, or IMAGE_NONE. */
uint32_t image_find_token(const struct image *im, const void *p, size_t n);

/* Index of the merge of (left, right), or IMAGE_NONE. */
uint32_t image_find_merge(const struct image *im, uint32_t left,
			  uint32_t right);

/* Value of a metadata key: true and the span, or false. */
bool image_meta_get(const struct image *im, const char *key, const char **p,
		    size_t *n);

#endif
