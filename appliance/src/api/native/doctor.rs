//! `GET /onebit/doctor`: what `onebit doctor` says, for the page.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use crate::app::App;

/// What was looked at, in reading order.
#[derive(Serialize, JsonSchema)]
pub(super) struct DoctorView {
    checks: Vec<CheckView>,
}

/// One prerequisite, compared.
#[derive(Serialize, JsonSchema)]
struct CheckView {
    name: &'static str,
    #[schemars(extend("enum" = ["good", "advice", "problem"]))]
    verdict: &'static str,
    found: String,
    wanted: &'static str,
    why: &'static str,
    /// The line that mends it.
    fix: Option<String>,
}

pub(in super::super) async fn doctor(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    let checks = app.check_up().await?;
    let view = |check: crate::app::Check| CheckView {
        name: check.name,
        verdict: check.verdict.word(),
        found: check.found,
        wanted: check.wanted,
        why: check.why,
        fix: check.fix,
    };
    let checks = checks.into_iter().map(view).collect();
    Ok(answer(StatusCode::OK, &DoctorView { checks }))
}
