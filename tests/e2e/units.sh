#!/bin/bash
# SPDX-License-Identifier: MIT
# units.sh - the systemd units: valid, exposed as little as a GPU allows, and
# not stricter than the daemon can live with. Units are read here, never
# started.
# alone
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
limit=2.0
command -v systemd-analyze >/dev/null || {
	echo "systemd-analyze is not installed"
	exit 77
}
case $O in *-san)
	echo "a sanitizer needs more than the units allow"
	exit 77
	;;
esac

export XDG_RUNTIME_DIR=$t/run # for the user's manager
mkdir -m 700 "$t/run"
for k in system user; do
	mkdir "$t/$k"
	for f in service socket; do
		from=daemon/systemd/hearthd.$f
		[ $k = system ] || from=daemon/systemd/hearthd-user.$f
		sed "s|@PREFIX@/sbin/hearthd|$O/hearthd|" "$from" \
			>"$t/$k/hearthd.$f"
	done
	mode=()
	[ $k = system ] || mode=(--user)
	systemd-analyze "${mode[@]}" verify --man=no "$t/$k"/hearthd.* \
		>"$t/out" 2>&1 || { cat "$t/out"; fail "$k units: not valid"; }
	# a line it did not understand is a warning only
	grep "$t/$k" "$t/out" && fail "$k units: see above"
done

# exposure: 0 is nothing at all, 10 is everything
exposure() {
	systemd-analyze "$@" security --offline=true --no-pager \
		--threshold=100 "$unit" >"$t/out" 2>&1 ||
		{ cat "$t/out"; fail "security analysis"; }
	sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p' "$t/out"
}
unit=$t/system/hearthd.service
system=$(exposure)
echo "hearthd.service: exposure $system (limit $limit)"
awk -v a="$system" -v b=$limit 'BEGIN { exit !(a != "" && a <= b) }' ||
	{ grep '^✗' "$t/out"; fail "exposure $system, not $limit"; }
# A user's manager has no namespaces to hide things in.
unit=$t/user/hearthd.service
user=$(exposure --user)
echo "hearthd.service of a user: exposure $user"

value() { sed -n "s/^$1=//p" "$t/system/hearthd.service"; }

# what would take the pool away with the unit
for k in PrivateDevices RemoveIPC DynamicUser PrivateIPC RootDirectory; do
	[ -z "$(value $k)" ] || fail "$k: the pool would not survive a restart"
done
[ "$(value ProtectSystem)$(value ProtectHome)" = strictyes ] ||
	fail "the file system is open"
[ "$(value RuntimeDirectoryPreserve)" = yes ] ||
	fail "a restart would remove the socket"

# The daemon under what can be had of it without systemd: those capabilities,
# no new ones, no network; and every system call of it is on the list.
if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null ||
	! command -v strace >/dev/null; then
	echo "not root, or no setpriv or strace: the daemon was not tried"
	exit 0
fi
tiny
shm=/dev/shm/hearth-test-$$
trap 'finish; rm -rf "$shm"' EXIT
caps=$(value CapabilityBoundingSet | tr 'A-Z ' 'a-z,' | sed 's/cap_/+/g')
unshare --net setpriv --bounding-set "-all,$caps" --no-new-privs \
	strace -D -f -qq -o "$t/calls" -s 0 \
	"$O/hearthd" --socket "$sock" -o pool=tmpfs -o pool-dir=$shm \
	2>>"$t/log" &
pid=$!
till 30 test -S "$sock" || fail "does not start under the unit's capabilities"
HEARTH_SOCKET=$sock timeout 120 "$O/hearth" run --greedy -n 8 --ignore-eos \
	--no-stats "$t/tiny.gguf" hello >"$t/answer" 2>"$t/out" ||
	{ cat "$t/out"; fail "no answer under the unit's capabilities"; }
HEARTH_SOCKET=$sock "$O/hearth" stop --all --evict >/dev/null
kill -TERM "$pid"
wait "$pid" || fail "exit status after SIGTERM"
pid=

# names of a group and the groups in it
names() {
	systemd-analyze syscall-filter "$1" |
		sed -n 's/^    *\([@a-z0-9_-]*\).*/\1/p' |
		while read -r n; do
			case $n in @*) names "$n" ;; *) echo "$n" ;; esac
		done
}
allowed() { # lines of SystemCallFilter, in order
	local line w list=$t/allowed
	: >"$list"
	names @default >"$list"
	value SystemCallFilter | while read -r line; do
		for w in ${line#\~}; do
			case $w in @*) names "$w" ;; *) echo "$w" ;; esac
		done >"$t/part"
		case $line in
		\~*) grep -vxFf "$t/part" "$list" >"$t/less" || true ;;
		*) cat "$list" "$t/part" >"$t/less" ;;
		esac
		mv "$t/less" "$list"
	done
	sort -u "$list"
}
allowed >"$t/list"
sed -n 's/^[0-9]* *\([a-z0-9_]*\)(.*/\1/p' "$t/calls" | sort -u >"$t/made"
[ "$(wc -l <"$t/made")" -gt 40 ] || fail "strace saw nothing"
grep -vxFf "$t/list" "$t/made" >"$t/extra" && {
	cat "$t/extra"
	fail "system calls of the daemon that the unit forbids"
}
echo "$(wc -l <"$t/made") system calls made, all of them allowed"
