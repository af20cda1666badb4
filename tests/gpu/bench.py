#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What bench.sh measures, and the Markdown it prints; see there."""
import datetime
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ENV = os.environ
O, PEER, LIMIT_S = ENV['O'], ENV['PEER'], float(ENV['LIMIT_S'])
MODELS = 'llama-8b:Q4_K_M llama-8b:Q8_0 llama-8b:BF16 llama-1b:Q4_K_M llama-1b:BF16'
BATCHES = (2, 4, 8, 16, 32)
HEARTH = f'{O}/hearth'
START = time.monotonic()


def note(text):
    print(f'[{time.monotonic() - START:5.0f} s] {text}', file=sys.stderr, flush=True)


def sh(*args, **more):
    try:
        r = subprocess.run(args, text=True, errors='replace', stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=300, **more)
    except subprocess.TimeoutExpired:
        sys.exit(f'bench-gpu: {" ".join(args)}: no end after five minutes')
    if r.returncode:
        sys.exit(f'bench-gpu: {" ".join(args)}: status {r.returncode}\n{r.stderr[-2000:]}')
    return r.stdout


def in_time():
    return time.monotonic() - START < LIMIT_S


class Model:
    """Of a GGUF file: bytes that a step of decoding reads, and what it multiplies."""
    BLOCK = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24),
             8: (32, 34), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176),
             14: (256, 210)}
    SIZE = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def __init__(self, path):
        self.path = path
        with open(path, 'rb') as f:
            self.buf, self.at = f.read(64 << 20), 8
        n, n_kv = self.take('QQ')
        for _ in range(n_kv):
            self.string()
            self.skip(*self.take('I'))
        sizes, elems, self.floats = {}, {}, False
        for _ in range(n):
            name = self.string()
            dims = self.take('Q' * self.take('I')[0])
            kind, _ = self.take('IQ')
            block, size = self.BLOCK[kind]
            elems[name] = dims[0] * (dims[1] if len(dims) > 1 else 1)
            sizes[name] = elems[name] // block * size
            self.floats |= len(dims) > 1 and kind in (1, 30)
        # Of the embeddings a step reads a row, unless they are the output, too.
        embd = b'token_embd.weight'
        if b'output.weight' in sizes:
            del sizes[embd], elems[embd]
        self.bytes = sum(sizes.values())
        self.products = sum(elems.values())
        self.file_bytes = os.path.getsize(path)
        self.buf = b''

    def take(self, form):
        v = struct.unpack_from('<' + form, self.buf, self.at)
        self.at += struct.calcsize('<' + form)
        return v

    def string(self):
        n, = self.take('Q')
        self.at += n
        return self.buf[self.at - n:self.at]

    def skip(self, kind):
        if kind == 8:
            self.string()
        elif kind == 9:
            elem, n = self.take('IQ')
            if elem == 8:
                for _ in range(n):
                    self.string()
            else:
                self.at += n * self.SIZE[elem]
        else:
            self.at += self.SIZE[kind]


class Daemon:
    def __init__(self, *options):
        self.dir = tempfile.mkdtemp()
        os.chmod(self.dir, 0o755)
        self.socket, self.log = f'{self.dir}/sock', f'{self.dir}/log'
        ENV['HEARTH_SOCKET'] = self.socket
        with open(self.log, 'w') as log:
            self.p = subprocess.Popen([f'{O}/hearthd', '--socket', self.socket, '-o',
                                       'pool=private', '-o', 'backend=cuda'] +
                                      [x for o in options for x in ('-o', o)], stderr=log)
        end = time.monotonic() + 60
        while not os.path.exists(self.socket):
            if time.monotonic() > end or self.p.poll() is not None:
                sys.exit('bench-gpu: no daemon:\n' + open(self.log).read()[-2000:])
            time.sleep(0.02)

    def engine(self):
        with open(f'/proc/{self.p.pid}/task/{self.p.pid}/children') as f:
            return int(f.read().split()[0])

    def end(self):
        self.p.terminate()
        self.p.wait()
        shutil.rmtree(self.dir)


