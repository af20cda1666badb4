/* SPDX-License-Identifier: MIT */
/* cuda_module.c - modules out of PTX and fatbins, kernels and their launch. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "tma.h"

/* No byte of them ends a string, as an image of PTX is one. */
#define FATBIN_WRAPPER "\xb1\x43\x62\x46"
#define FATBIN_MAGIC   "\x50\xed\x55\xba"
#define FATBIN_PTX     1
#define FATBIN_PACKED  0x3000u /* flags: the text is compressed */

struct cu_module {
	struct ptx_module *p;
	struct cu_func *func; /* as many as kernels */
};

struct fatbin {
	uint32_t magic;
	uint16_t version;
	uint16_t header;
	uint64_t bytes;
};

struct fatbin_entry {
	uint16_t kind;
	uint16_t version;
	uint32_t header;
	uint64_t bytes;
	uint32_t packed_bytes;
	uint32_t unknown;
	uint16_t minor;
	uint16_t major;
	uint32_t arch;
	uint32_t name_at;
	uint32_t name_bytes;
	uint64_t flags;
	uint64_t zero;
	uint64_t unpacked_bytes;
};

/* The PTX for the highest architecture up to 90, as a string of its own. */
static char *fatbin_ptx(const uint8_t *p, bool *packed)
{
	const uint8_t *end;
	struct fatbin f;
	uint32_t best = 0;
	char *text = NULL;

	memcpy(&f, p, sizeof(f));
	end = p + f.header + f.bytes;
	p += f.header;
	while (p + sizeof(struct fatbin_entry) <= end) {
		struct fatbin_entry e;

		memcpy(&e, p, sizeof(e));
		if (e.kind == FATBIN_PTX && e.arch <= 90 && e.arch >= best) {
			*packed |= (e.flags & FATBIN_PACKED) != 0;
			if (!(e.flags & FATBIN_PACKED)) {
				free(text);
				text = strndup((const char *)p + e.header,
					       e.bytes);
				best = e.arch;
			}
		}
		p += e.header + e.bytes;
	}
	return text;
}

static char *text_of(const void *image, int *rc)
{
	bool packed = false;
	char *text;

	if (!strncmp(image, FATBIN_WRAPPER, 4))
		memcpy(&image, (const uint8_t *)image + 8, sizeof(image));
	if (!strncmp(image, FATBIN_MAGIC, 4)) {
		text = fatbin_ptx(image, &packed);
		if (!text)
			dev_note("this fatbin has no PTX up to compute_90%s",
				 packed ? " that is not compressed: nvcc needs "
					  "--no-compress"
					: "");
		*rc = text ? 0 : CU_NO_BINARY;
		return text;
	}
	if (!strncmp(image, "\177ELF", 4)) {
		dev_note("a cubin: the simulator runs PTX only");
		*rc = CU_NO_BINARY;
		return NULL;
	}
	return strdup(image);
}

/* Why not, into the buffer that the options name, if they do. */
static void error_log(const char *text, unsigned int n, const int *opt,
		      void *const *val)
{
	char *to = NULL;
	size_t room = 0;
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (opt[i] == CU_JIT_ERROR)
			to = val[i];
		if (opt[i] == CU_JIT_ERROR_BYTES)
			room = (uintptr_t)val[i];
	}
	if (to && room)
		snprintf(to, room, "%s\n", text);
}

int cuModuleLoadDataEx(struct cu_module **out, const void *image,
		       unsigned int n, int *opt, void **val)
{
	struct cu_module *m;
	char *text;
	int i;

	ENTER(API_CTX);
	if (!image)
		return api_leave(CU_INVALID_VALUE);
	text = text_of(image, &rc);
	if (!text)
		return api_leave(rc);
	m = calloc(1, sizeof(*m));
	if (!m)
		abort();
	m->p = ptx_parse(text, mem_module);
	free(text);
	if (m->p->error[0]) {
		dev_note("PTX: %s", m->p->error);
		error_log(m->p->error, n, opt, val);
		ptx_free(m->p);
		free(m);
		return api_leave(CU_INVALID_PTX);
	}
	m->func = calloc((size_t)m->p->n_kernel + 1, sizeof(*m->func));
	if (!m->func)
		abort();
	for (i = 0; i < m->p->n_kernel; i++) {
		m->func[i].k = &m->p->kernel[i];
		m->func[i].max_dyn = 49152 - m->p->kernel[i].shared;
	}
	*out = m;
	dev.made[MADE_MODULE]++;
	return api_leave(0);
}

int cuModuleLoadData(struct cu_module **m, const void *image)
{
	return cuModuleLoadDataEx(m, image, 0, NULL, NULL);
}

