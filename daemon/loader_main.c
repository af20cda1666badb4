/* SPDX-License-Identifier: MIT */
/*
 * loader_main.c - the process that fills an object, and then is gone.
 *
 * One message in: the image and the model's files. It says what memory it
 * needs, gets it, and says when it is full. Files are opened again for direct
 * reads and the ring is made first; then the sandbox closes, and only then is
 * anything looked at that a stranger wrote.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "loader.h"
#include "loop.h"
#include "proc.h"
#include "sandbox.h"

struct job {
	int ctl;
	struct proc_load load;
	struct image im;
	struct reader *rd;
	struct loader *ld;
	struct backend_progress pg;
};

static void tell(void *arg)
{
	struct job *j = arg;
	struct proc_progress p = {
		.id = j->load.id,
		.done = atomic_load(&j->pg.done_bytes),
		.total = atomic_load(&j->pg.total_bytes),
	};

	proc_send(j->ctl, PROC_PROGRESS, &p, sizeof(p), NULL, 0);
}

/* Say what is needed, wait for it. */
static int get_object(struct job *j, char why[160])
{
	const struct backend_layout *l = loader_layout(j->ld);
	struct proc_plan plan = { .id = j->load.id, .bytes = l->bytes };
	_Alignas(8) char body[PROC_MAX_BODY];
	int fds[PROC_MAX_FDS];
	unsigned int n_fds = 0;
	size_t n;
	int ret;

	memcpy(plan.layout, l->name, sizeof(plan.layout));
	ret = proc_send(j->ctl, PROC_PLAN, &plan, sizeof(plan), NULL, 0);
	if (ret) {
		snprintf(why, 160, "plan: %s", strerrordesc_np(-ret));
		return ret;
	}
	ret = proc_recv(j->ctl, body, &n, fds, &n_fds);
	if (ret != PROC_PLACE || n_fds != 1)
		_exit(1); /* the monitor has gone, or is none */
	return fds[0];
}

static int load(struct job *j, const struct conf *conf, int image_fd,
		uint8_t digest[HASH_BYTES], char why[160])
{
	const struct backend_ops *ops = backend_find(conf->backend);
	struct loader_way way = {
		.n_threads = conf->threads ? (unsigned int)conf->threads
					   : loader_cores(),
		.pg = &j->pg,
		.tell = tell,
		.arg = j,
	};
	struct loader_times t;
	uint64_t t0;
	int ret, object;

	ret = image_open_tensors(&j->im, image_fd, why);
	if (ret)
		return ret;
	ret = loader_new(&j->ld, ops, &j->im, j->rd, why);
	if (ret)
		return ret;
	object = get_object(j, why);
	if (object < 0)
		return object;
	t0 = clock_ns();
	ret = loader_fill(j->ld, object, &way, digest, why);
	close(object);
	loader_times(j->ld, &t);
	log_debug("model %llu: %.3f s (%s), on %u threads: waiting %.3f s, "
		  "hashing %.3f s, packing %.3f s, pages %.3f s",
		  (unsigned long long)j->load.id,
		  (double)(clock_ns() - t0) * 1e-9, t.how, way.n_threads,
		  (double)t.wait_ns * 1e-9, (double)t.hash_ns * 1e-9,
		  (double)t.pack_ns * 1e-9, (double)t.page_ns * 1e-9);
	return ret;
}

void loader_main(const struct conf *conf, int ctl)
{
	_Alignas(8) char body[PROC_MAX_BODY];
	struct proc_loaded last;
	struct job j = { .ctl = ctl };
	uint8_t digest[HASH_BYTES];
	int fds[PROC_MAX_FDS];
	unsigned int n_fds = 0;
	char why[160] = "";
	size_t n;
	int err;

	if (!backend_find(conf->backend))
		_exit(1);
	if (proc_recv(ctl, body, &n, fds, &n_fds) != PROC_MODEL_LOAD)
		_exit(1);
	memcpy(&j.load, body, sizeof(j.load));
	hash_sha256(digest, "", 0); /* its library looks for files once */
	err = n_fds < 2 || n_fds - 1 != j.load.n_files ? -EPROTO : 0;
	if (err)
		snprintf(why, sizeof(why), "%u files announced, %u came",
			 j.load.n_files, n_fds ? n_fds - 1 : 0);
	else
		err = reader_open(&j.rd, fds + 1, n_fds - 1, why);
	if (sandbox_drop(conf, SANDBOX_LOADER) ||
	    sandbox_filter(conf, SANDBOX_LOADER))
		fatal(EPERM, "start: sandbox");
	if (!err)
		err = load(&j, conf, fds[0], digest, why);
	memset(&last, 0, sizeof(last));
	last.st.id = j.load.id;
	last.st.err = err;
	if (err)
		snprintf(last.st.text, sizeof(last.st.text), "%s", why);
	else
		memcpy(last.digest, digest, sizeof(last.digest));
	proc_send(ctl, PROC_LOADED, &last, sizeof(last), NULL, 0);
	_exit(err ? 1 : 0);
}
