/* SPDX-License-Identifier: MIT */
/*
 * device.h - an opened GPU: its memory, uploads to it, kernels, waiting.
 *
 * All of it is one thread's, and every call that fails says so in the device's
 * @why, as "cuMemCreate: CUDA_ERROR_OUT_OF_MEMORY, growing weights". Memory on
 * the device is in arenas, so that what is counted is what there is.
 */
#ifndef HEARTH_CUDA_DEVICE_H
#define HEARTH_CUDA_DEVICE_H

#include "../backend.h"
#include "../gpu.h"
#include "driver.h"

#define CU_DEVICES 32
#define CU_SM_MIN  80 /* compute capability that our kernels need, times ten */

#define CU_GRANULE	  ((uint64_t)2 << 20) /* of device memory, if no driver says */
#define CU_UPLOAD_PIECE	  ((uint64_t)16 << 20) /* of an upload */
#define CU_REGISTER_PIECE ((uint64_t)1 << 30)  /* of host memory, at a time */

struct weights_run;

/**
 * struct cu_id - a device, before it is opened
 * @dev:  CUDA's number of it
 * @uuid: "GPU-01234567-89ab-cdef-0123-456789abcdef"
 * @pci:  "0000:01:00.0", as libdrm writes it
 * @sm:   compute capability times ten
 */
struct cu_id {
	int dev;
	int sm;
	char name[64];
	char uuid[48];
	char pci[16];
};

/* What device memory is for. */
enum cu_kind { CU_WEIGHTS, CU_KV, CU_SCRATCH, CU_KINDS };

struct cu_bytes {
	uint64_t now;
	uint64_t peak;
};

/**
 * struct cu_dev - a device and its context
 * @conf:     beats and spinning are as it says
 * @n_sm:     multiprocessors
 * @shared_block, @shared_sm: bytes of shared memory a block may ask for, and
 *            a multiprocessor has
 * @vram_bytes: all of it
 * @granule:  what device memory is mapped in
 * @piece_bytes, @pin_bytes: that are copied, and registered, in one go
 * @vmm, @registers, @read_only: addresses can be reserved before there is
 *            memory; host memory be registered, and also what is mapped
 *            read-only
 * @drm:      the same device in libdrm's list, if @has_drm
 * @compute:  stream of higher priority
 * @copy:     stream for uploads
 * @bytes:    mapped on the device by kind; @total: by all of them
 * @pinned:   bytes of cu_pinned_new(), uploads' buffers among them
 * @lost:     the context is gone: nothing will work but cu_dev_close()
 * @why:      of the last failure
 */
struct cu_dev {
	struct cu_driver drv;
	struct backend_conf conf;
	struct cu_id id;
	int n_sm;
	uint32_t shared_block;
	uint32_t shared_sm;
	uint64_t l2_bytes;
	uint64_t vram_bytes;
	uint64_t granule;
	uint64_t piece_bytes;
	uint64_t pin_bytes;
	bool vmm;
	bool registers;
	bool read_only;
	bool has_drm;
	bool lost;
	bool opened;
	struct gpu drm;
	struct cu_ctx *ctx;
	struct cu_stream *compute;
	struct cu_stream *copy;
	struct cu_bytes bytes[CU_KINDS];
	struct cu_bytes total;
	struct cu_bytes pinned;
	char why[CU_WHY];
};

/* ------------------------------------------------------------- device.c */

/**
 * cu_dev_open() - choose a device, and make its context this thread's
 * @conf:  copied; @beat in it must live as long as the device
 * @which: CUDA's index ("0"), UUID or the beginning of one ("GPU-0123"), PCI
 *         address ("0000:01:00.0"); "": the first that our kernels run on
 * @lib:   see cu_driver_open()
 *
 * Return: 0 or -errno; then nothing is left and @d->why says. -ENODEV: there
 * is no such device; -EOPNOTSUPP: our kernels do not run on it.
 */
int cu_dev_open(struct cu_dev *d, const struct backend_conf *conf,
		const char *which, const char *lib);

/* What was made on it must be gone. Counters and @why stay. */
void cu_dev_close(struct cu_dev *d);

