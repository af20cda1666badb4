#!/bin/bash
# SPDX-License-Identifier: MIT
# restart.sh - the daemon is killed and started again under its clients: each
# request ends with the very answer it would have had, or says why not, and the
# weights stay in memory where the pool can keep them.
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
tiny
export HEARTH_SOCKET=$sock
n=6 few=4
[ -n "${HEARTH_LONG:-}" ] && n=200 few=50
keep=
cleanup() {
	[ -z "$keep" ] || rm -rf "$keep"
	finish
}
trap cleanup EXIT

# restart KIND N KEPT OPTIONS...
restart() {
	local kind=$1 n=$2 kept=$3
	shift 3
	[ -z "$keep" ] || rm -f "$keep"/* # each storm loads once
	timeout -k 5 $((n * 10 + 60)) \
		"$O/tests/t_restart" "$kind" "$n" "$kept" "$t/tiny.gguf" \
		"$O/hearthd" --socket "$sock" -o verbose=0 "$@" \
		2>>"$t/log" >"$t/out" || {
		cat "$t/out"
		fail "$kind: see above"
	}
	sed 's/^/  /' "$t/out"
	[ ! -e "$sock.lock" ] || fail "lock left behind"
}

if [ "$(id -u)" = 0 ]; then
	keep=$(mktemp -d /dev/shm/hearth-test.XXXXXX)
	pool=(-o pool=tmpfs -o "pool-dir=$keep")
	kept=1
else
	pool=(-o pool=private)
	kept=0
fi
for kind in monitor both; do
	echo "oracle, pool ${pool[1]#pool=}:"
	restart $kind $few $kept "${pool[@]}" -o backend=oracle -o oracle-us=100
	echo "cpu, pool ${pool[1]#pool=}:"
	restart $kind $n $kept "${pool[@]}"
done
echo "cpu, pool private:"
restart both $few 0 -o pool=private
left=$(pgrep -f "^$O/hearthd --socket $sock" || true)
[ -z "$left" ] || fail "processes left behind: $left"
echo "restart.sh: ok"
