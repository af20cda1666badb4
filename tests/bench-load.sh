#!/bin/bash
# SPDX-License-Identifier: MIT
# bench-load.sh - loads from a cold page cache beside plain direct reading.
#
# Usage: O=build tests/bench-load.sh
#   ROUNDS    interleaved rounds (default 5)
#   THREADS   of the loader (default 2)
#   POOLS     default: tmpfs and hugetlbfs for root (which sets nr_hugepages
#             for the while), else private
#   MODELS    model files; default: the Llama-3.2-1B shape with random weights
#             in Q4_K_M and Q8_0, made on the first run (2.1 GB of disk stay)
#
# Each round reads the file with dd (iflag=direct, 4 MiB at a time) and with 16
# reads of 1 MiB in flight, and loads it through a daemon: from the start of
# `hearth load` to its end, hash, repack and the engine's attaching included.
# The table shows medians. `hash` is what the cores hash, and nothing else;
# `mem` how fast as much memory comes at its first touch (on a virtual machine
# the hypervisor may have taken it away), and `warm` a load right after that.
set -eu
cd "$(dirname "$0")/.."
O=${O:-build}
dir=$O/models
mkdir -p "$dir"
if [ -z "${MODELS:-}" ]; then
	venv=$O/venv
	for t in Q4_K_M Q8_0; do
		m=$dir/llama-1b-$t.gguf
		MODELS="${MODELS:-} $m"
		[ ! -e "$m" ] || continue
		[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
		"$venv/bin/pip" -q install numpy
		"$venv/bin/python" tests/mkmodel.py --preset llama-1b \
			--type $t --out "$m.part"
		mv "$m.part" "$m"
	done
	sync
fi
if [ -z "${POOLS:-}" ]; then
	POOLS=private
	[ "$(id -u)" -ne 0 ] || POOLS="tmpfs hugetlbfs"
fi

work=$(mktemp -d)
chmod 755 "$work"
shm=/dev/shm/$(basename "$work")
nr=/proc/sys/vm/nr_hugepages
had=$(cat $nr)
daemon=
finish() {
	if [ -n "$daemon" ]; then kill "$daemon" 2>/dev/null || true; fi
	wait 2>/dev/null || true
	rm -rf "$shm"
	if mountpoint -q "$work/huge"; then
		umount "$work/huge"
		echo "$had" >$nr
	fi
	rm -rf "$work"
}
trap finish EXIT
export HEARTH_SOCKET=$work/sock

# start POOL
start() {
	local where=()
	case $1 in
	tmpfs) where=(-o "pool-dir=$shm") ;;
	hugetlbfs)
		# shellcheck disable=SC2086 # a list of files
		local mib=$(($(cat $MODELS | wc -c) / 1048576 + 256))
		mkdir "$work/huge"
		mount -t hugetlbfs none "$work/huge"
		echo $((had + mib / 2)) >$nr
		where=(-o "pool-dir=$work/huge/pool")
		;;
	esac
	: >"$work/log"
	"$O/hearthd" -v --socket "$HEARTH_SOCKET" -o threads="${THREADS:-2}" \
		-o pool="$1" "${where[@]}" 2>"$work/log" &
	daemon=$!
	for _ in $(seq 100); do
		[ ! -S "$HEARTH_SOCKET" ] || return 0
		sleep 0.05
	done
	cat "$work/log" >&2
	exit 1
}

for pool in $POOLS; do
	start "$pool"
	# shellcheck disable=SC2086 # a list of files
	python3 - "$O" "$work/log" "$pool" "${ROUNDS:-5}" \
		"${THREADS:-2}" $MODELS <<'PY'
import mmap, os, re, statistics as st, subprocess, sys, time

O, log, pool, rounds, threads = *sys.argv[1:4], int(sys.argv[4]), sys.argv[5]
PARTS = ('waiting', 'hashing', 'packing', 'pages')


def sh(*a):
    r = subprocess.run(a, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if r.returncode:
        sys.exit(f'{" ".join(a)}: {r.stderr or r.stdout}')
    return r.stdout


def cold(m):
    fd = os.open(m, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def timed(*a):
    t = time.monotonic()
    sh(*a)
    return time.monotonic() - t


def dd(m, r):
    r['dd'].append(timed('dd', f'if={m}', 'of=/dev/null', 'iflag=direct', 'bs=4M'))


def deep(m, r):
    r['deep'].append(float(sh(f'{O}/tests/t_read', m).split()[1]))


def hashing(m, r):
    r['hash'].append(size / float(sh(f'{O}/tests/t_hash', threads).split()[1]) * 1e-9)


def warm(m, r):
    t = time.monotonic()
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE) as v:
        v.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, size, 2 << 20):
            v[at] = 1
        r['mem'].append(time.monotonic() - t)
    load(m, r, 'warm')


def load(m, r, key='load'):
    at = os.path.getsize(log)
    r[key].append(timed(f'{O}/hearth', 'load', m))
    with open(log) as f:
        f.seek(at)
        text = f.read()
    inside = re.search(r'loader.*: ([0-9.]+) s \((.*?)\), on (\d+) threads', text)
    if not inside or 'direct' not in inside[2]:
        sys.exit(f'{m}: no direct load\n{text}')
    if key == 'warm':
        r['loader'].append(float(inside[1]))
        for p in PARTS:
            r[p].append(float(re.search(p + r' ([0-9.]+) s', text)[1]))
    sh(f'{O}/hearth', 'stop', '--all', '--evict')


RATES = ('dd', 'deep', 'hash', 'mem', 'load', 'warm')
print(f'{pool}, medians of {rounds}, {threads} threads; MB/s; warm by dd, deep, hash; seconds of '
      'warm, in its loader; thread seconds there: ' + ', '.join(PARTS))
print(f'{"model":22} ' + ' '.join(f'{k:>5}' for k in RATES) + '  /dd /deep /hash')
for m in sys.argv[6:]:
    r = {k: [] for k in RATES + ('loader',) + PARTS}
    size = os.path.getsize(m)
    for i in range(rounds):
        ways = [dd, deep, hashing, load, warm]
        for f in ways[i % 5:] + ways[:i % 5]:
            cold(m)
            f(m, r)
    s = {k: st.median(v) for k, v in r.items()}
    rate = {k: size / s[k] * 1e-6 for k in RATES}
    print(f'{os.path.basename(m):22} ' + ' '.join(f'{v:5.0f}' for v in rate.values())
          + ''.join(f'{rate["warm"] / rate[k]:5.2f}' for k in ('dd', 'deep', 'hash'))
          + f'  {s["warm"]:.2f} {s["loader"]:.2f}; ' + ' '.join(f'{s[p]:.2f}' for p in PARTS),
          flush=True)
PY
	kill "$daemon"
	wait "$daemon" 2>/dev/null || true
	daemon=
done
