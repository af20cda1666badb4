/* SPDX-License-Identifier: MIT */
/*
 * step.c - running a model's program over a batch.
 *
 * Each region is cut into units that the pool's workers claim. Where a cut
 * lies never shows in the result: a unit computes whole elements, each by
 * itself and in the same way whatever stands beside it.
 */
#include <errno.h>
#include <string.h>

#include "../rope.h"
#include "cpu.h"

/* Below this much work (multiply-adds) a region runs on the calling thread:
 * waking nobody is faster. */
#define INLINE_WORK  (1u << 18)
#define INLINE_ROWS  2
#define UNITS_THREAD 8		 /* units a thread, so that the end is even */
#define UNIT_BYTES   (16u << 10) /* of weights, at least */
#define TILE_BYTES   (1u << 20)	 /* activations that a unit goes through */

struct step {
	struct backend_model *m;
	const struct batch *b;
	const struct op *op;
	uint32_t n_ops;
	uint32_t rows;
	uint32_t n_rows[3]; /* by enum domain */
	uint32_t per;	    /* rows or panels a unit */
	struct act *in;
};

static float *row_of(const struct backend_model *m, uint32_t reg, uint32_t t)
{
	return m->reg[reg] + (size_t)t * m->width[reg];
}

static float *tmp_of(const struct backend_model *m, uint32_t worker)
{
	return m->tmp + worker * m->tmp_floats;
}

/* Quantise @n columns from @col of token @t: a view of these blocks alone. */
static void quant_part(const struct backend_model *m, const struct act *a,
		       uint32_t t, uint32_t col, uint32_t n, const float *x)
{
	uint32_t in_tile = t % ACT_TILE;
	struct act part = {
		.n = act_step(a, t),
		.cols = n,
		.blk = act_at(a, t - in_tile, col / ACT_BLOCK),
	};

	m->be->mk.act_quant(&part, in_tile, x);
}

/* Tokens [t, t + n) of @a, t at the start of a tile. */
static struct act act_slice(const struct act *a, uint32_t t, uint32_t n)
{
	struct act s = { .n = n, .cols = a->cols };

	if (a->f)
		s.f = a->f + (size_t)t * a->cols;
	if (a->blk)
		s.blk = a->blk + (size_t)t * (a->cols / ACT_BLOCK);
	return s;
}

/* ------------------------------------------------------ ops on single rows */

static void rope_table(const struct backend_model *m, uint32_t t)
{
	size_t at = (size_t)t * m->hp.n_rope;
	uint32_t i;

	for (i = 0; i < TAPE_ROPE_N; i++)
		if (m->inv_freq[i])
			rope_row(m->rope_cos[i] + at, m->rope_sin[i] + at,
				 m->inv_freq[i], &m->hp, m->tok_pos[t]);
}

static void rope_heads(const struct step *s, const struct op *o, float *x,
		       uint32_t n_heads, const float *norm, uint32_t t)
{
	const struct backend_model *m = s->m;
	const struct vec_kernels *v = &m->be->vk;
	size_t at = (size_t)t * m->hp.n_rope;
	uint32_t i;

	for (i = 0; i < n_heads; i++, x += m->hp.head_dim) {
		if (norm)
			v->rmsnorm(x, x, norm, m->hp.head_dim, o->f[0]);
		v->rope(x, m->rope_cos[o->rope] + at, m->rope_sin[o->rope] + at,
			m->hp.n_rope, m->hp.rope_pairs == IMAGE_ROPE_HALVES);
	}
}

