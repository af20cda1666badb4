/* SPDX-License-Identifier: MIT */
/* ptx.h - PTX text decoded for a warp-wide interpreter, and what runs it. */
#ifndef CUDASIM_PTX_H
#define CUDASIM_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ptx_type {
	T_NONE,
	T_U8,
	T_U16,
	T_U32,
	T_U64,
	T_S8,
	T_S16,
	T_S32,
	T_S64,
	T_F16,
	T_BF16,
	T_F32,
	T_F64,
	T_PRED,
	T_F16X2,
	T_BF16X2,
	T_MAX,
};

enum ptx_space { SP_GENERIC, SP_GLOBAL, SP_SHARED, SP_LOCAL, SP_PARAM };
enum ptx_cmp {
	CMP_EQ,
	CMP_NE,
	CMP_LT,
	CMP_LE,
	CMP_GT,
	CMP_GE,
	CMP_NUM,
	CMP_NAN,
};
enum ptx_round { RN_NONE, RN_NEAR, RN_ZERO, RN_DOWN, RN_UP };
enum ptx_sub {
	SUB_NONE,
	SUB_ADD,
	SUB_MIN,
	SUB_MAX,
	SUB_AND,
	SUB_OR,
	SUB_XOR,
	SUB_EXCH,
	SUB_CAS,
	SUB_INC,
	SUB_DEC
};

/* Windows of the generic address space that are no memory of the host's. */
#define PTX_SHARED_BASE 0x7e0000000000ull
#define PTX_LOCAL_BASE	0x7d0000000000ull
#define PTX_PARAM_BASE	0x7c0000000000ull
#define PTX_WINDOW	0x000100000000ull

#define PTX_GROUPS    8 /* operands of one instruction; {..} is one */
#define PTX_PARAMS    64
#define PTX_PARAM_MAX 4096
#define PTX_WARPS     32
#define PTX_BARS      16
#define PTX_MBARS     64
#define PTX_ASYNC     33 /* clocks of a block: its warps', and the copies' */

struct ptx_warp;
struct ptx_insn;

/* A row of ptx_ops.def: what NAME, a prefix of the dotted opcode, does. */
struct ptx_op {
	const char *name;
	void (*run)(struct ptx_warp *w, const struct ptx_insn *x, uint32_t ex);
	uint8_t n_least; /* operands it has at least */
	uint8_t n_most;
	uint8_t flags;
};
#define OP_SETS_PC 1 /* says itself where its lanes go on */
#define OP_WARP	   2 /* waits for the lanes its mask names */
#define OP_ALL	   4 /* waits for the whole warp */
#define OP_WGMMA   8 /* may name registers of unfinished wgmma */

extern const struct ptx_op ptx_ops[];
extern const int n_ptx_ops;

struct ptx_insn {
	const struct ptx_op *op;
	int *arg;			/* registers; negative: ~constant */
	int off[PTX_GROUPS];		/* of [register + off] */
	uint16_t first[PTX_GROUPS + 1]; /* of a group in arg */
	uint8_t n_groups;
	uint8_t n_ty;
	uint8_t ty[4];
	uint8_t space;
	uint8_t cmp;
	uint8_t round;
	uint8_t sub;
	uint8_t vec;
	uint8_t not_arg; /* group that was written with '!' plus one */
	bool unordered;	 /* a comparison that holds for NaN */
	bool strong;	 /* volatile, relaxed, acquire, release, atomic */
	bool sat;
	bool directed; /* result is rounded as round says */
	bool expect_tx;
	bool trans;
	bool pred_not;
	int shape[3]; /* m, n, k */
	int pred;     /* register, or -1 */
	int target;
	int scope;
	int line;
};

struct ptx_kernel {
	char *name;
	struct ptx_insn *code;
	int n_code;
	int n_reg;
	uint64_t (*konst)[32];
	int n_konst;
	int n_param;
	int param_off[PTX_PARAMS];
	int param_size[PTX_PARAMS];
	int param_bytes;
	int shared; /* bytes of static shared memory */
	int dyn_align;
	int dyn_konst; /* constant that is where dynamic memory begins */
	int local;     /* bytes a thread */
	int max_threads;
};

