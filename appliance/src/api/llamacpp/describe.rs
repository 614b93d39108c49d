//! The routes of llama.cpp's server in words, and the schemas of what they take and answer.

use axum::http::Method;
use serde_json::{Value, json};

use super::super::openai::{chat_operation, embeddings_operation, models_operation};
use super::super::openapi::{
    Operation, Part, either, list, map, maybe, number, object, text, truth, whole,
};

/// The routes of this folder.
pub(in super::super) fn describe() -> Part {
    let completion = || {
        object([
            ("index", whole()),
            ("content", text()),
            ("stop", truth()),
            ("tokens_predicted", whole()),
            ("tokens_evaluated", whole()),
        ])
    };
    let complete = |path, summary| {
        Operation::post(path, summary)
            .takes_form(options([("prompt?", json!(true))]))
            .writes(either([completion(), list(completion())]))
            .streams([("", completion())])
    };
    let tokens = either([
        list(whole()),
        list(object([
            ("id", whole()),
            ("piece", either([text(), list(whole())])),
        ])),
    ]);
    let refused = |path| Operation::post(path, "Refused by name: no engine here ranks");
    let slot = object([
        ("id", whole()),
        ("n_ctx", maybe(whole())),
        ("speculative", truth()),
        ("is_processing", truth()),
    ]);
    Part {
        name: "llama-server",
        prefix: "LlamaCpp",
        error: object([(
            "error",
            object([
                // A word or nothing on the routes that are OpenAI's.
                ("code", either([whole(), maybe(text())])),
                ("message", text()),
                ("type", text()),
            ]),
        )]),
        operations: vec![
            complete("/completion", "Goes on with a text"),
            complete("/completions", "Goes on with a text, by its older name"),
            Operation::post("/infill", "Fills a gap between two texts")
                .takes_form(options([
                    ("input_prefix?", text()),
                    ("input_suffix?", text()),
                    (
                        "input_extra?",
                        list(object([("filename?", text()), ("text", text())])),
                    ),
                    ("prompt?", text()),
                ]))
                .writes(either([completion(), list(completion())]))
                .streams([("", completion())]),
            Operation::post("/tokenize", "A text's tokens")
                .takes_form(object([
                    ("model?", text()),
                    ("content?", maybe(text())),
                    ("add_special?", truth()),
                    ("parse_special?", truth()),
                    ("with_pieces?", truth()),
                ]))
                .writes(object([("tokens", tokens)])),
            Operation::post("/detokenize", "The text of tokens")
                .takes_form(object([("model?", text()), ("tokens?", list(token()))]))
                .writes(object([("content", text())])),
            Operation::post("/apply-template", "A conversation in the model's own form")
                .takes_form(object([
                    ("model?", text()),
                    (
                        "messages",
                        list(object([("role", text()), ("content?", json!(true))])),
                    ),
                    (
                        "tools?",
                        maybe(list(object([("function", object([("name", text())]))]))),
                    ),
                ]))
                .writes(object([("prompt", text())])),
            Operation::post("/embedding", "Vectors of texts")
                .takes_form(object([
                    ("model?", text()),
                    ("content?", json!(true)),
                    (
                        "embd_normalize?",
                        maybe(json!({ "type": "integer", "format": "int32" })),
                    ),
                ]))
                .writes(list(object([
                    ("index", whole()),
                    ("embedding", list(list(number()))),
                ]))),
            Operation::get("/props", "How a model is set up")
                .reads("model", text(), "one of several")
                .writes(object([
                    ("default_generation_settings", json!({ "type": "object" })),
                    ("total_slots", whole()),
                    ("model_path", text()),
                    ("model_alias", text()),
                    ("modalities", map(truth())),
                    ("chat_template", text()),
                    ("build_info", text()),
                    ("is_sleeping", truth()),
                ])),
            Operation::post("/props", "Refused by name: settings are the owner's"),
            Operation::get("/slots", "Places for answers")
                .reads("model", text(), "one of several")
                .writes(list(slot)),
            Operation::new(
                Method::POST,
                "/slots/{id}",
                "Refused by name: prompts are kept by themselves",
            ),
            Operation::get("/lora-adapters", "An empty list").writes(list(json!(true))),
            Operation::post(
                "/lora-adapters",
                "Refused by name: adapters are merged when converting",
            ),
            refused("/rerank"),
            refused("/reranking"),
            chat_operation("/chat/completions"),
            embeddings_operation("/embeddings"),
            models_operation("/models"),
            Operation::get("/models/{*id}", "One model").writes(json!({ "type": "object" })),
        ],
    }
}

/// A field that holds a token's id.
fn token() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
}

/// The fields that completions and gaps share.
fn options(more: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields = [
        ("model?", text()),
        ("stream?", truth()),
        ("n_predict?", maybe(whole())),
        ("temperature?", maybe(number())),
        ("top_k?", maybe(whole())),
        ("top_p?", maybe(number())),
        ("min_p?", maybe(number())),
        ("repeat_penalty?", maybe(number())),
        ("seed?", maybe(whole())),
        ("stop?", maybe(list(text()))),
        ("ignore_eos?", truth()),
    ];
    object(fields.into_iter().chain(more))
}
