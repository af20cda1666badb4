#!/bin/bash
# SPDX-License-Identifier: MIT
# uids.sh - two users: neither the session memory nor the private model of one
# is for the other, also when a daemon finds the model in the pool.
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
[ "$(id -u)" = 0 ] || {
	echo "needs root, to be two other users"
	exit 77
}
a=65531
# whom the engine runs as where there is no user hearth: not even he
b=$(id -u nobody)
case $O in *-san) b=65533 ;; esac # sanitizers want to look into themselves
keep=$(mktemp -d /dev/shm/hearth-test.XXXXXX)
cleanup() {
	finish
	rm -rf "$keep"
}
trap cleanup EXIT

"$O/tests/t_mkgguf" "$t/private.gguf" --type Q8_0 --ctx 2048
"$O/tests/t_mkgguf" "$t/other.gguf" --type Q8_0 --ctx 2048 --seed 2
chown $a "$t/private.gguf"
chown "$b" "$t/other.gguf"
chmod 600 "$t"/*.gguf

for life in first second; do
	start -o pool=tmpfs -o "pool-dir=$keep" -o user=nobody
	"$O/tests/t_uids" "$sock" "$t/private.gguf" "$t/other.gguf" "$keep" \
		$a "$b" 2>"$t/out" || {
		cat "$t/out"
		fail "$life life: see above"
	}
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null || true
	till 5 gone "$engine" || fail "engine left behind"
	pid=
done
echo "uids.sh: ok"
