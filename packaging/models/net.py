"""Teacher and student as tensors: quantisers with a straight-through estimator, blocks, and the distillation head.

The student is llama.cpp's `bitnet` graph at the teacher's shape: RMSNorm before every quantiser (so one more before the
attention output and one before the down projection), ternary matrices with one scale each (BitNet b1.58), int8 activations
per token, split-half rotary embedding, SiLU gate, tied head.  The rotated kinds of BitNet v2 turn what enters the attention
output and the down projection by a Hadamard matrix first.  Files, schedules and data are not this module's business.
"""

import functools
import math
import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import gguf
import tokenizer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALF = torch.bfloat16
LINEARS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
NORMS = ("attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm")
ORDER = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_sub_norm", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_sub_norm", "ffn_down")


@dataclass(frozen=True)
class Kind:
    zeros: int = 0  # in each group of four; 0: wherever rounding puts them
    rotated: bool = False  # a Hadamard rotation before the attention output and the down projection
    bits: int = 8  # of the activations


KINDS = {
    "plain": Kind(), "34": Kind(zeros=1), "24": Kind(zeros=2),
    "rotated-8": Kind(rotated=True), "rotated-4": Kind(rotated=True, bits=4),
    "plain-4": Kind(bits=4),
}

COMPILER = os.environ.get("ONEBIT_COMPILER", "inductor" if DEVICE == "cuda" else "none")


def compiled(function):
    return function if COMPILER == "none" else torch.compile(function, dynamic=False, backend=COMPILER)


@dataclass(frozen=True)
class Shape:
    width: int = 576
    layers: int = 30
    heads: int = 9
    kv_heads: int = 3
    hidden: int = 1536
    head: int = 64
    vocabulary: int = tokenizer.VOCABULARY
    theta: float = 100_000.0
    epsilon: float = 1e-5

    def linear(self, name):
        """(rows, columns) of a matrix."""
        return {
            "attn_q": (self.heads * self.head, self.width), "attn_k": (self.kv_heads * self.head, self.width),
            "attn_v": (self.kv_heads * self.head, self.width), "attn_output": (self.width, self.heads * self.head),
            "ffn_gate": (self.hidden, self.width), "ffn_up": (self.hidden, self.width), "ffn_down": (self.width, self.hidden),
        }[name]

    def norm(self, name):
        return {"attn_sub_norm": self.heads * self.head, "ffn_sub_norm": self.hidden}.get(name, self.width)

    def weights(self):
        """Number of ternary weights."""
        return self.layers * sum(a * b for a, b in map(self.linear, LINEARS))


FULL = Shape()
TOY = Shape(width=64, layers=2, heads=4, kv_heads=2, hidden=192, head=16, vocabulary=512)  # for the rehearsal on a CPU


def random_teacher(shape):
    """Random weights under the teacher's names: a rehearsal needs shapes, not knowledge."""
    draw = torch.Generator().manual_seed(1)
    out = {"token_embd": torch.randn(shape.vocabulary, shape.width, generator=draw) * 0.05, "output_norm": torch.ones(shape.width)}
    for layer in range(shape.layers):
        for name in LINEARS:
            out[f"blk.{layer}.{name}"] = torch.randn(*shape.linear(name), generator=draw) * 0.05
        for name in ("attn_norm", "ffn_norm"):
            out[f"blk.{layer}.{name}"] = torch.ones(shape.width)
    return out


