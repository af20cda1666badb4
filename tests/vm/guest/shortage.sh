#!/bin/sh
# SPDX-License-Identifier: MIT
# shortage.sh - two idle models and a hog: the one used longest ago goes first,
# nobody is killed, and the next request loads its model again.
# memory: 1024 MiB
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc

# names of buffers that nobody has open / of all
idle() { awk '$5 == 0 { print $8 }' /sys/kernel/debug/hearth/buffers; }
all() { awk 'NR > 1 { print $8 }' /sys/kernel/debug/hearth/buffers; }
count_idle() { [ "$(idle | wc -l)" = "$1" ]; }
killed() { dmesg | grep -iE 'out of memory|oom-kill|killed process'; }

# told when somebody was killed: what was there, what went when, and why
state() {
	cat /sys/kernel/debug/hearth/buffers /sys/kernel/tracing/trace
	dmesg | tail -n 120
}

# hog: until no buffer is left
hog() {
	while [ "$(all | wc -l)" != 0 ]; do
		[ $mib -lt 1000 ] || die "the hog has $mib MiB, and $(all | wc -l) stay"
		dd if=/dev/zero bs=1M count=8 >>/hog/file 2>/tmp/dd || {
			state
			die "the hog gets no more than $mib MiB: $(cat /tmp/dd)"
		}
		mib=$((mib + 8))
		usleep 20000
	done
}

# what was taken back, in its order: one step of the hog may take both
taken() {
	sed -n 's/.*hearth_shrink: name=\([^ ]*\) .*/\1/p' \
		/sys/kernel/tracing/trace
}

# all huge pages are surplus: what the system lends, it can have back
huge 0
echo 200 >/proc/sys/vm/nr_overcommit_hugepages
kmod_in
mkdir /hog
mount -t tmpfs -o size=1000m tmpfs /hog

start -o pool=module -o detach-s=1
first=$(answer /models/mid1.gguf 2)
one=$(all)
second=$(answer /models/mid2.gguf 2)
two=$(all | grep -vxF "$one")
is "the first one again" test "$(answer /models/mid1.gguf 2)" = "$first"
till 20 count_idle 2 || die "they never become idle: $(all)"
ok "two idle models"

mib=0
echo >/sys/kernel/tracing/trace
echo 1 >/sys/kernel/tracing/events/hearth/hearth_shrink/enable
hog
is "the one used longest ago goes first" \
	test "$(taken)" = "$(printf '%s\n' "$two" "$one")"
result hog "$mib MiB, and both models are gone"
[ -z "$(killed)" ] || state
is "nobody was killed" test -z "$(killed)"
is "the daemon is there" kill -0 "$daemon"
umount /hog
is "the first one is loaded again" \
	test "$(answer /models/mid1.gguf 2)" = "$first"
is "the second one is loaded again" \
	test "$(answer /models/mid2.gguf 2)" = "$second"
is "both are back in the pool" test "$(all | wc -l)" = 2
is "by the same names" test "$(all | sort)" = "$(printf '%s\n' "$one" "$two" | sort)"
grep -E 'taken|evict|loaded' $log | sed 's/^/hearthd: /'
stop
is "they go" forget
kmod_out
