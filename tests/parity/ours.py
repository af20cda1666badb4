# SPDX-License-Identifier: MIT
"""Our logits and greedy continuations, through tests/t_logits."""
import os
import subprocess
import tempfile

import numpy as np

from peer import THREADS


def run(build, model, sequences, *args):
    """Raw output of t_logits for sequences of tokens."""
    with tempfile.TemporaryDirectory() as d:
        tok, out = os.path.join(d, "tok"), os.path.join(d, "out")
        with open(tok, "wb") as f:
            for s in sequences:
                np.array([len(s), *s], np.uint32).tofile(f)
        subprocess.run([os.path.join(build, "tests", "t_logits"), model, tok,
                        out, "--threads", str(THREADS), *args], check=True)
        return np.fromfile(out, np.uint8)


def logits(build, model, tokens):
    return run(build, model, [tokens]).view(np.float32).reshape(
        len(tokens), -1)


def greedy(build, model, sequences, n):
    """For each sequence n times (token, runner-up, margin)."""
    recs = run(build, model, sequences, "--greedy", str(n)).view(np.uint32)
    return [[(int(t), int(u), float(m.view(np.float32))) for t, u, m in r]
            for r in recs.reshape(len(sequences), n, 3)]
