#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write a GGUF model of a real or tiny shape with random weights.

  mkmodel.py --preset llama-1b --type Q4_K_M --out m.gguf [--vocab other.gguf]
  mkmodel.py --list

Quantised tensors are random valid blocks, which is as good as quantising
random numbers and much faster. Norms stay F32, as in real files. With --vocab
every tokenizer key is copied from another GGUF file; otherwise the vocabulary
is the 256 bytes, three control tokens, and unused tokens up to --vocab-size.
A matrix whose rows are no multiple of the type's block gets Q8_0 or F16. With
--repeat the same blocks come again and again, and a file is written as fast as
the disk takes it: for what asks for bytes, not for what is in them.
Needs numpy and nothing else.
"""
import argparse
import struct
import sys

import numpy as np

TINY = dict(layers=3, embd=256, ff=512, heads=4, kv_heads=2, head_dim=64,
            vocab_size=512, ctx=4096, eps=1e-5, rope_base=1e4)
PRESETS = {
    "tiny-llama": dict(TINY, arch="llama", tied=0),
    "tiny-llama3": dict(TINY, arch="llama", tied=1, rope_freqs=1,
                        rope_base=5e5),
    "tiny-qwen2": dict(TINY, arch="qwen2", tied=1),
    "tiny-qwen3": dict(TINY, arch="qwen3", tied=0, head_dim=128),
    "tiny-gemma3": dict(TINY, arch="gemma3", tied=1, layers=7, swa=64,
                        heads=4, kv_heads=1, rope_base=1e6, eps=1e-6),
    "smollm2-135m": dict(arch="llama", layers=30, embd=576, ff=1536, heads=9,
                         kv_heads=3, head_dim=64, vocab_size=49152, tied=1,
                         rope_base=1e5, ctx=8192, eps=1e-5),
    "qwen2-0.5b": dict(arch="qwen2", layers=24, embd=896, ff=4864, heads=14,
                       kv_heads=2, head_dim=64, vocab_size=151936, tied=1,
                       rope_base=1e6, ctx=32768, eps=1e-6),
    "qwen3-0.6b": dict(arch="qwen3", layers=28, embd=1024, ff=3072, heads=16,
                       kv_heads=8, head_dim=128, vocab_size=151936, tied=1,
                       rope_base=1e6, ctx=40960, eps=1e-6),
    "llama-1b": dict(arch="llama", layers=16, embd=2048, ff=8192, heads=32,
                     kv_heads=8, head_dim=64, vocab_size=128256, tied=1,
                     rope_base=5e5, ctx=131072, eps=1e-5, rope_freqs=1),
    "llama-8b": dict(arch="llama", layers=32, embd=4096, ff=14336, heads=32,
                     kv_heads=8, head_dim=128, vocab_size=128256, tied=0,
                     rope_base=5e5, ctx=131072, eps=1e-5, rope_freqs=1),
    "gemma3-270m": dict(arch="gemma3", layers=18, embd=640, ff=2048, heads=4,
                        kv_heads=1, head_dim=256, vocab_size=262144, tied=1,
                        rope_base=1e6, ctx=32768, eps=1e-6, swa=512),
}

# ggml number, elements and bytes of a block
TYPES = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210),
    "BF16": (30, 1, 2),
}
FILE_TYPE = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8,
             "Q5_1": 9, "Q2_K": 10, "Q3_K": 12, "Q4_K": 15, "Q5_K": 17,
             "Q6_K": 18, "BF16": 32, "Q4_K_M": 15}
U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
SIZE = {U8: 1, I8: 1, U16: 2, I16: 2, U32: 4, I32: 4, F32: 4, BOOL: 1,
        U64: 8, I64: 8, F64: 8}


# ------------------------------------------------------------ random blocks

def scales(rng, n, std, rms):
    """Block scales, as float16, so that values have about this deviation."""
    return (std / rms * rng.uniform(0.7, 1.3, n)).astype(np.float16)


def signed(rng, d):
    """Scales of either sign: these types' levels are not symmetric."""
    return d * rng.choice(np.array([-1, 1], np.float16), len(d))


def raw(rng, n, k):
    return rng.integers(0, 256, (n, k), dtype=np.uint8)


def join(*cols):
    return np.concatenate(
        [c.view(np.uint8).reshape(len(c), -1) for c in cols], axis=1)


def minimum(d, times):
    return (d.astype(np.float32) * times).astype(np.float16)


