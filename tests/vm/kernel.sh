#!/bin/bash
# SPDX-License-Identifier: MIT
# kernel.sh - get a kernel to boot in QEMU, and what modules are built against.
# Usage: O=build tests/vm/kernel.sh 6.1|6.12|debug
#
# Leaves $O/vm/NAME/vmlinuz, .../build (for make -C) and .../modules (its
# lib/modules; none for debug). 6.1 and 6.12 are Debian's packages, unpacked and
# not installed; debug is Debian's 6.1 source built with debug.config. What is
# there already is kept. Exits 77, with the reason last, when it cannot be had.
set -eu
cd "$(dirname "$0")/../.."
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
PATH=$PATH:/usr/sbin:/sbin
name=$1
dir=$O/vm/$name
config=$PWD/tests/vm/debug.config

skip() {
	echo "$1"
	exit 77
}

# fetch PACKAGE...: unpack them into $dir.new
fetch() {
	local tmp d
	command -v apt-get >/dev/null || skip "no apt-get: no Debian kernels"
	tmp=$(mktemp -d)
	if ! (cd "$tmp" && apt-get -qq download "$@" 2>err); then
		d=$(grep '^E:' "$tmp/err" | head -n 1)
		rm -rf "$tmp"
		skip "cannot download $1: ${d:-apt-get download failed}"
	fi
	for d in "$tmp"/*.deb; do
		dpkg -x "$d" "$dir.new"
		rm "$d"
	done
	rm -rf "$tmp"
}

# depends PACKAGE PATTERN: the first that it depends on
depends() {
	apt-cache depends "$1" 2>/dev/null |
		sed -n "s/^ *|*Depends: \($2\)\$/\1/p" | head -n 1
}

debian() {
	local image=$1 headers=$2 version kbuild root
	image=$(depends "$image" 'linux-image-[0-9].*')
	headers=$(depends "$headers" 'linux-headers-[0-9].*')
	if [ -z "$image" ] || [ -z "$headers" ]; then
		skip "apt knows no Linux $name (apt-get update?)"
	fi
	version=${image#linux-image-}
	kbuild=$(depends "$headers" 'linux-kbuild-.*')
	fetch "$image" "$headers" "linux-headers-${version%-amd64}-common" \
		"$kbuild"
	root=$dir.new
	# it names the place where it would be installed
	sed -i "s,/usr/src/,$dir/usr/src/," "$root/usr/src/$headers/Makefile"
	# with it there, modules get type information by a program not all have
	rm -f "$root/usr/src/$headers/vmlinux"
	depmod -b "$root" "$version"
	ln -s "boot/vmlinuz-$version" "$root/vmlinuz"
	ln -s "usr/src/$headers" "$root/build"
	ln -s "lib/modules/$version" "$root/modules"
}

debug() {
	local src
	fetch linux-source-6.1
	tar -C "$dir.new" -xf "$dir.new"/usr/src/linux-source-6.1.tar.xz
	rm -r "$dir.new/usr"
	src=$(basename "$dir.new"/linux-source-*)
	echo "building a kernel with $config"
	(
		cd "$dir.new/$src"
		make -s KCONFIG_ALLCONFIG="$config" allnoconfig
		grep '^CONFIG' "$config" | grep -vxFf .config && {
			echo "Kconfig drops these"
			exit 1
		}
		nice -n 19 make -s -j"$(nproc)" bzImage modules
	)
	ln -s "$src/arch/x86/boot/bzImage" "$dir.new/vmlinuz"
	ln -s "$src" "$dir.new/build"
	cp "$config" "$dir.new/config"
}

[ "$(uname -m)" = x86_64 ] || skip "not x86-64"
if [ "$name" = debug ] && [ -e "$dir/vmlinuz" ] &&
	! cmp -s "$config" "$dir/config"; then
	rm -rf "$dir"
fi
[ -e "$dir/vmlinuz" ] && exit 0
rm -rf "$dir.new"
mkdir -p "$dir.new"
case $name in
6.1) debian linux-image-amd64 linux-headers-amd64 ;;
6.12) debian linux-image-6.12-amd64 linux-headers-6.12-amd64 ;;
debug) debug ;;
*)
	echo "kernel.sh: no kernel $name" >&2
	exit 2
	;;
esac
rm -rf "$dir"
mv "$dir.new" "$dir"
