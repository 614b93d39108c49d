//! Anthropic's dialect: messages, their token count, and the models list in its shape.
//!
//! `x-api-key`, a bearer and `anthropic-version` are accepted as its clients send them; who may ask is decided
//! before any dialect is.

mod answer;
mod content;
mod describe;
mod events;
pub(super) mod messages;
pub(super) mod models;
mod tools;

pub(super) use describe::describe;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::cited;
use super::failure::{Dialect, Told, status};
use crate::domain::{Citation, Finish, FinishReason, Usage};
use crate::error::Kind;

/// The dialect's name as a type.
pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn error_body(told: &Told<'_>) -> Value {
        let kind = match told.kind {
            Kind::BadRequest | Kind::Unsupported | Kind::Conflict => "invalid_request_error",
            Kind::Unauthorized => "authentication_error",
            Kind::Forbidden => "permission_error",
            Kind::NotFound => "not_found_error",
            Kind::TooLarge => "request_too_large",
            Kind::Overloaded => "overloaded_error",
            Kind::EngineDown | Kind::Internal => "api_error",
        };
        json!({ "type": "error", "error": { "type": kind, "message": told.message } })
    }

    fn status(kind: Kind) -> StatusCode {
        match kind {
            // Anthropic's own number for a service that has too much to do.
            Kind::Overloaded => {
                StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            }
            Kind::Conflict => StatusCode::BAD_REQUEST,
            Kind::EngineDown => StatusCode::INTERNAL_SERVER_ERROR,
            kind => status(kind),
        }
    }
}

/// Tokens as Anthropic counts them: those from the cache stand beside the others, not among them. What only its own
/// service has is null.
fn usage(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": { "thinking_tokens": usage.reasoning_tokens },
        "cache_creation": null,
        "inference_geo": null,
        "server_tool_use": null,
        "service_tier": "standard",
        "speed": null,
    })
}

/// `stop_reason` and `stop_sequence`.
fn stop(finish: &Finish, stops: &[String]) -> (&'static str, Option<String>) {
    let text = finish.stop.and_then(|index| stops.get(index)).cloned();
    let reason = match finish.reason {
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::Stop if text.is_some() => "stop_sequence",
        FinishReason::Stop | FinishReason::Cancelled | FinishReason::Error => "end_turn",
    };
    (reason, text)
}

/// The identifier of a call in Anthropic's form: engines begin theirs with `call_`.
fn tool_use_id(id: &str) -> String {
    format!("toolu_{}", id.strip_prefix("call_").unwrap_or(id))
}

/// A call by the model itself, which at Anthropic a program may make as well.
fn tool_use(id: &str, name: &str, input: &Value) -> Value {
    json!({ "type": "tool_use", "id": id, "name": name, "input": input, "caller": { "type": "direct" } })
}

/// Passages as Anthropic's citations: each document counts once, in the order of its first passage; places are
/// characters of its text.
fn citations(sources: &[Citation]) -> Vec<Value> {
    let mut documents: Vec<&str> = Vec::new();
    for source in sources {
        if !documents.contains(&source.document.as_str()) {
            documents.push(&source.document);
        }
    }
    let one = |source: &Citation| {
        let mut view = cited::view(source);
        let at = documents
            .iter()
            .position(|document| *document == source.document);
        view["type"] = "char_location".into();
        view["cited_text"] = source.text.as_str().into();
        view["document_index"] = at.into();
        view["document_title"] = source.name.as_str().into();
        view["file_id"] = source.document.as_str().into();
        view["start_char_index"] = source.start.into();
        view["end_char_index"] = source.end.into();
        view
    };
    sources.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timings;

    #[test]
    fn errors_have_anthropics_types_and_statuses() {
        for (kind, code, name) in [
            (Kind::BadRequest, 400, "invalid_request_error"),
            (Kind::Unauthorized, 401, "authentication_error"),
            (Kind::Forbidden, 403, "permission_error"),
            (Kind::NotFound, 404, "not_found_error"),
            (Kind::TooLarge, 413, "request_too_large"),
            (Kind::Internal, 500, "api_error"),
            (Kind::Overloaded, 529, "overloaded_error"),
        ] {
            let told = Told {
                kind,
                message: "why".into(),
                code: None,
                param: None,
            };
            let body = Anthropic::error_body(&told);
            assert_eq!(
                body,
                json!({"type": "error", "error": {"type": name, "message": "why"}})
            );
            assert_eq!(Anthropic::status(kind).as_u16(), code);
        }
    }

    #[test]
    fn a_stop_text_is_told_by_name() {
        let finish = |reason, stop| Finish {
            reason,
            stop,
            joules: None,
            usage: Usage::default(),
            timings: Timings::default(),
        };
        let stops = ["a".to_owned(), "b".to_owned()];
        let told = stop(&finish(FinishReason::Stop, Some(1)), &stops);
        assert_eq!(told, ("stop_sequence", Some("b".to_owned())));
        assert_eq!(
            stop(&finish(FinishReason::Stop, None), &stops).0,
            "end_turn"
        );
        assert_eq!(
            stop(&finish(FinishReason::Length, None), &stops).0,
            "max_tokens"
        );
        assert_eq!(
            stop(&finish(FinishReason::ToolCalls, None), &stops).0,
            "tool_use"
        );
    }
}
