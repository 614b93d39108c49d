//! OpenAI's dialect: models, chat completions, completions. The error shape is also the native routes'.

pub(super) mod chat;
pub(super) mod completions;
mod describe;
pub(super) mod embeddings;
pub(super) mod files;
pub(super) mod images;
mod messages;
pub(super) mod models;
pub(super) mod moderations;
mod options;
pub(super) mod realtime;
pub(super) mod responses;
pub(super) mod speech;
mod tools;
pub(super) mod transcriptions;
pub(super) mod vector_stores;

pub(super) use describe::{
    chat_operation, chunk_schema, describe, embeddings_operation, error_schema, image_operation,
    models_operation, realtime_operation, speech_operation, transcription_operation,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::failure::{Dialect, Told, tell};
use super::frames::Frame;
use crate::app::{AppError, now_ms};
use crate::domain::{Finish, FinishReason, Timings, Usage};
use crate::error::Kind;

/// The dialect's name as a type.
pub(super) struct OpenAi;

impl Dialect for OpenAi {
    fn error_body(told: &Told<'_>) -> Value {
        let kind = match told.kind {
            Kind::BadRequest
            | Kind::NotFound
            | Kind::Unsupported
            | Kind::TooLarge
            | Kind::Conflict => "invalid_request_error",
            Kind::Unauthorized => "authentication_error",
            Kind::Forbidden => "permission_error",
            Kind::Overloaded => "rate_limit_error",
            Kind::EngineDown | Kind::Internal => "server_error",
        };
        json!({ "error": {
            "message": told.message,
            "type": kind,
            "param": told.param,
            "code": told.code,
        }})
    }
}

/// Drops log probabilities' weight: usage as OpenAI writes it.
#[derive(Serialize)]
struct UsageView {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: Value,
    completion_tokens_details: Value,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> UsageView {
        UsageView {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
            prompt_tokens_details: json!({ "cached_tokens": usage.cached_tokens }),
            completion_tokens_details: json!({ "reasoning_tokens": usage.reasoning_tokens }),
        }
    }
}

/// Adds up several answers to one prompt: the prompt counts once, as OpenAI does.
fn total(finishes: &[Finish]) -> Usage {
    Usage {
        prompt_tokens: finishes
            .first()
            .map_or(0, |finish| finish.usage.prompt_tokens),
        cached_tokens: finishes
            .first()
            .map_or(0, |finish| finish.usage.cached_tokens),
        completion_tokens: finishes
            .iter()
            .map(|finish| finish.usage.completion_tokens)
            .sum(),
        reasoning_tokens: finishes
            .iter()
            .map(|finish| finish.usage.reasoning_tokens)
            .sum(),
    }
}

/// Rates beside the standard fields, in llama-server's words, which its clients already show.
fn timings(timings: &Timings, usage: &Usage) -> Value {
    json!({
        "cache_n": usage.cached_tokens,
        "prompt_n": usage.prompt_tokens - usage.cached_tokens,
        "prompt_ms": timings.prefill.as_secs_f64() * 1e3,
        "prompt_per_second": timings.prefill_rate(usage),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": timings.decode.as_secs_f64() * 1e3,
        "predicted_per_second": timings.decode_rate(usage),
        "queued_ms": timings.queued.as_secs_f64() * 1e3,
    })
}

fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Stop | FinishReason::Cancelled | FinishReason::Error => "stop",
    }
}

fn created() -> i64 {
    now_ms() / 1000
}

/// A framed error inside a stream that has begun.
pub(super) fn error_frame(error: &AppError) -> Frame {
    Frame::data(OpenAi::error_body(&tell(error)).to_string())
}

/// A frame of any value.
pub(super) fn frame(value: &impl Serialize) -> Frame {
    // Our own wire types hold only strings and numbers; should one fail, the stream says so.
    Frame::data(serde_json::to_string(value).unwrap_or_else(|error| {
        json!({ "error": { "message": error.to_string(), "type": "server_error", "param": null, "code": null } })
            .to_string()
    }))
}

fn done() -> Frame {
    Frame::data("[DONE]".to_owned())
}
