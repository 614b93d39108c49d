"""The official Python client against an appliance: openai_client.py http://127.0.0.1:PORT/v1"""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0)
model = client.models.list().data[0].id
assert client.models.retrieve(model).id == model
messages = [{"role": "user", "content": "Count from one to five."}]

answer = client.chat.completions.create(model=model, messages=messages, max_tokens=16, temperature=0)
text = answer.choices[0].message.content
assert text and answer.usage.completion_tokens <= 16, answer
assert answer.choices[0].finish_reason in ("stop", "length"), answer

streamed, reasons = "", []
for chunk in client.chat.completions.create(model=model, messages=messages, max_tokens=16, temperature=0, stream=True,
                                            stream_options={"include_usage": True}):
    for choice in chunk.choices:
        streamed += choice.delta.content or ""
        reasons += [choice.finish_reason] if choice.finish_reason else []
assert streamed == text, (streamed, text)
assert len(reasons) == 1 and chunk.usage.completion_tokens == answer.usage.completion_tokens, (reasons, chunk)

# Leaving a stream early is how these clients stop an answer.
with client.chat.completions.create(model=model, messages=messages, max_tokens=500, stream=True) as stream:
    next(iter(stream))

completion = client.completions.create(model=model, prompt="Once upon a time", max_tokens=4, temperature=0)
assert completion.choices[0].text, completion


def fails_with(kind, **changes):
    try:
        client.chat.completions.create(**({"model": model, "messages": messages, "max_tokens": 2} | changes))
    except kind as error:
        assert error.body and error.body.get("message"), error
        return
    raise AssertionError(f"{changes} raised no {kind.__name__}")


fails_with(openai.NotFoundError, model="no-such-model")
fails_with(openai.BadRequestError, temperature=-1)
fails_with(openai.BadRequestError, messages=[])
