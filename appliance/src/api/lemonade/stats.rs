//! `GET stats`: what the last answer cost, and all together.
//!
//! The last answer is anybody's: whoever needs one answer's own figures finds them in its `timings`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::super::failure::json as answer;
use crate::app::App;

pub(in super::super) async fn stats(State(app): State<App>) -> Response {
    let tally = app.tally();
    let last = tally.last;
    let usage = last.map(|finish| finish.usage).unwrap_or_default();
    let read = |prompt: usize, cached: usize| prompt.saturating_sub(cached);
    let sum = tally.tokens;
    answer(
        StatusCode::OK,
        &json!({
            "time_to_first_token": last.map(|finish| finish.timings.first_token().as_secs_f64()),
            "tokens_per_second": last.and_then(|finish| finish.timings.decode_rate(&finish.usage)),
            "input_tokens": read(usage.prompt_tokens, usage.cached_tokens),
            "output_tokens": usage.completion_tokens,
            "prompt_tokens": usage.prompt_tokens,
            "cache_tokens": last.map(|finish| finish.usage.cached_tokens),
            "request_count_total": tally.answers,
            "input_tokens_total": read(sum.prompt_tokens, sum.cached_tokens),
            "output_tokens_total": sum.completion_tokens,
            "prompt_tokens_total": sum.prompt_tokens,
            "cache_tokens_total": sum.cached_tokens,
            "routing_decisions_total": tally.decisions,
            "routing_switches_total": null,
        }),
    )
}
