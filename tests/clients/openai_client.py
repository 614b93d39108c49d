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

# Responses: a whole one, the next that goes on from it, a stream, a call, and what is kept of them.
said = {"model": model, "input": "Count from one to five.", "max_output_tokens": 16, "temperature": 0}
first = client.responses.create(**said)
assert first.object == "response" and first.output_text == text, first
assert first.status in ("completed", "incomplete") and first.usage.output_tokens <= 16, first
second = client.responses.create(**(said | {"input": "Go on."}), previous_response_id=first.id)
assert second.previous_response_id == first.id and second.usage.input_tokens > first.usage.input_tokens, second
assert client.responses.retrieve(second.id).output_text == second.output_text
items = client.responses.input_items.list(second.id).data
assert items[0].content[0].text == "Go on.", items

with client.responses.stream(**said) as stream:
    events = list(stream)
kinds = [event.type for event in events]
assert events[-1].response.output_text == text, events[-1]
assert kinds[:2] == ["response.created", "response.in_progress"], kinds
assert kinds[-1] in ("response.completed", "response.incomplete"), kinds

tool = {"type": "function", "name": "weather", "strict": True, "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "enum": ["Berlin", "Paris"]}}, "required": ["city"],
    "additionalProperties": False}}
called = client.responses.create(model=model, input="How is the weather in Paris?", tools=[tool], temperature=0,
                                 tool_choice="required", max_output_tokens=60)
call = called.output[0]
assert call.type == "function_call" and call.name == "weather" and "city" in call.arguments, called
told = client.responses.create(model=model, previous_response_id=called.id, tools=[tool], tool_choice="none",
                               max_output_tokens=8, temperature=0,
                               input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}])
assert told.output_text, told

client.responses.delete(first.id)
for gone in (lambda: client.responses.retrieve(first.id),
             lambda: client.responses.create(**said, previous_response_id=second.id),
             lambda: client.moderations.create(input="x")):
    try:
        gone()
    except openai.NotFoundError as error:
        assert error.body and error.body.get("message"), error
    else:
        raise AssertionError("what is gone was found")
