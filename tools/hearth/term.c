/* SPDX-License-Identifier: MIT */
/*
 * term.c - the terminal: styles, width, error lines, progress bars, Ctrl-C.
 */
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "hearth-tool.h"

volatile sig_atomic_t tool_interrupted;

static bool tty[3];
static bool colours;
static bool bar_shown; /* a bar stands on the current line of stderr */

void term_init(void)
{
	const char *no = getenv("NO_COLOR");
	const char *kind = getenv("TERM");
	int fd;

	/* A closed 0, 1 or 2 must not become a socket: give it something that
	 * fails to write. */
	for (fd = 0; fd < 3; fd++) {
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			_exit(EXIT_FAIL);
		tty[fd] = isatty(fd);
	}
	colours = !(no && *no) && kind && strcmp(kind, "dumb");
	/* Numbers stay in the C locale: JSON and options depend on it. */
	setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8"))
		setlocale(LC_CTYPE, "C.UTF-8");
	/* Too large a file is an error to report, not a death. */
	signal(SIGXFSZ, SIG_IGN);
}

static void on_int(int sig)
{
	(void)sig;
	if (tool_interrupted) {
		signal(SIGINT, SIG_DFL);
		raise(SIGINT);
	}
	tool_interrupted = 1;
}

void term_catch_int(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_int;
	sigemptyset(&sa.sa_mask);
	tool_interrupted = 0;
	sigaction(SIGINT, &sa, NULL);
}

bool term_is_tty(int fd)
{
	return fd >= 0 && fd < 3 && tty[fd];
}

int term_width(void)
{
	struct winsize w;

	if (ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20)
		return w.ws_col;
	return 80;
}

const char *term_style(FILE *f, enum term_style s)
{
	static const char *const code[] = {
		[STYLE_NONE] = "\033[0m",
		[STYLE_BOLD] = "\033[1m",
		[STYLE_DIM] = "\033[2m",
		[STYLE_PROMPT] = "\033[1;33m",
	};
	int fd = f == stderr ? 2 : 1;

	return colours && tty[fd] ? code[s] : "";
}

static void clear_bar(void)
{
	if (bar_shown)
		fputs("\r\033[K", stderr);
	bar_shown = false;
}

static void say(const char *fmt, va_list ap)
{
	/* What was printed comes first, also when both are one file. */
	fflush(stdout);
	clear_bar();
	fputs("hearth: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

void tool_err(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
}

void tool_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
}

int tool_flush(void)
{
	int err;

	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	err = errno;
	if (err != EPIPE)
		tool_err("standard output: %s",
			 err ? strerror(err) : "write failed");
	return EXIT_FAIL;
}

/* ---------------------------------------------------------------- progress */

#define REDRAW_NS 100000000ull
#define LINE_NS	  5000000000ull

void progress_start(struct progress *p, const char *what, const char *unit,
		    uint64_t first, uint64_t delay_ns)
{
	memset(p, 0, sizeof(*p));
	p->what = what;
	p->unit = unit;
	p->bytes = !unit;
	p->first = first;
	p->delay_ns = delay_ns;
	p->start_ns = now_ns();
	p->shown_ns = p->start_ns;
}

static char *amount(const struct progress *p, char buf[32], uint64_t n)
{
	if (p->bytes)
		return fmt_size(buf, n);
	snprintf(buf, 32, "%llu", (unsigned long long)n);
	return buf;
}

static double rate(const struct progress *p, uint64_t done)
{
	double s = (double)(now_ns() - p->start_ns) / 1e9;

	return s > 0 && done > p->first ? (double)(done - p->first) / s : 0;
}

static void show_eta(char *buf, size_t n, double s)
{
	char dur[32];

	if (s < 60)
		snprintf(buf, n, "  %d s left", (int)s + 1);
	else if (s < 100 * 3600)
		snprintf(buf, n, "  %s left",
			 fmt_dur(dur, (uint64_t)s * 1000000000u));
}

static void show_bar(int width, double part)
{
	int full = (int)(width * part), i;

	fputc('[', stderr);
	for (i = 0; i < width; i++)
		fputc(i < full ? '#' : '.', stderr);
	fputc(']', stderr);
}

/* "what [####....] 12 MB/92 MB  31 MB/s  3 s left", as much as fits */
static void draw(struct progress *p, uint64_t done, uint64_t total)
{
	char a[32], b[32], r[32], line[256], eta[48] = "";
	double per_s = rate(p, done);
	int w = term_width() - 1, what = (int)strlen(p->what), bar, n;

	if (per_s > 0 && total > done)
		show_eta(eta, sizeof(eta), (double)(total - done) / per_s);
	n = snprintf(
		line, sizeof(line), " %s%s%s%s%s  %s/s%s", amount(p, a, done),
		total ? "/" : "", total ? amount(p, b, total) : "",
		p->bytes ? "" : " ", p->bytes ? "" : p->unit,
		p->bytes ? fmt_size(r, (uint64_t)per_s) : fmt_rate(r, per_s),
		eta);
	/* A long name gives way before the numbers do. */
	if (what > w - n - 1)
		what = w - n - 1 > 4 ? w - n - 1 : 4;
	bar = w - what - n - 3;
	fprintf(stderr, "\r\033[K%.*s ", what, p->what);
	if (total && bar >= 8)
		show_bar(bar > 40 ? 40 : bar, (double)done / (double)total);
	fprintf(stderr, "%.*s", w - what - 1 > 0 ? w - what - 1 : 0, line);
	fflush(stderr);
	bar_shown = true;
}

void progress_update(struct progress *p, uint64_t done, uint64_t total)
{
	uint64_t now = now_ns();
	char a[32], b[32];

	if (now - p->start_ns < p->delay_ns)
		return;
	if (tty[2]) {
		if (p->on && now - p->shown_ns < REDRAW_NS)
			return;
		draw(p, done, total);
	} else {
		if (now - p->shown_ns < LINE_NS)
			return;
		fprintf(stderr, "%s: %s", p->what, amount(p, a, done));
		if (total)
			fprintf(stderr, " of %s (%d %%)", amount(p, b, total),
				(int)(100.0 * (double)done / (double)total));
		fputc('\n', stderr);
	}
	p->shown_ns = now;
	p->on = true;
}

void progress_end(struct progress *p, uint64_t done, bool keep)
{
	char a[32], b[32], c[32];
	uint64_t ns = now_ns() - p->start_ns;

	clear_bar();
	if (!keep)
		return;
	fprintf(stderr, "%s: %s%s%s in %s (%s/s)\n", p->what,
		amount(p, a, done), p->bytes ? "" : " ",
		p->bytes ? "" : p->unit, fmt_dur(b, ns),
		p->bytes ? fmt_size(c, (uint64_t)rate(p, done))
			 : fmt_rate(c, rate(p, done)));
}
