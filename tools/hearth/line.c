/* SPDX-License-Identifier: MIT */
/*
 * line.c - line editing on libedit.
 *
 * Characters are read here, not by libedit, for two reasons: Ctrl-C must come
 * back at once, and a pasted text (terminals mark it when asked to) must not
 * be sent at its first line end. Line ends inside a paste become a visible
 * stand-in while editing and are turned back afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "line.h"

#define STAND_IN      L'\u2424' /* SYMBOL FOR NEWLINE */
#define STAND_IN_UTF8 "\xe2\x90\xa4"
#define HISTORY_LINES 1000
#define ESC	      27

struct line {
	EditLine *el;
	History *hist;
	const char *const *commands;
	const char *prompt;
	int in; /* standard input once more, not blocking where that can be */
	char file[4096];
	bool paste;
	unsigned char ahead[8]; /* bytes read and not yet given out */
	unsigned n_ahead;
	bool intr;
};

/* ------------------------------------------------------------- characters */

/*
 * False: Ctrl-C. It may come between the look and the wait, and it takes away
 * what was there to be read.
 */
static bool wait_input(const struct line *l)
{
	struct pollfd p = { .fd = l->in, .events = POLLIN };
	sigset_t intr, old;

	sigemptyset(&intr);
	sigaddset(&intr, SIGINT);
	sigprocmask(SIG_BLOCK, &intr, &old);
	while (!tool_interrupted && ppoll(&p, 1, NULL, &old) < 0 &&
	       errno == EINTR)
		;
	sigprocmask(SIG_SETMASK, &old, NULL);
	return !tool_interrupted;
}

static int read_byte(struct line *l)
{
	unsigned char c;
	ssize_t n;

	if (l->n_ahead) {
		c = l->ahead[0];
		memmove(l->ahead, l->ahead + 1, --l->n_ahead);
		return c;
	}
	do {
		if (!wait_input(l)) {
			l->intr = true;
			return -1;
		}
		n = read(l->in, &c, 1);
	} while (n < 0 && (errno == EINTR || errno == EAGAIN));
	return n == 1 ? c : -1;
}

/* After ESC: is it the mark of a paste? Bytes that are not go back. */
static bool read_mark(struct line *l)
{
	static const char tail[] = "[200~";
	struct pollfd p = { .fd = l->in, .events = POLLIN };
	unsigned char seen[8];
	unsigned n = 0;
	int c;

	while (n < 5) {
		if (!l->n_ahead && poll(&p, 1, 20) <= 0)
			break;
		c = read_byte(l);
		if (c < 0)
			break;
		seen[n++] = (unsigned char)c;
		/* "[201~" differs from "[200~" in one place only. */
		if (c != tail[n - 1] && !(n == 4 && c == '1'))
			break;
	}
	if (n == 5 && seen[4] == '~') {
		l->paste = seen[3] == '0';
		return true;
	}
	memmove(l->ahead + n, l->ahead, l->n_ahead);
	memcpy(l->ahead, seen, n);
	l->n_ahead += n;
	return false;
}

static int decode(struct line *l, int c, wchar_t *out)
{
	int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
	uint32_t v = more == 3	 ? (uint32_t)c & 7
		     : more == 2 ? (uint32_t)c & 15
		     : more == 1 ? (uint32_t)c & 31
				 : (uint32_t)c;

	while (more-- > 0) {
		c = read_byte(l);
		if (c < 0)
			return c;
		v = v << 6 | ((uint32_t)c & 63);
	}
	*out = (wchar_t)v;
	return 1;
}

/* -------------------------------------------------------------- completion */

/* Tab: finish the command that the line begins with, as far as it is clear.
 * Done here because libedit never frees the functions it is given. */
static void complete(struct line *l)
{
	const LineInfo *li = el_line(l->el);
	size_t n = (size_t)(li->cursor - li->buffer), k = 0;
	const char *found = NULL;
	char rest[64];
	unsigned hits = 0, i;

	for (i = 0; n && l->commands[i]; i++) {
		if (strncmp(l->commands[i], li->buffer, n))
			continue;
		if (!hits++) {
			found = l->commands[i];
			k = strlen(found);
		}
		while (strncmp(found, l->commands[i], k))
			k--;
	}
	if (!found || k <= n)
		return;
	snprintf(rest, sizeof(rest), "%.*s%s", (int)(k - n), found + n,
		 hits == 1 ? " " : "");
	el_insertstr(l->el, rest);
	el_set(l->el, EL_REFRESH);
}

static int get_char(EditLine *el, wchar_t *out)
{
	struct line *l;
	int c;

	el_get(el, EL_CLIENTDATA, &l);
	for (;;) {
		c = read_byte(l);
		if (c < 0)
			return l->intr ? -1 : 0;
		if (c == ESC && l->n_ahead + 6 < sizeof(l->ahead) &&
		    read_mark(l))
			continue;
		if (l->paste && (c == '\n' || c == '\r')) {
			*out = STAND_IN;
			return 1;
		}
		if (l->paste && c == '\t')
			c = ' ';
		if (c == '\t') {
			complete(l);
			continue;
		}
		return decode(l, c, out);
	}
}