def load_teacher(path, shape):
    """float32 tensors of the teacher by name, without `.weight`; rotary rows of q and k put back into split-half order."""
    out = {}
    for full_name, (kind, dims, raw) in gguf.Reader(path).tensors.items():
        name = full_name.removesuffix(".weight")
        weight = torch.from_numpy(gguf.dequantise(kind, dims, raw))
        if name == "token_embd":
            weight = weight[: shape.vocabulary].clone()
        elif name.endswith(("attn_q", "attn_k")):  # llama files keep rotary pairs side by side
            rows, columns = weight.shape
            weight = weight.view(rows // shape.head, shape.head // 2, 2, columns).transpose(1, 2).reshape(rows, columns).contiguous()
        out[name] = weight
    return out


# ---------------------------------------------------------------- quantisers


def ternary(weight, kind):
    """(codes as floats, scale) of one matrix; the scale is a bf16 number, so that what is trained is what is stored."""
    size = weight.abs()
    zeros = KINDS[kind].zeros
    if not zeros:  # absmean, BitNet b1.58
        scale = size.mean().clamp_min(1e-6).to(HALF).float()
        return (weight / scale).round().clamp(-1, 1), scale
    groups = size.view(weight.shape[0], -1, 4)
    mine, other = groups.unsqueeze(-1), groups.unsqueeze(-2)
    lane = torch.arange(4, device=weight.device)
    before = (other < mine) | ((other == mine) & (lane[None, :] < lane[:, None]))
    keep = (before.to(torch.int32).sum(-1) >= zeros).view(weight.shape)
    scale = ((size * keep).sum() / (weight.numel() * (4 - zeros) / 4)).clamp_min(1e-6).to(HALF).float()
    return torch.where(keep, torch.where(weight >= 0, 1.0, -1.0), 0.0), scale


def fake_ternary(weight, kind, mix):
    """`weight` in the forward pass replaced by (1 - mix) * itself + mix * its ternary form; gradients pass straight through."""
    with torch.no_grad():
        codes, scale = ternary(weight, kind)
        change = mix * (codes * scale - weight)
    return (weight + change).to(HALF)


def fake_int8(x):
    """Activations on 255 levels per token, straight through."""
    step = (x.abs().amax(-1, keepdim=True) / 127).clamp_min(1e-8)
    return (x + ((x / step).round().clamp(-127, 127) * step - x).detach()).to(HALF)


def fake_int4(x):
    """Activations on 16 levels per token by their mean size, -8 to 7 (BitNet v2), straight through."""
    step = (x.abs().mean(-1, keepdim=True) / math.sqrt(7)).clamp_min(1e-8)
    return (x + ((x / step).round().clamp(-8, 7) * step - x).detach()).to(HALF)


@functools.cache
def hadamard(n):
    """An n by n matrix of +-1 whose rows are orthogonal: Paley's of order 12 where 12 divides n, doubled as often as needed."""
    if n == 1:
        return torch.ones(1, 1)
    if n % 12 == 0:
        squares = {i * i % 11 for i in range(11)}
        seed = torch.ones(12, 12)
        seed[1:, 0] = -1.0
        seed[1:, 1:] = torch.tensor([[1.0 if (j - i) % 11 in squares else -1.0 for j in range(11)] for i in range(11)])
        return torch.kron(seed, hadamard(n // 12))
    if n % 2:
        raise ValueError(f"no rotation of order {n} is known here: choose a width of 2^a * 12^b")
    return torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), hadamard(n // 2))


def fake_i6(weight):
    """Embeddings on the 63 levels of packing i6 (groups of 32, float16 scale), straight through."""
    with torch.no_grad():
        groups = weight.view(weight.shape[0], -1, 32)
        scale = (groups.abs().amax(-1, keepdim=True) / 31).clamp_min(2.0**-24).half().float()
        change = ((groups / scale).round().clamp(-31, 31) * scale).view(weight.shape) - weight
    return (weight + change).to(HALF)


fake_i6_compiled = compiled(fake_i6)

# ---------------------------------------------------------------- blocks


def rotary_tables(shape, length):
    rate = 1.0 / shape.theta ** (torch.arange(0, shape.head, 2, device=DEVICE).float() / shape.head)
    angle = torch.arange(length, device=DEVICE).float()[:, None] * rate
    return torch.cat([angle.cos(), angle.cos()], -1), torch.cat([angle.sin(), angle.sin()], -1)


def rms(x, gain, epsilon):
    x = x.float()
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * gain


def rotate(x, cos, sin):  # x: batch, position, head, lane
    x = x.float()
    low, high = x.chunk(2, -1)
    return (x * cos[:, None] + torch.cat([-high, low], -1) * sin[:, None]).to(HALF)


def split_heads(qkv, shape):
    batch, length, _ = qkv.shape
    q, kv = shape.heads * shape.head, shape.kv_heads * shape.head
    q, k, v = qkv.split((q, kv, kv), -1)
    return (t.reshape(batch, length, -1, shape.head) for t in (q, k, v))


def attend(q, k, v):
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True)
    return out.transpose(1, 2).reshape(q.shape[0], q.shape[1], -1)


def entrances(shape, kind):
    """What a kind does to activations before its matrices: (after a block's own norms, before the attention output, before the
    down projection).  The last two take the gain of the further norm too.  `kind` None is the teacher, which does nothing."""
    if kind is None:
        leave = lambda x, gain=None: x.to(HALF)
        return leave, leave, leave
    quant = fake_int4 if KINDS[kind].bits == 4 else fake_int8

    def inner(width):
        if not KINDS[kind].rotated:
            return lambda x, gain: quant(rms(x, gain, shape.epsilon))
        turn = hadamard(width).to(DEVICE, HALF)
        return lambda x, gain: quant(F.linear(rms(x, gain, shape.epsilon).to(HALF), turn).float() * width**-0.5)

    return quant, inner(shape.heads * shape.head), inner(shape.hidden)


def turned(weight):
    """A matrix that reads rotated activations and gives what `weight` gives for unrotated ones."""
    width = weight.shape[1]
    return weight @ hadamard(width).T * width**-0.5


def frozen_block(shape, kind):
    """A block with ready bf16 weights: the teacher's (kind None) or a quantised student's."""
    outer, before_out, before_down = entrances(shape, kind)

    def block(x, cos, sin, n1, qkv, s1, out, n2, gate_up, s2, down):
        q, k, v = split_heads(F.linear(outer(rms(x, n1, shape.epsilon)), qkv), shape)
        a = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + F.linear(before_out(a, s1), out)
        gate, up = F.linear(outer(rms(x, n2, shape.epsilon)), gate_up).chunk(2, -1)
        return x + F.linear(before_down(F.silu(gate.float()) * up.float(), s2), down)

    return block


class Frozen:
    """A net that is not trained: the teacher (kind None), or a student with its weights quantised once."""

    def __init__(self, shape, tensors, kind):
        self.shape, self.kind = shape, kind
        self.embedding, self.norm = tensors["token_embd"].to(DEVICE, HALF), tensors["output_norm"].to(DEVICE)
        self.layers = []
        for layer in range(shape.layers):
            get = lambda name: tensors[f"blk.{layer}.{name}"].to(DEVICE)
            norm = lambda name: get(name) if kind else None
            self.layers.append((
                get("attn_norm"), torch.cat([get("attn_q"), get("attn_k"), get("attn_v")]).to(HALF), norm("attn_sub_norm"),
                get("attn_output").to(HALF), get("ffn_norm"), torch.cat([get("ffn_gate"), get("ffn_up")]).to(HALF),
                norm("ffn_sub_norm"), get("ffn_down").to(HALF),
            ))
        self.block = frozen_block(shape, kind)
        self.fast = self.block if kind else compiled(self.block)

    @torch.no_grad()
    def hidden(self, ids, cos, sin, fast=True):
        x = F.embedding(ids, self.embedding)
        for parts in self.layers:
            x = (self.fast if fast else self.block)(x, cos, sin, *parts)
        return rms(x, self.norm, self.shape.epsilon).to(HALF)


@torch.no_grad()
def sub_norm_gains(teacher, ids, cos, sin):
    """Median root mean square, over tokens, of what enters the output and the down projections of each teacher layer."""
    shape, x, gains = teacher.shape, F.embedding(ids, teacher.embedding), []
    for n1, qkv, _, out, n2, gate_up, _, down in teacher.layers:
        q, k, v = split_heads(F.linear(rms(x, n1, shape.epsilon).to(HALF), qkv), shape)
        a = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + F.linear(a, out)
        gate, up = F.linear(rms(x, n2, shape.epsilon).to(HALF), gate_up).chunk(2, -1)
        m = F.silu(gate.float()) * up.float()
        x = x + F.linear(m.to(HALF), down)
        gains.append(tuple(float(t.float().pow(2).mean(-1).sqrt().median()) for t in (a, m)))
    return gains


def training_block(shape, kind):
    """A block over float32 masters.  `kind` None is the teacher's own form, for the control that fine-tunes it."""
    weight = (lambda w, mix: fake_ternary(w, kind, mix)) if kind else (lambda w, mix: w.to(HALF))
    outer, before_out, before_down = entrances(shape, kind)

    def block(x, cos, sin, mix, n1, wq, wk, wv, s1, wo, n2, wg, wu, s2, wd):
        qkv = torch.cat([weight(wq, mix), weight(wk, mix), weight(wv, mix)])
        q, k, v = split_heads(F.linear(outer(rms(x, n1, shape.epsilon)), qkv), shape)
        a = attend(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + F.linear(before_out(a, s1), weight(wo, mix))
        gate, up = F.linear(outer(rms(x, n2, shape.epsilon)), torch.cat([weight(wg, mix), weight(wu, mix)])).chunk(2, -1)
        return x + F.linear(before_down(F.silu(gate.float()) * up.float(), s2), weight(wd, mix))

    return block


@functools.cache
def compiled_block(shape, kind):
    return compiled(training_block(shape, kind))


class Student:
    """Float32 masters of a student (or, with kind None, of a teacher to be fine-tuned) and their one flat gradient."""

    def __init__(self, shape, tensors, kind):
        self.shape = shape
        self.names = list(tensors)
        self.masters = {name: torch.nn.Parameter(t.detach().to(DEVICE, torch.float32).clone()) for name, t in tensors.items()}
        self.gradient = torch.zeros(sum(p.numel() for p in self.masters.values()), device=DEVICE)
        at = 0
        for p in self.masters.values():
            p.grad = self.gradient[at : at + p.numel()].view_as(p)
            at += p.numel()
        self.mix = torch.ones((), device=DEVICE)
        self.become(kind)

    def become(self, kind):
        """The same masters under another kind."""
        self.kind, self.block = kind, compiled_block(self.shape, kind)

    def hidden(self, ids, cos, sin):
        """(final hidden states, the embedding as the forward pass sees it)."""
        unused = torch.zeros((), device=DEVICE)
        embedding = self.masters["token_embd"]
        embedding = embedding.to(HALF) if self.kind is None else fake_i6_compiled(embedding)
        x = F.embedding(ids, embedding)
        for layer in range(self.shape.layers):
            x = self.block(x, cos, sin, self.mix, *(self.masters.get(f"blk.{layer}.{name}", unused) for name in ORDER))
        return rms(x, self.masters["output_norm"], self.shape.epsilon).to(HALF), embedding

    @torch.no_grad()
    def quantised(self, kind=None):
        """The tensors as a file will hold them (float32); `kind` forces another pattern of zeros on the same masters."""
        out = {}
        for name, p in self.masters.items():
            tail = name.rsplit(".", 1)[-1]
            if self.kind is None:
                out[name] = p.detach()
            elif name == "token_embd":
                out[name] = fake_i6(p.detach()).float()
            elif tail in LINEARS:
                codes, scale = ternary(p.detach(), kind or self.kind)
                out[name] = codes * scale
            else:
                out[name] = p.detach()
        return out


def student_tensors(shape, teacher, gains, kind):
    """The teacher's tensors plus the two norms that it lacks, set so that the first forward pass is nearly unchanged."""
    out = dict(teacher)
    if KINDS[kind].rotated:
        out |= {name: turned(w) for name, w in teacher.items() if name.endswith(("attn_output", "ffn_down"))}
    for layer, (attention, mlp) in enumerate(gains):
        out[f"blk.{layer}.attn_sub_norm"] = torch.full((shape.norm("attn_sub_norm"),), attention)
        out[f"blk.{layer}.ffn_sub_norm"] = torch.full((shape.norm("ffn_sub_norm"),), mlp)
    return out


# ---------------------------------------------------------------- head and loss


@compiled
def head_rows(student, teacher, labels, share, weight):
    """Per row: KL(teacher || student), -log p of the label, and the gradient of the mixed loss with respect to the logits.

    The target is (1 - share) of the teacher's distribution and `share` of the label itself."""
    student, teacher = student.float(), teacher.float()
    log_s = student - torch.logsumexp(student, -1, keepdim=True)
    log_t = teacher - torch.logsumexp(teacher, -1, keepdim=True)
    p_t = log_t.exp()
    hit = torch.arange(student.shape[-1], device=student.device)[None, :] == labels[:, None]
    target = p_t * (1 - share)[:, None] + torch.where(hit, share[:, None], 0.0)
    return (p_t * (log_t - log_s)).sum(-1), -torch.where(hit, log_s, 0.0).sum(-1), ((log_s.exp() - target) * weight).to(HALF)


@compiled
def label_rows(student, labels, weight):
    """As `head_rows` without a teacher."""
    student = student.float()
    log_s = student - torch.logsumexp(student, -1, keepdim=True)
    hit = torch.arange(student.shape[-1], device=student.device)[None, :] == labels[:, None]
    return -torch.where(hit, log_s, 0.0).sum(-1), ((log_s.exp() - torch.where(hit, 1.0, 0.0)) * weight[:, None]).to(HALF)


class Head(torch.autograd.Function):
    """Tied head and loss in chunks: the logits of a whole batch never exist at once, and are never kept for backward."""

    @staticmethod
    def forward(ctx, hidden, embedding, teacher_hidden, teacher_embedding, labels, share, chunk):
        n = len(hidden)
        g_hidden, g_embedding = torch.empty_like(hidden), torch.zeros(embedding.shape, device=hidden.device)
        kl, nll = torch.zeros((), device=hidden.device), torch.zeros((), device=hidden.device)
        for i in range(0, n, chunk):
            h, part = hidden[i : i + chunk], slice(i, i + chunk)
            logits = h @ embedding.T
            if teacher_hidden is None:
                rows_nll, d = label_rows(logits, labels[part], share[part] / n)
                kl += rows_nll.sum()
            else:
                rows_kl, rows_nll, d = head_rows(logits, teacher_hidden[part] @ teacher_embedding.T, labels[part], share[part], 1.0 / n)
                kl += rows_kl.sum()
            nll += rows_nll.sum()
            g_hidden[part] = d @ embedding
            g_embedding += d.T @ h
        ctx.save_for_backward(g_hidden, g_embedding)
        kl, nll = kl / n, nll / n  # the gradient belongs to the first, whatever its value
        ctx.mark_non_differentiable(nll)
        return kl, nll

    @staticmethod
    def backward(ctx, grad, _):
        g_hidden, g_embedding = ctx.saved_tensors
        return g_hidden * grad.to(HALF), (g_embedding * grad).to(HALF), None, None, None, None, None
