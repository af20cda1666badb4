#!/bin/bash
# SPDX-License-Identifier: MIT
# pool.sh - weights outlive every process, in a hugetlbfs and in a tmpfs: after
# SIGKILL of all there is they are attached, and no byte of the model's file is
# read. What is torn, foreign, another's or too large is seen for what it is.
#
# MODEL=FILE: with it; else with SmolLM2-135M where `make run` has fetched it, or
# a random one of its size. Needs root, for mounts of its own and huge pages.
# alone
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
if [ "$(id -u)" != 0 ]; then
	echo "not root: no mounts and no huge pages of its own"
	exit 77
fi
export HEARTH_SOCKET=$sock HEARTH_DAEMON=/nonexistent
nr=/proc/sys/vm/nr_hugepages
raised=0
client= # in the middle of an answer
other=  # daemon
cleanup() {
	[ -z "$client" ] || kill -KILL "$client" 2>/dev/null || true
	[ -z "$other" ] || kill -KILL "$other" 2>/dev/null || true
	[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
	wait 2>/dev/null || true
	pid=
	umount -l "$t"/disk "$t"/huge "$t"/hog "$t"/tmpfs 2>/dev/null || true
	lower
	finish
}
# As many huge pages as if this had not been here.
lower() {
	local n=$(($(cat $nr 2>/dev/null || echo 0) - raised))
	[ $raised = 0 ] || echo $((n > 0 ? n : 0)) >$nr
	raised=0
}
trap cleanup EXIT
trap "exit 1" TERM INT # of a time limit, too: mounts and pages are not left

sanitized=
[ "${O%-san}" = "$O" ] || sanitized=1
free_pages() { awk '$1 == "HugePages_Free:" { print $2 }' /proc/meminfo; }

# ----------------------------------------------------------------- the model

models() {
	local home=${XDG_DATA_HOME:-${HOME:-/root}/.local/share}/hearth/models
	local real=${MODEL:-}
	mkdir "$t/models"
	[ -n "$real" ] ||
		real=$(find "$home" -iname 'smollm2-135m*.gguf' 2>/dev/null |
			head -n 1)
	if [ -n "$sanitized" ]; then
		tiny
		cp "$t/tiny.gguf" "$t/models/big.gguf"
	elif [ -n "$real" ]; then
		cp "$real" "$t/models/big.gguf"
	else
		"$O/tests/t_mkgguf" "$t/models/big.gguf" --type Q8_0 --layers 8 \
			--embd 1024 --ff 2816 --heads 16 --kv-heads 4 \
			--head-dim 64 --ctx 1024
	fi
	"$O/tests/t_mkgguf" "$t/models/tiny.gguf" --type Q8_0 --ctx 2048
	chmod 644 "$t"/models/*
	bytes=$(stat -c %s "$t/models/big.gguf")
	mib=$((bytes >> 20))
}

# On a disk of their own, whose counters are nobody else's.
disk() {
	mke2fs -q -t ext4 -b 4096 -d "$t/models" "$t/img" $((mib + 32))M >/dev/null
	rm -r "$t/models"
	mkdir "$t/disk"
	mount -o loop,ro "$t/img" "$t/disk" || {
		echo "no loop device: a disk of its own cannot be had"
		exit 77
	}
	stat=/sys/dev/block/$(mountpoint -d "$t/disk")/stat
	big=$t/disk/big.gguf
	tiny=$t/disk/tiny.gguf
}
sectors() { awk '{ print $3 }' "$stat"; }
cached() { fincore -nb -o RES "$big" | tr -d ' '; }
uncache() {
	dd if="$big" iflag=nocache count=0 status=none
	[ "$(cached)" = 0 ] || fail "the file does not leave the page cache"
}

# ------------------------------------------------------------- the processes

processes() {
	local p
	for p; do
		echo "$p"
		# shellcheck disable=SC2046 # a list of numbers
		processes $(cat /proc/"$p"/task/*/children 2>/dev/null)
	done
}

# io FIELD: of the daemon, parsers and loaders that have ended included
io() {
	local p
	for p in $(processes "$pid"); do
		cat "/proc/$p/io" 2>/dev/null || true
	done | awk -v f="$1:" '$1 == f { n += $2 } END { print n + 0 }'
}

# Every process, a client in the middle of an answer among them.
kill_all() {
	local p all
	"$O/hearth" run --raw --ignore-eos -n 500 "$big" Hi >/dev/null 2>&1 &
	client=$!
	sleep 0.2
	all=$(processes "$pid")
	# shellcheck disable=SC2086 # a list of numbers
	kill -KILL $all "$client" 2>/dev/null || true # the client may be done
	wait "$pid" "$client" 2>/dev/null || true
	client=
	for p in $all; do till 10 gone "$p" || fail "$p survives SIGKILL"; done
	rm -f "$sock"
}