struct ptx_var {
	char *name;
	void *at;
	size_t size;
};

/* A module: kernels and the variables they share. */
struct ptx_module {
	struct ptx_kernel *kernel;
	int n_kernel;
	struct ptx_var *var;
	int n_var;
	char error[256];
};

/**
 * ptx_parse() - decode PTX text.
 * @alloc: gives memory for a module's variables
 *
 * Return: new module; with error[0] set if the text was refused.
 */
struct ptx_module *ptx_parse(const char *text, void *(*alloc)(size_t bytes));
void ptx_free(struct ptx_module *m);

/* ------------------------------------------------------------ execution */

/* What a launch is given, and how its memory is checked. */
struct ptx_launch {
	const struct ptx_kernel *k;
	uint32_t grid[3];
	uint32_t block[3];
	uint32_t dyn;
	uint8_t *param;
	uint64_t seed;
	uint64_t progress; /* stores, arrivals, exits: not idle turning */
	uint64_t insns;
	int triggered; /* blocks that let dependents start */
	bool pdl;      /* started before its predecessor was done */
	void *op;      /* of the device's, for the calls below */
	int error;     /* CUresult */
	char text[512];
};

/* Device memory: the host address of N bytes at ADDR, or NULL and *why. */
void *dev_access(struct ptx_launch *ln, uint64_t addr, uint32_t n, bool write,
		 bool strong, bool waited, const char **why);
bool dev_waited(struct ptx_launch *ln);

/* Who wrote and read four bytes of shared memory last: warp << 26 | clock. */
struct ptx_shadow {
	uint32_t writer;
	uint32_t reader[2];
	uint8_t wmask;
	uint8_t rmask;
};

struct ptx_bar {
	uint32_t waiting[PTX_WARPS];
	uint32_t clock[PTX_ASYNC];
	int arrived;
	int expected;
	int yes;	       /* threads that came with true, to bar.red */
	int result[PTX_WARPS]; /* register for what they get, plus one */
};

struct ptx_mbar {
	uint32_t at;
	uint32_t expect; /* arrivals a phase */
	uint32_t pending;
	int64_t tx; /* bytes promised less those that came */
	uint64_t phase;
	uint32_t clock[PTX_ASYNC]; /* of the phase that is filling */
	uint32_t done[PTX_ASYNC];  /* of phases that are complete */
};

/* A copy under way: cp.async of a lane, or a bulk copy on an mbarrier. */
struct ptx_copy {
	uint64_t dst;
	uint64_t src;
	uint32_t bytes;
	uint32_t fill; /* zeros after them */
	uint32_t group;
	uint32_t mbar;
	const struct tma_map *map;
	int at[2];
	const struct ptx_insn *x;
	int lane;
	int warp;
};

struct ptx_wgmma {
	const struct ptx_insn *x;
	uint64_t a;
	uint64_t b;
	bool add;
	bool neg_a;
	bool neg_b;
	uint32_t group;
	uint32_t clock[PTX_ASYNC];
};

struct ptx_copies {
	struct ptx_copy *c;
	int n;
	int room;
};

struct ptx_warp {
	struct ptx_block *b;
	const struct ptx_kernel *k;
	uint64_t *r;
	uint8_t *local;
	int id;
	int pc[32];
	int upc; /* of all that run, if uniform */
	bool uniform;
	bool slept;  /* waits for others: no use in another turn now */
	bool again;  /* the instruction has yet to be done */
	bool polled; /* in this turn, for what others may write */
	const struct ptx_mbar *at_mbar; /* where it slept in this turn */
	bool waited;			/* for the kernel before, under PDL */
	uint32_t alive;
	uint32_t at_bar;
	uint32_t at_warp;
	uint32_t clock[PTX_ASYNC];
	struct ptx_copies copies; /* cp.async */
	uint32_t group[32];
	struct ptx_wgmma *wg;
	int n_wg;
	int wg_room;
	uint32_t wg_group;
	uint8_t *wg_reg; /* registers that unfinished wgmma writes */
};

