#!/bin/bash
# SPDX-License-Identifier: MIT
# resume.sh - answers outlive the engine: killed at random moments, crashing,
# hanging. MODEL=FILE: a real model, too.
# shellcheck disable=SC2119 # start without arguments is meant
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
tiny
kills=20 gap=30
[ -n "${HEARTH_LONG:-}" ] && kills=1000
start
"$O/tests/t_resume" "$sock" "$t/tiny.gguf" $kills 8 $gap ||
	fail "kills: see above"
engine=$(child_pid)
stop

# an engine that dies of a request: which one is found out, and it alone is
# given up; each fault as often as it takes
faultd=$O/tests/t_faultd
"$faultd" -o pool=private --socket "$sock" -o backend=oracle -o oracle-us=20 \
	-o watchdog-ms=1000 2>>"$t/log" &
pid=$!
till 20 test -S "$sock" || fail "no socket"
till 20 child || fail "no engine"
"$O/tests/t_resume" "$sock" "$t/tiny.gguf" faults 4 || fail "faults: see above"
engine=$(child_pid)
stop

if [ -n "${MODEL:-}" ]; then
	kills=10
	[ -n "${HEARTH_LONG:-}" ] && kills=1000
	start
	"$O/tests/t_resume" "$sock" "$MODEL" $kills 8 400 ||
		fail "$MODEL: see above"
	engine=$(child_pid)
	stop
fi