def k_scales(rng, n):
    """Eight 6-bit scales and equal minimums, packed as Q4_K and Q5_K do."""
    s = rng.integers(20, 64, (n, 8), dtype=np.uint8)
    lo, hi = s[:, :4], s[:, 4:]
    a = lo | ((hi >> 4) << 6)
    return np.concatenate([a, a, (hi & 15) | ((hi & 15) << 4)], axis=1)


def blocks(rng, t, n, std):
    """n random blocks of type t."""
    if t == "Q4_0":
        return join(signed(rng, scales(rng, n, std, 4.64)), raw(rng, n, 16))
    if t == "Q4_1":
        d = scales(rng, n, std, 4.61)
        return join(d, minimum(d, -7.5), raw(rng, n, 16))
    if t == "Q5_0":
        return join(signed(rng, scales(rng, n, std, 9.25)), raw(rng, n, 20))
    if t == "Q5_1":
        d = scales(rng, n, std, 9.23)
        return join(d, minimum(d, -15.5), raw(rng, n, 20))
    if t == "Q8_0":
        q = rng.integers(-127, 128, (n, 32), dtype=np.int8)
        return join(scales(rng, n, std, 73.6), q)
    if t == "Q2_K":
        d = scales(rng, n, std, 11)
        s = rng.integers(4, 16, (n, 16), dtype=np.uint8)
        return join(s | (s << 4), raw(rng, n, 64), d, minimum(d, 1.5))
    if t == "Q3_K":
        return join(raw(rng, n, 108), signed(rng, scales(rng, n, std, 43)))
    if t == "Q4_K":
        d = scales(rng, n, std, 200)
        return join(d, minimum(d, 7.5), k_scales(rng, n), raw(rng, n, 128))
    if t == "Q5_K":
        d = scales(rng, n, std, 400)
        return join(d, minimum(d, 15.5), k_scales(rng, n), raw(rng, n, 160))
    if t == "Q6_K":
        s = rng.integers(20, 128, (n, 16), dtype=np.int8)
        s *= rng.choice(np.array([-1, 1], np.int8), (n, 16))
        return join(raw(rng, n, 192), s, scales(rng, n, std, 1480))
    raise ValueError(t)


