/* SPDX-License-Identifier: MIT */
/* model.c - models: resident ones by messages, opened ones by their image. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conn.h"

#define LOAD_TICK_MS 200
#define KEEPER	     (1ull << 32) /* in refs: a connection */

_Static_assert((int)HEARTH_MODEL_RESIDENT == (int)WIRE_MODEL_RESIDENT,
	       "states");
_Static_assert(HEARTH_EVICT == WIRE_EVICT, "flags");
_Static_assert(sizeof(((struct hearth_model_info *)0)->name) == WIRE_NAME,
	       "name");

/* ---------------------------------------------------------- opened models */

static void copy_str(char *dst, size_t n, const struct image *im,
		     struct image_str s)
{
	size_t k = s.len < n - 1 ? s.len : n - 1;

	memcpy(dst, im->str + s.off, k);
	dst[k] = 0;
}

/* What the image alone says. */
static void describe(struct hearth_model *m)
{
	const struct image_header *ih = m->im.h;
	struct hearth_model_info *i = &m->info;
	uint32_t k;

	i->size = sizeof(*i);
	i->n_vocab = ih->hp.n_vocab;
	i->n_embd = ih->hp.n_embd;
	i->n_params = ih->n_params;
	i->n_ctx_train = ih->hp.n_ctx_train;
	for (k = 0; k < ih->n_files; k++)
		i->file_bytes += ih->file_bytes[k];
	copy_str(i->arch, sizeof(i->arch), &m->im, ih->arch_name);
	copy_str(i->quant, sizeof(i->quant), &m->im, ih->quant_name);
}

static struct hearth_model *new_model(void)
{
	struct hearth_model *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->image_fd = -1;
	m->refs = 1;
	pthread_mutex_init(&m->lock, NULL);
	return m;
}

int model_new_fd(struct hearth_model **out, int image_fd, char why[160])
{
	struct hearth_model *m = new_model();
	int err;

	*out = NULL;
	if (!m) {
		close(image_fd);
		snprintf(why, 160, "not enough memory");
		return -ENOMEM;
	}
	err = image_open_fd(&m->im, image_fd, why);
	if (err) {
		close(image_fd);
		pthread_mutex_destroy(&m->lock);
		free(m);
		return err;
	}
	m->image_fd = image_fd;
	describe(m);
	*out = m;
	return 0;
}

int model_new_mem(struct hearth_model **out, const void *p, size_t n,
		  char why[160])
{
	struct hearth_model *m = new_model();
	int err;

	*out = NULL;
	if (!m) {
		snprintf(why, 160, "not enough memory");
		return -ENOMEM;
	}
	err = image_open_mem(&m->im, p, n, why);
	if (err) {
		pthread_mutex_destroy(&m->lock);
		free(m);
		return err;
	}
	describe(m);
	*out = m;
	return 0;
}

struct hearth_model *model_get(const struct hearth_model *cm)
{
	/* only the count changes, and that is atomic */
	struct hearth_model *m = (struct hearth_model *)(uintptr_t)cm;

	if (m)
		__atomic_add_fetch(&m->refs, 1, __ATOMIC_RELAXED);
	return m;
}

struct hearth_model *model_keep(const struct hearth_model *cm)
{
	struct hearth_model *m = (struct hearth_model *)(uintptr_t)cm;

	__atomic_add_fetch(&m->refs, KEEPER + 1, __ATOMIC_RELAXED);
	return m;
}

uint32_t model_n_users(const struct hearth_model *m)
{
	uint64_t n = __atomic_load_n(&m->refs, __ATOMIC_ACQUIRE);

	return (uint32_t)n - (uint32_t)(n >> 32);
}

uint32_t model_id(const struct hearth_model *m)
{
	uint32_t id = __atomic_load_n(&m->id, __ATOMIC_RELAXED);

	return id ? id : m->info.id;
}

static void close_all(const int *fds, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		close(fds[i]);
}

