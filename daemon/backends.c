/* SPDX-License-Identifier: MIT */
/* backends.c - the backends there are. */
#include <stddef.h>
#include <string.h>

#include "backend.h"

const struct backend_ops *const backends[] = {
	&backend_auto, &backend_cuda, &backend_cpu, &backend_oracle, NULL,
};

const struct backend_ops *backend_find(const char *name)
{
	size_t i;

	for (i = 0; backends[i]; i++)
		if (!strcmp(backends[i]->name, name))
			return backends[i];
	return NULL;
}