static void rope_kv(const struct step *s, const struct op *o, uint32_t t)
{
	const struct backend_model *m = s->m;
	uint32_t dim = m->hp.head_dim, slot = m->tok_slot[t], h, d;
	float *q = row_of(m, TAPE_Q, t), *k = row_of(m, TAPE_K, t);
	const float *v = row_of(m, TAPE_V, t);
	uint32_t j = slot % KV_BLOCK;
	uint16_t half[VEC_ATTN_DIM], *kv;

	rope_heads(s, o, q, m->hp.n_head, o->vec[0], t);
	rope_heads(s, o, k, m->hp.n_head_kv, o->vec[1], t);
	kv = m->kv + slot / KV_BLOCK * kv_block_elems(&m->hp) +
	     (size_t)o->layer * m->hp.n_head_kv * kv_head_elems(&m->hp);
	for (h = 0; h < m->hp.n_head_kv; h++) {
		m->be->vk.to_f16(half, k + (size_t)h * dim, dim);
		for (d = 0; d < dim; d++)
			kv[d * KV_BLOCK + j] = half[d];
		m->be->vk.to_f16(kv + (KV_BLOCK + j) * dim, v + (size_t)h * dim,
				 dim);
		kv += kv_head_elems(&m->hp);
	}
}

static void norm(const struct step *s, const struct op *o, uint32_t t,
		 float *tmp)
{
	const struct backend_model *m = s->m;
	float *out = o->keep ? row_of(m, o->dst[0], t) : tmp;

	m->be->vk.rmsnorm(out, row_of(m, o->src, t), o->vec[0],
			  m->width[o->src], o->f[0]);
	if (o->quant && t < m->act[o->dst[0]].n)
		m->be->mk.act_quant(&s->m->act[o->dst[0]], t, out);
}

static void row_op(const struct step *s, const struct op *o, uint32_t t,
		   float *tmp)
{
	const struct backend_model *m = s->m;
	const struct vec_kernels *v = &m->be->vk;
	uint8_t d = o->dst[0];

	switch (o->kind) {
	case ROW_ROPE_TABLE:
		rope_table(m, t);
		break;
	case TAPE_EMBED:
		mat_row(o->mat[0], s->b->tokens[t], row_of(m, d, t));
		if (o->f[0] != 1.0f)
			v->scale(row_of(m, d, t), o->f[0], m->width[d]);
		break;
	case TAPE_TAKE:
		memcpy(row_of(m, d, t), s->b->x + (size_t)t * m->width[d],
		       m->width[d] * sizeof(float));
		break;
	case TAPE_GIVE:
		memcpy(s->b->x + (size_t)t * m->width[d], row_of(m, o->src, t),
		       m->width[d] * sizeof(float));
		break;
	case TAPE_NORM:
		norm(s, o, t, tmp);
		break;
	case TAPE_NORM_ADD:
		v->rmsnorm(tmp, row_of(m, o->src, t), o->vec[0],
			   m->width[o->src], o->f[0]);
		v->add(row_of(m, d, t), tmp, m->width[d]);
		break;
	case TAPE_ROPE_KV:
		rope_kv(s, o, t);
		break;
	case TAPE_GATHER:
		memcpy(row_of(m, d, t), row_of(m, o->src, s->b->out_rows[t]),
		       m->width[d] * sizeof(float));
		break;
	case ROW_QUANT:
		m->be->mk.act_quant(&s->m->act[d], t, row_of(m, d, t));
		break;
	default:
		__builtin_unreachable();
	}
}

static void rows_unit(void *arg, uint32_t unit, uint32_t worker)
{
	const struct step *s = arg;
	uint32_t t = unit * s->per, i, end;

	end = s->rows - t < s->per ? s->rows : t + s->per;
	for (; t < end; t++)
		for (i = 0; i < s->n_ops; i++)
			row_op(s, &s->op[i], t, tmp_of(s->m, worker));
}

static void run_rows(struct step *s)
{
	uint32_t threads = workers_threads(s->m->be->workers);

	s->per = s->rows;
	if (s->rows > INLINE_ROWS)
		s->per = (s->rows + threads * UNITS_THREAD - 1) /
			 (threads * UNITS_THREAD);
	workers_run(s->m->be->workers, rows_unit, s,
		    (s->rows + s->per - 1) / s->per);
}

/* ----------------------------------------------------------- matrices */

static uint32_t units_of(const struct step *s, uint32_t i)
{
	return (mat_panels(s->op->mat[i]) + s->per - 1) / s->per;
}

