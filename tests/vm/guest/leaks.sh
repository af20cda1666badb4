#!/bin/sh
# SPDX-License-Identifier: MIT
# leaks.sh - what kmemleak finds after the other scenarios of this boot.
# kernels: debug
k=/sys/kernel/debug/kmemleak
[ -w $k ] || {
	echo "no kmemleak in this kernel"
	exit 77
}
# it looks twice, as what is on its way may look lost, and only at old objects
sleep 6
echo scan >$k
sleep 1
echo scan >$k
n=$(grep -c unreferenced $k)
[ "$n" = 0 ] || head -n 60 $k
echo "RESULT leaks $n"
[ "$n" = 0 ]