static char *give_prompt(EditLine *el)
{
	struct line *l;

	el_get(el, EL_CLIENTDATA, &l);
	return (char *)l->prompt;
}

/* ----------------------------------------------------------------- history */

/* $HEARTH_HISTORY, or a file of the state directory; empty switches it off. */
static void find_history(struct line *l)
{
	const char *set = getenv("HEARTH_HISTORY");
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char dir[4096];

	if (set) {
		snprintf(l->file, sizeof(l->file), "%s", set);
		return;
	}
	if (state && *state == '/')
		snprintf(dir, sizeof(dir), "%.4000s", state);
	else if (home && *home == '/')
		snprintf(dir, sizeof(dir), "%.4000s/.local/state", home);
	else
		return;
	/* ~/.local and ~/.local/state may both be missing. */
	if (!state && home) {
		char up[4096];

		snprintf(up, sizeof(up), "%.4000s/.local", home);
		mkdir(up, 0700);
	}
	mkdir(dir, 0700);
	strcat(dir, "/hearth");
	mkdir(dir, 0700);
	snprintf(l->file, sizeof(l->file), "%.4080s/history", dir);
}

void line_remember(struct line *l, const char *text)
{
	struct str s = { 0 };
	HistEvent ev;

	for (; *text; text++)
		if (*text == '\n')
			str_add(&s, STAND_IN_UTF8, 3);
		else
			str_add(&s, text, 1);
	if (s.n)
		history(l->hist, &ev, H_ENTER, s.p);
	str_free(&s);
}

/* ------------------------------------------------------------------- lines */

int line_open(struct line **out, const char *const *commands)
{
	struct line *l = xrealloc(NULL, 1, sizeof(*l));
	HistEvent ev;

	memset(l, 0, sizeof(*l));
	*out = NULL;
	l->commands = commands;
	l->prompt = "";
	l->in = open("/proc/self/fd/0",
		     O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (l->in < 0)
		l->in = 0;
	l->el = el_init("hearth", stdin, term_is_tty(1) ? stdout : stderr,
			stderr);
	l->hist = history_init();
	if (!l->el || !l->hist) {
		line_close(&l);
		tool_err("the terminal cannot be set up");
		return -ENOMEM;
	}
	el_set(l->el, EL_CLIENTDATA, l);
	el_set(l->el, EL_PROMPT_ESC, give_prompt, '\1');
	el_set(l->el, EL_EDITOR, "emacs");
	el_set(l->el, EL_SIGNAL, 0);
	el_set(l->el, EL_GETCFN, get_char);
	el_set(l->el, EL_HIST, history, l->hist);
	el_set(l->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_source(l->el, NULL); /* the user's ~/.editrc */
	history(l->hist, &ev, H_SETSIZE, HISTORY_LINES);
	history(l->hist, &ev, H_SETUNIQUE, 1);
	find_history(l);
	if (*l->file)
		history(l->hist, &ev, H_LOAD, l->file);
	*out = l;
	return 0;
}

void line_close(struct line **lp)
{
	struct line *l = *lp;
	HistEvent ev;

	if (!l)
		return;
	if (l->hist && *l->file && history(l->hist, &ev, H_SAVE, l->file) >= 0)
		chmod(l->file, 0600);
	if (l->el)
		el_end(l->el);
	if (l->hist)
		history_end(l->hist);
	if (l->in > 0)
		close(l->in);
	free(l);
	*lp = NULL;
}

static void add_line(struct str *s, const char *p, size_t n)
{
	const char *end = p + n, *mark;

	while ((mark = memmem(p, (size_t)(end - p), STAND_IN_UTF8, 3))) {
		str_add(s, p, (size_t)(mark - p));
		str_add(s, "\n", 1);
		p = mark + 3;
	}
	str_add(s, p, (size_t)(end - p));
}

/* libedit shows its prompt first: what is typed at once would be a line's. */
static void by_character(void)
{
	struct termios t;

	if (tcgetattr(0, &t))
		return;
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	tcsetattr(0, TCSADRAIN, &t);
}

static void ask_marks(bool on)
{
	FILE *f = term_is_tty(1) ? stdout : stderr;

	if (!*term_style(f, STYLE_BOLD))
		return; /* no terminal, or a dumb one */
	fputs(on ? "\033[?2004h" : "\033[?2004l", f);
	fflush(f);
}

enum line_end line_read(struct line *l, const char *prompt, struct str *s)
{
	const LineInfo *li;
	const char *p;
	int n = 0;

	s->n = 0;
	str_add(s, "", 0);
	l->prompt = prompt;
	l->intr = false;
	l->paste = false;
	tool_interrupted = 0;
	by_character();
	ask_marks(true);
	p = el_gets(l->el, &n);
	ask_marks(false);
	if (l->intr) {
		li = el_line(l->el);
		str_add(s, li->buffer, (size_t)(li->lastchar - li->buffer));
		el_reset(l->el);
		tool_interrupted = 0;
		return LINE_INTR;
	}
	if (!p || n <= 0)
		return LINE_EOF;
	while (n > 0 && (p[n - 1] == '\n' || p[n - 1] == '\r'))
		n--;
	add_line(s, p, (size_t)n);
	return LINE_OK;
}
