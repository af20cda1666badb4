/* SPDX-License-Identifier: MIT */
/* t_mkseeds.c - writes the seeds of fuzz_gguf and fuzz_image into a folder. */
#include "gguf_make.h"

#include "../daemon/image_write.h"

static void save(const char *dir, const char *target, const char *name,
		 const void *p, size_t n)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s/%s", dir, target, name);
	f = fopen(path, "wb");
	if (!f || fwrite(p, 1, n, f) != n || fclose(f)) {
		perror(path);
		exit(1);
	}
}

/* A vocabulary of a few tokens; with merges or with scores. */
static void vocab(struct gm *m, bool spm)
{
	static const char *const tok[] = { "<unk>", "<s>", "</s>", "a",
					   "b",	    "ab",  "abb" };
	const float score = -1;
	uint32_t i, n = sizeof(tok) / sizeof(tok[0]);

	gm_kv_str(m, "tokenizer.ggml.model", spm ? "llama" : "gpt2");
	gm_kv_str(m, "tokenizer.ggml.pre", "llama-bpe");
	gm_kv_array(m, "tokenizer.ggml.tokens", GGUF_STRING, n);
	for (i = 0; i < n; i++)
		gm_str(&m->kv, tok[i]);
	gm_kv_array(m, "tokenizer.ggml.token_type", GGUF_I32, n);
	for (i = 0; i < n; i++)
		gm_u32(&m->kv, i < 3 ? IMAGE_TOK_CONTROL : IMAGE_TOK_NORMAL);
	gm_kv_array(m, spm ? "tokenizer.ggml.scores" : "tokenizer.ggml.merges",
		    spm ? GGUF_F32 : GGUF_STRING, spm ? n : 2);
	for (i = 0; spm && i < n; i++)
		gm_put(&m->kv, &score, sizeof(score));
	if (!spm) {
		gm_str(&m->kv, "a b");
		gm_str(&m->kv, "ab b");
	}
	gm_kv_u32(m, "tokenizer.ggml.eos_token_id", 2);
	gm_kv_bool(m, "tokenizer.ggml.add_bos_token", true);
	gm_kv_str(m, "tokenizer.chat_template", "{{ messages[0].content }}");
	gm_weights(m, "token_embd.weight", FMT_F16, 4, n, 0, 1);
}

static void seed(const char *dir, const char *arch, bool spm, bool freqs)
{
	struct gm_opts o = { .arch = arch,
			     .fmt = FMT_F16,
			     .n_layer = 1,
			     .n_embd = 4,
			     .n_ff = 4,
			     .n_head = 2,
			     .n_head_kv = 1,
			     .head_dim = 4,
			     .n_ctx = 64,
			     .n_swa = 8,
			     .seed = 1,
			     .rope_freqs = freqs };
	const float ones[2] = { 1, 1 };
	struct gguf_src src;
	char name[64], why[160];
	struct gguf *g;
	struct gm m;
	void *image;
	size_t n;

	gm_init(&m);
	gm_hparams(&m, &o);
	vocab(&m, spm);
	gm_layer(&m, &o, 0);
	gm_weights(&m, "output_norm.weight", FMT_F32, o.n_embd, 0, 1, 0);
	if (freqs)
		gm_tensor(&m, "rope_freqs.weight", 0, 2, 0, ones, sizeof(ones));
	gm_finish(&m);
	snprintf(name, sizeof(name), "%s%s", arch, freqs ? "3" : "");
	save(dir, "fuzz_gguf", name, m.out.p, m.out.n);
	src = (struct gguf_src){ .mem = m.out.p, .bytes = m.out.n };
	if (gguf_open(&g, &src, 1, why) || image_build(g, 0, &image, &n, why)) {
		fprintf(stderr, "%s: %s\n", name, why);
		exit(1);
	}
	save(dir, "fuzz_image", name, image, n);
	free(image);
	gguf_close(g);
	gm_free(&m);
}

/* One tensor in each of two parts, every kind of value. */
static void seed_split(const char *dir)
{
	const float x[8] = { 0 };
	struct gm_buf out = { 0 };
	struct gm m;
	uint32_t i, k;

	for (i = 0; i < 2; i++) {
		gm_init(&m);
		gm_kv_u32(&m, "split.no", i);
		gm_kv_u32(&m, "split.count", 2);
		gm_kv_u32(&m, "split.tensors.count", 2);
		gm_kv_str(&m, "general.architecture", "llama");
		for (k = GGUF_U8; k < GGUF_TYPE_N; k++) {
			if (!gguf_type_bytes[k])
				continue;
			gm_key(&m, gguf_type_names[k], k);
			gm_put(&m.kv, x, gguf_type_bytes[k]);
		}
		gm_tensor(&m, i ? "token_embd.weight" : "output.weight", 0, 4,
			  2, x, sizeof(x));
		gm_finish(&m);
		gm_put(&out, m.out.p, m.out.n);
		gm_free(&m);
	}
	save(dir, "fuzz_gguf", "split", out.p, out.n);
	free(out.p);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: t_mkseeds DIR\n");
		return 2;
	}
	seed(argv[1], "llama", true, false);
	seed(argv[1], "llama", false, true);
	seed(argv[1], "qwen2", false, false);
	seed(argv[1], "qwen3", false, false);
	seed(argv[1], "gemma3", true, false);
	seed_split(argv[1]);
	return 0;
}