/* Tokens whose activations stay near while a unit's panels pass. */
static uint32_t token_tile(const struct act *a)
{
	uint32_t n = TILE_BYTES / (a->cols * sizeof(float));

	n -= n % ACT_TILE;
	return n ? n : ACT_TILE;
}

static void matmul_unit(void *arg, uint32_t unit, uint32_t worker)
{
	const struct step *s = arg;
	const struct op *o = s->op;
	const struct backend_model *m = s->m;
	const struct mat *w;
	uint32_t i = 0, p0, p1, t, n, tile = token_tile(s->in), k, row0, rows;
	size_t width;
	struct act a;
	float *out;

	(void)worker;
	while (unit >= units_of(s, i))
		unit -= units_of(s, i++);
	w = o->mat[i];
	p0 = unit * s->per;
	p1 = mat_panels(w) - p0 < s->per ? mat_panels(w) : p0 + s->per;
	row0 = p0 * MAT_PANEL;
	rows = (p1 * MAT_PANEL < w->rows ? p1 * MAT_PANEL : w->rows) - row0;
	width = m->width[o->dst[i]];
	for (t = 0; t < s->rows; t += n) {
		n = s->rows - t < tile ? s->rows - t : tile;
		a = act_slice(s->in, t, n);
		out = row_of(m, o->dst[i], t);
		m->be->mk.mul[w->fmt](w, p0, p1, &a, out, width, o->add);
		for (k = 0; o->bias[i] && k < n; k++)
			m->be->vk.add(out + k * width + row0, o->bias[i] + row0,
				      rows);
	}
}

static void run_matmul(struct step *s)
{
	const struct op *o = s->op;
	uint32_t threads = workers_threads(s->m->be->workers), i, units = 0;
	uint64_t panels = 0, bytes = 0, work = 0;

	s->in = &s->m->act[o->src];
	for (i = 0; i < o->n; i++) {
		panels += mat_panels(o->mat[i]);
		bytes += mat_bytes(o->mat[i]->fmt, o->mat[i]->rows,
				   o->mat[i]->cols);
		work += (uint64_t)o->mat[i]->rows * o->mat[i]->cols * s->rows;
	}
	s->per = (uint32_t)panels;
	if (work > INLINE_WORK && threads > 1) {
		s->per = (uint32_t)(panels / (threads * UNITS_THREAD));
		i = (uint32_t)(UNIT_BYTES * panels / bytes);
		if (s->per < i && s->rows == 1)
			s->per = i;
		if (!s->per)
			s->per = 1;
	}
	for (i = 0; i < o->n; i++)
		units += units_of(s, i);
	workers_run(s->m->be->workers, matmul_unit, s, units);
}

/* Panels [p0, p1) as a matrix of its own. */
static struct mat mat_slice(const struct mat *m, uint32_t p0, uint32_t p1)
{
	uint32_t end = p1 * MAT_PANEL < m->rows ? p1 * MAT_PANEL : m->rows;
	struct mat s = {
		.fmt = m->fmt,
		.rows = end - p0 * MAT_PANEL,
		.cols = m->cols,
		.data = (const uint8_t *)m->data +
			p0 * mat_panel_bytes(m->fmt, m->cols),
	};

	return s;
}

