/* SPDX-License-Identifier: MIT */
/*
 * mon_model.c - models: files in, engine, answers to who waits.
 *
 * A model file is known by what fstat says (device, inode, size, time), so
 * two clients that pass the same file share one resident model. Files belong
 * to strangers and may be served by a stranger's file system: nothing here
 * reads them or waits for them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "monitor.h"

#define PROGRESS_NS	100000000u
#define MAX_LOADING_UID 4 /* models of one user on their way in */
#define MAX_CRASHES	2 /* engines one model may take along while loading */

static uint32_t index_of(const struct mon_model *md)
{
	return (uint32_t)(md - md->m->models);
}

static struct mon_model *find(struct mon *m, uint64_t id)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (id && m->models[i].id == id)
			return &m->models[i];
	return NULL;
}

/* ---------------------------------------------------------------- waiters */

static int wait_add(struct mon_client *cl, uint32_t seq, struct mon_model *md,
		    enum wire_type type)
{
	struct mon *m = cl->m;
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++) {
		if (m->waits[i].client)
			continue;
		m->waits[i] = (struct mon_wait){ .client = cl,
						 .seq = seq,
						 .model = index_of(md),
						 .type = type };
		return 0;
	}
	mon_error(cl, seq, -EUSERS, "too many clients wait for models (%d)",
		  MON_MAX_WAITS);
	return -EUSERS;
}

static bool is_loading(const struct mon_model *md)
{
	return md->id && (md->state == WIRE_MODEL_PARSING ||
			  md->state == WIRE_MODEL_LOADING);
}

static bool waited_for(const struct mon_model *md)
{
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++)
		if (md->m->waits[i].client &&
		    md->m->waits[i].model == index_of(md))
			return true;
	return false;
}

/* ------------------------------------------------------------- the record */

/* The record is free afterwards; who waited was told before. */
static void model_free(struct mon_model *md)
{
	struct mon *m = md->m;
	uint64_t bit = 1ull << index_of(md);
	size_t i;

	mon_parser_stop(md);
	for (i = 0; i < md->n_files; i++)
		loop_close(m->loop, md->fd[i]);
	if (md->image >= 0)
		close(md->image);
	for (i = 0; i < MON_MAX_CLIENTS; i++) {
		m->clients[i].may &= ~bit;
		m->clients[i].opened &= ~bit;
	}
	memset(md, 0, sizeof(*md));
	md->m = m;
	md->image = -1;
	md->parser.pidfd = -1;
}

void mon_models_free(struct mon *m)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (m->models[i].id)
			model_free(&m->models[i]);
}

static bool may_use(const struct mon_client *cl, const struct mon_model *md)
{
	size_t i;

	if (!cl->uid || cl->uid == md->uid || (cl->may >> index_of(md) & 1))
		return true;
	for (i = 0; i < md->n_files; i++)
		if (!(md->file[i].mode & S_IROTH))
			return false;
	return true;
}

static void grant(struct mon_client *cl, const struct mon_model *md)
{
	struct proc_grant g = { .model = md->id };

	if (!cl->session || cl->session->state != MON_S_UP)
		return;
	g.session = cl->session->id;
	mon_engine_send(cl->m, PROC_GRANT, &g, sizeof(g), NULL, 0);
}

void mon_grant_all(struct mon_client *cl)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (cl->m->models[i].id && (cl->opened >> i & 1))
			grant(cl, &cl->m->models[i]);
}

