#!/bin/bash
# SPDX-License-Identifier: MIT
# bench-ipc.sh - the rings beside a unix socket, against a daemon of its own.
# Usage: O=build [N=10000000] tests/bench-ipc.sh
set -eu
cd "$(dirname "$0")/.."
O=${O:-build}
work=$(mktemp -d)
export HEARTH_SOCKET=$work/sock
trap 'kill "$daemon" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
"$O/hearthd" --socket "$HEARTH_SOCKET" -o backend=oracle 2>"$work/log" &
daemon=$!
for _ in $(seq 100); do [ -S "$HEARTH_SOCKET" ] && break; sleep 0.05; done
"$O/hearth" bench ipc ${N:+-n "$N"}
