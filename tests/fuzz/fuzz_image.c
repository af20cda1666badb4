/* SPDX-License-Identifier: MIT */
/* fuzz_image.c - images as a broken parser could write them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../daemon/tape.h"
#include "heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Touch everything a reader may touch. */
static void use(const struct image *im)
{
	const struct image_header *h = im->h;
	const char *p;
	size_t len;
	uint64_t i;

	for (i = 0; i < h->tokens.n; i++)
		image_find_token(im, im->str + im->tokens[i].text.off,
				 im->tokens[i].text.len);
	for (i = 0; i < h->merges.n; i++)
		image_find_merge(im, im->merges[i].left, im->merges[i].right);
	image_find_token(im, "<s>", 3);
	image_meta_get(im, "general.name", &p, &len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct image_header *h = malloc(n ? n : 1);
	char why[160] = "";
	struct image im;
	struct tape t;

	memcpy(h, data, n);
	if (n >= sizeof(*h)) { /* these stop a mutation too early */
		h->bytes = n;
		h->magic = IMAGE_MAGIC;
	}
	if (!image_open_mem(&im, h, n, why)) {
		use(&im);
		heap_begin();
		if (!tape_build(&t, &im, why))
			tape_free(&t);
		heap_end(n + ((size_t)h->hp.n_layer << 11));
	}
	free(h);
	return 0;
}
