"""Batched decoding with a key-value cache: the teacher writes chats, and any net answers test prompts."""

import time

import torch
import torch.nn.functional as F

import net
import tokenizer
from prompts import ASSISTANT, TEXT, USER

LOOP_EVERY, LOOP_WINDOW, LOOP_PERIODS = 16, 24, 48  # a row loops when its last 24 tokens repeat with a period up to 48
MIN_P = 0.02  # tokens below 2 % of the likeliest are never drawn


class Decoder:
    """One net with caches for `rows` sequences of up to `length` tokens, all at the same position."""

    def __init__(self, model, rows, length, fast=True):
        self.model, self.shape, self.rows = model, model.shape, rows
        shape = model.shape
        cache = lambda: torch.zeros(rows, shape.kv_heads, length, shape.head, device=net.DEVICE, dtype=net.HALF)
        self.keys, self.values = [cache() for _ in model.layers], [cache() for _ in model.layers]
        self.cos, self.sin = net.rotary_tables(shape, length)
        outer, before_out, before_down = net.entrances(shape, model.kind)
        group = shape.heads // shape.kv_heads

        def before(x, cos, sin, n1, qkv):
            q, k, v = net.split_heads(F.linear(outer(net.rms(x, n1, shape.epsilon)), qkv), shape)
            q, k = net.rotate(q, cos, sin), net.rotate(k, cos, sin)
            return q.reshape(-1, shape.kv_heads, group, shape.head), k.transpose(1, 2), v.transpose(1, 2)

        def after(x, a, s1, out, n2, gate_up, s2, down):
            x = x + F.linear(before_out(a, s1), out)
            gate, up = F.linear(outer(net.rms(x, n2, shape.epsilon)), gate_up).chunk(2, -1)
            return x + F.linear(before_down(F.silu(gate.float()) * up.float(), s2), down)

        def draw(hidden, embedding, cold):
            logits = (hidden @ embedding.T).float() * cold[:, None]
            top = logits.amax(-1, keepdim=True)
            noise = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)))
            return torch.where(logits < top + MIN_P_LOG, float("-inf"), logits + noise).argmax(-1)

        def greedy(hidden, embedding):
            return (hidden @ embedding.T).float().argmax(-1)

        wrap = net.compiled if fast else (lambda f: f)
        self.before, self.after, self.draw, self.greedy = wrap(before), wrap(after), wrap(draw), greedy

    @torch.no_grad()
    def hidden(self, tokens, t):
        """Final hidden state after `tokens` (one a row) at position t."""
        cos, sin = self.cos[t : t + 1], self.sin[t : t + 1]
        x = F.embedding(tokens, self.model.embedding)[:, None]
        for keys, values, (n1, qkv, s1, out, n2, gate_up, s2, down) in zip(self.keys, self.values, self.model.layers):
            q, k, v = self.before(x, cos, sin, n1, qkv)
            keys[:, :, t : t + 1], values[:, :, t : t + 1] = k, v
            a = F.scaled_dot_product_attention(q, keys[:, :, : t + 1], values[:, :, : t + 1])
            x = self.after(x, a.reshape(self.rows, 1, -1), s1, out, n2, gate_up, s2, down)
        return net.rms(x[:, 0], self.model.norm, self.shape.epsilon).to(net.HALF)


MIN_P_LOG = float(torch.tensor(MIN_P).log())


def loops(out, t):
    """Rows whose last LOOP_WINDOW tokens before t repeat what stood one period earlier, for some period."""
    span = LOOP_WINDOW + LOOP_PERIODS
    if t < span:
        return torch.zeros(len(out), dtype=torch.bool, device=out.device)
    last, recent = out[:, t - LOOP_WINDOW : t], out[:, t - span : t]
    same = (recent.unfold(1, LOOP_WINDOW, 1)[:, :LOOP_PERIODS] == last[:, None]).all(-1)
    return same.any(-1)


