/* SPDX-License-Identifier: MIT */
/*
 * gguf.h - reads the headers of a model's GGUF files.
 *
 * Runs in the parser process. Every length, offset, count, name and alignment
 * is checked against the file's size before anything is allocated or
 * believed; memory stays below 8 x the bytes read + 1 MiB. Nothing recurses.
 */
#ifndef HEARTH_GGUF_H
#define HEARTH_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../libclient/image.h"

/* Types of values, the format's numbers. */
enum gguf_type {
	GGUF_U8,
	GGUF_I8,
	GGUF_U16,
	GGUF_I16,
	GGUF_U32,
	GGUF_I32,
	GGUF_F32,
	GGUF_BOOL,
	GGUF_STRING,
	GGUF_ARRAY,
	GGUF_U64,
	GGUF_I64,
	GGUF_F64,
	GGUF_TYPE_N,
};

/* Where a file's bytes come from: @mem if not NULL, else @fd by pread(). */
struct gguf_src {
	const void *mem;
	int fd;
	uint64_t bytes;
};

/**
 * struct gguf_kv - one key; offsets are into its part's header bytes
 * @off: its value; of a string the text, of an array the first element
 * @n:   of a string its length, of an array its elements
 */
struct gguf_kv {
	uint32_t key_off;
	uint32_t off;
	uint32_t n;
	uint16_t key_len;
	uint8_t type; /* enum gguf_type */
	uint8_t elem; /* of an array */
};

/**
 * struct gguf_tensor - one tensor's row in the header
 * @at:  where the row is, for messages
 * @off: absolute, in its file
 */
struct gguf_tensor {
	uint32_t name_off;
	uint32_t at;
	uint32_t type;
	uint8_t name_len;
	uint8_t part;
	uint64_t cols;
	uint64_t rows; /* product of the other dimensions */
	uint64_t off;
	uint64_t bytes;
};

struct gguf_part {
	struct gguf_src src;
	uint8_t *buf; /* the header, as far as it was read */
	uint64_t len;
	uint64_t pos; /* of the reader */
	uint64_t data_off;
	uint64_t n_kv;
	uint64_t n_tensors;
	struct gguf_kv *kv;
	uint32_t *kv_sorted; /* indices by key */
};

struct gguf {
	struct gguf_part part[IMAGE_MAX_FILES];
	unsigned int n_parts;
	struct gguf_tensor *tensors; /* of all parts */
	uint32_t n_tensors;
	uint64_t n_params;
};

/**
 * gguf_open() - read and check the headers of a model's files
 * @out: new; free with gguf_close()
 * @src: one a file, in order; fds and memory are borrowed
 * @why: names part, tensor or key, and the byte
 *
 * Return: 0, -EBADMSG for a bad file, -ENOTSUP for one that names something
 * unknown, -EIO, -ENOMEM.
 */
int gguf_open(struct gguf **out, const struct gguf_src *src, unsigned int n,
	      char why[160]);
void gguf_close(struct gguf *g);

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);

/*
 * Value of a key, checked for type and range; integers of any width convert.
 * A missing key is an error if @required, else *@out stays as it is. An array
 * counts as a number when all its elements are equal.
 */
int gguf_get_u32(const struct gguf *g, const char *key, uint32_t *out,
		 bool required, char why[160]);
int gguf_get_f32(const struct gguf *g, const char *key, float *out,
		 bool required, char why[160]);
int gguf_get_bool(const struct gguf *g, const char *key, bool *out,
		  bool required, char why[160]);
/* Borrowed text in *@out, not terminated. */
int gguf_get_str(const struct gguf *g, const char *key, const char **out,
		 size_t *n, bool required, char why[160]);

/* Elements of an array, 0 if there is none. */
uint32_t gguf_array_len(const struct gguf *g, const char *key);
/* One element of an array of integers or booleans. */
int gguf_array_u32(const struct gguf *g, const char *key, uint32_t i,
		   uint32_t *out, char why[160]);

/* Set @why to "key: what" with the key's place; return -ENOTSUP. */
int gguf_bad_key(const struct gguf *g, const char *key, char why[160],
		 const char *what);

static inline const char *gguf_text(const struct gguf *g, unsigned int part,
				    uint32_t off)
{
	return (const char *)g->part[part].buf + off;
}

/* Text of a file for a message: what is not printable becomes '?'. */
void gguf_printable(char *buf, size_t size, const char *text, size_t n);

/* A number of a scalar or array element at @p as text; bytes written. */
int gguf_print(char *buf, size_t n, enum gguf_type type, const uint8_t *p);

/**
 * parser_run() - the parser's work: headers in, image out
 * @image_fd: an empty memfd; the caller seals it afterwards
 * @fds:      the model's files, in order
 * @why:      what is wrong and where
 */
int parser_run(int image_fd, const int *fds, unsigned int n, char why[160]);

#define MODEL_VOCAB_ONLY 1u /* tensors may be missing */

/**
 * model_parse_path() - open a model by name, in this process (tests, tools)
 * @path:     the file, or the first part "x-00001-of-0000n.gguf" of several
 * @image_fd: a sealed image, the caller's
 * @fds:      at least IMAGE_MAX_FILES, the caller's; NULL: not wanted
 */
int model_parse_path(const char *path, unsigned int flags, int *image_fd,
		     int *fds, unsigned int *n_fds, char why[160]);

extern const char *const gguf_type_names[GGUF_TYPE_N];
extern const uint8_t gguf_type_bytes[GGUF_TYPE_N]; /* 0: string, array */

#endif
