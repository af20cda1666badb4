#!/bin/bash
# SPDX-License-Identifier: MIT
# gpu.sh - what measures and checks GPUs, run in the simulator: each part works,
# and no figure is printed that could be taken for one. HEARTH_LONG=1: parity, too.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/daemon.inc"

sim=$O/tests/cudasim
if [ ! -e "${O%-san}/kernels/cuda/hw.fatbin" ]; then
	echo "no nvcc here: there are no kernels to measure with"
	exit 77
fi

# ---- hearth bench hw
LD_LIBRARY_PATH=$sim "$O/hearth" bench hw --device 0 --bytes 100000 \
	>"$t/out" 2>&1 || fail "bench hw: $(cat "$t/out")"
grep -q 'simulator' "$t/out" || fail "bench hw does not say it is simulated"
sed -n '/^GPU /,$p' "$t/out" >"$t/rows"
n=$(wc -l <"$t/rows")
[ "$n" -ge 29 ] || fail "bench hw: $n lines of measurements"
if grep -E 'GB/s|ms/GiB| us( |$)' "$t/rows"; then
	fail "bench hw prints rates of a simulator"
fi
LD_LIBRARY_PATH=$sim "$O/hearth" bench hw --bytes 100000 --json \
	>"$t/json" 2>"$t/why" ||
	fail "bench hw --json: $(cat "$t/why")"
python3 - "$t/json" <<'PY'
import json, sys

g = json.load(open(sys.argv[1]))['gpu']
assert g['simulated'] and g['sm'] == 90 and g['cuda_version'] == 13000, g
rows = {r['key']: r for r in g['rows']}
assert not any('value' in r for r in g['rows']), rows
must = {'read', 'copy', 'copy_driver', 'register_4k', 'upload_4k', 'upload_sealed', 'upload_pageable',
        'download_pinned', 'gap', 'gap_pdl', 'node', 'node_pdl', 'host_launch', 'host_graph',
        'trip_looking', 'trip_asleep', 'flag'}
assert must <= {k for k, r in rows.items() if r['ran']}, must - set(rows)
PY

# A device that is not there, or that fails, is an error where it was asked for.
run_sim() { LD_LIBRARY_PATH=$sim "$@" >"$t/out" 2>"$t/why"; }
if run_sim "$O/hearth" bench hw --bytes 100000 --device 1; then
	fail "bench hw measures device 1 of one"
fi
grep -q 'no device 1' "$t/why" || fail "device 1: $(cat "$t/why")"
if CUDASIM_FAIL=cuMemHostAlloc#1:OUT_OF_MEMORY run_sim "$O/hearth" bench hw --bytes 100000; then
	fail "bench hw does without pinned memory"
fi
grep -q 'cuMemHostAlloc.*OUT_OF_MEMORY' "$t/why" || fail "$(cat "$t/why")"
CUDASIM_FAIL=cuInit#1:NO_DEVICE run_sim "$O/hearth" bench hw --bytes 100000 ||
	fail "bench hw fails because there is no GPU"
grep -q 'no GPU is measured: .*NO_DEVICE' "$t/why" || fail "$(cat "$t/why")"

# What follows tests scripts, which no sanitizer looks into.
case $O in
*-san) exit 0 ;;
esac

# ---- tests/gpu/check.sh, with a sanitizer that only runs what it is given
mkdir "$t/bin"
cat >"$t/bin/compute-sanitizer" <<'SH'
#!/bin/sh
while [ "${1#/}" = "$1" ]; do shift; done
exec "$@"
SH
chmod +x "$t/bin/compute-sanitizer"
tiny
check() {
	PATH=$t/bin:$PATH HEARTH_CUDA=$sim/libcuda.so.1 MODELS=$t/tiny.gguf \
		LINES_IN_PROMPT=2 ONLY="$1" tests/gpu/check.sh >"$t/out" 2>&1
}
only='check_cuda_vec|check_cudasim_lanes' n=9
[ -n "${HEARTH_LONG:-}" ] && only+='|^parity' n=10
check "$only" || fail "check.sh: $(cat "$t/out")"
grep -qx "$n passed, 0 failed, 0 skipped" "$t/out" ||
	fail "check.sh: $(tail -n 30 "$t/out")"
CUDASIM_FAIL=cuMemcpyDtoH#3:INVALID_VALUE check '^chip/check_cuda_vec' &&
	fail "check.sh passes with a copy that fails"
grep -q '^failed: chip/check_cuda_vec' "$t/out" || fail "$(cat "$t/out")"
CUDASIM_FAIL=cuInit#1:NO_DEVICE check . || fail "no GPU, and no exit 0"
grep -q '^0 passed, 0 failed, 1 skipped' "$t/out" || fail "no GPU, and no skip"

# ---- tests/gpu/bench.sh
HEARTH_CUDA=$sim/libcuda.so.1 tests/gpu/bench.sh >"$t/out" 2>"$t/why" ||
	fail "bench.sh: $(cat "$t/why")"
for row in 'device memory, read' 'tiny-1.gguf | decode' 'tiny-1.gguf | prefill 8' \
	'tiny-1.gguf | batch 2' 'tiny-1.gguf | decode, gpu-ahead' \
	'tiny-1.gguf | prefill 4, gpu-prompts=fast'; do
	grep -q "^| $row | ran |" "$t/out" || fail "bench.sh: $row: $(cat "$t/out")"
done
tail -n 3 "$t/out" | grep -q '^| tiny-1.gguf | .* | ran, ran, ran |' ||
	fail "bench.sh: no swaps: $(cat "$t/out")"
if grep -E '\| [0-9.]+( [GMm]| us)' "$t/out"; then
	fail "bench.sh prints figures of a simulator"
fi