/* Which of @n: an index into @ids, or -ENODEV or -EINVAL with a sentence. */
int cu_choose(const struct cu_id *ids, int n, const char *which,
	      char why[CU_WHY]);

/* That of @list, of @n, with the PCI address, in whatever case; or NULL. */
const struct gpu *cu_pair(const char *pci, const struct gpu *list, int n);

/* "NVIDIA H100 (sm_90, 132 SMs, 79.6 GiB), pci 0000:01:00.0,
 * /dev/dri/renderD128, driver of CUDA 13.0". Return bytes, as snprintf does. */
int cu_dev_print(const struct cu_dev *d, char *buf, size_t n);

/* Bytes of VRAM nobody has now. */
int cu_dev_left(struct cu_dev *d, uint64_t *left);

/**
 * CU() - call the driver: 0, or -errno with @why set and @lost brought up to date
 * Then what is being done, as for printf:
 *	rc = CU(d, cuEventRecord(e, s), "layer %u", i);
 */
#define CU(d, call, ...) cu_check(d, (d)->drv.call, #call, __VA_ARGS__)
int cu_check(struct cu_dev *d, int result, const char *call, const char *fmt,
	     ...) __attribute__((format(printf, 4, 5), warn_unused_result));

/* A failure that no call of the driver's reported. Return: @err. */
int cu_fail(struct cu_dev *d, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Give something back: a failure is logged, and @why stays as it is. A context
 * that is lost has nothing to give. */
#define CU_DROP(d, call)                                     \
	do {                                                 \
		if (!(d)->lost)                              \
			cu_dropped(d, (d)->drv.call, #call); \
	} while (0)
void cu_dropped(struct cu_dev *d, int result, const char *call);

/**
 * cu_wait() - wait for an event: first looking, then asleep
 * It looks for conf.spin_us. A device that hangs is waited for for ever: who
 * watches the beats ends it.
 */
int cu_wait(struct cu_dev *d, struct cu_event *e, const char *doing);

/* For cu_wait(); @timed: cuEventElapsedTime() may ask it. */
int cu_event_new(struct cu_dev *d, struct cu_event **e, bool timed);
void cu_event_free(struct cu_dev *d, struct cu_event **e);

/* -------------------------------------------------------------- arena.c */

/**
 * struct cu_arena - device memory at addresses that never change
 * @at:       where it is
 * @reserved: bytes it can have at most
 * @bytes:    bytes it has: [at, at + bytes) can be used
 */
struct cu_arena {
	enum cu_kind kind;
	uint64_t at;
	uint64_t reserved;
	uint64_t bytes;
	uint32_t n_chunks;
	bool whole;
	struct cu_chunk {
		uint64_t handle;
		uint64_t bytes;
	} * chunk; /* one for each time it grew */
};

/* What @bytes become in an arena: whole granules. */
uint64_t cu_arena_round(const struct cu_dev *d, uint64_t bytes);

/* Reserve addresses. Where the driver cannot, all of @max is allocated here. */
int cu_arena_open(struct cu_dev *d, struct cu_arena *a, enum cu_kind kind,
		  uint64_t max);

/* Have at least @bytes. -ENOMEM: no room on the device; it is as it was. */
int cu_arena_grow(struct cu_dev *d, struct cu_arena *a, uint64_t bytes);

/* Give back what it grew by as long as @bytes are left. Nothing may use it. */
void cu_arena_shrink(struct cu_dev *d, struct cu_arena *a, uint64_t bytes);
void cu_arena_close(struct cu_dev *d, struct cu_arena *a);

/* Host memory that the device reads and writes, at *at for it. */
int cu_pinned_new(struct cu_dev *d, uint64_t bytes, void **p, uint64_t *at);
void cu_pinned_free(struct cu_dev *d, void *p, uint64_t bytes);

/* ------------------------------------------------------------- upload.c */

/**
 * struct cu_host - host memory to upload
 * @what:  for the log, which is told once how it went
 * @base:  a whole page's address
 * @run:   what of it, in this order
 * @read_only: it is mapped so
 */
struct cu_host {
	const char *what;
	const uint8_t *base;
	const struct weights_run *run;
	uint32_t n_runs;
	bool read_only;
};

/**
 * struct cu_upload - copies under way on the copy stream
 * @d:       a handle of the thread that goes on with it: another one may, when
 *           cu_upload_start() has returned, with its own
 * @base:    the host memory, which stays mapped; NULL: there is no upload
 * @dst:     where the runs come to lie, one after the other
 * @bytes:   of all runs; of these, from the start:
 * @queued:  on their way
 * @done:    known to have arrived
 * @ordered: what is put on the other stream comes after their arrival
 * @copy:    copies, each up to byte @end; the first @n_done of them are done
 * @pin:     what is registered
 * @failed:  its events say nothing
 */
struct cu_upload {
	struct cu_dev *d;
	const uint8_t *base;
	uint64_t dst;
	uint64_t bytes;
	uint64_t queued;
	uint64_t done;
	uint64_t ordered;
	uint32_t n_copies;
	uint32_t n_done;
	uint32_t n_pins;
	bool failed;
	struct cu_copy {
		struct cu_event *arrived;
		uint64_t end;
	} * copy;
	struct cu_pin {
		void *p;
	} * pin;
	void *buffer[2];
};

/**
 * cu_upload_start() - register host memory and have it copied to @dst
 *
 * What is registered is on its way, a piece while the next one is registered:
 * read-only if it is mapped so and the device can, else writable. What cannot
 * be registered goes through two buffers, and then all has arrived when this
 * returns. With a beat for each piece. On failure nothing is left of @u.
 */
int cu_upload_start(struct cu_upload *u, struct cu_dev *d, uint64_t dst,
		    const struct cu_host *h);

/* What is put on @s, always the same stream, from now on comes after the first
 * @upto bytes. Return: 1 if a wait was put there, 0 if none was needed. */
int cu_upload_order(struct cu_upload *u, uint64_t upto, struct cu_stream *s);

/* Find what has arrived; or wait for the first @upto bytes, with a beat for each
 * copy. */
int cu_upload_poll(struct cu_upload *u);
int cu_upload_wait(struct cu_upload *u, uint64_t upto);

/* Give one registration back when all has arrived. False: there is none. */
bool cu_upload_unpin(struct cu_upload *u);

/* All that is left of it, if anything; waits for what is on its way. */
void cu_upload_drop(struct cu_upload *u);

/* Small things, in the caller's time: on the copy stream, and waited for. */
int cu_put(struct cu_dev *d, uint64_t dst, const void *src, uint64_t bytes);
int cu_get(struct cu_dev *d, void *dst, uint64_t src, uint64_t bytes);

/* --------------------------------------------------------------- code.c */

/**
 * cu_code_load() - load kernels
 * @image: fatbin, or PTX that ends with a NUL; borrowed
 * @names: @n of them; @fns are what they are on the device
 *
 * Return: 0; -ENOEXEC: not for this device, with what the compiler in the
 * driver said; -ENOENT: there is no kernel of one of the names.
 */
int cu_code_load(struct cu_dev *d, struct cu_module **m, const void *image,
		 size_t bytes, const char *const names[], struct cu_func *fns[],
		 size_t n);
void cu_code_unload(struct cu_dev *d, struct cu_module **m);

/**
 * struct cu_run - how a kernel is launched
 * @name: for messages
 * @pdl:  it may begin before the one in front of it on the stream has ended,
 *        and waits for it by griddepcontrol.wait
 */
struct cu_run {
	struct cu_func *fn;
	const char *name;
	uint32_t grid[3];
	uint32_t block[3];
	uint32_t shared;
	bool pdl;
};
int cu_run(struct cu_dev *d, const struct cu_run *l, struct cu_stream *s,
	   void *params[]);

/* Between the two, what is put on @s is not done but kept; *x is given to
 * cuGraphLaunch(). @rc: of what was done between; if it is a failure the graph
 * is dropped and it is returned. */
int cu_capture_begin(struct cu_dev *d, struct cu_stream *s);
int cu_capture_end(struct cu_dev *d, struct cu_stream *s, int rc,
		   struct cu_exec **x);
void cu_exec_free(struct cu_dev *d, struct cu_exec **x);

#endif
