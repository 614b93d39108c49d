"""The packings of ternary codes and of 6-bit embeddings, bit for bit as docs/formats.md defines them (numpy).

Codes are int8 arrays of shape [rows, columns] with values -1, 0, 1.  Every row starts on a byte; no padding between rows.
"""

import itertools

import numpy as np

I6_GROUP, I6_MAX = 32, 31
# Positions of the two weights that are not zero in a strict 2:4 group, in the order of their codes.
PAIRS = list(itertools.combinations(range(4), 2))


def _bits(values, width):
    """Values of `width` bits, least significant bit first, packed along the last axis into bytes."""
    bits = (values[..., None].astype(np.uint8) >> np.arange(width, dtype=np.uint8)) & 1
    return np.packbits(bits.reshape(*values.shape[:-1], -1), axis=-1, bitorder="little")


def _unbits(raw, width, count):
    bits = np.unpackbits(raw, axis=-1, bitorder="little")[..., : width * count]
    return (bits.reshape(*raw.shape[:-1], count, width) << np.arange(width, dtype=np.uint8)).sum(-1).astype(np.uint8)


def pack_t2(codes):
    return _bits((codes + 1).astype(np.uint8), 2)


def unpack_t2(raw, columns):
    return _unbits(raw, 2, columns).astype(np.int8) - 1


def pack_t5(codes):
    digits = (codes + 1).astype(np.uint8)
    digits = np.pad(digits, ((0, 0), (0, -digits.shape[1] % 5)), constant_values=1).reshape(len(codes), -1, 5)
    return (digits * np.array([1, 3, 9, 27, 81], dtype=np.uint8)).sum(-1).astype(np.uint8)


def unpack_t5(raw, columns):
    digits = raw[..., None] // np.array([1, 3, 9, 27, 81], dtype=np.uint8) % 3
    return digits.reshape(len(raw), -1)[:, :columns].astype(np.int8) - 1


def pack_s34(codes):
    """3:4: one zero in each group of four.  Code = zero position << 3 | signs of the others in column order."""
    groups = codes.reshape(len(codes), -1, 4)
    if not ((groups == 0).sum(-1) == 1).all():
        raise ValueError("not 3:4: some group of four has not exactly one zero")
    zero = (groups == 0).argmax(-1)
    lanes = np.array([[j for j in range(4) if j != z] for z in range(4)])[zero]
    signs = np.take_along_axis(groups, lanes, -1) > 0
    return _bits((zero << 3 | (signs << np.arange(3)).sum(-1)).astype(np.uint8), 5)


def unpack_s34(raw, columns):
    code = _unbits(raw, 5, columns // 4)
    table = np.zeros((32, 4), np.int8)
    for value in range(32):
        others = [j for j in range(4) if j != value >> 3]
        for bit, lane in enumerate(others):
            table[value, lane] = 1 if value >> bit & 1 else -1
    return table[code].reshape(len(raw), columns)


def s24_table():
    """The 24 groups of strict 2:4 by code: pair of positions * 4 + signs (bit 0: the first of the pair, 1 = +1)."""
    table = np.zeros((24, 4), np.int8)
    for code in range(24):
        for bit, lane in enumerate(PAIRS[code >> 2]):
            table[code, lane] = 1 if code >> bit & 1 else -1
    return table


def pack_s24(codes):
    groups = codes.reshape(len(codes), -1, 4)
    if not ((groups == 0).sum(-1) == 2).all():
        raise ValueError("not 2:4: some group of four has not exactly two zeros")
    weights = np.array([1, 3, 9, 27])
    find = np.full(81, 255, np.uint8)
    find[((s24_table() + 1) * weights).sum(-1)] = np.arange(24)
    return _bits(find[((groups + 1) * weights).sum(-1)], 5)


def unpack_s24(raw, columns):
    return s24_table()[_unbits(raw, 5, columns // 4)].reshape(len(raw), columns)


PACK = {"t2": pack_t2, "t5": pack_t5, "s34": pack_s34, "s24": pack_s24}
UNPACK = {"t2": unpack_t2, "t5": unpack_t5, "s34": unpack_s34, "s24": unpack_s24}


def i6_scales(weights):
    """float16 scale of each group of 32 columns: [rows, columns / 32]."""
    groups = weights.reshape(len(weights), -1, I6_GROUP)
    return np.maximum(np.abs(groups).max(-1) / I6_MAX, 2.0**-24).astype(np.float16)


def pack_i6(weights):
    """float32 [rows, columns] -> bytes [rows, columns / 32 * 26]: a float16 scale, then 32 six-bit values stored + 32."""
    scale = i6_scales(weights)
    groups = weights.reshape(len(weights), -1, I6_GROUP)
    values = np.clip(np.rint(groups / scale.astype(np.float32)[..., None]), -I6_MAX, I6_MAX).astype(np.int8)
    packed = _bits((values + 32).astype(np.uint8), 6)
    return np.concatenate([scale[..., None].view(np.uint8), packed], -1).reshape(len(weights), -1)


def unpack_i6(raw, columns):
    block = raw.reshape(len(raw), columns // I6_GROUP, 26)
    scale = block[..., :2].copy().view(np.float16).astype(np.float32)
    values = _unbits(np.ascontiguousarray(block[..., 2:]), 6, I6_GROUP).astype(np.float32) - 32
    return (values * scale).reshape(len(raw), columns)
