#!/bin/bash
# SPDX-License-Identifier: MIT
# idle.sh - a daemon with a model loaded and a client connected does nothing.
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
tiny
secs=10
[ -n "${HEARTH_LONG:-}" ] && secs=60
start -o sandbox=1

# context switches and clock ticks of all our processes and threads
usage() {
	local p
	for p in $pid $(child_pid); do
		cat /proc/"$p"/task/*/status
		cat /proc/"$p"/stat
	done | awk '/ctxt_switches/ { c += $2 }
		/^[0-9]+ \(/ { sub(/^.*\) /, ""); n = split($0, f, " ")
			u += f[12] + f[13] }
		END { print c + 0, u + 0 }'
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
echo "$((c1 - c0)) context switches and $((u1 - u0)) ticks in $secs s"
[ $((c1 - c0)) -le $((10 * secs)) ] || fail "too many context switches"
[ $((u1 - u0)) -eq 0 ] || fail "processor time while idle"
[ "$c0" -gt 0 ] || fail "nothing was measured"
stop
