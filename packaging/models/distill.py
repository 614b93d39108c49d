"""Distils the teacher into ternary students.  One stage a call; every stage stops at --until and leaves its results on disk.

  distill.py write    the teacher writes chats                      -> chats.N.pt (N: --rank), held-chats.u16
  distill.py train    plain student from the teacher, all GPUs, until --first -> first.pt, OUT/first.npz; then rank 0 takes it
                      to its end -> OUT/plain.npz, while rank 1 branches off the 3:4 and 2:4 students -> OUT/34.npz, OUT/24.npz
  distill.py control  the teacher itself fine-tuned in bf16 on --tokens of the same text, all GPUs -> OUT/tuned.json
  distill.py compare  every kind of student from the teacher on --tokens, alike but for its kind, the ranks sharing the kinds
                      -> OUT/compare-KIND.json, OUT/compare-KIND.npz
  distill.py smoke    a few steps of everything, to compile and to find faults

--dir holds teacher.gguf, docs.train.u16, held-*.u16, prompts.npz.  Environment: RANK and WORLD_SIZE.
--toy runs any stage at toy size on a CPU; --random takes a teacher of random weights, to find faults and compile.
"""

import argparse
import json
import os
import threading
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

import chats
import evaluate
import generate
import net
import snapshot
from prompts import ASSISTANT

LENGTH = 1024  # tokens a sequence
BATCH = 16  # sequences a step and GPU
DOCUMENTS = 6  # of them
LABEL_SHARE = {"docs": 0.25, "chat": 0.1}  # weight of the text itself beside the teacher's distribution
RATES = {"linear": 2.5e-3, "norm": 1e-3, "embedding": 3e-4}
DECAY_WEIGHTS = 0.05  # on the linears, while the rate is stable; 0 in the decay, when masters should stop shrinking
WARM, MIX_STEPS = 60, 200  # steps of warm-up; steps from full precision to fully ternary
STABLE = 0.30  # of the first stage before the rate begins to fall
BRIDGE = 0.45  # the rate at the end of the first stage, as a share of its peak; the other stages fall from there
LOWEST = 0.01
TUNING_RATE = 1e-4  # of the control
FOUR_BITS = 0.4  # of a rotated student's tokens
ROW = 448  # tokens a row of generated text
ROWS = 8192  # at most; fewer where the device's memory does not hold their caches
HELD_ROWS = 320
CLIP = 1.0
PEAK_TFLOPS = 790  # of a large bf16 product on random data on this GPU: what utilisation is a share of

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
START = time.time()


def log(*words):
    print(f"[{time.time() - START:6.1f}]", *words, flush=True)


def flops(shape, length):
    """Operations a token: (student forward and backward, teacher forward)."""
    weights = shape.weights() + shape.vocabulary * shape.width
    attention = shape.layers * shape.width * length
    return 6 * (weights + attention), 2 * (weights + attention)


