#!/bin/bash
# SPDX-License-Identifier: MIT
# daemon.sh - starting, refusing to start, leaving, being left behind.
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
d=$O/hearthd

# refuses STATUS PATTERN ARGUMENTS...
refuses() {
	local rc=0 want=$1 pattern=$2
	shift 2
	timeout 20 "$d" "$@" >"$t/out" 2>&1 || rc=$?
	[ $rc = "$want" ] || { cat "$t/out"; fail "hearthd $*: status $rc"; }
	grep -q -- "$pattern" "$t/out" ||
		{ cat "$t/out"; fail "hearthd $*: does not say $pattern"; }
}

# arguments
"$d" --version | grep -qx 'hearthd [0-9.]*' || fail "--version"
"$d" -h >"$t/out" || fail "-h"
for o in socket backend threads max-sessions handshake-ms sandbox; do
	grep -q "^  $o " "$t/out" || fail "-h lacks $o"
done
refuses 2 'threads: "x" is not a number' -o threads=x
refuses 2 'threads: 99999 is out of range (0 to 1024)' -o threads=99999
refuses 2 'nonsense: no such option' -o nonsense=1
refuses 2 'must be name=value' -o threads
refuses 2 'no such backend (tpu)' -o backend=tpu
refuses 2 'not understood (please)' please
refuses 2 'No such file' -c "$t/nothing"
refuses 2 'hearthd --help lists' --nonsense
printf 'threads 1\nmax-batch many\n' >"$t/conf"
for c in "-c $t/conf" "-c$t/conf" "--config $t/conf" "--config=$t/conf"; do
	# shellcheck disable=SC2086 # one or two words
	refuses 2 "conf:2: max-batch: \"many\" is not a number" $c
done
"$d" --config="$t/conf" --version >"$t/out" || fail "--version needs a file"
refuses 1 'is for hearthd itself' --engine
refuses 1 'No such file' --socket "$t/nowhere/s"
touch "$t/file"
refuses 1 'is not a socket' --socket "$t/file"
refuses 2 'longer than 107 bytes' --socket \
	"$t/$(printf 'x%.0s' {1..120})"

# from a file; as it should be
printf '# two\nbackend oracle # inline\nspin-us 0\n' >"$t/conf"
start -c "$t/conf"
[ "$(stat -c %a "$sock")" = 666 ] || fail "socket's mode"
refuses 1 "another hearthd (pid $pid) serves" --socket "$sock"
[ "$(cat /proc/"$engine"/oom_score_adj)" -gt \
	"$(cat /proc/"$pid"/oom_score_adj)" ] ||
	fail "out of memory, the monitor would go as early as the engine"
grep -q '^NoNewPrivs:.1' /proc/"$engine"/status || fail "new privileges"
if [ "${SAN:-}" = "" ] && [ "${O%-san}" = "$O" ]; then
	grep -q '^Seccomp:.2' /proc/"$engine"/status || fail "no filter"
fi
if [ "$(id -u)" = 0 ]; then
	grep -q '^Uid:.0' /proc/"$engine"/status && fail "engine is root"
	grep -q '^CapEff:.0*$' /proc/"$engine"/status || fail "capabilities"
fi
stop

# left behind by a daemon that was killed; its engine goes with it
start -o backend=oracle
kill -KILL "$pid"
wait "$pid" 2>/dev/null || true
[ -S "$sock" ] || fail "the dead take their socket along"
till 5 gone "$engine" || fail "the engine outlives its monitor"
start -o backend=oracle
stop

# SIGINT, and nobody connected
start -o backend=oracle
kill -INT "$pid"
wait "$pid" || fail "SIGINT"
start -o backend=oracle -o exit-idle-s=1
till 10 gone "$pid" || fail "does not leave when idle"
wait "$pid" || fail "status when idle"
pid=

# a user's own, in the place for it; a stranger's directory is not taken
as=(env)
if [ "$(id -u)" = 0 ]; then
	if command -v setpriv >/dev/null; then
		as=(setpriv --reuid 65533 --regid 65533 --clear-groups)
	else
		echo "no setpriv: a user's own daemon is not tested as root"
	fi
fi
mkdir -m 700 "$t/run"
if [ "$("${as[@]}" id -u)" != 0 ]; then
	chown "$("${as[@]}" id -u)" "$t/run" 2>/dev/null || true
	XDG_RUNTIME_DIR=$t/run "${as[@]}" "$d" -o backend=oracle 2>>"$t/log" &
	pid=$!
	till 10 test -S "$t/run/hearth/hearth.sock" || fail "no default socket"
	[ "$(stat -c %a "$t/run/hearth")" = 700 ] || fail "directory's mode"
	till 10 child || fail "rootless: no engine"
	engine=$(child_pid)
	sock=$t/run/hearth/hearth.sock
	stop
	sock=$t/hearth.sock
	if [ "$(id -u)" = 0 ]; then
		mkdir -p "$t/other/hearth"
		rc=0
		XDG_RUNTIME_DIR=$t/other "${as[@]}" "$d" 2>"$t/out" || rc=$?
		[ $rc = 1 ] || fail "takes a stranger's directory"
		grep -q 'not a directory of ours' "$t/out" || fail "says not why"
	fi
fi

# systemd: a socket that is given, and who is told
if command -v python3 >/dev/null; then
	python3 tests/e2e/systemd.py "$d" "$t" || fail "systemd: see above"
else
	echo "no python3: socket activation is not tested"
fi
