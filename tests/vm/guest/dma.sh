#!/bin/sh
# SPDX-License-Identifier: MIT
# dma.sh - devices use a buffer: DMA through the IOMMU, PRIME through libdrm.
# kernels: 6.1 6.12 debug
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc

kmod_in
insmod /m/hearth_edu.ko || die "insmod hearth_edu.ko"
t_dma || die "t_dma: exit status $?"
rmmod hearth_edu || die "rmmod hearth_edu"
kmod_out
