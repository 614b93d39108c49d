"""Reads and writes GGUF files (version 3, little endian).  Knows the container only; what a tensor means is its caller's business."""

import struct

import numpy as np

ALIGNMENT = 32
# ggml tensor type -> (name, values a block, bytes a block); only the types this recipe meets.
KINDS = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 8: ("Q8_0", 32, 34), 24: ("I8", 1, 1)}
CODES = {name: code for code, (name, _, _) in KINDS.items()}
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
U32, F32, BOOL, STRING, ARRAY, U64, I32 = 4, 6, 7, 8, 9, 10, 5


class Typed:
    """A metadata value with its GGUF type; arrays also carry the type of their elements."""

    def __init__(self, kind, value, element=None):
        self.kind, self.value, self.element = kind, value, element


class Reader:
    """One GGUF file: `meta` maps keys to `Typed`, `tensors` maps names to (kind, dims in ggml order, bytes)."""

    def __init__(self, path):
        self.raw = np.memmap(path, dtype=np.uint8, mode="r")
        self.at = 0
        if self._take(4) != b"GGUF":
            raise ValueError(f"{path} is no GGUF file")
        version = self._scalar("I")
        if version not in (2, 3):
            raise ValueError(f"{path} has GGUF version {version}; 2 and 3 are known")
        n_tensors, n_meta = self._scalar("Q"), self._scalar("Q")
        self.meta = {}
        for _ in range(n_meta):
            key = self._string()
            self.meta[key] = self._value(self._scalar("I"))
        infos = []
        for _ in range(n_tensors):
            name = self._string()
            dims = [self._scalar("Q") for _ in range(self._scalar("I"))]
            infos.append((name, dims, self._scalar("I"), self._scalar("Q")))
        align = self.meta["general.alignment"].value if "general.alignment" in self.meta else ALIGNMENT
        base = (self.at + align - 1) // align * align
        self.tensors = {}
        for name, dims, code, offset in infos:
            kind, values, size = KINDS[code]
            n = int(np.prod(dims)) // values * size
            self.tensors[name] = (kind, dims, self.raw[base + offset : base + offset + n])

    def _take(self, n):
        self.at += n
        return self.raw[self.at - n : self.at].tobytes()

    def _scalar(self, code):
        return struct.unpack("<" + code, self._take(struct.calcsize("<" + code)))[0]

    def _string(self):
        return self._take(self._scalar("Q")).decode("utf-8")

    def _value(self, kind):
        if kind == STRING:
            return Typed(kind, self._string())
        if kind == ARRAY:
            element, n = self._scalar("I"), self._scalar("Q")
            if element == STRING:
                return Typed(kind, [self._string() for _ in range(n)], element)
            code = SCALARS[element]
            return Typed(kind, list(struct.unpack(f"<{n}{code}", self._take(n * struct.calcsize("<" + code)))), element)
        return Typed(kind, self._scalar(SCALARS[kind]))


def dequantise(kind, dims, raw):
    """The tensor as float32 of shape reversed(dims)."""
    shape = tuple(reversed(dims))
    raw = np.asarray(raw)
    if kind == "F32":
        return raw.view(np.float32).reshape(shape).copy()
    if kind == "F16":
        return raw.view(np.float16).reshape(shape).astype(np.float32)
    if kind == "Q8_0":
        block = raw.reshape(-1, 34)
        scale = block[:, :2].copy().view(np.float16).astype(np.float32)
        return (block[:, 2:].view(np.int8).astype(np.float32) * scale).reshape(shape)
    if kind == "Q4_1":
        block = raw.reshape(-1, 20)
        scale, low = (block[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
        codes = np.concatenate([block[:, 4:] & 15, block[:, 4:] >> 4], 1).astype(np.float32)
        return (codes * scale + low).reshape(shape)
    raise ValueError(f"cannot dequantise {kind}")


def _pack_string(text):
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def _pack_value(typed):
    if typed.kind == STRING:
        return _pack_string(typed.value)
    if typed.kind == ARRAY:
        head = struct.pack("<IQ", typed.element, len(typed.value))
        if typed.element == STRING:
            return head + b"".join(map(_pack_string, typed.value))
        return head + struct.pack(f"<{len(typed.value)}{SCALARS[typed.element]}", *typed.value)
    return struct.pack("<" + SCALARS[typed.kind], typed.value)


def write(path, meta, tensors):
    """Writes `meta` (key -> Typed) and `tensors` (name -> (kind, dims in ggml order, bytes)) in the order given."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(meta))]
    for key, typed in meta.items():
        head += [_pack_string(key), struct.pack("<I", typed.kind), _pack_value(typed)]
    offset, body = 0, []
    for name, (kind, dims, data) in tensors.items():
        _, values, size = KINDS[CODES[kind]]
        if len(data) != int(np.prod(dims)) // values * size:
            raise ValueError(f"{name}: {len(data)} bytes do not fill {kind} {dims}")
        head += [_pack_string(name), struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, CODES[kind], offset)]
        pad = -len(data) % ALIGNMENT
        body += [data, b"\0" * pad]
        offset += len(data) + pad
    head = b"".join(head)
    with open(path, "wb") as out:
        out.write(head + b"\0" * (-len(head) % ALIGNMENT))
        for part in body:
            out.write(part)
