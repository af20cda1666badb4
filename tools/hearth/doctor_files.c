/* SPDX-License-Identifier: MIT */
/*
 * doctor_files.c - the model directories and what they lie on.
 */
#include "doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <strings.h>
#include <sys/statfs.h>
#include <unistd.h>

static const struct fs {
	unsigned long magic;
	const char *name;
	bool slow; /* every byte comes through a network or a process */
} fs_table[] = {
	{ EXT4_SUPER_MAGIC, "ext4", false },
	{ 0x58465342, "xfs", false },
	{ BTRFS_SUPER_MAGIC, "btrfs", false },
	{ F2FS_SUPER_MAGIC, "f2fs", false },
	{ TMPFS_MAGIC, "tmpfs", false },
	{ OVERLAYFS_SUPER_MAGIC, "overlay", false },
	{ 0x2fc12fc1, "zfs", false },
	{ NFS_SUPER_MAGIC, "nfs", true },
	{ 0xff534d42, "cifs", true },
	{ 0xfe534d42, "smb2", true },
	{ V9FS_MAGIC, "9p", true },
	{ FUSE_SUPER_MAGIC, "fuse", true },
	{ CEPH_SUPER_MAGIC, "ceph", true },
};

/* Models in it; whether the first can be read past the page cache. */
static unsigned int look_into(const char *dir, bool *direct)
{
	unsigned int n = 0;
	struct dirent *e;
	DIR *d = opendir(dir);
	size_t k;
	int fd;

	*direct = true;
	while (d && (e = readdir(d))) {
		k = strlen(e->d_name);
		if (k < 6 || strcasecmp(e->d_name + k - 5, ".gguf"))
			continue;
		if (n++)
			continue;
		fd = openat(dirfd(d), e->d_name,
			    O_RDONLY | O_DIRECT | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			*direct = errno != EINVAL;
		else
			close(fd);
	}
	if (d)
		closedir(d);
	return n;
}

static void one_dir(struct doctor *d, const char *dir)
{
	char name[32], size[32];
	const struct fs *fs = NULL;
	struct statfs st;
	unsigned int n;
	bool direct;
	size_t i;

	if (statfs(dir, &st)) {
		doctor_say(d, errno == ENOENT ? DOCTOR_OK : DOCTOR_WARN,
			   "models", NULL, "%s: %s", dir,
			   errno == ENOENT ? "not there yet" : strerror(errno));
		return;
	}
	for (i = 0; i < N_ELEM(fs_table) && !fs; i++)
		if (fs_table[i].magic ==
		    ((unsigned long)st.f_type & 0xffffffff))
			fs = &fs_table[i];
	snprintf(name, sizeof(name), "type %#lx", (unsigned long)st.f_type);
	n = look_into(dir, &direct);
	doctor_say(d, (fs && fs->slow) || !direct ? DOCTOR_WARN : DOCTOR_OK,
		   "models", NULL, "%s: %u models on %s, %s free%s%s", dir, n,
		   fs ? fs->name : name,
		   fmt_size(size, (uint64_t)st.f_bavail * (uint64_t)st.f_bsize),
		   fs && fs->slow ? "; loading is as slow as that" : "",
		   direct ? "" : "; no direct reading (O_DIRECT)");
}

void doctor_models(struct doctor *d)
{
	char dirs[8192], *dir, *save = NULL;
	int n = hearth_model_dirs(dirs, sizeof(dirs));

	if (n < 0) {
		doctor_say(d, DOCTOR_WARN, "models", NULL,
			   "no model directories: %s", hearth_strerror(n));
		return;
	}
	for (dir = strtok_r(dirs, ":", &save); dir;
	     dir = strtok_r(NULL, ":", &save))
		one_dir(d, dir);
}
