/* SPDX-License-Identifier: MIT */
/* loader.c - a load: its units, and the threads that hash and pack them. */
#include "loader.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader_priv.h"
#include "loop.h"
#include "object.h"

#define UNIT_BYTES    (1u << 20) /* a unit is closed when it has so many */
#define STRIPES_AHEAD 8
#define MAX_THREADS   32
#define HASH_RUN      16 /* blocks hashed side by side */
#define TELL_NS	      50000000u
#define WHY	      160

/* Some of the object, whose pages come together. */
enum { STRIPE_NONE, STRIPE_COMES, STRIPE_THERE };

struct loader {
	const struct backend_ops *ops;
	const struct image *im;
	struct reader *rd;
	const struct reader_file *file;
	unsigned int n_files;
	struct backend_layout lay;
	struct unit *units;
	uint32_t n_units;
	uint32_t max_units;
	uint64_t unit_bytes; /* of the longest, in whole blocks */
	struct hash_tree tree[IMAGE_MAX_FILES];
	struct object object;
	_Atomic uint8_t *stripes;
	uint64_t stripe; /* bytes */
	const struct loader_way *way;
	_Atomic int err; /* the first one; owns why */
	char why[WHY];
	uint64_t told_ns;
	_Atomic uint64_t wait_ns;
	_Atomic uint64_t hash_ns;
	_Atomic uint64_t pack_ns;
	_Atomic uint64_t page_ns;
};

/* The first failure is the one to tell. */
static void fail(struct loader *ld, int err, const char *why)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&ld->err, &none, err))
		snprintf(ld->why, WHY, "%s", why);
}

/* ------------------------------------------------------------------ plan */

static uint64_t down(uint64_t n)
{
	return n & ~(uint64_t)(HASH_BLOCK - 1);
}

static uint64_t up(uint64_t n)
{
	return down(n + HASH_BLOCK - 1);
}

static int add_unit(struct loader *ld, const struct unit *u)
{
	uint32_t max = ld->max_units ? ld->max_units * 2 : 256;
	struct unit *p;
	uint64_t bytes = up(u->to) - down(u->from);

	if (ld->n_units == ld->max_units) {
		p = realloc(ld->units, max * sizeof(*p));
		if (!p)
			return -ENOMEM;
		ld->units = p;
		ld->max_units = max;
	}
	ld->units[ld->n_units++] = *u;
	if (bytes > ld->unit_bytes)
		ld->unit_bytes = bytes;
	return 0;
}

/* The unit @u so far ends at @to; the next one begins there, if it is full. */
static int extend(struct loader *ld, struct unit *u, uint64_t to)
{
	int ret;

	u->to = to;
	if (u->to - u->from < UNIT_BYTES)
		return 0;
	ret = add_unit(ld, u);
	u->from = u->to;
	u->piece0 = u->piece1;
	return ret;
}

/* Bytes that no tensor has are hashed all the same; but not for nothing. */
static int plan_gap(struct loader *ld, struct unit *u, uint64_t to)
{
	uint64_t step;
	int ret = 0;

	if (ld->file[u->file].verity && u->piece0 == u->piece1) {
		u->from = u->to = to;
		return 0;
	}
	while (!ret && u->to < to) {
		step = UNIT_BYTES - (u->to - u->from);
		ret = extend(ld, u, to - u->to < step ? to : u->to + step);
	}
	return ret;
}

static int plan_file(struct loader *ld, unsigned int i, uint32_t *piece,
		     char why[160])
{
	const struct backend_piece *p;
	struct unit u = { .file = i, .piece0 = *piece, .piece1 = *piece };
	uint64_t size = ld->file[i].bytes;
	int ret = 0;

	for (; !ret && *piece < ld->lay.n_pieces; ++*piece) {
		p = &ld->lay.pieces[*piece];
		if (p->file != i)
			break;
		if (p->off < u.to || p->off > size ||
		    p->bytes > size - p->off) {
			snprintf(why, WHY,
				 "tensor %.*s: at offset %llu of file %u there "
				 "is no room for it",
				 (int)ld->im->tensors[p->tensor].name.len,
				 ld->im->str +
					 ld->im->tensors[p->tensor].name.off,
				 (unsigned long long)p->off, i);
			return -EBADMSG;
		}
		ret = plan_gap(ld, &u, p->off);
		u.piece1 = *piece + 1;
		if (!ret)
			ret = extend(ld, &u, p->off + p->bytes);
	}
	if (!ret && !ld->file[i].verity)
		ret = plan_gap(ld, &u, size);
	if (!ret && u.to > u.from)
		ret = add_unit(ld, &u);
	if (!ret && !ld->file[i].verity)
		ret = hash_tree_init(&ld->tree[i], size);
	if (ret)
		snprintf(why, WHY, "no memory for the plan of a load");
	return ret;
}