int cuModuleUnload(struct cu_module *m)
{
	int i;

	ENTER(API_CTX);
	rc = stream_wait_all();
	/* Kernels of it may run yet, unless nothing runs any more. */
	if (rc && !dev.sticky)
		return api_leave(rc);
	for (i = 0; i < m->p->n_var; i++) {
		struct mem *v =
			mem_find((uint64_t)(uintptr_t)m->p->var[i].at, 1);

		if (v)
			mem_remove(v);
	}
	ptx_free(m->p);
	free(m->func);
	free(m);
	dev.made[MADE_MODULE]--;
	return api_leave(rc);
}

int cuModuleGetFunction(struct cu_func **f, struct cu_module *m,
			const char *name)
{
	int i;

	ENTER(API_CTX);
	for (i = 0; i < m->p->n_kernel; i++)
		if (!strcmp(m->p->kernel[i].name, name)) {
			*f = &m->func[i];
			return api_leave(0);
		}
	return api_leave(CU_NOT_FOUND);
}

int cuModuleGetGlobal_v2(uint64_t *at, size_t *n, struct cu_module *m,
			 const char *name)
{
	int i;

	ENTER(API_CTX);
	for (i = 0; i < m->p->n_var; i++) {
		if (strcmp(m->p->var[i].name, name))
			continue;
		if (at)
			*at = (uint64_t)(uintptr_t)m->p->var[i].at;
		if (n)
			*n = m->p->var[i].size;
		return api_leave(0);
	}
	return api_leave(CU_NOT_FOUND);
}

static int max_threads(const struct cu_func *f)
{
	return f->k->max_threads ? f->k->max_threads : 1024;
}

int cuFuncGetAttribute(int *v, int attr, struct cu_func *f)
{
	ENTER(API_CTX);
	switch (attr) {
	case CU_FUNC_THREADS:
		*v = max_threads(f);
		break;
	case CU_FUNC_SHARED:
		*v = f->k->shared;
		break;
	case CU_FUNC_LOCAL:
		*v = f->k->local;
		break;
	case CU_FUNC_PTX:
	case CU_FUNC_BINARY:
		*v = 90;
		break;
	case CU_FUNC_DYN:
		*v = f->max_dyn;
		break;
	case CU_FUNC_CONST:
	case CU_FUNC_REGS: /* what ptxas would use is not known */
		*v = 0;
		break;
	default:
		rc = CU_NOT_SUPPORTED;
	}
	return api_leave(rc);
}

int cuFuncSetAttribute(struct cu_func *f, int attr, int v)
{
	ENTER(API_CTX);
	if (attr != CU_FUNC_DYN)
		return api_leave(attr == CU_FUNC_CARVEOUT ? 0
							  : CU_NOT_SUPPORTED);
	if (v < 0 || v + f->k->shared > DEV_SHARED)
		return api_leave(CU_INVALID_VALUE);
	f->max_dyn = v;
	return api_leave(0);
}

int cuFuncSetCacheConfig(struct cu_func *f, int config)
{
	ENTER(API_CTX);
	(void)f, (void)config;
	return api_leave(0);
}

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, struct cu_func *f,
						int threads, size_t dyn)
{
	ENTER(API_CTX);
	*n = threads <= max_threads(f) && dyn <= (size_t)f->max_dyn;
	return api_leave(0);
}

/* ------------------------------------------------------------- launches */

static int check_shape(const struct cu_launch_config *c,
		       const struct cu_func *f)
{
	uint64_t threads = (uint64_t)c->block[0] * c->block[1] * c->block[2];

	if (!f || !c->grid[0] || !c->grid[1] || !c->grid[2] || !threads ||
	    c->grid[1] > 65535 || c->grid[2] > 65535 || c->block[2] > 64)
		return CU_INVALID_VALUE;
	if (threads > (uint64_t)max_threads(f))
		return threads > 1024 ? CU_INVALID_VALUE : CU_OUT_OF_RESOURCES;
	if ((int64_t)c->shared > f->max_dyn)
		return CU_INVALID_VALUE;
	return 0;
}

static int attributes(const struct cu_launch_config *c, struct op *op)
{
	uint32_t i, blocks = op->grid[0] * op->grid[1] * op->grid[2];

	for (i = 0; i < c->n_attr; i++) {
		const struct cu_attr *a = &c->attr[i];

		switch (a->id) {
		case CU_ATTR_PDL:
			op->pdl = a->value.i != 0;
			break;
		case CU_ATTR_COOPERATIVE:
			if (a->value.i && blocks > (uint32_t)dev.n_sm) {
				dev_note("cooperative launch of %u blocks, of "
					 "which %d fit",
					 blocks, dev.n_sm);
				return CU_TOO_LARGE;
			}
			break;
		case CU_ATTR_CLUSTER:
			if (a->value.u[0] * a->value.u[1] * a->value.u[2] > 1) {
				dev_note("clusters are not simulated");
				return CU_NOT_SUPPORTED;
			}
			break;
		default:
			break;
		}
	}
	return 0;
}

