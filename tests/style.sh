#!/bin/bash
# SPDX-License-Identifier: MIT
# style.sh - house rules that grep can check.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0
say() { echo "$@"; bad=1; }

files=$(git ls-files 2>/dev/null) || { echo "not a git checkout"; exit 77; }
code=$(echo "$files" | grep -E '\.(c|h|cu|def|sh|py|awk|map|in|service|socket)$|(^|/)(Makefile|Kbuild)$|^\.ci/')

for f in $code; do
	head -n 3 "$f" | grep -q 'SPDX-License-Identifier' || say "$f: no SPDX line"
	[ -n "$(tail -c 1 "$f")" ] && say "$f: no newline at the end"
done
# shellcheck disable=SC2046,SC2086 # lists of words
{
	blanks=$(grep -nE '[[:blank:]]+$' $code | grep -v '^tests/golden/' | head -n 20)
	[ -n "$blanks" ] && say "trailing blanks:" && echo "$blanks"
	for f in $(echo "$files" | grep -E '\.(c|h)$'); do
		n=$(wc -l <"$f")
		[ "$n" -gt 1000 ] && say "$f: $n lines, more than one sitting"
	done
	# data flows one way: nobody includes upwards
	grep -nE '#include "(\.\./)*(daemon|tools|tests)/' $(echo "$files" | grep -E '^(kernels|libclient)/.*\.[ch]$') && say "an upward include"
	grep -nE '#include "(\.\./)*(cpu|cuda)/' $(echo "$files" | grep -E '^daemon/[^/]*\.[ch]$') && say "the engine must see backend.h, not a backend"
	grep -nE '#include "(\.\./)*tests/' $(echo "$files" | grep -E '^(kernels|libclient|daemon|tools)/.*\.[ch]$') && say "an include of a test"
	grep -nE '\b(TODO|FIXME|XXX|HACK)\b' $(echo "$code" | grep -v '^tests/style.sh$') && say "a promise left in the code"
}
[ $bad = 0 ] && echo "style: clean"
exit $bad
