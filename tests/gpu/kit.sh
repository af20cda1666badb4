#!/bin/bash
# SPDX-License-Identifier: MIT
# kit.sh - pack what check.sh and bench.sh run, with the shared libraries it needs, for
# a machine that has a GPU's driver and the C library, and no network.
# Usage: O=build tests/gpu/kit.sh     (make gpu-kit); writes build/gpu-kit.tar.xz
# Needs patchelf, so that programs find the libraries beside them.
set -eu
cd "$(dirname "$0")/../.."
O=${O:-build}
if ! command -v patchelf >/dev/null; then
	echo "kit.sh: there is no patchelf here: apt-get install patchelf" >&2
	exit 1
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/tests/cudasim" "$dir/kernels/cuda" "$dir/lib"

tests=(t_mkgguf check_cuda_backend check_cuda_prompts check_cudasim check_cudasim_lanes)
for f in tests/check_cuda_*.c; do
	! grep -q 'cuda_main(' "$f" || tests+=("$(basename "$f" .c)")
done
cp "$O/hearth" "$O/hearthd" "$dir/"
for t in "${tests[@]}"; do cp "$O/tests/$t" "$dir/tests/"; done
cp "$O"/tests/cudasim/*.ptx "$O"/tests/cudasim/*.fatbin \
	"$O/tests/cudasim/libcuda.so.1" "$dir/tests/cudasim/"
cp "$O/kernels/cuda/hw.fatbin" "$dir/kernels/cuda/"
strip "$dir/hearth" "$dir/hearthd" "$dir"/tests/check_* "$dir"/tests/t_*

# All but the C library, which belongs to the machine and its loader.
ldd "$dir/hearth" "$dir/hearthd" "$dir"/tests/check_* "$dir"/tests/t_* |
	awk '$3 ~ /^\// { print $3 }' | sort -u |
	grep -vE '/(libc|libm|libpthread|libdl|librt|libresolv|ld-linux[^/]*)\.so' |
	xargs -r cp -t "$dir/lib/"
# shellcheck disable=SC2016 # the loader's variable
{
	patchelf --set-rpath '$ORIGIN/lib' "$dir/hearth" "$dir/hearthd"
	patchelf --set-rpath '$ORIGIN/../lib' "$dir"/tests/check_* "$dir"/tests/t_*
	patchelf --set-rpath '$ORIGIN' "$dir"/lib/*
}
# The checkers hold the same kernels each: a window over all of them is needed.
tar -C "$dir" -c . | xz -T0 --lzma2=preset=6,dict=128MiB >"$O/gpu-kit.tar.xz.part"
mv "$O/gpu-kit.tar.xz.part" "$O/gpu-kit.tar.xz"
echo "$O/gpu-kit.tar.xz: $(stat -c %s "$O/gpu-kit.tar.xz") bytes, ${#tests[@]} programs for tests"
