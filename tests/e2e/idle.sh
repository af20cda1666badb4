#!/bin/bash
# SPDX-License-Identifier: MIT
# idle.sh - a daemon with a model loaded and a client connected does nothing.
# alone
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
case $O in
*-san)
	echo "idleness is not a sanitizer's to see"
	exit 77
	;;
esac
tiny
secs=10
[ -n "${HEARTH_LONG:-}" ] && secs=60
start -o sandbox=1

# context switches and microseconds on a core, of all our processes and threads
# (a clock tick would charge 10 ms to whoever it happens to find)
usage() {
	local p
	for p in $pid $(child_pid); do
		cat /proc/"$p"/task/*/status
		sed 's/^/ran /' /proc/"$p"/task/*/schedstat
	done | awk '/ctxt_switches/ { c += $2 }
		/^ran / { u += $2 }
		END { printf "%d %d\n", c, u / 1000 }'
}

"$O/tests/t_stay" "$sock" "$t/tiny.gguf" >"$t/stay" &
stay=$!
till 20 grep -q ready "$t/stay" || fail "client is not ready"
sleep 1
read -r c0 u0 < <(usage)
sleep "$secs"
read -r c1 u1 < <(usage)
kill -TERM $stay
wait $stay || true
echo "$((c1 - c0)) context switches and $((u1 - u0)) us of a core in $secs s"
[ $((c1 - c0)) -le $((10 * secs)) ] || fail "too many context switches"
[ $((u1 - u0)) -lt $((500 * secs)) ] || fail "0.05 % of a core or more while idle"
if [ "$c0" = 0 ] || [ "$u0" = 0 ]; then fail "nothing was measured"; fi
stop
