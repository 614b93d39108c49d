"""The exact arithmetic of a student, from its GGUF file: what the engine must reproduce.

usage: reference.py FILE.gguf HELD.u16 [SEQUENCES]     perplexity over sequences of 1024 tokens

Every activation that enters a ternary matrix becomes int8 with one scale a token, a = max(max|x| / 127, 1e-8), rounded half
away from zero; y = sum(x8 * q) * a * scale.  The sums are integers below 2^24, so float32 products of whole numbers hold them
exactly.  Norms, attention and head are float32.
"""

import math
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

import gguf
import net
import packing

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Reference:
    def __init__(self, path):
        file = gguf.Reader(path)
        value = lambda key: file.meta[f"bitnet.{key}"].value
        self.layers, self.heads, self.kv_heads = value("block_count"), value("attention.head_count"), value("attention.head_count_kv")
        self.epsilon, self.theta = value("attention.layer_norm_rms_epsilon"), value("rope.freq_base")
        self.head = value("embedding_length") // self.heads
        how = file.meta["onebit.packing"].value

        def read(name):
            kind, dims, raw = file.tensors[name]
            if kind != "I8":
                return torch.from_numpy(gguf.dequantise(kind, dims, raw)).to(DEVICE)
            columns, rows = file.meta[f"onebit.columns.{name}"].value, np.asarray(raw).reshape(dims[1], dims[0])
            own = file.meta.get(f"onebit.packing.{name}")
            values = packing.unpack_i6(rows, columns) if own and own.value == "i6" else packing.UNPACK[how](rows, columns)
            return torch.from_numpy(values.astype(np.float32)).to(DEVICE)

        self.embedding, self.norm = read("token_embd.weight"), read("output_norm.weight")
        self.blocks = []
        for layer in range(self.layers):
            block = {part: read(f"blk.{layer}.{part}.weight") for part in net.ORDER}
            block |= {f"{part}.scale": float(read(f"blk.{layer}.{part}.scale")) for part in net.LINEARS}
            self.blocks.append(block)

    def rms(self, x, gain):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * gain

    @staticmethod
    def int8(x):
        a = (x.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-8)
        ratio = x / a
        return (ratio.sign() * (ratio.abs() + 0.5).floor()).clamp(-127, 127), a

    def linears(self, block, parts, x):
        x8, a = self.int8(x)
        return (F.linear(x8, block[part]) * a * block[f"{part}.scale"] for part in parts)

    @torch.no_grad()
    def hidden(self, ids):
        """ids [batch, length] -> final hidden states."""
        batch, length = ids.shape
        angle = torch.arange(length, device=DEVICE).double()[:, None] / self.theta ** (torch.arange(0, self.head, 2, device=DEVICE).double() / self.head)
        cos, sin = angle.cos().float().repeat(1, 2), angle.sin().float().repeat(1, 2)

        def rotate(t):
            low, high = t.chunk(2, -1)
            return t * cos + torch.cat([-high, low], -1) * sin

        x = F.embedding(ids, self.embedding)
        for layer, block in enumerate(self.blocks):
            q, k, v = (t.view(batch, length, -1, self.head).transpose(1, 2) for t in self.linears(block, ("attn_q", "attn_k", "attn_v"), self.rms(x, block["attn_norm"])))
            q, k = rotate(q), rotate(k)
            a = F.scaled_dot_product_attention(q, k.repeat_interleave(self.heads // self.kv_heads, 1), v.repeat_interleave(self.heads // self.kv_heads, 1), is_causal=True)
            a = a.transpose(1, 2).reshape(batch, length, -1)
            x = x + next(self.linears(block, ("attn_output",), self.rms(a, block["attn_sub_norm"])))
            gate, up = self.linears(block, ("ffn_gate", "ffn_up"), self.rms(x, block["ffn_norm"]))
            x = x + next(self.linears(block, ("ffn_down",), self.rms(F.silu(gate) * up, block["ffn_sub_norm"])))
        return self.rms(x, self.norm)


def perplexity(model, path, sequences, length=1024):
    ids = torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int64))[: sequences * length].view(-1, length).to(DEVICE)
    nll, n = 0.0, 0
    for row in ids:
        log_p = (model.hidden(row[None])[0, :-1] @ model.embedding.T).log_softmax(-1)
        nll -= float(log_p.gather(1, row[1:, None]).double().sum())
        n += length - 1
        print(f"{os.path.basename(path)} {n // (length - 1)} sequences: {math.exp(nll / n):.5f}", flush=True)
    return math.exp(nll / n)


if __name__ == "__main__":
    torch.backends.cuda.matmul.allow_tf32 = False
    perplexity(Reference(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 64)