static void put(struct hearth_model *m, uint64_t n)
{
	if ((uint32_t)__atomic_sub_fetch(&m->refs, n, __ATOMIC_ACQ_REL))
		return;
	text_free(m);
	image_close(&m->im);
	if (m->image_fd >= 0)
		close(m->image_fd);
	if (m->src)
		close_all(m->src->fd, m->src->n_files);
	free(m->src);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

void model_put(struct hearth_model *m)
{
	if (m)
		put(m, 1);
}

void model_drop(struct hearth_model *m)
{
	put(m, KEEPER + 1);
}

void hearth_model_close(struct hearth_model **m)
{
	model_put(*m);
	*m = NULL;
}

static int copy_info(struct hearth_model_info *dst,
		     const struct hearth_model_info *src)
{
	size_t size = dst->size;

	if (size < sizeof(size_t))
		return -EINVAL;
	memcpy(dst, src, size < sizeof(*src) ? size : sizeof(*src));
	dst->size = size;
	return 0;
}

int hearth_model_info(const struct hearth_model *m,
		      struct hearth_model_info *info)
{
	struct hearth_model_info i = m->info;

	i.id = model_id(m);
	return copy_info(info, &i);
}

bool hearth_model_meta(const struct hearth_model *m, const char *key,
		       const char **p, size_t *n)
{
	return image_meta_get(&m->im, key, p, n);
}

bool hearth_model_meta_at(const struct hearth_model *m, size_t i,
			  const char **key, size_t *key_n, const char **val,
			  size_t *val_n)
{
	const struct image_meta *e;

	if (i >= m->im.h->meta.n)
		return false;
	e = &m->im.meta[i];
	*key = m->im.str + e->key.off;
	*key_n = e->key.len;
	*val = m->im.str + e->value.off;
	*val_n = e->value.len;
	return true;
}

/* -------------------------------------------------------- resident models */

static void from_wire(struct hearth_model_info *i, const struct wire_model *w)
{
	i->size = sizeof(*i);
	i->id = w->model;
	i->state = w->state;
	i->uid = w->uid;
	i->n_ctx = w->n_ctx;
	i->n_ctx_train = w->n_ctx_train;
	i->n_sessions = w->n_sessions;
	i->n_active = w->n_active;
	i->file_bytes = w->file_bytes;
	i->weight_bytes = w->weight_bytes;
	i->kv_bytes = w->kv_bytes;
	i->kv_used = w->kv_used;
	i->load_ns = w->t_load_ns;
	i->idle_ns = w->idle_ns;
	snprintf(i->name, sizeof(i->name), "%.*s", WIRE_NAME - 1, w->name);
	snprintf(i->arch, sizeof(i->arch), "%.31s", w->arch);
	snprintf(i->quant, sizeof(i->quant), "%.31s", w->quant);
	snprintf(i->backend, sizeof(i->backend), "%.31s", w->backend);
	memcpy(i->digest, w->digest, sizeof(i->digest));
}

/* A handle from a MODEL message; takes its image fd. */
static int take_model(struct hearth *h, struct conn_msg *msg,
		      struct hearth_model **out)
{
	struct hearth_model_info info = { 0 };
	struct hearth_model *m;
	struct wire_model w;
	char why[160];
	int fd;
	int err;

	if (msg->type != WIRE_MODEL || msg->len != sizeof(w) ||
	    msg->n_fds != 1) {
		conn_msg_close(msg);
		return err_set(h, -EPROTO,
			       "the daemon's answer is not a "
			       "model");
	}
	memcpy(&w, msg->body, sizeof(w));
	fd = msg->fd[0];
	msg->n_fds = 0;
	err = model_new_fd(&m, fd, why);
	if (err)
		return err_set(h, err, "the model's image: %s", why);
	from_wire(&info, &w);
	info.n_vocab = m->info.n_vocab;
	info.n_embd = m->info.n_embd;
	info.n_params = m->info.n_params;
	m->info = info;
	m->resident = true;
	if (!link_model(h, m)) {
		model_put(m);
		return err_set(h, -ENOMEM, "not enough memory for a model");
	}
	*out = m;
	return 0;
}

/* Answers to LOAD or OPEN: progress, and then the model. */
static int await_model(struct hearth *h, struct hearth_model **out,
		       int (*progress)(void *, uint64_t, uint64_t), void *arg)
{
	struct wire_progress p = { 0 };
	struct conn_msg msg;
	int err;

	for (;;) {
		err = conn_recv(h, &msg, progress ? LOAD_TICK_MS : -1);
		if (err && err != -ETIMEDOUT)
			return err;
		if (!err && msg.type != WIRE_PROGRESS)
			return take_model(h, &msg, out);
		if (!err) {
			conn_msg_close(&msg);
			if (msg.len == sizeof(p))
				memcpy(&p, msg.body, sizeof(p));
		}
		/* also without news, so that the caller may give up */
		if (progress && progress(arg, p.done_bytes, p.total_bytes))
			return err_set(h, -ECANCELED,
				       "gave up waiting for the model; it "
				       "goes on loading");
	}
}

/* A question about a number, which only one daemon has given: not for the
 * next. */
static int ask_id(struct hearth *h, enum wire_type type, uint32_t id,
		  uint32_t flags)
{
	struct wire_id q = { .model = id, .flags = flags };
	uint64_t session = h->link.n;
	int err;

	err = link_await(h);
	if (!err && session == h->link.n)
		err = conn_send(h, type, &q, sizeof(q), NULL, 0);
	else if (!err)
		err = -ECONNRESET;
	if (err == -ECONNRESET)
		err_set(h, err,
			"the daemon was restarted: number %u is none of its "
			"models",
			id);
	return err;
}

int hearth_model_open(struct hearth *h, struct hearth_model **out, uint32_t id)
{
	int err;

	*out = NULL;
	err = ask_id(h, WIRE_OPEN, id, 0);
	if (!err)
		err = await_model(h, out, NULL, NULL);
	cring_rearm(h);
	return err;
}

int hearth_model_unload(struct hearth *h, uint32_t id, uint32_t flags)
{
	struct conn_msg m;
	int err;

	if (flags & ~HEARTH_EVICT)
		return err_set(h, -EINVAL, "unload: unknown flags (%#x)",
			       flags);
	err = ask_id(h, WIRE_UNLOAD, id, flags ? WIRE_EVICT : 0);
	if (!err)
		err = conn_recv(h, &m, CONN_ANSWER_MS);
	cring_rearm(h);
	if (err)
		return err;
	conn_msg_close(&m);
	if (m.type != WIRE_OK)
		return err_set(h, -EPROTO,
			       "the daemon's answer to an unload "
			       "is something else");
	return 0;
}

int hearth_model_list(struct hearth *h, struct hearth_model_info *info,
		      size_t n)
{
	struct hearth_model_info one;
	struct wire_model w;
	struct conn_msg m;
	size_t k;
	size_t i;
	int err;

	err = conn_ask(h, WIRE_LIST, NULL, 0, &m);
	cring_rearm(h);
	if (err)
		return err;
	conn_msg_close(&m);
	k = m.len / sizeof(w);
	if (m.type != WIRE_MODELS || m.len % sizeof(w) || k > WIRE_MAX_MODELS)
		return err_set(h, -EPROTO,
			       "the daemon's answer is not a list "
			       "of models");
	for (i = 0; i < k && i < n; i++) {
		memcpy(&w, (const char *)m.body + i * sizeof(w), sizeof(w));
		memset(&one, 0, sizeof(one));
		from_wire(&one, &w);
		if (copy_info(&info[i], &one))
			return err_set(h, -EINVAL,
				       "struct hearth_model_info has no size");
	}
	return (int)k;
}

/* ---------------------------------------------------------------- loading */

/* Open with the caller's rights; only a regular file can be a model. */
static int open_file(const char *path, char *why, size_t n)
{
	struct stat st;
	int err;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		err = -errno;
		snprintf(why, n, "%s: %s", path,
			 err == -ENOENT ? "no such file"
					: hearth_strerror(err));
		return err;
	}
	if (fstat(fd, &st) < 0 || S_ISREG(st.st_mode))
		return fd;
	close(fd);
	err = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	snprintf(why, n, "%s: %s", path,
		 err == -EISDIR ? "it is a directory" : "not a regular file");
	return err;
}

