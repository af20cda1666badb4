#!/bin/bash
# SPDX-License-Identifier: MIT
# lib.sh - libhearth with a real daemon, and what it looks like from outside:
# its symbols, its header in C and C++, its file for pkg-config.
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
case $O in
*-san) ;;
*)
	# what the version script promises is what there is, and nothing more
	nm -D --defined-only "$O/libhearth.so" |
		awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$t/is"
	sed -n 's/^\t\(hearth_[a-z_]*\);/\1/p' libclient/libhearth.map |
		sort >"$t/map"
	grep -ohE '\bhearth_[a-z_]+\(' libclient/include/hearth.h | tr -d '(' |
		sort -u >"$t/named"
	grep -vxFf "$t/map" "$t/named" >"$t/extra" && {
		cat "$t/extra"
		fail "in hearth.h but not in libhearth.map"
	}
	cmp -s "$t/is" "$t/map" || {
		diff "$t/is" "$t/map" || true
		fail "exported symbols differ from libhearth.map"
	}
	# it never prints and never exits
	if nm -D --undefined-only "$O/libhearth.so" |
		grep -E ' (printf|puts|putchar|fprintf|vprintf|perror|exit|_exit|abort|stdout|stderr|__printf_chk|__fprintf_chk)(@|$)'; then
		fail "the library prints or exits"
	fi
	;;
esac
inc=libclient/include
printf '#include <hearth.h>\n' >"$t/h.c"
"${CC:-cc}" -std=c11 -pedantic -Wall -Wextra -Werror -I$inc -fsyntax-only "$t/h.c"
if command -v g++ >/dev/null; then
	printf '#include <hearth.h>\nint main() { hearth_request HEARTH_INIT(q); return q.size == 0; }\n' >"$t/h.cc"
	g++ -std=c++11 -pedantic -Wall -Wextra -Werror -I$inc -fsyntax-only "$t/h.cc"
fi

# a program against what `make install` puts down
case $O in
*-san) ;;
*)
	if command -v pkg-config >/dev/null && [ -e "$O/hearth" ]; then
		VERSION=$("$O/hearthd" --version | awk '{ print $NF }')
		DESTDIR=$t/root PREFIX=/usr VERSION=$VERSION SOVERSION=0 O=$O \
			tests/install.sh install
		export PKG_CONFIG_PATH=$t/root/usr/lib/pkgconfig
		export PKG_CONFIG_SYSROOT_DIR=$t/root
		# shellcheck disable=SC2046 # a list of words
		"${CC:-cc}" -Wall -Wextra -Werror -o "$t/example" \
			libclient/examples/example.c \
			$(pkg-config --cflags --libs hearth)
		readelf -d "$t/example" | grep -q 'libhearth.so.0' ||
			fail "the example is not linked with libhearth.so.0"
		unset PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
	fi
	;;
esac

tiny
export HEARTH_SOCKET=$sock HEARTH_DAEMON=$O/hearthd
rc=0
"$O/tests/t_lib" work "$t/tiny.gguf" >"$t/out" || rc=$?
[ $rc = 1 ] || fail "no daemon, exit status $rc"
grep -q "$sock" "$t/out" || fail "no daemon, and the text does not say where"

start -o verbose=0
"$O/tests/t_lib" work "$t/tiny.gguf" >"$t/out" || { cat "$t/out"; fail "work"; }
if [ -e "$t/example" ]; then
	LD_LIBRARY_PATH=$t/root/usr/lib "$t/example" "$t/tiny.gguf" Hello \
		>"$t/out" 2>&1 || { cat "$t/out"; fail "installed example"; }
fi

# files that are no models: each a sentence that names the file
bad() {
	local rc=0
	"$O/tests/t_lib" work "$1" >"$t/out" 2>&1 || rc=$?
	[ $rc = 1 ] || fail "loading $1: exit status $rc"
	grep -q "$2" "$t/out" || { cat "$t/out"; fail "loading $1: no '$2'"; }
}
head -c 5000 "$t/tiny.gguf" >"$t/short.gguf"
head -c 5000 /dev/urandom >"$t/noise.gguf"
mkdir "$t/dir.gguf"
bad "$t/short.gguf" short
bad "$t/noise.gguf" noise
bad "$t/dir.gguf" "is a directory"
bad "$t/missing.gguf" missing

# answers in the middle of which the engine dies: nobody notices
"$O/tests/t_lib" engine "$t/tiny.gguf" >"$t/out.engine" &
client=$!
till 30 grep -q running "$t/out.engine" || fail "no answer begins"
for _ in 1 2 3; do
	kill -KILL "$(child_pid)"
	sleep 0.5
done
kill -USR1 $client || true # it says below why it is gone
wait $client || { cat "$t/out.engine"; fail "the engine died"; }

# and now the whole daemon, and none comes in its place
"$O/tests/t_lib" daemon "$t/tiny.gguf" >"$t/out.daemon" &
client=$!
till 30 grep -q running "$t/out.daemon" || fail "no answer begins"
kill -KILL "$pid"
wait $client || { cat "$t/out.daemon"; fail "the daemon died"; }
grep -q "none came.*$sock" "$t/out.daemon" ||
	{ cat "$t/out.daemon"; fail "nobody said that none came"; }
wait "$pid" 2>/dev/null || true
pid=
echo "lib.sh: ok"
