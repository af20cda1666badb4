/* SPDX-License-Identifier: MIT */
/* cuda_mem.c - what memory there is, who touched it last, copies and sets. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sim.h"

#define SEQ_BITS   26
#define SEQ_MASK   ((1u << SEQ_BITS) - 1)
#define POISON_MAX ((size_t)64 << 20)

/* The entry at or before AT. */
static int index_of(uint64_t at)
{
	int lo = 0, hi = dev.n_mem;

	while (lo < hi) {
		int mid = (lo + hi) / 2;

		if (dev.mem[mid].at <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo - 1;
}

struct mem *mem_find(uint64_t at, size_t n)
{
	static int last;
	struct mem *m;
	int i = last;

	if (i >= dev.n_mem || at - dev.mem[i].at >= dev.mem[i].size)
		i = index_of(at);
	if (i < 0)
		return NULL;
	m = &dev.mem[i];
	if (at - m->at >= m->size || n > m->size - (at - m->at))
		return NULL;
	last = i;
	return m;
}

static void *map(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct mem *mem_add(struct mem m)
{
	int i = index_of(m.at) + 1;
	struct mem *v = realloc(dev.mem, ((size_t)dev.n_mem + 1) * sizeof(*v));

	if (!v)
		return NULL;
	dev.mem = v;
	m.shadow_size = (m.size / 4 + 2) * sizeof(*m.shadow);
	m.shadow = map(m.shadow_size);
	if (!m.shadow)
		return NULL;
	memmove(v + i + 1, v + i, (size_t)(dev.n_mem - i) * sizeof(*v));
	v[i] = m;
	dev.n_mem++;
	return &v[i];
}

void mem_remove(struct mem *m)
{
	int i = (int)(m - dev.mem);

	munmap(m->shadow, m->shadow_size);
	if (m->map)
		munmap(m->map, m->map_size);
	if (m->kind == MEM_DEVICE)
		dev.used -= m->size;
	memmove(m, m + 1, (size_t)(dev.n_mem - i - 1) * sizeof(*m));
	dev.n_mem--;
}

uint64_t mem_new(size_t n, enum mem_kind kind)
{
	struct mem m = { .size = n, .kind = kind, .access = 3 };

	if (!n || (kind == MEM_DEVICE && n > dev.total - dev.used))
		return 0;
	m.map_size = (n + 4095) & ~(size_t)4095;
	m.map = map(m.map_size);
	if (!m.map)
		return 0;
	memset(m.map, 0xff, n < POISON_MAX ? n : POISON_MAX);
	m.at = (uint64_t)(uintptr_t)m.map;
	if (!mem_add(m)) {
		munmap(m.map, m.map_size);
		return 0;
	}
	if (kind == MEM_DEVICE)
		dev.used += n;
	return m.at;
}

void *mem_module(size_t n)
{
	return (void *)(uintptr_t)mem_new(n, MEM_DEVICE);
}

bool mem_is_pinned(const void *p, size_t n)
{
	return mem_find((uint64_t)(uintptr_t)p, n) != NULL;
}

bool mem_is_registered(uint64_t at)
{
	const struct mem *m = mem_find(at, 1);

	return m && m->kind == MEM_REGISTERED;
}

/* --------------------------------------------------------------- checks */

static bool known(const struct op *op, uint32_t e, bool waited)
{
	int slot = (int)(e >> SEQ_BITS);
	uint32_t seq = e & SEQ_MASK;

	if (!e || (slot == op->slot && seq == (op->seq & SEQ_MASK)))
		return true;
	if (slot == op->slot && op->pdl && !waited)
		return seq + 1 < (op->seq & SEQ_MASK);
	return (op->need[slot] & SEQ_MASK) >= seq;
}

static const char *race(const struct op *op, uint32_t e, bool waited,
			const char *did)
{
	static char text[160];
	int slot = (int)(e >> SEQ_BITS);

	if (slot == op->slot && !waited)
		snprintf(text, sizeof(text),
			 "race: the kernel before %s it, and "
			 "griddepcontrol.wait did not come first",
			 did);
	else
		snprintf(text, sizeof(text),
			 "race: operation %u of stream %d %s it, and no event "
			 "orders it before operation %u of stream %d",
			 e & SEQ_MASK, slot, did, op->seq, op->slot);
	return text;
}

static const char *touch(const struct op *op, struct mem *m, uint64_t at,
			 size_t n, bool write, bool waited)
{
	size_t i = (at - m->at) / 4, end = (at - m->at + n + 3) / 4;
	uint32_t e = (uint32_t)op->slot << SEQ_BITS | (op->seq & SEQ_MASK);

	for (; i < end; i++) {
		struct mem_shadow *s = &m->shadow[i];

		if (s->writer != e && !known(op, s->writer, waited))
			return race(op, s->writer, waited, "wrote");
		if (!write) {
			s->reader = e;
			continue;
		}
		if (s->reader != e && !known(op, s->reader, waited))
			return race(op, s->reader, waited, "read");
		s->writer = e;
	}
	return NULL;
}

const char *mem_touch(const struct op *op, uint64_t at, size_t n, bool write,
		      bool waited)
{
	while (n) {
		struct mem *m = mem_find(at, 1);
		const char *why;
		size_t part;

		if (!m)
			return "outside every allocation";
		part = m->size - (at - m->at);
		if (part > n)
			part = n;
		if (!(m->access & (write ? 2 : 1)))
			return m->access ? "it is read-only"
					 : "mapped, but cuMemSetAccess was "
					   "not called";
		why = touch(op, m, at, part, write, waited);
		if (why)
			return why;
		at += part;
		n -= part;
	}
	return NULL;
}

void *dev_access(struct ptx_launch *ln, uint64_t addr, uint32_t n, bool write,
		 bool strong, bool waited, const char **why)
{
	static char text[160];
	struct mem *m = mem_find(addr, n);

	*why = NULL;
	if (m && strong && (m->access & (write ? 2 : 1)))
		return (void *)(uintptr_t)addr;
	if (m)
		*why = mem_touch(ln->op, addr, n, write, waited);
	if (m && !*why)
		return (void *)(uintptr_t)addr;
	if (!m) {
		int i = index_of(addr);

		*why = "outside every allocation";
		if (i >= 0) {
			snprintf(text, sizeof(text),
				 "outside every allocation; %llu bytes behind "
				 "the %zu at 0x%llx",
				 (unsigned long long)(addr - dev.mem[i].at -
						      dev.mem[i].size),
				 dev.mem[i].size,
				 (unsigned long long)dev.mem[i].at);
			if (addr - dev.mem[i].at <
			    dev.mem[i].size + ((size_t)1 << 30))
				*why = text;
		}
	}
	return NULL;
}

/* --------------------------------------------------------------- calls */

int cuMemAlloc_v2(uint64_t *at, size_t n)
{
	ENTER(API_CTX);
	if (!n)
		return api_leave(CU_INVALID_VALUE);
	*at = mem_new(n, MEM_DEVICE);
	return api_leave(*at ? 0 : CU_OUT_OF_MEMORY);
}

static int mem_free(uint64_t at, enum mem_kind kind, int otherwise)
{
	struct mem *m;
	int rc = stream_wait_all();

	if (rc)
		return rc;
	m = mem_find(at, 1);
	if (!m || m->at != at || m->kind != kind)
		return otherwise;
	mem_remove(m);
	return 0;
}

int cuMemFree_v2(uint64_t at)
{
	ENTER(API_CTX);
	return api_leave(at ? mem_free(at, MEM_DEVICE, CU_INVALID_VALUE) : 0);
}

int cuMemGetInfo_v2(size_t *free_, size_t *total)
{
	ENTER(API_CTX);
	*free_ = dev.total - dev.used;
	*total = dev.total;
	return api_leave(0);
}

int cuMemHostAlloc(void **p, size_t n, unsigned int flags)
{
	ENTER(API_CTX);
	(void)flags;
	*p = (void *)(uintptr_t)mem_new(n, MEM_PINNED);
	return api_leave(*p ? 0 : CU_OUT_OF_MEMORY);
}

int cuMemAllocHost_v2(void **p, size_t n)
{
	return cuMemHostAlloc(p, n, 0);
}

int cuMemFreeHost(void *p)
{
	ENTER(API_CTX);
	return api_leave(
		mem_free((uint64_t)(uintptr_t)p, MEM_PINNED, CU_INVALID_VALUE));
}

/* All of it is the program's to write, as the kernel has it. */
static bool writable(uint64_t at, size_t n)
{
	FILE *f = fopen("/proc/self/maps", "re");
	uint64_t from, to;
	char line[512], w;
	bool bad = false;

	while (f && !bad && fgets(line, sizeof(line), f))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*c%c", &from, &to,
			   &w) == 3)
			bad = from < at + n && to > at && w != 'w';
	if (f)
		fclose(f);
	return !bad;
}

int cuMemHostRegister_v2(void *p, size_t n, unsigned int flags)
{
	uint64_t at = (uint64_t)(uintptr_t)p;
	struct mem m = { .at = at, .size = n, .kind = MEM_REGISTERED };
	int i;

	ENTER(API_CTX);
	if (!p || !n)
		return api_leave(CU_INVALID_VALUE);
	i = index_of(at + n - 1);
	if (i >= 0 && dev.mem[i].at + dev.mem[i].size > at)
		return api_leave(CU_ALREADY_REGISTERED);
	if (!dev_attr(CU_DEV_HOST_REGISTER) ||
	    (flags & CU_HOST_READ_ONLY && !dev_attr(CU_DEV_READ_ONLY_REGISTER)))
		return api_leave(CU_NOT_SUPPORTED);
	if (!(flags & CU_HOST_READ_ONLY) && !writable(at, n))
		return api_leave(CU_INVALID_VALUE);
	m.access = flags & CU_HOST_READ_ONLY ? 1 : 3;
	return api_leave(mem_add(m) ? 0 : CU_OUT_OF_MEMORY);
}

int cuMemHostUnregister(void *p)
{
	ENTER(API_CTX);
	return api_leave(mem_free((uint64_t)(uintptr_t)p, MEM_REGISTERED,
				  CU_NOT_REGISTERED));
}

int cuMemHostGetDevicePointer_v2(uint64_t *at, void *p, unsigned int flags)
{
	struct mem *m;

	ENTER(API_CTX);
	(void)flags;
	m = mem_find((uint64_t)(uintptr_t)p, 1);
	*at = (uint64_t)(uintptr_t)p;
	return api_leave(m && m->kind != MEM_DEVICE ? 0 : CU_INVALID_VALUE);
}

/* ------------------------------------------------------- copies and sets */

static bool inside(uint64_t at, size_t n)
{
	while (n) {
		struct mem *m = mem_find(at, 1);
		size_t part;

		if (!m)
			return false;
		part = m->size - (at - m->at);
		part = part < n ? part : n;
		at += part;
		n -= part;
	}
	return true;
}

/* What is registered in two goes, or in part, is not copied in one. */
static bool half_registered(uint64_t at, size_t n)
{
	int i = index_of(at + n - 1);

	return i >= 0 && dev.mem[i].kind == MEM_REGISTERED &&
	       at < dev.mem[i].at + dev.mem[i].size && !mem_find(at, n);
}

/* Pageable memory is read now, pinned memory when the copy's time comes. */
static int copy(uint64_t to, bool to_host, uint64_t from, bool from_host,
		size_t n, struct cu_stream *s)
{
	struct op *op;

	if (!n)
		return 0;
	if ((!to_host && !inside(to, n)) || (!from_host && !inside(from, n)) ||
	    half_registered(to, n) || half_registered(from, n))
		return CU_INVALID_VALUE;
	op = op_new(OP_COPY);
	op->to = to;
	op->from = from;
	op->n = n;
	op->to_host = to_host && !inside(to, n);
	op->from_host = from_host && !inside(from, n);
	if (op->from_host) {
		op->blob = malloc(n);
		if (!op->blob)
			abort();
		memcpy(op->blob, (const void *)(uintptr_t)from, n);
		op->from = (uint64_t)(uintptr_t)op->blob;
	}
	return stream_push(s, op);
}

static int then_wait(int rc)
{
	return rc ? rc : stream_wait(stream_of(NULL));
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n,
			 struct cu_stream *s)
{
	ENTER(API_CTX);
	return api_leave(
		copy(to, false, (uint64_t)(uintptr_t)from, true, n, s));
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, struct cu_stream *s)
{
	ENTER(API_CTX);
	return api_leave(
		copy((uint64_t)(uintptr_t)to, true, from, false, n, s));
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n,
			 struct cu_stream *s)
{
	ENTER(API_CTX);
	return api_leave(copy(to, false, from, false, n, s));
}

int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t n)
{
	ENTER(API_CTX);
	return api_leave(then_wait(
		copy(to, false, (uint64_t)(uintptr_t)from, true, n, NULL)));
}

