#!/bin/bash
# SPDX-License-Identifier: MIT
# install.sh - install into a directory, use what is there, uninstall: nothing
# may stay.
set -eu
cd "$(dirname "$0")/../.."
case $O in *-san)
	echo "the sanitizer build is not installed"
	exit 77
	;;
esac
dest=$(mktemp -d)
trap 'rm -rf "$dest"' EXIT
rel=$(realpath --relative-to=. "$O")
make --no-print-directory O="$rel" DEPS=0 DESTDIR="$dest" PREFIX=/usr install >/dev/null
for f in bin/hearth sbin/hearthd lib/libhearth.so include/hearth.h \
	lib/pkgconfig/hearth.pc share/man/man1/hearth.1 \
	share/bash-completion/completions/hearth \
	lib/systemd/system/hearthd.service lib/systemd/user/hearthd.socket \
	lib/sysusers.d/hearth.conf lib/tmpfiles.d/hearth.conf; do
	[ -e "$dest/usr/$f" ] || { echo "missing after install: $f"; exit 1; }
done
"$dest/usr/bin/hearth" version >/dev/null
"$dest/usr/sbin/hearthd" --version >/dev/null

# A program builds against what was installed, by pkg-config.
export PKG_CONFIG_PATH=$dest/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dest
cat >"$dest/t.c" <<'C'
#include <hearth.h>
#include <stdio.h>
int main(void)
{
	puts(hearth_version());
	return 0;
}
C
# shellcheck disable=SC2046 # a list of words
cc -Werror -o "$dest/t" "$dest/t.c" $(pkg-config --cflags --libs hearth)
v=$(LD_LIBRARY_PATH=$dest/usr/lib "$dest/t")
[ "$v" = "$(pkg-config --modversion hearth)" ]
rm "$dest/t" "$dest/t.c"

make --no-print-directory O="$rel" DEPS=0 DESTDIR="$dest" PREFIX=/usr uninstall >/dev/null
left=$(find "$dest" -mindepth 1)
[ -z "$left" ] || { echo "left after uninstall:"; echo "$left"; exit 1; }
