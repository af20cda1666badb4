#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare our logits and llama.cpp's with a float64 evaluation.

  parity.py BUILD [--smollm2 FILE] [--gemma3 FILE] [--positions N]
            [--only TEXT] [--no-greedy]

Prints a line a model: relative L2 error of both against float64, their ratio
(bar: <= 1.1), for F32 and F16 the distance between the two (bar: <= 5e-3).
Then greedy continuations of the real models, as they are and with the same
weights as F32: equal to llama.cpp's up to the first near-tie. With the weights
as they are, a parting is a near-tie when float64 puts the two tokens closer
than 3 times the standard deviation of llama.cpp's own error in a difference of
two logits there, or prefers ours; as F32, when in both engines the two tokens
are the best two and less than 0.02 apart. Exit 1 if a bar is missed.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

import f32
import greedy
import ours
from peer import Peer
from reference import Model

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K",
         "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
PRESETS = {"tiny-llama": TYPES, "tiny-qwen2": TYPES, "tiny-qwen3": TYPES,
           "tiny-gemma3": TYPES, "tiny-llama3": ["F32", "Q4_K"]}
RATIO, DISTANCE = 1.1, 5e-3


def rel(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


class Report:
    def __init__(self):
        self.good = self.bad = 0

    def line(self, text, ok):
        self.good += bool(ok)
        self.bad += not ok
        print("%s  %s" % (text, "ok" if ok else "MISSED"), flush=True)


def compare(rep, build, name, path, typ, tokens):
    peer = Peer(path)
    theirs = peer.logits(tokens)
    peer.close()
    mine = ours.logits(build, path, tokens)
    ref = Model(path).logits(tokens)
    e1, e2, d = rel(mine, ref), rel(theirs, ref), rel(mine, theirs)
    ratio = e1 / e2 if e2 else float("inf")
    ok = bool(np.isfinite(mine).all()) and ratio <= RATIO
    if typ in ("F32", "F16"):
        ok = ok and d <= DISTANCE
    rep.line("%-24s %-7s ours %.3e  llama.cpp %.3e  ratio %.3f  apart %.1e"
             % (name, typ, e1, e2, ratio, d), ok)


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
        compare(rep, a.build, name, path, typ, tokens)
        if a.no_greedy:
            continue
        greedy.quantised(rep, a.build, name + " " + typ, path, form)
        with tempfile.TemporaryDirectory() as d:
            flat = os.path.join(d, "f32.gguf")
            f32.write(path, flat)
            compare(rep, a.build, name, flat, "F32", tokens)
            greedy.unquantised(rep, a.build, name + " F32", flat, form)
    print("%d bars held, %d missed" % (rep.good, rep.bad))
    sys.exit(1 if rep.bad else 0)


if __name__ == "__main__":
    main()
