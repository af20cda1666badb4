#!/bin/bash
# SPDX-License-Identifier: MIT
# cuda.sh - hearthd with a GPU, in the simulator: the CPU's answers, over kills,
# losses, hangs and no GPU at all. HEARTH_LONG=1: hangs at the start, too.
# shellcheck disable=SC2119 # start without arguments is meant
# shellcheck source=tests/e2e/daemon.inc
. "$(dirname "$0")/daemon.inc"
sim=$O/tests/cudasim
models=(llama qwen3 gemma3)
export HEARTH_SOCKET=$sock

# ask MODEL TOKENS: with the probabilities, so that a wrong bit shows; HOW: it
# is sampled
ask() {
	# shellcheck disable=SC2086 # options
	timeout 120 "$O/hearth" run "$t/$1.gguf" --raw ${HOW:---greedy} \
		--ignore-eos --no-stats --logprobs -n "$2" "To be, or not" \
		2>"$t/err"
}
# What its first candidates are enough for, what they may be, and what takes all
# logits.
rest="--top-p 1 --min-p 0"
ways=("--seed 5 --temp 0.8" "--seed 10 --temp 1 --repeat-penalty 1.5"
	"--seed 11 --temp 1 --repeat-penalty 1.1 --presence-penalty 0.5 --penalty-last 400"
	"--seed 6 --temp 0.1 --top-k 0 --top-p 0.5 --min-p 0"
	"--seed 7 --temp 1.5 --top-k 0 --top-p 1 --min-p 0.2"
	"--seed 12 --temp 1 --top-k 0 --top-p 0.1 --frequency-penalty 0.5"
	"--seed 8 --temp 2 --top-k 0 $rest" "--seed 9 --temp 1 --top-k 65 $rest")
enough=3
# A sanitizer in the simulator makes it slow: it has a part of that to look at.
case $O in *-san) models=(llama) ways=("${ways[0]}" "${ways[1]}" "${ways[7]}") enough=2 ;; esac
for m in "${models[@]}"; do
	"$O/tests/t_mkgguf" "$t/$m.gguf" --arch "$m" --type Q8_0 --ctx 512 \
		--layers 2 --embd 64 --ff 96 --heads 2 --kv-heads 1 \
		--head-dim 32 --swa 32
	chmod 644 "$t/$m.gguf"
done

fetched() { "$O/hearth" show stats | sed -n 's/^rows_fetched //p'; }
logged() { grep -q -- "$1" "$t/log"; }
# gpu ARGUMENTS...: a daemon on a machine with a GPU; PLAN: what fails there
gpu() {
	: >"$t/log"
	LD_LIBRARY_PATH=$sim CUDASIM_FAIL=${PLAN:-} start "$@"
}
# same MODEL TOKENS WHAT
same() {
	ask "$1" "$2" >"$t/got" || fail "$3, $1: $(cat "$t/err")"
	cmp -s "$t/got" "$t/$1.$2" || fail "$3, $1: another answer"
}
# given NAME PLAN LINE ARGUMENTS...: fails so, says so, answers all the same
given() {
	local name=$1 line=$3
	PLAN=$2 gpu "${@:4}"
	same llama 12 "$name"
	logged "$line" || fail "$name: the log does not say '$line'"
	engine=$(child_pid)
	stop
}

# of a float model, the tokens to some prompts
"$O/tests/t_mkgguf" "$t/float.gguf" --type BF16 --ctx 512 --layers 2 --embd 64 \
	--ff 96 --heads 2 --kv-heads 1 --head-dim 32
chmod 644 "$t/float.gguf"
tokens() { # FILE OPTIONS...
	for p in "To be, or not" "A" "once upon a time there was a tensor core"; do
		timeout 120 "$O/hearth" run "$t/float.gguf" --raw --greedy \
			--ignore-eos --no-stats -n 6 "${@:2}" "$p" 2>"$t/err" ||
			fail "float: $(cat "$t/err")"
	done >"$1"
}

# what the CPU answers
start -o backend=cpu
tokens "$t/float"
tokens "$t/float.bits" --logprobs
for m in "${models[@]}"; do ask "$m" 4 >"$t/$m.4" || fail "$m: $(cat "$t/err")"; done
ask llama 12 >"$t/llama.12" || fail "llama: $(cat "$t/err")"
for i in "${!ways[@]}"; do
	HOW=${ways[i]} ask llama 5 >"$t/way.$i" || fail "$(cat "$t/err")"
