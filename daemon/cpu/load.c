/* SPDX-License-Identifier: MIT */
/*
 * load.c - reading a model's weights from its files and packing them.
 *
 * The tensors that the tape uses are cut into pieces of a few megabytes in
 * order of the file. Each thread takes the next piece, reads it and packs it
 * straight to its place, so that reading and packing overlap. Reads are
 * aligned in offset, length and memory, and so work on a file that was opened
 * with O_DIRECT.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu.h"

#define PIECE_BYTES (2u << 20)
#define READ_ALIGN  4096u
#define MAX_HELPERS 7
#define AHEAD	    8 /* pieces that the kernel is asked to read ahead */
#define WHY	    160
#define HUGE_PAGE   (2u << 20)

/* Panels [panel0, panel1) of a matrix, or a whole vector. */
struct piece {
	uint32_t tensor;
	uint32_t file;
	uint32_t panel0;
	uint32_t panel1;
	uint64_t off; /* in the file */
	uint64_t bytes;
};

struct loader {
	const struct image *im;
	const int *fds;
	struct weights *w;
	struct backend_progress *pg;
	struct piece *pieces;
	uint32_t n_pieces;
	size_t buf_bytes;
	_Atomic uint32_t next;
	_Atomic int err; /* the first one; owns why */
	char *why;
};

static void name_of(const struct image *im, const struct image_tensor *t,
		    char out[64])
{
	snprintf(out, 64, "%.*s", (int)(t->name.len < 63 ? t->name.len : 63),
		 im->str + t->name.off);
}

/* The first failure is the one to tell. */
static void fail(struct loader *ld, int err, const struct image_tensor *t,
		 uint64_t off, const char *what)
{
	char name[64];
	int none = 0;

	if (!atomic_compare_exchange_strong(&ld->err, &none, err))
		return;
	if (!t) {
		snprintf(ld->why, WHY, "%s", what);
		return;
	}
	name_of(ld->im, t, name);
	snprintf(ld->why, WHY, "tensor %s: %s (file %u, offset %llu)", name,
		 what, t->file, (unsigned long long)off);
}

/* Read [off, off + n) into aligned @buf; *at is where it begins there. */
static int read_piece(struct loader *ld, const struct image_tensor *t,
		      const struct piece *p, uint8_t *buf, uint8_t **at)
{
	uint64_t from = p->off & ~(uint64_t)(READ_ALIGN - 1);
	size_t skip = p->off - from, need = skip + p->bytes, got = 0;
	size_t want = (need + READ_ALIGN - 1) & ~(size_t)(READ_ALIGN - 1);
	ssize_t n;

	while (got < need) {
		n = pread(ld->fds[p->file], buf + got, want - got,
			  (off_t)(from + got));
		if (n < 0) {
			if (errno == EINTR)
				continue;
			n = errno;
			fail(ld, -(int)n, t, from + got, strerror((int)n));
			return -1;
		}
		if (!n) {
			fail(ld, -ENODATA, t, from + got,
			     "the file ends inside it");
			return -1;
		}
		got += (size_t)n;
	}
	*at = buf + skip;
	return 0;
}

static bool all_finite(const float *x, size_t n, size_t *bad)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!isfinite(x[i])) {
			*bad = i;
			return false;
		}
	return true;
}

static int place_vec(struct loader *ld, const struct image_tensor *t,
		     const struct piece *p, const uint8_t *src)
{
	float *dst = (float *)(uintptr_t)ld->w->vec[p->tensor];
	enum fmt f = (enum fmt)fmt_from_ggml(t->type);
	char what[64];
	size_t bad;

	fmt_info[f].dequant(src, dst, t->cols * t->rows);
	if (!all_finite(dst, t->cols * t->rows, &bad)) {
		snprintf(what, sizeof(what), "element %zu is not finite", bad);
		fail(ld, -EBADMSG, t, t->off, what);
		return -1;
	}
	return 0;
}

