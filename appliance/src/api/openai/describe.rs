//! OpenAI's routes in words, and the schemas of their answers.

use serde_json::{Value, json};

use super::super::openapi::{
    Operation, Part, either, list, map, maybe, number, object, text, truth, whole, words,
};
use super::{chat, completions, embeddings, images, responses, speech, vector_stores};

/// The routes of this folder.
pub(in super::super) fn describe() -> Part {
    Part {
        name: "OpenAI",
        prefix: "OpenAi",
        error: error_schema(),
        operations: vec![
            Operation::get(
                "/v1/models",
                "Models, the default one first; in Anthropic's shape with anthropic-version",
            )
            .reads("limit", json!({}), "with anthropic-version: how many")
            .reads(
                "after_id",
                text(),
                "with anthropic-version: what stands behind this model",
            )
            .reads(
                "before_id",
                text(),
                "with anthropic-version: what stands before this model",
            )
            .writes(either([
                object([("object", words(&["list"])), ("data", list(model()))]),
                page(),
            ])),
            Operation::get("/v1/models/{*id}", "One model")
                .writes(either([model(), anthropic_model()])),
            chat_operation("/v1/chat/completions"),
            embeddings_operation("/v1/embeddings"),
            Operation::post("/v1/completions", "Goes on with a text")
                .takes::<completions::CompletionBody>()
                .writes(completion())
                .streams([("", completion())]),
            Operation::post("/v1/responses", "Answers a conversation, item by item")
                .takes::<responses::ResponsesBody>()
                .writes(response())
                .streams([(
                    "response.*",
                    object([("type", text()), ("sequence_number", whole())]),
                )]),
            Operation::get("/v1/responses/{id}", "A response that was kept").writes(response()),
            Operation::delete("/v1/responses/{id}", "Forgets a response").writes(object([
                ("id", text()),
                ("object", words(&["response"])),
                ("deleted", truth()),
            ])),
            Operation::get("/v1/responses/{id}/input_items", "What a response answered").writes(
                object([
                    ("object", words(&["list"])),
                    ("data", list(object([("id", text()), ("type", text())]))),
                    ("first_id", maybe(text())),
                    ("last_id", maybe(text())),
                    ("has_more", truth()),
                ]),
            ),
            transcription_operation("/v1/audio/transcriptions"),
            Operation::post(
                "/v1/audio/translations",
                "What is said in a recording, in English",
            )
            .writes(transcript())
            .text(200, "text/plain; charset=utf-8"),
            speech_operation("/v1/audio/speech"),
            image_operation("/v1/images/generations"),
            image_operation("/v1/images/edits"),
            image_operation("/v1/images/variations"),
            Operation::get("/v1/audio/voices", "The voices, the usual one first")
                .reads(
                    "model",
                    text(),
                    "of this model; the first that speaks without it",
                )
                .writes(object([
                    ("object", words(&["list"])),
                    ("model", text()),
                    (
                        "data",
                        list(object([
                            ("id", text()),
                            ("name", text()),
                            ("language", text()),
                        ])),
                    ),
                ])),
            realtime_operation("/v1/realtime"),
            Operation::get("/v1/files", "Documents as files").writes(listed(file())),
            Operation::post("/v1/files", "Adds a file of a form").writes(file()),
            Operation::get("/v1/files/{id}", "One file").writes(file()),
            Operation::delete(
                "/v1/files/{id}",
                "Deletes a file and all that was read of it",
            )
            .writes(gone()),
            Operation::get("/v1/files/{id}/content", "A file's bytes")
                .text(200, "application/octet-stream"),
            Operation::get("/v1/vector_stores", "Collections as vector stores")
                .writes(listed(store())),
            Operation::post("/v1/vector_stores", "Makes a collection")
                .takes::<vector_stores::StoreBody>()
                .writes(store()),
            Operation::get("/v1/vector_stores/{id}", "One collection").writes(store()),
            Operation::post("/v1/vector_stores/{id}", "Renames a collection")
                .takes::<vector_stores::StoreBody>()
                .writes(store()),
            Operation::delete(
                "/v1/vector_stores/{id}",
                "Deletes a collection; its files stay",
            )
            .writes(gone()),
            Operation::get("/v1/vector_stores/{id}/files", "A collection's files")
                .writes(listed(store_file())),
            Operation::post(
                "/v1/vector_stores/{id}/files",
                "Puts a file into a collection",
            )
            .takes::<vector_stores::FileBody>()
            .writes(store_file()),
            Operation::get(
                "/v1/vector_stores/{id}/files/{file}",
                "A file of a collection",
            )
            .writes(store_file()),
            Operation::delete(
                "/v1/vector_stores/{id}/files/{file}",
                "Takes a file out of a collection",
            )
            .writes(gone()),
            Operation::post(
                "/v1/vector_stores/{id}/file_batches",
                "Puts files into a collection",
            )
            .takes::<vector_stores::BatchBody>()
            .writes(object([
                ("id", text()),
                ("object", text()),
                ("created_at", whole()),
                ("vector_store_id", text()),
                ("status", text()),
                ("file_counts", map(whole())),
            ])),
            Operation::post(
                "/v1/vector_stores/{id}/search",
                "Finds passages in a collection",
            )
            .takes::<vector_stores::SearchBody>()
            .writes(object([
                ("object", text()),
                ("search_query", list(text())),
                ("has_more", truth()),
                ("next_page", maybe(text())),
                (
                    "data",
                    list(object([
                        ("file_id", text()),
                        ("filename", text()),
                        ("score", number()),
                        ("attributes", map(json!({}))),
                        (
                            "content",
                            list(object([("type", text()), ("text", text())])),
                        ),
                    ])),
                ),
            ])),
            Operation::post(
                "/v1/moderations",
                "Refused by name: there is no model for it",
            ),
        ],
    }
}