def timed(*args):
    t = time.monotonic()
    sh(*args)
    return time.monotonic() - t


def bench(path, *args):
    """Tokens a second of the one test that is asked for."""
    return json.loads(sh(HEARTH, 'bench', path, '--json', *args))[0]['tokens_per_s']


# ------------------------------------------------------------- what is run

def sizes(smoke):
    """Tokens to decode, to prefill, repetitions, context."""
    return (2, (4, 8), 1, 128) if smoke else (128, (512, 2048), 3, 8192)


def ours(path, smoke):
    gen, prompts, reps, ctx = sizes(smoke)
    more = ('--ctx', str(ctx))
    r = {'load': timed(HEARTH, 'load', '--ctx', str(ctx), path)}
    note('  loaded')
    r['decode'] = bench(path, '-p', '0', '-n', str(gen), '-r', str(reps), *more)
    for n in prompts:
        r[f'prefill {n}'] = bench(path, '-p', str(n), '-n', '0', '-r', str(reps), *more)
    for b in BATCHES[:1] if smoke else BATCHES:
        r[f'batch {b}'] = bench(path, '-p', '0', '-n', str(min(gen, 64)), '-d', '8', '-r', '1',
                                '-b', str(b), *more)
    return r


def options(path, smoke, floats):
    """What options make of it that are off by default; those of prompts for float models."""
    gen, prompts, reps, ctx = sizes(smoke)
    more = ('-r', str(reps), '--ctx', str(ctx))
    d = Daemon('gpu-ahead=1G', 'gpu-prompts=fast', 'step-tokens=2048')
    try:
        r = {'decode, gpu-ahead': bench(path, '-p', '0', '-n', str(gen), *more)}
        for n in prompts[:1] if smoke else prompts if floats else ():
            r[f'prefill {n}, gpu-prompts=fast'] = bench(path, '-p', str(n), '-n', '0', *more)
        return r
    finally:
        d.end()


def theirs(path):
    """llama.cpp's, by the same names."""
    env = dict(ENV, LD_LIBRARY_PATH=f'{PEER}:{ENV.get("LD_LIBRARY_PATH", "")}')
    r = {}
    for t in json.loads(sh(f'{PEER}/llama-bench', '-m', path, '-r', '3', '-p', '512,2048', '-n',
                           '128', '-ngl', '99', '-fa', '1', '-ub', '2048', '-o', 'json', env=env)):
        r['decode' if t['n_gen'] else f'prefill {t["n_prompt"]}'] = t['avg_ts']
    if not os.path.exists(f'{PEER}/llama-batched-bench'):
        return r
    out = sh(f'{PEER}/llama-batched-bench', '-m', path, '-c', '8192', '-b', '2048', '-ub', '512',
             '-npp', '8', '-ntg', '64', '-npl', ','.join(map(str, BATCHES)), '-ngl', '99', '-fa', '1',
             env=env)
    for line in out.splitlines():
        f = [x.strip() for x in line.split('|')]
        if len(f) > 9 and f[1] == '8':
            r[f'batch {f[3]}'] = float(f[8])
    return r


def again(d, path, ctx):
    """Into the engine once more, weights being in memory: seconds, and of them registering."""
    sh(HEARTH, 'stop', '--all')
    at = os.path.getsize(d.log)
    s = timed(HEARTH, 'load', '--ctx', str(ctx), path)
    with open(d.log) as f:
        f.seek(at)
        reg = [x.split(' in ')[1].split()[0] for x in f if 'GiB registered' in x]
    return s, float(reg[0]) if reg else float('nan')


def swap(paths, ctx):
    """A, B and A in turn, each until its first token, one leaving for the other."""
    s = []
    for p in paths:
        t = time.monotonic()
        sh(HEARTH, 'stop', '--all')
        sh(HEARTH, 'run', p, '--raw', '--greedy', '--ignore-eos', '-n', '1', '--ctx', str(ctx), 'Hi')
        s.append(time.monotonic() - t)
    return s