@torch.no_grad()
def write(decoder, table, speaks, held, follow, held_rows, length, steps=None):
    """One batch of rows of `length` tokens: prompts of `table`, the net's own text after them, fresh prompts when a chat ends.

    The last `held` prompts feed the first `held_rows` rows and no other.  Returns int32 [rows, length] on the device."""
    rows, device = decoder.rows, net.DEVICE
    width = table.shape[1]
    is_held = torch.arange(rows, device=device) < held_rows
    lasting = {k: torch.tensor(v, device=device) for k, v in follow.items()}
    cold = 1.0 / (0.5 + 0.5 * torch.rand(rows, device=device))  # temperature 0.5 to 1.0, one a row
    forced = torch.full((rows, length + width + 16), -1, dtype=torch.int32, device=device)
    out = torch.zeros(rows, length, dtype=torch.int32, device=device)

    def pick():
        train = torch.randint(0, len(table) - held, (rows,), device=device)
        return torch.where(is_held, torch.randint(len(table) - held, len(table), (rows,), device=device), train)

    def place(where, at, tokens):
        """Forces `tokens` [rows or 1, n] from position `at` in the rows of `where`."""
        view = forced[:, at : at + tokens.shape[1]]
        view.copy_(torch.where(where[:, None], tokens, view))

    everywhere = torch.ones(rows, dtype=torch.bool, device=device)
    first = pick()
    place(everywhere, 0, table[first])
    role, free = speaks[first], (table[first] >= 0).sum(-1)
    token = forced[:, 0].long()
    out[:, 0] = token
    for t in range((steps or length) - 1):
        sampled = decoder.draw(decoder.hidden(token, t), decoder.model.embedding, cold)
        wish = forced[:, t + 1].long()
        is_free = t + 1 >= free
        token = torch.where(wish >= 0, wish, sampled)
        ending = torch.where(role == TEXT, tokenizer.END_OF_TEXT, tokenizer.TURN_END)
        if t % LOOP_EVERY == 0:
            token = torch.where(loops(out, t + 1) & is_free, ending, token)
        out[:, t + 1] = token
        ended = is_free & ((token == ending) | (token == tokenizer.END_OF_TEXT))
        again = ended & (role == ASSISTANT) & (torch.rand(rows, device=device) < 0.4)  # the user asks on
        answer = ended & (role == USER)
        fresh = ended & ~again & ~answer
        place(ended, t + 2, torch.full((1, width + 8), -1, dtype=torch.int32, device=device))
        place(answer, t + 2, lasting["answer"].int()[None])
        place(again, t + 2, lasting["ask"].int()[None])
        following = pick()
        place(fresh, t + 2, lasting["new"].int()[None])
        place(fresh, t + 2 + len(lasting["new"]), table[following])
        begin = t + 2 + (table[following] >= 0).sum(-1) + len(lasting["new"])
        free = torch.where(fresh, begin, torch.where(answer, t + 2 + len(lasting["answer"]), torch.where(again, t + 2 + len(lasting["ask"]), free)))
        role = torch.where(fresh, speaks[following], torch.where(answer, ASSISTANT, torch.where(again, USER, role)))
    return out


@torch.no_grad()
def answer(model, prompts, new_tokens, temperatures, seed, fast=False):
    """Answers to prompts (lists of ids), one temperature each (0: the likeliest token): lists of ids, TURN_END included if reached."""
    torch.manual_seed(seed)
    rows, longest = len(prompts), max(map(len, prompts))
    decoder = Decoder(model, rows, longest + new_tokens, fast)
    lengths = torch.tensor([len(p) for p in prompts], device=net.DEVICE)
    forced = torch.full((rows, longest + new_tokens), -1, dtype=torch.long, device=net.DEVICE)
    for row, prompt in zip(forced, prompts):
        row[: len(prompt)] = torch.tensor(prompt, device=net.DEVICE)
    heat = torch.tensor(temperatures, device=net.DEVICE)
    out, done, token = forced.clone(), torch.zeros(rows, dtype=torch.bool, device=net.DEVICE), forced[:, 0]
    for t in range(longest + new_tokens - 1):
        hidden = decoder.hidden(token, t)
        drawn = decoder.draw(hidden, model.embedding, 1 / heat.clamp_min(1e-2))
        sampled = torch.where(heat > 0, drawn, decoder.greedy(hidden, model.embedding))
        token = torch.where(forced[:, t + 1] >= 0, forced[:, t + 1], sampled)
        out[:, t + 1] = token
        done |= (token == tokenizer.TURN_END) & (t + 1 >= lengths)
        if t % 32 == 0 and bool(done.all()):
            break
    answers = []
    for row, start in zip(out.tolist(), lengths.tolist()):
        reply = row[start : start + new_tokens]
        reply = reply[: reply.index(tokenizer.TURN_END) + 1] if tokenizer.TURN_END in reply else reply
        answers.append([i for i in reply if i >= 0])
    return answers


def write_for(seconds, decoder, prompts, length, held_rows, log):
    """Batches until the next one would not end in time: one int32 tensor [rows, length] each, on the CPU."""
    started, batches = time.time(), []
    while True:
        batches.append(write(decoder, *prompts, held_rows if not batches else 0, length).cpu())
        spent = time.time() - started
        log(f"batch {len(batches)}: {len(batches) * decoder.rows * length / 1e6:.2f} M tokens, {len(batches) * decoder.rows * length / spent / 1e3:.0f} k tokens/s")
        if spent * (len(batches) + 1) / len(batches) > seconds:
            return batches
