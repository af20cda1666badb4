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

# The manual has what the code has: has PAGE WHAT PATTERN
man=Documentation/man
has() { grep -q -- "$3" "$man/$1" || say "$man/$1 lacks $2"; }
# words AT-LEAST SED-SCRIPT FILE...: so many are there, or this reads it wrongly
words() {
	local w least=$1
	shift
	w=$(sed -n "$@")
	[ "$(echo "$w" | wc -w)" -ge "$least" ] || echo "what-is-in-$2"
	echo "$w"
}
for o in $(words 5 's/^\t{ "\([a-z]*\)", [a-z]*_argument.*/\1/p' daemon/main.c); do
	has hearthd.8 "--$o" "Fl -$o\b"
done
for o in $(words 30 's/^\t\(NUM(\|BYTES(\|TEXT(\|{ \)"\([a-z-]*\)", .*/\2/p' \
	daemon/conf.c); do
	has hearthd.conf.5 "$o" "^\.It Cm $o$"
done
for v in $(words 12 's/^CMD(\([a-z]*\),.*/\1/p' tools/hearth/cmd.def); do
	has hearth.1 "$v" "^\.Ss $v$"
	for o in $(words 0 's/^\t{ \(0\|.[a-z].\), "\([a-z0-9-]*\)", .*/\2/p' \
		"tools/hearth/cmd_$v.c"); do
		has hearth.1 "$v --$o" "Fl -$o\b"
		grep -q "^	$v) .* --$o\b" tools/completion/hearth.bash ||
			say "tools/completion/hearth.bash lacks $v --$o"
	done
done
for f in $(words 30 's/^\t\(hearth_[a-z_]*\);/\1/p' libclient/libhearth.map); do
	has libhearth.3 "$f" "^\.Nm $f\b"
	has libhearth.3 "$f()" "^\.Fn $f\b"
	grep -q "^ \* $f() - \|^/\*\* $f() - " libclient/include/hearth.h ||
		say "libclient/include/hearth.h does not describe $f()"
done
for f in $(words 8 's/^#define \(HEARTH_DEV_IOC_[A-Z]*\)\b.*/\1/p' kmod/uapi/hearth.h); do
	has hearth.4 "$f" "^\.It Dv $f$"
done
for f in $(words 3 's/^module_param[a-z_]*(\([a-z_]*\),.*/\1/p' kmod/*.c); do
	has hearth.4 "$f" "^\.It Va $f$"
done

# What the pages for developers name is there.
# shellcheck disable=SC2013,SC2016 # paths have no blanks
for f in $(grep -oh '`[A-Za-z.]*/[A-Za-z0-9_./-]*`' ./*.md Documentation/*.md |
	tr -d '`' | sort -u); do
	case $f in build/*) continue ;; esac
	[ -e "$f" ] || [ -e "libclient/$f" ] || say "$f: named in a page, not there"
done

# One version.
v=$(sed -n 's/^VERSION := //p' Makefile)
[ "$v" = "$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' kmod/dkms.conf)" ] ||
	say "kmod/dkms.conf: not version $v"
[ "$v" = "$(awk '/define HEARTH_VERSION_/ { printf "%s%s", d, $3; d = "." }' \
	libclient/include/hearth.h)" ] ||
	say "libclient/include/hearth.h: not version $v"
[ $bad = 0 ] && echo "style: clean"
exit $bad
