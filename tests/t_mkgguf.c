/* SPDX-License-Identifier: MIT */
/* t_mkgguf.c - writes a tiny random model with a byte-level vocabulary. */
#include <getopt.h>

#include "gguf_make.h"

static void usage(void)
{
	fprintf(stderr, "usage: t_mkgguf OUT.gguf [--arch NAME] [--type Q4_K] "
			"[--layers N] [--embd N] [--ff N]\n"
			"       [--heads N] [--kv-heads N] [--head-dim N] "
			"[--ctx N] [--swa N] [--seed N] [--tied]\n"
			"       [--rope-freqs]\n");
	exit(2);
}

static enum fmt fmt_named(const char *name)
{
	unsigned int f;

	for (f = 0; f < FMT_N; f++)
		if (!strcmp(fmt_info[f].name, name))
			return f;
	fprintf(stderr, "t_mkgguf: no type %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "arch", 1, NULL, 'a' },	{ "type", 1, NULL, 't' },
		{ "layers", 1, NULL, 'l' },	{ "embd", 1, NULL, 'e' },
		{ "ff", 1, NULL, 'f' },		{ "heads", 1, NULL, 'h' },
		{ "kv-heads", 1, NULL, 'k' },	{ "head-dim", 1, NULL, 'd' },
		{ "ctx", 1, NULL, 'c' },	{ "swa", 1, NULL, 'w' },
		{ "seed", 1, NULL, 's' },	{ "tied", 0, NULL, 'T' },
		{ "rope-freqs", 0, NULL, 'r' }, { NULL, 0, NULL, 0 },
	};
	struct gm_opts o = GM_OPTS;
	uint32_t v, *num[128] = {
		['l'] = &o.n_layer, ['e'] = &o.n_embd,	  ['f'] = &o.n_ff,
		['h'] = &o.n_head,  ['k'] = &o.n_head_kv, ['d'] = &o.head_dim,
		['c'] = &o.n_ctx,   ['w'] = &o.n_swa,
	};
	struct gm m;
	FILE *f;
	int c;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		v = optarg ? (uint32_t)strtoul(optarg, NULL, 0) : 0;
		if (c == '?')
			usage();
		else if (c == 'a')
			o.arch = optarg;
		else if (c == 't')
			o.fmt = fmt_named(optarg);
		else if (c == 's')
			o.seed = strtoull(optarg, NULL, 0);
		else if (c == 'T')
			o.tied = true;
		else if (c == 'r')
			o.rope_freqs = true;
		else
			*num[c] = v;
	}
	if (optind + 1 != argc)
		usage();
	gm_init(&m);
	gm_model(&m, &o);
	gm_finish(&m);
	f = fopen(argv[optind], "wb");
	if (!f || fwrite(m.out.p, 1, m.out.n, f) != m.out.n || fclose(f)) {
		perror(argv[optind]);
		return 1;
	}
	gm_free(&m);
	return 0;
}
