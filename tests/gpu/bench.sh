#!/bin/bash
# SPDX-License-Identifier: MIT
# bench.sh - a GPU's figures as Markdown, in one call of under ten minutes.
#
# Usage: O=build tests/gpu/bench.sh       (make bench-gpu builds and runs it)
#   O            a build, or what kit.sh packed of one (see gpu.inc)
#   MODELS       "PRESET:TYPE..." (see mkmodel.py --list) or files; default: the
#                Llama-3.1-8B and Llama-3.2-1B shapes with random weights
#   MODELS_DIR   where they are made, one after the other (default: /dev/shm if
#                that has 24 GB to spare, else O/models); nothing stays there
#   PEER         directory with llama.cpp's llama-bench and llama-batched-bench,
#                built with CUDA, to measure beside:
#                  cmake -B build -DGGML_CUDA=ON && cmake --build build -j
#   LIMIT_S      a model that does not begin within so many seconds is left out (420)
#   COMMIT       what was built, if this is no git tree
#
# It needs no network: the driver and a Python with numpy (PYTHON=). Rates go
# through the daemon, client and rings included. With a simulator as the driver
# (HEARTH_CUDA=) tiny models are run, and each figure is "ran": that tries this
# script.
# shellcheck source=tests/gpu/gpu.inc
. "$(dirname "$0")/gpu.inc"

python=$(numpy_python) || python=python3 # files and tiny models need none
export PEER=${PEER:-} LIMIT_S=${LIMIT_S:-420} MODELS=${MODELS:-}
if [ -z "${MODELS_DIR:-}" ]; then
	MODELS_DIR=$O/models
	room=$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)
	[ "${room:-0}" -lt 24000000 ] || MODELS_DIR=/dev/shm
fi
COMMIT=${COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo '?')}
export MODELS_DIR COMMIT
mkdir -p "$MODELS_DIR"
exec "$python" tests/gpu/bench.py
