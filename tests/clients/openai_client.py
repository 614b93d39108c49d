"""The official Python client against an appliance: openai_client.py http://127.0.0.1:PORT/v1

Every answer is validated strictly: a field that the client's types demand and the appliance leaves out is an error.
"""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, _strict_response_validation=True)
checks = 0


def check(holds, told=None):
    global checks
    assert holds, told
    checks += 1


models = client.models.list().data
model = models[0].id
check(models[0].object == "model" and models[0].created > 1e9 and models[0].owned_by, models[0])
check(client.models.retrieve(model).id == model)
messages = [{"role": "user", "content": "Count from one to five."}]
short = {"model": model, "messages": messages, "max_tokens": 16, "temperature": 0}
chat = client.chat.completions.create

answer = chat(**short)
text = answer.choices[0].message.content
check(answer.id.startswith("chatcmpl-") and answer.object == "chat.completion" and answer.created > 1e9, answer)
check(text and answer.usage.completion_tokens <= 16, answer)
check(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer.usage)
check(answer.usage.completion_tokens_details.reasoning_tokens == 0, answer.usage)
check(answer.usage.prompt_tokens_details.cached_tokens <= answer.usage.prompt_tokens, answer.usage)
check(answer.choices[0].finish_reason in ("stop", "length"), answer)
check(answer.choices[0].message.role == "assistant" and answer.choices[0].message.refusal is None, answer)
check(answer._request_id.startswith("req_"))

streamed, reasons, chunks = "", [], []
for chunk in chat(**short, stream=True, stream_options={"include_usage": True}):
    chunks.append(chunk)
    for choice in chunk.choices:
        streamed += choice.delta.content or ""
        reasons += [choice.finish_reason] if choice.finish_reason else []
check(streamed == text, (streamed, text))
check(len(reasons) == 1 and reasons[0] == answer.choices[0].finish_reason, reasons)
check(chunks[-1].usage.completion_tokens == answer.usage.completion_tokens and not chunks[-1].choices, chunks[-1])
check(all(chunk.usage is None for chunk in chunks[:-1]), "usage stands in the last chunk alone")
check(len({chunk.id for chunk in chunks}) == 1 and chunks[0].choices[0].delta.role == "assistant", chunks[0])
check(all(chunk.usage is None for chunk in chat(**short, stream=True)), "nobody asked for usage")

# Leaving a stream early is how these clients stop an answer.
with chat(**(short | {"max_tokens": 500}), stream=True) as stream:
    check(next(iter(stream)).choices)

# How answers are chosen and where they end.
check(chat(**short).choices[0].message.content == text, "greedy answers repeat")
warm = short | {"temperature": 1.0, "seed": 7}
check(chat(**warm).choices[0].message.content == chat(**warm).choices[0].message.content, "seeds repeat")
check(chat(**(warm | {"seed": 8, "max_tokens": 40})).choices[0].message.content !=
      chat(**(warm | {"max_tokens": 40})).choices[0].message.content, "another seed, another answer")
several = chat(**(warm | {"n": 3}))
check([choice.index for choice in several.choices] == [0, 1, 2], several)
check(several.usage.prompt_tokens == answer.usage.prompt_tokens, "the prompt counts once")
indexes = {choice.index for chunk in chat(**(warm | {"n": 2}), stream=True) for choice in chunk.choices}
check(indexes == {0, 1}, indexes)
word = text.split()[1]
stopped = chat(**short, stop=[word]).choices[0]
check(stopped.finish_reason == "stop" and word not in stopped.message.content, stopped)
check(chat(**short, stop=word).choices[0].message.content == stopped.message.content, "a stop may be one text")
check(chat(**(short | {"max_tokens": 1})).choices[0].finish_reason == "length")
newer = {key: value for key, value in short.items() if key != "max_tokens"} | {"max_completion_tokens": 2}
check(chat(**newer).usage.completion_tokens == 2)