static uint64_t relaxed(_Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static struct proc_model_stats *stats_of(const struct mon_model *md)
{
	struct proc_stats *st = md->m->engine.stats;
	size_t i;

	for (i = 0; st && i < WIRE_MAX_MODELS; i++)
		if (relaxed(&st->model[i].id) == md->id)
			return &st->model[i];
	return NULL;
}

static void describe(const struct mon_model *md, struct wire_model *w)
{
	struct proc_model_stats *ps = stats_of(md);
	const struct mon *m = md->m;
	uint64_t idle;
	uint64_t now;
	size_t i;

	memset(w, 0, sizeof(*w));
	w->model = md->id;
	w->state = md->state;
	w->uid = md->uid;
	w->n_ctx = md->st.n_ctx;
	w->n_ctx_train = md->st.n_ctx_train;
	w->file_bytes = md->file_bytes;
	w->weight_bytes = md->st.weight_bytes;
	w->kv_bytes = md->st.kv_bytes;
	w->t_load_ns = md->st.t_load_ns;
	for (i = 0; i < MON_MAX_CLIENTS; i++)
		w->n_sessions += m->clients[i].used &&
				 (m->clients[i].opened >> index_of(md) & 1);
	if (ps) {
		w->n_active = (uint32_t)relaxed(&ps->n_active);
		w->kv_used = relaxed(&ps->kv_used);
		idle = relaxed(&ps->t_idle_ns);
		now = loop_now();
		w->idle_ns = idle && idle < now ? now - idle : 0;
	}
	memcpy(w->name, md->name, sizeof(w->name));
	memcpy(w->arch, md->st.arch, sizeof(w->arch));
	memcpy(w->quant, md->st.quant, sizeof(w->quant));
	memcpy(w->backend, md->st.backend, sizeof(w->backend));
}

/* The model is ready: it is theirs to use, and this is what it is. */
static void answer_model(struct mon_client *cl, uint32_t seq,
			 struct mon_model *md)
{
	struct wire_model w;

	if (!(cl->opened >> index_of(md) & 1)) {
		cl->opened |= 1ull << index_of(md);
		grant(cl, md);
	}
	describe(md, &w);
	mon_reply(cl, WIRE_MODEL, seq, &w, sizeof(w), &md->image, 1);
}

/* Everybody who waits for the model's arrival (or its end) is answered. */
static void answer_all(struct mon_model *md, enum wire_type type, int err,
		       const char *text)
{
	struct mon *m = md->m;
	struct mon_wait w;
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++) {
		w = m->waits[i];
		if (!w.client || w.model != index_of(md))
			continue;
		if ((w.type == WIRE_UNLOAD) != (type == WIRE_UNLOAD))
			continue;
		m->waits[i].client = NULL;
		if (err)
			mon_error(w.client, w.seq, err, "%s", text);
		else if (type == WIRE_UNLOAD)
			mon_reply(w.client, WIRE_OK, w.seq, NULL, 0, NULL, 0);
		else
			answer_model(w.client, w.seq, md);
	}
}

void mon_model_fail(struct mon_model *md, int err, const char *text)
{
	log_client("model %u: not loaded, %s (%s)", md->id, text, md->name);
	answer_all(md, WIRE_LOAD, err, text);
	answer_all(md, WIRE_UNLOAD, 0, NULL);
	model_free(md);
}

/* --------------------------------------------------------------- progress */

static void progress(struct loop_timer *t)
{
	struct mon *m = t->arg;
	struct wire_progress p;
	struct proc_model_stats *ps;
	struct mon_model *md;
	bool more = false;
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++) {
		if (!m->waits[i].client || m->waits[i].type == WIRE_UNLOAD)
			continue;
		md = &m->models[m->waits[i].model];
		ps = stats_of(md);
		memset(&p, 0, sizeof(p));
		p.state = md->state;
		p.total_bytes = md->file_bytes;
		if (ps && relaxed(&ps->load_total)) {
			p.done_bytes = relaxed(&ps->load_done);
			p.total_bytes = relaxed(&ps->load_total);
		}
		more = true;
		mon_reply(m->waits[i].client, WIRE_PROGRESS, m->waits[i].seq,
			  &p, sizeof(p), NULL, 0);
	}
	if (more)
		loop_timer_set(m->loop, t, PROGRESS_NS);
}

static void want_progress(struct mon *m)
{
	m->progress.fn = progress;
	m->progress.arg = m;
	if (!m->progress.pos)
		loop_timer_set(m->loop, &m->progress, PROGRESS_NS);
}

static void send_load(struct mon_model *md)
{
	struct proc_load l = { .id = md->id,
			       .uid = md->uid,
			       .n_files = md->n_files,
			       .n_ctx = md->n_ctx_want,
			       .kv_bytes = md->kv_want };
	int fds[WIRE_MAX_FDS + 1];

	fds[0] = md->image;
	memcpy(fds + 1, md->fd, md->n_files * sizeof(int));
	mon_engine_send(md->m, PROC_MODEL_LOAD, &l, sizeof(l), fds,
			md->n_files + 1);
}

/* Its image is complete and sealed: the engine may have it. */
void mon_model_parsed(struct mon_model *md)
{
	md->state = WIRE_MODEL_LOADING;
	send_load(md);
}

