/* SPDX-License-Identifier: MIT */
/* err.c - errors as sentences: what was wrong, where, with both numbers. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "conn.h"

static __thread char open_error[CONN_ERR];

int err_set(struct hearth *h, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(h->err, sizeof(h->err), fmt, ap);
	va_end(ap);
	return err;
}

int err_open(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(open_error, sizeof(open_error), fmt, ap);
	va_end(ap);
	return err;
}

const char *hearth_error(const struct hearth *h)
{
	return h ? h->err : open_error;
}

/* Members of struct ring_run, as enum ring_field counts them. */
static const char *const run_field[RING_F_N] = {
	[RING_F_MODEL] = "model",
	[RING_F_FLAGS] = "flags",
	[RING_F_KEY] = "key",
	[RING_F_SEED] = "seed",
	[RING_F_N_PROMPT] = "n_prompt",
	[RING_F_MAX_TOKENS] = "max_tokens",
	[RING_F_TEMPERATURE] = "temperature",
	[RING_F_TOP_K] = "top_k",
	[RING_F_TOP_P] = "top_p",
	[RING_F_MIN_P] = "min_p",
	[RING_F_REPEAT_PENALTY] = "repeat_penalty",
	[RING_F_PRESENCE_PENALTY] = "presence_penalty",
	[RING_F_FREQUENCY_PENALTY] = "frequency_penalty",
	[RING_F_PENALTY_LAST] = "penalty_last",
	[RING_F_N_TOP_LOGPROBS] = "n_top_logprobs",
	[RING_F_N_BIAS] = "n_bias",
	[RING_F_N_STOP] = "n_stop",
	[RING_F_N_LOGITS] = "n_logits",
	[RING_F_PROMPT_OFF] = "the prompt's offset",
	[RING_F_BIAS_OFF] = "the biases' offset",
	[RING_F_STOP_OFF] = "the stop tokens' offset",
	[RING_F_LOGITS_OFF] = "the logits positions",
	[RING_F_N_DONE] = "n_done",
	[RING_F_DONE_OFF] = "the offset of the tokens so far",
	[RING_F_RESV] = "a reserved field",
};

static const char *field_name(uint64_t i)
{
	return i < RING_F_N ? run_field[i] : "an unknown field";
}

void err_refusal(char *buf, size_t n, uint32_t reason, int32_t err,
		 uint64_t arg, uint64_t limit)
{
	switch (reason) {
	case RING_BAD_SLOT:
		snprintf(buf, n,
			 "the daemon refused the request: slot %" PRIu64
			 " of %" PRIu64 " is not free",
			 arg, limit);
		break;
	case RING_BAD_RECORD:
		snprintf(buf, n,
			 "the daemon refused the request: its record is "
			 "damaged (%" PRIu64 " of %" PRIu64 " bytes)",
			 arg, limit);
		break;
	case RING_BAD_MODEL:
		snprintf(buf, n,
			 "the model is not open on this connection, or was "
			 "unloaded (model %" PRIu64 ")",
			 arg);
		break;
	case RING_BAD_PARAM:
		snprintf(buf, n,
			 "%s is out of range (the greatest value is %" PRIu64
			 ")",
			 field_name(arg), limit);
		break;
	case RING_BAD_TOKEN:
		snprintf(buf, n,
			 "token %" PRIu64 " of the prompt is not in the "
			 "vocabulary of %" PRIu64,
			 arg, limit);
		break;
	case RING_NO_PROMPT:
		snprintf(buf, n, "the prompt has no tokens");
		break;
	case RING_NO_CONTEXT:
		snprintf(buf, n,
			 "the request needs %" PRIu64 " tokens and the context "
			 "holds %" PRIu64,
			 arg, limit);
		break;
	case RING_NO_KV:
		snprintf(buf, n,
			 "the request needs %" PRIu64 " bytes of KV cache and "
			 "the model has %" PRIu64,
			 arg, limit);
		break;
	case RING_NO_ARENA:
		snprintf(buf, n,
			 "the results need %" PRIu64 " bytes of the session's "
			 "memory and %" PRIu64 " are there",
			 arg, limit);
		break;
	case RING_TOO_MANY:
		snprintf(buf, n,
			 "too many requests at once (%" PRIu64
			 ", limit %" PRIu64 ")",
			 arg, limit);
		break;
	case RING_ENGINE_LOST:
		snprintf(buf, n,
			 "the engine died while this ran and was restarted");
		break;
	case RING_BAD_OP:
		snprintf(buf, n, "the daemon does not know this operation");
		break;
	case RING_NOT_READY:
		snprintf(buf, n, "the model is still loading");
		break;
	case RING_KILLS_ENGINE:
		snprintf(buf, n,
			 "the engine died of this request twice, so it is not "
			 "run again");
		break;
	default:
		snprintf(buf, n, "the daemon refused the request: %s",
			 hearth_strerror(err));
	}
}

void err_failed(char *buf, size_t n, int32_t err)
{
	switch (err) {
	case -EDOM:
		snprintf(buf, n,
			 "the model computed values that are no numbers "
			 "(damaged weights?)");
		break;
	case -ENOTCONN:
		snprintf(buf, n,
			 "the engine died while this ran and was restarted");
		break;
	case -ENOTRECOVERABLE:
		snprintf(buf, n,
			 "the engine died of this request twice, so it is not "
			 "run again");
		break;
	case -EBADMSG:
		snprintf(buf, n,
			 "the engine died while this ran, and what it left "
			 "behind is damaged");
		break;
	case -ENODEV:
		snprintf(buf, n, "the model was unloaded while this ran");
		break;
	case -EIO:
		snprintf(buf, n, "the backend failed while this ran");
		break;
	default:
		snprintf(buf, n, "the request failed: %s",
			 hearth_strerror(err));
	}
}

/* clang-format off */
static const struct {
	int err;
	const char *text;
} texts[] = {
	{ 0, "no error" },
	{ -E2BIG, "it does not fit the context or a limit" },
	{ -EACCES, "permission denied" },
	{ -EAGAIN, "not now: nothing there yet, or everything is in use" },
	{ -EBADMSG, "the model image is not valid" },
	{ -ECANCELED, "given up by the caller" },
	{ -ECONNRESET, "the daemon was restarted and this could not go on" },
	{ -ECONNREFUSED, "no daemon answers on the socket" },
	{ -EDOM, "the model computed values that are no numbers" },
	{ -EINVAL, "an argument is out of range" },
	{ -EIO, "reading or computing failed" },
	{ -EISDIR, "it is a directory" },
	{ -ENODEV, "the model was unloaded" },
	{ -ENOENT, "no such model, file, socket or result" },
	{ -ENOMEM, "not enough memory" },
	{ -ENOSPC, "no space left" },
	{ -ENOTCONN, "the daemon or its engine is gone" },
	{ -ENOTRECOVERABLE, "the engine died of this request twice" },
	{ -ENOTSUP, "not supported" },
	{ -EPERM, "not allowed for this user" },
	{ -EPROTO, "the daemon speaks another version of the protocol" },
	{ -ETIMEDOUT, "no answer in time" },
};
/* clang-format on */

const char *hearth_strerror(int err)
{
	static __thread char buf[96];
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (texts[i].err == err)
			return texts[i].text;
	}
	if (err > 0 || err < -4095)
		snprintf(buf, sizeof(buf), "error %d", err);
	else
		return strerror_r(-err, buf, sizeof(buf));
	return buf;
}
