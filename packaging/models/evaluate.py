"""Measures of a net: perplexity and KL on the held-out sets, masks, and what its chats look like."""

import math
import os

import numpy as np
import torch

import chats
import generate
import net
import tokenizer

SETS = {"docs": "held-docs.u16", "other": "held-other.u16", "chats": "held-chats.u16"}
CHATS = 200


def load_held(folder, length):
    """name -> ids [sequences, length]; a set that is not there yet is left out."""
    paths = {name: os.path.join(folder, file) for name, file in SETS.items()}
    read = lambda path: torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int64))
    cut = lambda ids: ids[: len(ids) // length * length].view(-1, length).to(net.DEVICE)
    return {name: cut(read(path)) for name, path in paths.items() if os.path.exists(path)}


@torch.no_grad()
def held_out(model, held, teacher, sequences, batch=16):
    """Perplexity on the first `sequences` of each set; KL(teacher || model) in nats a token where a teacher is given."""
    out = {}
    for name, ids in held.items():
        ids = ids[:sequences]
        cos, sin = net.rotary_tables(model.shape, ids.shape[1])
        nll, kl, n = 0.0, 0.0, 0
        for part in ids.split(batch):
            hidden = model.hidden(part, cos, sin, fast=False)[:, :-1]
            theirs = teacher.hidden(part, cos, sin, fast=False)[:, :-1] if teacher else None
            for row in range(len(part)):
                log_p = (hidden[row].float() @ model.embedding.float().T).log_softmax(-1)
                nll -= float(log_p.gather(1, part[row, 1:, None]).sum())
                if teacher:
                    log_t = (theirs[row].float() @ teacher.embedding.float().T).log_softmax(-1)
                    kl += float((log_t.exp() * (log_t - log_p)).sum())
                n += len(log_p)
        out[name] = math.exp(min(30.0, nll / n))
        if teacher:
            out[f"{name} kl"] = kl / n
    return out


def words(point):
    return ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in point.items())


@torch.no_grad()
def conforming(student):
    """How many ternary tensors hold only what their kind allows, as 'n of m'."""
    good = total = 0
    for name, p in student.masters.items():
        if name.rsplit(".", 1)[-1] not in net.LINEARS:
            continue
        codes, _ = net.ternary(p.detach(), student.kind)
        zeros = (codes.view(len(codes), -1, 4) == 0).sum(-1)
        wanted = net.KINDS[student.kind].zeros
        good += (not wanted or bool((zeros == wanted).all())) and bool(((codes == 0) | (codes.abs() == 1)).all())
        total += 1
    return f"{good} of {total}"


def conversations(model, prompts, new_tokens, toy=False):
    """200 answers to held-out prompts, half at temperature 0 and half at 0.7: how many end by themselves, how many repeat."""
    table, speaks, held, _ = prompts
    rows = table[-held:][: 8 if toy else CHATS].tolist()
    asked = [[i for i in row if i >= 0] for row in rows]
    heat = [0.0 if i % 2 == 0 else 0.7 for i in range(len(asked))]
    replies = generate.answer(model, asked, new_tokens, heat, seed=1)
    ended = lambda reply: reply[-1:] == [tokenizer.TURN_END]
    out = {"answers": len(replies), "new tokens": new_tokens}
    for name, keep in (("greedy", lambda t: t == 0), ("temperature 0.7", lambda t: t > 0)):
        mine = [r for r, t in zip(replies, heat) if keep(t)]
        out[f"ended, {name}"] = sum(map(ended, mine)) / len(mine)
        out[f"repeating, {name}"] = sum(map(chats.repeats, mine)) / len(mine)
    out["median length"] = sorted(map(len, replies))[len(replies) // 2]
    out["samples"] = [dict(prompt=p, reply=r, temperature=t) for p, r, t in zip(asked[:24], replies[:24], heat[:24])]
    return out
