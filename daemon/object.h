/* SPDX-License-Identifier: MIT */
/*
 * object.h - a mapping of a pool's object, on huge pages where that can be.
 */
#ifndef HEARTH_OBJECT_H
#define HEARTH_OBJECT_H

#include <stddef.h>
#include <stdint.h>

#define OBJECT_HUGE (2u << 20)

struct object {
	void *p;
	size_t bytes; /* mapped */
};

/**
 * object_map() - map the first @bytes read-only, all pages present
 * @fd: borrowed
 * Return: 0 or -errno with a sentence; -EBADMSG: it is shorter than that.
 */
int object_map(struct object *o, int fd, uint64_t bytes, char why[160]);

/* The same to write to; pages come with object_present(). */
int object_map_write(struct object *o, int fd, uint64_t bytes, char why[160]);

/**
 * object_present() - have pages of a writable mapping, huge ones if possible
 * @off, @bytes: multiples of OBJECT_HUGE, but for the end of the object
 * Return: 0 or -ENOMEM: there are none. Memory is never overcommitted after it.
 */
int object_present(struct object *o, uint64_t off, uint64_t bytes);

void object_unmap(struct object *o);

#endif
