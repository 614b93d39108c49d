"""Random schemas that can be satisfied and end, against an appliance: schemas.py http://127.0.0.1:PORT COUNT [cost]

Every finished answer must be valid by an independent validator; one that the token limit cut must be the beginning of a
valid one. Keywords that cannot be enforced must be refused by name. With `cost`, prints what the shape costs a token.
"""

import json
import random
import re
import sys
import urllib.error
import urllib.request

import jsonschema

base, count = sys.argv[1], int(sys.argv[2])
TOKENS = 120
words = random.Random(6)


def ask(path, body):
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def name():
    return "".join(words.choice("abcdefgh") for _ in range(words.randint(1, 5)))


def leaf():
    kind = words.randrange(8)
    if kind == 0:
        return {"type": "boolean"}
    if kind == 1:
        return {"type": "null"}
    if kind == 2:
        low = words.randint(-50, 50)
        return {"type": "integer", "minimum": low, "maximum": low + words.randint(0, 300)}
    if kind == 3:
        low = words.randint(0, 3)
        return {"type": "string", "minLength": low, "maxLength": low + words.randint(0, 8)}
    if kind == 4:
        return {"enum": [words.choice([name(), words.randint(0, 9), True, None]) for _ in range(words.randint(1, 4))]}
    if kind == 5:
        return {"const": words.choice([name(), words.randint(0, 99), False])}
    if kind == 6:
        return {"type": "string", "pattern": words.choice(["^[a-c]{2,4}$", "^[0-9]{4}-[0-9]{2}$", "^(yes|no)$"])}
    low = words.randint(-9, 9)
    return {"type": "number", "minimum": low, "maximum": low + 5}


def schema(depth):
    kind = words.random()
    if depth == 0 or kind < 0.3:
        return leaf()
    if kind < 0.75:
        names = list(dict.fromkeys(name() for _ in range(words.randint(1, 4))))
        required = [n for n in names if words.random() < 0.7]
        return {"type": "object", "properties": {n: schema(depth - 1) for n in names}, "required": required,
                "additionalProperties": False}
    if kind < 0.9:
        low = words.randint(0, 2)
        return {"type": "array", "items": schema(depth - 1), "minItems": low, "maxItems": low + words.randint(0, 2)}
    return {"anyOf": [schema(depth - 1) for _ in range(words.randint(2, 3))]}


# A matcher of beginnings. Each function yields the places where a value of the schema may end; END stands for a text
# that ran out while all was still well.
END = -1


def space(text, at):
    while at < len(text) and text[at] in " \n\t\r":
        at += 1
    return at


def literal(text, at, wanted):
    rest = text[at:]
    if rest.startswith(wanted):
        return at + len(wanted)
    return END if wanted.startswith(rest) else None