class Batches:
    """Training sequences on the device: documents cut at random places, chats in shuffled order; each rank sees its own."""

    def __init__(self, folder, length, batch, documents):
        read = lambda path: torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int32)).to(net.DEVICE)
        self.docs = read(os.path.join(folder, "docs.train.u16"))
        parts = [torch.load(os.path.join(folder, f)) for f in sorted(os.listdir(folder)) if f.startswith("chats.")]
        self.chat = torch.cat(parts).to(net.DEVICE) if parts else self.docs[: len(self.docs) // length * length].view(-1, length)
        self.length, self.batch, self.documents = length, batch, documents
        self.rewind(11 + RANK)
        self.share = torch.full((batch, length), LABEL_SHARE["chat"], device=net.DEVICE)
        self.share[:documents] = LABEL_SHARE["docs"]
        self.share[:, -1] = 0
        log(f"documents {len(self.docs) / 1e6:.2f} M tokens, chats {self.chat.numel() / 1e6:.2f} M")

    def rewind(self, seed):
        """Begins anew with the order that `seed` gives."""
        self.random = torch.Generator(device=net.DEVICE).manual_seed(seed)
        self.order, self.at, self.epochs = None, len(self.chat), 0

    def next(self):
        """(ids [batch, length], labels, weight of the labels), the last two flat."""
        n = self.batch - self.documents
        if self.at + n > len(self.chat):
            self.order, self.at, self.epochs = torch.randperm(len(self.chat), generator=self.random, device=net.DEVICE), 0, self.epochs + 1
        start = torch.randint(0, len(self.docs) - self.length, (self.documents, 1), generator=self.random, device=net.DEVICE)
        docs = self.docs[start + torch.arange(self.length, device=net.DEVICE)]
        ids = torch.cat([docs, self.chat[self.order[self.at : self.at + n]]]).long()
        self.at += n
        return ids, F.pad(ids[:, 1:], (0, 1)).reshape(-1), self.share.view(-1)


class Trainer:
    """One student in training: its optimiser, its clock and its evaluations."""

    def __init__(self, args, name, student, teacher, batches, held, rates=RATES):
        self.args, self.name, self.student, self.teacher, self.batches, self.held = args, name, student, teacher, batches, held
        groups = {"linear": [], "norm": [], "embedding": []}
        for key, p in student.masters.items():
            tail = key.rsplit(".", 1)[-1]
            groups["embedding" if tail == "token_embd" else "linear" if tail in net.LINEARS else "norm"].append(p)
        self.optimiser = torch.optim.AdamW(
            [dict(params=ps, lr=rates[k], base=rates[k], kind=k, weight_decay=0.0) for k, ps in groups.items()],
            betas=(0.9, 0.95), eps=1e-8, fused=net.DEVICE == "cuda",
        )
        self.cos, self.sin = net.rotary_tables(student.shape, batches.length)
        self.tokens, self.steps, self.seconds, self.curve, self.saving = 0, 0, 0.0, [], []

    def step(self, rate, decaying, mix):
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * rate
            group["weight_decay"] = DECAY_WEIGHTS if group["kind"] == "linear" and not decaying and self.student.kind else 0.0
        self.student.mix.fill_(mix)
        ids, labels, share = self.batches.next()
        flat = lambda hidden: hidden.reshape(-1, hidden.shape[-1])
        chunk = min(16_384, ids.numel())
        if self.teacher is None:
            hidden, embedding = self.student.hidden(ids, self.cos, self.sin)
            loss, nll = net.Head.apply(flat(hidden), embedding, None, None, labels, (share > 0).float(), chunk)
        else:
            target = self.teacher.hidden(ids, self.cos, self.sin)
            hidden, embedding = self.student.hidden(ids, self.cos, self.sin)
            loss, nll = net.Head.apply(flat(hidden), embedding, flat(target), self.teacher.embedding, labels, share, chunk)
        loss.backward()
        gradient = self.student.gradient
        if WORLD > 1 and dist.is_initialized():
            dist.all_reduce(gradient)
            gradient /= WORLD
        norm = gradient.norm()
        gradient *= (CLIP / (norm + 1e-6)).clamp(max=1.0)
        self.optimiser.step()
        gradient.zero_()
        self.tokens += ids.numel() * (WORLD if dist.is_initialized() else 1)
        self.steps += 1
        return loss.detach(), nll.detach(), norm

    def agree(self, progress):
        """Rank 0's clock for everybody: ranks that disagreed on the rate would drift apart."""
        if WORLD > 1 and dist.is_initialized():
            shared = torch.tensor([progress], device=net.DEVICE)
            dist.broadcast(shared, 0)
            return float(shared)
        if net.DEVICE == "cuda":
            torch.cuda.synchronize()
        return progress

    def run(self, until, schedule, ramp=False, evaluate_every=75.0, tokens=None):
        """Trains until the clock says `until`, or for `tokens` if these are reached first.

        `schedule` maps progress (0 to 1), by whichever of the two is further, to (share of the peak rate, whether it decays)."""
        begun, tokens_before, at_start = None, self.tokens, self.tokens
        progress, local = 0.0, 0
        next_evaluation = evaluate_every
        while True:
            if local % 8 == 0 or local < 4:
                if local == 2:  # compilation is over: this stage's clock starts
                    begun, tokens_before = time.time(), self.tokens
                progress = 0.0 if begun is None else (time.time() - begun) / max(1e-3, until - begun)
                progress = self.agree(max(progress, (self.tokens - at_start) / tokens if tokens else 0.0))
                if progress >= 1 or (self.args.toy and local >= 12):
                    break
                if begun is not None and RANK == 0 and time.time() - begun > next_evaluation:
                    next_evaluation += evaluate_every
                    self.measure(32)
            rate, decaying = schedule(progress)
            if ramp:
                rate *= min(1.0, (local + 1) / WARM)
            mix = min(1.0, (local + 1) / (4 if self.args.toy else MIX_STEPS)) if ramp else 1.0
            loss, nll, norm = self.step(rate, decaying, mix)
            if local % 100 == 0 or local in (1, 2, 3):
                speed = (self.tokens - tokens_before) / max(1e-3, time.time() - begun) if begun else 0
                log(f"{self.name} step {self.steps} {self.tokens / 1e6:.2f} M progress {progress:.3f} rate {rate:.3f} loss {float(loss):.4f} nll {float(nll):.4f} norm {float(norm):.3f} {speed / 1e3:.0f} k/s")
            local += 1
        spent = time.time() - begun if begun else 1.0
        speed = (self.tokens - tokens_before) / max(1e-3, spent)
        mine, theirs = flops(self.student.shape, self.batches.length)
        rate = speed / (WORLD if dist.is_initialized() else 1) * (mine + (theirs if self.teacher else 0)) / 1e12
        log(f"{self.name} stage over: {local} steps, {self.tokens / 1e6:.1f} M tokens in all, {spent:.0f} s, {speed / 1e3:.0f} k tokens/s, {rate:.0f} TFLOP/s a GPU = {100 * rate / PEAK_TFLOPS:.0f} % of {PEAK_TFLOPS}, chats {self.batches.epochs} epochs")
        return dict(steps=local, tokens=self.tokens - tokens_before, seconds=spent, tokens_per_second=speed, tflops_per_gpu=rate)

    def measure(self, sequences):
        """Perplexity and KL on the held-out sets with the weights as a file would hold them; the mask of every tensor checked."""
        student = net.Frozen(self.student.shape, self.student.quantised(), self.student.kind)
        point = dict(tokens=self.tokens, **evaluate.held_out(student, self.held, self.teacher, sequences))
        if self.student.kind:
            point["conforming"] = evaluate.conforming(self.student)
        self.curve.append(point)
        log(f"{self.name} at {self.tokens / 1e6:.1f} M: " + evaluate.words(point))
        return point

    def save(self, name):
        """Writes OUT/name.npz from another thread, so that training goes on."""
        tensors = {k: t.cpu().numpy() for k, t in self.student.quantised().items()}
        job = threading.Thread(target=snapshot.write, args=(os.path.join(self.args.out, f"{name}.npz"), tensors, self.student.kind, self.student.shape))
        job.start()
        self.saving.append(job)

    def finish(self, name, record):
        record |= dict(final=self.measure(64), curve=self.curve)
        json.dump(record, open(os.path.join(self.args.out, f"{name}.json"), "w"), indent=1)
        for job in self.saving:
            job.join()


def fall(high, low):
    return lambda progress: (high + (low - high) * progress, True)


def stable_then_fall(low):
    return lambda progress: (1.0, False) if progress < STABLE else (1.0 + (low - 1.0) * (progress - STABLE) / (1 - STABLE), True)


class Setting:
    """What all stages share: sizes, teacher, data."""

    def __init__(self, args, data=True):
        self.args = args
        self.shape = net.TOY if args.toy else net.FULL
        self.length, self.batch, self.documents = (64, 4, 2) if args.toy else (LENGTH, BATCH, DOCUMENTS)
        self.tensors = net.random_teacher(self.shape) if args.toy or args.random else net.load_teacher(os.path.join(args.dir, "teacher.gguf"), self.shape)
        self.teacher = net.Frozen(self.shape, self.tensors, None)
        if data:
            self.batches = Batches(args.dir, self.length, self.batch, self.documents)
            self.held = evaluate.load_held(args.dir, self.length)
            cos, sin = net.rotary_tables(self.shape, self.length)
            torch.manual_seed(0)
            self.gains = net.sub_norm_gains(self.teacher, self.batches.next()[0], cos, sin)

    def student(self, kind):
        tensors = self.tensors if kind is None else net.student_tensors(self.shape, self.tensors, self.gains, kind)
        return net.Student(self.shape, tensors, kind)

    def trainer(self, name, kind, teacher=True, rates=RATES):
        return Trainer(self.args, name, self.student(kind), self.teacher if teacher else None, self.batches, self.held, rates)


def load_prompts(folder):
    z = np.load(os.path.join(folder, "prompts.npz"))
    table = torch.from_numpy(z["table"].astype(np.int32))
    table[table == 65535] = -1
    return table.to(net.DEVICE), torch.from_numpy(z["speaks"].astype(np.int64)).to(net.DEVICE), int(z["held"]), json.loads(str(z["follow"]))


def rows_that_fit(shape, length):
    """The largest power of two, up to ROWS, whose caches and logits take three quarters of the free memory."""
    if net.DEVICE != "cuda":
        return ROWS
    each = shape.layers * 2 * shape.kv_heads * length * shape.head * 2 + shape.vocabulary * 4 * 4
    return min(ROWS, 1 << int(torch.cuda.mem_get_info()[0] * 0.75 / each).bit_length() - 1)


def write(args):
    setting = Setting(args, data=False)
    torch.manual_seed(100 + RANK)
    rows, length = (24, 256) if args.toy else (rows_that_fit(setting.shape, ROW), ROW)
    decoder = generate.Decoder(setting.teacher, rows, length)
    held_rows = (8 if args.toy else HELD_ROWS) if RANK == 0 else 0
    batches = generate.write_for(args.until - time.time(), decoder, load_prompts(args.dir), length, held_rows, log)
    rows_all = torch.cat(batches).to(net.DEVICE)
    lengths = chats.trimmed_lengths(rows_all).cpu()
    rows_all = rows_all.cpu()
    if held_rows and not os.path.exists(os.path.join(args.dir, "held-chats.u16")):  # a set once made stays
        kept = chats.pack(rows_all[:held_rows], lengths[:held_rows], setting.length)[:64]
        kept.numpy().astype(np.uint16).tofile(os.path.join(args.dir, "held-chats.u16"))
    lengths[:held_rows] = 0
    packed = chats.pack(rows_all, lengths, setting.length)
    torch.save(packed, os.path.join(args.dir, f"chats.{RANK}.pt"))
    whole = int((lengths == length).sum())
    log(f"{len(rows_all)} rows, {whole} whole, {int((lengths == 0).sum())} dropped, kept {packed.numel() / 1e6:.2f} M of {rows_all.numel() / 1e6:.2f} M tokens")


def first(setting, args):
    """The plain student from the teacher, on all GPUs at once; leaves first.pt for the branches."""
    if RANK == 0:
        points = {"teacher": evaluate.held_out(setting.teacher, setting.held, None, 64)}
        naive = setting.student("plain")
        points["untrained plain"] = evaluate.held_out(net.Frozen(setting.shape, naive.quantised(), "plain"), setting.held, setting.teacher, 64)
        del naive
        for name, point in points.items():
            log(name, evaluate.words(point))
        json.dump(points, open(os.path.join(args.out, "teacher.json"), "w"), indent=1)
    trainer = setting.trainer("first", "plain")
    if WORLD > 1:  # start alike to the last bit
        for p in trainer.student.masters.values():
            dist.broadcast(p.data, 0)
    record = trainer.run(args.first, stable_then_fall(BRIDGE), ramp=True)
    if RANK == 0:
        torch.save(dict(masters={k: p.data for k, p in trainer.student.masters.items()}, optimiser=trainer.optimiser.state_dict(), tokens=trainer.tokens, steps=trainer.steps, curve=trainer.curve), os.path.join(args.dir, "first.pt"))
        record["curve"] = trainer.curve
        json.dump(record, open(os.path.join(args.out, "first.json"), "w"), indent=1)
        trainer.save("first")


def train(args):
    """The first stage on all GPUs, then the plain student to its end on one and the others on the next."""
    if WORLD > 1:
        dist.init_process_group("nccl" if net.DEVICE == "cuda" else "gloo")
    setting = Setting(args)
    first(setting, args)
    if WORLD > 1:
        dist.barrier()
        dist.destroy_process_group()
    if net.DEVICE == "cuda":
        torch.cuda.empty_cache()
    if RANK == 0:
        plain(setting, args)
    if RANK == 1:
        others(setting, args)


def resume(trainer, folder):
    saved = torch.load(os.path.join(folder, "first.pt"), map_location=net.DEVICE)
    for key, p in trainer.student.masters.items():
        p.data.copy_(saved["masters"][key])
    base = [g["base"] for g in trainer.optimiser.param_groups]
    trainer.optimiser.load_state_dict(saved["optimiser"])
    for group, rate in zip(trainer.optimiser.param_groups, base):
        group["base"] = rate
    trainer.tokens, trainer.steps = saved["tokens"], saved["steps"]
    return trainer


def finished_student(setting, trainer, args):
    """Answers of a finished student to the held-out prompts."""
    model = net.Frozen(setting.shape, trainer.student.quantised(), trainer.student.kind)
    return evaluate.conversations(model, load_prompts(args.dir), 24 if args.toy else 256, args.toy)


def plain(setting, args):
    trainer = resume(setting.trainer("plain", "plain"), args.dir)
    half = time.time() + (args.until - time.time()) * 0.7
    middle = BRIDGE + (LOWEST - BRIDGE) * 0.7
    record = trainer.run(half, fall(BRIDGE, middle))
    trainer.save("plain-early")  # in hand, should the machine be lost
    more = trainer.run(args.until, fall(middle, LOWEST))
    trainer.save("plain")
    record = {k: record[k] + more[k] for k in ("steps", "tokens", "seconds")}
    record["post hoc"] = {}
    for kind in ("34", "24"):  # the counter-example: another pattern forced on a student that never saw it
        model = net.Frozen(setting.shape, trainer.student.quantised(kind), "plain")
        record["post hoc"][kind] = evaluate.held_out(model, setting.held, setting.teacher, 64)
        log("post hoc", kind, evaluate.words(record["post hoc"][kind]))
    record["chats"] = {"plain": finished_student(setting, trainer, args), "teacher": evaluate.conversations(setting.teacher, load_prompts(args.dir), 24 if args.toy else 256, args.toy)}
    for who, result in record["chats"].items():
        log(who, "chats", {k: v for k, v in result.items() if k != "samples"})
    trainer.finish("plain", record)


def others(setting, args):
    begin = time.time()
    for kind, part in (("34", 0.6), ("24", 1.0)):
        trainer = resume(setting.trainer(kind, kind), args.dir)
        record = trainer.run(begin + (args.until - begin) * part, fall(BRIDGE, LOWEST))
        trainer.save(kind)
        record["chats"] = {kind: finished_student(setting, trainer, args)}
        log(kind, "chats", {k: v for k, v in record["chats"][kind].items() if k != "samples"})
        trainer.finish(kind, record)
        del trainer


def control(args):
    """The teacher itself, fine-tuned in bf16 on as many tokens of the same text: what a student's ratio should be held against."""
    if WORLD > 1:
        dist.init_process_group("nccl" if net.DEVICE == "cuda" else "gloo")
    setting = Setting(args)
    trainer = setting.trainer("tuned", None, teacher=False, rates={k: TUNING_RATE for k in RATES})
    record = trainer.run(args.until, fall(1.0, LOWEST), ramp=True, evaluate_every=90, tokens=args.tokens)
    if RANK == 0:
        trainer.finish("tuned", record)
        record["chats"] = finished_student(setting, trainer, args)
        trainer.finish("tuned", record)
        log("tuned chats", {k: v for k, v in record["chats"].items() if k != "samples"})
    if WORLD > 1:
        dist.barrier()
        dist.destroy_process_group()


def compare(args):
    """Kinds side by side: the same tokens in the same order, the same schedule, each kind's constraint in the loop from the start.

    The rotated kind learns with 8-bit activations and has 4 bits for its last FOUR_BITS, as BitNet v2 does."""
    setting = Setting(args)
    schedule = stable_then_fall(LOWEST)
    for kind in args.kinds.split(",")[RANK::WORLD]:
        setting.batches.rewind(11)
        rotated = kind == "rotated-4"
        trainer = setting.trainer(f"compare-{kind}", "rotated-8" if rotated else kind)
        if rotated:
            early = 1 - FOUR_BITS
            change = time.time() + early * (args.until - time.time())  # should the clock end it before the tokens do
            record = trainer.run(change, lambda p: schedule(early * p), ramp=True, tokens=early * args.tokens)
            trainer.measure(64)
            trainer.student.become("rotated-4")
            more = trainer.run(args.until, lambda p: schedule(early + FOUR_BITS * p), tokens=FOUR_BITS * args.tokens)
            record = {k: record[k] + more[k] for k in ("steps", "tokens", "seconds")}
        else:
            record = trainer.run(args.until, schedule, ramp=True, tokens=args.tokens)
        trainer.save(f"compare-{kind}")
        if kind == "plain":  # the counter-examples: what nothing was trained for
            record["post hoc"] = {}
            for name, pattern, reader in (("34", "34", "plain"), ("24", "24", "plain"), ("4-bit activations", None, "plain-4")):
                model = net.Frozen(setting.shape, trainer.student.quantised(pattern), reader)
                record["post hoc"][name] = evaluate.held_out(model, setting.held, setting.teacher, 64)
                log("post hoc", name, evaluate.words(record["post hoc"][name]))
        trainer.finish(f"compare-{kind}", record)
        del trainer


def smoke(args):
    """Every compiled shape once: the decoder, the three blocks, the control; prints what a step takes."""
    setting = Setting(args)
    which = os.environ.get("SMOKE", "plain,34,24,rotated-8,rotated-4,tuned,write").split(",")
    clock = lambda: (net.DEVICE == "cuda" and torch.cuda.synchronize(), time.time())[1]
    for name in which:
        if name == "write":
            decoder = generate.Decoder(setting.teacher, 24 if args.toy else rows_that_fit(setting.shape, ROW), ROW)
            prompts = load_prompts(args.dir) if os.path.exists(os.path.join(args.dir, "prompts.npz")) else (
                torch.randint(20, 1000, (4096, 24), device=net.DEVICE, dtype=torch.int32), torch.full((4096,), ASSISTANT, device=net.DEVICE), 16, {"answer": [5, 6], "ask": [7], "new": [8]})
            for steps in (4, 40):
                at = clock()
                generate.write(decoder, *prompts, 0, ROW, steps)
                log(f"write: {steps} steps in {clock() - at:.2f} s, {steps * decoder.rows / (clock() - at) / 1e3:.0f} k tokens/s at the shortest lengths")
            del decoder
            continue
        trainer = setting.trainer(name, None if name == "tuned" else name, teacher=name != "tuned")
        for i in range(12):
            at = clock()
            loss, nll, norm = trainer.step(1e-3, False, 1.0)
            if i in (0, 1, 11):
                now = clock()
                log(f"{name} step {i}: {now - at:.3f} s, loss {float(loss):.4f}, nll {float(nll):.4f}, norm {float(norm):.4f}, {trainer.batches.batch * trainer.batches.length / (now - at) / 1e3:.0f} k tokens/s")
        trainer.measure(16)
        log(f"{name} memory {torch.cuda.max_memory_allocated() / 1e9:.0f} GB" if net.DEVICE == "cuda" else name)
        del trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=["write", "train", "control", "compare", "smoke"])
    parser.add_argument("--dir", default=".")
    parser.add_argument("--out", default="out")
    parser.add_argument("--until", type=float, default=time.time() + 60)
    parser.add_argument("--first", type=float, default=time.time() + 30)
    parser.add_argument("--tokens", type=float, default=20e6)
    parser.add_argument("--kinds", default="plain,rotated-4,34,24")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--random", action="store_true")
    given = parser.parse_args()
    os.makedirs(given.out, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.cache_size_limit = 64
    globals()[given.stage](given)
    log("end of", given.stage)
