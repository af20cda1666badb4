/* SPDX-License-Identifier: MIT */
/* mon_gpu.c - the GPUs that the monitor found at its start. */
#include <stdio.h>

#include "log.h"
#include "monitor.h"

void mon_gpu_find(struct mon *m)
{
	char text[256];
	int i;

	m->n_gpus = gpu_list(m->gpus, GPU_MAX);
	if (m->n_gpus < 0) {
		log_warn(m->n_gpus, "gpu: cannot be listed");
		m->n_gpus = 0;
	}
	for (i = 0; i < m->n_gpus; i++) {
		gpu_print(&m->gpus[i], text, sizeof(text));
		log_info("gpu: %s (%s)", text, m->gpus[i].serves);
	}
}

int mon_gpu_print(const struct mon *m, char *buf, size_t n)
{
	char text[256];
	size_t at = 0;
	int r;
	int i;

	for (i = 0; i < m->n_gpus; i++) {
		gpu_print(&m->gpus[i], text, sizeof(text));
		r = snprintf(buf + at, n - at, "gpu%d %s (%s)\n", i, text,
			     m->gpus[i].serves);
		if (r < 0 || (size_t)r >= n - at)
			break;
		at += (size_t)r;
	}
	return (int)at;
}
