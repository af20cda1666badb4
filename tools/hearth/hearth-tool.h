/* SPDX-License-Identifier: MIT */
/*
 * hearth-tool.h - what the verbs of hearth(1) share.
 *
 * Exit codes of the tool: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
 * Errors are one sentence on stderr that begins with "hearth: "; results go
 * to stdout and nowhere else.
 */
#ifndef HEARTH_TOOL_H
#define HEARTH_TOOL_H

#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <hearth.h>

struct json_t;

enum tool_exit {
	EXIT_OK = 0,
	EXIT_FAIL = 1,
	EXIT_USAGE = 2,
	EXIT_INTR = 130,
};

#define TOOL_PATH    4096
#define N_ELEM(a)    (sizeof(a) / sizeof((a)[0]))
#define PRINTF(a, b) __attribute__((format(printf, a, b)))

/* ------------------------------------------------------- options (opt.c) */

enum opt_type {
	OPT_END,
	OPT_FLAG, /* bool */
	OPT_U64,
	OPT_F32,  /* float */
	OPT_STR,  /* const char * */
	OPT_STRS, /* struct strs, repeatable */
};

#define STRS_MAX 16

struct strs {
	size_t n;
	const char *v[STRS_MAX];
};

/**
 * struct opt - one option of a verb: a row of its table
 * @c:    one-letter form, 0 for none
 * @name: long form without the dashes
 * @arg:  what its value is called, NULL for a flag
 * @off:  where the value goes in the verb's argument struct
 * @min, @max: range of numbers
 * @help: half a sentence; help text, completion and the man page's test read it
 */
struct opt {
	char c;
	const char *name;
	const char *arg;
	enum opt_type type;
	size_t off;
	double min;
	double max;
	const char *help;
};

/**
 * struct cmd - one verb: a row of cmd.def and the table of its options
 */
struct cmd {
	const char *name;
	int (*fn)(const struct cmd *c, int argc, char **argv);
	const struct opt *opts;
	const char *args;
	const char *summary;
};

#define CMD(name, args, summary)                                    \
	int cmd_##name(const struct cmd *c, int argc, char **argv); \
	extern const struct opt opts_##name[];
#include "cmd.def"
#undef CMD

extern const struct cmd cmds[]; /* ends with a row whose name is NULL */

const struct cmd *cmd_find(const char *name); /* NULL: there is none */
int cmd_unknown(const char *name);	      /* says so, with near names */
void tool_overview(FILE *f);

/* All of main(), so that tests can call it. */
int tool_main(int argc, char **argv);

/* Sort argv into options (written to @args) and the rest, which is moved to
 * the front of argv. Returns how many those are, or -1 after an error text. */
int opt_parse(const struct cmd *c, void *args, int argc, char **argv);
/* Set one option from text, as /set does; prints nothing, says why. */
int opt_set(const struct opt *o, void *args, const char *value, char why[160]);
const struct opt *opt_find(const struct opt *opts, const char *name);
/* The option's value as text. */
void opt_show(const struct opt *o, const void *args, char *buf, size_t n);
void opt_help(const struct cmd *c, FILE *f);
int tool_usage(const struct cmd *c, const char *fmt, ...) PRINTF(2, 3);
/* Names of a list that are near to a mistyped one: "a, b" or "". */
void near_names(const char *name, const char *const *list, size_t n, char *buf,
		size_t max);

/* ------------------------------------------------------ terminal (term.c) */

enum term_style {
	STYLE_NONE,
	STYLE_BOLD,
	STYLE_DIM,
	STYLE_PROMPT,
};

extern volatile sig_atomic_t tool_interrupted;

void term_init(void);
/* Catch SIGINT: sets tool_interrupted; a second one ends the process. */
void term_catch_int(void);
bool term_is_tty(int fd);
int term_width(void); /* of stderr, or 80 */
/* Escape sequence for @f, or "" where there are to be no colours. */
const char *term_style(FILE *f, enum term_style s);
void tool_err(const char *fmt, ...) PRINTF(1, 2);
void tool_note(const char *fmt, ...) PRINTF(1, 2); /* same, not a failure */
/* Flush stdout and say if that failed. Returns 0 or EXIT_FAIL. */
int tool_flush(void);

/**
 * struct progress - a bar on stderr with rate and time left
 *
 * On a terminal one line is redrawn ten times a second; elsewhere a line is
 * printed every few seconds, so that logs show life and stay short.
 */
