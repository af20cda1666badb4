#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare our logits and llama.cpp's with a float64 evaluation.

  parity.py BUILD [--smollm2 FILE] [--gemma3 FILE] [--positions N]
            [--only TEXT] [--no-greedy]

Prints a line a model: relative L2 error of both against float64, their ratio
(bar: <= 1.1), for F32 and F16 the distance between the two (bar: <= 5e-3),
then greedy continuations of the real models: all tokens equal to llama.cpp's
up to the first near-tie, each of which is printed. Exit 1 if a bar is missed.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

from peer import Peer
from reference import Model

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K",
         "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
PRESETS = {"tiny-llama": TYPES, "tiny-qwen2": TYPES, "tiny-qwen3": TYPES,
           "tiny-gemma3": TYPES, "tiny-llama3": ["F32", "Q4_K"]}
RATIO, DISTANCE = 1.1, 5e-3
# Continuations may part where float64 prefers our token, or has the two closer
# together than this many deviations of llama.cpp's own error in a difference.
NEAR_TIE = 3
PROMPTS = [
    "What is the capital of France?", "Write a haiku about the sea.",
    "List three prime numbers.", "Why is the sky blue?",
    "Translate 'good morning' to Spanish.", "Tell me a joke about cats.",
    "Explain photosynthesis in one sentence.", "What is 17 times 23?",
    "Who wrote Hamlet?", "Give me a recipe for pancakes.",
    "What does a compiler do?", "Name the planets of the solar system.",
    "How do I boil an egg?", "Describe the colour red.",
    "What is the tallest mountain on Earth?", "Write a C function that adds.",
    "Summarise the plot of Cinderella.", "What causes tides?",
    "How many legs does a spider have?", "Say hello in five languages.",
]


def rel(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def ours(build, model, sequences, *args):
    """Raw output of t_logits for sequences of tokens."""
    with tempfile.TemporaryDirectory() as d:
        tok, out = os.path.join(d, "tok"), os.path.join(d, "out")
        with open(tok, "wb") as f:
            for s in sequences:
                np.array([len(s), *s], np.uint32).tofile(f)
        subprocess.run([os.path.join(build, "tests", "t_logits"), model, tok,
                        out, "--threads", "2", *args], check=True)
        return np.fromfile(out, np.uint8)


class Report:
    def __init__(self):
        self.bad = 0

    def line(self, text, ok):
        self.bad += not ok
        print("%s  %s" % (text, "ok" if ok else "MISSED"), flush=True)


def compare(rep, build, name, path, typ, tokens):
    peer = Peer(path)
    theirs = peer.logits(tokens)
    peer.close()
    mine = ours(build, path, [tokens]).view(np.float32)
    mine = mine.reshape(len(tokens), -1)
    ref = Model(path).logits(tokens)
    e1, e2, d = rel(mine, ref), rel(theirs, ref), rel(mine, theirs)
    ratio = e1 / e2 if e2 else float("inf")
    ok = bool(np.isfinite(mine).all()) and ratio <= RATIO
    if typ in ("F32", "F16"):
        ok = ok and d <= DISTANCE
    rep.line("%-24s %-7s ours %.3e  llama.cpp %.3e  ratio %.3f  apart %.1e"
             % (name, typ, e1, e2, ratio, d), ok)
    err = theirs - ref
    return float((err - err.mean(-1, keepdims=True)).std())


def continuations(rep, build, name, path, form, sigma, n=64):
    peer = Peer(path)
    seqs = [peer.tokenize(form % p) for p in PROMPTS]
    recs = ours(build, path, seqs, "--greedy", str(n)).view(np.uint32)
    recs = recs.reshape(len(seqs), n, 3)
    parted = []
    for p, s, r in zip(PROMPTS, seqs, recs):
        theirs, margins = peer.greedy(s, n)
        mine = r[:, 0].tolist()
        if mine != theirs:
            at = next(i for i in range(n) if mine[i] != theirs[i])
            parted.append((p, at, s + mine[:at], mine[at], theirs[at],
                           float(r[at, 2].view(np.float32)), margins[at]))
    peer.close()
    print("%-24s greedy: %d of %d prompts equal over %d tokens, %d part"
          % (name, len(seqs) - len(parted), len(seqs), n, len(parted)),
          flush=True)
    if not parted:
        return
    truth = Model(path).last_logits([x[2] for x in parted])
    bar, side = NEAR_TIE * np.sqrt(2) * sigma, 0
    for (p, at, _, a, b, own, other), l in zip(parted, truth):
        gap = float(l[a] - l[b])
        side += gap > 0
        rep.line("  parts at %2d: margin ours %.3f, llama.cpp %.3f, float64 "
                 "%.3f for %s (bar %.3f): %s"
                 % (at, own, other, abs(gap),
                    "ours" if gap > 0 else "llama.cpp", bar, p),
                 gap > 0 or -gap <= bar)
    print("%-24s float64 agrees with ours in %d of %d" %
          (name, side, len(parted)), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("build")
    ap.add_argument("--smollm2")
    ap.add_argument("--gemma3")
    ap.add_argument("--positions", type=int, default=256)
    ap.add_argument("--only", default="", help="models whose name has this")
    ap.add_argument("--no-greedy", action="store_true")
    a = ap.parse_args()
    rep = Report()
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as d:
        for preset, types in PRESETS.items():
            for typ in types:
                if a.only not in preset + " " + typ:
                    continue
                path = os.path.join(d, "m.gguf")
                subprocess.run([sys.executable,
                                os.path.join(HERE, "..", "mkmodel.py"),
                                "--preset", preset, "--type", typ, "--out",
                                path], check=True)
                compare(rep, a.build, preset, path, typ,
                        rng.integers(0, 512, a.positions).tolist())
    text = open(os.path.join(HERE, "text.txt")).read()
    for name, path, typ, form in (
            ("SmolLM2-135M-Instruct", a.smollm2, "Q4_1",
             "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n"),
            ("Gemma-3-270M", a.gemma3, "Q4_K_M",
             "<start_of_turn>user\n%s<end_of_turn>\n<start_of_turn>model\n")):
        if not path or a.only not in name + " " + typ:
            continue
        peer = Peer(path)
        tokens = peer.tokenize(text)[:a.positions]
        peer.close()
        sigma = compare(rep, a.build, name, path, typ, tokens)
        if not a.no_greedy:
            continuations(rep, a.build, name, path, form, sigma)
    if rep.bad:
        print("%d bars missed" % rep.bad)
    sys.exit(1 if rep.bad else 0)


if __name__ == "__main__":
    main()
