/* SPDX-License-Identifier: MIT */
/* conf.c - hearthd's options: one table, and what reads it. */
#include "conf.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../kernels/cpu.h"
#include "../libclient/ring.h"
#include "../libclient/why.h"
#include "../libclient/wire.h"
#include "backend.h"
#include "proc.h"

enum conf_type {
	CONF_NUM,   /* uint64_t */
	CONF_BYTES, /* uint64_t with K, M, G, T */
	CONF_MODE,  /* uint32_t, octal */
	CONF_TEXT,
	CONF_BACKEND, /* text, one of backends[] */
	CONF_GPU,     /* text, how a GPU is named */
	CONF_LAYERS,  /* text, "auto" or a number */
	CONF_PROMPTS, /* text, "exact" or "fast" */
	CONF_CPU,     /* text, a CPU level */
	CONF_POOL,    /* text, "auto" or one of pool_names[] */
};

struct conf_row {
	const char *name;
	enum conf_type type;
	uint16_t off;
	uint16_t size;
	uint64_t min;
	uint64_t max;
	uint64_t def;
	const char *text; /* default of a text */
	const char *unit;
	const char *what;
};

#define F(field) offsetof(struct conf, field), sizeof(((struct conf *)0)->field)
#define NUM(name, field, min, max, def, unit, what)                       \
	{                                                                 \
		name, CONF_NUM, F(field), min, max, def, NULL, unit, what \
	}
#define BYTES(name, field, min, max, def, what)                                \
	{                                                                      \
		name, CONF_BYTES, F(field), min, max, def, NULL, "bytes", what \
	}
#define TEXT(name, type, field, def, what)                   \
	{                                                    \
		name, type, F(field), 0, 0, 0, def, "", what \
	}

#define KB 1024ull
#define MB (1024ull * KB)
#define GB (1024ull * MB)
#define TB (1024ull * GB)