/* ------------------------------------------------------------------- load */

/* Asks the kernel's cache only: a stranger's file system may never answer. */
static int look_at(int fd, struct mon_file *f, char why[160])
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
	f->mode = st.stx_mode;
	return 0;
}

static bool same_file(const struct mon_file *a, const struct mon_file *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns;
}

static struct mon_model *find_files(struct mon *m, const struct mon_file *f,
				    uint32_t n)
{
	struct mon_model *md;
	uint32_t k;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!md->id || md->n_files != n ||
		    md->state == WIRE_MODEL_UNLOADING)
			continue;
		for (k = 0; k < n && same_file(&md->file[k], &f[k]); k++)
			;
		if (k == n)
			return md;
	}
	return NULL;
}

/* An empty record within the budgets, or NULL with the client answered. */
static struct mon_model *new_record(struct mon_client *cl, uint32_t seq)
{
	struct mon *m = cl->m;
	struct mon_model *md = NULL;
	uint32_t n_loading = 0;
	uint32_t n_uid = 0;
	uint32_t n = 0;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		n += m->models[i].id != 0;
		n_uid += m->models[i].id && m->models[i].uid == cl->uid;
		n_loading += is_loading(&m->models[i]) &&
			     m->models[i].uid == cl->uid;
		if (!m->models[i].id && !md)
			md = &m->models[i];
	}
	if (!md || n >= m->conf.max_models) {
		mon_error(cl, seq, -EDQUOT,
			  "load: %u models are resident, limit %llu", n,
			  (unsigned long long)m->conf.max_models);
		return NULL;
	}
	if (n_uid >= m->conf.max_models_uid) {
		mon_error(cl, seq, -EDQUOT,
			  "load: %u models of this user are resident, limit "
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
	md->id = ++m->next_model;
	md->image = -1;
	md->parser.pidfd = -1;
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
		      struct mon_file *f)
{
	char why[160];
	uint32_t i;
	int err;

	if (l->flags || l->resv) {
		mon_error(cl, seq, -EINVAL, "load: a reserved field is set");
		return -EINVAL;
	}
	for (i = 0; i < l->n_files; i++) {
		err = look_at(fds[i], &f[i], why);
		if (err) {
			mon_error(cl, seq, err, "load: file %u of %u: %s",
				  i + 1, l->n_files, why);
			return err;
		}
	}
	return 0;
}

/* Answer now if it is there, else when it is. */
static void join(struct mon_client *cl, uint32_t seq, struct mon_model *md,
		 enum wire_type type)
{
	cl->may |= 1ull << index_of(md);
	if (md->state == WIRE_MODEL_READY) {
		answer_model(cl, seq, md);
		return;
	}
	if (!wait_add(cl, seq, md, type))
		want_progress(cl->m);
}

void mon_load(struct mon_client *cl, uint32_t seq, const struct wire_load *l,
	      const int *fds)
{
	struct mon *m = cl->m;
	struct mon_file f[WIRE_MAX_FDS];
	struct mon_model *md = NULL;
	uint32_t i;
	int err;

	if (!check_load(cl, seq, l, fds, f)) {
		md = find_files(m, f, l->n_files);
		if (md) {
			join(cl, seq, md, WIRE_LOAD);
			md = NULL;
		} else {
			md = new_record(cl, seq);
		}
	}
	if (!md) {
		for (i = 0; i < l->n_files; i++)
			loop_close(m->loop, fds[i]);
		return;
	}
	md->n_files = l->n_files;
	md->n_ctx_want = l->n_ctx;
	md->kv_want = l->kv_bytes;
	clean_name(md->name, l->name, md->id);
	for (i = 0; i < l->n_files; i++) {
		md->file[i] = f[i];
		md->fd[i] = fds[i];
		md->file_bytes += f[i].size;
	}
	join(cl, seq, md, WIRE_LOAD);
	if (!waited_for(md)) {
		model_free(md);
		return;
	}
	err = mon_parser_start(md);
	if (err)
		mon_model_fail(md, err, "the parser cannot be started");
}

void mon_open(struct mon_client *cl, uint32_t seq, uint32_t id)
{
	struct mon_model *md = find(cl->m, id);

	if (!md || md->state == WIRE_MODEL_UNLOADING) {
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
	join(cl, seq, md, WIRE_OPEN);
}

void mon_unload(struct mon_client *cl, uint32_t seq, uint32_t id)
{
	struct mon_model *md = find(cl->m, id);
	struct proc_id p = { .id = id };

	if (!md) {
		mon_error(cl, seq, -ENOENT, "unload: no such model (%u)", id);
		return;
	}
	if (cl->uid && cl->uid != md->uid) {
		mon_error(cl, seq, -EPERM, "unload: model %u belongs to uid %u",
			  id, md->uid);
		return;
	}
	if (wait_add(cl, seq, md, WIRE_UNLOAD))
		return;
	answer_all(md, WIRE_LOAD, -ECANCELED, "unloaded while loading");
	if (md->state == WIRE_MODEL_PARSING || !cl->m->engine.ready) {
		answer_all(md, WIRE_UNLOAD, 0, NULL);
		model_free(md);
		return;
	}
	if (md->state != WIRE_MODEL_UNLOADING)
		mon_engine_send(cl->m, PROC_MODEL_UNLOAD, &p, sizeof(p), NULL,
				0);
	md->state = WIRE_MODEL_UNLOADING;
}

void mon_list(struct mon_client *cl, uint32_t seq)
{
	struct wire_model w[WIRE_MAX_MODELS];
	struct mon *m = cl->m;
	size_t n = 0;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (m->models[i].id)
			describe(&m->models[i], &w[n++]);
	mon_reply(cl, WIRE_MODELS, seq, w, n * sizeof(w[0]), NULL, 0);
}

/* ------------------------------------------------------------- the engine */

void mon_model_state(struct mon *m, const struct proc_model_state *st)
{
	struct mon_model *md = find(m, st->id);

	if (!md)
		return;
	switch (st->state) {
	case WIRE_MODEL_READY:
		if (md->state != WIRE_MODEL_LOADING)
			return;
		md->state = WIRE_MODEL_READY;
		md->st = *st;
		md->n_crashes = 0;
		log_client("model %u: ready, %s %s, context %u (%s)", md->id,
			   st->arch, st->quant, st->n_ctx, md->name);
		answer_all(md, WIRE_LOAD, 0, NULL);
		break;
	case WIRE_MODEL_FAILED:
		mon_model_fail(md, st->err < 0 ? st->err : -EIO, st->text);
		break;
	case WIRE_MODEL_UNLOADING:
		log_client("model %u: unloaded (%s)", md->id, md->name);
		answer_all(md, WIRE_LOAD, -ECANCELED, "unloaded while loading");
		answer_all(md, WIRE_UNLOAD, 0, NULL);
		model_free(md);
		break;
	default:
		break;
	}
}

void mon_model_client_gone(struct mon_client *cl)
{
	struct mon *m = cl->m;
	struct proc_id p;
	struct mon_model *md;
	size_t i;

	for (i = 0; i < MON_MAX_WAITS; i++) {
		if (m->waits[i].client != cl)
			continue;
		m->waits[i].client = NULL;
		md = &m->models[m->waits[i].model];
		/* Nobody wants it any more: do not finish loading it. */
		if (!is_loading(md) || waited_for(md) || md->st.n_ctx)
			continue;
		p.id = md->id;
		if (md->state == WIRE_MODEL_PARSING || !m->engine.ready) {
			model_free(md);
			continue;
		}
		md->state = WIRE_MODEL_UNLOADING;
		mon_engine_send(m, PROC_MODEL_UNLOAD, &p, sizeof(p), NULL, 0);
	}
}

void mon_model_engine_up(struct mon *m)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (m->models[i].id && m->models[i].state == WIRE_MODEL_LOADING)
			send_load(&m->models[i]);
}

void mon_model_engine_down(struct mon *m)
{
	struct mon_model *md;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!md->id || md->state == WIRE_MODEL_PARSING)
			continue;
		if (md->state == WIRE_MODEL_UNLOADING) {
			answer_all(md, WIRE_UNLOAD, 0, NULL);
			model_free(md);
		} else if (md->state == WIRE_MODEL_LOADING &&
			   ++md->n_crashes >= MAX_CRASHES) {
			mon_model_fail(md, -EIO,
				       "the engine died while loading it");
		} else {
			md->state = WIRE_MODEL_LOADING;
		}
	}
}