int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t n)
{
	ENTER(API_CTX);
	return api_leave(then_wait(
		copy((uint64_t)(uintptr_t)to, true, from, false, n, NULL)));
}

int cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t n)
{
	ENTER(API_CTX);
	return api_leave(copy(to, false, from, false, n, NULL));
}

/* Addresses are one space: each side is where it is. */
int cuMemcpyAsync(uint64_t to, uint64_t from, size_t n, struct cu_stream *s)
{
	ENTER(API_CTX);
	return api_leave(
		copy(to, !mem_find(to, 1), from, !mem_find(from, 1), n, s));
}

int cuMemcpy(uint64_t to, uint64_t from, size_t n)
{
	ENTER(API_CTX);
	return api_leave(then_wait(
		copy(to, !mem_find(to, 1), from, !mem_find(from, 1), n, NULL)));
}

static int set(uint64_t at, uint32_t v, int unit, size_t n, struct cu_stream *s)
{
	struct op *op;

	if (!n)
		return 0;
	if (at % (uint64_t)unit || !inside(at, n * (size_t)unit))
		return CU_INVALID_VALUE;
	op = op_new(OP_SET);
	op->to = at;
	op->value = v;
	op->unit = unit;
	op->n = n * (size_t)unit;
	return stream_push(s, op);
}

int cuMemsetD8Async(uint64_t at, unsigned char v, size_t n, struct cu_stream *s)
{
	ENTER(API_CTX);
	return api_leave(set(at, v, 1, n, s));
}

int cuMemsetD8_v2(uint64_t at, unsigned char v, size_t n)
{
	ENTER(API_CTX);
	return api_leave(set(at, v, 1, n, NULL));
}

int cuMemsetD16Async(uint64_t at, unsigned short v, size_t n,
		     struct cu_stream *s)
{
	ENTER(API_CTX);
	return api_leave(set(at, v, 2, n, s));
}

int cuMemsetD16_v2(uint64_t at, unsigned short v, size_t n)
{
	ENTER(API_CTX);
	return api_leave(set(at, v, 2, n, NULL));
}

int cuMemsetD32Async(uint64_t at, unsigned int v, size_t n, struct cu_stream *s)
{
	ENTER(API_CTX);
	return api_leave(set(at, v, 4, n, s));
}

int cuMemsetD32_v2(uint64_t at, unsigned int v, size_t n)
{
	ENTER(API_CTX);
	return api_leave(set(at, v, 4, n, NULL));
}
