/* SPDX-License-Identifier: MIT */
/* fuzz_gguf.c - model headers: read, flattened, checked, made into a tape. */
#include <stdint.h>
#include <string.h>

#include "../../daemon/image_write.h"
#include "../../daemon/tape.h"
#include "heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Another "GGUF" in the input starts another part of a split model. */
static unsigned int split(struct gguf_src *src, uint8_t *p, size_t n)
{
	unsigned int parts = 0;
	size_t at;

	while (n && parts < IMAGE_MAX_FILES) {
		uint8_t *next = n > 4 ? memmem(p + 4, n - 4, "GGUF", 4) : NULL;

		at = next && parts + 1 < IMAGE_MAX_FILES ? (size_t)(next - p)
							 : n;
		src[parts++] = (struct gguf_src){ .mem = p, .bytes = at };
		p += at;
		n -= at;
	}
	return parts;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct gguf_src src[IMAGE_MAX_FILES];
	uint8_t *copy = malloc(n ? n : 1);
	struct gguf *g = NULL;
	char why[160] = "";
	struct image im;
	struct tape t;
	void *image;
	size_t bytes;

	memcpy(copy, data, n);
	heap_begin();
	if (!gguf_open(&g, src, split(src, copy, n), why) &&
	    !image_build(g, MODEL_VOCAB_ONLY, &image, &bytes, why)) {
		/* What the parser writes, every reader must accept. */
		if (image_open_mem(&im, image, bytes, why))
			abort();
		heap_end(n);
		if (im.h->tensors.n && !tape_build(&t, &im, why))
			tape_free(&t);
		free(image);
	}
	gguf_close(g);
	heap_end(n);
	free(copy);
	return 0;
}
