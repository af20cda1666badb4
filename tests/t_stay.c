/* SPDX-License-Identifier: MIT */
/* t_stay.c - a client that loads a model, asks once, and then just stays. */
#include "raw.h"

int main(int argc, char **argv)
{
	struct wire_model w = { 0 };
	struct ring_cqe e;
	struct raw r;
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: t_stay SOCKET MODEL\n");
		return 2;
	}
	err = raw_open(&r, argv[1]);
	if (!err)
		err = raw_load(r.sock, argv[2], &w);
	if (!err)
		raw_run(&r, 0, 1, w.model, 16, 16);
	if (!err)
		err = raw_done(&r, 0, &e, 20000);
	if (err) {
		fprintf(stderr, "t_stay: %s\n", strerror(-err));
		return 1;
	}
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