done
stop

# no driver: the CPU, and one line says why; or one error
: >"$t/log"
start -o backend=auto
same llama 12 "auto without a driver"
logged 'backend: cpu (.*libcuda' ||
	logged 'backend: cpu (.*CUDA compiler' || fail "auto does not say why"
stop
rc=0
"$O/hearthd" -o pool=private --socket "$sock" -o backend=cuda \
	2>"$t/err" || rc=$?
[ $rc = 1 ] || fail "no driver, and exit $rc"
[ "$(grep -c 'start: backend cuda: .*' "$t/err")" = 1 ] ||
	fail "no driver: $(cat "$t/err")"
if grep -q 'CUDA compiler' "$t/err"; then
	echo "built without a CUDA compiler"
	exit 77
fi

# the same answers, and a daemon that is killed goes on with them
gpu -o backend=cuda -o watchdog-ms=60000
till 20 logged 'backend: cuda, cudasim' || fail "the log does not say which GPU"
for m in "${models[@]}"; do same "$m" 4 "on the GPU"; done
for i in "${!ways[@]}"; do
	[ "$i" = "$enough" ] && rows=$(fetched)
	HOW=${ways[i]} ask llama 5 >"$t/got" || fail "$(cat "$t/err")"
	cmp -s "$t/got" "$t/way.$i" || fail "${ways[i]}: another answer"
done
[ "$rows" = 0 ] || fail "$rows rows of logits were fetched for nothing"
[ "$(fetched)" -ge 5 ] || fail "rows of logits that are fetched are not counted"
"$O/hearth" ps 2>/dev/null | grep -q 'cuda' || fail "ps does not say cuda"
ask llama 12 >"$t/got" &
client=$!
till 20 test -s "$t/got" || fail "no first token"
kill -KILL "$engine"
kill -0 $client || fail "the answer was complete before the kill"
wait $client || fail "killed: $(cat "$t/err")"
cmp -s "$t/got" "$t/llama.12" || fail "killed: another answer"
logged 'killed (pid .*, SIGKILL)' || fail "it was not killed"
engine=$(child_pid)
stop

# prompts on tensor cores: these tokens, other bits; and the same over a kill
gpu -o backend=cuda -o gpu-prompts=fast -o watchdog-ms=60000
tokens "$t/got"
cmp -s "$t/got" "$t/float" || fail "fast prompts: other tokens"
tokens "$t/fast.bits" --logprobs
! cmp -s "$t/fast.bits" "$t/float.bits" || fail "fast prompts are exact"
tokens "$t/again" --logprobs &
client=$!
till 20 test -s "$t/again" || fail "no first token"
kill -KILL "$engine"
wait $client || fail "killed: $(cat "$t/err")"
cmp -s "$t/again" "$t/fast.bits" || fail "fast, and killed: other bits"
engine=$(child_pid)
stop
CUDASIM_ATTR=75=8,76=9 gpu -o backend=cuda -o gpu-prompts=fast
tokens "$t/got" --logprobs
cmp -s "$t/got" "$t/float.bits" || fail "fast on a GPU that cannot: other bits"
logged 'prompts are exact: there is no fast kernel' || fail "it does not say so"
stop