/* clang-format off */
static const struct conf_row rows[] = {
	TEXT("socket", CONF_TEXT, socket, "", "path of the socket"),
	{ "socket-mode", CONF_MODE, F(socket_mode), 0, 0777, 0666, NULL, "", "permissions of the socket" },
	TEXT("user", CONF_TEXT, user, "hearth", "user of engine and parser when started as root"),
	TEXT("backend", CONF_BACKEND, backend, "auto", "what computes: auto, cuda, cpu or oracle"),
	TEXT("gpu", CONF_GPU, gpu, "", "the GPU to use: index, UUID or PCI address"),
	TEXT("gpu-layers", CONF_LAYERS, gpu_layers, "auto", "layers of a model on the GPU: a number, or auto for as many as fit"),
	TEXT("gpu-prompts", CONF_PROMPTS, gpu_prompts, "exact", "prompts of BF16 and F16 models on a GPU: exact, or fast where it can"),
	BYTES("gpu-ahead", gpu_ahead, 0, GB, 0, "next weights to have in a GPU's L2 cache, 0: none"),
	TEXT("cpu-mask", CONF_CPU, cpu_mask, "", "highest CPU level to use"),
	NUM("threads", threads, 0, 1024, 0, "", "threads that compute, 0: one a core"),
	NUM("spin-us", spin_us, 0, 10000, 50, "us", "how long to poll for more work before sleeping"),
	NUM("step-tokens", step_tokens, 1, 65536, CONF_STEP_TOKENS, "tokens", "token budget of a step"),
	NUM("max-batch", max_batch, 1, 1024, CONF_MAX_BATCH, "", "sequences in a step"),
	BYTES("kv-bytes", kv_bytes, 0, 64 * TB, 0, "KV cache of a model, 0: by free memory"),
	BYTES("mem-bytes", mem_bytes, 0, 64 * TB, 0, "weights and KV caches of all models, 0: by free memory"),
	NUM("oracle-us", oracle_us, 0, 1000000, 0, "us", "oracle backend: time a token takes"),
	TEXT("pool", CONF_POOL, pool, "auto", "where weights are kept: auto, module, hugetlbfs, tmpfs or private"),
	TEXT("pool-dir", CONF_TEXT, pool_dir, "", "directory of a hugetlbfs or tmpfs pool, when not the usual one"),
	BYTES("pool-bytes", pool_bytes, 0, 64 * TB, 0, "weights kept in memory, 0: by free memory"),
	NUM("detach-s", detach_s, 0, 31536000, 60, "s", "a model that nobody has open leaves the engine, and stays in the pool"),
	NUM("watchdog-ms", watchdog_ms, 0, 3600000, 10000, "ms", "an engine that makes no progress so long is killed, 0: never"),
	NUM("max-sessions", max_sessions, 1, PROC_MAX_SESSIONS, 1024, "", "sessions"),
	NUM("max-sessions-uid", max_sessions_uid, 1, PROC_MAX_SESSIONS, 256, "", "sessions of a user"),
	NUM("max-models", max_models, 1, WIRE_MAX_MODELS, 16, "", "resident models"),
	NUM("max-models-uid", max_models_uid, 1, WIRE_MAX_MODELS, 8, "", "resident models that one user loaded"),
	NUM("max-slots", max_slots, 1, RING_MAX_SLOTS, 256, "", "requests in flight in a session"),
	NUM("max-requests-uid", max_requests_uid, 1, 1000000, 4096, "", "requests of a user, running and queued"),
	BYTES("max-in-bytes", max_in_bytes, 64 * KB, RING_MAX_C_BYTES, 64 * MB, "shared memory a session may send through"),
	BYTES("max-out-bytes", max_out_bytes, 64 * KB, RING_MAX_D_BYTES, 256 * MB, "shared memory a session may receive through"),
	BYTES("max-shared-uid", max_shared_uid, 128 * KB, 64 * TB, 2 * GB, "shared memory of all sessions of a user"),
	NUM("handshake-ms", handshake_ms, 10, 3600000, 5000, "ms", "a session must be ready by then"),
	NUM("parse-ms", parse_ms, 10, 3600000, 30000, "ms", "a model file's header must be read by then, and a load make progress"),
	BYTES("parse-bytes", parse_bytes, 64 * MB, TB, 4 * GB, "address space of a parser"),
	NUM("exit-idle-s", exit_idle_s, 0, 31536000, 0, "s", "leave when nobody was connected so long, 0: never"),
	NUM("verbose", verbose, 0, 1, 0, "", "log more"),
	NUM("sandbox", sandbox, 0, 1, 1, "", "0 switches the sandboxes off, for debuggers"),
};
/* clang-format on */

/* In the order that auto tries them. */
const char *const pool_names[] = { "auto",  "module",  "hugetlbfs",
				   "tmpfs", "private", NULL };

static const size_t n_rows = sizeof(rows) / sizeof(rows[0]);

static uint64_t *num(const struct conf_row *r, const struct conf *c)
{
	return (uint64_t *)((char *)(uintptr_t)c + r->off);
}

static char *text(const struct conf_row *r, const struct conf *c)
{
	return (char *)(uintptr_t)c + r->off;
}

static void set_num(const struct conf_row *r, struct conf *c, uint64_t v)
{
	if (r->type == CONF_MODE)
		*(uint32_t *)(void *)text(r, c) = (uint32_t)v;
	else
		*num(r, c) = v;
}

static uint64_t get_num(const struct conf_row *r, const struct conf *c)
{
	if (r->type == CONF_MODE)
		return *(uint32_t *)(void *)text(r, c);
	return *num(r, c);
}

static int is_text(const struct conf_row *r)
{
	return r->type >= CONF_TEXT;
}

