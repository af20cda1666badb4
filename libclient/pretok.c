/* SPDX-License-Identifier: MIT */
/*
 * pretok.c - how a text is cut into words before BPE merges inside them: the
 * rules by name, and walking a text by one.
 */
#include <string.h>

#include "pretok_match.h"
#include "unicode.h"

/* ----------------------------------------------------------------- rules */

/* clang-format off */
#define GPT2 { pm_contr, pm_sp_l, pm_sp_n, pm_sp_o, pm_ws_tail }
#define GPT4(num) \
	{ pm_contr_i, pm_lead_l, num, pm_sp_o_nl, pm_ws_nl, pm_ws_tail, pm_ws }

static const struct pretok r_default = { 0,
	{ { pm_punct }, GPT2, { pm_nn }, { pm_d3 } } };
static const struct pretok r_gpt2 = { 0, { GPT2 } };
static const struct pretok r_llama3 = { PRETOK_WHOLE | PRETOK_BOS,
	{ GPT4(pm_n3) } };
static const struct pretok r_gpt4 = { 0, { GPT4(pm_n3) } };
static const struct pretok r_glm4 = { PRETOK_WHOLE, { GPT4(pm_n3) } };
static const struct pretok r_qwen2 = { 0, { GPT4(pm_n1) } };
static const struct pretok r_qwen35 = { 0,
	{ { pm_contr_i, pm_lead_lm, pm_n1, pm_sp_om_nl, pm_ws_nl,
	    pm_ws_tail, pm_ws } } };
static const struct pretok r_starcoder = { 0, { { pm_n1 }, GPT2 } };
static const struct pretok r_falcon = { 0, { { pm_punct_tick }, GPT2, {
	    pm_d3 } } };
static const struct pretok r_deepseek_llm = { 0,
	{ { pm_nl1 }, { pm_ws_cased }, { pm_ws_marks }, { pm_ws_end }, {
	    pm_cjk_wide },
	  { pm_nn } } };
static const struct pretok r_deepseek_coder = { 0,
	{ { pm_nl1 }, { pm_ws_l }, { pm_ws_p }, { pm_cjk_wide }, { pm_n1 } } };
#define DEEPSEEK3 \
	{ pm_ascii_p_az, pm_leadps_lm, pm_sp_ps_nl, pm_ws_nl, pm_ws_tail, \
	  pm_ws }
static const struct pretok r_deepseek3 = { 0,
	{ { pm_n3 }, { pm_cjk_kana }, DEEPSEEK3 } };
static const struct pretok r_spark = { 0,
	{ { pm_n3 }, { pm_cjk_kana },
	  { pm_ascii_p_az, pm_leadps_lm, pm_sp_ps, pm_nl1, pm_ws_tail,
	    pm_ws }, { pm_n1 } } };
static const struct pretok r_afmoe = { 0,
	{ { pm_n3_right }, { pm_asia }, DEEPSEEK3 } };
static const struct pretok r_tekken = { PRETOK_WHOLE | PRETOK_BOS,
	{ { pm_camel, pm_n1, pm_sp_o_nls, pm_ws_nl, pm_ws_tail, pm_ws } } };
#define GPT4O \
	{ pm_camel_contr, pm_n3, pm_sp_o_nls, pm_ws_nl, pm_ws_tail, pm_ws }
static const struct pretok r_gpt4o = { 0, { GPT4O } };
static const struct pretok r_gpt4o_whole = { PRETOK_WHOLE, { GPT4O } };
static const struct pretok r_tiny_aya = { 0, { { pm_n3_right }, GPT4O } };
static const struct pretok r_youtu = { PRETOK_WHOLE,
	{ { pm_asia_groups },
	  { pm_camel_contr, pm_n1, pm_sp_o_nls, pm_ws_nl, pm_ws_tail, pm_ws
	    } } };
static const struct pretok r_kimi = { 0,
	{ { pm_han, pm_camel_no_han, pm_n3, pm_sp_o_nl, pm_ws_nl,
	    pm_ws_tail, pm_ws } } };