/// `POST …/audio/transcriptions`, wherever it stands.
pub(in super::super) fn transcription_operation(path: &'static str) -> Operation {
    Operation::post(path, "What is said in a recording")
        .writes(transcript())
        .text(200, "text/plain; charset=utf-8")
        .streams([(
            "",
            object([(
                "type",
                words(&["transcript.text.delta", "transcript.text.done"]),
            )]),
        )])
}

/// `POST …/audio/speech`, wherever it stands.
pub(in super::super) fn speech_operation(path: &'static str) -> Operation {
    Operation::post(path, "A text as speech")
        .takes::<speech::SpeechBody>()
        .text(200, "audio/*")
        .streams([(
            "",
            object([("type", words(&["speech.audio.delta", "speech.audio.done"]))]),
        )])
}

/// `POST …/images/…`, wherever it stands.
pub(in super::super) fn image_operation(path: &'static str) -> Operation {
    let operation = if path.ends_with("/generations") {
        Operation::post(path, "Pictures of what a text says").takes::<images::ImageBody>()
    } else {
        let form = object([
            ("image", text()),
            ("mask", text()),
            ("prompt", text()),
            ("model", text()),
            ("n", whole()),
            ("size", text()),
            ("output_format", text()),
            ("strength", number()),
        ]);
        let what = match path.ends_with("/edits") {
            true => "A picture changed as a text says",
            false => "Pictures like one that is sent",
        };
        Operation::post(path, what).takes_form(form)
    };
    operation
        .writes(object([
            ("created", whole()),
            ("data", list(object([("b64_json", text())]))),
            ("output_format", words(&["png", "jpeg", "webp"])),
        ]))
        .streams([(
            "",
            object([(
                "type",
                words(&[
                    "image_generation.queued",
                    "image_generation.step",
                    "image_generation.completed",
                ]),
            )]),
        )])
}

/// `WS …/realtime`, wherever it stands.
pub(in super::super) fn realtime_operation(path: &'static str) -> Operation {
    Operation::get(
        path,
        "A conversation by voice, or a live transcript (WebSocket)",
    )
    .reads(
        "model",
        text(),
        "the model that answers, or one that listens",
    )
    .reads("intent", text(), "transcription: nothing is answered")
    .status(101)
}

fn transcript() -> Value {
    object([("text", text())])
}

fn listed(of: Value) -> Value {
    object([
        ("object", words(&["list"])),
        ("data", list(of)),
        ("first_id", maybe(text())),
        ("last_id", maybe(text())),
        ("has_more", truth()),
    ])
}

fn gone() -> Value {
    object([("id", text()), ("object", text()), ("deleted", truth())])
}