int model_files(const char *path, int *fds, unsigned int max, char *why,
		size_t n)
{
	char(*part)[FIND_PATH];
	int k;
	int i;

	part = malloc(sizeof(*part) * WIRE_MAX_FDS);
	if (!part) {
		snprintf(why, n, "not enough memory");
		return -ENOMEM;
	}
	k = find_parts(path, part, max < WIRE_MAX_FDS ? max : WIRE_MAX_FDS, why,
		       n);
	for (i = 0; i < k; i++) {
		fds[i] = open_file(part[i], why, n);
		if (fds[i] < 0) {
			close_all(fds, (unsigned int)i);
			k = fds[i];
			break;
		}
	}
	free(part);
	return k;
}

/* Is a model with this very name resident? Its id, or -ENOENT. */
static int64_t resident(struct hearth *h, const char *name)
{
	struct hearth_model_info *list;
	int64_t id = -ENOENT;
	int i;
	int n;

	list = calloc(WIRE_MAX_MODELS, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (i = 0; i < WIRE_MAX_MODELS; i++)
		list[i].size = sizeof(*list);
	n = hearth_model_list(h, list, WIRE_MAX_MODELS);
	for (i = 0; i < n; i++) {
		if (!strcmp(list[i].name, name) &&
		    list[i].state != HEARTH_MODEL_UNLOADING &&
		    list[i].state != HEARTH_MODEL_FAILED)
			id = list[i].id;
	}
	free(list);
	return n < 0 ? n : id;
}

/* The files of a model and what to ask for, to be kept with the model. */
static struct model_source *new_source(struct hearth *h, const char *path,
				       const struct hearth_load_options *o,
				       int *err)
{
	struct model_source *s = calloc(1, sizeof(*s));
	char why[CONN_ERR];
	int n;

	*err = -ENOMEM;
	if (!s) {
		err_set(h, *err, "not enough memory");
		return NULL;
	}
	n = model_files(path, s->fd, WIRE_MAX_FDS, why, sizeof(why));
	if (n < 0) {
		*err = err_set(h, n, "%s", why);
		free(s);
		return NULL;
	}
	s->n_files = (uint32_t)n;
	s->load.n_files = (uint32_t)n;
	s->load.n_ctx = o->n_ctx;
	s->load.kv_bytes = o->kv_bytes;
	if (o->name)
		snprintf(s->load.name, sizeof(s->load.name), "%s", o->name);
	else
		find_name(path, s->load.name, sizeof(s->load.name));
	return s;
}

static int load_path(struct hearth *h, struct hearth_model **out,
		     const char *path, const struct hearth_load_options *o)
{
	struct model_source *s;
	char why[CONN_ERR];
	int tries = 2;
	int err;

	s = new_source(h, path, o, &err);
	if (!s)
		return err;
	do {
		err = link_await(h);
		if (!err)
			err = conn_send(h, WIRE_LOAD, &s->load, sizeof(s->load),
					s->fd, s->n_files);
		if (!err)
			err = await_model(h, out, o->progress, o->progress_arg);
	} while (err == -ECONNRESET && --tries);
	if (!err) {
		s->loaded = true;
		(*out)->src = s;
		return 0;
	}
	close_all(s->fd, s->n_files);
	free(s);
	/* the daemon has never heard of the path */
	if (err != -ECANCELED && !h->lost) {
		snprintf(why, sizeof(why), "%s", h->err);
		err_set(h, err, "%.200s: %.300s", path, why);
	}
	return err;
}

/* The files that a resident model's name means, in case the next daemon does
 * not have it. They are used only if they turn out to be the same model. */
static void remember_files(struct hearth *h, struct hearth_model *m,
			   const char *name,
			   const struct hearth_load_options *o)
{
	char path[FIND_PATH];
	int err;

	if (h->link.path && !hearth_model_find(name, path, sizeof(path)))
		m->src = new_source(h, path, o, &err);
}

int hearth_model_load(struct hearth *h, struct hearth_model **out,
		      const char *name, const struct hearth_load_options *opt)
{
	struct hearth_load_options o = { .size = sizeof(o) };
	char path[FIND_PATH];
	int64_t id;
	int err;

	*out = NULL;
	if (opt && opt->size < sizeof(size_t))
		return err_set(h, -EINVAL,
			       "struct hearth_load_options has no size");
	if (opt)
		memcpy(&o, opt, opt->size < sizeof(o) ? opt->size : sizeof(o));
	if (o.name && strlen(o.name) >= WIRE_NAME)
		return err_set(h, -ENAMETOOLONG,
			       "the name has %zu bytes, at most %d",
			       strlen(o.name), WIRE_NAME - 1);
	/* a resident model needs no file, unless another one may open it */
	if (!strchr(name, '/')) {
		id = resident(h, name);
		if (id < 0 && id != -ENOENT)
			return (int)id;
		if (id >= 0 && !hearth_model_open(h, out, (uint32_t)id)) {
			remember_files(h, *out, name, &o);
			return 0;
		}
		if (h->lost)
			return -ENOTCONN;
	}
	err = hearth_model_find(name, path, sizeof(path));
	if (err == -ENOENT && path[0])
		return err_set(h, err, "no model %s; did you mean %.300s?",
			       name, path);
	if (err == -ENOENT)
		return err_set(h, err,
			       "no model %s, neither resident nor a file",
			       name);
	if (err)
		return err_set(h, err, "%s: %s", name, hearth_strerror(err));
	err = load_path(h, out, path, &o);
	cring_rearm(h);
	return err;
}
