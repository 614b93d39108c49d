"""Snapshot -> GGUF in any packing of docs/formats.md.  usage: export.py SNAPSHOT.npz TEACHER.gguf OUT.gguf PACKING [NAME]

PACKING is t2, t5, s34 or s24 for the ternary matrices; the embedding, which is also the head, is packed i6.  Tokenizer and
chat template are the teacher's.  The file is read back, and every matrix compared, before it counts as written.
"""

import os
import sys

import numpy as np

import gguf
import net
import packing
import snapshot
import tokenizer

LARGEST = 44 * 2**20  # it travels with every clone
CONTEXT = 2048  # tokens; trained on 1024, and the teacher's rotary base reaches 8192
KINDS = {"plain": "plain ternary", "34": "one zero in each group of four", "24": "two zeros in each group of four"}


def metadata(about, shape, teacher, name, how):
    text, number, real = (lambda v: gguf.Typed(gguf.STRING, v)), (lambda v: gguf.Typed(gguf.U32, v)), (lambda v: gguf.Typed(gguf.F32, v))
    tokens, types, merges = tokenizer.tables(teacher, shape.vocabulary)
    meta = {
        "general.architecture": text("bitnet"),
        "general.type": text("model"),
        "general.name": text(name),
        "general.size_label": text("135M"),
        "general.license": text("apache-2.0"),
        "general.description": text(
            f"Ternary ({KINDS[about['kind']]}) student distilled from SmolLM2-135M-Instruct; vocabulary trimmed to {shape.vocabulary} tokens"
        ),
        "general.base_model.count": number(1),
        "general.base_model.0.name": text("SmolLM2-135M-Instruct"),
        "general.base_model.0.organization": text("HuggingFaceTB"),
        "general.languages": gguf.Typed(gguf.ARRAY, ["en"], gguf.STRING),
        "bitnet.block_count": number(shape.layers),
        "bitnet.context_length": number(CONTEXT),
        "bitnet.embedding_length": number(shape.width),
        "bitnet.feed_forward_length": number(shape.hidden),
        "bitnet.attention.head_count": number(shape.heads),
        "bitnet.attention.head_count_kv": number(shape.kv_heads),
        "bitnet.attention.layer_norm_rms_epsilon": real(shape.epsilon),
        "bitnet.rope.freq_base": real(shape.theta),
        "bitnet.rope.dimension_count": number(shape.head),
        "bitnet.vocab_size": number(shape.vocabulary),
        "onebit.packing": text(how),
        "onebit.packing.token_embd.weight": text("i6"),
    }
    for key, typed in teacher.items():
        if key.startswith("tokenizer."):
            meta[key] = typed
    meta["tokenizer.ggml.tokens"] = gguf.Typed(gguf.ARRAY, tokens, gguf.STRING)
    meta["tokenizer.ggml.token_type"] = gguf.Typed(gguf.ARRAY, types, gguf.I32)
    meta["tokenizer.ggml.merges"] = gguf.Typed(gguf.ARRAY, merges, gguf.STRING)
    return meta


def write(source, teacher, out, how, name="onebit-mini"):
    about, shape, tensors, scales = snapshot.read(source)
    meta = metadata(about, shape, gguf.Reader(teacher).meta, name, how)
    body = {}

    def bytes_of(full, raw, columns):
        body[full] = ("I8", [raw.shape[1], raw.shape[0]], raw.tobytes())
        meta[f"onebit.columns.{full}"] = gguf.Typed(gguf.U32, columns)

    def floats(full, values):
        values = np.asarray(values, dtype=np.float32).reshape(-1)
        body[full] = ("F32", [values.size], values.tobytes())

    bytes_of("token_embd.weight", tensors["token_embd"], shape.width)
    floats("output_norm.weight", tensors["output_norm"])
    for layer in range(shape.layers):
        for part in net.ORDER:
            key = f"blk.{layer}.{part}"
            if part in net.LINEARS:
                bytes_of(f"{key}.weight", packing.PACK[how](tensors[key]), tensors[key].shape[1])
                floats(f"{key}.scale", [scales[key]])
            else:
                floats(f"{key}.weight", tensors[key])
    gguf.write(out, meta, body)
    verify(out, tensors, scales, how)
    size = os.path.getsize(out)
    print(f"{out}: {size} bytes = {size / 2**20:.2f} MiB, {how} + i6, {KINDS[about['kind']]}")
    if about["kind"] == "plain" and how == "t5" and size > LARGEST:
        raise SystemExit(f"{size} bytes are more than the {LARGEST} that may be committed: trim the vocabulary further")


def verify(path, tensors, scales, how):
    """The file holds exactly the codes and scales of the snapshot."""
    file = gguf.Reader(path)
    for name, codes in tensors.items():
        kind, dims, raw = file.tensors[f"{name}.weight"]
        if name.rsplit(".", 1)[-1] in net.LINEARS:
            columns = file.meta[f"onebit.columns.{name}.weight"].value
            read = packing.UNPACK[how](np.asarray(raw).reshape(dims[1], dims[0]), columns)
            scale = gguf.dequantise(*file.tensors[f"{name}.scale"])[0]
            if not (read == codes).all() or scale != np.float32(scales[name]):
                raise ValueError(f"{name} does not read back as written")


if __name__ == "__main__":
    write(*sys.argv[1:])