static int launch(const struct cu_launch_config *c, struct cu_func *f,
		  void **params, void **extra)
{
	const struct ptx_kernel *k;
	struct op *op;
	uint8_t *blob;
	int i, rc;

	if (extra)
		return CU_NOT_SUPPORTED;
	rc = check_shape(c, f);
	if (rc)
		return rc;
	k = f->k;
	op = op_new(OP_KERNEL);
	op->func = f;
	op->dyn = c->shared;
	memcpy(op->grid, c->grid, sizeof(op->grid));
	memcpy(op->block, c->block, sizeof(op->block));
	rc = attributes(c, op);
	if (rc) {
		op_free(op);
		return rc;
	}
	op->blob_n = PTX_PARAM_MAX;
	blob = op->blob = calloc(1, PTX_PARAM_MAX);
	if (!blob)
		abort();
	for (i = 0; i < k->n_param; i++)
		memcpy(blob + k->param_off[i], params[i],
		       (size_t)k->param_size[i]);
	return stream_push(c->stream, op);
}

int cuLaunchKernel(struct cu_func *f, unsigned int gx, unsigned int gy,
		   unsigned int gz, unsigned int bx, unsigned int by,
		   unsigned int bz, unsigned int dyn, struct cu_stream *s,
		   void **params, void **extra)
{
	struct cu_launch_config c = {
		.grid = { gx, gy, gz },
		.block = { bx, by, bz },
		.shared = dyn,
		.stream = s,
	};

	ENTER(API_CTX);
	return api_leave(launch(&c, f, params, extra));
}

int cuLaunchKernelEx(const struct cu_launch_config *c, struct cu_func *f,
		     void **params, void **extra)
{
	ENTER(API_CTX);
	return api_leave(launch(c, f, params, extra));
}

int cuLaunchCooperativeKernel(struct cu_func *f, unsigned int gx,
			      unsigned int gy, unsigned int gz, unsigned int bx,
			      unsigned int by, unsigned int bz,
			      unsigned int dyn, struct cu_stream *s,
			      void **params)
{
	struct cu_attr all = { .id = CU_ATTR_COOPERATIVE, .value.i = 1 };
	struct cu_launch_config c = {
		.grid = { gx, gy, gz },
		.block = { bx, by, bz },
		.shared = dyn,
		.stream = s,
		.attr = &all,
		.n_attr = 1,
	};

	ENTER(API_CTX);
	return api_leave(launch(&c, f, params, NULL));
}

/* Bytes of an element, by CUtensorMapDataType. */
static const uint8_t elem_bytes[] = { 1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4 };

int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *addr,
			   const uint64_t *dim, const uint64_t *stride,
			   const uint32_t *box, const uint32_t *step,
			   int interleave, int swizzle, int l2, int oob)
{
	static const uint32_t most[] = { ~0u, 32, 64, 128 };
	struct tma_map t = { .magic = TMA_MAGIC, .rank = rank };

	ENTER(API_CTX);
	(void)l2;
	if (rank != 2 || interleave || oob) {
		dev_note("tensor maps other than plain ones of rank 2 are not "
			 "simulated");
		return api_leave(CU_NOT_SUPPORTED);
	}
	if ((unsigned int)type >= sizeof(elem_bytes) || (unsigned)swizzle > 3 ||
	    (uintptr_t)map & 63 || (uintptr_t)addr & 15 || stride[0] & 15 ||
	    !box[0] || !box[1] || box[0] > 256 || box[1] > 256 ||
	    step[0] != 1 || step[1] != 1 || !dim[0] || !dim[1])
		return api_leave(CU_INVALID_VALUE);
	t.elem = elem_bytes[type];
	if (box[0] * t.elem % 16 || box[0] * t.elem > most[swizzle])
		return api_leave(CU_INVALID_VALUE);
	t.swizzle = (uint32_t)swizzle;
	t.addr = (uint64_t)(uintptr_t)addr;
	memcpy(t.dim, dim, sizeof(t.dim));
	memcpy(t.box, box, sizeof(t.box));
	t.stride = stride[0];
	memset(map, 0, 128);
	memcpy(map, &t, sizeof(t));
	return api_leave(0);
}
