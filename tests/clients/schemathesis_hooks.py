"""What schemathesis sends is bounded here: a few tokens an answer, and mostly a model that exists."""

import atexit
from collections import Counter

import schemathesis

answers = Counter()
atexit.register(lambda: print("answers by their first digit:", dict(sorted(answers.items()))))

LIMITS = {
    "/v1/chat/completions": "max_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
    "/v1/messages": "max_tokens",
}


@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    path = context.operation.path
    if "model" in body and len(str(body["model"])) % 3:
        body["model"] = ""  # the default one
    if isinstance(body.get(LIMITS.get(path)), int) or path in LIMITS:
        body[LIMITS[path]] = 3
    if path.startswith("/api/"):
        options = body.get("options")
        body["options"] = (options if isinstance(options, dict) else {}) | {"num_predict": 3}
    if path.endswith("/turns"):
        options = body.get("options")
        body["options"] = (options if isinstance(options, dict) else {}) | {"max_tokens": 3}
    for name, most in (("n", 2), ("best_of", 2)):
        if isinstance(body.get(name), int):
            body[name] = min(body[name], most)
    return body


@schemathesis.hook
def after_call(context, case, response):
    answers[response.status_code // 100] += 1
