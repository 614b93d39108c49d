//! Ollama's routes in words, and the schemas of their answers.

use serde_json::{Value, json};

use super::super::openapi::{
    Operation, Part, list, map, number, object, text, truth, whole, words,
};
use super::{chat, embed, generate, manage, models, pull};

/// Lines of JSON: what the bodies are when `stream` is not false.
const LINES: &str = "application/x-ndjson";

/// The routes of this folder.
pub(in super::super) fn describe() -> Part {
    Part {
        name: "Ollama",
        prefix: "Ollama",
        error: object([("error", text())]),
        operations: vec![
            Operation::get("/api/version", "The Ollama whose routes these are")
                .writes(object([("version", text())])),
            Operation::get("/api/tags", "Models by their names and digests")
                .writes(object([("models", list(entry([])))])),
            Operation::get("/api/ps", "Models in memory").writes(object([(
                "models",
                list(entry([
                    ("expires_at", text()),
                    ("context_length", whole()),
                    ("size_vram?", whole()),
                ])),
            )])),
            Operation::post(
                "/api/show",
                "A model's template, parameters and what it can",
            )
            .takes::<models::ShowBody>()
            .writes(object([
                ("license", text()),
                ("modelfile", text()),
                ("parameters", text()),
                ("template", text()),
                ("details", details()),
                ("model_info", map(json!(true))),
                (
                    "capabilities",
                    list(words(&["completion", "tools", "thinking"])),
                ),
                ("modified_at", text()),
            ])),
            Operation::post("/api/chat", "Answers a conversation")
                .takes::<chat::ChatBody>()
                .writes(end([(
                    "message",
                    object([
                        ("role", words(&["assistant"])),
                        ("content", text()),
                        ("thinking?", text()),
                        (
                            "tool_calls?",
                            list(object([(
                                "function",
                                object([
                                    ("name", text()),
                                    ("arguments", json!({ "type": "object" })),
                                ]),
                            )])),
                        ),
                    ]),
                )]))
                .text(200, LINES),
            Operation::post(
                "/api/generate",
                "Goes on with a text or answers one question",
            )
            .takes::<generate::GenerateBody>()
            .writes(end([
                ("response", text()),
                ("thinking?", text()),
                ("context?", list(whole())),
            ]))
            .text(200, LINES),
            Operation::post("/api/embed", "Vectors of texts")
                .takes::<embed::EmbedBody>()
                .writes(object([
                    ("model", text()),
                    ("embeddings", list(list(number()))),
                    ("total_duration", whole()),
                    ("load_duration", whole()),
                ])),
            Operation::post("/api/embeddings", "One text's vector, as older clients ask")
                .takes::<embed::EmbeddingsBody>()
                .writes(object([("embedding", list(number()))])),
            Operation::post("/api/pull", "Fetches a model from the hub")
                .takes::<pull::PullBody>()
                .writes(object([("status", text())]))
                .text(200, LINES),
            Operation::post("/api/copy", "Gives a model a second name")
                .takes::<manage::CopyBody>()
                .status(200),
            Operation::delete("/api/delete", "Removes a model")
                .takes::<manage::NameBody>()
                .status(200),
            Operation::post("/api/create", "Refused by name: models come from files"),
            Operation::post("/api/push", "Refused by name: nothing is published"),
            Operation::get(
                "/api/blobs/{digest}",
                "Whether a file of this content is here",
            )
            .status(200)
            .status(404)
            .never_fails(),
            Operation::post(
                "/api/blobs/{digest}",
                "Refused by name: nothing is uploaded",
            ),
        ],
    }
}

/// A model in a list.
fn entry(more: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields = [
        ("name", text()),
        ("model", text()),
        ("modified_at", text()),
        ("size", whole()),
        ("digest", text()),
        ("details", details()),
    ];
    object(fields.into_iter().chain(more))
}

fn details() -> Value {
    object([
        ("parent_model", text()),
        ("format", text()),
        ("family", text()),
        ("families", list(text())),
        ("parameter_size", text()),
        ("quantization_level", text()),
    ])
}

/// A whole answer; one that only loads or unloads has no counts.
fn end(more: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields = [
        ("model", text()),
        ("created_at", text()),
        ("done", truth()),
        ("done_reason", words(&["stop", "length", "load", "unload"])),
        (
            "logprobs?",
            list(object([("token", text()), ("logprob", number())])),
        ),
        ("total_duration?", whole()),
        ("load_duration?", whole()),
        ("prompt_eval_count?", whole()),
        ("prompt_eval_duration?", whole()),
        ("eval_count?", whole()),
        ("eval_duration?", whole()),
    ];
    object(fields.into_iter().chain(more))
}
