#!/usr/bin/env python3
"""Records what llama.cpp answers to 40 fixed prompts: the reference of tests/full/parity.rs.

    benches/peers/parity.py LLAMA_SERVER MODEL.gguf > tests/fixtures/parity/smollm2.json

Greedy, 64 tokens each, end-of-text not chosen before them. Token ids, so that neither tokenizer matters.
"""

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


def main():
    server, model = sys.argv[1:3]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen([server, "-m", model, "--port", str(port), "-c", "2048", "-np", "1", "-t", "1"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        cases = []
        for text in prompts():
            prompt = ask(port, "/tokenize", {"content": text, "add_special": True})["tokens"]
            answer = ask(port, "/completion", {"prompt": prompt, "n_predict": TOKENS, "temperature": 0, "samplers": ["top_k"],
                                               "top_k": 1, "ignore_eos": True, "return_tokens": True, "cache_prompt": False})
            assert len(answer["tokens"]) == TOKENS, answer
            cases.append({"prompt": prompt, "tokens": answer["tokens"]})
            print(f"{len(cases)} of {PROMPTS}", file=sys.stderr)
    finally:
        child.terminate()
        child.wait()
    print('{"model": "SmolLM2-135M-Instruct.Q4_1.gguf", "cases": [')
    print(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases))
    print("]}")


main()
