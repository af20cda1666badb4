/* SPDX-License-Identifier: MIT */
/* parse.c - from a model's files to its image. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf.h"
#include "image_write.h"

static int write_all(int fd, const void *p, size_t n, char why[160])
{
	const char *c = p;
	ssize_t put;

	while (n) {
		put = write(fd, c, n);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			int err = put < 0 ? errno : EIO;

			snprintf(why, 160, "image: write: %s", strerror(err));
			return -err;
		}
		c += put;
		n -= (size_t)put;
	}
	return 0;
}

static int open_src(struct gguf_src *src, int fd, unsigned int part,
		    char why[160])
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int err = errno;

		snprintf(why, 160, "part %u: fstat: %s", part, strerror(err));
		return -err;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(why, 160, "part %u: not a regular file", part);
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	}
	*src = (struct gguf_src){ .fd = fd, .bytes = (uint64_t)st.st_size };
	return 0;
}

static int parse(int image_fd, const int *fds, unsigned int n,
		 unsigned int flags, char why[160])
{
	struct gguf_src src[IMAGE_MAX_FILES];
	struct gguf *g;
	void *image;
	unsigned int i;
	size_t bytes;
	int ret;

	if (!n || n > IMAGE_MAX_FILES) {
		snprintf(why, 160, "%u files, want 1..%d", n, IMAGE_MAX_FILES);
		return -EINVAL;
	}
	for (i = 0; i < n; i++) {
		ret = open_src(&src[i], fds[i], i + 1, why);
		if (ret)
			return ret;
	}
	ret = gguf_open(&g, src, n, why);
	if (ret)
		return ret;
	ret = image_build(g, flags, &image, &bytes, why);
	gguf_close(g);
	if (ret)
		return ret;
	ret = write_all(image_fd, image, bytes, why);
	free(image);
	return ret;
}

int parser_run(int image_fd, const int *fds, unsigned int n, char why[160])
{
	return parse(image_fd, fds, n, 0, why);
}

/* "x-00001-of-00003.gguf": how many, and where the number is; else 1. */
static unsigned int split_name(const char *path, size_t *at)
{
	static const char form[] = "-00001-of-NNNNN.gguf";
	size_t n = strlen(path), len = sizeof(form) - 1, i;
	unsigned int count = 0;
	const char *p;

	if (n < len)
		return 1;
	p = path + n - len;
	for (i = 0; i < len; i++) {
		if (form[i] != 'N' && form[i] != p[i])
			return 1;
		if (form[i] == 'N' && (p[i] < '0' || p[i] > '9'))
			return 1;
		if (form[i] == 'N')
			count = count * 10 + (unsigned int)(p[i] - '0');
	}
	*at = n - len + 1;
	return count;
}

static int open_parts(const char *path, int *fds, unsigned int *n_fds,
		      char why[160])
{
	size_t at = 0;
	unsigned int i, n = split_name(path, &at);
	char name[4096], number[16];
	int err;

	*n_fds = 0;
	if (!n || n > IMAGE_MAX_FILES || strlen(path) >= sizeof(name)) {
		snprintf(why, 160, "%.80s: %u parts", path, n);
		return -EINVAL;
	}
	strcpy(name, path);
	for (i = 0; i < n; i++) {
		if (n > 1) {
			snprintf(number, sizeof(number), "%05u", i + 1);
			memcpy(name + at, number, 5);
		}
		fds[i] = open(name, O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0) {
			err = errno;
			snprintf(why, 160, "%.100s: %s", name, strerror(err));
			return -err;
		}
		++*n_fds;
	}
	return 0;
}

int model_parse_path(const char *path, unsigned int flags, int *image_fd,
		     int *fds, unsigned int *n_fds, char why[160])
{
	int own[IMAGE_MAX_FILES], fd = -1, ret;
	unsigned int n = 0;
	bool keep = false;

	ret = open_parts(path, own, &n, why);
	if (ret)
		goto out;
	fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0) {
		ret = -errno;
		snprintf(why, 160, "memfd_create: %s", strerror(-ret));
		goto out;
	}
	ret = parse(fd, own, n, flags, why);
	if (ret)
		goto out;
	if (fcntl(fd, F_ADD_SEALS,
		  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) <
	    0) {
		ret = -errno;
		snprintf(why, 160, "image: seal: %s", strerror(-ret));
		goto out;
	}
	*image_fd = fd;
	keep = fds != NULL;
	if (keep) {
		memcpy(fds, own, n * sizeof(*own));
		*n_fds = n;
	}
out:
	while (!keep && n)
		close(own[--n]);
	if (ret && fd >= 0)
		close(fd);
	return ret;
}
