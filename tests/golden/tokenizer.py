#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tokenizer.py - random texts tokenized by llama.cpp and by ours.

usage: PEER=DIR tokenizer.py T_TOKENIZE MODEL.gguf...

DIR holds libllama.so (0.5.0 of its interface: struct llama_model_params is
copied here by layout), T_TOKENIZE is the built tests/t_tokenize. Texts are
valid UTF-8, for llama.cpp replaces what is not. COUNT= texts a model (default
2000), SEED= repeats a run. Exit status: 0 equal, 1 not, 77 skipped.
"""

import ctypes
import errno
import os
import random
import struct
import subprocess
import sys
import time
from ctypes import c_bool, c_char_p, c_float, c_int32, c_void_p

P = ctypes.POINTER


class ModelParams(ctypes.Structure):
    _fields_ = [("devices", c_void_p), ("overrides", c_void_p),
                ("n_gpu_layers", c_int32), ("split_mode", c_int32),
                ("load_mode", c_int32), ("lazy_mode", c_int32),
                ("main_gpu", c_int32), ("tensor_split", P(c_float)),
                ("progress", c_void_p), ("progress_arg", c_void_p),
                ("kv_overrides", c_void_p), ("vocab_only", c_bool),
                ("check_tensors", c_bool), ("use_extra_bufts", c_bool),
                ("no_host", c_bool), ("no_alloc", c_bool),
                ("load_mtp", c_bool)]


class Llama:
    def __init__(self, where):
        self.lib = lib = ctypes.CDLL(os.path.join(where, "libllama.so"))
        self.log = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)(
            lambda *a: None)
        lib.llama_log_set(self.log, None)
        lib.llama_model_default_params.restype = ModelParams
        lib.llama_model_load_from_file.restype = c_void_p
        lib.llama_model_load_from_file.argtypes = [c_char_p, ModelParams]
        lib.llama_model_get_vocab.restype = c_void_p
        lib.llama_model_get_vocab.argtypes = [c_void_p]
        lib.llama_model_free.argtypes = [c_void_p]
        lib.llama_tokenize.argtypes = [c_void_p, c_char_p, c_int32, c_void_p,
                                       c_int32, c_bool, c_bool]
        lib.llama_vocab_n_tokens.argtypes = [c_void_p]
        lib.llama_vocab_get_text.argtypes = [c_void_p, c_int32]
        lib.llama_vocab_get_text.restype = c_char_p
        lib.llama_vocab_get_attr.argtypes = [c_void_p, c_int32]
        lib.llama_backend_init()

    def open(self, path):
        p = self.lib.llama_model_default_params()
        p.vocab_only = True
        p.n_gpu_layers = 0
        self.model = self.lib.llama_model_load_from_file(path.encode(), p)
        if not self.model:
            return False
        self.vocab = self.lib.llama_model_get_vocab(self.model)
        return True

    def close(self):
        self.lib.llama_model_free(self.model)

    def specials(self):
        n = self.lib.llama_vocab_n_tokens(self.vocab)
        return [self.lib.llama_vocab_get_text(self.vocab, i).decode()
                for i in range(n)
                if self.lib.llama_vocab_get_attr(self.vocab, i) & (8 | 16)]

    def tokenize(self, text, special, bos):
        n = len(text) + 16
        out = (c_int32 * n)()
        k = self.lib.llama_tokenize(self.vocab, text, len(text), out, n, bos,
                                    special)
        return list(out[:k])


WORDS = ("hello Hello WORLD it's IT'S we'll don't camelCase HTMLParser x "
         "caf\u00e9 na\u00efve \u00fcber \u041f\u0440\u0438\u0432\u0435\u0442 "
         "\u4e2d\u6587 \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 "
         "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 "
         "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 "
         "1234567 3.14 0xff foo_bar int main() {} != -> // /* \u2026 "
         "\u00bd \u2160 \u0663 \U0001f600 \U0001f468\u200d\U0001f469 e\u0301 "
         "\u2028 \u00a0 \u3000 \ufeff <0x41> \u2581 \u0120").split(" ")
BLANKS = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0",
          "\u3000", "\x0b", "        "]
RANGES = [(0x20, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x52f),
          (0x590, 0x6ff), (0x900, 0xdff), (0x1e00, 0x206f), (0x20a0, 0x2bff),
          (0x3000, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3),
          (0xf900, 0xffef), (0x10000, 0x1ffff), (0x20000, 0x2a6df)]


def text(rng, specials):
    out = []
    for _ in range(rng.randint(1, 40)):
        k = rng.random()
        if k < 0.45:
            out.append(rng.choice(WORDS))
        elif k < 0.7:
            out.append(rng.choice(BLANKS))
        elif k < 0.95 or not specials:
            lo, hi = rng.choice(RANGES)
            out.append("".join(chr(rng.randint(lo, hi))
                               for _ in range(rng.randint(1, 6))))
        else:
            out.append(rng.choice(specials))
    return "".join(out).encode()


def ours(program, path, texts, flags):
    data = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    run = subprocess.run([program, path, str(flags)], input=data,
                         capture_output=True)
    if run.stderr.decode().strip() == "t_tokenize: -%d" % errno.EOPNOTSUPP:
        return None
    if run.returncode:
        raise RuntimeError("%s: %s" % (path, run.stderr.decode()))
    return [[int(t) for t in line.split()]
            for line in run.stdout.decode().split("\n")[:-1]]


def compare(llama, program, path, count, rng):
    specials = llama.specials()
    bad = 0
    for special, bos in ((False, False), (True, False), (True, True)):
        texts = [text(rng, specials) for _ in range(count)]
        got = ours(program, path, texts,
                   (1 if special else 0) | (0 if bos else 2))
        if got is None:
            return None
        for t, g in zip(texts, got):
            want = llama.tokenize(t, special, bos)
            if want != g:
                bad += 1
                if bad <= 5:
                    i = 0
                    while i < min(len(g), len(want)) and g[i] == want[i]:
                        i += 1
                    print("  %r\n    at %d: want %s, got %s" %
                          (t.decode(), i, want[i:i + 6], g[i:i + 6]))
    print("%s: %d texts, %d differ" %
          (os.path.basename(path), 3 * count, bad))
    return bad


def main():
    if len(sys.argv) < 3:
        print(__doc__)
        return 2
    where = os.environ.get("PEER", "")
    if not os.path.exists(os.path.join(where, "libllama.so")):
        print("skipped: no libllama.so in PEER")
        return 77
    seed = int(os.environ.get("SEED", time.time()))
    print("SEED=%d" % seed)
    rng = random.Random(seed)
    count = int(os.environ.get("COUNT", 2000))
    llama = Llama(where)
    bad = 0
    outside = []
    for path in sys.argv[2:]:
        if not llama.open(path):
            print("%s: llama.cpp cannot open it" % path)
            bad += 1
            continue
        n = compare(llama, sys.argv[1], path, count, rng)
        llama.close()
        if n is None:
            outside.append(os.path.basename(path))
        else:
            bad += n
    total = len(sys.argv) - 2
    print("%d of %d vocabularies compared, %d texts differ" %
          (total - len(outside), total, bad))
    if outside:
        print("ours refuses, as unsupported: " + ", ".join(outside))
    if len(outside) == total:
        return 77
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
