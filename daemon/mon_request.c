/* SPDX-License-Identifier: MIT */
/*
 * mon_request.c - LOAD and OPEN: which model is meant, and who may use it.
 *
 * A model file is known by what statx(2) says (device, inode, size, times), so
 * two clients that pass the same file share one model, and one whose weights
 * are in the pool already is not read again. Files belong to strangers and may
 * be served by a stranger's file system: nothing here reads them or waits for
 * them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "monitor.h"

#define MAX_LOADING_UID 4 /* models of one user on their way in */

/* -------------------------------------------------------------- identity */

/* Asks the kernel's cache only: a stranger's file system may never answer. */
int mon_look_at(int fd, struct pool_file *f, char why[160])
{
	struct statx st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || (flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY) {
		snprintf(why, 160, "not open for reading");
		return -EBADF;
	}
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS,
		  &st)) {
		snprintf(why, 160, "statx: %s", strerrordesc_np(errno));
		return -errno;
	}
	if (S_ISDIR(st.stx_mode)) {
		snprintf(why, 160, "is a directory");
		return -EISDIR;
	}
	if (!S_ISREG(st.stx_mode)) {
		snprintf(why, 160, "not a regular file");
		return -EINVAL;
	}
	if (!st.stx_size) {
		snprintf(why, 160, "is empty");
		return -EBADMSG;
	}
	memset(f, 0, sizeof(*f));
	f->dev = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	f->ino = st.stx_ino;
	f->size = st.stx_size;
	f->mtime_s = st.stx_mtime.tv_sec;
	f->mtime_ns = st.stx_mtime.tv_nsec;
	f->ctime_s = st.stx_ctime.tv_sec;
	f->ctime_ns = st.stx_ctime.tv_nsec;
	f->mode = st.stx_mode;
	return 0;
}

bool mon_same_file(const struct pool_file *a, const struct pool_file *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns &&
	       a->ctime_s == b->ctime_s && a->ctime_ns == b->ctime_ns;
}

static bool same_files(const struct pool_file *a, uint32_t n_a,
		       const struct mon_files *b)
{
	uint32_t k;

	for (k = 0; k < b->n && n_a == b->n; k++)
		if (!mon_same_file(&a[k], &b->part[k]))
			return false;
	return n_a && n_a == b->n;
}

/* ------------------------------------------------------------------ rights */

static bool may_use(const struct mon_client *cl, const struct mon_model *md)
{
	size_t i;

	if (!cl->uid || cl->uid == md->uid ||
	    (cl->may >> mon_model_index(md) & 1))
		return true;
	for (i = 0; i < md->meta.n_files; i++)
		if (!(md->meta.file[i].mode & S_IROTH))
			return false;
	return true;
}

/*
 * What statx() says of a file on a device without a number of its own may be
 * made up: whoever serves a file system gets the number that another one had.
 * From a stranger such a file is read, and known by its content.
 */
static bool believed(const struct mon_client *cl, const struct mon_model *md,
		     const struct mon_files *f)
{
	uint32_t i;

	for (i = 0; i < f->n; i++)
		if (!(f->part[i].dev >> 32))
			return may_use(cl, md);
	return true;
}

static struct mon_model *find_files(const struct mon_client *cl,
				    const struct mon_files *f)
{
	struct mon *m = cl->m;
	struct mon_model *md;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!md->id || md->evict)
			continue;
		if (!same_files(md->meta.file, md->meta.n_files, f) &&
		    !same_files(md->also.part, md->also.n, f))
			continue;
		if (believed(cl, md, f))
			return md;
	}
	return NULL;
}

/* Does it count against a budget of models? Those nobody has open do not. */
static bool counts(const struct mon_model *md)
{
	return md->id && (mon_model_loading(md) || md->n_open);
}

/* An empty record within the budgets, or NULL with the client answered. */
static struct mon_model *new_record(struct mon_client *cl, uint32_t seq)
{
	struct mon *m = cl->m;
	struct mon_model *md;
	uint32_t n_loading = 0;
	uint32_t n_uid = 0;
	uint32_t n = 0;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		n += counts(md);
		n_uid += counts(md) && md->uid == cl->uid;
		n_loading += mon_model_loading(md) && md->uid == cl->uid;
	}
	if (n >= m->conf.max_models) {
		mon_error(cl, seq, -EDQUOT,
			  "load: %u models are in use, limit %llu", n,
			  (unsigned long long)m->conf.max_models);
		return NULL;
	}
	if (n_uid >= m->conf.max_models_uid) {
		mon_error(cl, seq, -EDQUOT,
			  "load: %u models of this user are in use, limit "
			  "%llu",
			  n_uid, (unsigned long long)m->conf.max_models_uid);
		return NULL;
	}
	if (n_loading >= MAX_LOADING_UID) {
		mon_error(cl, seq, -EDQUOT,
			  "load: %u models of this user are loading, limit %d",
			  n_loading, MAX_LOADING_UID);
		return NULL;
	}
	md = mon_model_new(m);
	if (!md && (md = mon_pool_lru(m, ~0u))) {
		mon_evict(md, "there are too many models");
		mon_model_free(md);
		md = mon_model_new(m);
	}
	if (!md) {
		mon_error(cl, seq, -EDQUOT, "load: %d models, limit %d",
			  WIRE_MAX_MODELS, WIRE_MAX_MODELS);
		return NULL;
	}
	md->state = WIRE_MODEL_PARSING;
	md->uid = cl->uid;
	return md;
}

