#!/bin/bash
# SPDX-License-Identifier: MIT
# bench-peers.sh - prefill, decode and many streams beside llama.cpp, in one run.
#
# Usage: O=build PEER=DIR tests/bench-peers.sh
#   PEER      directory with llama.cpp's llama-bench, llama-batched-bench and
#             llama-quantize
#   ROUNDS    interleaved rounds (default 3)
#   THREADS   default 2
#   POOL      where the daemon keeps weights (default private: nothing stays)
#   MODELS    model files; default: the Llama-3.2-1B shape with random weights
#             in Q4_K_M and Q8_0, made on the first run (1.3 GB of disk stay)
#
# Each round runs both programs on each model, one after the other, so that
# both see the same machine; the table shows medians and their ratio.
set -eu
cd "$(dirname "$0")/.."
O=${O:-build}
ROUNDS=${ROUNDS:-3}
THREADS=${THREADS:-2}
if [ -z "${PEER:-}" ] || [ ! -x "$PEER/llama-bench" ]; then
	echo "bench-peers: set PEER to the directory of llama-bench" >&2
	exit 2
fi
dir=$O/models
mkdir -p "$dir"
if [ -z "${MODELS:-}" ]; then
	venv=$O/venv
	if [ ! -e "$dir/llama-1b-Q4_K_M.gguf" ] || [ ! -e "$dir/llama-1b-Q8_0.gguf" ]; then
		[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
		"$venv/bin/pip" -q install numpy
		"$venv/bin/python" tests/mkmodel.py --preset llama-1b \
			--type F16 --out "$dir/llama-1b-F16.gguf"
		for t in Q4_K_M Q8_0; do
			"$PEER/llama-quantize" "$dir/llama-1b-F16.gguf" \
				"$dir/llama-1b-$t.part" $t "$THREADS" >/dev/null 2>&1
			mv "$dir/llama-1b-$t.part" "$dir/llama-1b-$t.gguf"
		done
		rm "$dir/llama-1b-F16.gguf"
	fi
	MODELS="$dir/llama-1b-Q4_K_M.gguf $dir/llama-1b-Q8_0.gguf"
fi

work=$(mktemp -d)
export HEARTH_SOCKET=$work/sock
trap 'kill "$daemon" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
"$O/hearthd" --socket "$HEARTH_SOCKET" -o pool="${POOL:-private}" -o threads="$THREADS" 2>"$work/log" &
daemon=$!
for _ in $(seq 100); do [ -S "$HEARTH_SOCKET" ] && break; sleep 0.05; done

# shellcheck disable=SC2086 # a list of files
python3 - "$O/hearth" "$PEER" "$ROUNDS" "$THREADS" $MODELS <<'PY'
import json, os, re, statistics as st, subprocess, sys

hearth, peer, rounds, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
models = sys.argv[5:]
env = dict(os.environ, LD_LIBRARY_PATH=peer)
STREAMS = (1, 8, 16)


def sh(*a):
    p = subprocess.run(a, env=env, text=True, capture_output=True)
    if p.returncode:
        sys.exit(f'bench-peers: {" ".join(a)}: status {p.returncode}\n{p.stderr[-2000:]}')
    return p.stdout


def theirs(m):
    r = {}
    for t in json.loads(sh(f'{peer}/llama-bench', '-m', m, '-r', '1', '-p', '512',
                           '-n', '64', '-t', threads, '-o', 'json')):
        r['decode' if t['n_gen'] else 'prefill 512'] = t['avg_ts']
    out = sh(f'{peer}/llama-batched-bench', '-m', m, '-c', '4096', '-b', '2048', '-ub', '512',
             '-npp', '8', '-ntg', '64', '-npl', ','.join(map(str, STREAMS[1:])), '-t', threads)
    for line in out.splitlines():
        f = [x.strip() for x in line.split('|')]
        if len(f) > 9 and f[1] == '8':
            r[f'{f[3]} streams'] = float(f[8])
    return r


def ours(m):
    r = {}
    for t in json.loads(sh(hearth, 'bench', m, '-p', '512', '-n', '64', '-r', '1', '--json')):
        r['decode' if t['test'] == 'decode' else 'prefill 512'] = t['tokens_per_s']
    for n in STREAMS[1:]:
        for t in json.loads(sh(hearth, 'bench', m, '-p', '0', '-n', '64', '-d', '8', '-r', '1',
                               '-b', str(n), '--json')):
            r[f'{n} streams'] = t['tokens_per_s']
    return r


print(f'{"model":28} {"test":12} {"hearth":>9} {"llama.cpp":>9} {"ratio":>6}   tok/s, median of {rounds}, {threads} threads')
for m in models:
    a, b = [], []
    for i in range(rounds):
        for f, l in ((ours, a), (theirs, b)) if i % 2 == 0 else ((theirs, b), (ours, a)):
            l.append(f(m))
    for k in a[0]:
        x = st.median(r[k] for r in a)
        y = st.median(r[k] for r in b) if all(k in r for r in b) else float('nan')
        print(f'{os.path.basename(m):28} {k:12} {x:9.1f} {y:9.1f} {x / y:6.2f}')
    subprocess.run([hearth, 'stop', '--all'], env=env, stdout=subprocess.DEVNULL)
PY
