"""A quantised student on disk: packed codes, scales, norms and 6-bit embeddings in one npz, ready for any packing."""

import dataclasses
import json

import numpy as np

import net
import packing

PACKING = {"plain": "t5", "34": "s34", "24": "s24", "rotated-4": "t5"}


def write(path, tensors, kind, shape):
    """`tensors` are float32 with every ternary matrix exactly scale * {-1, 0, 1}, as `Student.quantised` returns them."""
    how, arrays = PACKING[kind], {}
    for name, weight in tensors.items():
        tail = name.rsplit(".", 1)[-1]
        if tail in net.LINEARS:
            scale = np.abs(weight).max()
            codes = np.rint(weight / scale).astype(np.int8)
            if not (codes * scale == weight).all():
                raise ValueError(f"{name} is not ternary")
            arrays[name], arrays[f"{name}.scale"] = packing.PACK[how](codes), np.float32(scale)
        elif tail == "token_embd":
            arrays[name] = packing.pack_i6(weight)
        else:
            arrays[name] = weight.astype(np.float32)
    about = dict(kind=kind, packing=how, shape=dataclasses.asdict(shape))
    np.savez(path, about=json.dumps(about), **arrays)


def read(path):
    """(about, name -> int8 codes / float32 norms / i6 bytes, name -> scale)."""
    z = np.load(path)
    about = json.loads(str(z["about"]))
    shape = net.Shape(**about["shape"])
    tensors, scales = {}, {}
    for name in z.files:
        tail = name.rsplit(".", 1)[-1]
        if tail in net.LINEARS:
            tensors[name] = packing.UNPACK[about["packing"]](z[name], shape.linear(tail)[1])
            scales[name] = float(z[f"{name}.scale"])
        elif tail not in ("about", "scale"):
            tensors[name] = z[name]
    return about, shape, tensors, scales
