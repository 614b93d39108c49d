//! Anthropic's routes in words, and the schemas of their answers. Its models list stands with OpenAI's, whose path it
//! shares.

use serde_json::json;

use super::super::openapi::{Operation, Part, either, list, maybe, object, text, whole, words};
use super::messages::MessagesBody;

/// The routes of this folder.
pub(in super::super) fn describe() -> Part {
    let usage = object([
        ("input_tokens", whole()),
        ("cache_creation_input_tokens", whole()),
        ("cache_read_input_tokens", whole()),
        ("output_tokens", whole()),
    ]);
    let block = either([
        object([("type", words(&["text"])), ("text", text())]),
        object([
            ("type", words(&["thinking"])),
            ("thinking", text()),
            ("signature", text()),
        ]),
        object([
            ("type", words(&["tool_use"])),
            ("id", text()),
            ("name", text()),
            ("input", json!({ "type": "object" })),
        ]),
    ]);
    let kinds = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    ];
    let events = kinds.map(|kind| (kind, object([("type", words(&[kind]))])));
    Part {
        name: "Anthropic",
        prefix: "Anthropic",
        error: object([
            ("type", words(&["error"])),
            ("error", object([("type", text()), ("message", text())])),
        ]),
        operations: vec![
            Operation::post("/v1/messages", "Answers a conversation")
                .takes::<MessagesBody>()
                .writes(object([
                    ("id", text()),
                    ("type", words(&["message"])),
                    ("role", words(&["assistant"])),
                    ("model", text()),
                    ("content", list(block)),
                    (
                        "stop_reason",
                        words(&["end_turn", "max_tokens", "stop_sequence", "tool_use"]),
                    ),
                    ("stop_sequence", maybe(text())),
                    ("usage", usage),
                ]))
                .streams(events),
            Operation::post(
                "/v1/messages/count_tokens",
                "Counts a conversation's tokens and answers nothing",
            )
            .takes::<MessagesBody>()
            .writes(object([("input_tokens", whole())])),
        ],
    }
}
