#!/bin/sh
# SPDX-License-Identifier: MIT
# verity.sh - a file with fs-verity is not hashed again: what its file system
# says is what a loader computes without it, and so both are one object.
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc

mkdir /v
cp /models/verity.img /tmp/
mount -o loop /tmp/verity.img /v || die "no loop device"
model=/v/tiny.gguf

digest() { hearth ps --json | sed -n 's/.*"digest": "\([0-9a-f]*\)".*/\1/p'; }

start -o pool=tmpfs
first=$(answer $model 8)
computed=$(digest)
is "an answer, and a digest" test ${#computed} = 64
measured=$(t_verity $model) || die "fs-verity cannot be enabled"
result digest "$measured"
is "the kernel's digest is ours" test "$measured" = "$computed"
is "the same answer" test "$(answer $model 8)" = "$first"
is "another file by its times, of the same content" \
	grep -q 'has the content of model' $log
is "one model" test "$(hearth ps --json | grep -c '"digest"')" = 1
hearth stop --all --evict >/dev/null || die "hearth stop"
is "loaded with it, the same answer" test "$(answer $model 8)" = "$first"
is "and the same digest" test "$(digest)" = "$measured"
stop

# a byte of it changes on the disk, and is seen when it is read
sum() { sha256sum <$model 2>/dev/null; }
good=$(sum)
umount /v
off=$(strings -t d /tmp/verity.img | awk '/tokenizer.ggml.tokens/ { print $1; exit }')
is "found in the image" test -n "$off"
printf X | dd of=/tmp/verity.img bs=1 seek="$off" conv=notrunc 2>/dev/null
mount -o loop /tmp/verity.img /v
is "it cannot be read any more" test "$(sum)" != "$good"
rm -rf /dev/shm/hearth
start -o pool=tmpfs
hearth run --raw -n 1 $model Hi >/tmp/said 2>&1 && die "it is loaded"
ok "not loaded: $(cat /tmp/said)"
is "the daemon serves on" test "$(answer /models/tiny.gguf 8)" = "$first"
stop
umount /v