# answer MODEL: greedy, with the log-probability of each token
answer() {
	"$O/hearth" run --raw --greedy --ignore-eos --logprobs -n 8 "$1" Hi \
		2>"$t/err"
}
get() { answer "$1" || fail "hearth run: $(cat "$t/err")"; }
attach_us() {
	"$O/hearth" ps --json |
		awk -F'[:,]' '/"load_ns"/ { printf "%d", $2 / 1000 }'
}
said() { grep -c -- "$1" "$t/log" || true; }

# ------------------------------------------------------------------ survival

# again PROVIDER FIRST: kill everything, start, answer: nothing may be read
again() {
	local s us second field
	kill_all
	uncache
	# or what is read of the program counts as the model's
	cat "$O/hearthd" >/dev/null
	: >"$t/log"
	s=$(sectors)
	start -o pool="$1" -o pool-dir="$dir"
	second=$(get "$big")
	[ "$second" = "$2" ] || fail "$1: another answer: $second, was $2"
	[ "$(sectors)" = "$s" ] || fail "$1: the disk was read"
	[ "$(cached)" = 0 ] || fail "$1: the file is in the page cache"
	# libraries that have left the page cache, /proc, the model image
	for field in read_bytes rchar; do
		[ -n "$sanitized" ] || [ "$(io $field)" -lt $((bytes / 16)) ] ||
			fail "$1: $field $(io $field)"
	done
	us=$(attach_us)
	echo "  $1: $mib MiB attached in $us us; of its disk 0 sectors," \
		"read_bytes $(io read_bytes), rchar $(io rchar)"
	[ "$us" -ge "$best" ] || best=$us
}

survive() {
	local first s n
	best=999999999
	uncache
	s=$(sectors)
	start -o pool="$1" -o pool-dir="$dir"
	[ "$(said "pool: $1 in $dir")" = 1 ] || fail "$1: not taken"
	first=$(get "$big")
	# these counters do see a file that is read
	s=$((($(sectors) - s) * 512))
	[ $s -ge "$bytes" ] || fail "$1: loaded with $s bytes off the disk"
	[ "$(io read_bytes)" -ge "$bytes" ] ||
		fail "$1: loaded with read_bytes $(io read_bytes)"
	# more often only where others keep the processor busy
	for n in 1 2 3 4 5 6; do
		[ $n -le 3 ] || [ "$best" -gt 20000 ] || break
		again "$1" "$first"
	done
	[ -n "$sanitized" ] || [ "$best" -le 20000 ] ||
		fail "$1: attached in $best us at best"
	"$O/hearth" stop --all --evict >/dev/null || fail "stop --all --evict"
	engine=$(child_pid)
	stop
}

# ------------------------------------------------- what is not to be attached

objects() { find "$dir" -type f -regextype egrep -regex '.*/[0-9a-f]{64}\..*'; }

# spoiled WHAT COMMAND...: done to the object of tiny, it is dropped, in one line
spoiled() {
	local what=$1 o
	shift
	o=$(objects)
	"$@" "$o" || fail "$what: $*"
	: >"$t/log"
	start -o pool="$provider" -o pool-dir="$dir"
	[ "$(said 'pool: dropping')" = 1 ] || fail "$what: not one line"
	[ -z "$(objects)" ] || fail "$what: it stays"
	[ "$(get "$tiny")" = "$right" ] || fail "$what: another answer"
	[ "$(said ': loaded, ')" = 1 ] || fail "$what: not loaded again"
	stop
}
shorter() { truncate -s "-$page" "$1"; }
hollow() { fallocate -p -o 0 -l "$page" "$1"; }
renamed() { mv "$1" "$dir/$(printf '0%.0s' {1..64}).${1##*.}"; }
overwritten() {
	printf x | dd of="$1" bs=1 conv=notrunc status=none \
		seek=$(($(stat -c %s "$1") - 4096))
}

# Nobody's business: neither read, nor shown, nor removed; and nothing hangs.
foreign() {
	local hex
	hex=$(printf 'a%.0s' {1..63})
	touch "$dir/notes"
	# not every kernel's hugetlbfs has these
	ln -s /etc/passwd "$dir/${hex}0.test-1" 2>/dev/null ||
		touch "$dir/${hex}0"
	mkfifo "$dir/${hex}1.test-1"
	mkdir "$dir/${hex}2.test-1"
	: >"$t/log"
	start -o pool="$provider" -o pool-dir="$dir"
	[ "$(get "$tiny")" = "$right" ] || fail "foreign files: another answer"
	[ "$("$O/hearth" ps --json | grep -c '"load_ns"')" = 1 ] ||
		fail "foreign files are models"
	[ "$(said ': loaded, ')" = 0 ] || fail "foreign files: loaded again"
	stop
	[ "$(find "$dir" -name "$hex*" -o -name notes | wc -l)" = 4 ] ||
		fail "foreign files are gone: $(ls "$dir")"
	rm -r "$dir/notes" "$dir/${hex:?}"*
}

