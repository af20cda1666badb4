/* SPDX-License-Identifier: MIT */
/*
 * t_verity.c - gives a file fs-verity, and says what its digest is.
 *
 * usage: t_verity FILE
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SHA256 32

static int enable(int fd)
{
	struct fsverity_enable_arg arg = {
		.version = 1,
		.hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
		.block_size = 4096,
	};

	return ioctl(fd, FS_IOC_ENABLE_VERITY, &arg) && errno != EEXIST ? -1
									: 0;
}

int main(int argc, char **argv)
{
	union {
		struct fsverity_digest d;
		uint8_t room[sizeof(struct fsverity_digest) + SHA256];
	} u = { .d.digest_size = SHA256 };
	const char *what = "open";
	uint16_t i;
	int fd;

	if (argc != 2)
		return 2;
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		goto fail;
	what = "FS_IOC_ENABLE_VERITY";
	if (enable(fd))
		goto fail;
	what = "FS_IOC_MEASURE_VERITY";
	if (ioctl(fd, FS_IOC_MEASURE_VERITY, &u.d))
		goto fail;
	close(fd);
	for (i = 0; i < u.d.digest_size; i++)
		printf("%02x", u.d.digest[i]);
	printf("\n");
	return 0;
fail:
	fprintf(stderr, "t_verity: %s: %s: %s\n", argv[1], what,
		strerror(errno));
	return 1;
}
