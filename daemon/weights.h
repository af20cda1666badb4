/* SPDX-License-Identifier: MIT */
/*
 * weights.h - a model's weights as the kernels want them, for every backend
 * that computes with them: one layout, one object of the pool.
 */
#ifndef HEARTH_WEIGHTS_H
#define HEARTH_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "../kernels/mat.h"
#include "backend.h"
#include "object.h"
#include "tape.h"

/**
 * struct weights_run - bytes that follow each other and are used
 * @off: in the object
 * @at:  where they are if all runs follow each other
 */
struct weights_run {
	uint64_t off;
	uint64_t at;
	uint64_t bytes;
};

/**
 * struct weights - a model's tensors, or of some of its layers
 * @object: the pool's memory that holds all of them, mapped read-only
 * @bytes: of the object
 * @used:  of these, bytes of the tensors that the tape has, whole pages
 * @runs:  which they are; one if the tape is the whole model's
 * @end:   by tensor of the image: where it ends if all runs follow each other
 * @mat:   by tensor of the image; data NULL if it is no matrix
 * @vec:   likewise: norms, biases and tables as floats
 */
struct weights {
	struct object object;
	uint64_t bytes;
	uint64_t used;
	uint32_t n;
	uint32_t n_runs;
	struct weights_run *runs;
	uint64_t *end;
	struct mat *mat;
	const float **vec;
};

/* See backend.h; the object has what the whole model's tape uses. On failure
 * nothing is left, @why says. */
int weights_lay_out(const struct image *im, struct backend_layout *l,
		    char why[160]);
int weights_pack(const struct image *im, const struct backend_piece *p,
		 const void *src, void *object, char why[160]);
int weights_map(struct weights *w, const struct image *im,
		const struct tape *tape, int object, uint64_t bytes,
		char why[160]);
/* Without an object: formats and sizes, pointers are offsets in it. */
int weights_measure(struct weights *w, const struct image *im,
		    const struct tape *tape, char why[160]);
/* The runs are at @at now, or will be, one after the other; the object stays
 * mapped, for them to come from. */
void weights_move(struct weights *w, uint64_t at);
void weights_free(struct weights *w);

#define WANT_FLOAT 1
#define WANT_Q8	   2

/* How products read each register: bits WANT_*. */
void weights_readers(const struct weights *w, const struct tape *tape,
		     uint8_t wants[TAPE_REG_N]);

#endif
