/* SPDX-License-Identifier: MIT */
/*
 * abi.h - of the CUDA Driver API, the numbers and layouts used here: all that
 * is needed to call libcuda.so.1, or to be one. Nothing of Hearth is in it.
 */
#ifndef HEARTH_CUDA_ABI_H
#define HEARTH_CUDA_ABI_H

#include <stddef.h>
#include <stdint.h>

/* Handles. */
struct cu_ctx;
struct cu_module;
struct cu_func;
struct cu_stream;
struct cu_event;
struct cu_graph;
struct cu_exec;

enum cu_result {
	CU_OK = 0,
	CU_INVALID_VALUE = 1,
	CU_OUT_OF_MEMORY = 2,
	CU_NOT_INITIALIZED = 3,
	CU_DEINITIALIZED = 4,
	CU_STUB_LIBRARY = 34,
	CU_NEWER_DRIVER = 36,
	CU_DEVICE_UNAVAILABLE = 46,
	CU_NO_DEVICE = 100,
	CU_INVALID_DEVICE = 101,
	CU_NOT_LICENSED = 102,
	CU_INVALID_IMAGE = 200,
	CU_INVALID_CONTEXT = 201,
	CU_NO_BINARY = 209,
	CU_ECC = 214,
	CU_INVALID_PTX = 218,
	CU_NVLINK = 220,
	CU_JIT_DISABLED = 223,
	CU_CONTAINED = 226,
	CU_OPERATING_SYSTEM = 304,
	CU_INVALID_HANDLE = 400,
	CU_NOT_FOUND = 500,
	CU_NOT_READY = 600,
	CU_ILLEGAL_ADDRESS = 700,
	CU_OUT_OF_RESOURCES = 701,
	CU_TIMEOUT = 702,
	CU_CONTEXT_DESTROYED = 709,
	CU_ASSERT = 710,
	CU_ALREADY_REGISTERED = 712,
	CU_NOT_REGISTERED = 713,
	CU_HARDWARE_STACK = 714,
	CU_ILLEGAL_INSTRUCTION = 715,
	CU_MISALIGNED = 716,
	CU_LAUNCH_FAILED = 719,
	CU_TOO_LARGE = 720,
	CU_TENSOR_MEMORY_LEAK = 721,
	CU_NOT_PERMITTED = 800,
	CU_NOT_SUPPORTED = 801,
	CU_SYSTEM_NOT_READY = 802,
	CU_DRIVER_MISMATCH = 803,
	CU_COMPAT_NOT_SUPPORTED = 804,
	CU_CAPTURE_UNSUPPORTED = 900,
	CU_CAPTURE_INVALIDATED = 901,
	CU_CAPTURE_UNJOINED = 904,
	CU_CAPTURE_WRONG_THREAD = 908,
	CU_EXTERNAL_DEVICE = 911,
	CU_UNKNOWN = 999,
};

/* Of a device: cuDeviceGetAttribute. */
enum cu_dev_attr {
	CU_DEV_CLOCK_KHZ = 13, /* the highest */
	CU_DEV_SMS = 16,
	CU_DEV_MEMORY_KHZ = 36,
	CU_DEV_BUS_BITS = 37,
	CU_DEV_L2_BYTES = 38,
	CU_DEV_COPY_ENGINES = 40,
	CU_DEV_MAJOR = 75,
	CU_DEV_MINOR = 76,
	CU_DEV_SHARED_SM = 81,	  /* bytes a multiprocessor */
	CU_DEV_SHARED_BLOCK = 97, /* bytes a block may ask for */
	CU_DEV_HOST_REGISTER = 99,
	CU_DEV_VMM = 102,
	CU_DEV_READ_ONLY_REGISTER = 113,
};

/* Of a kernel: cuFuncGetAttribute, cuFuncSetAttribute. */
enum cu_func_attr {
	CU_FUNC_THREADS = 0,
	CU_FUNC_SHARED = 1, /* bytes, without the dynamic ones */
	CU_FUNC_CONST = 2,
	CU_FUNC_LOCAL = 3, /* bytes of a thread: spills are in them */
	CU_FUNC_REGS = 4,
	CU_FUNC_PTX = 5,
	CU_FUNC_BINARY = 6,
	CU_FUNC_DYN = 8, /* bytes of dynamic shared memory it may have */
	CU_FUNC_CARVEOUT = 9,
};

/* Options of cuModuleLoadDataEx; a size is in the pointer's place. */
enum cu_jit {
	CU_JIT_INFO = 3,
	CU_JIT_INFO_BYTES = 4,
	CU_JIT_ERROR = 5,
	CU_JIT_ERROR_BYTES = 6,
};

#define CU_CTX_BLOCKING 4u /* threads that wait sleep */

#define CU_STREAM_NON_BLOCKING 1u /* it and stream 0 do not wait */
#define CU_EVENT_BLOCKING      1u
#define CU_EVENT_NO_TIMING     2u

#define CU_HOST_PORTABLE     1u
#define CU_HOST_DEVICE_MAP   2u
#define CU_HOST_READ_ONLY    8u /* of cuMemHostRegister */
#define CU_CAPTURE_THREAD    1	/* only this thread may not wait meanwhile */
#define CU_GRANULARITY_LEAST 0
#define CU_ACCESS_READ_WRITE 3

struct cu_attr {
	int id;
	char pad[4];
	union {
		int i;
		uint32_t u[3];
		char room[64];
	} value;
};
#define CU_ATTR_COOPERATIVE 2
#define CU_ATTR_CLUSTER	    4
#define CU_ATTR_PDL	    6

struct cu_launch_config {
	uint32_t grid[3];
	uint32_t block[3];
	uint32_t shared;
	struct cu_stream *stream;
	struct cu_attr *attr;
	uint32_t n_attr;
};

struct cu_location {
	int type; /* 1: device */
	int id;
};

struct cu_alloc_prop {
	int type; /* 1: pinned */
	int handle_types;
	struct cu_location location;
	void *security;
	uint8_t flags[8];
};

struct cu_access {
	struct cu_location location;
	int flags; /* 0: none, 1: read, 3: read and write */
};

struct cu_uuid {
	char bytes[16];
};

#endif
