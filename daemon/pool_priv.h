/* SPDX-License-Identifier: MIT */
/* pool_priv.h - what the pool's providers share. */
#ifndef HEARTH_POOL_PRIV_H
#define HEARTH_POOL_PRIV_H

#include "../libclient/why.h"
#include "pool.h"

/**
 * struct pool_huge - huge pages of one size
 * @page:  bytes of one
 * @total: configured, those on demand (overcommit) included
 * @free:  pages that nobody has and nobody reserved, on demand included
 * @surplus: made on demand; they go back to the system when free
 */
struct pool_huge {
	uint64_t page;
	uint64_t total;
	uint64_t free;
	uint64_t surplus;
};

/* @page 0: of the default size. 0 or -ENOENT. */
int pool_huge_read(struct pool_huge *h, uint64_t page);

/*
 * Is a pool of huge pages of use? Not where there are none; and where nobody
 * asked for it by name, not where others have them. One that is used stays.
 */
int pool_huge_use(struct pool *p, bool used, const char *kind, char why[160]);

/* Memory that may be had without harm to others: 1/16 is left for them. */
uint64_t pool_mem_free(void);

/* What @bytes are too much for, with both numbers. Return -ENOMEM. */
int pool_short(char why[160], const char *of, uint64_t bytes, uint64_t have);

/* Set aside the huge pages of a whole file: they stay with it. */
int pool_reserve(int fd, uint64_t bytes);

/* A sealed-size memfd of huge pages, all reserved. -errno. */
int pool_huge_memfd(uint64_t bytes);

/* Another descriptor of the same memory that cannot write it. -errno. */
int pool_reopen(int fd);

/* The caller's directory or device: nobody else's daemon uses it. */
int pool_lock(int fd, const char *what, char why[160]);

#endif