void conf_init(struct conf *c)
{
	size_t i;

	memset(c, 0, sizeof(*c));
	for (i = 0; i < n_rows; i++) {
		if (is_text(&rows[i]))
			snprintf(text(&rows[i], c), rows[i].size, "%s",
				 rows[i].text);
		else
			set_num(&rows[i], c, rows[i].def);
	}
}

static int shift_of(char suffix)
{
	switch (toupper((unsigned char)suffix)) {
	case 'K':
		return 10;
	case 'M':
		return 20;
	case 'G':
		return 30;
	case 'T':
		return 40;
	default:
		return -1;
	}
}

static int parse_num(const struct conf_row *r, const char *value, uint64_t *out,
		     char why[160])
{
	unsigned long long v;
	char *end;
	int shift = 0;

	if (!isdigit((unsigned char)value[0]))
		return say_why(why, -EINVAL, "%s: \"%.40s\" is not a number",
			       r->name, value);
	errno = 0;
	v = strtoull(value, &end, r->type == CONF_MODE ? 8 : 10);
	if (errno)
		return say_why(why, -ERANGE, "%s: \"%.40s\" is too large",
			       r->name, value);
	if (r->type == CONF_BYTES && *end) {
		shift = shift_of(*end++);
		if (shift < 0)
			return say_why(why, -EINVAL,
				       "%s: \"%.40s\" has an unknown suffix "
				       "(K, M, G or T)",
				       r->name, value);
	}
	if (*end)
		return say_why(why, -EINVAL, "%s: \"%.40s\" is not a number",
			       r->name, value);
	if (v > (UINT64_MAX >> shift))
		return say_why(why, -ERANGE, "%s: \"%.40s\" is too large",
			       r->name, value);
	v <<= shift;
	if (v < r->min || v > r->max)
		return say_why(why, -ERANGE,
			       "%s: %llu is out of range (%llu to %llu)",
			       r->name, v, (unsigned long long)r->min,
			       (unsigned long long)r->max);
	*out = v;
	return 0;
}

/* Looks like an index, a UUID or a PCI address; or is empty. */
static int is_gpu(const char *value)
{
	size_t digits = strspn(value, "0123456789");

	if (!value[digits])
		return digits <= 3;
	if (!strncasecmp(value, "GPU-", 4))
		return !value[4 + strspn(value + 4, "0123456789abcdefABCDEF-")];
	return strchr(value, ':') &&
	       !value[strspn(value, "0123456789abcdefABCDEF:.")];
}

static int check_text(const struct conf_row *r, const char *value,
		      char why[160])
{
	size_t i;

	if (strlen(value) >= r->size)
		return say_why(why, -ERANGE, "%s: longer than %u bytes",
			       r->name, r->size - 1u);
	if (r->type == CONF_GPU && !is_gpu(value))
		return say_why(why, -EINVAL,
			       "%s: no index, UUID or PCI address (%.40s)",
			       r->name, value);
	if (r->type == CONF_LAYERS && strcmp(value, "auto") &&
	    (!*value || value[strspn(value, "0123456789")]))
		return say_why(why, -EINVAL,
			       "%s: neither auto nor a number (%.40s)", r->name,
			       value);
	if (r->type == CONF_PROMPTS && strcmp(value, "exact") &&
	    strcmp(value, "fast"))
		return say_why(why, -EINVAL,
			       "%s: neither exact nor fast (%.40s)", r->name,
			       value);
	if (r->type == CONF_CPU && value[0] && cpu_level_parse(value) < 0)
		return say_why(why, -EINVAL, "%s: no such CPU level (%.40s)",
			       r->name, value);
	if (r->type == CONF_POOL) {
		for (i = 0; pool_names[i]; i++)
			if (!strcmp(pool_names[i], value))
				return 0;
		return say_why(why, -EINVAL, "%s: no such provider (%.40s)",
			       r->name, value);
	}
	if (r->type != CONF_BACKEND || backend_find(value))
		return 0;
	return say_why(why, -EINVAL, "%s: no such backend (%.40s)", r->name,
		       value);
}

