#!/bin/bash
# SPDX-License-Identifier: MIT
# hostile.sh - attacks on the rings and the socket, an honest client beside.
# alone
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
tiny
rounds=50
[ -n "${HEARTH_LONG:-}" ] && rounds=1000
start -o backend=oracle
before=$pid
"$O/tests/t_hostile" "$sock" "$t/tiny.gguf" "$rounds" || fail "see above"
[ "$(cat "$sock.lock")" = "$before" ] || fail "another daemon"
stop
# the same over epoll, where io_uring is forbidden
HEARTH_EPOLL=1 start -o backend=oracle
"$O/tests/t_hostile" "$sock" "$t/tiny.gguf" 20 1-indices 8-eventfd \
	9-handshakes 13-killed || fail "epoll: see above"
stop