likely = chat(**(short | {"max_tokens": 3}), logprobs=True, top_logprobs=2).choices[0].logprobs.content
check(len(likely) == 3 and all(len(token.top_logprobs) == 2 for token in likely), likely)
check(likely[0].logprob <= 0 and bytes(likely[0].bytes).decode() == likely[0].token, likely[0])
check(likely[0].top_logprobs[0].token == likely[0].token, "the greedy token is the likeliest")
check(chat(**short).choices[0].logprobs is None)
unlikely = [chunk.choices[0].logprobs for chunk in
            chat(**(short | {"max_tokens": 3}), logprobs=True, stream=True) if chunk.choices[0].logprobs]
check(sum(len(piece.content) for piece in unlikely) == 3, unlikely)

# Shapes and tools.
form = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
shaped = chat(**(short | {"max_tokens": 40}), response_format={
    "type": "json_schema", "json_schema": {"name": "form", "strict": True, "schema": form}})
check(json.loads(shaped.choices[0].message.content)["n"] in (1, 2), shaped)
loose = chat(**(short | {"max_tokens": 60}), response_format={"type": "json_object"}).choices[0]
check(loose.message.content.lstrip().startswith("{"), loose)
city = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Berlin", "Paris"]}},
        "required": ["city"], "additionalProperties": False}
tool = {"type": "function", "function": {"name": "weather", "description": "Tells the weather.", "parameters": city}}
asking = short | {"messages": [{"role": "user", "content": "How is the weather in Paris?"}], "max_tokens": 60,
                  "tools": [tool]}
called = chat(**asking, tool_choice="required").choices[0]
call = called.message.tool_calls[0]
check(called.finish_reason == "tool_calls" and called.message.content is None, called)
check(call.type == "function" and call.function.name == "weather" and call.id, call)
check(json.loads(call.function.arguments)["city"] in ("Berlin", "Paris"), call)
named = chat(**asking, tool_choice={"type": "function", "function": {"name": "weather"}}).choices[0].message
check(named.tool_calls[0].function.arguments == call.function.arguments, named)
pieces = [piece for chunk in chat(**asking, tool_choice="required", stream=True)
          for piece in chunk.choices[0].delta.tool_calls or []]
check(pieces[0].id and pieces[0].function.name == "weather" and {piece.index for piece in pieces} == {0}, pieces)
check("".join(piece.function.arguments or "" for piece in pieces) == call.function.arguments, pieces)
check(chat(**(asking | {"max_tokens": 8}), tool_choice="none").choices[0].message.tool_calls is None)
turns = asking["messages"] + [called.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
check(chat(**(asking | {"messages": turns, "max_tokens": 8})).choices[0].message.content is not None)

# Text completions.
complete = client.completions.create
completion = complete(model=model, prompt="Once upon a time", max_tokens=4, temperature=0)
check(completion.object == "text_completion" and completion.choices[0].text, completion)
check(completion.usage.completion_tokens == 4 and completion.choices[0].finish_reason == "length", completion)
echoed = complete(model=model, prompt="Once upon a time", max_tokens=4, temperature=0, echo=True)
check(echoed.choices[0].text == "Once upon a time" + completion.choices[0].text, echoed)
twice = complete(model=model, prompt=["Once", "Twice"], max_tokens=2, temperature=0, n=2)
check([choice.index for choice in twice.choices] == [0, 1, 2, 3], twice)
# The client's type for pieces of text demands a reason to end in each of them, which the original gives in the last.
lenient = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0)
check("".join(chunk.choices[0].text for chunk in lenient.completions.create(
    model=model, prompt="Once upon a time", max_tokens=4, temperature=0, stream=True)) == completion.choices[0].text)
judged = complete(model=model, prompt="Once upon a time", max_tokens=4, temperature=0, logprobs=2).choices[0].logprobs
check("".join(judged.tokens) == completion.choices[0].text and len(judged.token_logprobs) == 4, judged)
check(judged.text_offset[0] == 0 and judged.text_offset == sorted(judged.text_offset), judged)
biased = complete(model=model, prompt="Once upon a time", max_tokens=4, temperature=0, logit_bias={"5": 100})
check(biased.choices[0].text != completion.choices[0].text, biased)


