#!/usr/bin/env python3
"""Writes the golden files of every packing but TQ1_0 and TQ2_0 (those come from tq.c).

Written from docs/formats.md alone, with plain integers, so that it shares no code and no trick with the Rust
readers.  Run it in this folder; it needs nothing but Python.

Weights: three rows of 512, scale 0.25.  The generator is state = (1103515245 * state + 12345) mod 2^31 from
state 1, giving state >> 16.  Ternary weights are number % 3 - 1, binary ones number % 2 * 2 - 1; a group of
s34 is the group with the code number % 32, one of s24 that with the code number % 24.
"""

import struct

ROWS, COLUMNS, SCALE = 3, 512, 0.25


def numbers():
    state = 1
    while True:
        state = (1103515245 * state + 12345) % 2**31
        yield state >> 16


def rows(make, per_row):
    source = numbers()
    return [[make(next(source)) for _ in range(per_row)] for _ in range(ROWS)]


def save(name, data):
    with open(name, "wb") as file:
        file.write(bytes(data))


def t2(row):
    out = [0] * ((len(row) + 3) // 4)
    for column, weight in enumerate(row):
        out[column // 4] += (weight + 1) * 4 ** (column % 4)
    return out


def t5(row, step=5):
    row = row + [0] * (-len(row) % step)
    return [sum((row[at + k] + 1) * 3**k for k in range(5)) for at in range(0, len(row), 5)]


def five_bits(codes):
    total = sum(code << (5 * group) for group, code in enumerate(codes))
    return total.to_bytes(len(codes) * 5 // 8, "little")


def i2_s(row):
    out = []
    for block in range(0, len(row), 128):
        for p in range(32):
            w = [row[block + p + 32 * quarter] + 1 for quarter in range(4)]
            out.append(w[0] * 64 + w[1] * 16 + w[2] * 4 + w[3])
    return out


def grouped(row, pack):
    out = b""
    for group in range(0, len(row), 128):
        out += struct.pack("<e", SCALE) + bytes(pack(row[group : group + 128]))
    return out


def binary(group):
    return [sum(1 << bit for bit in range(8) if group[at + bit] > 0) for at in range(0, len(group), 8)]


def i6(row):
    out = b""
    for at in range(0, len(row), 32):
        block = row[at : at + 32]
        (scale,) = struct.unpack("<e", struct.pack("<e", max(max(map(abs, block)) / 31, 2.0**-24)))
        values = [max(-31, min(31, round(weight / scale))) + 32 for weight in block]
        bits = sum(value << (6 * i) for i, value in enumerate(values))
        out += struct.pack("<e", scale) + bits.to_bytes(24, "little")
    return out


def main():
    ternary = rows(lambda n: n % 3 - 1, COLUMNS)
    save("t2.bin", b"".join(bytes(t2(row)) for row in ternary))
    save("t5.bin", b"".join(bytes(t5(row)) for row in ternary))
    save("t5_words.bin", b"".join(bytes(t5(row, 20)) for row in ternary))
    save("i2_s.bin", b"".join(bytes(i2_s(row)) for row in ternary) + struct.pack("<f", SCALE) + bytes(28))
    save("q2_0_g128.bin", b"".join(grouped(row, t2) for row in ternary))
    save("q1_0_g128.bin", b"".join(grouped(row, binary) for row in rows(lambda n: n % 2 * 2 - 1, COLUMNS)))
    save("s34.bin", b"".join(five_bits(row) for row in rows(lambda n: n % 32, COLUMNS // 4)))
    save("s24.bin", b"".join(five_bits(row) for row in rows(lambda n: n % 24, COLUMNS // 4)))
    # Embeddings: multiples of 1/64 between -2 and 2; the last block is zero.
    floats = rows(lambda n: n % 257 / 64 - 2, COLUMNS)
    floats[-1][-32:] = [0.0] * 32
    save("i6.bin", b"".join(i6(row) for row in floats))


main()
