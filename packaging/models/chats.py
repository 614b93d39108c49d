"""What the teacher wrote, made into training sequences: loops trimmed, rows packed; and the measure of repetition."""

import torch

NGRAM = 8
SEEN_OFTEN = 3  # a row is cut where some 8-gram stands for the third time
SHORTEST = 96


def occurrences(rows, n=NGRAM):
    """For each n-gram of each row, how often the same n-gram stood before it: [rows, length - n + 1]."""
    rows = rows.long()
    key = torch.zeros(len(rows), rows.shape[1] - n + 1, dtype=torch.long, device=rows.device)
    for i in range(n):  # a rolling hash; wrap-around at 64 bits is harmless
        key = key * 1_000_003 + rows[:, i : i + key.shape[1]] + 1
    order = key.argsort(dim=1, stable=True)
    ranked = key.gather(1, order)
    index = torch.arange(key.shape[1], device=rows.device).expand_as(ranked)
    fresh = torch.ones_like(ranked, dtype=torch.bool)
    fresh[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    start = torch.where(fresh, index, 0).cummax(1).values
    return torch.zeros_like(key).scatter(1, order, index - start)


def trimmed_lengths(rows, chunk=16_384):
    """How many tokens of each row to keep; 0 where too little is left."""
    lengths = []
    for part in rows.split(chunk):
        bad = occurrences(part) >= SEEN_OFTEN - 1
        first = torch.where(bad.any(1), bad.int().argmax(1), part.shape[1])
        lengths.append(torch.where(first >= SHORTEST, first, 0))
    return torch.cat(lengths)


def pack(rows, lengths, length):
    """Sequences [n, length] of uint16-range ids.  Each begins where a row begins; what overflows goes to sequences of leftovers."""
    out, leftovers, row_parts, filled = [], [], [], 0
    for row, keep in zip(rows, lengths.tolist()):
        if not keep:
            continue
        part = row[:keep]
        room = length - filled
        row_parts.append(part[:room])
        filled += min(keep, room)
        if filled == length:
            out.append(torch.cat(row_parts))
            if keep > room:
                leftovers.append(part[room:])
            row_parts, filled = [], 0
    tail = torch.cat(leftovers) if leftovers else torch.zeros(0, dtype=rows.dtype)
    n = len(tail) // length
    out += list(tail[: n * length].view(n, length))
    return torch.stack(out) if out else torch.zeros(0, length, dtype=rows.dtype)


def repeats(reply, n=6, times=3):
    """Whether some n-gram stands `times` times in a reply: the loops a reader would notice."""
    counts = {}
    for i in range(len(reply) - n + 1):
        gram = tuple(reply[i : i + n])
        counts[gram] = counts.get(gram, 0) + 1
        if counts[gram] >= times:
            return True
    return False
