#!/bin/bash
# SPDX-License-Identifier: MIT
# nvcc.sh - nvcc NVCC OUT SOURCE FLAGS...: compile CUDA kernels, and fail if one
# needs more registers than there are: a spill costs more than any tuning gives.
set -eu
nvcc=$1 out=$2 src=$3
shift 3
log=$out.log
"$nvcc" "$@" -Xptxas -v -MMD -MF "$out.d" -MT "$out" -o "$out.tmp" "$src" \
	>"$log" 2>&1 || {
	grep -v '^ptxas info' "$log" >&2
	exit 1
}
awk '
/Compiling entry function/ { fn = $0; sub(/.*function /, "", fn) }
/bytes spill stores/ && !/ 0 bytes spill stores, 0 bytes spill loads/ {
	print fn ":" $0
	bad = 1
}
END { exit bad }' "$log" >&2 || {
	echo "$src: registers are spilled" >&2
	exit 1
}
grep -E 'warning|error' "$log" >&2 || true
mv "$out.tmp" "$out"
