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
"$O/hearthd" --socket "$HEARTH_SOCKET" -o pool=private -o backend=oracle 2>"$work/log" &
daemon=$!
for _ in $(seq 100); do [ -S "$HEARTH_SOCKET" ] && break; sleep 0.05; done
# a model for the time to the first token; the oracle computes next to nothing
chmod 755 "$work"
"$O/tests/t_mkgguf" "$work/tiny.gguf" --type Q8_0 --ctx 2048
"$O/hearth" load "$work/tiny.gguf" >/dev/null
"$O/hearth" bench ipc --count "${N:-10000000}"
