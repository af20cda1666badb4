#!/bin/bash
# SPDX-License-Identifier: MIT
# dkms.sh - the module by DKMS, as kmod/README says, against Debian's headers;
# everything in a directory of its own.
set -eu
cd "$(dirname "$0")/../.."
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
PATH=$PATH:/usr/sbin:/sbin
case $O in *-san)
	echo "the module is the same under a sanitizer"
	exit 77
	;;
esac
command -v dkms >/dev/null || { echo "dkms is not installed"; exit 77; }
[ "$(id -u)" = 0 ] || { echo "dkms wants to be root"; exit 77; }
out=$(tests/vm/kernel.sh 6.1 2>&1) || { echo "$out"; exit 77; }
k=$O/vm/6.1
version=$(basename "$(readlink "$k/modules")")

t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
mkdir -p "$t/tree" "$t/src" "$t/modules/$version"
step() {
	dkms "$@" --dkmstree "$t/tree" --sourcetree "$t/src" \
		--installtree "$t/modules" >"$t/out" 2>&1 && return
	cat "$t/out"
	find "$t/tree" -name make.log -exec tail -n 20 {} +
	echo "dkms.sh: dkms $1 failed"
	exit 1
}
step install ./kmod -k "$version" --kernelsourcedir "$k/build" --no-depmod
ko=$(find "$t/modules" -name 'hearth.ko*')
[ "${ko#"$t/modules/$version/"}" = updates/dkms/hearth.ko ] ||
	{ echo "dkms.sh: not where it should be: $ko"; exit 1; }
magic=$(modinfo -F vermagic "$ko")
[ "${magic%% *}" = "$version" ] ||
	{ echo "dkms.sh: made for ${magic%% *}, not $version"; exit 1; }
v=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' kmod/dkms.conf)
# nothing is missing in the copy that later kernels are served from
diff -r kmod "$t/src/hearth-$v" ||
	{ echo "dkms.sh: the sources are not all there"; exit 1; }
step remove "hearth/$v" --all --no-depmod
[ -z "$(find "$t/modules" -name 'hearth.ko*')" ] ||
	{ echo "dkms.sh: not removed"; exit 1; }
echo "built for $version, installed, removed"
