#!/bin/sh
# SPDX-License-Identifier: MIT
# race.sh - creating, finding, exporting, destroying and shrinking at once.
# kernels: 6.1 6.12 debug
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc

# all pages are surplus ones, which the shrinker may take
huge 0
echo 64 >/proc/sys/vm/nr_overcommit_hugepages
kmod_in
t_race "$(if [ -n "$long" ]; then echo 60; else echo 5; fi)" ||
	die "t_race: exit status $?"
kmod_out
