/* SPDX-License-Identifier: MIT */
/*
 * mon_pool.c - the memory of weights: what is there at start, room for more,
 * who goes when there is none.
 *
 * What goes, goes least recently used first and only while nobody has it
 * open; every eviction says why in the log.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "monitor.h"
#include "pool_priv.h"

#define PSI_FILE    "/proc/pressure/memory"
#define PSI_TRIGGER "some 150000 2000000" /* us of stalls in us of time */
#define PLENTY	    8 /* that part of all memory available: no shortage */

/* ------------------------------------------------------------------- start */

static void take_found(void *arg, const struct pool_entry *e)
{
	struct mon *m = arg;
	struct mon_model *md;
	struct pool_meta meta;
	char name[POOL_NAME];
	uint64_t now = clock_ns();
	int err;
	int fd;

	if (m->pool.ops->attach(&m->pool, e->name, &fd))
		return;
	err = pool_meta_read(fd, &meta);
	close(fd);
	if (!err) {
		pool_name(name, &meta);
		err = strcmp(name, e->name) ? -EBADMSG : 0;
	}
	md = err ? NULL : mon_model_new(m);
	if (!md) {
		log_warnx("pool: dropping %.16s..., %s", e->name,
			  err ? "which is none of ours, or torn"
			      : "there are too many");
		m->pool.ops->destroy(&m->pool, e->name);
		return;
	}
	md->state = WIRE_MODEL_RESIDENT;
	md->uid = meta.uid;
	md->meta = meta;
	memcpy(md->obj, e->name, sizeof(md->obj));
	md->t_used = e->idle_ns < now ? now - e->idle_ns : 0;
	log_client("model %u: resident, %llu MiB (%s)", md->id,
		   (unsigned long long)(meta.weight_bytes >> 20), meta.name);
}

/* Closing the last of many pages takes a while: not here. */
static void drop_aside(void *arg, int fd)
{
	struct mon *m = arg;

	loop_close(m->loop, fd);
}

int mon_pool_start(struct mon *m, char why[160])
{
	int err = pool_open(&m->pool, &m->conf, why);

	if (err)
		return err;
	log_info("pool: %s", m->pool.text);
	err = m->pool.ops->list(&m->pool, take_found, m);
	if (err)
		log_warn(err, "pool: cannot be listed");
	m->pool.drop = drop_aside;
	m->pool.drop_arg = m;
	return 0;
}

void mon_pool_stop(struct mon *m)
{
	if (m->pressure.fd >= 0) {
		loop_del(m->loop, &m->pressure);
		close(m->pressure.fd);
	}
	m->pressure.fd = -1;
	pool_close(&m->pool);
}

struct seen {
	struct mon *m;
	uint64_t models; /* bit i: models[i] was listed */
};

static void see(void *arg, const struct pool_entry *e)
{
	struct seen *s = arg;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (s->m->models[i].id && !strcmp(s->m->models[i].obj, e->name))
			s->models |= 1ull << i;
}

void mon_pool_sync(struct mon *m)
{
	struct seen s = { m, 0 };
	struct mon_model *md;
	size_t i;

	if (m->pool.ops->list(&m->pool, see, &s))
		return;
	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!md->id || md->state != WIRE_MODEL_RESIDENT ||
		    (s.models >> i & 1))
			continue;
		log_client("model %u: its memory was taken back (%s)", md->id,
			   md->meta.name);
		m->n_evicted++;
		m->evicted_bytes += md->meta.object_bytes;
		mon_model_free(md);
	}
}

/* ---------------------------------------------------------------- eviction */

void mon_evict(struct mon_model *md, const char *why)
{
	struct mon *m = md->m;
	int err = m->pool.ops->destroy(&m->pool, md->obj);

	if (err && err != -ENOENT) {
		log_warn(err, "model %u: cannot be evicted", md->id);
		return;
	}
	log_client(
		"model %u: evicted, %s (%llu MiB, unused for %llu s, %s)",
		md->id, why, (unsigned long long)(md->meta.object_bytes >> 20),
		(unsigned long long)((clock_ns() - md->t_used) / 1000000000u),
		md->meta.name);
	m->n_evicted++;
	m->evicted_bytes += md->meta.object_bytes;
	md->obj[0] = 0;
}

struct mon_model *mon_pool_lru(struct mon *m, uint32_t uid)
{
	struct mon_model *lru = NULL;
	struct mon_model *md;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!md->id || md->state != WIRE_MODEL_RESIDENT)
			continue;
		if (uid != ~0u && md->uid != uid)
			continue;
		if (!lru || md->t_used < lru->t_used)
			lru = md;
	}
	return lru;
}

static void evict_for(struct mon_model *md, struct mon_model *victim)
{
	struct mon *m = md->m;
	char why[160];

	snprintf(why, sizeof(why), "for model %u", md->id);
	/* Its memory must be back when this returns. */
	m->pool.drop = NULL;
	mon_evict(victim, why);
	m->pool.drop = drop_aside;
	mon_model_free(victim);
}

/* ------------------------------------------------------------------- room */

