"""The exact arithmetic of a student, from its GGUF file: what the engine must reproduce.

usage: reference.py ppl FILE.gguf HELD.u16 [SEQUENCES]     perplexity, sequences of 1024 tokens
       reference.py chat FILE.gguf TOKENIZER.json          the sample chats of the model card, from CHATS below

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
import tokenizer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CHATS = [
    "Hello!", "What is the capital of France?", "What is the moon?", "Why do we sleep?", "Give me three tips for better sleep.",
    "What is a computer?", "Explain gravity to a child.", "Write a short poem about the sea.", "How do I make tea?",
    "What is the difference between a cat and a dog?", "What is Linux?", "Tell me a fun fact about bees.", "What is 2 + 3?",
    "Who are you?", "Why is the sky blue?", "What should I eat for breakfast?", "What is a database?", "I feel sad today.",
    "Write a Python function that adds two numbers.", "Thank you!",
]
TEMPERATURE, TOP_K, PENALTY, PENALTY_WINDOW, SEED, NEW_TOKENS = 0.6, 40, 1.15, 64, 7, 160


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
    def hidden(self, ids, cache=None):
        """ids [batch, length] -> final hidden states; with a cache (a list, filled here) ids follow what it holds."""
        batch, length = ids.shape
        past = cache[0][0].shape[2] if cache else 0
        angle = torch.arange(past, past + length, device=DEVICE).double()[:, None] / self.theta ** (torch.arange(0, self.head, 2, device=DEVICE).double() / self.head)
        cos, sin = angle.cos().float().repeat(1, 2), angle.sin().float().repeat(1, 2)

        def rotate(t):
            low, high = t.chunk(2, -1)
            return t * cos + torch.cat([-high, low], -1) * sin

        x = F.embedding(ids, self.embedding)
        for layer, block in enumerate(self.blocks):
            q, k, v = (t.view(batch, length, -1, self.head).transpose(1, 2) for t in self.linears(block, ("attn_q", "attn_k", "attn_v"), self.rms(x, block["attn_norm"])))
            q, k = rotate(q), rotate(k)
            if cache is not None:
                if layer < len(cache):
                    k, v = torch.cat([cache[layer][0], k], 2), torch.cat([cache[layer][1], v], 2)
                    cache[layer] = (k, v)
                else:
                    cache.append((k, v))
            a = F.scaled_dot_product_attention(q, k.repeat_interleave(self.heads // self.kv_heads, 1), v.repeat_interleave(self.heads // self.kv_heads, 1), is_causal=length > 1)
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


@torch.no_grad()
def answers(model, bpe, questions):
    """(text, whether it ended by itself) for each question; all rows advance together, each with its own random numbers."""
    asked = [bpe.encode(tokenizer.turn("system", SYSTEM) + tokenizer.turn("user", q) + "<|im_start|>assistant\n", add_special_tokens=False).ids for q in questions]
    replies, ended = [[] for _ in asked], [False] * len(asked)
    random = [torch.Generator().manual_seed(SEED + i) for i in range(len(asked))]
    feed, cache = torch.tensor([ids[:1] for ids in asked], device=DEVICE), []
    for position in range(max(map(len, asked)) + NEW_TOKENS):
        logits = (model.hidden(feed, cache)[:, -1] @ model.embedding.T).cpu()
        following = []
        for row, (ids, reply) in enumerate(zip(asked, replies)):
            if position + 1 < len(ids):
                following.append([ids[position + 1]])
                continue
            if ended[row] or len(reply) == NEW_TOKENS:
                following.append([tokenizer.TURN_END])
                continue
            recent = torch.tensor(sorted(set(reply[-PENALTY_WINDOW:])), dtype=torch.long)
            scores = logits[row]
            scores[recent] = torch.where(scores[recent] > 0, scores[recent] / PENALTY, scores[recent] * PENALTY)
            top = (scores / TEMPERATURE).topk(TOP_K)
            token = int(top.indices[torch.multinomial(top.values.softmax(-1), 1, generator=random[row])])
            following.append([token])
            if token == tokenizer.TURN_END:
                ended[row] = True
            else:
                reply.append(token)
        if all(end or len(reply) == NEW_TOKENS for end, reply in zip(ended, replies)):
            break
        feed = torch.tensor(following, device=DEVICE)
    return [(bpe.decode(reply), end) for reply, end in zip(replies, ended)]


if __name__ == "__main__":
    torch.backends.cuda.matmul.allow_tf32 = False
    reference = Reference(sys.argv[2])
    if sys.argv[1] == "ppl":
        perplexity(reference, sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 64)
    else:
        from tokenizers import Tokenizer

        replies = answers(reference, Tokenizer.from_file(sys.argv[3]), CHATS)
        for question, (text, ended) in zip(CHATS, replies):
            print(f"> {question}\n\n{text.strip()}{'' if ended else ' […]'}\n", flush=True)
