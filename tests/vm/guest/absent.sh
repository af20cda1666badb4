#!/bin/sh
# SPDX-License-Identifier: MIT
# absent.sh - no module, a module of another version, no huge pages: hearthd
# works as well as it can, and says in one line why not better.
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc
model=/models/tiny.gguf

# Weights of the last one would be found again.
clean() { rm -rf /dev/shm/hearth /dev/hugepages/hearth; }

# look WHAT PROVIDER PATTERN: the line about the pool has both; answers are given
look() {
	clean
	: >$log
	start
	answer=$(answer $model 8)
	stop
	grep -E ' pool: (module|hugetlbfs|tmpfs|private)' $log >/tmp/said
	is "$1: one line" test "$(wc -l </tmp/said)" = 1
	grep -q "pool: $2" /tmp/said || die "$1: not $2: $(cat /tmp/said)"
	grep -q "$3" /tmp/said || die "$1: no '$3': $(cat /tmp/said)"
	ok "$1: $(cat /tmp/said)"
	is "$1: an answer" test -n "$answer"
	: "${right:=$answer}"
	is "$1: the right one" test "$answer" = "$right"
}

# must WHAT PATTERN ARGUMENTS...: hearthd does not start, and says why
must() {
	what=$1 pattern=$2
	shift 2
	hearthd --socket $HEARTH_SOCKET "$@" 2>/tmp/said &&
		die "$what: hearthd starts"
	grep -q "$pattern" /tmp/said || die "$what: $(cat /tmp/said)"
	ok "$what: $(cat /tmp/said)"
}

right=
huge 0
look "nothing" tmpfs "module: /dev/hearth: No such file"
must "no module, and it was asked for" "/dev/hearth: No such file" \
	-o pool=module
huge 16
insmod /m/stranger.ko || die "insmod stranger.ko"
look "another version" "[a-z]*fs" "version 99"
must "another version, and it was asked for" "version 99" -o pool=module
rmmod hearth
huge 0
kmod_in
look "no huge pages" tmpfs "no huge pages"
must "no huge pages, and they were asked for" "no huge pages" -o pool=module
hearth doctor >/tmp/said
is "no huge pages: doctor says so" grep -q "4 KiB pages" /tmp/said
is "and what to do" grep -q "sysctl -w vm.nr.*hugepages=" /tmp/said
kmod_out
clean