struct ptx_block {
	struct ptx_launch *ln;
	uint32_t id[3];
	uint8_t *shared;
	struct ptx_shadow *shadow;
	uint32_t n_shared;
	uint32_t dyn_at;
	struct ptx_warp warp[PTX_WARPS];
	int n_warps;
	int n_threads;
	struct ptx_bar bar[PTX_BARS];
	struct ptx_mbar mbar[PTX_MBARS];
	int n_mbar;
	struct ptx_copies bulk;
	uint32_t landed;	  /* clock of bulk copies */
	uint32_t sync[PTX_ASYNC]; /* what atomics have made known */
	uint64_t rng;
	int hung; /* turns in which nobody could but wait */
	bool triggered;
};

enum ptx_state { PTX_DONE, PTX_RAN, PTX_IDLE, PTX_FAULT };

struct ptx_block *ptx_block_new(struct ptx_launch *ln, uint32_t index);
/* A turn of every warp, in an order of the seed's. */
enum ptx_state ptx_block_run(struct ptx_block *b);
void ptx_block_free(struct ptx_block *b);

/* The instructions' side. */
enum {
	ERR_INVALID = 1,
	ERR_ADDRESS = 700,
	ERR_TIMEOUT = 702,
	ERR_ILLEGAL = 715,
	ERR_MISALIGNED = 716,
	ERR_FAILED = 719
};
void ptx_fault(struct ptx_warp *w, const struct ptx_insn *x, int lane, int err,
	       const char *fmt, ...) __attribute__((format(printf, 5, 6)));
uint64_t ptx_random(struct ptx_block *b);
void *ptx_memory(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		 uint64_t addr, uint32_t n, bool write);
void ptx_join(uint32_t *to, const uint32_t *from);

enum ptx_access { ACC_READ, ACC_WRITE, ACC_FLIGHT, ACC_LAND };
/* Check and note an access to shared memory with the order CLOCK knows. */
bool ptx_shared_access(struct ptx_warp *w, const struct ptx_insn *x, int lane,
		       uint32_t at, uint32_t n, enum ptx_access how,
		       const uint32_t *clock, int who);
struct ptx_copy *ptx_copy_add(struct ptx_copies *q);
void ptx_land_bulk(struct ptx_block *b, int i);
void ptx_copies_free(struct ptx_copies *q);

static inline uint64_t *ptx_row(struct ptx_warp *w, int i)
{
	return i >= 0 ? w->r + (size_t)i * 32 : w->k->konst[~i];
}

static inline int ptx_arg(const struct ptx_insn *x, int group, int i)
{
	return x->arg[x->first[group] + i];
}

static inline uint64_t *ptx_op_row(struct ptx_warp *w, const struct ptx_insn *x,
				   int group)
{
	return ptx_row(w, ptx_arg(x, group, 0));
}

static inline int ptx_count(const struct ptx_insn *x, int group)
{
	return x->first[group + 1] - x->first[group];
}

#define EACH(l, ex)                                                  \
	for (uint32_t m_ = (ex); m_ && ((l) = __builtin_ctz(m_), 1); \
	     m_ &= m_ - 1)

int ptx_type_size(int ty);

static inline float f32_of(uint64_t v)
{
	uint32_t u = (uint32_t)v;
	float f;

	__builtin_memcpy(&f, &u, 4);
	return f;
}

static inline uint64_t of_f32(float f)
{
	uint32_t u;

	__builtin_memcpy(&u, &f, 4);
	return u;
}

static inline float bf16_of(uint64_t v)
{
	return f32_of((v & 0xffff) << 16);
}

float f16_of(uint64_t v);
uint16_t of_f16(float f);
uint16_t of_bf16(float f);

#endif