/* Pages that loaders have been promised and not touched yet. */
static uint64_t promised(const struct mon *m)
{
	const struct mon_model *md;
	uint64_t n = 0;
	struct stat st;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (!md->id || md->obj[0] || md->object < 0 ||
		    fstat(md->object, &st) || st.st_blksize != POOL_PAGE)
			continue;
		n += (uint64_t)(st.st_size - st.st_blocks * 512);
	}
	return n;
}

static uint64_t pool_used(const struct mon *m)
{
	const struct mon_model *md;
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		md = &m->models[i];
		if (md->id && (md->obj[0] || md->object >= 0))
			n += md->meta.object_bytes;
	}
	return n;
}

static int create(struct mon_model *md, uint64_t need, char why[160])
{
	struct mon *m = md->m;
	uint64_t used = pool_used(m);
	uint64_t limit = m->conf.pool_bytes;
	uint64_t owed = promised(m);
	uint64_t have;
	uint64_t bytes = need;
	int err;
	int fd;

	if (limit && used + need > limit)
		return pool_short(why, "pool-bytes", need,
				  limit > used ? limit - used : 0);
	if (owed) {
		have = m->pool.ops->free(&m->pool);
		have = have > owed ? have - owed : 0;
		if (need > have)
			return pool_short(why, "memory", need, have);
	}
	err = m->pool.ops->create(&m->pool, &bytes, md->uid, &fd, why);
	if (err)
		return err;
	md->object = fd;
	md->meta.object_bytes = bytes;
	return 0;
}

static bool leaving(const struct mon *m)
{
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++)
		if (m->models[i].id &&
		    m->models[i].state == WIRE_MODEL_UNLOADING)
			return true;
	return false;
}

int mon_pool_place(struct mon_model *md, uint64_t weights, char why[160])
{
	struct mon *m = md->m;
	struct mon_model *victim;
	struct stat st;
	uint64_t need;
	int err;

	if (fstat(md->image, &st))
		return say_why(why, -errno, "the model image is lost");
	need = pool_need(weights, (uint64_t)st.st_size);
	if (!need)
		return say_why(why, -EFBIG,
			       "the loader asks for %llu bytes of memory",
			       (unsigned long long)weights);
	for (;;) {
		err = create(md, need, why);
		if (err != -ENOMEM && err != -ENOSPC && err != -EDQUOT)
			return err;
		/* A user's quota is made room in by his own models. */
		victim = mon_pool_lru(m, err == -EDQUOT ? md->uid : ~0u);
		if (victim)
			evict_for(md, victim);
		else if (mon_detach_idle(m) || leaving(m))
			return -EAGAIN;
		else
			return err;
	}
}

int mon_pool_publish(struct mon_model *md, char why[160])
{
	struct mon *m = md->m;
	char name[POOL_NAME];
	int err;

	md->meta.uid = md->uid;
	err = pool_finish(md->object, &md->meta, md->image, why);
	if (err)
		return err;
	pool_name(name, &md->meta);
	err = m->pool.ops->publish(&m->pool, md->object, name, md->uid, why);
	/* Nobody here knows that name: it is not one of ours. */
	if (err == -EEXIST) {
		m->pool.ops->destroy(&m->pool, name);
		err = m->pool.ops->publish(&m->pool, md->object, name, md->uid,
					   why);
	}
	close(md->object);
	md->object = -1;
	if (!err)
		memcpy(md->obj, name, sizeof(md->obj));
	return err;
}

/* ---------------------------------------------------------------- pressure */

static bool would_help(const struct mon *m)
{
	struct pool_huge h;

	/* The module's own memory is the kernel's to take; huge pages that
	 * are configured stay what they are. */
	if (m->pool.ops == &pool_kmod)
		return false;
	if (m->pool.page == POOL_PAGE)
		return true;
	return !pool_huge_read(&h, m->pool.page) && h.surplus;
}

static void pressure(struct loop_src *s, uint32_t revents)
{
	struct mon *m = s->arg;
	uint64_t all = (uint64_t)sysconf(_SC_PHYS_PAGES) * POOL_PAGE;
	struct mon_model *victim;

	if (revents & (POLLERR | POLLHUP | POLLNVAL)) {
		loop_del(m->loop, s);
		return;
	}
	if (pool_mem_free() > all / PLENTY)
		return;
	m->n_pressure++;
	mon_detach_idle(m);
	victim = would_help(m) ? mon_pool_lru(m, ~0u) : NULL;
	if (!victim)
		return;
	mon_evict(victim, "memory is short");
	if (!victim->obj[0])
		mon_model_free(victim);
}

void mon_pool_watch(struct mon *m)
{
	int fd = open(PSI_FILE, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || write(fd, PSI_TRIGGER, sizeof(PSI_TRIGGER)) < 0) {
		log_info("pool: shortages of memory are not told (%s: %s)",
			 PSI_FILE, strerrorname_np(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	m->pressure = (struct loop_src){
		.fd = fd, .events = POLLPRI, .fn = pressure, .arg = m
	};
	if (!loop_add(m->loop, &m->pressure))
		return;
	close(fd);
	m->pressure.fd = -1;
}
