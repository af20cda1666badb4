/* SPDX-License-Identifier: MIT */
/*
 * gpu.h - the GPUs of this machine as DRM has them, for the daemon and the
 * tool to show. Found through libdrm from sysfs; no GPU is opened, or woken
 * up, when sysfs says enough.
 */
#ifndef HEARTH_GPU_H
#define HEARTH_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GPU_MAX 16

struct _drmDevice;

/**
 * struct gpu - one of them
 * @node:   render node, or the primary one where there is no other
 * @bus:    "pci", "platform", ...
 * @where:  on it: "0000:01:00.0", "vgem"
 * @vendor: name, or "0x1234"
 * @driver: "nvidia", "amdgpu", "vgem"; "?" when it cannot be told
 * @vendor_id, @device_id: of PCI, else 0
 * @render: @node is a render node
 * @computes: a kind of device that could run a model
 * @serves: which backend computes here, and why no better one
 */
struct gpu {
	char node[64];
	char bus[16];
	char where[64];
	char vendor[24];
	char driver[32];
	uint16_t vendor_id;
	uint16_t device_id;
	bool render;
	bool computes;
	const char *serves;
};

/* All of them. Return: how many were written, at most @max; -errno. */
int gpu_list(struct gpu *out, size_t max);

/* One from what libdrm found; @sys is where sysfs is mounted. */
void gpu_fill(struct gpu *g, const struct _drmDevice *d, const char *sys);

/* "pci 0000:01:00.0, NVIDIA 0x2330, driver nvidia, /dev/dri/renderD128".
 * Return bytes, as snprintf does. */
int gpu_print(const struct gpu *g, char *buf, size_t n);

#endif