def killed(d, path, smoke):
    """Seconds from the engine's death to the next token of an answer."""
    n, first = (24, 2) if smoke else (6000, 50)
    p = subprocess.Popen([HEARTH, 'run', path, '--raw', '--greedy', '--ignore-eos', '-n', str(n),
                          '--ctx', str(128 if smoke else 8192), '--json', 'Once'],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace')
    seen, at, gaps, last = 0, None, [], None
    for line in p.stdout:
        now = time.monotonic()
        if at and '"tokens"' in line:
            gaps.append((now - last, now - at))
        last = now
        seen += '"tokens"' in line
        if seen == first and not at:
            at = last = time.monotonic()
            os.kill(d.engine(), signal.SIGKILL)
        if len(gaps) > 200:
            break
    p.kill()
    p.wait()
    if not gaps:
        sys.exit('bench-gpu: no token after the engine was killed:\n' + p.stderr.read())
    return max(gaps)[1]  # behind what was in the pipe


# -------------------------------------------------------------- the report

class Report:
    def __init__(self, hw):
        self.gpu = hw['gpu']
        self.smoke = self.gpu['simulated']
        self.rates = {r['key']: r.get('value') for r in self.gpu['rows']}

    def num(self, v, form='.1f'):
        if v is None or v != v:
            return '-'
        return 'ran' if self.smoke else format(v, form)

    def clocks(self):
        g = self.gpu
        if self.smoke:
            return 'no clocks'
        now = ''
        if shutil.which('nvidia-smi'):
            now = '; now SM, memory, power: ' + sh(
                'nvidia-smi', '--query-gpu=clocks.sm,clocks.mem,power.draw',
                '--format=csv,noheader', '-i', g['uuid']).strip()
        return (f'clocks up to {g["max_clock_khz"] / 1e3:.0f} MHz, memory '
                f'{g["max_memory_clock_khz"] / 1e3:.0f} MHz x {g["memory_bits"]} bits{now}')

    def head(self):
        g = self.gpu
        print(f'{g["date"]}, {g["name"]} (sm_{g["sm"]}, {g["multiprocessors"]} multiprocessors), '
              f'module {g["module"]}, CUDA {g["cuda_version"] // 1000}.'
              f'{g["cuda_version"] % 1000 // 10}; {self.clocks()}; commit {ENV["COMMIT"]}; '
              '`make bench-gpu`.\n')
        if self.smoke:
            print('A simulator: nothing here is a figure.\n')

    def hw(self):
        print('| of the GPU | | how |\n|---|---|---|')
        unit = {'bytes/s': (1e-9, 'GB/s', '.1f'), 's/GiB': (1e3, 'ms/GiB', '.1f'),
                's': (1e6, 'us', '.2f')}
        for r in self.gpu['rows']:
            k, name, form = unit[r['unit']]
            v = r.get('value')
            cell = f'{v * k:{form}} {name}' if v is not None else 'ran' if r['ran'] else '-'
            print(f'| {r["what"]} | {cell} | {r["how"]} |')
        print('\n| model | test | tokens/s | bytes a step | of R | TFLOP/s | llama.cpp | ratio |'
              '\n|---|---|---|---|---|---|---|---|')

    def model(self, name, m, ours, theirs):
        R = self.rates.get('read') or float('nan')
        for test, v in ours.items():
            if test == 'load':
                continue
            part = flop = None
            if test.startswith('decode'):
                part = v * m.bytes / R
            elif test.startswith('prefill'):
                flop = 2 * m.products * v * 1e-12
            peer = theirs.get(test.split(',')[0])
            print(f'| {name} | {test} | {self.num(v)} | '
                  f'{m.bytes if part else "-"} | {self.num(part, ".3f")} | '
                  f'{self.num(flop)} | {self.num(peer)} | {self.num(v / peer if peer else None, ".2f")} |',
                  flush=True)


# ----------------------------------------------------------------- running

def make(spec, seed=1):
    """A model file, and whether it is ours to remove."""
    if os.path.exists(spec):
        return spec, False
    preset, kind = spec.split(':')
    path = f'{ENV["MODELS_DIR"]}/bench-{preset}-{kind}-{seed}.gguf'
    sh(sys.executable, 'tests/mkmodel.py', '--preset', preset, '--type', kind, '--repeat',
       '--seed', str(seed), '--out', path)
    os.chmod(path, 0o644)
    return path, True


def tiny(where):
    """Two models that a simulator gets through."""
    for seed in (1, 2):
        path = f'{where}/tiny-{seed}.gguf'
        sh(f'{O}/tests/t_mkgguf', path, '--type', 'Q8_0', '--ctx', '512', '--layers', '2', '--embd',
           '64', '--ff', '96', '--heads', '2', '--kv-heads', '1', '--head-dim', '32', '--seed',
           str(seed))
        os.chmod(path, 0o644)
        yield path


def measure(report, spec, extra):
    """One model; @extra: swaps with another, and kills."""
    d, files = None, []
    gone = []
    try:
        path, made = make(spec)
        files += [path] if made else []
        note(f'{spec}: {os.path.getsize(path) / 1e9:.1f} GB')
        d = Daemon()
        m = Model(path)
        mine = ours(path, report.smoke)
        ctx = sizes(report.smoke)[3]
        once = again(d, path, ctx)
        if extra:
            gone = [killed(d, path, report.smoke)]
            other, made = (extra, False) if os.path.exists(extra) else make(extra, 2)
            files += [other] if made else []
            sh(HEARTH, 'load', other)
            gone += swap((path, other, path), ctx)
        d.end()
        d = None
        mine |= options(path, report.smoke, m.floats)
        note('  measured')
        peers = theirs(path) if PEER and not report.smoke else {}
        report.model(os.path.basename(spec), m, mine, peers)
        return path, m, mine, once, gone
    finally:
        if d:
            d.end()
        for f in files:
            os.unlink(f)


def lower(report, done):
    """What is told a model, not a token."""
    print('\n| model | GB | first load s | again from memory s | of that registering s | '
          'GB/s of the rest, upload and all | engine killed: s to the next token | '
          'swap A, B, A: s to the first token |\n|---|---|---|---|---|---|---|---|')
    for spec, (_, m, mine, (s, reg), gone) in done:
        rate = m.file_bytes / (s - (reg if reg == reg else 0)) * 1e-9
        print(f'| {os.path.basename(spec)} | {report.num(m.file_bytes * 1e-9, ".2f")} | '
              f'{report.num(mine["load"], ".2f")} | {report.num(s, ".2f")} | '
              f'{report.num(reg, ".2f")} | {report.num(rate)} | '
              f'{report.num(gone[0] if gone else None, ".2f")} | '
              f'{", ".join(report.num(x, ".2f") for x in gone[1:]) or "-"} |')
    print('\nR is the rate at which a kernel reads device memory; TFLOP/s counts two operations a '
          'weight and none of attention; batches are all requests together. gpu-ahead is as much as '
          'the L2 cache allows; gpu-prompts=fast is with step-tokens=2048.')


def main():
    hw = json.loads(sh(HEARTH, 'bench', 'hw', '--json'))
    if not hw['gpu']:
        print('bench-gpu: there is no GPU here: ' + HEARTH + ' bench hw says why', file=sys.stderr)
        sys.exit(77)
    report = Report(hw)
    report.head()
    report.hw()
    done, where = [], tempfile.mkdtemp()
    os.chmod(where, 0o755)
    try:
        models = (list(tiny(where)) if report.smoke else []) + ENV['MODELS'].split()
        if not models:
            models = MODELS.split()
        for i, spec in enumerate(models[:1] if report.smoke else models):
            if not in_time():
                note(f'{spec}: no time left')
                continue
            extra = None if i else models[1] if report.smoke else spec
            done.append((spec, measure(report, spec, extra)))
    finally:
        shutil.rmtree(where)
    lower(report, done)


main()
