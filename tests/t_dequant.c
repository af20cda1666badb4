/* SPDX-License-Identifier: MIT */
/*
 * t_dequant.c - a filter: blocks of a format on stdin, floats on stdout.
 *
 *	t_dequant FORMAT	dequantise
 *	t_dequant -p FORMAT COLS	pack rows of COLS, read them back
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/mat.h"

static int convert(const struct fmt_info *info)
{
	uint8_t block[512];
	float y[256];

	while (fread(block, info->bytes, 1, stdin) == 1) {
		info->dequant(block, y, info->block);
		if (fwrite(y, sizeof(float), info->block, stdout) !=
		    info->block)
			return 1;
	}
	return ferror(stdin) || fflush(stdout);
}

/* The same through a packed panel. */
static int through_panel(enum fmt f, uint32_t cols)
{
	uint64_t row = fmt_bytes(f, cols);
	struct mat m = { .fmt = f, .cols = cols };
	uint8_t *rows = malloc(row * MAT_PANEL);
	float *y = malloc(sizeof(float) * cols);
	void *panel = aligned_alloc(MAT_ALIGN, mat_panel_bytes(f, cols));
	size_t n;
	uint32_t r;
	int ret = 1;

	if (!row || !rows || !y || !panel)
		goto out;
	m.data = panel;
	while ((n = fread(rows, row, MAT_PANEL, stdin)) > 0) {
		mat_pack(f, cols, rows, (uint32_t)n, panel);
		m.rows = (uint32_t)n;
		for (r = 0; r < n; r++) {
			mat_row(&m, r, y);
			if (fwrite(y, sizeof(float), cols, stdout) != cols)
				goto out;
		}
	}
	ret = ferror(stdin) || fflush(stdout);
out:
	free(rows);
	free(y);
	free(panel);
	return ret;
}

int main(int argc, char **argv)
{
	int packed = argc == 4 && !strcmp(argv[1], "-p");
	int f;

	if (argc != 2 && !packed) {
		fprintf(stderr, "usage: t_dequant [-p] FORMAT [COLS]\n");
		return 2;
	}
	for (f = 0; f < FMT_N; f++)
		if (!strcmp(fmt_info[f].name, argv[packed ? 2 : 1]))
			break;
	if (f == FMT_N) {
		fprintf(stderr, "t_dequant: no such format\n");
		return 2;
	}
	if (packed)
		return through_panel(f, (uint32_t)atoi(argv[3]));
	return convert(&fmt_info[f]);
}
