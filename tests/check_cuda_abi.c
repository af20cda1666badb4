/* SPDX-License-Identifier: MIT */
/*
 * check_cuda_abi.c - what we declare of the Driver API is what NVIDIA declares,
 * where a cuda.h is at hand; the simulator could not tell.
 */
#include <stdio.h>

#if __has_include(<cuda.h>) && __has_include(<cudaTypedefs.h>)
#include <cuda.h>
#include <cudaTypedefs.h>
/* Ours is a macro, which hides theirs. */
static const int theirs_non_blocking = CU_STREAM_NON_BLOCKING;

#include "../daemon/cuda/driver.h"

/* clang-format off */
static const struct {
	const char *name;
	long ours;
	long theirs;
} t[] = {
#define V(a, b) { #a, a, b },
#define SIZE(a, b) { #a, sizeof(struct a), sizeof(b) },
#define AT(a, f, b, g) { #a "." #f, offsetof(struct a, f), offsetof(b, g) },
	V(CU_STUB_LIBRARY, CUDA_ERROR_STUB_LIBRARY)
	V(CU_NEWER_DRIVER, CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER)
	V(CU_DEVICE_UNAVAILABLE, CUDA_ERROR_DEVICE_UNAVAILABLE)
	V(CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE)
	V(CU_NOT_LICENSED, CUDA_ERROR_DEVICE_NOT_LICENSED)
	V(CU_ECC, CUDA_ERROR_ECC_UNCORRECTABLE)
	V(CU_NVLINK, CUDA_ERROR_NVLINK_UNCORRECTABLE)
	V(CU_JIT_DISABLED, CUDA_ERROR_JIT_COMPILATION_DISABLED)
	V(CU_CONTAINED, CUDA_ERROR_CONTAINED)
	V(CU_OPERATING_SYSTEM, CUDA_ERROR_OPERATING_SYSTEM)
	V(CU_INVALID_PTX, CUDA_ERROR_INVALID_PTX)
	V(CU_OUT_OF_RESOURCES, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)
	V(CU_CONTEXT_DESTROYED, CUDA_ERROR_CONTEXT_IS_DESTROYED)
	V(CU_ASSERT, CUDA_ERROR_ASSERT)
	V(CU_HARDWARE_STACK, CUDA_ERROR_HARDWARE_STACK_ERROR)
	V(CU_TENSOR_MEMORY_LEAK, CUDA_ERROR_TENSOR_MEMORY_LEAK)
	V(CU_SYSTEM_NOT_READY, CUDA_ERROR_SYSTEM_NOT_READY)
	V(CU_DRIVER_MISMATCH, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
	V(CU_COMPAT_NOT_SUPPORTED, CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE)
	V(CU_CAPTURE_WRONG_THREAD, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD)
	V(CU_EXTERNAL_DEVICE, CUDA_ERROR_EXTERNAL_DEVICE)
	V(CU_DEV_SMS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
	V(CU_DEV_L2_BYTES, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)
	V(CU_DEV_COPY_ENGINES, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT)
	V(CU_DEV_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
	V(CU_DEV_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
	V(CU_DEV_SHARED_SM, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)
	V(CU_DEV_SHARED_BLOCK, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
	V(CU_DEV_HOST_REGISTER, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED)
	V(CU_DEV_VMM, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)
	V(CU_DEV_READ_ONLY_REGISTER, CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED)
	V(CU_FUNC_DYN, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
	V(CU_FUNC_CARVEOUT, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT)
	V(CU_JIT_INFO, CU_JIT_INFO_LOG_BUFFER)
	V(CU_JIT_INFO_BYTES, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES)
	V(CU_JIT_ERROR, CU_JIT_ERROR_LOG_BUFFER)
	V(CU_JIT_ERROR_BYTES, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
	V(CU_CTX_BLOCKING, CU_CTX_SCHED_BLOCKING_SYNC)
	V(CU_EVENT_BLOCKING, CU_EVENT_BLOCKING_SYNC)
	V(CU_EVENT_NO_TIMING, CU_EVENT_DISABLE_TIMING)
	V(CU_HOST_PORTABLE, CU_MEMHOSTREGISTER_PORTABLE)
	V(CU_HOST_PORTABLE, CU_MEMHOSTALLOC_PORTABLE)
	V(CU_HOST_DEVICE_MAP, CU_MEMHOSTALLOC_DEVICEMAP)
	V(CU_HOST_READ_ONLY, CU_MEMHOSTREGISTER_READ_ONLY)
	V(CU_CAPTURE_THREAD, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
	V(CU_ACCESS_READ_WRITE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
	V(CU_GRANULARITY_LEAST, CU_MEM_ALLOC_GRANULARITY_MINIMUM)
	V(CU_ATTR_COOPERATIVE, CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
	V(CU_ATTR_CLUSTER, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
	V(CU_ATTR_PDL, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION)
	SIZE(cu_attr, CUlaunchAttribute)
	AT(cu_attr, value, CUlaunchAttribute, value)
	SIZE(cu_launch_config, CUlaunchConfig)
	AT(cu_launch_config, attr, CUlaunchConfig, attrs)
	AT(cu_launch_config, n_attr, CUlaunchConfig, numAttrs)
	AT(cu_launch_config, stream, CUlaunchConfig, hStream)
	AT(cu_launch_config, shared, CUlaunchConfig, sharedMemBytes)
	SIZE(cu_alloc_prop, CUmemAllocationProp)
	AT(cu_alloc_prop, location, CUmemAllocationProp, location)
	AT(cu_alloc_prop, security, CUmemAllocationProp, win32HandleMetaData)
	SIZE(cu_access, CUmemAccessDesc)
	AT(cu_access, flags, CUmemAccessDesc, flags)
/* That there is a form of the call for the version we ask for. */
#define CALL(name, since, required, args) { #name, sizeof(PFN_##name##_v##since), sizeof(void *) },
#include "../daemon/cuda/calls.def"
#undef CALL
};
/* clang-format on */

int main(void)
{
	size_t i;
	int bad = theirs_non_blocking != CU_STREAM_NON_BLOCKING;

	for (i = 0; i < sizeof(t) / sizeof(*t); i++) {
		if (t[i].ours == t[i].theirs)
			continue;
		printf("%s is %ld, cuda.h has %ld\n", t[i].name, t[i].ours,
		       t[i].theirs);
		bad = 1;
	}
	printf("%zu declarations against cuda.h of %d\n", i, CUDA_VERSION);
	return bad;
}
#else
int main(void)
{
	puts("no cuda.h here to compare with");
	return 77;
}
#endif
