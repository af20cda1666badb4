#!/bin/bash
# SPDX-License-Identifier: MIT
# cuda-faults.sh - each call of the driver fails, loses the GPU or hangs: the
# daemon lives, and its client has the CPU's answer, or one error and then the
# answer. Some calls of a run; HEARTH_LONG=1: all, over 200.
# shellcheck disable=SC2119 # start without arguments is meant
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
export HEARTH_SOCKET=$sock
"$O/tests/t_mkgguf" "$t/m.gguf" --arch qwen3 --type Q8_0 --ctx 512 --layers 1 \
	--embd 64 --ff 64 --heads 2 --kv-heads 1 --head-dim 32
chmod 644 "$t/m.gguf"

ask() {
	timeout 60 "$O/hearth" run "$t/m.gguf" --raw --greedy --ignore-eos \
		--no-stats --logprobs -n 4 "To be, or not" >"$t/got" 2>"$t/err"
}
# simulated [PLAN]: a daemon with a GPU; all calls are logged without a plan
simulated() {
	: >"$t/log"
	LD_LIBRARY_PATH=$O/tests/cudasim CUDASIM_FAIL=${1:-} \
		CUDASIM_TRACE=$((!$#)) start -o backend=auto -o watchdog-ms=600 \
		-o handshake-ms=60000
}

start -o backend=cpu
ask || fail "no answer: $(cat "$t/err")"
mv "$t/got" "$t/want"
stop
simulated
ask || fail "no answer: $(cat "$t/err")"
stop
if grep -q 'CUDA compiler' "$t/log"; then
	echo "built without a CUDA compiler"
	exit 77
fi
# as NAME#N; how often it is asked whether a step is done is a matter of time
mapfile -t calls < <(sed -n 's/^cudasim: call [0-9]*: \([A-Za-z]*\).*/\1/p' \
	"$t/log" | awk '{ if (++n[$1] < 5 || $1 != "cuEventQuery") print $1 "#" n[$1] }')
n=${#calls[@]}
[ "$n" -gt 200 ] || fail "only $n calls of the driver"

whats=(UNKNOWN OUT_OF_MEMORY lost hang)
step=$((n / 9))
[ -z "${HEARTH_LONG:-}" ] || step=1
points=0 told=0
for ((i = step / 2; i < n; i += step)); do
	what=${whats[points % 4]}
	points=$((points + 1))
	simulated "${calls[i]}:$what"
	if ! ask; then
		told=$((told + 1))
		[ "$(wc -l <"$t/err")" = 1 ] || fail "${calls[i]}, $what: $(cat "$t/err")"
		ask || fail "${calls[i]}, $what, asked again: $(cat "$t/err")"
	fi
	cmp -s "$t/got" "$t/want" || fail "${calls[i]}, $what: another answer"
	engine=$(child_pid)
	stop
done
echo "$points of $n calls: $((points - told)) answers as if nothing had been, $told after an error"
