/* SPDX-License-Identifier: MIT */
/* main.c - hearthd: arguments, socket, and which process this is. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine.h"
#include "listen.h"
#include "loader.h"
#include "log.h"
#include "monitor.h"
#include "notify.h"
#include "sandbox.h"
#include "spawn.h"

#define CONF_FILE   "/etc/hearth/hearth.conf"
#define FDS_SESSION 5 /* descriptors of one session: socket, C, D, eventfds */
#define FDS_REST    256

static void usage(void)
{
	static char buf[16384];

	conf_help(buf, sizeof(buf));
	printf("usage: hearthd [-c file] [-o name=value]... [--socket path] "
	       "[-v] [--version] [-h]\n\n"
	       "  -c, --config FILE  read options from FILE (%s)\n"
	       "  -o NAME=VALUE      set an option\n"
	       "  --socket PATH      the same as -o socket=PATH\n"
	       "  -v, --verbose      log more\n"
	       "  --version          print the version\n"
	       "  -h, --help         this text\n\n"
	       "options and their defaults:\n%s",
	       CONF_FILE, buf);
}

/* Trying again, as systemd does after a failure, would not help. */
static void __attribute__((noreturn, format(printf, 1, 2)))
wrong(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_warnx("%s", text);
	exit(2);
}

static void set(struct conf *c, char *arg)
{
	char *eq = strchr(arg, '=');
	char why[160];

	if (!eq)
		wrong("-o %s: must be name=value", arg);
	*eq = 0;
	if (conf_set(c, arg, eq + 1, why))
		wrong("-o %s", why);
	*eq = '='; /* as ps shows it */
}

static const struct option longs[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "socket", required_argument, NULL, 's' },
	{ "verbose", no_argument, NULL, 'v' },
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static int next_arg(int argc, char **argv)
{
	return getopt_long(argc, argv, "c:o:vh", longs, NULL);
}

/* The file to read, if any. Help and version want nothing else. */
static const char *first_look(int argc, char **argv)
{
	const char *path = NULL;
	int o;

	while ((o = next_arg(argc, argv)) != -1) {
		switch (o) {
		case 'c':
			path = optarg;
			break;
		case 'V':
			printf("hearthd %s\n", HEARTH_VERSION);
			exit(0);
		case 'h':
			usage();
			exit(0);
		case '?':
			wrong("wrong usage; hearthd --help lists the options");
		}
	}
	if (optind < argc)
		wrong("argument not understood (%s)", argv[optind]);
	return path;
}

/* The file first, whatever the order of the arguments. */
static void parse_args(struct conf *c, int argc, char **argv)
{
	const char *path = first_look(argc, argv);
	char why[160];
	int o;

	if (!path && !geteuid() && !access(CONF_FILE, F_OK))
		path = CONF_FILE;
	if (path && conf_read(c, path, why))
		wrong("%s", why);
	optind = 0; /* once more */
	while ((o = next_arg(argc, argv)) != -1) {
		switch (o) {
		case 'o':
			set(c, optarg);
			break;
		case 's':
			if (conf_set(c, "socket", optarg, why))
				wrong("--%s", why);
			break;
		case 'v':
			c->verbose = 1;
			break;
		}
	}
}

/* As many descriptors as may be, and no more sessions than they allow. */
static void raise_limits(struct conf *c)
{
	struct rlimit r;
	uint64_t room;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r))
		return;
	room = r.rlim_cur > FDS_REST ? (r.rlim_cur - FDS_REST) / FDS_SESSION
				     : 1;
	if (r.rlim_cur == RLIM_INFINITY || room >= c->max_sessions)
		return;
	log_info("limits: %llu open files allow %llu sessions, not %llu",
		 (unsigned long long)r.rlim_cur, (unsigned long long)room,
		 (unsigned long long)c->max_sessions);
	c->max_sessions = room;
}

static int run_monitor(int argc, char **argv)
{
	static const struct mon_ops ops = { .spawn = spawn,
					    .kill = spawn_kill,
					    .wait = spawn_wait };
	struct conf conf;
	struct listen ln;
	struct mon *m;
	char why[256];
	int err;

	conf_init(&conf);
	parse_args(&conf, argc, argv);
	log_init("hearthd", (int)conf.verbose);
	prctl(PR_SET_NAME, "hearthd");
	signal(SIGPIPE, SIG_IGN);
	notify_init();
	raise_limits(&conf);
	err = spawn_init();
	if (err)
		fatal(err, "start: /proc/self/exe");
	err = listen_open(&ln, &conf, why);
	if (err)
		fatalx("%s", why);
	if (mon_new(&m, &conf, &ops, ln.fd, why))
		fatalx("%s", why);
	err = sandbox_user(&m->child_conf);
	if (err)
		fatal(err, "start: no user %s, nor nobody", conf.user);
	log_info("hearthd %s: listening (%s)", HEARTH_VERSION, conf.socket);
	err = mon_run(m);
	notify("STOPPING=1\nSTATUS=leaving");
	mon_free(m);
	listen_close(&ln);
	if (err)
		fatal(err, "leaving: the engine cannot be kept running");
	return 0;
}

static int run_child(const char *mode)
{
	struct conf conf;
	int err = spawn_conf(&conf);

	/* libhearth starts a parser of its own to look into a file, with
	 * nothing but the socket */
	if (err == -EBADF && !strcmp(mode, "--parser")) {
		conf_init(&conf);
		err = sandbox_user(&conf);
	}
	if (err)
		fatalx("%s: is for hearthd itself", mode);
	close(SPAWN_CONF_FD);
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(mode, "--engine")) {
		log_init("engine", (int)conf.verbose);
		prctl(PR_SET_NAME, "hearthd-engine");
		engine_main(&conf, PROC_FD, SPAWN_STATS_FD);
	}
	if (!strcmp(mode, "--loader")) {
		log_init("loader", (int)conf.verbose);
		prctl(PR_SET_NAME, "hearthd-loader");
		loader_main(&conf, PROC_FD);
	}
	log_init("parser", (int)conf.verbose);
	prctl(PR_SET_NAME, "hearthd-parser");
	err = sandbox_drop(&conf, SANDBOX_PARSER);
	if (!err)
		err = sandbox_filter(&conf, SANDBOX_PARSER);
	if (err)
		fatal(err, "start: sandbox");
	parser_main(&conf, PROC_FD);
}

int main(int argc, char **argv)
{
	if (argc == 2 &&
	    (!strcmp(argv[1], "--engine") || !strcmp(argv[1], "--parser") ||
	     !strcmp(argv[1], "--loader")))
		return run_child(argv[1]);
	return run_monitor(argc, argv);
}