def weights(rng, t, n, mean, std):
    """Bytes of n random elements."""
    _, block, _ = TYPES[t]
    if block > 1:
        return blocks(rng, t, n // block, std)
    x = rng.standard_normal(n, dtype=np.float32) * np.float32(std) + \
        np.float32(mean)
    if t == "F16":
        return x.astype(np.float16)
    if t == "BF16":
        b = x.view(np.uint32)
        return ((b + 0x7FFF + ((b >> 16) & 1)) >> 16).astype(np.uint16)
    return x


# --------------------------------------------------------------- GGUF keys

def string(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


class Keys:
    def __init__(self):
        self.n = 0
        self.b = bytearray()

    def raw(self, key, typ, value):
        self.b += string(key) + struct.pack("<I", typ) + value
        self.n += 1

    def u32(self, key, v):
        self.raw(key, U32, struct.pack("<I", v))

    def f32(self, key, v):
        self.raw(key, F32, struct.pack("<f", v))

    def boolean(self, key, v):
        self.raw(key, BOOL, struct.pack("<B", v))

    def str(self, key, v):
        self.raw(key, STR, string(v))

    def array(self, key, typ, items):
        body = (b"".join(map(string, items)) if typ == STR else
                struct.pack("<%d%s" % (len(items), {I32: "i", F32: "f"}[typ]),
                            *items))
        self.raw(key, ARR, struct.pack("<IQ", typ, len(items)) + body)


def read_keys(path):
    """Keys of a GGUF file: name -> (type, raw bytes of the value)."""
    buf = open(path, "rb").read(64 << 20)
    magic, version, _, n_kv = struct.unpack_from("<4sIQQ", buf)
    if magic != b"GGUF" or version not in (2, 3):
        sys.exit("%s: not a GGUF file" % path)
    at, keys = 24, {}

    def text(at):
        n, = struct.unpack_from("<Q", buf, at)
        return at + 8 + n

    for _ in range(n_kv):
        end = text(at)
        key = buf[at + 8:end].decode()
        typ, = struct.unpack_from("<I", buf, end)
        start = at = end + 4
        if typ == STR:
            at = text(at)
        elif typ == ARR:
            elem, n = struct.unpack_from("<IQ", buf, at)
            at += 12
            if elem == STR:
                for _ in range(n):
                    at = text(at)
            else:
                at += n * SIZE[elem]
        else:
            at += SIZE[typ]
        keys[key] = (typ, buf[start:at])
    return keys


def copy_vocab(k, path, vocab_size):
    """Copy a vocabulary, padded to vocab_size; its size."""
    keys = read_keys(path)
    typ, value = keys["tokenizer.ggml.tokens"]
    _, have = struct.unpack_from("<IQ", value)
    size = max(have, vocab_size)
    pad = size - have
    fill = {"tokens": b"".join(string("[PAD%d]" % i)
                               for i in range(have, size)),
            "token_type": struct.pack("<i", 5) * pad,
            "scores": struct.pack("<f", -1e4) * pad}
    for key, (typ, value) in keys.items():
        if not key.startswith("tokenizer."):
            continue
        base = key.split(".")[-1]
        if typ == ARR and base in fill and pad:
            elem, _ = struct.unpack_from("<IQ", value)
            value = struct.pack("<IQ", elem, size) + value[12:] + fill[base]
        k.raw(key, typ, value)
    return size


def byte_vocab(k, size):
    """The 256 bytes as byte-level BPE writes them, and control tokens."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = iter(range(256, 512))
    tokens = [chr(b if b in plain else next(other)) for b in range(256)]
    tokens += ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    types = [1] * 256 + [3] * 3
    tokens += ["[PAD%d]" % i for i in range(len(tokens), size)]
    types += [5] * (len(tokens) - len(types))
    k.str("tokenizer.ggml.model", "gpt2")
    k.str("tokenizer.ggml.pre", "gpt-2")
    k.array("tokenizer.ggml.tokens", STR, tokens)
    k.array("tokenizer.ggml.token_type", I32, types)
    k.array("tokenizer.ggml.merges", STR, ["t h"] if "th" in tokens else [])
    k.u32("tokenizer.ggml.bos_token_id", 256)
    k.u32("tokenizer.ggml.eos_token_id", 258)
    k.boolean("tokenizer.ggml.add_bos_token", 0)
    return len(tokens)


def hparams(k, c):
    a = c["arch"]
    k.str("general.architecture", a)
    k.str("general.name", "random " + c["preset"])
    k.u32("general.file_type", FILE_TYPE[c["type"]])
    for key, name in (("context_length", "ctx"), ("embedding_length", "embd"),
                      ("block_count", "layers"), ("feed_forward_length", "ff"),
                      ("attention.head_count", "heads"),
                      ("attention.head_count_kv", "kv_heads"),
                      ("attention.key_length", "head_dim"),
                      ("attention.value_length", "head_dim"),
                      ("rope.dimension_count", "head_dim")):
        k.u32("%s.%s" % (a, key), c[name])
    k.f32(a + ".attention.layer_norm_rms_epsilon", c["eps"])
    k.f32(a + ".rope.freq_base", c["rope_base"])
    if c["swa"]:
        k.u32(a + ".attention.sliding_window", c["swa"])


# ------------------------------------------------------------------ tensors

def tensors(c):
    """(name, columns, rows or 0 for a vector, mean)"""
    e, q, kv = c["embd"], c["heads"] * c["head_dim"], \
        c["kv_heads"] * c["head_dim"]
    a, f, d = c["arch"], c["ff"], c["head_dim"]
    yield "token_embd.weight", e, c["vocab_size"], 0
    for i in range(c["layers"]):
        p = "blk.%d." % i
        yield p + "attn_norm.weight", e, 0, 1
        yield p + "attn_q.weight", e, q, 0
        yield p + "attn_k.weight", e, kv, 0
        yield p + "attn_v.weight", e, kv, 0
        yield p + "attn_output.weight", q, e, 0
        if a == "qwen2":
            for x, n in (("q", q), ("k", kv), ("v", kv)):
                yield p + "attn_%s.bias" % x, n, 0, 0
        if a in ("qwen3", "gemma3"):
            yield p + "attn_q_norm.weight", d, 0, 1
            yield p + "attn_k_norm.weight", d, 0, 1
        if a == "gemma3":
            yield p + "post_attention_norm.weight", e, 0, 1
            yield p + "post_ffw_norm.weight", e, 0, 1
        yield p + "ffn_norm.weight", e, 0, 1
        yield p + "ffn_gate.weight", e, f, 0
        yield p + "ffn_up.weight", e, f, 0
        yield p + "ffn_down.weight", f, e, 0
    yield "output_norm.weight", e, 0, 1
    if not c["tied"]:
        yield "output.weight", e, c["vocab_size"], 0
    if c["rope_freqs"]:
        yield "rope_freqs.weight", d // 2, 0, None


def llama3_freqs(c):
    """Divisors of the rotation angles, as Llama 3.1 and later have them."""
    d, factor, low, high, ctx = c["head_dim"], 32.0, 1.0, 4.0, 8192
    wave = 2 * np.pi * c["rope_base"] ** (np.arange(0, d, 2) / d)
    smooth = np.clip((ctx / wave - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def type_of(c, name, cols, rows):
    """Type of a tensor; Q4_K_M is a mixture, in which the output is Q6_K."""
    t = c["type"]
    if not rows:
        return "F32"
    if t == "Q4_K_M":
        n, t = c["layers"], "Q4_K"
        i = int(name.split(".")[1]) if name.startswith("blk.") else -1
        more = i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2
        if "attn_v" in name or "ffn_down" in name:
            better = more
        else:
            better = name == "output.weight" or (i < 0 and c["tied"])
        if better:
            t = "Q6_K"
    if cols % TYPES[t][1]:
        t = "Q8_0" if cols % 32 == 0 else "F16"
    return t


def write(path, k, c, seed):
    rng = np.random.default_rng(seed)
    infos, off, plan, made = bytearray(), 0, [], {}
    for name, cols, rows, mean in tensors(c):
        t = type_of(c, name, cols, rows)
        num, block, size = TYPES[t]
        n = cols * (rows or 1)
        dims = (cols, rows) if rows else (cols,)
        infos += string(name) + struct.pack("<I%dQIQ" % len(dims), len(dims),
                                            *dims, num, off)
        plan.append((cols, rows, mean, t, n))
        off += (n // block * size + 31) // 32 * 32
    with open(path, "wb") as f:
        f.write(struct.pack("<4sIQQ", b"GGUF", 3, len(plan), k.n))
        f.write(k.b)
        f.write(infos)
        f.write(b"\0" * (-f.tell() % 32))
        for cols, rows, mean, t, n in plan:
            # A vector varies around its mean, a matrix keeps lengths alike.
            std = (c["std"] or cols ** -0.5) if rows else 0.1
            step = cols * max(1, (32 << 20) // cols)
            for at in range(0, n, step):
                key = t, min(step, n - at), mean, std
                if mean is None:
                    llama3_freqs(c).tofile(f)
                elif key in made:
                    made[key].tofile(f)
                else:
                    w = weights(rng, *key)
                    if c["repeat"]:
                        made[key] = w
                    w.tofile(f)
            f.write(b"\0" * (-f.tell() % 32))


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("--list", action="store_true", help="show the presets")
    ap.add_argument("--preset", choices=PRESETS, default="tiny-llama")
    ap.add_argument("--type", choices=[*TYPES, "Q4_K_M"], default="F16")
    ap.add_argument("--out")
    ap.add_argument("--vocab", help="copy the vocabulary of this GGUF file")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--repeat", action="store_true",
                    help="write the same blocks again and again")
    ap.add_argument("--std", type=float, default=0,
                    help="deviation of weights (default: 1/sqrt(columns))")
    for n in ("layers", "embd", "ff", "heads", "kv-heads", "head-dim",
              "vocab-size", "ctx", "tied", "swa", "rope-freqs"):
        ap.add_argument("--" + n, type=int)
    ap.add_argument("--rope-base", type=float)
    ap.add_argument("--eps", type=float)
    a = ap.parse_args()
    if a.list:
        for name, c in PRESETS.items():
            print(name, c)
        return
    if not a.out:
        ap.error("--out is required")
    c = dict(swa=0, rope_freqs=0, preset=a.preset, type=a.type, std=a.std,
             repeat=a.repeat)
    c.update(PRESETS[a.preset])
    for key in list(c):
        if getattr(a, key, None) is not None:
            c[key] = getattr(a, key)
    k = Keys()
    hparams(k, c)
    c["vocab_size"] = (copy_vocab(k, a.vocab, c["vocab_size"]) if a.vocab
                       else byte_vocab(k, c["vocab_size"]))
    write(a.out, k, c, a.seed)


if __name__ == "__main__":
    main()
