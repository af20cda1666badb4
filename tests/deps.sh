#!/bin/sh
# SPDX-License-Identifier: MIT
# deps.sh - install the packages that building (and testing) needs, if missing.
# Usage: tests/deps.sh [test]
set -eu

packages="build-essential pkg-config liburing-dev libseccomp-dev libssl-dev libdrm-dev
	libcurl4-openssl-dev libjansson-dev libedit-dev zlib1g-dev
	libutf8proc-dev ca-certificates"
if [ "${1:-}" = test ]; then
	packages="$packages check libsubunit-dev clang libclang-rt-dev python3
		procps util-linux mandoc git systemd strace
		qemu-system-x86 dkms cpio busybox-static e2fsprogs kmod xz-utils
		flex bison bc libelf-dev"
fi

missing=
for p in $packages; do
	dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null |
		grep -qx installed || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "deps: this is no Debian; install what corresponds to:$missing" >&2
	echo "deps: then run make with DEPS=0" >&2
	exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "deps: as root, run: apt-get install$missing" >&2
		exit 1
	fi
	sudo=sudo
fi
echo "deps: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
if ! { $sudo apt-get -qq update &&
	$sudo apt-get -qq install -y --no-install-recommends $missing; } \
	>"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "deps: apt-get failed; install by hand:$missing" >&2
	exit 1
fi
