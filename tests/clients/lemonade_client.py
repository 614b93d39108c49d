"""A Lemonade client from PyPI against an appliance, unchanged: lemonade_client.py http://127.0.0.1:PORT"""

import sys

from lemonade_sdk import LemonadeClient

base = sys.argv[1]
client = LemonadeClient(base_url=base)
checks = 0


def check(holds, what):
    global checks
    assert holds, what
    checks += 1


check(client.health_check(), "the server is there")
models = client.list_models()
check(len(models) >= 1, models)
name = models[0]["id"]
check(models[0]["object"] == "model" and models[0]["recipe"] == "llamacpp", models[0])

info = client.get_model_info(name)
check(info is not None and info.id == name, info)
check(info.has_tool_calling(), info.labels)
check(not info.has_vision() and not info.has_embeddings() and not info.has_reranking(), info.labels)
check(client.get_model_info("nobody") is None, "a model that is not there")
check(len(client.list_models_with_info()) == len(models), "every model has its information")
check(client.list_embedding_models() == [] and client.list_audio_models() == [], "labels tell kinds apart")
check(client.list_vision_models() == [], "no model here sees")

loaded = client.load_model(name, ctx_size=1024)
check(loaded.get("status") == "success" and loaded.get("model_name") == name, loaded)

messages = [{"role": "user", "content": "Say hello."}]
answer = client.chat_completion(name, messages, max_tokens=8, temperature=0, timeout=120)
check(answer["choices"][0]["message"]["content"].strip() != "", answer)
check(answer["usage"]["completion_tokens"] <= 8, answer["usage"])
again = client.chat_completion(name, messages, max_tokens=8, temperature=0, timeout=120)
check(again["choices"][0]["message"]["content"] == answer["choices"][0]["message"]["content"], again)

stats = client.get_stats()
check(stats["output_tokens"] == again["usage"]["completion_tokens"], stats)
check(stats["request_count_total"] == 2 and stats["time_to_first_token"] > 0, stats)

for refused in (
    client.chat_completion("nobody", messages),
    client.load_model("nobody"),
    client.load_model(name, llamacpp_args="--no-mmap"),
    client.embeddings("a text", name),
    client.rerank("a question", ["a text", "another"], name),
    client.generate_image("a cat"),
    client.text_to_speech("hello"),
):
    check("error" in refused, refused)

gone = client.unload_model()
check(gone.get("status") == "success", gone)
print(f"{checks} checks passed")
