#!/usr/bin/env python3
"""Records what llama.cpp answers to 40 fixed prompts: the reference of tests/full/parity.rs.

    benches/peers/parity.py LLAMA_SERVER MODEL.gguf [OPTION...] > tests/fixtures/parity/smollm2.json
    benches/peers/parity.py --against RECORDED.json LLAMA_SERVER MODEL.gguf [OPTION...]

Greedy, 64 tokens each, end-of-text not chosen before them. Token ids, so that neither tokenizer matters.
With --against the recorded answers are forced, token by token, on llama.cpp as the options set it up: how far it agrees
with itself says how much of a disagreement with anyone else is rounding.
"""

import contextlib
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request

PROMPTS = 40
TOKENS = 64
SEED = 20260422

SUBJECTS = ["a lighthouse", "the water cycle", "a lost dog", "bicycles", "the moon", "bread", "a small library",
            "honey bees", "old maps", "rain", "a violin", "the number seven", "trains", "a garden in winter",
            "compilers", "salt", "a chess game", "whales", "clocks", "a letter"]
FORMS = ["Write a short story about {}.", "Explain {} to a child.", "List five facts about {}.",
         "The most surprising thing about {} is", "Once upon a time there was {}", "Question: what do you know about {}?\nAnswer:",
         "Dear friend, today I want to tell you about {}.", "def describe():\n    # prints what is known about {}\n"]


def prompts():
    chosen = random.Random(SEED)
    return [chosen.choice(FORMS).format(chosen.choice(SUBJECTS)) for _ in range(PROMPTS)]


def ask(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=3600) as answer:
        return json.load(answer)


@contextlib.contextmanager
def server(program, model, options):
    """The port of a llama-server that lives as long as the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen([program, "-m", model, "--port", str(port), "-c", "2048", "-np", "1", "-t", "1", *options],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield port
    finally:
        child.terminate()
        child.wait()


GREEDY = {"temperature": 0, "samplers": ["top_k"], "top_k": 1, "ignore_eos": True, "return_tokens": True}


def record(port):
    cases = []
    for text in prompts():
        prompt = ask(port, "/tokenize", {"content": text, "add_special": True})["tokens"]
        answer = ask(port, "/completion", GREEDY | {"prompt": prompt, "n_predict": TOKENS, "cache_prompt": False})
        assert len(answer["tokens"]) == TOKENS, answer
        cases.append({"prompt": prompt, "tokens": answer["tokens"]})
        print(f"{len(cases)} of {PROMPTS}", file=sys.stderr)
    print('{"model": "SmolLM2-135M-Instruct.Q4_1.gguf", "cases": [')
    print(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases))
    print("]}")


def against(port, path):
    with open(path) as file:
        cases = json.load(file)["cases"]
    same, gaps = 0, []
    for case in cases:
        for i, wanted in enumerate(case["tokens"]):
            # The cache keeps the prefix: each request computes one position, as generating does.
            answer = ask(port, "/completion", GREEDY | {"prompt": case["prompt"] + case["tokens"][:i], "n_predict": 1,
                                                        "cache_prompt": True, "n_probs": 16})
            if answer["tokens"] == [wanted]:
                same += 1
                continue
            top = {entry["id"]: entry["logprob"] for entry in answer["completion_probabilities"][0]["top_logprobs"]}
            gaps.append(top[answer["tokens"][0]] - top[wanted] if wanted in top else float("inf"))
    total = sum(len(case["tokens"]) for case in cases)
    print(f"{same} of {total} the same ({100 * same / total:.2f} %); gaps of the others:",
          " ".join(f"{gap:.3f}" for gap in sorted(gaps, reverse=True)))


def main():
    arguments = sys.argv[1:]
    recorded = None
    if arguments[0] == "--against":
        recorded, arguments = arguments[1], arguments[2:]
    with server(arguments[0], arguments[1], arguments[2:]) as port:
        if recorded:
            against(port, recorded)
        else:
            record(port)


main()