def scalar(text, at, known):
    """A string, number or word: where it ends, if the validator likes it or the text ran out in it."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, at)
    except ValueError:
        if text[at] in '"-' or any(w.startswith(text[at:]) for w in ("true", "false", "null")):
            yield END
        return
    if re.fullmatch(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]*)?", text[at:]):
        yield END  # more digits may follow
    if jsonschema.Draft202012Validator(known).is_valid(value):
        yield end


def begins(text, at, known):
    at = space(text, at)
    if at == len(text):
        yield END
    elif "anyOf" in known:
        for option in known["anyOf"]:
            yield from begins(text, at, option)
    elif known.get("type") == "object":
        if text[at] == "{":
            yield from members(text, at + 1, known, list(known["properties"].items()), True)
    elif known.get("type") == "array":
        if text[at] == "[":
            yield from items(text, at + 1, known, 0)
    else:
        yield from scalar(text, at, known)


def members(text, at, known, left, first):
    at = space(text, at)
    if at == len(text):
        yield END
        return
    if text[at] == "}" and not any(n in known["required"] for n, _ in left):
        yield at + 1
    if not first:
        if text[at] != ",":
            return
        at = space(text, at + 1)
    for index, (key, inner) in enumerate(left):
        end = literal(text, at, json.dumps(key))
        if end == END:
            yield END
        elif end is not None:
            colon = literal(text, space(text, end), ":")
            if colon == END:
                yield END
            elif colon is not None:
                for after in begins(text, colon, inner):
                    if after == END:
                        yield END
                    else:
                        yield from members(text, after, known, left[index + 1:], False)
        if key in known["required"]:
            return


def items(text, at, known, done):
    at = space(text, at)
    if at == len(text):
        yield END
        return
    if text[at] == "]" and done >= known["minItems"]:
        yield at + 1
    if done == known["maxItems"]:
        return
    if done:
        if text[at] != ",":
            return
        at += 1
    for after in begins(text, at, known["items"]):
        if after == END:
            yield END
        else:
            yield from items(text, after, known, done + 1)


def is_beginning(text, known):
    """Whether more text could make it valid, or none is needed: the limit may fall on the very end."""
    return any(end == END or space(text, end) == len(text) for end in begins(text, 0, known))


for text, known, holds in [
    ('{"a": tr', {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}, True),
    ('{"a": tx', {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}, False),
    ('{"b"', {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}, False),
    ('[1, 2', {"type": "array", "items": {"type": "integer"}, "minItems": 0, "maxItems": 2}, True),
    ('[1, 2, ', {"type": "array", "items": {"type": "integer"}, "minItems": 0, "maxItems": 2}, False),
]:
    assert is_beginning(text, known) is holds, (text, holds)

model = json.load(urllib.request.urlopen(base + "/v1/models"))["data"][0]["id"]
question = [{"role": "user", "content": "Fill in the form with a few short made-up values."}]


def shaped(known, **more):
    form = {"type": "json_schema", "json_schema": {"name": "form", "strict": True, "schema": known}}
    return ask("/v1/chat/completions", {"model": model, "messages": question, "max_tokens": TOKENS, "temperature": 0.6,
                                        "seed": 1, "response_format": form} | more)


finished = truncated = 0
shaped_ms, shaped_tokens, free_ms, free_tokens = 0.0, 0, 0.0, 0
for number in range(count):
    known = schema(3)
    status, answer = shaped(known)
    assert status == 200, (number, known, answer)
    choice = answer["choices"][0]
    text = choice["message"]["content"]
    if choice["finish_reason"] == "length":
        truncated += 1
        assert is_beginning(text, known), (number, known, text)
    else:
        finished += 1
        jsonschema.Draft202012Validator(known).validate(json.loads(text))
    if len(sys.argv) > 3 and answer["timings"]["predicted_n"] > 8:
        shaped_ms += answer["timings"]["predicted_ms"]
        shaped_tokens += answer["timings"]["predicted_n"] - 1
        status, free = ask("/v1/chat/completions", {
            "model": model, "messages": question, "max_tokens": answer["timings"]["predicted_n"], "temperature": 0.6,
            "seed": 1, "ignore_eos": True})
        free_ms += free["timings"]["predicted_ms"]
        free_tokens += free["timings"]["predicted_n"] - 1
print(f"{finished} of {count} answers finished and are valid, {truncated} were cut and are beginnings of valid ones")
assert finished > count / 2, "too few answers finish to show anything"

refused = []
for keyword, known in {
    "not": {"not": {"type": "string"}},
    "if": {"if": {"type": "string"}, "then": {"minLength": 3}},
    "dependentRequired": {"type": "object", "dependentRequired": {"a": ["b"]}},
    "dependentSchemas": {"type": "object", "dependentSchemas": {"a": {"required": ["b"]}}},
    "uniqueItems": {"type": "array", "uniqueItems": True, "maxItems": 3},
    "contains": {"type": "array", "contains": {"type": "integer"}},
    "propertyNames": {"type": "object", "propertyNames": {"pattern": "^a$"}},
    "unevaluatedProperties": {"type": "object", "unevaluatedProperties": False},
    "unevaluatedItems": {"type": "array", "unevaluatedItems": False},
    "contentEncoding": {"type": "string", "contentEncoding": "base64"},
    "minContains": {"type": "array", "contains": {"type": "integer"}, "minContains": 2},
}.items():
    status, answer = shaped(known, max_tokens=24)
    if status == 400:
        assert keyword in answer["error"]["message"] or "contains" in answer["error"]["message"], (keyword, answer)
        refused.append(keyword)
        continue
    choice = answer["choices"][0]
    if choice["finish_reason"] != "length":
        jsonschema.Draft202012Validator(known).validate(json.loads(choice["message"]["content"]))
print(f"refused by name: {', '.join(refused)}")
assert len(refused) >= 6, refused
if shaped_tokens:
    cost = (shaped_ms / shaped_tokens) / (free_ms / free_tokens) - 1
    print(f"a token costs {shaped_ms / shaped_tokens:.2f} ms in a shape, {free_ms / free_tokens:.2f} ms without: "
          f"{cost * 100:+.1f} %")
