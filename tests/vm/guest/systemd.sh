#!/bin/sh
# SPDX-License-Identifier: MIT
# systemd.sh - the units under a real systemd: restarts, kills and a hang, and
# the weights are there each time.
# kernels: 6.1
# long
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc
[ -x /bin/systemd ] || {
	echo "systemd is not installed where this image was built"
	exit 77
}
model=/models/big.gguf
units=/etc/systemd/system
export HEARTH_SOCKET=/run/hearth/hearth.sock
log=/run/hearthd.log

mkdir -p $units /sys/fs/cgroup /run/systemd
mount -t cgroup2 cgroup2 /sys/fs/cgroup || die "no cgroup2"
for u in sysinit basic sockets multi-user shutdown; do
	printf '[Unit]\nDescription=%s\n' $u >$units/$u.target
done
cp /guest/hearthd.service /guest/hearthd.socket "$units/"
mkdir -p $units/hearthd.service.d
# no journal in this guest; and a hang is to be noticed sooner
cat >$units/hearthd.service.d/test.conf <<EOF
[Service]
WatchdogSec=4
StandardError=append:$log
EOF
container=vm unshare -m -p -f --mount-proc \
	systemd --system --unit=basic.target --log-target=console \
	--log-level=warning --log-color=no >/tmp/systemd.log 2>&1 &
till 60 test -S /run/systemd/private || {
	cat /tmp/systemd.log
	die "systemd does not start"
}

# From outside of its processes systemd would not listen.
init=$(pidof systemd | awk '{ print $NF }')
sc() {
	nsenter -t "$init" -p -m -- \
		systemctl --no-pager --no-ask-password "$@"
}
show() { sc show -P "$1" hearthd.service; }
main() { show MainPID; }
is_active() { [ "$(show ActiveState)" = active ]; }
processes() { pidof hearthd | wc -w; }

# The main process, as this namespace counts.
main_here() {
	for p in $(pidof hearthd); do
		grep -q "^NSpid:.*[^0-9]$(main)\$" "/proc/$p/status" &&
			echo "$p" && return
	done
}

# again WHAT: the same answer, and no byte of the file was read for it
again() {
	till 30 is_active || die "$1: hearthd is $(show ActiveState)"
	second=$(answer $model 3 -v)
	is "$1: the same answer" test "$first" = "$second"
	is "$1: no sector read" test "$read0" = "$(disk_read)"
	is "$1: two processes" test "$(processes)" = 2
	result "systemd $1" "$(sed -n 's/^load */attach /p' /tmp/stderr)"
}

# Clients that come at any time: each is served, whatever happens.
clients() {
	while [ ! -e /tmp/enough ]; do
		hearth version >/dev/null 2>/tmp/client.err ||
			cat /tmp/client.err >>/tmp/refused
		echo >>/tmp/served
	done
}

sc start hearthd.socket || die "the socket does not start"
is "nobody runs yet" no_process
first=$(answer $model 3)
is "a client starts it" is_active
is "an answer" test -n "$first"
show StatusText | grep -q '^engine [0-9]*, 1 models' ||
	die "status: $(show StatusText)"
ok "status: $(show StatusText)"
is "the engine dies before the monitor" test \
	"$(cat "/proc/$(main_here)/oom_score_adj")" = -900
drop_caches
stat $model >/dev/null
read0=$(disk_read)

: >/tmp/served
clients &
n=0
while [ $n -lt 3 ]; do
	before=$(main)
	sc restart hearthd.service || die "restart"
	[ "$before" != "$(main)" ] || die "restart: the same process"
	n=$((n + 1))
done
again restart
touch /tmp/enough
wait $!
is "no client was refused in three restarts" \
	test -z "$(cat /tmp/refused 2>/dev/null)"
result "clients served" "$(wc -l </tmp/served)"

kill -KILL "$(main_here)"
again "SIGKILL of the monitor"
is "it was a restart" test "$(show NRestarts)" = 1

p=$(main_here)
kill -STOP "$p"
till 30 test ! -e "/proc/$p" || die "nobody noticed the hang"
again "a monitor that hangs"
is "it was the watchdog" test "$(show NRestarts)" = 2

sc stop hearthd.socket hearthd.service || die "stop"
is "stopped: no process is left" no_process
sc start hearthd.socket || die "start"
hearth version >/dev/null
again "stop and start"
hearth stop --evict big >/dev/null || die "evict"
sc stop hearthd.service
is "the pool is empty" test -z "$(ls /dev/shm/hearth)"

# the unit may use the module, too
kmod_in
huge 96
first=$(answer $model 3)
is "the module has it" test "$(wc -l </sys/kernel/debug/hearth/buffers)" = 2
read0=$(disk_read)
sc restart hearthd.service || die "restart"
again "restart, with the module"
hearth stop --evict big >/dev/null || die "evict"
sc stop hearthd.socket hearthd.service
is "the module's pool is empty" test \
	"$(wc -l </sys/kernel/debug/hearth/buffers)" = 1
kmod_out
kill -KILL %1 2>/dev/null
killall -KILL systemd
umount /sys/fs/cgroup
