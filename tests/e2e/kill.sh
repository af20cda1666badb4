#!/bin/bash
# SPDX-License-Identifier: MIT
# kill.sh - clients and engines killed at random moments.
# alone
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
tiny
clients=100 engines=5
[ -n "${HEARTH_LONG:-}" ] && clients=1000 engines=30
start -o backend=oracle -o oracle-us=50
"$O/tests/t_kill" clients "$sock" "$t/tiny.gguf" $clients ||
	fail "clients: see above"
"$O/tests/t_kill" engine "$sock" "$t/tiny.gguf" $engines ||
	fail "engines: see above"
engine=$(child_pid)
stop
# a real model, whose steps take their time
start -o sandbox=1
"$O/tests/t_kill" clients "$sock" "$t/tiny.gguf" $((clients / 5)) ||
	fail "cpu backend: see above"
stop