/* A name to show: printable, no spaces at the ends, never empty. */
static void clean_name(char out[WIRE_NAME], const char *in, uint32_t id)
{
	size_t i;

	for (i = 0; i < WIRE_NAME - 1 && in[i]; i++)
		out[i] = (unsigned char)in[i] < 32 || in[i] == 127 ? '?'
								   : in[i];
	out[i] = 0;
	if (!i)
		snprintf(out, WIRE_NAME, "model-%u", id);
}

static int check_load(struct mon_client *cl, uint32_t seq,
		      const struct wire_load *l, const int *fds,
		      struct mon_files *f)
{
	char why[160];
	uint32_t i;
	int err;

	if (l->flags || l->resv) {
		mon_error(cl, seq, -EINVAL, "load: a reserved field is set");
		return -EINVAL;
	}
	for (i = 0; i < l->n_files; i++) {
		err = mon_look_at(fds[i], &f->part[i], why);
		if (err) {
			mon_error(cl, seq, err, "load: file %u of %u: %s",
				  i + 1, l->n_files, why);
			return err;
		}
	}
	f->n = l->n_files;
	return 0;
}

/*
 * A model that is in the pool is on its way to the engine when this returns.
 * Its memory may be gone, though, taken by the kernel: then so is the record.
 */
static int wake(struct mon_model *md)
{
	int err = 0;

	if (md->state == WIRE_MODEL_RESIDENT)
		err = mon_attach(md);
	if (err) {
		log_client("model %u: its memory is gone (%s, %s)", md->id,
			   strerrorname_np(-err), md->meta.name);
		if (err != -ENOENT)
			mon_evict(md, "it cannot be attached");
		mon_model_free(md);
	}
	return err;
}

static void load_new(struct mon_client *cl, uint32_t seq, struct mon_model *md,
		     const struct wire_load *l, const struct mon_files *f,
		     const int *fds)
{
	int err;

	md->n_ctx_want = l->n_ctx;
	md->kv_want = l->kv_bytes;
	clean_name(md->meta.name, l->name, md->id);
	md->meta.n_files = md->n_fds = f->n;
	memcpy(md->meta.file, f->part, sizeof(md->meta.file));
	memcpy(md->fd, fds, f->n * sizeof(int));
	mon_model_join(cl, seq, md, WIRE_LOAD);
	if (!mon_model_waited(md)) {
		mon_model_free(md);
		return;
	}
	err = mon_load_start(md);
	if (err)
		mon_model_fail(md, err, "the parser cannot be started");
}

void mon_load(struct mon_client *cl, uint32_t seq, const struct wire_load *l,
	      const int *fds)
{
	struct mon *m = cl->m;
	struct mon_files f = { 0 };
	struct mon_model *md = NULL;
	uint32_t i;

	if (!check_load(cl, seq, l, fds, &f)) {
		md = find_files(cl, &f);
		/* It comes to the engine anew: as this client wants it. */
		if (md && md->state == WIRE_MODEL_RESIDENT) {
			md->n_ctx_want = l->n_ctx;
			md->kv_want = l->kv_bytes;
		}
		if (md && !wake(md)) {
			mon_model_join(cl, seq, md, WIRE_LOAD);
			md = NULL;
		} else {
			md = new_record(cl, seq);
		}
	}
	if (md) {
		load_new(cl, seq, md, l, &f, fds);
		return;
	}
	for (i = 0; i < l->n_files; i++)
		loop_close(m->loop, fds[i]);
}

void mon_open(struct mon_client *cl, uint32_t seq, uint32_t id)
{
	struct mon_model *md = mon_model_find(cl->m, id);

	if (!md || md->evict) {
		mon_error(cl, seq, -ENOENT, "open: no such model (%u)", id);
		return;
	}
	if (!may_use(cl, md)) {
		mon_error(cl, seq, -EACCES,
			  "open: model %u belongs to uid %u and its file is "
			  "not readable for all",
			  id, md->uid);
		return;
	}
	if (wake(md))
		mon_error(cl, seq, -ENOENT,
			  "open: model %u was evicted; load its file", id);
	else
		mon_model_join(cl, seq, md, WIRE_OPEN);
}