fn file() -> Value {
    object([
        ("id", text()),
        ("object", words(&["file"])),
        ("bytes", whole()),
        ("created_at", whole()),
        ("expires_at", maybe(whole())),
        ("filename", text()),
        ("purpose", text()),
        ("status", words(&["uploaded", "processed", "error"])),
        ("status_details", maybe(text())),
    ])
}

fn store() -> Value {
    object([
        ("id", text()),
        ("object", words(&["vector_store"])),
        ("created_at", whole()),
        ("name", text()),
        ("usage_bytes", whole()),
        ("file_counts", map(whole())),
        ("status", words(&["in_progress", "completed"])),
        ("expires_after", maybe(text())),
        ("expires_at", maybe(whole())),
        ("last_active_at", maybe(whole())),
        ("metadata", map(text())),
    ])
}

fn store_file() -> Value {
    object([
        ("id", text()),
        ("object", words(&["vector_store.file"])),
        ("usage_bytes", whole()),
        ("created_at", whole()),
        ("vector_store_id", text()),
        (
            "status",
            words(&["in_progress", "completed", "failed", "cancelled"]),
        ),
        (
            "last_error",
            maybe(object([("code", text()), ("message", text())])),
        ),
        ("attributes", map(text())),
    ])
}

/// Chat completions at a path; other dialects have the route at paths of their own.
pub(in super::super) fn chat_operation(path: &'static str) -> Operation {
    Operation::post(path, "Answers a conversation")
        .takes::<chat::ChatBody>()
        .writes(object([
            ("id", text()),
            ("object", words(&["chat.completion"])),
            ("created", whole()),
            ("model", text()),
            (
                "choices",
                list(object([
                    ("index", whole()),
                    (
                        "message",
                        object([
                            ("role", words(&["assistant"])),
                            ("content", maybe(text())),
                            ("refusal", json!({ "type": "null" })),
                            ("reasoning_content?", text()),
                            ("tool_calls?", list(call())),
                            ("annotations?", list(json!({ "type": "object" }))),
                        ]),
                    ),
                    ("logprobs", maybe(chat_logprobs())),
                    ("finish_reason", maybe(finish_reason())),
                ])),
            ),
            ("usage", usage()),
            ("timings", maybe(timings())),
            ("system_fingerprint", text()),
        ]))
        .streams([("", chunk_schema())])
}

/// Embeddings at a path.
pub(in super::super) fn embeddings_operation(path: &'static str) -> Operation {
    Operation::post(path, "Vectors of texts")
        .takes::<embeddings::EmbeddingsBody>()
        .writes(object([
            ("object", words(&["list"])),
            (
                "data",
                list(object([
                    ("object", words(&["embedding"])),
                    ("index", whole()),
                    ("embedding", either([list(number()), text()])),
                ])),
            ),
            ("model", text()),
            (
                "usage",
                object([("prompt_tokens", whole()), ("total_tokens", whole())]),
            ),
        ]))
}

/// The list of models at a path, in OpenAI's shape alone.
pub(in super::super) fn models_operation(path: &'static str) -> Operation {
    Operation::get(path, "Models, the default one first").writes(models())
}

fn models() -> Value {
    object([("object", words(&["list"])), ("data", list(model()))])
}

/// The shape of errors, which the native routes share.
pub(in super::super) fn error_schema() -> Value {
    object([(
        "error",
        object([
            ("message", text()),
            ("type", text()),
            ("param", maybe(text())),
            ("code", maybe(text())),
        ]),
    )])
}

/// A chunk of a streamed chat completion, which the page's turns share.
pub(in super::super) fn chunk_schema() -> Value {
    // Names come first, arguments in pieces.
    let call = object([
        ("index", whole()),
        ("id?", text()),
        ("type?", words(&["function"])),
        (
            "function",
            object([("name?", text()), ("arguments?", text())]),
        ),
    ]);
    let delta = object([
        ("role?", words(&["assistant"])),
        ("content?", text()),
        ("reasoning_content?", text()),
        ("tool_calls?", list(call)),
    ]);
    object([
        ("id", text()),
        ("object", words(&["chat.completion.chunk"])),
        ("created", whole()),
        ("model", text()),
        ("system_fingerprint", text()),
        (
            "choices",
            list(object([
                ("index", whole()),
                ("delta", delta),
                ("logprobs", maybe(chat_logprobs())),
                ("finish_reason", maybe(finish_reason())),
            ])),
        ),
        ("usage?", maybe(usage())),
        ("timings?", timings()),
    ])
}