static const struct pretok r_words = { 0, { { pm_sp_word } } };
static const struct pretok r_viking = { 0, { { pm_sp_word }, { pm_n1 } } };
static const struct pretok r_superbpe = { 0, { { pm_nn }, { pm_n3_right } } };
static const struct pretok r_bailing = { 0, { GPT4(pm_n1) } };
static const struct pretok r_seed = { 0,
	{ { pm_contr_i, pm_lead_l, pm_n1, pm_sp_o, pm_ws_nl, pm_ws_tail,
	    pm_ws } } };
static const struct pretok r_plain = { 0,
	{ { pm_lead_l, pm_n1, pm_sp_o_nl, pm_ws_nl, pm_ws_tail, pm_ws } } };
static const struct pretok r_laguna = { 0, { { pm_lines }, GPT4(pm_n1) } };
static const struct pretok r_exaone_moe = { 0,
	{ { pm_contr_i, pm_lead_words, pm_n1, pm_sp_o_nls1, pm_ws_nl,
	    pm_ws_tail, pm_ws } } };
static const struct pretok r_jais2 = { 0,
	{ { pm_contr_i, pm_lead_l, pm_n3, pm_sp_o_nl, pm_ws_nl,
	    pm_ws_powers } } };
static const struct pretok r_minicpm5 = { PRETOK_WHOLE,
	{ { pm_n3 }, { pm_contr_i, pm_lead_l, pm_nn, pm_sp_o_nl, pm_ws_nl,
	    pm_ws_tail, pm_ws } } };
static const struct pretok r_chameleon = { PRETOK_BOS,
	{ { pm_image_marks }, { pm_indents }, { pm_n1 }, { pm_punct1 },
	    GPT2 } };
static const struct pretok r_gemma4 = { PRETOK_RAW | PRETOK_NL_RUN,
	{ { pm_lines } } };
static const struct pretok r_raw_lines = { PRETOK_RAW, { { pm_lines } } };
static const struct pretok r_whitespace = { PRETOK_RAW | PRETOK_SPACED,
	{ { pm_non_ws } } };

static const struct {
	const char *name;
	const struct pretok *rule;
} names[] = {
	{ "default", &r_default },
	{ "gpt-2", &r_gpt2 }, { "gpt2", &r_gpt2 },
	{ "phi-2", &r_gpt2 }, { "jina-es", &r_gpt2 },
	{ "jina-de", &r_gpt2 }, { "jina-v2-es", &r_gpt2 },
	{ "jina-v2-de", &r_gpt2 }, { "gigachat", &r_gpt2 },
	{ "a.x-4.0", &r_gpt2 }, { "mellum", &r_gpt2 },
	{ "modern-bert", &r_gpt2 }, { "mpt", &r_gpt2 },
	{ "olmo", &r_gpt2 }, { "jais", &r_gpt2 },
	{ "trillion", &r_gpt2 }, { "granite-docling", &r_gpt2 },
	{ "exaone4", &r_gpt2 },
	{ "llama3", &r_llama3 }, { "llama-v3", &r_llama3 },
	{ "llama-bpe", &r_llama3 }, { "falcon3", &r_llama3 },
	{ "falcon-h1", &r_llama3 }, { "pixtral", &r_llama3 },
	{ "midm-2.0", &r_llama3 }, { "lfm2", &r_llama3 },
	{ "jina-v5-nano", &r_llama3 },
	{ "dbrx", &r_gpt4 }, { "smaug-bpe", &r_gpt4 },
	{ "chatglm-bpe", &r_gpt4 },
	{ "glm4", &r_glm4 }, { "glm5", &r_glm4 },
	{ "qwen2", &r_qwen2 }, { "deepseek-r1-qwen", &r_qwen2 },
	{ "kormo", &r_qwen2 }, { "f2llmv2", &r_qwen2 },
	{ "stablelm2", &r_qwen2 }, { "hunyuan", &r_qwen2 },
	{ "megrez", &r_qwen2 }, { "solar-open", &r_qwen2 },
	{ "grok-2", &r_qwen2 },
	{ "qwen35", &r_qwen35 },
	{ "smollm", &r_starcoder }, { "starcoder", &r_starcoder },
	{ "refact", &r_starcoder }, { "command-r", &r_starcoder },
	{ "codeshell", &r_starcoder }, { "exaone", &r_starcoder },
	{ "minerva-7b", &r_starcoder }, { "mellum2", &r_starcoder },
	{ "falcon", &r_falcon },
	{ "deepseek-llm", &r_deepseek_llm },
	{ "deepseek-coder", &r_deepseek_coder },
	{ "deepseek-v3", &r_deepseek3 }, { "hunyuan-dense", &r_deepseek3 },
	{ "joyai-llm", &r_deepseek3 }, { "hy_v4", &r_deepseek3 },
	{ "spark2_5", &r_spark },
	{ "afmoe", &r_afmoe },
	{ "tekken", &r_tekken },
	{ "gpt-4o", &r_gpt4o }, { "llama4", &r_gpt4o },
	{ "kanana2", &r_gpt4o }, { "talkie", &r_gpt4o },
	{ "minimax-m2", &r_gpt4o },
	{ "granite-embed-multi-97m", &r_gpt4o_whole },
	{ "tiny_aya", &r_tiny_aya }, { "cohere2moe", &r_tiny_aya },
	{ "youtu", &r_youtu },
	{ "kimi-k2", &r_kimi },
	{ "poro-chat", &r_words }, { "bloom", &r_words },
	{ "gpt3-finnish", &r_words }, { "viking", &r_viking },
	{ "superbpe", &r_superbpe },
	{ "bailingmoe", &r_bailing }, { "bailingmoe2", &r_bailing },
	{ "llada-moe", &r_bailing },
	{ "seed-coder", &r_seed },
	{ "ufakzeka", &r_plain },
	{ "laguna", &r_laguna },
	{ "exaone-moe", &r_exaone_moe },
	{ "jais-2", &r_jais2 },
	{ "minicpm5", &r_minicpm5 },
	{ "chameleon", &r_chameleon },
	{ "gemma4", &r_gemma4 }, { "granite-embed-multi-311m", &r_gemma4 },
	{ "sarvam-moe", &r_raw_lines },
	{ "whitespace", &r_whitespace },
};
/* clang-format on */

