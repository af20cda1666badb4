#!/bin/bash
# SPDX-License-Identifier: MIT
# parity.sh - a model of a real shape with random weights, on the CPU and on the
# GPU: the same tokens with the same probabilities, after a short prompt, a long
# one, and when the engine is killed in the middle.
# Usage: O=build tests/gpu/parity.sh PRESET TYPE | FILE
# shellcheck source=tests/gpu/gpu.inc
. "$(dirname "$0")/gpu.inc"
# shellcheck source=tests/e2e/daemon.inc
. tests/e2e/daemon.inc

model=$1
if [ $# = 2 ]; then
	python=$(numpy_python) || {
		echo "there is no Python with numpy here, to make models with"
		exit 77
	}
	model=$t/model.gguf
	"$python" tests/mkmodel.py --preset "$1" --type "$2" --repeat \
		--out "$model" || fail "no model"
	chmod 644 "$model"
fi
long=$(for i in $(seq "${LINES_IN_PROMPT:-120}"); do printf 'line %d; ' "$i"; done)

# ask TOKENS PROMPT
ask() {
	"$O/hearth" --socket "$sock" run "$model" --raw --greedy \
		--ignore-eos --max-tokens "$1" --top-logprobs 4 --ctx 2048 \
		--json "$2" 2>"$t/err"
}
for backend in cpu cuda; do
	start -o "backend=$backend"
	for prompt in Hello "$long"; do
		ask 24 "$prompt" >>"$t/$backend" || fail "$backend: $(cat "$t/err")"
	done
	"$O/hearth" --socket "$sock" ps | grep -q "$backend" ||
		fail "it does not run on $backend: $("$O/hearth" --socket "$sock" ps)"
	ask 48 Goodbye >"$t/last" &
	client=$!
	if [ $backend = cuda ]; then
		till 60 grep -q tokens "$t/last" || fail "no first token"
		kill -KILL "$engine"
		kill -0 $client || echo "the answer was complete before the kill"
	fi
	wait $client || fail "$backend: $(cat "$t/err")"
	cat "$t/last" >>"$t/$backend"
	engine=$(child_pid)
	stop
done
python3 - "$t/cpu" "$t/cuda" <<'PY' || fail "not the CPU's answers"
import json, sys


def tokens(path):
    """Each token, its probability, and what else it could have been."""
    events = [json.loads(line) for line in open(path)]
    return [t for e in events if e['event'] == 'tokens' for t in e['tokens']]


cpu, gpu = (tokens(p) for p in sys.argv[1:3])
n = 24 + 24 + 48
assert len(cpu) == len(gpu) == n, (len(cpu), len(gpu))
bad = [i for i in range(n) if cpu[i] != gpu[i]]
for i in bad[:3]:
    print(f'token {i}: cpu {cpu[i]}\n      cuda {gpu[i]}')
print(f'{n - len(bad)} of {n} tokens with the same probabilities')
sys.exit(bool(bad))
PY