/* Rows of gate and up for a tile of tokens at a time, kept in the cache. */
static void glu_unit(void *arg, uint32_t unit, uint32_t worker)
{
	const struct step *s = arg;
	const struct op *o = s->op;
	const struct backend_model *m = s->m;
	const struct mat_kernels *mk = &m->be->mk;
	uint32_t p0 = unit * (GLU_ROWS / MAT_PANEL), p1, t, k, n, i, w, row0;
	float *x[2], *g;
	struct mat part;
	struct act a;

	p1 = p0 + GLU_ROWS / MAT_PANEL;
	p1 = p1 < mat_panels(o->mat[0]) ? p1 : mat_panels(o->mat[0]);
	row0 = p0 * MAT_PANEL;
	x[0] = tmp_of(m, worker);
	x[1] = x[0] + GLU_ROWS * GLU_TILE;
	for (t = 0; t < s->rows; t += n) {
		n = s->rows - t < GLU_TILE ? s->rows - t : GLU_TILE;
		a = act_slice(s->in, t, n);
		for (i = 0; i < 2; i++) {
			part = mat_slice(o->mat[i], p0, p1);
			mk->mul[part.fmt](&part, 0, p1 - p0, &a, x[i], GLU_ROWS,
					  false);
			for (k = 0; o->bias[i] && k < n; k++)
				m->be->vk.add(x[i] + k * GLU_ROWS,
					      o->bias[i] + row0, part.rows);
		}
		w = part.rows;
		for (k = 0; k < n; k++) {
			g = x[0] + k * GLU_ROWS;
			m->be->vk.glu[o->act](g, g, x[1] + k * GLU_ROWS, w);
			if (o->quant)
				quant_part(m, &m->act[o->dst[0]], t + k, row0,
					   w, g);
			if (o->keep)
				memcpy(row_of(m, o->dst[0], t + k) + row0, g,
				       w * sizeof(*g));
		}
	}
}

static void run_glu(struct step *s)
{
	uint32_t panels = mat_panels(s->op->mat[0]);
	uint32_t per = GLU_ROWS / MAT_PANEL, i;

	s->in = &s->m->act[s->op->src];
	if ((uint64_t)s->op->mat[0]->rows * s->in->cols * s->rows * 2 <
	    INLINE_WORK) {
		for (i = 0; i < (panels + per - 1) / per; i++)
			glu_unit(s, i, 0);
		return;
	}
	workers_run(s->m->be->workers, glu_unit, s, (panels + per - 1) / per);
}

/* ---------------------------------------------------------- attention */

/* Unit: a piece, and s->per query heads of one key head. Pieces of one head
 * follow each other, they read the same keys. */
static void attn_unit(void *arg, uint32_t unit, uint32_t worker)
{
	const struct step *s = arg;
	const struct op *o = s->op;
	const struct backend_model *m = s->m;
	const struct attn_piece *p = &m->pieces[unit % m->n_pieces];
	uint32_t head = unit / m->n_pieces * s->per, t;
	uint32_t kv_head = head / (m->hp.n_head / m->hp.n_head_kv);
	size_t part = (size_t)s->per * m->hp.head_dim;
	size_t col = (size_t)head * m->hp.head_dim;
	struct vec_attn a = {
		.kv = m->kv + ((size_t)o->layer * m->hp.n_head_kv + kv_head) *
				      kv_head_elems(&m->hp),
		.stride = kv_block_elems(&m->hp),
		.blocks = s->b->seqs[p->seq].blocks,
		.head_dim = m->hp.head_dim,
		.n_group = s->per,
		.n_tok = p->n,
		.pos = m->tok_pos[p->tok],
		.window = o->window,
		.scale = o->f[0],
		.q = row_of(m, TAPE_Q, p->tok) + col,
		.q_stride = m->width[TAPE_Q],
		.out = tmp_of(m, worker),
		.out_stride = part,
	};

	if (o->keep) {
		a.out = row_of(m, o->dst[0], p->tok) + col;
		a.out_stride = m->width[o->dst[0]];
	}
	m->be->vk.attn(&a);
	for (t = 0; o->quant && t < p->n; t++)
		quant_part(m, &m->act[o->dst[0]], p->tok + t, (uint32_t)col,
			   (uint32_t)part, a.out + t * a.out_stride);
}

/* Heads a unit: all of a key head's, or fewer when that leaves threads idle.
 * A part must be whole blocks of quantised activations. */
static uint32_t attn_heads(const struct step *s)
{
	const struct backend_model *m = s->m;
	uint32_t group = m->hp.n_head / m->hp.n_head_kv, parts, n = group;
	uint32_t units = m->hp.n_head_kv * m->n_pieces;

	for (parts = 1; parts <= group; parts++) {
		if (group % parts ||
		    (s->op->quant &&
		     group / parts * m->hp.head_dim % ACT_BLOCK))
			continue;
		n = group / parts;
		if (units * parts >= workers_threads(m->be->workers))
			break;
	}
	return n;
}

