//! `GET /v1/route/explain`: the route that a request would take now, with every lane's score.

use axum::extract::{Query, State, rejection::QueryRejection};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::body::RequestError;
use super::super::failure::{Failure, json as answer};
use super::super::lane::{preset, priority};
use super::super::openai::OpenAi;
use super::super::openapi::{Operation, list, map, number, object, text, truth, words};
use crate::app::{App, Ask, Explained, Ranked};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ExplainQuery {
    #[serde(default)]
    model: String,
    prompt_tokens: Option<usize>,
    max_tokens: Option<usize>,
    lane: Option<String>,
    priority: Option<String>,
    prefer: Option<String>,
}

pub(in super::super) async fn explain(
    State(app): State<App>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Response, Failure<OpenAi>> {
    let Query(query) = query.map_err(|error| RequestError::Malformed(error.body_text()))?;
    let plain = Ask::default();
    let ask = Ask {
        prompt_tokens: query.prompt_tokens.unwrap_or(plain.prompt_tokens),
        tokens_max: query.max_tokens,
        lane: query.lane.as_deref(),
        priority: match query.priority.as_deref() {
            None => plain.priority,
            Some(word) => priority(word).ok_or_else(|| {
                RequestError::field("priority", "must be interactive or background")
            })?,
        },
        preset: match query.prefer.as_deref() {
            None => plain.preset,
            Some(word) => preset(word).ok_or_else(|| {
                RequestError::field("prefer", "must be balanced, fast, eco or quality")
            })?,
        },
        ..plain
    };
    let model = match query.model.as_str() {
        "" => app.name("").await?,
        named => named.to_owned(),
    };
    let explained = app.explain(&model, &ask).await?;
    Ok(answer(StatusCode::OK, &view(&explained)))
}

/// The routes about lanes, for the description of all.
pub(super) fn describe() -> Vec<Operation> {
    let one = |key, of| object([("lane", text()), ("model", text()), (key, of)]);
    let ranked = object([
        ("lane", text()),
        ("model", text()),
        ("first_token_s", number()),
        ("eta_s", number()),
        ("joules", number()),
        ("joules_measured", truth()),
        ("cost", number()),
        ("parts", map(number())),
    ]);
    let explained = object([
        ("model", text()),
        ("lane", text()),
        ("reason", text()),
        ("route", text()),
        ("ranked", list(ranked)),
        ("refused", list(one("why", text()))),
        ("table", text()),
    ]);
    let pinned = || object([("id", text()), ("pinned", truth())]);
    let group = || object([("name", text()), ("models", list(text()))]);
    vec![
        Operation::get(
            "/v1/route/explain",
            "Where a request would go now, and why not elsewhere",
        )
        .reads("model", text(), "as in a request; empty for the default")
        .reads("prompt_tokens", count(), "length of the prompt")
        .reads("max_tokens", count(), "limit of the answer")
        .reads("lane", text(), "only this lane, or this silicon")
        .reads(
            "priority",
            words(&["interactive", "background"]),
            "whether somebody waits",
        )
        .reads(
            "prefer",
            words(&["balanced", "fast", "eco", "quality"]),
            "what to prefer",
        )
        .writes(explained),
        Operation::get("/metrics", "The numbers, as Prometheus reads them")
            .text(200, "text/plain; version=0.0.4; charset=utf-8"),
        Operation::get("/stats", "The same numbers").writes(super::stats::schema()),
        Operation::post("/onebit/models/{id}/pin", "Keeps a model loaded").writes(pinned()),
        Operation::post("/onebit/models/{id}/unpin", "Lets a pinned model go again")
            .writes(pinned()),
        Operation::get(
            "/onebit/logical",
            "Names that several models share, and pinned models",
        )
        .writes(object([("logical", list(group())), ("pins", list(text()))])),
        Operation::new(
            Method::PUT,
            "/onebit/logical/{name}",
            "Gives several models one name, or takes it away",
        )
        .takes::<super::choices::LogicalBody>()
        .writes(group()),
    ]
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn view(explained: &Explained) -> Value {
    let refused: Vec<Value> = explained
        .refused
        .iter()
        .map(|(lane, model, why)| json!({ "lane": lane, "model": model, "why": why }))
        .collect();
    json!({
        "model": explained.model,
        "lane": explained.lane,
        "reason": explained.reason,
        "route": explained.header,
        "ranked": explained.ranked.iter().map(ranked).collect::<Vec<_>>(),
        "refused": refused,
        "table": explained.table,
    })
}

fn ranked(ranked: &Ranked) -> Value {
    let parts: Map<String, Value> = ranked
        .parts
        .iter()
        .map(|(name, part)| ((*name).to_owned(), json!(part)))
        .collect();
    json!({
        "lane": ranked.lane,
        "model": ranked.model,
        "first_token_s": ranked.first_token_s,
        "eta_s": ranked.eta_s,
        "joules": ranked.joules,
        "joules_measured": ranked.joules_measured,
        "cost": ranked.parts.iter().map(|(_, part)| part).sum::<f64>(),
        "parts": parts,
    })
}