int loader_new(struct loader **out, const struct backend_ops *ops,
	       const struct image *im, struct reader *rd, char why[160])
{
	struct loader *ld = calloc(1, sizeof(*ld));
	uint32_t piece = 0;
	unsigned int i;
	int ret = -ENOMEM;

	snprintf(why, WHY, "no memory for the plan of a load");
	if (!ld)
		return ret;
	ld->ops = ops;
	ld->im = im;
	ld->rd = rd;
	ld->file = reader_files(rd, &ld->n_files);
	if (ld->n_files != im->h->n_files) {
		snprintf(why, WHY, "%u files, the model has %u", ld->n_files,
			 im->h->n_files);
		ret = -EINVAL;
		goto fail;
	}
	ret = ops->lay_out(im, &ld->lay, why);
	for (i = 0; !ret && i < ld->n_files; i++) {
		if (ld->file[i].bytes != im->h->file_bytes[i]) {
			snprintf(why, WHY,
				 "file %u: %llu bytes, %llu when its header "
				 "was read",
				 i, (unsigned long long)ld->file[i].bytes,
				 (unsigned long long)im->h->file_bytes[i]);
			ret = -ESTALE;
			break;
		}
		ret = plan_file(ld, i, &piece, why);
	}
	if (ret)
		goto fail;
	if (piece != ld->lay.n_pieces) {
		snprintf(why, WHY, "tensors in a file that is not there");
		ret = -EBADMSG;
		goto fail;
	}
	*out = ld;
	return 0;
fail:
	loader_free(ld);
	return ret;
}

void loader_free(struct loader *ld)
{
	unsigned int i;

	if (!ld)
		return;
	for (i = 0; i < IMAGE_MAX_FILES; i++)
		hash_tree_fini(&ld->tree[i]);
	object_unmap(&ld->object);
	free(ld->stripes);
	free(ld->units);
	free(ld->lay.pieces);
	free(ld);
}

const struct backend_layout *loader_layout(const struct loader *ld)
{
	return &ld->lay;
}

/* ------------------------------------------------------------------- fill */

/* Its pages, if nobody else has them or gets them. */
static int get_stripe(struct loader *ld, uint64_t i, char why[160])
{
	uint64_t at = i * ld->stripe, n = ld->lay.bytes - at;
	uint8_t none = STRIPE_NONE;
	int ret;

	if (!atomic_compare_exchange_strong(&ld->stripes[i], &none,
					    STRIPE_COMES))
		return 0;
	ret = object_present(&ld->object, at, n < ld->stripe ? n : ld->stripe,
			     why);
	if (ret)
		return ret;
	atomic_store(&ld->stripes[i], STRIPE_THERE);
	return 0;
}

/*
 * Pages cost as much as reading does, so no thread waits for those that
 * another one gets while there are some ahead to get.
 */
static int get_pages(struct loader *ld, uint64_t off, uint64_t bytes,
		     char why[160])
{
	uint64_t n = (ld->lay.bytes + ld->stripe - 1) / ld->stripe;
	uint64_t i = off / ld->stripe, end, ahead;
	int ret = 0;

	end = bytes ? (off + bytes - 1) / ld->stripe + 1 : i;
	for (; !ret && i < end; i++) {
		ret = get_stripe(ld, i, why);
		ahead = i + 1;
		while (!ret && atomic_load(&ld->stripes[i]) != STRIPE_THERE) {
			if (atomic_load(&ld->err))
				return -ECANCELED;
			if (ahead < n && ahead < i + STRIPES_AHEAD)
				ret = get_stripe(ld, ahead++, why);
			else
				sched_yield();
		}
	}
	return ret;
}

/*
 * A block belongs to the unit that it starts in. One that two units share is
 * hashed by both, and compared in the end: each packs what it has read.
 */
static int hash_unit(struct loader *ld, struct unit *u, uint8_t *data)
{
	struct hash_tree *t = &ld->tree[u->file];
	uint64_t start = down(u->from), n, i, done;
	uint64_t blocks = (up(u->to) - start) / HASH_BLOCK;
	uint8_t hash[HASH_RUN][HASH_BYTES];
	int ret = 0;

	if (up(u->to) > t->bytes)
		memset(data + (t->bytes - start), 0, up(u->to) - t->bytes);
	for (done = 0; !ret && done < blocks; done += n) {
		n = blocks - done < HASH_RUN ? blocks - done : HASH_RUN;
		hash_blocks(hash, data + done * HASH_BLOCK, n);
		if (!done)
			memcpy(u->head, hash[0], HASH_BYTES);
		memcpy(u->tail, hash[n - 1], HASH_BYTES);
		for (i = 0; !ret && i < n; i++)
			if (start + (done + i) * HASH_BLOCK >= u->from)
				ret = hash_tree_put(
					t, start / HASH_BLOCK + done + i,
					hash[i]);
	}
	return ret;
}

