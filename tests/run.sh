#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh - run groups of tests and count them.
#
# Usage: O=build tests/run.sh check|unit|cuda|e2e|vm|vm-long|fuzz|san|long
# What a test is, and what is printed: see run.inc.
set -u
cd "$(dirname "$0")/.." || exit 1
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
export O
# shellcheck source=tests/run.inc
. tests/run.inc

# Those that take longest begin first, so that none is left alone at the end.
long='check_(cpu|cuda_backend|cuda_upload|kernels|sim|tokenizer)$'
long_e2e='(cuda|cuda-faults|gpu)$'

# Till one more can begin: as many at a time as there are cores
slot() {
	while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
		wait -n
	done
}

# long_first PATTERN NAME...
long_first() {
	local p=$1
	shift
	printf '%s\n' "$@" | grep -xE "$p"
	printf '%s\n' "$@" | grep -vxE "$p"
}

# unit [PATTERN [BUT]]: told in order
unit() {
	local t names=()
	# shellcheck disable=SC2231 # a pattern it is
	for t in tests/check_${1:-*}.c; do
		t=$(basename "$t" .c)
		[[ ${t#check_} =~ ^(${2:-})$ ]] || names+=("$t")
	done
	for t in $(long_first "$long" "${names[@]}"); do
		slot
		start "$t" 300 "$O/tests/$t" &
	done
	wait
	for t in "${names[@]}"; do report "$t"; done
}

# Those that say "# alone", as they measure time or change the machine, last and
# one by one.
e2e() {
	local t names=() shared=() alone=()
	for t in tests/e2e/*.sh; do
		[ -e "$t" ] || continue
		names+=("$(basename "$t" .sh)")
		if grep -qx '# alone' "$t"; then
			alone+=("${names[-1]}")
		else
			shared+=("${names[-1]}")
		fi
	done
	for t in $(long_first "$long_e2e" "${shared[@]}"); do
		slot
		start "e2e/$t" 600 bash "tests/e2e/$t.sh" &
	done
	wait
	for t in "${alone[@]}"; do start "e2e/$t" 600 bash "tests/e2e/$t.sh"; done
	for t in "${names[@]}"; do report "e2e/$t"; done
}

# vm KERNEL...: each in a machine of its own, with the scenarios that are for it
vm() {
	local k s
	for k; do
		slot
		# shellcheck disable=SC2046 # a list of words
		start "vm/$k" 3600 tests/vm/run.sh "$k" $(vm_scenarios "$k") &
	done
	wait
	for k; do
		report "vm/$k"
		[ "$(cut -d' ' -f1 "$(log_of "vm/$k").rc")" = 0 ] || continue
		for s in $(vm_scenarios "$k"); do report "vm/$k/$s"; done
	done
}

# Those that say "# long" only where there is time.
vm_scenarios() {
	local f for
	for f in tests/vm/guest/*.sh; do
		[ -z "${HEARTH_LONG:-}" ] && grep -qx '# long' "$f" && continue
		for=$(sed -n 's/^# kernels: //p' "$f")
		case " ${for:-6.1 6.12} " in
		*" $1 "*) basename "$f" .sh ;;
		esac
	done
}

# Each target: seconds of fuzzing, one second and bounded memory an input.
fuzz() {
	local t secs=$1 corpus seeds pids=() names=() i running=0
	for t in tests/fuzz/fuzz_*.c; do
		[ -e "$t" ] || continue
		t=$(basename "$t" .c)
		corpus=$O/corpus/$t
		seeds=tests/fuzz/corpus/$t
		rm -rf "$O/findings/$t"
		mkdir -p "$corpus" "$O/findings/$t"
		[ -d "$seeds" ] || seeds=
		set -- "$O/fuzz/$t" -max_total_time="$secs" -timeout=1 \
			-rss_limit_mb=2048 -malloc_limit_mb=256 \
			-print_final_stats=1 -verbosity=0 \
			-artifact_prefix="$O/findings/$t/"
		[ -e "tests/fuzz/$t.dict" ] && set -- "$@" "-dict=tests/fuzz/$t.dict"
		set -- "$@" "$corpus"
		[ -n "$seeds" ] && set -- "$@" "$seeds"
		timeout -k 10 $((secs + 120)) "$@" >"$logs/$t.log" 2>&1 </dev/null &
		pids+=($!)
		names+=("$t")
		running=$((running + 1))
		if [ $running -ge "$(nproc)" ]; then
			reap $((${#pids[@]} - running))
			running=$((running - 1))
		fi
	done
	for ((i = ${#pids[@]} - running; i < ${#pids[@]}; i++)); do
		reap "$i"
	done
}

# The limit of a second is by the clock: an input that was slow once only
# because the machine stalled is no finding.
stalled() {
	local t=$1 f any=1
	for f in "$O/findings/$t"/*; do
		case $f in
		*/timeout-* | */slow-unit-*)
			"$O/fuzz/$t" -timeout=1 "$f" >>"$logs/$t.log" 2>&1 ||
				return 1
			any=0
			;;
		*) return 1 ;;
		esac
	done
	return $any
}

reap() {
	local i=$1 rc n
	wait "${pids[i]}"
	rc=$?
	[ $rc != 0 ] && stalled "${names[i]}" && rc=0
	n=$(sed -n 's/^stat::number_of_executed_units: *//p' \
		"$logs/${names[i]}.log")
	if [ $rc = 0 ]; then
		passed=$((passed + 1))
		printf 'ok    %-32s %s inputs\n' "${names[i]}" "${n:-?}"
	else
		failed=$((failed + 1))
		fails+=("${names[i]}")
		printf 'FAIL  %-32s exit %d; the end of its log:\n' \
			"${names[i]}" $rc
		tail -n 30 "$logs/${names[i]}.log" | sed 's/^/      | /'
	fi
}

make_() {
	make --no-print-directory O="$(realpath --relative-to=. "$O")" \
		DEPS=0 -j"$(nproc)" "$@"
}

# What runs inside the simulated GPU is checked by the simulator, not by ASan; the
# backend around it by those that load, fail and unload.
san() {
	unit '*' 'cuda_(attn|backend|embed|gemm|mm|mv|prompts|top|vec)'
	e2e
}

case ${1:-check} in
check)
	make_ bins-tests || exit 1
	one style 120 tests/style.sh
	unit
	e2e
	vm 6.1 6.12
	make_ fuzz || exit 1
	fuzz "${FUZZ_S:-12}"
	make_ SAN=address,undefined all bins-tests || exit 1
	# the same suite again, instrumented
	plain=$O
	O=$O-san logs=$O/logs
	mkdir -p "$logs"
	export O
	echo "under AddressSanitizer and UBSan:"
	san
	O=$plain
	;;
unit) unit ;;
cuda) unit 'cuda*' ;;
e2e) e2e ;;
vm) vm 6.1 6.12 ;;
vm-long)
	export HEARTH_LONG=1
	vm debug
	;;
san) san ;;
fuzz) fuzz "${FUZZ_S:-60}" ;;
long)
	export HEARTH_LONG=1
	make_ bins-tests fuzz || exit 1
	unit
	e2e
	vm 6.1 6.12
	vm debug
	fuzz "${FUZZ_S:-600}"
	;;
*)
	echo "run.sh: unknown group '$1'" >&2
	exit 2
	;;
esac

summary
