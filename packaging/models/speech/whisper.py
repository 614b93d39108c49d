"""A Whisper of CTranslate2's as one file of whisper.cpp's.

    whisper.py MODEL.BIN SOURCES OUT

MODEL.BIN is CTranslate2's (its parts joined), SOURCES the folder of the source package of openai-whisper, which has the
mel filters and the vocabularies. Weights go over as they are: half floats for matrices, whole floats for the rest.
"""

import base64
import re
import struct
import sys
from pathlib import Path

import numpy as np

TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}

# What a layer's parts are called there and here.
LAYER = [
    ("self_attention/layer_norm/gamma", "attn_ln.weight"),
    ("self_attention/layer_norm/beta", "attn_ln.bias"),
    ("self_attention/linear_1/weight", "attn.out.weight"),
    ("self_attention/linear_1/bias", "attn.out.bias"),
    ("attention/layer_norm/gamma", "cross_attn_ln.weight"),
    ("attention/layer_norm/beta", "cross_attn_ln.bias"),
    ("attention/linear_0/weight", "cross_attn.query.weight"),
    ("attention/linear_0/bias", "cross_attn.query.bias"),
    ("attention/linear_2/weight", "cross_attn.out.weight"),
    ("attention/linear_2/bias", "cross_attn.out.bias"),
    ("ffn/layer_norm/gamma", "mlp_ln.weight"),
    ("ffn/layer_norm/beta", "mlp_ln.bias"),
    ("ffn/linear_0/weight", "mlp.0.weight"),
    ("ffn/linear_0/bias", "mlp.0.bias"),
    ("ffn/linear_1/weight", "mlp.2.weight"),
    ("ffn/linear_1/bias", "mlp.2.bias"),
]

OUTSIDE = {
    "encoder/layer_norm/gamma": "encoder.ln_post.weight",
    "encoder/layer_norm/beta": "encoder.ln_post.bias",
    "decoder/layer_norm/gamma": "decoder.ln.weight",
    "decoder/layer_norm/beta": "decoder.ln.bias",
    "encoder/position_encodings/encodings": "encoder.positional_embedding",
    "decoder/position_encodings/encodings": "decoder.positional_embedding",
    "decoder/embeddings/weight": "decoder.token_embedding.weight",
    "encoder/conv1/weight": "encoder.conv1.weight",
    "encoder/conv1/bias": "encoder.conv1.bias",
    "encoder/conv2/weight": "encoder.conv2.weight",
    "encoder/conv2/bias": "encoder.conv2.bias",
}


def read_ct2(path):
    """The variables of a model file, by name."""
    data = Path(path).read_bytes()
    at = 0

    def number(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize(form)
        return value

    def text():
        nonlocal at
        length = number("H")
        value = data[at : at + length - 1].decode()
        at += length
        return value

    version = number("I")
    if version != 6:
        sys.exit(f"{path} is of version {version}; this reads version 6")
    text()
    number("I")
    variables = {}
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = TYPES[number("B")]
        size = number("I")
        variables[name] = np.frombuffer(data, kind, size // np.dtype(kind).itemsize, at).reshape(shape)
        at += size
    return variables


def tensors(variables):
    """The same, renamed: queries, keys and values stand alone; keys have no bias."""
    for name, value in variables.items():
        if name in OUTSIDE:
            yield OUTSIDE[name], value
            continue
        found = re.match(r"(encoder|decoder)/layer_(\d+)/(.*)", name)
        if not found:
            continue
        side, number, part = found.groups()
        block = f"{side}.blocks.{number}."
        known = dict(LAYER)
        kind = part.rsplit("/", 1)[1]
        if part.startswith("self_attention/linear_0/"):
            names, base = ["query", "key", "value"], "attn."
        elif part.startswith("attention/linear_1/"):
            names, base = ["key", "value"], "cross_attn."
        elif part in known:
            yield block + known[part], value
            continue
        else:
            continue
        for name, piece in zip(names, np.split(value, len(names))):
            if not (name == "key" and kind == "bias"):
                yield f"{block}{base}{name}.{kind}", piece


def main():
    model, sources, out = sys.argv[1:]
    variables = read_ct2(model)
    assets = Path(sources) / "whisper" / "assets"
    vocabulary, width = variables["decoder/embeddings/weight"].shape
    layers = [
        1 + max(int(m[1]) for m in (re.match(side + r"/layer_(\d+)/", name) for name in variables) if m)
        for side in ("encoder", "decoder")
    ]
    multilingual = vocabulary >= 51865
    ranks = (assets / ("multilingual.tiktoken" if multilingual else "gpt2.tiktoken")).read_text().split()
    tokens = [base64.b64decode(token) for token in ranks[::2]]
    if not multilingual:
        tokens.append(b"<|endoftext|>")
    mels = np.load(assets / "mel_filters.npz")["mel_80"].astype(np.float32)
    with open(out, "wb") as file:
        heads = width // 64
        file.write(struct.pack("<12i", 0x67676D6C, vocabulary, 1500, width, heads, layers[0], 448, width, heads, layers[1], 80, 1))
        file.write(struct.pack("<2i", *mels.shape) + mels.tobytes())
        file.write(struct.pack("<i", len(tokens)))
        for token in tokens:
            file.write(struct.pack("<i", len(token)) + token)
        for name, value in tensors(variables):
            if name.startswith("encoder.conv") and name.endswith("bias"):
                value = value.reshape(-1, 1)
            whole = value.ndim == 1 or "positional_embedding" in name or name.startswith("encoder.conv") and name.endswith("bias")
            value = np.ascontiguousarray(value, np.float32 if whole else np.float16)
            file.write(struct.pack("<3i", value.ndim, len(name), 0 if whole else 1))
            file.write(struct.pack(f"<{value.ndim}i", *reversed(value.shape)))
            file.write(name.encode() + value.tobytes())


main()
