#!/bin/sh
# SPDX-License-Identifier: MIT
# install.sh - put Hearth into DESTDIR$PREFIX, or take it out again.
# Usage: DESTDIR= PREFIX= O= VERSION= SOVERSION= tests/install.sh install|uninstall
set -eu
root=$DESTDIR$PREFIX
lib=$root/lib
man=$root/share/man
unit=$root/lib/systemd

# source mode destination, one a line
files() {
	echo "$O/hearth 755 $root/bin/hearth"
	echo "$O/hearthd 755 $root/sbin/hearthd"
	echo "$O/libhearth.so.$VERSION 755 $lib/libhearth.so.$VERSION"
	echo "$O/libhearth.a 644 $lib/libhearth.a"
	echo "libclient/include/hearth.h 644 $root/include/hearth.h"
	echo "$O/hearth.pc 644 $lib/pkgconfig/hearth.pc"
	for f in Documentation/man/*.[1-8]; do
		[ -e "$f" ] && echo "$f 644 $man/man${f##*.}/${f##*/}"
	done
	echo "tools/completion/hearth.bash 644" \
		"$root/share/bash-completion/completions/hearth"
	for f in daemon/systemd/*.service daemon/systemd/*.socket; do
		[ -e "$f" ] || continue
		case $f in
		*-user.*) d=user ;;
		*) d=system ;;
		esac
		b=${f##*/}
		echo "$O/systemd/$b 644 $unit/$d/$(echo "$b" |
			sed 's/-user\././')"
	done
	echo "daemon/systemd/hearth.sysusers 644 $lib/sysusers.d/hearth.conf"
	echo "daemon/systemd/hearth.tmpfiles 644 $lib/tmpfiles.d/hearth.conf"
}

links() {
	echo "libhearth.so.$VERSION $lib/libhearth.so.$SOVERSION"
	echo "libhearth.so.$SOVERSION $lib/libhearth.so"
}

case $1 in
install)
	sed -e "s|@PREFIX@|$PREFIX|g" -e "s|@VERSION@|$VERSION|g" \
		libclient/hearth.pc.in >"$O/hearth.pc"
	mkdir -p "$O/systemd"
	for f in daemon/systemd/*.service daemon/systemd/*.socket; do
		[ -e "$f" ] && sed -e "s|@PREFIX@|$PREFIX|g" "$f" \
			>"$O/systemd/${f##*/}"
	done
	files | while read -r src mode dst; do
		install -D -m "$mode" "$src" "$dst"
	done
	links | while read -r to at; do ln -sf "$to" "$at"; done
	if [ -z "$DESTDIR" ] && [ "$(id -u)" -eq 0 ]; then
		ldconfig
		echo "to start the service: systemd-sysusers hearth.conf &&" \
			"systemd-tmpfiles --create hearth.conf &&" \
			"systemctl daemon-reload &&" \
			"systemctl enable --now hearthd.socket hearthd"
	fi
	;;
uninstall)
	{
		files | while read -r _ _ dst; do echo "$dst"; done
		links | while read -r _ at; do echo "$at"; done
	} | while read -r f; do
		rm -f "$f"
		# directories that install made and nobody else uses
		d=${f%/*}
		while [ "$d" != "$root" ] && [ -n "$d" ]; do
			rmdir "$d" 2>/dev/null || break
			d=${d%/*}
		done
	done
	if [ -n "$DESTDIR" ]; then
		d=$root
		while [ "$d" != "$DESTDIR" ] && [ -n "$d" ]; do
			rmdir "$d" 2>/dev/null || break
			d=${d%/*}
		done
	elif [ "$(id -u)" -eq 0 ]; then
		ldconfig
	fi
	;;
*)
	echo "install.sh: install or uninstall" >&2
	exit 2
	;;
esac
