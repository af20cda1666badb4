#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare what kernels gave in the simulator and on a chip: compare.py SIM CHIP

The files are of tests/cuda_dump.h. All bytes must be equal, but that a NaN is
any NaN; and kernels in which the chip's matrix units add floats, in an order that
is theirs, or that call approximate functions, must be near: within 1e-5 of the
largest element.
"""
import struct
import sys

NEAR = {"mma_bf16_k", "mma_f16_k", "hop_ok", "hop_mixed", "mix_k", "gemm"}


def records(path):
    data = open(path, "rb").read()
    at = 0
    while at < len(data):
        name, n = struct.unpack_from("<48sQ", data, at)
        at += 56
        yield name.rstrip(b"\0").decode(), data[at:at + n]
        at += n


def differing(a, b, near):
    """Words that differ, of two equally long records."""
    n = len(a) // 4 * 4
    if near:
        x, y = (struct.unpack(f"<{n // 4}f", r[:n]) for r in (a, b))
        most = max((abs(v) for v in x if v == v), default=0)
        return sum(not (abs(v - w) <= 1e-5 * most or v == w) for v, w in zip(x, y))
    bad = a[n:] != b[n:]
    for i in range(0, n, 4):
        if a[i:i + 4] != b[i:i + 4]:
            v, w = (struct.unpack("<I", r[i:i + 4])[0] & 0x7fffffff for r in (a, b))
            bad += not (v > 0x7f800000 and w > 0x7f800000)
    return bad


def main():
    sim, chip = (list(records(p)) for p in sys.argv[1:3])
    if [(k, len(d)) for k, d in sim] != [(k, len(d)) for k, d in chip]:
        sys.exit(f"{len(sim)} results of the simulator, {len(chip)} of the chip, "
                 "or of other kernels or lengths")
    bad = equal = 0
    for i, ((kernel, a), (_, b)) in enumerate(zip(sim, chip)):
        equal += a == b
        n = 0 if a == b else differing(a, b, kernel in NEAR)
        if n:
            bad += 1
            print(f"{kernel}, result {i}: {n} of {len(a) // 4} words differ")
    print(f"{len(sim)} results, {equal} equal in every byte, {bad} differ")
    sys.exit(1 if bad or not sim else 0)


main()
