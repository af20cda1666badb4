/* SPDX-License-Identifier: MIT */
/* mon_notify.c - what the monitor tells systemd: that it lives, how it is. */
#include "monitor.h"
#include "notify.h"

static void beat(struct loop_timer *t)
{
	struct mon *m = t->arg;

	notify("WATCHDOG=1");
	loop_timer_set(m->loop, t, notify_beat_ns());
}

void mon_notify_start(struct mon *m)
{
	if (!notify_beat_ns())
		return;
	m->beat.fn = beat;
	m->beat.arg = m;
	beat(&m->beat);
}

void mon_notify_status(struct mon *m)
{
	unsigned int n_models = 0;
	unsigned int n_engine = 0;
	size_t i;

	for (i = 0; i < WIRE_MAX_MODELS; i++) {
		n_models += m->models[i].id != 0;
		n_engine += m->models[i].id &&
			    m->models[i].state == WIRE_MODEL_READY;
	}
	if (m->engine.ready)
		notify("STATUS=engine %d, %u models, %u of them in the engine",
		       (int)m->engine.child.pid, n_models, n_engine);
	else
		notify("STATUS=starting an engine, %u models", n_models);
}
