#!/bin/sh
# SPDX-License-Identifier: MIT
# fuzz.sh - calls of the module that are almost right.
# kernels: 6.1 6.12 debug
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc

kmod_in
t_fuzz "$(if [ -n "$long" ]; then echo 600; else echo 10; fi)" ||
	die "t_fuzz: exit status $?"
kmod_out
