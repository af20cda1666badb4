#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares our dequantisation with ggml's, byte by byte, on random blocks.

usage: dequant.py [--peer DIR] [--helper PATH] [--blocks N] [--seed N]
                  [--vectors FILE]

--peer (or PEER) is a directory with libggml-base.so; --helper is the built
t_dequant. --vectors writes the small vectors that check_kernels reads instead
of comparing. Exits 77 if there is no peer.
"""

import argparse
import ctypes
import os
import random
import struct
import subprocess
import sys

# name: ggml number, elements a block, bytes a block, offsets of half floats
FORMATS = {
    "F32": (0, 1, 4, ()), "F16": (1, 1, 2, ()), "BF16": (30, 1, 2, ()),
    "Q4_0": (2, 32, 18, (0,)), "Q4_1": (3, 32, 20, (0, 2)),
    "Q5_0": (6, 32, 22, (0,)), "Q5_1": (7, 32, 24, (0, 2)),
    "Q8_0": (8, 32, 34, (0,)), "Q2_K": (10, 256, 84, (80, 82)),
    "Q3_K": (11, 256, 110, (108,)), "Q4_K": (12, 256, 144, (0, 2)),
    "Q5_K": (13, 256, 176, (0, 2)), "Q6_K": (14, 256, 210, (208,)),
}


def peer_function(lib, number):
    """ggml's dequantisation of a type, through its table of traits."""

    class Traits(ctypes.Structure):
        _fields_ = [("type_name", ctypes.c_char_p),
                    ("blck_size", ctypes.c_int64),
                    ("blck_size_interleave", ctypes.c_int64),
                    ("type_size", ctypes.c_size_t),
                    ("is_quantized", ctypes.c_bool),
                    ("to_float", ctypes.c_void_p),
                    ("from_float_ref", ctypes.c_void_p)]

    lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    t = lib.ggml_get_type_traits(number).contents
    if not t.to_float:
        return t, None
    proto = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p,
                             ctypes.c_int64)
    return t, proto(t.to_float)


def blocks(rng, name, n):
    """Random bytes; three quarters of the half floats are made finite."""
    _, _, size, halves = FORMATS[name]
    data = bytearray(rng.randbytes(n * size))
    for i in range(n):
        for h in halves:
            if rng.random() < 0.75:
                data[i * size + h + 1] &= 0xbb
    return bytes(data)


def expected(lib, name, data):
    number, block, size, _ = FORMATS[name]
    t, fn = peer_function(lib, number)
    n = len(data) // size * block
    if t.blck_size != block or t.type_size != size:
        sys.exit(f"{name}: the peer's block differs")
    if fn is None:  # F32
        return data
    out = ctypes.create_string_buffer(4 * n)
    fn(data, out, n)
    return out.raw[:4 * n]


def is_nan(four):
    return struct.unpack("<I", four)[0] & 0x7fffffff > 0x7f800000


def equal(name, how, got, want):
    """Equal bytes. Where two NaNs meet, C leaves open whose bits the sum has:
    those are counted apart."""
    if len(got) != len(want):
        print(f"{name} {how}: {len(got)} bytes, expected {len(want)}")
        return False
    if got == want:
        return True
    bad = [i for i in range(0, len(want), 4) if got[i:i + 4] != want[i:i + 4]]
    nans = sum(is_nan(got[i:i + 4]) and is_nan(want[i:i + 4]) for i in bad)
    if nans == len(bad):
        print(f"{name} {how}: {nans} NaNs have other bits")
        return True
    i = bad[0]
    print(f"{name} {how}: {len(bad) - nans} floats differ, first at {i // 4}: "
          f"{got[i:i + 4].hex()} expected {want[i:i + 4].hex()}")
    return False


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--peer", default=os.environ.get("PEER", ""))
    ap.add_argument("--helper", default=os.path.join(
        os.environ.get("O", "build"), "tests/t_dequant"))
    ap.add_argument("--blocks", type=int, default=100000)
    ap.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    ap.add_argument("--vectors")
    args = ap.parse_args()

    path = os.path.join(args.peer, "libggml-base.so")
    if not args.peer or not os.path.exists(path):
        print("no libggml-base.so (set PEER)")
        return 77
    lib = ctypes.CDLL(path)
    rng = random.Random(args.seed)
    if args.vectors:
        with open(args.vectors, "wb") as f:
            for name, (number, block, size, _) in FORMATS.items():
                n = 8 if block > 32 else 16 if block > 1 else 256
                data = blocks(rng, name, n)
                f.write(struct.pack("<II", number, n))
                f.write(data + expected(lib, name, data))
        return 0

    print(f"seed {args.seed}")
    ok = True
    for name, (_, block, _, _) in FORMATS.items():
        n = args.blocks // 16 * 16
        data = blocks(rng, name, n)
        want = expected(lib, name, data)
        for how in ([], ["-p"]):
            cols = [str(n // 16 * block)] if how else []
            got = subprocess.run([args.helper, *how, name, *cols], input=data,
                                 capture_output=True, check=True).stdout
            ok &= equal(name, "packed" if how else "plain", got, want)
        print(f"{name}: {n} blocks, plain and packed")
    print(f"{len(FORMATS)} formats: {'byte-equal' if ok else 'FAILED'}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
