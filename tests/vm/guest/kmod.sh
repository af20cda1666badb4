#!/bin/sh
# SPDX-License-Identifier: MIT
# kmod.sh - what /dev/hearth does, and all that it refuses.
# kernels: 6.1 6.12 debug
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc

kmod_in
t_refuse || die "t_refuse: exit status $?"
t_kmod || die "t_kmod: exit status $?" # and unloads the module
