"""The official Python client of Ollama against an appliance: ollama_client.py http://127.0.0.1:PORT

Every answer is validated by the client's own types as they stand: nothing is converted to make it fit.
"""

import collections
import json
import sys

import ollama

typed = collections.Counter()


class Strict(ollama.Client):
    def _request(self, cls, *args, **kwargs):
        def read(**answer):
            typed[cls.__name__] += 1
            return cls.model_validate_json(json.dumps(answer), strict=True)

        return super()._request(read, *args, **kwargs)


client = Strict(host=sys.argv[1])
checks = 0


def check(value, told=None):
    global checks
    checks += 1
    assert value, told


models = client.list().models
model = models[0].model
check(model.endswith(":latest"), model)
check(len(models[0].digest) == 64 and models[0].size > 0, models[0])
check(models[0].modified_at.year >= 2025 and models[0].details.format == "gguf", models[0])

shown = client.show(model)
check(shown.modelinfo["general.architecture"] == "llama", shown.modelinfo)
check("completion" in shown.capabilities and shown.template, shown.capabilities)

messages = [{"role": "user", "content": "Count from one to five."}]
options = {"num_predict": 16, "temperature": 0, "seed": 1}
answer = client.chat(model, messages, options=options)
check(answer.done and answer.done_reason in ("stop", "length"), answer)
check(answer.eval_count <= 16 and answer.prompt_eval_count > 5, answer)
check(answer.total_duration >= answer.eval_duration > 0, answer)

parts = list(client.chat(model, messages, options=options, stream=True))
check("".join(part.message.content for part in parts) == answer.message.content, parts)
check([part.done for part in parts].count(True) == 1 and parts[-1].done, parts)
check(parts[-1].eval_count == answer.eval_count, parts[-1])

# Leaving a stream early is how these clients stop an answer.
long = client.chat(model, messages, options={"num_predict": 400}, stream=True)
check(next(long).done is False)
long.close()

check([m.model for m in client.ps().models] == [model])
check(client.ps().models[0].context_length > 0)

generated = client.generate(model, "Say a word.", options=options)
check(generated.response and generated.done, generated)
more = client.generate(model, "Another.", context=generated.context, options=options)
check(more.prompt_eval_count > generated.prompt_eval_count, more)
raw = client.generate(model, "Once upon a time", raw=True, options=options)
check(raw.response and raw.prompt_eval_count < 8, raw)
check("".join(p.response for p in client.generate(model, "Say a word.", options=options, stream=True)) == generated.response)

schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
shaped = client.chat(model, messages, format=schema, options={"num_predict": 40, "temperature": 0})
check(json.loads(shaped.message.content)["n"] in (1, 2), shaped)


def add(a: int, b: int) -> int:
    """Adds two numbers.

    Args:
      a: the first
      b: the second
    """
    return a + b


offered = client.chat(model, [{"role": "user", "content": "What is 2 + 3?"}], tools=[add], options=options)
check(offered.done, offered)
call = {"function": {"name": "add", "arguments": {"a": 2, "b": 3}}}
result = messages + [{"role": "assistant", "content": "", "tool_calls": [call]},
                     {"role": "tool", "tool_name": "add", "content": "5"}]
check(client.chat(model, result, tools=[add], options=options).done)

logprobs = client.chat(model, messages, options={"num_predict": 3}, logprobs=True, top_logprobs=2).logprobs
# The answer may end before its third token.
check(0 < len(logprobs) <= 3 and all(len(one.top_logprobs) == 2 for one in logprobs), logprobs)


def fails_with(status, ask):
    try:
        ask()
    except ollama.ResponseError as error:
        check(error.status_code == status and error.error, error)
        return
    raise AssertionError(f"no error {status}")


fails_with(404, lambda: client.chat("no-such-model", messages))
fails_with(404, lambda: client.show("no-such-model"))
fails_with(400, lambda: client.chat(model, messages, think=True))
fails_with(400, lambda: client.embed(model, "text"))
fails_with(501, lambda: client.push(model))
fails_with(501, lambda: client.create("x", from_=model))

check(client.copy(model, "copied").status == "success")
check("copied:latest" in [m.model for m in client.list().models])
check(client.delete("copied").status == "success")
check(client.pull(model).status == "success")
print("typed: " + ", ".join(f"{name} ×{count}" for name, count in sorted(typed.items())))
print(f"{checks + typed.total()} checks")