static int pack_unit(struct loader *ld, const struct unit *u,
		     const uint8_t *data, char why[160])
{
	const struct backend_piece *p;
	uint64_t t0, t1;
	uint32_t i;
	int ret;

	for (i = u->piece0; i < u->piece1; i++) {
		p = &ld->lay.pieces[i];
		t0 = clock_ns();
		ret = get_pages(ld, p->dst, p->dst_bytes, why);
		if (ret)
			return ret;
		t1 = clock_ns();
		ret = ld->ops->pack(ld->im, p, data + (p->off - down(u->from)),
				    ld->object.p, why);
		if (ret)
			return ret;
		atomic_fetch_add(&ld->page_ns, t1 - t0);
		atomic_fetch_add(&ld->pack_ns, clock_ns() - t1);
	}
	return 0;
}

static int do_unit(struct loader *ld, struct unit *u, uint8_t *data,
		   char why[160])
{
	uint64_t t0 = clock_ns();
	int ret = 0;

	if (!ld->file[u->file].verity) {
		ret = hash_unit(ld, u, data);
		if (ret)
			snprintf(why, WHY, "no memory for hashes");
	}
	atomic_fetch_add(&ld->hash_ns, clock_ns() - t0);
	return ret ? ret : pack_unit(ld, u, data, why);
}

/* What a read that failed was for. */
static void read_failed(struct loader *ld, const struct unit *u, int err)
{
	const struct image_tensor *t = NULL;
	char why[WHY];

	if (u->piece0 < u->piece1)
		t = &ld->im->tensors[ld->lay.pieces[u->piece0].tensor];
	snprintf(why, sizeof(why), "%s%.*s%s (file %u, offset %llu)",
		 t ? "tensor " : "",
		 t ? (int)(t->name.len < 63 ? t->name.len : 63) : 0,
		 t ? ld->im->str + t->name.off : "",
		 err == -ENODATA ? t ? ": the file ends inside it"
				     : "the file ends too early"
				 : "",
		 u->file, (unsigned long long)u->from);
	if (err != -ENODATA)
		snprintf(why, sizeof(why), "%s%.*s: %s (file %u, offset %llu)",
			 t ? "tensor " : "reading",
			 t ? (int)(t->name.len < 63 ? t->name.len : 63) : 0,
			 t ? ld->im->str + t->name.off : "",
			 strerrordesc_np(-err), u->file,
			 (unsigned long long)u->from);
	fail(ld, err, why);
}

static void tell(struct loader *ld)
{
	uint64_t now = clock_ns();

	if (!ld->way->tell || now - ld->told_ns < TELL_NS)
		return;
	ld->told_ns = now;
	ld->way->tell(ld->way->arg);
}

static void work(struct loader *ld, bool main)
{
	struct reader_slot *slot;
	struct unit *u;
	char why[WHY];
	uint64_t t0;
	uint32_t at;
	int ret;

	while (!atomic_load(&ld->err)) {
		if (atomic_load(&ld->way->pg->stop)) {
			fail(ld, -ECANCELED, "given up");
			break;
		}
		t0 = clock_ns();
		ret = reader_next(ld->rd, &slot, &at);
		atomic_fetch_add(&ld->wait_ns, clock_ns() - t0);
		if (ret < 0)
			read_failed(ld, &ld->units[at], ret);
		if (ret <= 0)
			break;
		u = &ld->units[at];
		ret = do_unit(ld, u, slot->buf, why);
		reader_done(ld->rd, slot);
		if (ret) {
			fail(ld, ret, why);
			break;
		}
		atomic_fetch_add(&ld->way->pg->done_bytes, u->to - u->from);
		if (main)
			tell(ld);
	}
}

static void *helper(void *arg)
{
	work(arg, false);
	return NULL;
}

