"""Prompts from which the teacher writes its own training text.

usage: prompts.py DATA_DIR UNPACKED_DIR [COUNT]
Reads docs.train.u16 and tokenizer.json; writes prompts.npz: token ids, and who speaks next (1: the assistant answers,
0: the user's turn goes on, 2: plain text goes on).  Held-out prompts use topics and templates that no training prompt uses.
"""

import json
import os
import random
import re
import sys

import numpy as np
from tokenizers import Tokenizer

import tokenizer

ASSISTANT, USER, TEXT = 1, 0, 2
LONGEST = 176  # tokens; the rest of a row is for the teacher
HELD = 512

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
SYSTEMS = [SYSTEM] * 9 + [
    "You are a helpful assistant.", "You are a concise assistant. Answer in one or two sentences.", "Answer briefly.",
    "You are a friendly assistant who explains things simply.", "Answer using only the passage you are given.",
    "You are a patient teacher.", "You are an expert programmer.", "You run on the user's own computer and answer in plain English.", None,
]
TOPICS = """coffee;green tea;bread;the moon;black holes;photosynthesis;volcanoes;dinosaurs;the Roman Empire;gravity;electricity;magnets;the
water cycle;chess;football;basketball;swimming;yoga;meditation;sleep;dreams;memory;the human heart;the brain;vaccines;viruses;bacteria;DNA;
evolution;climate change;solar power;wind turbines;nuclear energy;batteries;electric cars;trains;airplanes;ships;bridges;skyscrapers;the
pyramids;ancient Greece;the French Revolution;the Renaissance;Shakespeare;poetry;novels;painting;music theory;the guitar;the piano;jazz;
film;photography;gardening;tomatoes;trees;forests;oceans;coral reefs;whales;dogs;cats;birds;ants;spiders;horses;elephants;
budgeting;saving money;investing;taxes;inflation;supply and demand;marketing;job interviews;resumes;leadership;teamwork;time management;
public speaking;negotiation;friendship;family;parenting;education;mathematics;algebra;geometry;probability;statistics;prime numbers;
fractions;Python;JavaScript;C programming;SQL;HTML;Linux;Debian;the command line;git;databases;computer networks;encryption;
passwords;machine learning;neural networks;robots;smartphones;the internet;email;spreadsheets;open source software;privacy;backups;rice;
pasta;soup;salad;cake;nutrition;vitamins;exercise;running;cycling;hiking;camping;Paris;New York;Africa;India;China;Brazil;Australia;the
Arctic;deserts;mountains;rivers;weather;hurricanes;earthquakes;the solar system;Mars;stars;galaxies;space travel;time zones;calendars;
languages;grammar;spelling;letters;storytelling;humor;philosophy;ethics;mythology;democracy;law;human rights;economics;trade;cities;farming;
recycling;water;air pollution;plastics;metals;chemistry;atoms;light;sound;heat;engines;clocks;maps;museums;libraries;schools;hospitals;first
aid;stress;happiness;kindness;honesty;courage;creativity;habits;goals;fashion;furniture;houses;bicycles;washing machines;
birthdays;weddings;holidays;games;puzzles;toys;friend groups;neighbours;the weekend;a rainy day;a lost key;a good breakfast""".replace("\n", " ").split(";")
HELD_TOPICS = """rainbows;the violin;bees;penguins;chocolate;Rust programming;World War I;roses;tea ceremonies;lighthouses;glaciers;
submarines;the printing press;tennis;knitting;origami;the stock market;vegetarian cooking;Norway;owls;bamboo;the telephone;comets;
cheese;public libraries;marathons;sailing;dictionaries;coins;windows""".replace("\n", " ").split(";")
QUESTIONS = """What is {t}?;What is {t}? Answer in one sentence.;Explain {t} to a child.;Explain {t} in simple words.;Tell me about {t}.;
Give me three facts about {t}.;List five tips about {t}.;Why is {t} important?;How does {t} work?;How do I learn about {t}?;Write a short
story about {t}.;Write a poem about {t}.;Write a paragraph about {t}.;Write an email to a colleague about {t}.;What are the advantages and
disadvantages of {t}?;Compare {t} and {u}.;What is the difference between {t} and {u}?;How are {t} and {u} related?;What is the history of
{t}?;Can you recommend a book about {t}?;Give me an example of {t}.;Summarize what you know about {t} in two sentences.;What should a
beginner know about {t}?;Make a short plan to study {t} in one week.;Write a dialogue between two friends about {t}.;What are common mistakes
with {t}?;Ask me three questions about {t}.;Define "{t}".;Use the word "{w}" in a sentence.;What does "{w}" mean?;What does the word {w} mean?;
Give me a synonym for "{w}".;Translate "{w}" into French.;How do you spell the plural of "{w}"?;I want to talk about {t}.;I am curious about
{t}. Where should I start?;Write an introduction to {t}.;Give me a title for an article on {t}.;Describe {t} to someone who has never heard
of it.;What would the world be like without {t}?;Is {t} dangerous?;Who invented {t}?;When was {t} discovered?;Where can I find {t}?;Write a
product description for {t}.;Give step by step instructions for {t}.;Write a Python function that {c}.;Write a shell command that {c}.;How do
I write JavaScript that {c}?;Explain how a program {c}.;What is {a} + {b}?;What is {a} times {b}?;What is {a} minus {b}?;If I have {a} apples
and give away {b}, how many are left?;A train travels {a} km in {b} hours. How fast is it?;Hello!;Hi, how are you?;Hi!;Who are you?;What can
you do?;What is your name?;Good morning! Can you help me with {t}?;Thanks for your help.;Thank you!;I feel sad today.;I am bored. What should I do?;Tell me a
joke.;Tell me a joke about {t}.;What is the capital of {p}?;Where is {p}?;What language is spoken in {p}?;Plan a three day trip to {p}.;What
food is popular in {p}?;Rewrite this sentence more politely: I want {t} now.;Correct the grammar: he dont know nothing about {t}.;Brainstorm
ideas for {t}.;Make a list of pros and cons of {t}.;Is this sentence positive or negative: I really love {t}.;Give me a shopping list for
{t}.;Which is better, {t} or {u}?;Should I care about {t}?;What makes {t} special?;How old is {t}?;What is the opposite of "{w}"?;Name three
kinds of {t}.;How can I get better at {t}?;Do you like {t}?;What do people think about {t}?;Give me advice about {t}.""".replace("\n", " ").split(";")
HELD_QUESTIONS = """What should I know about {t}?;Explain {t} briefly.;Tell me something interesting about {t}.;Why do people like {t}?;
Write a few sentences about {t}.;How would you describe {t}?;Give me a short introduction to {t}.;What is {t} used for?;Write two tips for
someone new to {t}.;What is special about {t} compared with {u}?""".replace("\n", " ").split(";")
CODE = """reverses a string;counts the words in a file;sorts a list of numbers;finds the largest file in a folder;reads a CSV file;checks
whether a number is prime;prints the current date;removes duplicates from a list;downloads a web page;parses JSON;computes a factorial;finds
all empty folders;renames many files;shows disk usage;merges two dictionaries;converts Celsius to Fahrenheit;generates a random password;
adds two numbers;counts the vowels in a string;prints the first ten squares""".replace("\n", " ").split(";")
PLACES = """France;Germany;Japan;Canada;Brazil;Egypt;Kenya;India;Italy;Spain;Poland;Mexico;Peru;Argentina;China;Vietnam;Thailand;Greece;
Turkey;Portugal;Ireland;Australia;New Zealand;South Africa;Morocco;Iceland;Cuba;Chile;Finland;Sweden;Austria;London;Tokyo;Rome""".replace("\n", " ").split(";")
OPENINGS = """;;;What;What is;What are;What is the best way to;How;How do I;How can I;How does;Why;Why do;When;Who;Where;Which;Can you;Can you
explain;Could you;Please;Write;Write a;Write a short;Give me;List;Explain;Describe;Tell me;Summarize;Create;Imagine;Suppose;Is it;Are there;Do
you;Does;I;I am;I'm;I have;I need;I want;My;The;In;If;Let;Help me;Find;Make;Compare;Rewrite;Translate;Edit;Calculate;Solve;Given;Consider;Read;
Use;Design;Suggest;Hi;Hello;Hey;Good morning;A;An;Here is;This;There;You;We;As a;Recently;Yesterday;In the year;At;Someone;People;My friend;
Our team;Today;Is there;Should I;Would;What does;What happens""".replace("\n", " ").split(";")
ASKS = """Summarize the passage.;What is this passage about?;Give a title to this passage.;List the main points.;Explain this passage simply.;
What does the passage say first?;Write one question that this passage answers, then answer it.;Rewrite the passage in plain words.;Answer from
the passage: what is described?;Summarize this in one sentence.;What can we learn from this text?""".replace("\n", " ").split(";")