static void run_attn(struct step *s)
{
	const struct backend_model *m = s->m;
	uint64_t work = 0, seen;
	uint32_t units, i;

	for (i = 0; i < m->n_pieces; i++) {
		seen = m->tok_pos[m->pieces[i].tok] + m->pieces[i].n;
		if (s->op->window && seen > s->op->window)
			seen = s->op->window;
		work += seen * m->pieces[i].n;
	}
	work *= (uint64_t)m->hp.n_head * m->hp.head_dim * 2;
	s->per = m->hp.n_head / m->hp.n_head_kv;
	if (work >= INLINE_WORK)
		s->per = attn_heads(s);
	units = m->hp.n_head / s->per * m->n_pieces;
	if (work < INLINE_WORK)
		for (i = 0; i < units; i++)
			attn_unit(s, i, 0);
	else
		workers_run(m->be->workers, attn_unit, s, units);
}

/* ------------------------------------------------------------ the batch */

static void place_tokens(struct backend_model *m, const struct batch *b)
{
	uint32_t per = attn_tokens(&m->hp), i, k, p;
	const struct batch_seq *q;

	m->n_pieces = 0;
	for (i = 0; i < b->n_seqs; i++) {
		q = &b->seqs[i];
		for (k = 0; k < q->n; k++) {
			p = q->pos + k;
			m->tok_pos[q->first + k] = p;
			m->tok_slot[q->first + k] =
				q->blocks[p / KV_BLOCK] * KV_BLOCK +
				p % KV_BLOCK;
			if (k % per == 0)
				m->pieces[m->n_pieces++] = (struct attn_piece){
					.seq = i,
					.tok = q->first + k,
					.n = q->n - k < per ? q->n - k : per,
				};
		}
	}
}

/* Before a region: how many rows its results have. */
static void place_results(struct step *s)
{
	struct backend_model *m = s->m;
	const struct op *o;
	uint32_t i, d;

	for (i = 0; i < s->n_ops; i++) {
		o = &s->op[i];
		d = o->dst[0];
		if (!m->act_mem[d] && !m->reg[d])
			continue;
		m->act[d].f = m->reg[d];
		if (o->quant || o->kind == ROW_QUANT)
			act_init(&m->act[d], s->n_rows[o->quant_domain],
				 m->width[d], m->act_mem[d]);
		else
			m->act[d].n = s->rows;
		m->act[d].f = m->reg[d];
		m->act[d].cols = m->width[d];
	}
}

int cpu_step(struct backend_model *m, struct batch *b)
{
	struct step s = { .m = m, .b = b };
	const struct region *r;
	uint32_t i;
	int ret;

	ret = backend_check_batch(b, &m->be->conf, m->n_blocks, m->hp.n_vocab);
	if (ret)
		return ret;
	s.n_rows[DOMAIN_TOKENS] = b->n_tokens;
	s.n_rows[DOMAIN_OUT] = b->n_out;
	s.n_rows[DOMAIN_LOGITS] = b->n_logits;
	place_tokens(m, b);
	for (i = 0; i < m->n_regions; i++) {
		r = &m->regions[i];
		s.op = &m->ops[r->first_op];
		s.n_ops = r->n_ops;
		s.rows = s.n_rows[r->domain];
		if (!s.rows)
			break;
		backend_beat(&m->be->conf);
		place_results(&s);
		if (r->kind == REGION_ROWS)
			run_rows(&s);
		else if (r->kind == REGION_MATMUL)
			run_matmul(&s);
		else if (r->kind == REGION_GLU)
			run_glu(&s);
		else
			run_attn(&s);
	}
	b->logits = m->reg[TAPE_L];
	b->hidden = m->reg[TAPE_E];
	return 0;
}
