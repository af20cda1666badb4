/* SPDX-License-Identifier: MIT */
/*
 * t_hash.c - how fast files are hashed, by one thread and by several.
 *
 *	t_hash [THREADS]
 *
 * Each hashes a mebibyte again and again, as a load does; prints GB/s, one
 * thread's and all together. No load can be faster.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../daemon/hash.h"

#define BYTES  (1u << 20)
#define BLOCKS (BYTES / HASH_BLOCK)
#define TIME   0.5
#define MAX    64

static _Atomic uint64_t hashed;

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void *work(void *arg)
{
	uint8_t(*hash)[HASH_BYTES] = calloc(BLOCKS, HASH_BYTES);
	uint8_t *data = calloc(1, BYTES);
	double end = now() + TIME;

	if (!hash || !data)
		abort();
	while (now() < end) {
		hash_blocks(hash, data, BLOCKS);
		atomic_fetch_add(&hashed, BYTES);
	}
	free(hash);
	free(data);
	return arg;
}

static double rate(int threads)
{
	pthread_t id[MAX];
	double t = now();
	int i;

	atomic_store(&hashed, 0);
	for (i = 0; i < threads; i++)
		if (pthread_create(&id[i], NULL, work, NULL))
			abort();
	for (i = 0; i < threads; i++)
		pthread_join(id[i], NULL);
	return (double)atomic_load(&hashed) * 1e-9 / (now() - t);
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 2;

	if (threads < 1 || threads > MAX) {
		fprintf(stderr, "usage: t_hash [THREADS]\n");
		return 2;
	}
	rate(1);
	printf("%.2f %.2f\n", rate(1), rate(threads));
	return 0;
}