# refuses PATTERN: no daemon starts on the pool, and it says why
refuses() {
	local rc=0
	timeout 20 "$O/hearthd" --socket "$t/second" -o pool="$provider" \
		-o pool-dir="$dir" 2>"$t/out" || rc=$?
	[ $rc = 1 ] || fail "status $rc: $(cat "$t/out")"
	grep -q "$1" "$t/out" || fail "not '$1': $(cat "$t/out")"
}

# Two daemons do not share a pool: the second one does without.
second() {
	start -o pool="$provider" -o pool-dir="$dir"
	refuses "another hearthd uses it"
	"$O/hearthd" --socket "$t/second" -o pool=auto -o pool-dir="$dir" \
		2>"$t/out" &
	other=$!
	till 20 grep -q listening "$t/out" || fail "no second daemon"
	[ "$(HEARTH_SOCKET=$t/second get "$tiny")" = "$right" ] ||
		fail "the second daemon: another answer"
	kill -TERM $other
	wait $other || fail "the second daemon: status $?"
	other=
	grep 'pool: private memory' "$t/out" |
		grep -q 'another hearthd uses it' ||
		fail "the second daemon: $(grep 'pool: ' "$t/out")"
	stop
	chmod 750 "$dir"
	refuses 'not a directory of ours alone'
	chmod 700 "$dir"
}

# ------------------------------------------------------------------- too much

# Room for @1 MiB is left, or all of it. What others have taken is @taken.
leave() {
	local n
	rm -f "$t/hog/file" "$dir/file"
	[ -n "${1:-}" ] || return 0
	if [ "$provider" = hugetlbfs ]; then
		n=$((($(free_pages) * (page >> 20)) - $1))
		fallocate -l "${n}M" "$t/hog/file"
	else
		n=$(($(stat -f -c '%a * %S' "$dir") >> 20))
		fallocate -l "$((n - $1))M" "$dir/file"
	fi
}

# More than there is, and room that others take while it loads: an answer, or an
# error that says what is missing; no signal, and the next one is served.
shortage() {
	local delay
	: >"$t/log"
	start -o pool="$provider" -o pool-dir="$dir"
	leave 16
	answer "$big" >"$t/out" && fail "$provider: $mib MiB in 16"
	grep -Eq "needs [0-9]+ MiB, [0-9]+ MiB of .* are free" "$t/err" ||
		fail "$provider: $(cat "$t/err")"
	echo "  $provider: $(sed 's/^hearth: //' "$t/err")"
	[ "$(get "$tiny")" = "$right" ] || fail "$provider: not the next one"
	for delay in 0 0.02 0.05 0.1 0.2; do
		leave
		answer "$big" >"$t/out" &
		client=$!
		sleep $delay
		leave 4 2>/dev/null || true
		wait $client || grep -Eq 'are free|no room|no memory' "$t/err" ||
			fail "$provider: $(cat "$t/err")"
		client=
		"$O/hearth" stop --evict big >/dev/null 2>&1 || true
	done
	leave
	[ "$(said 'SIGBUS')" = 0 ] || fail "$provider: SIGBUS"
	answer "$big" >/dev/null || fail "$provider: $(cat "$t/err")"
	[ "$(child_pid)" = "$engine" ] || fail "$provider: the engine died"
	stop
}

# ----------------------------------------------------------------------- both

all() {
	provider=$1 dir=$2 page=$3
	survive "$provider"
	start -o pool="$provider" -o pool-dir="$dir"
	right=$(get "$tiny")
	stop
	spoiled "shorter" shorter
	spoiled "hollow" hollow
	spoiled "renamed" renamed
	# a hugetlbfs has no write(2)
	[ "$provider" = hugetlbfs ] || spoiled "overwritten" overwritten
	foreign
	second
	[ -n "$sanitized" ] || shortage
}

models
disk
mkdir "$t/tmpfs" "$t/huge" "$t/hog"
mount -t tmpfs -o size=$((mib * 2 + 64))m tmpfs "$t/tmpfs"
all tmpfs "$t/tmpfs/pool" $((2 << 20))
umount "$t/tmpfs"

page=$(awk '$1 == "Hugepagesize:" { print $2 * 1024 }' /proc/meminfo)
want=$((mib * 5 / 4 / (${page:-2097152} >> 20) + 32))
was=$(cat $nr 2>/dev/null || echo 0)
if [ -n "$page" ]; then
	echo $((was + want)) >$nr
	raised=$(($(cat $nr) - was))
fi
if [ "$(free_pages)" -lt $want ] ||
	! mount -t hugetlbfs hugetlbfs "$t/huge" ||
	! mount -t hugetlbfs hugetlbfs "$t/hog"; then
	echo "tmpfs: as it should be"
	echo "hugetlbfs: $want huge pages cannot be had"
	exit 77
fi
all hugetlbfs "$t/huge/pool" "$page"
umount "$t/huge" "$t/hog"
lower
[ "$(cat $nr)" = "$was" ] || fail "huge pages: $(cat $nr), were $was"
echo "pool.sh: ok"
