/* SPDX-License-Identifier: MIT */
/* cuda_abi.h - of the CUDA Driver API, the numbers and layouts used here. */
#ifndef CUDASIM_CUDA_ABI_H
#define CUDASIM_CUDA_ABI_H

#include <stddef.h>
#include <stdint.h>

enum cu_result {
	CU_OK = 0,
	CU_INVALID_VALUE = 1,
	CU_OUT_OF_MEMORY = 2,
	CU_NOT_INITIALIZED = 3,
	CU_INVALID_DEVICE = 101,
	CU_INVALID_IMAGE = 200,
	CU_INVALID_CONTEXT = 201,
	CU_NO_BINARY = 209,
	CU_INVALID_PTX = 218,
	CU_INVALID_HANDLE = 400,
	CU_NOT_FOUND = 500,
	CU_NOT_READY = 600,
	CU_ILLEGAL_ADDRESS = 700,
	CU_OUT_OF_RESOURCES = 701,
	CU_TIMEOUT = 702,
	CU_ALREADY_REGISTERED = 712,
	CU_NOT_REGISTERED = 713,
	CU_ILLEGAL_INSTRUCTION = 715,
	CU_MISALIGNED = 716,
	CU_LAUNCH_FAILED = 719,
	CU_TOO_LARGE = 720,
	CU_NOT_PERMITTED = 800,
	CU_NOT_SUPPORTED = 801,
	CU_CAPTURE_UNSUPPORTED = 900,
	CU_CAPTURE_INVALIDATED = 901,
	CU_CAPTURE_UNJOINED = 904,
	CU_UNKNOWN = 999,
};

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
