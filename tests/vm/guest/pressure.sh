#!/bin/sh
# SPDX-License-Identifier: MIT
# pressure.sh - idle buffers go when memory is short, and nobody is killed.
# kernels: 6.1 debug
# memory: 1024 MiB
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc

kmod_in
t_pressure /dev/vda || die "t_pressure: exit status $?"
kmod_out
