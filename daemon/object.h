/* SPDX-License-Identifier: MIT */
/*
 * object.h - a mapping of a pool's object, on huge pages where that can be.
 */
#ifndef HEARTH_OBJECT_H
#define HEARTH_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OBJECT_HUGE (2u << 20)

/**
 * struct object - a mapping
 * @bytes: mapped
 * @page:  what it is made of, as its file system says
 */
struct object {
	void *p;
	size_t bytes;
	uint64_t page;
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
 *
 * Return: 0, or -ENOSPC or -ENOMEM with a sentence: there are none. After it
 * no write to them can fail, whatever else fills the file system.
 */
int object_present(struct object *o, uint64_t off, uint64_t bytes,
		   char why[160]);

/* Unmap @most bytes of its end, whole pages of it. False: all was already. */
bool object_unmap_some(struct object *o, uint64_t most);
void object_unmap(struct object *o);

#endif
