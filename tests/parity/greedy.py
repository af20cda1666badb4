# SPDX-License-Identifier: MIT
"""Greedy continuations beside llama.cpp's: equal up to near-ties.

With the real file's weights, both engines round activations to 8 bits, each
in its own way, and RULE says which partings that excuses. With the same
weights as F32 they do not round, and F32_RULE leaves nearly nothing.
"""
import numpy as np

import ours
from peer import Peer
from reference import Model

N = 64
DEVIATIONS, F32_GAP = 3, 0.02
RULE = ("a parting is a near-tie when float64 puts the two tokens closer than "
        "%d times the standard deviation of llama.cpp's own error in a "
        "difference of two logits there, or prefers ours" % DEVIATIONS)
F32_RULE = ("a parting is a near-tie when in both engines the two tokens are "
            "the best two and less than %g apart" % F32_GAP)
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


class Parting:
    """Where two continuations of a prompt first differ."""

    def __init__(self, prompt, tokens, mine, theirs):
        self.prompt = prompt
        self.at = at = next(i for i in range(N) if mine[i][0] != theirs[i][0])
        self.before = tokens + [r[0] for r in mine[:at]]
        self.a, self.mine_next, self.margin = mine[at]
        self.b, self.their_next, self.their_margin = theirs[at]

    def near_tie_f32(self):
        return self.mine_next == self.b and self.their_next == self.a and \
            max(self.margin, self.their_margin) < F32_GAP

    def __str__(self):
        return "  %-40s parts at %2d: margin ours %.4f, llama.cpp %.4f" % (
            self.prompt, self.at, self.margin, self.their_margin)


def partings(build, name, path, form, peer):
    seqs = [peer.tokenize(form % p) for p in PROMPTS]
    found, same = [], 0
    for p, s, m in zip(PROMPTS, seqs, ours.greedy(build, path, seqs, N)):
        t = peer.greedy(s, N)
        if [r[0] for r in m] == [r[0] for r in t]:
            same += N
            continue
        found.append(Parting(p, s, m, t))
        same += found[-1].at
    print("%s greedy: %d of %d prompts equal over %d tokens, %d part; %d "
          "tokens before they do" % (name, len(seqs) - len(found), len(seqs),
                                     N, len(found), same), flush=True)
    return found


def quantised(rep, build, name, path, form):
    """The rule for rounded activations: float64 judges."""
    peer = Peer(path)
    found = partings(build, name, path, form, peer)
    theirs = [peer.last_logits(p.before) for p in found]
    peer.close()
    if not found:
        return
    print("  " + RULE)
    truth = Model(path).last_logits([p.before for p in found])
    side = near = 0
    for p, t, l in zip(found, theirs, truth):
        gap = float(l[p.a] - l[p.b])
        bar = DEVIATIONS * 2 ** .5 * float((t - l).std())
        side += gap > 0
        near += gap <= 0 and -gap < bar
        rep.line("%s, float64 %.4f for %s (bar %.3f)" % (
            p, abs(gap), "ours" if gap > 0 else "llama.cpp", bar),
            -gap < bar)
    print("%s greedy: of %d partings float64 prefers ours in %d, %d more are "
          "near-ties, %d are neither" % (name, len(found), side, near,
                                         len(found) - side - near), flush=True)


def unquantised(rep, build, name, path, form):
    """The rule for the same weights as F32: the engines' own margins."""
    peer = Peer(path)
    found = partings(build, name, path, form, peer)
    peer.close()
    if not found:
        return
    print("  " + F32_RULE)
    for p in found:
        rep.line(str(p), p.near_tie_f32())
