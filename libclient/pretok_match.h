/* SPDX-License-Identifier: MIT */
/*
 * pretok_match.h - the patterns of pre-tokenizers.
 *
 * Each takes the piece [b, e) and a place @p in it and returns where the match
 * that begins there ends, or NULL. What it stands for is said where it is.
 */
#ifndef HEARTH_PRETOK_MATCH_H
#define HEARTH_PRETOK_MATCH_H

#include "pretok.h"

/* clang-format off */
#define PRETOK_MATCHERS(X) \
	X(contr) X(contr_i) X(sp_l) X(ws_l) X(ws_cased) X(ws_p) \
	X(lead_l) X(lead_lm) X(leadps_lm) X(lead_words) X(ascii_p_az) \
	X(camel) X(camel_contr) X(sp_n) X(n1) X(n3) X(nn) X(d3) \
	X(n3_right) X(sp_o) X(sp_o_nl) X(sp_om_nl) X(sp_o_nls) \
	X(sp_o_nls1) X(sp_ps) X(sp_ps_nl) X(punct) X(punct_tick) \
	X(punct1) X(ws_marks) X(sp_word) X(ws_nl) X(ws_tail) X(ws) \
	X(ws_end) X(ws_powers) X(nl1) X(lines) X(non_ws) X(cjk_kana) \
	X(cjk_wide) X(asia) X(han) X(camel_no_han) X(asia_groups) \
	X(image_marks) X(indents)
/* clang-format on */

#define PRETOK_DECLARE(name) pretok_match pm_##name;
PRETOK_MATCHERS(PRETOK_DECLARE)

#endif
