#!/bin/sh
# SPDX-License-Identifier: MIT
# answer.sh - hearthd, a real client and a model, without any module.
# shellcheck source=tests/vm/guest/lib.inc
. /guest/lib.inc

start -o verbose=0
first=$(answer /models/tiny.gguf 16)
is "an answer" test -n "$first"
is "and the same again" test "$(answer /models/tiny.gguf 16)" = "$first"
stop
is "no process is left" no_process
