/* SPDX-License-Identifier: MIT */
/*
 * parser.c - the process that makes a model's image, and then is gone.
 *
 * One message in: the empty image and the model's files. One message out: the
 * image is complete, or why not. It has no other descriptor and, by now, no
 * way to get one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "gguf.h"
#include "proc.h"

void parser_main(const struct conf *conf, int ctl)
{
	_Alignas(8) char body[PROC_MAX_BODY];
	struct proc_status st = { 0 };
	struct proc_load l;
	int fds[PROC_MAX_FDS];
	unsigned int n_fds = 0;
	char why[160] = "";
	size_t n;
	int type;

	(void)conf;
	type = proc_recv(ctl, body, &n, fds, &n_fds);
	if (type != PROC_MODEL_LOAD)
		_exit(1);
	memcpy(&l, body, sizeof(l));
	st.id = l.id;
	if (n_fds < 2 || n_fds - 1 != l.n_files) {
		st.err = -EPROTO;
		snprintf(why, sizeof(why), "%u files announced, %u came",
			 l.n_files, n_fds ? n_fds - 1 : 0);
	} else {
		st.err = parser_run(fds[0], fds + 1, n_fds - 1, why);
	}
	snprintf(st.text, sizeof(st.text), "%s", why);
	proc_send(ctl, PROC_PARSED, &st, sizeof(st), NULL, 0);
	_exit(st.err ? 1 : 0);
}
