"""The card's twenty chats, from a running appliance.

usage: ask.py ADDRESS [CARD.md]     prints them as the card has them; with CARD.md, says which differ from it instead

The likeliest token each time, no repetition penalty, at most 110 tokens; `[…]` after an answer that did not end by itself.
"""

import json
import re
import sys
import urllib.request

QUESTIONS = """Hello!;What is the capital of France?;What is the moon?;Why do we sleep?;Give me three tips for better sleep.;
What is a computer?;Explain gravity to a child.;Write a short poem about the sea.;How do I make tea?;
What is the difference between a cat and a dog?;What is Linux?;Tell me a fun fact about bees.;What is 2 + 3?;Who are you?;
Why is the sky blue?;What should I eat for breakfast?;What is a database?;I feel sad today.;
Write a Python function that adds two numbers.;Thank you!""".replace("\n", "").split(";")


def answer(address, question):
    body = dict(model="onebit-mini", messages=[dict(role="user", content=question)], temperature=0, repeat_penalty=1.0, max_tokens=110)
    call = urllib.request.Request(f"http://{address}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    choice = json.load(urllib.request.urlopen(call, timeout=120))["choices"][0]
    text, ended = choice["message"]["content"], choice["finish_reason"] == "stop"
    return text.strip() + ("" if ended else " […]"), ended


def quoted(text):
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def main(address, card=None):
    known = dict(re.findall(r"^\*\*(.+?)\*\*\n\n((?:>.*\n?)+)", open(card).read(), re.M)) if card else {}
    ended = differing = 0
    for question in QUESTIONS:
        text, by_itself = answer(address, question)
        ended += by_itself
        if not card:
            print(f"**{question}**\n\n{quoted(text)}\n")
        elif known.get(question, "").strip() != quoted(text).strip():
            differing += 1
            print(f"{question}\n  card: {known.get(question, 'not there')!r}\n  now:  {quoted(text)!r}")
    print(f"{ended} of {len(QUESTIONS)} end by themselves" + (f"; {differing} differ from the card" if card else ""))


if __name__ == "__main__":
    main(*sys.argv[1:])