struct progress {
	const char *what;
	bool bytes; /* else counts of @unit */
	const char *unit;
	uint64_t start_ns;
	uint64_t shown_ns;
	uint64_t first;	   /* amount that was there at the start */
	uint64_t delay_ns; /* show nothing before */
	bool on;
};

void progress_start(struct progress *p, const char *what, const char *unit,
		    uint64_t first, uint64_t delay_ns);
void progress_update(struct progress *p, uint64_t done, uint64_t total);
/* Remove the bar; with @keep leave a last line with the whole amount. */
void progress_end(struct progress *p, uint64_t done, bool keep);

/* ------------------------------------------------------- formats (fmt.c) */

uint64_t now_ns(void);
char *fmt_size(char buf[32], uint64_t n); /* "92.9 MB": powers of 1000 */
char *fmt_dur(char buf[32], uint64_t ns); /* "1.23 s" */
char *fmt_hex(char buf[65], const uint8_t digest[32]);
char *fmt_count(char buf[32], uint64_t n);  /* "134.5 M" */
char *fmt_rate(char buf[32], double per_s); /* three digits */

#define TABLE_COLS 10

/* A table: cells are copied; right-aligned columns are named by a bit. */
struct table {
	const char *head[TABLE_COLS];
	size_t n_cols;
	unsigned right;
	char **cell;
	size_t n_cells;
	size_t max_cells;
};

void table_init(struct table *t, const char *const *head, size_t n,
		unsigned right);
void table_cell(struct table *t, const char *fmt, ...) PRINTF(2, 3);
void table_print(struct table *t, FILE *f);
void table_fini(struct table *t);

/* Growing string; never fails but by ending the process. */
struct str {
	char *p;
	size_t n;
	size_t max;
};

void str_add(struct str *s, const char *p, size_t n);
void str_addf(struct str *s, const char *fmt, ...) PRINTF(2, 3);
void str_free(struct str *s);
void *xrealloc(void *p, size_t n, size_t size);
char *xstrdup(const char *s);
char *xvasprintf(const char *fmt, va_list ap) PRINTF(1, 0);

/* ----------------------------------------------------- daemon (daemon.c) */

#define TOOL_START 1u /* start a private daemon when none runs */
#define TOOL_QUIET 2u /* no error text when there is none */

extern const char *tool_socket; /* --socket */

/* Connect, see the flags. Returns 0 or -errno after an error text. */
int tool_connect(struct hearth **h, unsigned flags);
/* The log of a private daemon on this socket; false if there is none. */
bool tool_log(char path[TOOL_PATH]);
/* Connect for these models; a daemon is started only if they exist. */
int tool_connect_for(struct hearth **h, const char *const *name, size_t n);
/* Load a model with a progress bar; says what is wrong, with near names. */
int tool_load(struct hearth *h, struct hearth_model **m, const char *name,
	      uint32_t n_ctx, bool bar);
/* Open a model file's head, no daemon needed. */
int tool_open_file(struct hearth_model **m, const char *name);
/* Resident model that @name means. Returns 0 or -ENOENT. */
int tool_resident(struct hearth *h, const char *name,
		  struct hearth_model_info *info);
/* All resident models: returns how many, *out is malloc()ed, or -errno. */
int tool_list(struct hearth *h, struct hearth_model_info **out);
const char *model_state_name(uint32_t state);
/* The value of a "name value" line of the daemon's counters; "" if none. */
void tool_stat(const char *text, const char *name, char *out, size_t n);
/* Explain that there is no such model; @near is what the library found. */
void tool_no_model(const char *name, const char *near);

/* ------------------------------------------------------------------ other */

/* Round trips through the rings beside a unix socket (bench_ipc.c). */
int bench_ipc(struct hearth *h, uint64_t n, bool json);
/* Memory read bandwidth by thread count, and a GPU: @device as for bench_gpu(),
 * or "none" (bench_hw.c). */
int bench_hw(const char *device, uint64_t bytes, bool json);
/* A GPU by index, UUID or PCI address; NULL: the first, if any. @bytes of a
 * buffer on it, 0 for enough. *out is what was found, NULL without a GPU.
 * Returns 0 or -errno after an error text (bench_gpu.c). */
int bench_gpu(const char *device, uint64_t bytes, bool json,
	      struct json_t **out);
/* Best read rate in bytes a second, measured in about @ms; 0 on failure. */
double bench_read_rate(unsigned threads, unsigned ms);

#endif
