# SPDX-License-Identifier: MIT
"""Float64 evaluation of a GGUF model's dequantised weights, in plain numpy.

Written from the architectures' definitions, not from our graphs; dequantising
is done by the gguf package. Slow and simple: the yardstick for errors.
"""
import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

CHUNK = 8192  # rows of a large matrix at a time


class Model:
    def __init__(self, path):
        r = GGUFReader(path)
        self.t = {t.name: t for t in r.tensors}
        self.arch = r.fields["general.architecture"].contents()

        def get(key, default=None):
            f = r.fields.get(self.arch + "." + key)
            return default if f is None else f.contents()

        self.n_layer = get("block_count")
        self.n_embd = get("embedding_length")
        self.n_head = get("attention.head_count")
        self.n_kv = get("attention.head_count_kv", self.n_head)
        self.d = get("attention.key_length", self.n_embd // self.n_head)
        self.eps = get("attention.layer_norm_rms_epsilon")
        self.base = get("rope.freq_base", 10000.0)
        self.factor = get("rope.scaling.factor", 0) or 1.0
        self.window = get("attention.sliding_window", 0)
        self.gemma = self.arch == "gemma3"
        if not self.gemma:
            self.window = 0

    def rows(self, name, idx=None):
        """A tensor as float64, all of it or some rows."""
        t = self.t[name]
        data = t.data if idx is None else t.data[idx]
        return dequantize(np.ascontiguousarray(data),
                          t.tensor_type).astype(np.float64)

    def mul(self, x, name):
        n = self.t[name].data.shape[0]
        return np.concatenate(
            [x @ self.rows(name, slice(i, min(i + CHUNK, n))).T
             for i in range(0, n, CHUNK)], axis=-1)

    def norm(self, x, name):
        s = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps)
        return s * self.rows(name)

    def rotate(self, x, pos, local):
        """x: [n, heads, d]"""
        half = self.d // 2
        freq = (10000.0 if local else self.base) ** (-np.arange(half) / half)
        if not local:
            freq = freq / self.factor
        if "rope_freqs.weight" in self.t:
            freq = freq / self.rows("rope_freqs.weight")
        a = (pos[:, None] * freq)[:, None, :]
        c, s = np.cos(a), np.sin(a)
        out = np.empty_like(x)
        if self.arch == "llama":  # neighbours are a pair
            p, q = x[..., 0::2], x[..., 1::2]
            out[..., 0::2], out[..., 1::2] = p * c - q * s, p * s + q * c
        else:
            p, q = x[..., :half], x[..., half:]
            out[..., :half], out[..., half:] = p * c - q * s, p * s + q * c
        return out

    def attend(self, q, k, v, local):
        """One sequence."""
        gap = np.arange(len(q))[:, None] - np.arange(len(q))[None, :]
        seen = gap >= 0
        if local:
            seen &= gap < self.window
        out = np.empty_like(q)
        for j in range(self.n_head):
            g = j // (self.n_head // self.n_kv)
            s = q[:, j] @ k[:, g].T / np.sqrt(self.d)
            s = np.where(seen, s, -np.inf)
            e = np.exp(s - s.max(-1, keepdims=True))
            out[:, j] = (e / e.sum(-1, keepdims=True)) @ v[:, g]
        return out

    def attention(self, h, i, lens):
        p = "blk.%d.attn_" % i
        n = len(h)
        q, k, v = (self.mul(h, p + c + ".weight") for c in "qkv")
        if p + "q.bias" in self.t:
            q, k, v = (x + self.rows(p + c + ".bias")
                       for x, c in zip((q, k, v), "qkv"))
        q = q.reshape(n, self.n_head, self.d)
        k = k.reshape(n, self.n_kv, self.d)
        v = v.reshape(n, self.n_kv, self.d)
        if p + "q_norm.weight" in self.t:
            q = self.norm(q, p + "q_norm.weight")
            k = self.norm(k, p + "k_norm.weight")
        local = bool(self.window) and (i + 1) % 6 != 0
        pos = np.concatenate([np.arange(m) for m in lens])
        q, k = self.rotate(q, pos, local), self.rotate(k, pos, local)
        cuts = np.cumsum(lens)[:-1]
        out = [self.attend(*x, local) for x in
               zip(*(np.split(y, cuts) for y in (q, k, v)))]
        return self.mul(np.concatenate(out).reshape(n, -1),
                        p + "output.weight")

    def act(self, x):
        if not self.gemma:
            return x / (1 + np.exp(-x))
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) *
                                      (x + 0.044715 * x ** 3)))

    def hidden(self, sequences):
        """Final normed states of some sequences, one after the other."""
        lens = [len(q) for q in sequences]
        x = self.rows("token_embd.weight", np.concatenate(sequences))
        if self.gemma:
            x = x * np.sqrt(self.n_embd)
        for i in range(self.n_layer):
            p = "blk.%d." % i
            a = self.attention(self.norm(x, p + "attn_norm.weight"), i, lens)
            if self.gemma:
                a = self.norm(a, p + "post_attention_norm.weight")
            x = x + a
            h = self.norm(x, p + "ffn_norm.weight")
            f = self.act(self.mul(h, p + "ffn_gate.weight")) * \
                self.mul(h, p + "ffn_up.weight")
            f = self.mul(f, p + "ffn_down.weight")
            if self.gemma:
                f = self.norm(f, p + "post_ffw_norm.weight")
            x = x + f
        return self.norm(x, "output_norm.weight")

    def output(self, h):
        return self.mul(h, "output.weight" if "output.weight" in self.t
                        else "token_embd.weight")

    def logits(self, tokens):
        return self.output(self.hidden([tokens]))

    def last_logits(self, sequences):
        """Logits after the last token of each sequence."""
        ends = np.cumsum([len(q) for q in sequences]) - 1
        return self.output(self.hidden(sequences)[ends])
