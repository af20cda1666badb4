/* SPDX-License-Identifier: MIT */
/*
 * fuzz_wire.c - clients that send anything to the monitor, in any order, with
 * any files, while parsers and the engine answer, fail or die.
 *
 * An input is a program: each byte an action with operands after it. At its
 * end all clients hang up, and nothing of them may be left.
 */
#include "../mon_rig.h"

static const unsigned char *in;
static size_t left;

static unsigned int take(void)
{
	return left ? left--, *in++ : 0;
}

/* A message of a known type; now and then its header is not as it should be. */
static void send_something(int i)
{
	unsigned char buf[512] = { 0 };
	struct wire_hdr h = { WIRE_MAGIC, RING_ABI, (uint16_t)(take() % 9), 1 };
	static const size_t len[] = { 3,
				      sizeof(struct wire_hello),
				      0,
				      sizeof(struct wire_load),
				      sizeof(struct wire_id),
				      0,
				      sizeof(struct wire_id),
				      0,
				      0 };
	int fds[WIRE_MAX_FDS];
	unsigned int n_fds = take() % 4;
	unsigned int k;
	size_t n;

	h.len = (uint32_t)len[h.type];
	n = sizeof(h) + h.len;
	for (k = sizeof(h); k < n; k++)
		buf[k] = (unsigned char)take();
	for (k = 0; k < n_fds; k++)
		fds[k] = mr.file[take() % 4];
	if (h.type == WIRE_LOAD && n >= sizeof(h) + 24)
		buf[sizeof(h)] = (unsigned char)n_fds;
	memcpy(buf, &h, sizeof(h));
	if (take() % 16 == 0)
		buf[take() % n] ^= (unsigned char)take();
	if (mr.client[i].sock < 0)
		return;
	if (n_fds && !take()) /* an honest header around it is not needed */
		n = take();
	/* wire_send() would put its own header: these bytes are the packet. */
	{
		struct iovec iov = { buf, n };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
		union {
			struct cmsghdr h;
			char b[CMSG_SPACE(4 * sizeof(int))];
		} c = { 0 };

		if (n_fds) {
			m.msg_control = c.b;
			m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
			c.h.cmsg_level = SOL_SOCKET;
			c.h.cmsg_type = SCM_RIGHTS;
			c.h.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
			memcpy(CMSG_DATA(&c.h), fds, n_fds * sizeof(int));
		}
		sendmsg(mr.client[i].sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	mr_run();
}

static void engine_says(void)
{
	_Alignas(8) unsigned char body[PROC_MAX_BODY] = { 0 };
	struct mr_child *e = mr_engine();
	static const enum proc_type type[] = {
		PROC_SESSION_UP,  PROC_SESSION_BAD, PROC_SESSION_GONE,
		PROC_MODEL_STATE, PROC_READY,	    PROC_PARSED
	};
	static const size_t len[] = { sizeof(struct proc_status),
				      sizeof(struct proc_status),
				      sizeof(struct proc_id),
				      sizeof(struct proc_model_state),
				      0,
				      sizeof(struct proc_status) };
	unsigned int k = take() % 6;

	body[0] = (unsigned char)take();
	body[8] = (unsigned char)take();
	body[12] = (unsigned char)take();
	if (e)
		mr_say(e, type[k], body, len[k]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int opened;
	size_t k;
	int i;

	if (!opened++)
		mr_open();
	in = data;
	left = size;
	while (left) {
		i = (int)(take() % MR_CLIENTS);
		switch (take() % 10) {
		case 0:
			mr_connect(i, take() % 3 * 1000);
			break;
		case 1:
			mr_hang_up(i);
			break;
		case 2:
			mr_work(0);
			break;
		case 3:
			mr_work(-(int)(take() % 40));
			break;
		case 4:
			engine_says();
			break;
		case 5:
			if (take() % 8 == 0 && mr_engine())
				mr_end(mr_engine());
			mr_run();
			break;
		case 6:
			while (mr_answer(i, NULL, 0) > 0)
				;
			break;
		default:
			send_something(i);
		}
	}
	mr_settle();
	for (k = 0; k < WIRE_MAX_MODELS; k++)
		if (mr.m->models[k].id) {
			struct wire_id id = { mr.m->models[k].id, 0 };

			mr_connect(0, 0);
			mr_ask(0, WIRE_UNLOAD, &id, sizeof(id), NULL, 0);
			mr_settle();
		}
	return 0;
}
