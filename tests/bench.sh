#!/bin/bash
# SPDX-License-Identifier: MIT
# bench.sh - this machine's kernels, memory, rings and a model, one after the
# other, each against a daemon of its own.
# Usage: O=build [MODEL=FILE] tests/bench.sh
set -eu
cd "$(dirname "$0")/.."
O=${O:-build}
work=$(mktemp -d)
export HEARTH_SOCKET=$work/sock
trap 'kill "$daemon" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

echo "== kernels (format, shape, level, tokens)"
"$O/tests/check_kernels" --bench
echo "== vector kernels"
"$O/tests/check_ops" --bench
echo "== sampler"
"$O/tests/check_sample" --bench
"$O/hearthd" -o pool=private --socket "$HEARTH_SOCKET" 2>"$work/log" &
daemon=$!
for _ in $(seq 100); do [ -S "$HEARTH_SOCKET" ] && break; sleep 0.05; done
echo "== memory"
"$O/hearth" bench hw
model=${MODEL:-smollm2-135m-instruct}
if "$O/hearth" show "$model" >/dev/null 2>&1; then
	echo "== $model"
	"$O/hearth" bench "$model"
else
	echo "== no model $model here: make run fetches the default one"
fi
kill "$daemon"
wait "$daemon" || true
echo "== rings"
O=$O tests/bench-ipc.sh
