"""Toy data for a rehearsal of every stage on a CPU.  usage: rehearse.py DIR; then distill.py STAGE --toy --dir DIR"""

import json
import os
import sys

import numpy as np

folder, rng = sys.argv[1], np.random.default_rng(1)
os.makedirs(folder, exist_ok=True)
draw = lambda *shape: rng.integers(17, 512, shape).astype(np.uint16)
draw(200_000).tofile(os.path.join(folder, "docs.train.u16"))
for name in ("held-docs", "held-other"):
    draw(64 * 64).tofile(os.path.join(folder, f"{name}.u16"))
table = np.full((300, 24), 65535, np.uint16)
for row in table:
    row[: rng.integers(4, 20)] = 1
    row[row == 1] = draw(int((row == 1).sum()))
follow = {"answer": [5, 1, 6], "ask": [5, 1], "new": [5]}
np.savez(os.path.join(folder, "prompts.npz"), table=table, speaks=rng.choice([0, 1, 2], 300).astype(np.int8), held=16, follow=json.dumps(follow))
