/* SPDX-License-Identifier: MIT */
/*
 * em_model.c - models of the pool come to the engine and leave it.
 *
 * A thread a model looks at its image and maps its weights, so that nobody
 * else's answer waits for pages; no file is read here. When a device's memory
 * has gone to others until the cache is to have it, all of that is done again.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "em.h"
#include "log.h"

#define TRIES 3

/* For all of its models: an engine after us tries again. */
static void device_lost(const char *why)
{
	log_warnx("model: %s", why);
	_exit(PROC_EXIT_DEVICE);
}

static void *attach(void *arg)
{
	struct em_model *md = arg;
	struct em *em = md->em;
	struct backend_part all = { .n_ctx = md->load.n_ctx,
				    .n_tries = md->n_tries };
	uint64_t one = 1;

	prctl(PR_SET_NAME, "hearthd-attach");
	md->err = image_open_tensors(&md->im, md->fd[0], md->why);
	if (!md->err) {
		all.layer1 = md->im.h->hp.n_layer;
		md->err = em->ops->load(em->be, &md->im, &all, md->fd[1],
					md->load.weight_bytes, &md->m, md->why);
		if (md->err == -ENODEV)
			device_lost(md->why);
	}
	atomic_store(&md->done, 1);
	if (write(em->loaded.fd, &one, sizeof(one)) < 0)
		log_warn(errno, "attach: cannot be reported");
	return NULL;
}

static void fds_close(struct em_model *md)
{
	if (md->has_fds) {
		close(md->fd[0]);
		close(md->fd[1]);
	}
	md->has_fds = false;
}

/* Weights may be on their way, and a driver hang. */
static void unload(struct em_model *md)
{
	struct em *em = md->em;

	if (md->m && md->watched)
		engine_attaching(em->engine, true);
	if (md->m)
		em->ops->unload(em->be, md->m);
	if (md->m && md->watched)
		engine_attaching(em->engine, false);
	md->m = NULL;
	image_close(&md->im);
}

static void model_free(struct em_model *md)
{
	unload(md);
	fds_close(md);
	memset(md, 0, sizeof(*md));
}

/* Return: 0 or an errno. */
static int attach_begin(struct em_model *md)
{
	struct em *em = md->em;
	int err;

	atomic_store(&md->done, 0);
	err = pthread_create(&md->thread, NULL, attach, md);
	md->loading = !err;
	/* A driver may hang; a mapping beats for nobody. */
	md->watched = !err && atomic_load(&em->stats->device);
	if (md->watched)
		engine_attaching(em->engine, true);
	return err;
}

static void say_state(struct em *em, uint64_t id, enum wire_model_state state,
		      int err, const char *text)
{
	struct proc_model_state st = { .id = id, .state = state, .err = err };

	snprintf(st.text, sizeof(st.text), "%s", text);
	em_say(em, PROC_MODEL_STATE, &st, sizeof(st));
}

static void model_failed(struct em_model *md, int err)
{
	struct em *em = md->em;
	uint64_t id = md->load.id;
	char why[160];

	memcpy(why, md->why, sizeof(why));
	why[sizeof(why) - 1] = 0;
	if (!why[0])
		snprintf(why, sizeof(why), "attach: %s", strerrordesc_np(-err));
	/* What a dead engine ran on it has waited for nothing. */
	engine_model_del(em->engine, id);
	model_free(md);
	say_state(em, id, WIRE_MODEL_FAILED, err, why);
}

static void copy_str(char *out, size_t n, const struct image *im,
		     struct image_str s)
{
	size_t len = s.len < n - 1 ? s.len : n - 1;
	size_t i;

	for (i = 0; i < len; i++)
		out[i] = im->str[s.off + i] < 32 ? '?' : im->str[s.off + i];
	out[len] = 0;
}

static void model_ready(struct em_model *md)
{
	struct em *em = md->em;
	struct proc_model_state st = { .id = md->load.id,
				       .state = WIRE_MODEL_READY,
				       .t_load_ns = clock_ns() - md->t_start };
	struct backend_info info;
	int err;

	err = engine_model_add(em->engine, &md->load, &md->im, md->m, &st.n_ctx,
			       &st.kv_bytes, md->why);
	if (err == -ENODEV)
		device_lost(md->why);
	if (err == -EAGAIN) {
		err = -ENOMEM;
		if (++md->n_tries < TRIES) {
			log_warnx("model: others have taken its memory, it is "
				  "loaded again");
			unload(md);
			err = -attach_begin(md);
			if (!err)
				return;
		}
	}
	if (err) {
		model_failed(md, err);
		return;
	}
	fds_close(md);
	em->ops->info(md->m, &info);
	st.weight_bytes = info.weight_bytes;
	st.n_ctx_train = md->im.h->hp.n_ctx_train;
	memcpy(st.backend, info.text, sizeof(st.backend));
	copy_str(st.arch, sizeof(st.arch), &md->im, md->im.h->arch_name);
	copy_str(st.quant, sizeof(st.quant), &md->im, md->im.h->quant_name);
	em_say(em, PROC_MODEL_STATE, &st, sizeof(st));
}

static void attached(struct em_model *md)
{
	struct em *em = md->em;
	uint64_t id = md->load.id;

	pthread_join(md->thread, NULL);
	md->loading = false;
	if (md->watched)
		engine_attaching(em->engine, false);
	if (md->unload) {
		model_free(md);
		say_state(em, id, WIRE_MODEL_UNLOADING, 0, "");
	} else if (md->err) {
		model_failed(md, md->err);
	} else {
		model_ready(md);
	}
}

static void loaded_ready(struct loop_src *s, uint32_t revents)
{
	struct em *em = s->arg;
	uint64_t n;
	size_t i;

	(void)revents;
	if (read(s->fd, &n, sizeof(n)) < 0)
		return;
	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (em->models[i].loading && atomic_load(&em->models[i].done))
			attached(&em->models[i]);
}

int em_model_open(struct em *em)
{
	em->loaded =
		(struct loop_src){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
				   .events = POLLIN,
				   .fn = loaded_ready,
				   .arg = em };
	return em->loaded.fd < 0 ? -errno : loop_add(em->loop, &em->loaded);
}

static struct em_model *find(struct em *em, uint64_t id)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (em->models[i].load.id == id)
			return &em->models[i];
	return NULL;
}

void em_model_load(struct em *em, const struct proc_load *l, const int fds[2])
{
	struct em_model *md = find(em, 0);
	int err = ENOSPC;

	if (md) {
		md->em = em;
		md->load = *l;
		md->fd[0] = fds[0];
		md->fd[1] = fds[1];
		md->has_fds = true;
		md->t_start = clock_ns();
		err = attach_begin(md);
	}
	if (!err)
		return;
	close(fds[0]);
	close(fds[1]);
	if (md)
		memset(md, 0, sizeof(*md));
	say_state(em, l->id, WIRE_MODEL_FAILED, -err,
		  md ? "no thread to attach it with"
		     : "no room for another model");
}

void em_model_unload(struct em *em, uint64_t id)
{
	struct em_model *md = find(em, id);

	if (md && md->loading) {
		md->unload = true;
		return;
	}
	engine_model_del(em->engine, id);
	if (md)
		model_free(md);
	say_state(em, id, WIRE_MODEL_UNLOADING, 0, "");
}

bool em_model_close(struct em *em)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (em->models[i].loading)
			return false;
	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		if (!em->models[i].load.id)
			continue;
		engine_model_del(em->engine, em->models[i].load.id);
		model_free(&em->models[i]);
	}
	return true;
}
