#!/bin/bash
# SPDX-License-Identifier: MIT
# examples.sh - the programs under libclient/examples do what they say.
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
tiny
# one that has something to say
"$O/tests/t_mkgguf" "$t/tiny.gguf" --type Q8_0 --ctx 2048 --seed 5
export HEARTH_SOCKET=$sock HEARTH_DAEMON=$O/hearthd
ex=$O/examples/example

rc=0
"$ex" >"$t/out" 2>&1 || rc=$?
[ $rc = 2 ] || fail "no arguments: exit status $rc"
rc=0
"$ex" tiny Hello >"$t/out" 2>&1 || rc=$?
[ $rc = 1 ] || fail "no daemon: exit status $rc"
grep -q 'example: open: .*hearth.sock' "$t/out" || fail "no daemon: no text"

start -o verbose=0
"$ex" "$t/tiny.gguf" Hello >"$t/one" || fail "example"
[ "$(wc -c <"$t/one")" -gt 10 ] || fail "example: no answer"
"$ex" -e "$t/tiny.gguf" Hello "Good day" Hello >"$t/loop" || fail "example -e"
[ "$(grep -c '^Hello$\|^Good day$' "$t/loop")" = 3 ] ||
	fail "example -e: not three answers"
# the same question has the same answer, alone and beside others
awk '/^Hello$/ { getline; print }' "$t/loop" | sort -u >"$t/answers"
[ "$(wc -l <"$t/answers")" = 1 ] || fail "example -e: answers differ"
rc=0
"$ex" "$t/nothing.gguf" Hello >"$t/out" 2>&1 || rc=$?
[ $rc = 1 ] || fail "no model: exit status $rc"
grep -q 'nothing' "$t/out" || fail "no model: not named"

case $O in *-san)
	echo "examples.sh: ok (Python cannot load a sanitized library)"
	exit 0
	;;
esac
command -v python3 >/dev/null || {
	echo "python3 is missing"
	exit 77
}
export LD_LIBRARY_PATH=$O
py=libclient/examples/hearth_ctypes.py
python3 $py "$t/tiny.gguf" Hello >"$t/py" || fail "hearth_ctypes.py"
[ "$(wc -c <"$t/py")" -gt 10 ] || fail "hearth_ctypes.py: no answer"
python3 $py -v "$t/tiny.gguf" Hello >"$t/out" || fail "hearth_ctypes.py -v"
grep -qE '^[0-9]+ dimensions, norm [0-9.]+$' "$t/out" || fail "no vector"
rc=0
python3 $py "$t/nothing.gguf" Hello >"$t/out" 2>&1 || rc=$?
[ $rc = 1 ] || fail "hearth_ctypes.py, no model: exit status $rc"
grep -q 'nothing' "$t/out" || fail "hearth_ctypes.py, no model: not named"

# the structures of the Python file are those of the header
cat >"$t/sizes.c" <<'C'
#include <hearth.h>
#include <stdio.h>
int main(void)
{
	printf("%zu %zu %zu %zu\n", sizeof(struct hearth_request),
	       sizeof(struct hearth_event),
	       offsetof(struct hearth_request, key),
	       offsetof(struct hearth_event, error));
	return 0;
}
C
"${CC:-cc}" -Ilibclient/include -o "$t/sizes" "$t/sizes.c"
cd libclient/examples
python3 -B -c '
import ctypes as C, hearth_ctypes as h
print(C.sizeof(h.Request), C.sizeof(h.Event), h.Request.key.offset,
      h.Event.error.offset)' >"$t/out"
"$t/sizes" | cmp - "$t/out" || fail "the structures differ from hearth.h"
stop
echo "examples.sh: ok"