fn finish_reason() -> Value {
    words(&["stop", "length", "tool_calls"])
}

fn model() -> Value {
    object([
        ("id", text()),
        ("object", words(&["model"])),
        ("created", whole()),
        ("owned_by", text()),
        ("context_length", whole()),
    ])
}

/// The same list as clients that send `anthropic-version` get it.
fn page() -> Value {
    object([
        ("data", list(anthropic_model())),
        ("has_more", truth()),
        ("first_id", maybe(text())),
        ("last_id", maybe(text())),
    ])
}

fn anthropic_model() -> Value {
    object([
        ("type", words(&["model"])),
        ("id", text()),
        ("display_name", text()),
        ("created_at", text()),
        ("max_input_tokens", whole()),
        ("max_tokens", whole()),
    ])
}

fn call() -> Value {
    object([
        ("id", text()),
        ("type", words(&["function"])),
        (
            "function",
            object([("name", text()), ("arguments", text())]),
        ),
    ])
}

fn usage() -> Value {
    object([
        ("prompt_tokens", whole()),
        ("completion_tokens", whole()),
        ("total_tokens", whole()),
        (
            "prompt_tokens_details",
            object([("cached_tokens", whole())]),
        ),
        (
            "completion_tokens_details",
            object([("reasoning_tokens", whole())]),
        ),
    ])
}

fn timings() -> Value {
    object([
        ("cache_n", whole()),
        ("prompt_n", whole()),
        ("prompt_ms", number()),
        ("prompt_per_second", maybe(number())),
        ("predicted_n", whole()),
        ("predicted_ms", number()),
        ("predicted_per_second", maybe(number())),
        ("queued_ms", number()),
    ])
}

fn chat_logprobs() -> Value {
    let token = |top: Option<Value>| {
        let mut fields = vec![
            ("token", text()),
            ("logprob", number()),
            ("bytes", list(whole())),
        ];
        fields.extend(top.map(|top| ("top_logprobs", list(top))));
        object(fields)
    };
    object([
        ("content", list(token(Some(token(None))))),
        ("refusal", json!({ "type": "null" })),
    ])
}

/// Whole and in chunks alike.
fn completion() -> Value {
    let logprobs = object([
        ("tokens", list(text())),
        ("token_logprobs", list(number())),
        ("top_logprobs", list(map(number()))),
        ("text_offset", list(whole())),
    ]);
    object([
        ("id", text()),
        ("object", words(&["text_completion"])),
        ("created", whole()),
        ("model", text()),
        (
            "choices",
            list(object([
                ("index", whole()),
                ("text", text()),
                ("logprobs", maybe(logprobs)),
                ("finish_reason", maybe(finish_reason())),
            ])),
        ),
        ("usage?", maybe(usage())),
        ("timings?", timings()),
    ])
}

fn response() -> Value {
    object([
        ("id", text()),
        ("object", words(&["response"])),
        ("created_at", whole()),
        (
            "status",
            words(&["completed", "incomplete", "failed", "in_progress"]),
        ),
        (
            "error",
            maybe(object([("code", text()), ("message", text())])),
        ),
        ("incomplete_details", maybe(object([("reason", text())]))),
        ("instructions", maybe(text())),
        ("max_output_tokens", maybe(whole())),
        ("model", text()),
        (
            "output",
            list(object([
                ("type", words(&["message", "reasoning", "function_call"])),
                ("id", text()),
                ("status", text()),
            ])),
        ),
        ("parallel_tool_calls", truth()),
        ("previous_response_id", maybe(text())),
        ("store", truth()),
        ("temperature", maybe(number())),
        ("tools", list(json!({ "type": "object" }))),
        ("top_p", maybe(number())),
        (
            "usage",
            maybe(object([
                ("input_tokens", whole()),
                (
                    "input_tokens_details",
                    object([("cached_tokens", whole()), ("cache_write_tokens", whole())]),
                ),
                ("output_tokens", whole()),
                (
                    "output_tokens_details",
                    object([("reasoning_tokens", whole())]),
                ),
                ("total_tokens", whole()),
            ])),
        ),
    ])
}
