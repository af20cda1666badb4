#!/bin/sh
# SPDX-License-Identifier: MIT
# failnth.sh - every allocation of every call fails once.
# kernels: debug
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc

kmod_in
insmod /m/hearth_edu.ko || die "insmod hearth_edu.ko"
t_failnth /dev/hearth_edu || die "t_failnth: exit status $?"
rmmod hearth_edu
kmod_out