int conf_set(struct conf *c, const char *name, const char *value, char why[160])
{
	const struct conf_row *r = NULL;
	uint64_t v = 0;
	size_t i;
	int err;

	for (i = 0; i < n_rows; i++)
		if (!strcmp(rows[i].name, name))
			r = &rows[i];
	if (!r)
		return say_why(why, -EINVAL,
			       "%.40s: no such option (hearthd --help lists "
			       "them)",
			       name);
	if (is_text(r)) {
		err = check_text(r, value, why);
		if (!err)
			snprintf(text(r, c), r->size, "%s", value);
		return err;
	}
	err = parse_num(r, value, &v, why);
	if (!err)
		set_num(r, c, v);
	return err;
}

/* Cut spaces off both ends. */
static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = 0;
	return s;
}

int conf_read(struct conf *c, const char *path, char why[160])
{
	char line[512];
	char msg[160];
	char *name;
	char *value;
	FILE *f;
	int err = 0;
	int n = 0;

	f = fopen(path, "re");
	if (!f) {
		err = -errno;
		return say_why(why, err, "%.100s: %s", path,
			       strerrordesc_np(-err));
	}
	while (!err && fgets(line, sizeof(line), f)) {
		n++;
		if (!strchr(line, '\n') && !feof(f)) {
			err = say_why(why, -EINVAL, "%.80s:%d: line too long",
				      path, n);
			break;
		}
		line[strcspn(line, "#")] = 0;
		name = trim(line);
		if (!*name)
			continue;
		value = name + strcspn(name, " \t");
		if (*value)
			*value++ = 0;
		err = conf_set(c, name, trim(value), msg);
		if (err)
			say_why(why, err, "%.60s:%d: %.80s", path, n, msg);
	}
	if (!err && ferror(f))
		err = say_why(why, -EIO, "%.100s: cannot be read", path);
	fclose(f);
	return err;
}

static void __attribute__((format(printf, 4, 5)))
add(char *buf, size_t n, size_t *at, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vsnprintf(*at < n ? buf + *at : NULL, *at < n ? n - *at : 0, fmt,
		      ap);
	va_end(ap);
	if (r > 0)
		*at += r;
}

static void add_value(char *buf, size_t n, size_t *at, const struct conf_row *r,
		      uint64_t v)
{
	if (r->type == CONF_MODE)
		add(buf, n, at, "%04llo", (unsigned long long)v);
	else
		add(buf, n, at, "%llu", (unsigned long long)v);
}

int conf_print(const struct conf *c, char *buf, size_t n)
{
	size_t at = 0;
	size_t i;

	if (n)
		buf[0] = 0;
	for (i = 0; i < n_rows; i++) {
		add(buf, n, &at, "%s ", rows[i].name);
		if (is_text(&rows[i]))
			add(buf, n, &at, "%s",
			    *text(&rows[i], c) ? text(&rows[i], c) : "-");
		else
			add_value(buf, n, &at, &rows[i], get_num(&rows[i], c));
		add(buf, n, &at, "%s%s\n", *rows[i].unit ? " " : "",
		    rows[i].unit);
	}
	return (int)at;
}

int conf_help(char *buf, size_t n)
{
	size_t at = 0;
	size_t i;

	if (n)
		buf[0] = 0;
	for (i = 0; i < n_rows; i++) {
		add(buf, n, &at, "  %-18s %s", rows[i].name, rows[i].what);
		add(buf, n, &at, " (");
		if (is_text(&rows[i])) {
			add(buf, n, &at, "%s",
			    *rows[i].text ? rows[i].text : "none");
		} else {
			add_value(buf, n, &at, &rows[i], rows[i].def);
			if (*rows[i].unit)
				add(buf, n, &at, " %s", rows[i].unit);
		}
		add(buf, n, &at, ")\n");
	}
	return (int)at;
}
