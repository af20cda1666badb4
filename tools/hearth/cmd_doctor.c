/* SPDX-License-Identifier: MIT */
/*
 * cmd_doctor.c - hearth doctor: what this machine has, what Hearth does with
 * it, and one command for each thing that could be better.
 *
 * Works without a daemon and as any user, and changes nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "../../daemon/gpu.h"
#include "doctor.h"

struct args {
	bool json;
};

/* clang-format off */
const struct opt opts_doctor[] = {
	{ 0, "json", NULL, OPT_FLAG, offsetof(struct args, json), 0, 0,
	  "print a JSON object" },
	{ .type = OPT_END },
};
/* clang-format on */

static void running(struct doctor *d, const char *stats)
{
	char version[32], pid[16], engine[16], starts[16], up[24], dur[32];
	char log[TOOL_PATH];
	unsigned long again;
	bool other;

	tool_stat(stats, "version", version, sizeof(version));
	tool_stat(stats, "pid", pid, sizeof(pid));
	tool_stat(stats, "engine_pid", engine, sizeof(engine));
	tool_stat(stats, "engine_starts", starts, sizeof(starts));
	tool_stat(stats, "uptime_s", up, sizeof(up));
	again = strtoul(starts, NULL, 10);
	again -= again > 0;
	other = strcmp(version, HEARTH_VERSION);
	fmt_dur(dur, strtoull(up, NULL, 10) * 1000000000u);
	doctor_say(
		d, other || again ? DOCTOR_WARN : DOCTOR_OK, "daemon", NULL,
		"hearthd %s%s, pid %s, up %s; engine %s, restarted %lu time%s",
		version, other ? " (not this tool's version)" : "", pid, dur,
		engine, again, again == 1 ? "" : "s");
	if (other)
		doctor_fix(d, "systemctl restart hearthd");
	else if (again && tool_log(log))
		doctor_fix(d, "grep engine %.180s", log);
	else if (again)
		doctor_fix(d, "journalctl -u hearthd -g engine");
}

/* Leaves in @pool what the daemon says about its pool; "" if it does not. */
static void ask_daemon(struct doctor *d, char *pool, size_t n)
{
	char stats[16384];
	struct hearth *h = NULL;
	int rc;

	pool[0] = 0;
	rc = tool_connect(&h, TOOL_QUIET);
	if (rc == -ENOENT || rc == -ECONNREFUSED) {
		doctor_say(d, DOCTOR_OK, "daemon", NULL,
			   "none runs; hearth run starts a private one");
		return;
	}
	if (!rc)
		rc = hearth_stats(h, stats, sizeof(stats));
	if (rc < 0) {
		doctor_say(d, DOCTOR_FAIL, "daemon",
			   "systemctl restart hearthd",
			   "does not answer as it should: %s", hearth_error(h));
	} else {
		running(d, stats);
		tool_stat(stats, "pool_text", pool, n);
	}
	if (h)
		hearth_close(&h);
}

static void ask_gpus(struct doctor *d)
{
	struct gpu g[GPU_MAX];
	char text[256];
	int n = gpu_list(g, GPU_MAX);
	int i;

	if (n < 0)
		doctor_say(d, DOCTOR_WARN, "gpu", NULL, "cannot be listed: %s",
			   strerror(-n));
	for (i = 0; i < n; i++) {
		gpu_print(&g[i], text, sizeof(text));
		doctor_say(d, DOCTOR_OK, "gpu", NULL, "%s: %s", text,
			   g[i].serves);
	}
	/* NVIDIA's own driver tells DRM only through a module of its own. */
	if (!n && !access("/dev/nvidiactl", F_OK))
		doctor_say(d, DOCTOR_WARN, "gpu", "modprobe nvidia-drm",
			   "an NVIDIA driver is loaded, but DRM has no device "
			   "of it; cpu backend");
	else if (!n)
		doctor_say(d, DOCTOR_OK, "gpu", NULL,
			   "none that DRM knows; cpu backend");
}

static void print_text(const struct doctor *d)
{
	const struct doctor_line *l;
	const char *style, *off = term_style(stdout, STYLE_NONE);

	for (l = d->line; l < d->line + d->n; l++) {
		style = l->level == DOCTOR_OK ? ""
					      : term_style(stdout, STYLE_BOLD);
		printf("%s%-4s%s  %-10s  %s\n", style,
		       doctor_level_names[l->level], *style ? off : "", l->name,
		       l->text);
		if (*l->fix)
			printf("                  $ %s\n", l->fix);
	}
}

static void print_json(const struct doctor *d, bool good)
{
	const struct doctor_line *l;
	json_t *list = json_array();
	json_t *o;

	for (l = d->line; l < d->line + d->n; l++) {
		o = json_pack("{s:s, s:s, s:s}", "name", l->name, "level",
			      doctor_level_names[l->level], "text", l->text);
		if (o && *l->fix)
			json_object_set_new(o, "fix", json_string(l->fix));
		json_array_append_new(list, o);
	}
	o = json_pack("{s:b, s:o}", "ok", good, "checks", list);
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
}

int cmd_doctor(const struct cmd *c, int argc, char **argv)
{
	struct args a = { 0 };
	struct doctor *d;
	char pool[256];
	bool good = true;
	int n = opt_parse(c, &a, argc, argv);
	size_t i;

	if (n < 0)
		return EXIT_USAGE;
	if (n)
		return tool_usage(c, "takes no arguments");
	d = xrealloc(NULL, 1, sizeof(*d));
	memset(d, 0, sizeof(*d));
	d->root = "";
	doctor_probe(&d->p);
	doctor_host(d);
	ask_daemon(d, pool, sizeof(pool));
	doctor_pool(d, *pool ? pool : NULL);
	ask_gpus(d);
	doctor_models(d);
	for (i = 0; i < d->n; i++)
		good &= d->line[i].level != DOCTOR_FAIL;
	if (a.json)
		print_json(d, good);
	else
		print_text(d);
	if (!good)
		tool_note("something does not work; see the lines that "
			  "begin with 'fail'");
	free(d);
	return good ? EXIT_OK : EXIT_FAIL;
}