static int place_mat(struct loader *ld, const struct image_tensor *t,
		     const struct piece *p, const uint8_t *src)
{
	const struct mat *m = &ld->w->mat[p->tensor];
	uint64_t panel_bytes = mat_panel_bytes(m->fmt, m->cols);
	uint64_t row_bytes = t->bytes / t->rows;
	uint8_t *dst = (uint8_t *)(uintptr_t)m->data, *panel;
	char what[64];
	uint32_t i, n;

	for (i = p->panel0; i < p->panel1; i++) {
		n = m->rows - i * MAT_PANEL;
		n = n < MAT_PANEL ? n : MAT_PANEL;
		panel = dst + i * panel_bytes;
		mat_pack(m->fmt, m->cols, src, n, panel);
		src += n * row_bytes;
		if (mat_panel_finite(m->fmt, m->cols, panel))
			continue;
		snprintf(what, sizeof(what), "rows %u to %u are not finite",
			 i * MAT_PANEL, i * MAT_PANEL + n - 1);
		fail(ld, -EBADMSG, t, t->off + i * MAT_PANEL * row_bytes, what);
		return -1;
	}
	return 0;
}

static void read_ahead(struct loader *ld, uint32_t i)
{
	const struct piece *p;

	if (i >= ld->n_pieces)
		return;
	p = &ld->pieces[i];
	posix_fadvise(ld->fds[p->file], (off_t)p->off, (off_t)p->bytes,
		      POSIX_FADV_WILLNEED);
}

static void *load_main(void *arg)
{
	struct loader *ld = arg;
	const struct image_tensor *t;
	const struct piece *p;
	uint8_t *buf, *src;
	uint32_t i;

	if (posix_memalign((void **)&buf, READ_ALIGN, ld->buf_bytes)) {
		fail(ld, -ENOMEM, NULL, 0, "no memory to read into");
		return NULL;
	}
	while (!atomic_load(&ld->err)) {
		if (atomic_load(&ld->pg->stop)) {
			fail(ld, -ECANCELED, NULL, 0, "given up");
			break;
		}
		i = atomic_fetch_add(&ld->next, 1);
		if (i >= ld->n_pieces)
			break;
		read_ahead(ld, i + AHEAD);
		p = &ld->pieces[i];
		t = &ld->im->tensors[p->tensor];
		if (read_piece(ld, t, p, buf, &src))
			break;
		if (ld->w->vec[p->tensor]) {
			if (place_vec(ld, t, p, src))
				break;
		} else if (place_mat(ld, t, p, src)) {
			break;
		}
		atomic_fetch_add(&ld->pg->done_bytes, p->bytes);
	}
	free(buf);
	return NULL;
}

enum use { USE_NONE, USE_MAT, USE_VEC };

static void use_op(const struct tape_op *o, uint8_t *use)
{
	bool vec = o->kind == TAPE_NORM || o->kind == TAPE_NORM_ADD ||
		   o->kind == TAPE_ROPE_KV;
	uint32_t i;

	for (i = 0; i < TAPE_MATS; i++) {
		if (o->w[i] != TAPE_NONE)
			use[o->w[i]] = vec ? USE_VEC : USE_MAT;
		if (o->b[i] != TAPE_NONE)
			use[o->b[i]] = USE_VEC;
	}
}

static uint64_t align_up(uint64_t n)
{
	return (n + MAT_ALIGN - 1) & ~(uint64_t)(MAT_ALIGN - 1);
}

/* Fills w->mat and w->vec with offsets from @base, returns the bytes. */
static uint64_t lay_out(struct weights *w, const struct image *im,
			const uint8_t *use, uint8_t *base)
{
	const struct image_tensor *t;
	uint64_t off = 0;
	uint32_t i;

	for (i = 0; i < w->n; i++) {
		t = &im->tensors[i];
		if (use[i] == USE_NONE)
			continue;
		if (use[i] == USE_VEC) {
			w->vec[i] = (const void *)(base + off);
			off += align_up(t->cols * t->rows * sizeof(float));
			continue;
		}
		w->mat[i].fmt = (enum fmt)fmt_from_ggml(t->type);
		w->mat[i].rows = (uint32_t)t->rows;
		w->mat[i].cols = (uint32_t)t->cols;
		w->mat[i].data = base + off;
		off += align_up(mat_bytes(w->mat[i].fmt, t->rows, t->cols));
	}
	return off;
}

static uint32_t pieces_of(struct loader *ld, uint32_t tensor, struct piece *out)
{
	const struct image_tensor *t = &ld->im->tensors[tensor];
	const struct mat *m = &ld->w->mat[tensor];
	uint64_t row_bytes = t->bytes / t->rows;
	uint32_t n = 0, per, i, rows;
	struct piece p = { .tensor = tensor,
			   .file = t->file,
			   .off = t->off,
			   .bytes = t->bytes };

	if (ld->w->vec[tensor]) {
		if (out)
			*out = p;
		return 1;
	}
	per = (uint32_t)(PIECE_BYTES / (row_bytes * MAT_PANEL));
	per = per ? per : 1;
	for (i = 0; i < mat_panels(m); i += per, n++) {
		p.panel0 = i;
		p.panel1 = mat_panels(m) - i < per ? mat_panels(m) : i + per;
		rows = p.panel1 * MAT_PANEL < m->rows ? p.panel1 * MAT_PANEL
						      : m->rows;
		rows -= i * MAT_PANEL;
		p.off = t->off + (uint64_t)i * MAT_PANEL * row_bytes;
		p.bytes = rows * row_bytes;
		if (out)
			out[n] = p;
	}
	return n;
}