# some layers there, the others on the CPU: as many as were asked for ...
gpu -o backend=auto -o gpu-layers=1 -o watchdog-ms=60000
for m in "${models[@]}"; do same "$m" 4 "a layer on the GPU"; done
[ "$(grep -c 'layers 1 to 1 of 2 on the CPU, the others on the GPU' "$t/log")" = ${#models[@]} ] ||
	fail "the log does not say where layers are"
"$O/hearth" ps 2>/dev/null | grep -q 'cuda 1/2, cpu 1/2' ||
	fail "ps does not say where layers are"
stop
# ... or as many as fit, and it is said beforehand how many those are
"$O/tests/t_mkgguf" "$t/wide.gguf" --type Q8_0 --ctx 512 --layers 3 --ff 2048
chmod 644 "$t/wide.gguf"
start -o backend=cpu
ask wide 2 >"$t/wide.2" || fail "wide: $(cat "$t/err")"
stop
for ((mib = 136; mib < 200; mib++)); do
	"$O/hearth" fit "$t/wide.gguf" --gpu-mem ${mib}M >"$t/fit" || true
	if grep -q 'fits with [12] of 3 layers' "$t/fit"; then break; fi
done
n=$(sed -n 's/fits with \([12]\) of 3 layers.*/\1/p' "$t/fit")
[ -n "$n" ] || fail "fit: $(cat "$t/fit")"
export CUDASIM_MEM=$((mib << 20))
gpu -o backend=auto -o watchdog-ms=60000
same wide 2 "as many as fit"
logged "layers 1 to $((3 - n)) of 3 on the CPU" ||
	fail "fit says that $n layers fit, and the log something else"
stop
unset CUDASIM_MEM

# others take the memory that a cache was to have: it is loaded again, by what
# is free then ...
given "taken once" "cuMemCreate#4:OUT_OF_MEMORY" 'it is loaded again' -o backend=auto
if logged 'on the CPU'; then fail "taken once: on the CPU"; fi
given "taken twice" "cuMemCreate#4:OUT_OF_MEMORY,cuMemCreate#8:OUT_OF_MEMORY" \
	'on the CPU, not on the GPU (others take its memory)' -o backend=auto
# ... with less of a context, which is said, or none if one was asked for
"$O/tests/t_mkgguf" "$t/deep.gguf" --type Q8_0 --ctx 8192 --layers 4 --embd 64 \
	--ff 64 --heads 4 --kv-heads 4 --head-dim 128
chmod 644 "$t/deep.gguf"
export CUDASIM_MEM=$((900 << 20))
PLAN="cuMemCreate#3:taken=$((700 << 20))" gpu -o backend=cuda
ask deep 2 >/dev/null || fail "taken: $(cat "$t/err")"
logged 'it is loaded again' || fail "taken: the log does not say so"
n=$("$O/hearth" ps --json | sed -n 's/.*"n_ctx": *\([0-9]*\).*/\1/p')
if [ "${n:-0}" -lt 32 ] || [ "$n" -ge 8192 ]; then
	fail "taken: a context of '$n'"
fi
stop
PLAN="cuMemCreate#3:taken=$((700 << 20))" gpu -o backend=cuda
! "$O/hearth" load --ctx 8192 "$t/deep.gguf" 2>"$t/err" ||
	fail "taken: more of a context than there is room for"
grep -q 'context needs [0-9]* bytes, [0-9]* are free' "$t/err" ||
	fail "taken, a context asked for: $(cat "$t/err")"
engine=$(child_pid)
stop
unset CUDASIM_MEM

# lost in every engine's fourth step, so that the third does without
given "lost" "cuGraphLaunch#4:lost" 'going on with the CPU' \
	-o backend=auto -o watchdog-ms=60000
[ "$(grep -c 'the GPU was lost' "$t/log")" = 2 ] || fail "lost: how often?"
given "lost in a load" "cuMemcpyHtoDAsync#1:lost" 'going on with the CPU' \
	-o backend=auto -o watchdog-ms=60000
[ "$(grep -c 'the GPU was lost' "$t/log")" = 2 ] ||
	fail "lost in a load: how often?"
given "hung in a step" "cuGraphLaunch#3:hang" 'going on with the CPU' \
	-o backend=auto -o watchdog-ms=1500
given "hung in a load" "cuMemHostRegister#1:hang" 'going on with the CPU' \
	-o backend=auto -o watchdog-ms=1500
given "no memory" "cuMemCreate#1:OUT_OF_MEMORY" \
	'on the CPU, not on the GPU (cuMemCreate: ' -o backend=auto
given "no device" "cuInit#1:NO_DEVICE" 'backend: cpu (.*cuInit' -o backend=auto
given "kernels that do not load" "cuModuleLoadDataEx#3:INVALID_PTX" \
	'backend: cpu (cuModuleLoadDataEx: ' -o backend=auto
if [ -n "${HEARTH_LONG:-}" ]; then
	given "hung at the start" "cuInit#1:hang" 'going on with the CPU' \
		-o backend=auto -o watchdog-ms=500
fi
