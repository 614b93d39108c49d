//! The routes that llama.cpp's server has of its own, for its clients: text that goes on, gaps, tokens, templates,
//! vectors, and what it tells of itself.
//!
//! The server knows one model; a request here may name one of several in `model`, and gets the default one otherwise.
//! What it has and we have not (rerankers, adapters, slots in files) is refused by name in its shape.

pub(super) mod completion;
mod describe;
pub(super) mod embedding;
mod gbnf;
pub(super) mod options;
mod prompt;
pub(super) mod props;
mod settings;
pub(super) mod tokens;

pub(super) use describe::describe;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::body::RequestError;
use super::failure::{Dialect, Failure, Told, status};
use crate::domain::{Timings, Usage};
use crate::error::Kind;

/// The dialect's name as a type.
pub(super) struct LlamaCpp;

impl Dialect for LlamaCpp {
    fn error_body(told: &Told<'_>) -> Value {
        let kind = match (told.kind, told.code) {
            (_, Some("context_length_exceeded")) => "exceed_context_size_error",
            (Kind::BadRequest | Kind::TooLarge | Kind::Conflict, _) => "invalid_request_error",
            (Kind::Unauthorized, _) => "authentication_error",
            (Kind::Forbidden, _) => "permission_error",
            (Kind::NotFound, _) => "not_found_error",
            (Kind::Unsupported, _) => "not_supported_error",
            (Kind::Overloaded | Kind::EngineDown, _) => "unavailable_error",
            (Kind::Internal, _) => "server_error",
        };
        json!({ "error": {
            "code": Self::status(told.kind).as_u16(),
            "message": told.message,
            "type": kind,
        }})
    }

    fn status(kind: Kind) -> StatusCode {
        match kind {
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Kind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            kind => status(kind),
        }
    }
}

/// Where the time went, in this server's words.
fn timings(timings: &Timings, usage: &Usage) -> Value {
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let read = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    let each = |ms: f64, tokens: usize| (tokens > 0).then(|| ms / tokens as f64);
    json!({
        "cache_n": usage.cached_tokens,
        "prompt_n": read,
        "prompt_ms": ms(timings.prefill),
        "prompt_per_token_ms": each(ms(timings.prefill), read),
        "prompt_per_second": timings.prefill_rate(usage),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": ms(timings.decode),
        "predicted_per_token_ms": each(ms(timings.decode), usage.completion_tokens),
        "predicted_per_second": timings.decode_rate(usage),
    })
}

fn refuse(what: &'static str, why: &'static str) -> Response {
    let error = RequestError::Unsupported { param: what, why };
    Failure::<LlamaCpp>::from(error).into_response()
}

/// Whether a path is one of this server's own, which no other dialect has.
pub(super) fn owns(path: &str) -> bool {
    const OWN: [&str; 14] = [
        "completion",
        "completions",
        "infill",
        "tokenize",
        "detokenize",
        "apply-template",
        "embedding",
        "props",
        "slots",
        "lora-adapters",
        "rerank",
        "reranking",
        "models",
        "metrics",
    ];
    let first = path.trim_start_matches('/').split('/').next();
    first.is_some_and(|first| OWN.contains(&first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_told_each_and_together() {
        let usage = Usage {
            prompt_tokens: 12,
            cached_tokens: 2,
            completion_tokens: 5,
            ..Usage::default()
        };
        let told = timings(
            &Timings {
                queued: Duration::ZERO,
                prefill: Duration::from_millis(100),
                decode: Duration::from_millis(40),
            },
            &usage,
        );
        assert_eq!(told["prompt_n"], 10);
        assert_eq!(told["prompt_per_token_ms"], 10.0);
        assert_eq!(told["prompt_per_second"], 100.0);
        assert_eq!(told["predicted_per_token_ms"], 8.0);
        assert_eq!(told["predicted_per_second"], 100.0);
        let nothing = timings(&Timings::default(), &Usage::default());
        assert_eq!(nothing["prompt_per_token_ms"], Value::Null);
    }

    #[test]
    fn only_its_own_paths_speak_its_shape() {
        assert!(owns("/completion") && owns("/slots/0") && owns("/props"));
        assert!(!owns("/v1/completions") && !owns("/") && !owns("/health") && !owns("/propsy"));
    }
}