static int by_place(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return x->off < y->off ? -1 : x->off > y->off;
}

static int plan_pieces(struct loader *ld, const uint8_t *use)
{
	uint64_t max = 0, total = 0;
	uint32_t i, n = 0;

	for (i = 0; i < ld->w->n; i++)
		if (use[i] != USE_NONE)
			n += pieces_of(ld, i, NULL);
	ld->pieces = calloc(n ? n : 1, sizeof(*ld->pieces));
	if (!ld->pieces)
		return -ENOMEM;
	for (i = 0; i < ld->w->n; i++)
		if (use[i] != USE_NONE)
			ld->n_pieces +=
				pieces_of(ld, i, ld->pieces + ld->n_pieces);
	qsort(ld->pieces, n, sizeof(*ld->pieces), by_place);
	for (i = 0; i < n; i++) {
		total += ld->pieces[i].bytes;
		if (ld->pieces[i].bytes > max)
			max = ld->pieces[i].bytes;
	}
	/* Room for the aligned ends. */
	ld->buf_bytes = (max + 2 * READ_ALIGN) & ~(uint64_t)(READ_ALIGN - 1);
	atomic_store(&ld->pg->total_bytes, total);
	return 0;
}

static void run(struct loader *ld, uint32_t n_threads)
{
	pthread_t helper[MAX_HELPERS];
	uint32_t i, n = 0;

	for (i = 1; i < n_threads && n < MAX_HELPERS; i++)
		if (!pthread_create(&helper[n], NULL, load_main, ld))
			n++;
	load_main(ld);
	for (i = 0; i < n; i++)
		pthread_join(helper[i], NULL);
}

/*
 * The arena is anonymous memory with huge pages, which decoding gains a sixth
 * from; memory of a memfd gets them only where the machine's owner says so.
 */
static int map_arena(struct weights *w)
{
	void *p;

	w->bytes = (w->bytes + HUGE_PAGE - 1) & ~(uint64_t)(HUGE_PAGE - 1);
	p = mmap(NULL, w->bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	madvise(p, w->bytes, MADV_HUGEPAGE);
	w->arena = p;
	return 0;
}

int weights_load(struct weights *w, const struct image *im,
		 const struct tape *tape, const int *fds, uint32_t n_threads,
		 struct backend_progress *pg, char why[160])
{
	struct loader ld = {
		.im = im, .fds = fds, .w = w, .pg = pg, .why = why
	};
	uint8_t *use;
	uint32_t i;
	int ret = -ENOMEM;

	memset(w, 0, sizeof(*w));
	snprintf(why, WHY, "no memory for the weights");
	w->n = (uint32_t)im->h->tensors.n;
	use = calloc(w->n + 1, 1);
	w->mat = calloc(w->n + 1, sizeof(*w->mat));
	w->vec = calloc(w->n + 1, sizeof(*w->vec));
	if (!use || !w->mat || !w->vec)
		goto out;
	for (i = 0; i < tape->n_ops; i++)
		use_op(&tape->ops[i], use);
	if (tape->rope_freqs != TAPE_NONE)
		use[tape->rope_freqs] = USE_VEC;
	w->bytes = lay_out(w, im, use, NULL);
	ret = map_arena(w);
	if (ret)
		goto out;
	lay_out(w, im, use, w->arena);
	ret = plan_pieces(&ld, use);
	if (ret)
		goto out;
	run(&ld, n_threads);
	ret = atomic_load(&ld.err);
	if (!ret && mprotect(w->arena, w->bytes, PROT_READ))
		ret = -errno;
out:
	free(ld.pieces);
	free(use);
	if (ret)
		weights_free(w);
	return ret;
}

void weights_free(struct weights *w)
{
	if (w->arena)
		munmap(w->arena, w->bytes);
	free(w->mat);
	free(w->vec);
	memset(w, 0, sizeof(*w));
}
