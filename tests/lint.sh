#!/bin/bash
# SPDX-License-Identifier: MIT
# lint.sh - static analysis: what is installed of it, and the house rules.
set -u
cd "$(dirname "$0")/.." || exit 1
rc=0
run() {
	local tool=$1
	shift
	if ! command -v "$tool" >/dev/null; then
		echo "lint: $tool is not installed, left out"
		return
	fi
	echo "lint: $tool"
	"$tool" "$@" || rc=1
}
tests/style.sh || rc=1
mapfile -t c < <(git ls-files '*.c' | grep -vE '^(kmod|tests/(fuzz|vm/edu))/')
mapfile -t fmt < <(git ls-files '*.c' '*.h')
mapfile -t sh < <(git ls-files '*.sh' '.ci/run')
mapfile -t man < <(git ls-files 'Documentation/man/*')
# Floats lie in shared memory and in files, so bytes are cast to them.
run cppcheck --quiet --enable=warning,portability --inline-suppr \
	--suppress=missingIncludeSystem --suppress=invalidPointerCast \
	--library=tests/cppcheck.cfg --error-exitcode=1 -D__x86_64__ \
	-Ilibclient/include "${c[@]}"
run shellcheck -x "${sh[@]}"
# It is in no package of its own; the kernels for check-vm come with it.
kdoc=$(find "${O:-build}/vm" /usr/lib/linux-kbuild-* -name kernel-doc \
	2>/dev/null | head -n 1)
run "${kdoc:-kernel-doc}" -none -Werror libclient/include/hearth.h \
	libclient/ring.h libclient/wire.h kmod/uapi/hearth.h
[ ${#man[@]} -gt 0 ] && run mandoc -Tlint -W warning "${man[@]}"
run clang-format --dry-run -Werror "${fmt[@]}"
exit $rc
