#!/bin/bash
# SPDX-License-Identifier: MIT
# check.sh - everything that only a GPU can show, in one call of under ten minutes.
#
# Usage: O=build tests/gpu/check.sh       (make check-gpu builds and runs it)
#   O            a build, or what kit.sh packed of one (see gpu.inc)
#   HEARTH_CUDA  the driver (default libcuda.so.1); a simulator's path tries the
#                script
#   LIMIT_S      what does not begin within so many seconds is skipped (540)
#   MODELS       for parity: "PRESET:TYPE..." (see mkmodel.py --list) or files
#   ONLY         a regular expression for the names of what is to run
#
# It needs no network: the driver, a build with the tests (nvcc is needed to make
# it, not here), for parity a Python with numpy, for the sanitizers CUDA's
# compute-sanitizer. For a machine with nothing but the driver:
#   make gpu-kit                      # build/gpu-kit.tar.xz
#   mkdir kit && tar -xJf gpu-kit.tar.xz -C kit && O=kit tests/gpu/check.sh
#
# What runs: each checker of CUDA kernels against plain C, to the bit; the
# backend against the CPU's; the simulator's own kernels; all those results
# compared with the simulator's, byte for byte; the daemon end to end with models of
# real shapes, on both backends and over a kill; the checkers under compute-sanitizer.
# shellcheck source=tests/gpu/gpu.inc
. "$(dirname "$0")/gpu.inc"
# shellcheck source=tests/run.inc
. tests/run.inc

LIMIT_S=${LIMIT_S:-540}
MODELS=${MODELS:-llama-1b:Q4_K_M llama-1b:BF16 qwen3-0.6b:Q8_0 gemma3-270m:Q4_0}
sim=$O/tests/cudasim/libcuda.so.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# in_time NAME COMMAND...: unless the time is up; none takes longer than is left
in_time() {
	local name=$1 left=$((LIMIT_S - SECONDS))
	shift
	[[ $name =~ ${ONLY:-.} ]] || return
	if [ $left -le 5 ]; then
		skips+=("$name: no time left")
		return
	fi
	one "$name" $((left + 30 < 150 ? left + 30 : 150)) "$@"
}

# ---- a GPU?
one hw 120 "$O/hearth" bench hw --json
[ "$failed" = 0 ] || { summary; exit 1; }
device() { # what of it, from bench hw
	sed -n '/^{/,$p' "$(log_of hw)" | python3 -c 'import json, sys
print((json.load(sys.stdin)["gpu"] or {}).get(sys.argv[1], ""))' "$1"
}
if [ -z "$(device name)" ]; then
	passed=0
	skips+=("all else: $(grep 'no GPU' "$(log_of hw)")")
	summary
	exit 0
fi
echo "$(device name), sm_$(device sm), module $(device module)"
simulated=$(device simulated)
[ "$simulated" = False ] || echo "a simulator: this tries the script, no more"

# ---- kernels: on the chip, then the same in the simulator, and both compared
kernels=()
for f in tests/check_cuda_*.c; do
	grep -q 'cuda_main(' "$f" && kernels+=("$(basename "$f" .c)")
done
sims=(check_cudasim check_cudasim_lanes)
# They are made for one architecture.
[ "$(device sm)" = 90 ] || sims=()

# One process for each: contexts are not made anew, and random numbers go on.
export CK_FORK=no
for c in "${kernels[@]}" "${sims[@]}"; do
	in_time "chip/$c" env HEARTH_CUDA_DUMP="$work/$c.chip" "$O/tests/$c"
done
[ "$(device sm)" = 90 ] || skips+=("chip/check_cudasim: made for sm_90a")
in_time chip/check_cuda_backend \
	env CK_FORK=yes CK_RUN_CASE=cuda_backend "$O/tests/check_cuda_backend"
if [ "$(device sm)" = 90 ]; then
	in_time chip/check_cuda_prompts env CK_FORK=yes \
		CK_RUN_CASE=cuda_prompts "$O/tests/check_cuda_prompts"
else
	skips+=("chip/check_cuda_prompts: fast prompts are for sm_90")
fi
# shellcheck disable=SC2016 # for that bash
for c in "${kernels[@]}" "${sims[@]}"; do
	in_time "bits/$c" env HEARTH_CUDA="$sim" HEARTH_CUDA_DUMP="$work/$c.sim" \
		bash -c '"$O/tests/$1" && python3 tests/gpu/compare.py "$2" "$3"' \
		- "$c" "$work/$c.sim" "$work/$c.chip"
done

# ---- the daemon
# shellcheck disable=SC2086 # two words
for m in $MODELS; do
	in_time "parity/$(basename "$m")" bash tests/gpu/parity.sh ${m//:/ }
done

# ---- sanitizers: the checkers' shapes are small, as the simulator wants them
sanitizer=$(command -v compute-sanitizer ||
	command -v /usr/local/cuda/bin/compute-sanitizer || true)
if [ -z "$sanitizer" ]; then
	skips+=("sanitizers: there is no compute-sanitizer")
	kernels=()
fi
for c in "${kernels[@]}"; do
	for tool in memcheck racecheck synccheck initcheck; do
		in_time "$tool/$c" "$sanitizer" --tool $tool \
			--error-exitcode 99 --print-limit 20 "$O/tests/$c"
	done
done

summary
