/* SPDX-License-Identifier: MIT */
/* backends.c - the backends there are. */
#include <stddef.h>

#include "backend.h"

const struct backend_ops *const backends[] = {
	&backend_auto, &backend_cuda, &backend_cpu, &backend_oracle, NULL,
};
