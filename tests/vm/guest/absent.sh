#!/bin/sh
# SPDX-License-Identifier: MIT
# absent.sh - no module, a module of another version, no huge pages, or a limit on
# them: hearthd works as well as it can, and says in one line why not better. And
# what hearth doctor advises is what helps.
# kernels: 6.12
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc
model=/models/tiny.gguf

# Weights of the last one would be found again.
clean() { rm -rf /dev/shm/hearth /dev/hugepages/hearth-pool; }

# look WHAT PROVIDER PATTERN: the line about the pool has both; answers are given
look() {
	clean
	: >$log
	start
	answer=$(answer "$model" 8)
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

# advice NAME: the command below doctor's line of that name, if any
advice() {
	hearth doctor | awk -v n="$1" '
		$1 == "$" { if (on) { sub(/^ *\$ /, ""); print }; next }
		{ on = substr($0, 7, length(n)) == n }'
}

# take NAME: what doctor advises, done
take() {
	fix=$(advice "$1")
	is "doctor: $1: $fix" test -n "$fix"
	sh -c "$fix" >/dev/null || die "doctor: $fix"
}

take "huge pages"
look "huge pages on demand" "module" "2048 KiB pages"
# what is left in a pool that is not the best any more, nobody would free
start -o pool=tmpfs
answer "$model" 1 >/dev/null
stop
start
is "leftovers are dropped" grep -q "dropped 1 MiB .* left in tmpfs" $log
is "none is there" test -z "$(ls /dev/shm/hearth)"
stop
is "the model goes" forget
kmod_out
mkdir -p /dev/hugepages
take "pool"
look "a hugetlbfs" "hugetlbfs in /dev/hugepages" "No such file"
is "doctor: huge pages: content" test -z "$(advice 'huge pages')"
is "doctor: pool: content" test -z "$(advice pool)"
echo 0 >/proc/sys/vm/nr_overcommit_hugepages
huge 40
# others have most of them
fallocate -l 40m /dev/hugepages/hog
look "too few huge pages" tmpfs "only 40 MiB of huge pages are free"
is "doctor: too few huge pages" test -n "$(advice 'huge pages')"
rm /dev/hugepages/hog

# More than there is, and more than a cgroup may have of what there is.
fails() {
	hearth run --raw -n 1 /models/big.gguf Hi >/dev/null 2>/tmp/said &&
		die "$1: it is loaded"
	grep -qE "$2" /tmp/said || die "$1: $(cat /tmp/said)"
	ok "$1: $(cat /tmp/said)"
	is "$1: the next one is served" test "$(answer "$model" 8)" = "$right"
}
clean
start -o pool=hugetlbfs
fails "40 huge pages" "80 MiB of huge pages .nr_hugepages. are free"
stop
clean
huge 64
group=/sys/fs/cgroup/hearth
mount -t cgroup2 cgroup2 /sys/fs/cgroup || die "no cgroup2"
echo +hugetlb >/sys/fs/cgroup/cgroup.subtree_control || die "no hugetlb"
mkdir $group
echo 48M >$group/hugetlb.2MB.max
echo $$ >$group/cgroup.procs
start -o pool=hugetlbfs
fails "a limit on huge pages" "no room for bytes"
is "no signal" test -z "$(grep -E 'SIG[A-Z]' $log)"
echo max >$group/hugetlb.2MB.max
[ -z "${long:-}" ] || is "without the limit it is loaded" \
	test -n "$(answer /models/big.gguf 1)"
stop
echo $$ >/sys/fs/cgroup/cgroup.procs
clean
rmdir $group
umount /sys/fs/cgroup /dev/hugepages