static void run(struct loader *ld)
{
	pthread_t thread[MAX_THREADS];
	uint32_t i, n = 0;

	for (i = 1; i < ld->way->n_threads && n < MAX_THREADS - 1; i++)
		if (!pthread_create(&thread[n], NULL, helper, ld))
			n++;
	work(ld, true);
	for (i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
}

/* A block that two units read must have been the same both times. */
static void check_seams(struct loader *ld)
{
	const struct unit *u, *before;
	char why[WHY];
	uint32_t i;

	for (i = 1; i < ld->n_units; i++) {
		u = &ld->units[i];
		before = u - 1;
		if (ld->file[u->file].verity || u->file != before->file ||
		    u->from % HASH_BLOCK == 0 ||
		    !memcmp(u->head, before->tail, HASH_BYTES))
			continue;
		snprintf(why, sizeof(why),
			 "file %u: changed while it was read (offset %llu)",
			 u->file, (unsigned long long)down(u->from));
		fail(ld, -ESTALE, why);
		return;
	}
}

static void digest_all(struct loader *ld, uint8_t digest[HASH_BYTES])
{
	uint8_t part[IMAGE_MAX_FILES][HASH_BYTES];
	unsigned int i;

	for (i = 0; i < ld->n_files; i++) {
		if (ld->file[i].verity)
			memcpy(part[i], ld->file[i].digest, HASH_BYTES);
		else if (!hash_tree_complete(&ld->tree[i]))
			fail(ld, -EIO, "not every block was hashed");
		else
			hash_tree_digest(&ld->tree[i], part[i]);
	}
	if (!atomic_load(&ld->err))
		hash_parts((const uint8_t(*)[HASH_BYTES])part, ld->n_files,
			   digest);
}

static void finish(struct loader *ld, uint8_t digest[HASH_BYTES])
{
	unsigned int which;
	char why[WHY];
	int ret;

	check_seams(ld);
	if (reader_check(ld->rd, &which)) {
		snprintf(why, sizeof(why), "file %u: changed while it was read",
			 which);
		fail(ld, -ESTALE, why);
	}
	/* What no piece covers is there, too. */
	ret = get_pages(ld, 0, ld->lay.bytes, why);
	if (ret)
		fail(ld, ret, why);
	if (!atomic_load(&ld->err))
		digest_all(ld, digest);
}

int loader_fill(struct loader *ld, int object, const struct loader_way *way,
		uint8_t digest[HASH_BYTES], char why[160])
{
	uint64_t total = 0;
	uint32_t i;
	int ret;

	ld->way = way;
	for (i = 0; i < ld->n_units; i++)
		total += ld->units[i].to - ld->units[i].from;
	atomic_store(&way->pg->total_bytes, total);
	ret = object_map_write(&ld->object, object, ld->lay.bytes, why);
	if (ret)
		return ret;
	ld->stripe = ld->object.page > OBJECT_HUGE ? ld->object.page
						   : OBJECT_HUGE;
	ld->stripes = calloc(ld->lay.bytes / ld->stripe + 1, 1);
	ret = ld->stripes ? reader_start(ld->rd, ld->units, ld->n_units,
					 ld->unit_bytes,
					 way->n_threads < MAX_THREADS
						 ? way->n_threads
						 : MAX_THREADS)
			  : -ENOMEM;
	if (ret) {
		snprintf(why, WHY, "no memory to read into");
		return ret;
	}
	run(ld);
	if (!atomic_load(&ld->err))
		finish(ld, digest);
	object_unmap(&ld->object);
	ret = atomic_load(&ld->err);
	if (ret)
		snprintf(why, WHY, "%s", ld->why);
	return ret;
}

void loader_times(const struct loader *ld, struct loader_times *t)
{
	t->wait_ns = atomic_load(&ld->wait_ns);
	t->hash_ns = atomic_load(&ld->hash_ns);
	t->pack_ns = atomic_load(&ld->pack_ns);
	t->page_ns = atomic_load(&ld->page_ns);
	t->how = reader_how(ld->rd);
}

unsigned int loader_cores(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);

	return n < MAX_THREADS ? (unsigned int)n : MAX_THREADS;
}

int loader_run(const struct backend_ops *ops, const struct image *im,
	       const int *fds, const struct loader_way *way, int *object,
	       uint64_t *bytes, uint8_t digest[HASH_BYTES], char why[160])
{
	struct reader *rd = NULL;
	struct loader *ld = NULL;
	int ret;

	*object = -1;
	ret = reader_open(&rd, fds, im->h->n_files, why);
	if (!ret)
		ret = loader_new(&ld, ops, im, rd, why);
	if (ret)
		goto out;
	*bytes = ld->lay.bytes;
	*object = memfd_create("weights", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*object < 0 || ftruncate(*object, (off_t)*bytes)) {
		ret = -errno;
		snprintf(why, WHY, "no object of %llu bytes (%s)",
			 (unsigned long long)*bytes, strerrordesc_np(-ret));
		goto out;
	}
	ret = loader_fill(ld, *object, way, digest, why);
out:
	loader_free(ld);
	reader_close(rd);
	if (ret && *object >= 0) {
		close(*object);
		*object = -1;
	}
	return ret;
}
