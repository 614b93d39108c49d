"""The official Python client against an appliance: anthropic_client.py http://127.0.0.1:PORT/v1

Every answer is validated strictly: a field that the client's types demand and the appliance leaves out is an error.
"""

import sys

import anthropic

checks = 0


def check(holds, told=None):
    global checks
    assert holds, told
    checks += 1


base = sys.argv[1].removesuffix("/v1")
client = anthropic.Anthropic(base_url=base, api_key="unused", max_retries=0, _strict_response_validation=True)
models = client.models.list(limit=5)
model = models.data[0].id
check(models.data[0].type == "model" and models.has_more is False, models)
check(client.models.retrieve(model).display_name)
messages = [{"role": "user", "content": "Count from one to five."}]
short = {"model": model, "messages": messages, "max_tokens": 16,
         "extra_body": {"temperature": 0}}  # newer clients have no argument for it

answer = client.messages.create(**short)
text = answer.content[0].text
check(answer.type == "message" and answer.role == "assistant" and answer.model == model, answer)
check(text and answer.content[0].type == "text", answer)
check(answer.stop_reason in ("end_turn", "max_tokens") and answer.stop_sequence is None, answer)
check(answer.usage.output_tokens <= 16, answer)
check(answer._request_id.startswith("req_"))
count = client.messages.count_tokens(model=model, messages=messages).input_tokens
check(count == answer.usage.input_tokens + answer.usage.cache_read_input_tokens, (count, answer.usage))
twice = [{"role": "user", "content": messages[0]["content"] * 2}]
longer = client.messages.count_tokens(model=model, messages=twice)
check(longer.input_tokens > count)

with client.messages.stream(**short) as stream:
    streamed = "".join(stream.text_stream)
    final = stream.get_final_message()
check(streamed == text, (streamed, text))
check(final.content[0].text == text and final.stop_reason == answer.stop_reason, final)
check(final.usage.output_tokens == answer.usage.output_tokens, final)

kinds = [event.type for event in client.messages.create(**short, stream=True)]
check(kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"], kinds)
check(kinds.count("content_block_start") == kinds.count("content_block_stop") == 1, kinds)

# Leaving a stream early is how these clients stop an answer.
with client.messages.create(**(short | {"max_tokens": 500}), stream=True) as stream:
    check(next(iter(stream)).type == "message_start")

word = text.split()[2]
stopped = client.messages.create(**short, stop_sequences=[word])
check(stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == word, stopped)

tool = {"name": "weather", "description": "Tells the weather.", "input_schema": {
    "type": "object", "properties": {"city": {"type": "string", "enum": ["Berlin", "Paris"]}}, "required": ["city"],
    "additionalProperties": False}}
asked = short | {"messages": [{"role": "user", "content": "How is the weather in Paris?"}], "max_tokens": 60,
                 "tools": [tool]}
called = client.messages.create(**asked, tool_choice={"type": "any"})
call = called.content[0]
check(called.stop_reason == "tool_use" and call.type == "tool_use", called)
check(call.name == "weather" and call.input["city"] in ("Berlin", "Paris"), call)
with client.messages.stream(**asked, tool_choice={"type": "tool", "name": "weather"}) as stream:
    check(stream.get_final_message().content[0].input == call.input)
turns = asked["messages"] + [
    {"role": "assistant", "content": [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]}]
check(client.messages.create(**(asked | {"messages": turns}), tool_choice={"type": "none"}).content)

bearer = anthropic.Anthropic(base_url=base, api_key=None, auth_token="unused", max_retries=0)
check(bearer.messages.create(**short).content[0].text == text)


def fails_with(kind, word, **changes):
    try:
        client.messages.create(**(short | changes))
    except kind as error:
        check(error.body["type"] == "error" and word in error.body["error"]["message"], error)
        return
    raise AssertionError(f"{changes} raised no {kind.__name__}")


fails_with(anthropic.NotFoundError, "no-such-model", model="no-such-model")
fails_with(anthropic.BadRequestError, "temperature", extra_body={"temperature": 1.5})
fails_with(anthropic.BadRequestError, "max_tokens", max_tokens=0)
fails_with(anthropic.BadRequestError, "messages", messages=[])
fails_with(anthropic.BadRequestError, "images", messages=[{"role": "user", "content": [
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}]}])
print(f"{checks} checks")