const char *pretok_name(size_t i)
{
	return i < sizeof(names) / sizeof(names[0]) ? names[i].name : NULL;
}

const struct pretok *pretok_find(const char *name, size_t n)
{
	size_t i;

	if (!n)
		return &r_default;
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i].name) == n &&
		    !memcmp(names[i].name, name, n))
			return names[i].rule;
	return NULL;
}

void pretok_start(struct pretok_iter *it, const struct pretok *rule,
		  const uint8_t *p, const uint8_t *e)
{
	it->rule = rule;
	for (it->n = 0; it->n < PRETOK_PASSES && rule->pass[it->n][0]; it->n++)
		;
	it->at = 0;
	it->lv[0] = (struct pretok_level){ .b = p, .p = p, .e = e };
}

static const uint8_t *try_all(pretok_match *const *alt, const uint8_t *b,
			      const uint8_t *p, const uint8_t *e)
{
	const uint8_t *m = NULL;
	int i;

	for (i = 0; i < PRETOK_ALTS && alt[i] && !m; i++)
		m = alt[i](b, p, e);
	return m;
}

/* The next piece at one level: what matches here, or what lies before the
 * next match. */
static void cut(pretok_match *const *alt, struct pretok_level *l,
		const uint8_t **p, const uint8_t **e)
{
	const uint8_t *q = l->p, *m;
	uint32_t cp;

	*p = q;
	m = l->m ? l->m : try_all(alt, l->b, q, l->e);
	l->m = NULL;
	if (m) {
		l->p = *e = m;
		return;
	}
	while (q < l->e && !m) {
		q += utf8_get(q, l->e, &cp);
		m = q < l->e ? try_all(alt, l->b, q, l->e) : NULL;
	}
	l->m = m;
	l->p = *e = q;
}

bool pretok_next(struct pretok_iter *it, const uint8_t **p, const uint8_t **e)
{
	struct pretok_level *l;

	while (it->at >= 0) {
		l = &it->lv[it->at];
		if (l->p >= l->e) {
			it->at--;
			continue;
		}
		cut(it->rule->pass[it->at], l, p, e);
		if ((unsigned)it->at + 1 == it->n)
			return true;
		it->at++;
		it->lv[it->at] =
			(struct pretok_level){ .b = *p, .p = *p, .e = *e };
	}
	return false;
}