def fails_with(kind, param, ask):
    try:
        ask()
    except kind as error:
        check(error.body and error.body.get("message"), error)
        check(param is None or error.body.get("param") == param, error.body)
        return
    raise AssertionError(f"no {kind.__name__}")


def wrong(kind, param, **changes):
    fails_with(kind, param, lambda: chat(**(short | changes)))


wrong(openai.NotFoundError, "model", model="no-such-model")
wrong(openai.BadRequestError, "temperature", temperature=-1)
wrong(openai.BadRequestError, "messages", messages=[])
wrong(openai.BadRequestError, "top_logprobs", top_logprobs=2)
wrong(openai.BadRequestError, "tool_choice", tool_choice="required")
wrong(openai.BadRequestError, "response_format", response_format={"type": "json_schema"})
wrong(openai.BadRequestError, "messages", messages=[{"role": "user", "content": [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}])
fails_with(openai.BadRequestError, "suffix",
           lambda: complete(model=model, prompt="a", suffix="b", max_tokens=1))
fails_with(openai.BadRequestError, "best_of",
           lambda: complete(model=model, prompt="a", best_of=3, max_tokens=1))

# Responses: a whole one, the next that goes on from it, a stream, a call, and what is kept of them.
said = {"model": model, "input": "Count from one to five.", "max_output_tokens": 16, "temperature": 0}
first = client.responses.create(**said)
check(first.object == "response" and first.output_text == text, first)
check(first.status in ("completed", "incomplete") and first.usage.output_tokens <= 16, first)
check(first.usage.output_tokens_details.reasoning_tokens == 0, first.usage)
second = client.responses.create(**(said | {"input": "Go on."}), previous_response_id=first.id)
check(second.previous_response_id == first.id and second.usage.input_tokens > first.usage.input_tokens, second)
check(client.responses.retrieve(second.id).output_text == second.output_text)
items = client.responses.input_items.list(second.id).data
check(items[0].content[0].text == "Go on.", items)
instructed = client.responses.create(**said, instructions="You are brief.")
check(instructed.instructions == "You are brief." and instructed.usage.input_tokens != first.usage.input_tokens)

with client.responses.stream(**said) as stream:
    events = list(stream)
kinds = [event.type for event in events]
check(events[-1].response.output_text == text, events[-1])
check(kinds[:2] == ["response.created", "response.in_progress"], kinds)
check(kinds[-1] in ("response.completed", "response.incomplete"), kinds)
check([event.sequence_number for event in events] == list(range(len(events))), kinds)
check("".join(event.delta for event in events if event.type == "response.output_text.delta") == text)

tool = {"type": "function", "name": "weather", "strict": True, "parameters": city}
called = client.responses.create(model=model, input="How is the weather in Paris?", tools=[tool], temperature=0,
                                 tool_choice="required", max_output_tokens=60)
call = called.output[0]
check(call.type == "function_call" and call.name == "weather" and "city" in call.arguments, called)
told = client.responses.create(model=model, previous_response_id=called.id, tools=[tool], tool_choice="none",
                               max_output_tokens=8, temperature=0,
                               input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}])
check(told.output_text, told)
shaped = client.responses.create(**(said | {"max_output_tokens": 40}), text={
    "format": {"type": "json_schema", "name": "form", "strict": True, "schema": form}})
check(json.loads(shaped.output_text)["n"] in (1, 2), shaped)

client.responses.delete(first.id)
fails_with(openai.NotFoundError, None, lambda: client.responses.retrieve(first.id))
fails_with(openai.NotFoundError, None, lambda: client.responses.create(**said, previous_response_id=second.id))
fails_with(openai.NotFoundError, None, lambda: client.moderations.create(input="x"))
fails_with(openai.BadRequestError, "background", lambda: client.responses.create(**said, background=True))
print(f"{checks} checks")