def headwords(root):
    words = []
    for package in ("dict-foldoc", "dict-gcide", "dict-wn"):
        for folder, _, files in os.walk(os.path.join(root, package)):
            for file in files:
                if file.endswith(".index"):
                    found = {line.split("\t")[0] for line in open(os.path.join(folder, file), errors="replace")}
                    found = sorted(w for w in found if re.fullmatch(r"[A-Za-z][a-z -]{3,18}", w) and not w.startswith("00"))
                    words += random.Random(1).sample(found, min(7000, len(found)))
    return words


def main(data, root, count=60_000):
    rng = random.Random(7)
    bpe = Tokenizer.from_file(os.path.join(data, "tokenizer.json"))
    words = headwords(root)
    documents = np.fromfile(os.path.join(data, "docs.train.u16"), dtype=np.uint16)

    def passage(low, high):
        at = rng.randrange(len(documents) - high)
        return bpe.decode(documents[at : at + rng.randrange(low, high)].tolist(), skip_special_tokens=True).strip()

    def question(templates, topics):
        topic = lambda: rng.choice(topics) if topics is HELD_TOPICS or rng.random() < 0.55 else rng.choice(words).lower()
        return rng.choice(templates).strip().format(
            t=topic().strip(), u=topic().strip(), w=rng.choice(words).lower(), c=rng.choice(CODE).strip(),
            a=rng.randrange(2, 100), b=rng.randrange(2, 30), p=rng.choice(PLACES).strip(),
        )

    def open_chat(asked):
        system = rng.choice(SYSTEMS)
        return ("" if system is None else tokenizer.turn("system", system)) + asked

    def answered(text):
        return open_chat(tokenizer.turn("user", text) + "<|im_start|>assistant\n"), ASSISTANT

    texts = []
    while len(texts) < count:
        draw = rng.random()
        if draw < 0.50:
            asked = question(QUESTIONS, TOPICS)
            texts.append(answered(asked.rstrip("?.") if rng.random() < 0.1 else asked))
        elif draw < 0.60:
            text, ask = passage(40, 110), rng.choice(ASKS).strip()
            texts.append(answered(rng.choice([f"{text}\n\n{ask}", f"{ask}\n\n{text}", f"Context:\n{text}\n\nQuestion: {ask}"])))
        elif draw < 0.93:
            start = rng.choice(OPENINGS).strip()
            if start and rng.random() < 0.3:
                start += " " + rng.choice(TOPICS).strip()
            texts.append((open_chat(f"<|im_start|>user\n{start}"), USER))
        else:
            texts.append((passage(5, 40), TEXT))
    known = {text for text, _ in texts}
    held = []
    while len(held) < HELD:
        text = open_chat(tokenizer.turn("user", question(HELD_QUESTIONS, HELD_TOPICS)) + "<|im_start|>assistant\n")
        if text not in known:
            held.append((text, ASSISTANT))

    table = np.full((count + HELD, LONGEST), -1, dtype=np.int32)
    for row, coded in zip(table, bpe.encode_batch([text for text, _ in texts + held], add_special_tokens=False)):
        row[: len(coded.ids)] = coded.ids[:LONGEST]
    speaks = np.array([who for _, who in texts + held], dtype=np.int8)
    fits = (table[:, -1] < 0) | (np.arange(len(table)) >= count)
    table, speaks = table[fits], speaks[fits]
    encode = lambda text: bpe.encode(text, add_special_tokens=False).ids
    follow = {"answer": encode("\n<|im_start|>assistant\n"), "ask": encode("\n<|im_start|>user\n"), "new": encode("\n")}
    np.savez_compressed(
        os.path.join(data, "prompts.npz"), table=np.where(table < 0, 65535, table).astype(np.uint16), speaks=speaks, held=HELD,
        follow=json.dumps(follow),
    )
    print(len(table) - HELD, "training prompts,", HELD, "held out; follow-ups", follow)
    for text, who in rng.sample(texts, 8):
        print(who, repr(text))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:4]))
