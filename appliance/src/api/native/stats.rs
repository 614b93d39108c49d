//! `GET /stats`: the numbers of `/metrics` for programs that want JSON, and for the page.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::super::failure::{Failure, json as answer};
use super::super::openai::OpenAi;
use super::super::openapi::{list, map, maybe, number, object, text, whole};
use crate::app::{App, LaneNumbers, Numbers, RateNumbers, Series, VERSION};

pub(in super::super) async fn stats(State(app): State<App>) -> Result<Response, Failure<OpenAi>> {
    Ok(answer(StatusCode::OK, &view(&app.numbers().await?)))
}

/// The shape of the answer.
pub(super) fn schema() -> Value {
    let any = || json!({ "type": "object" });
    let spread = || object([("count", whole()), ("mean", maybe(number()))]);
    let lane = object([
        ("lane", text()),
        ("active", whole()),
        ("requests", map(whole())),
        ("prompt_tokens", whole()),
        ("made_tokens", whole()),
        ("joules", maybe(number())),
        ("first_token_s", spread()),
        ("between_tokens_s", spread()),
    ]);
    let gpu = object([
        ("name", text()),
        ("busy_percent", maybe(number())),
        ("watts", maybe(number())),
        ("clock_mhz", maybe(number())),
        ("celsius", maybe(number())),
    ]);
    object([
        ("version", text()),
        ("uptime_s", number()),
        ("queue", map(whole())),
        ("memory", map(maybe(whole()))),
        ("routing", any()),
        ("lanes", list(lane)),
        ("rates", list(any())),
        ("rates_unsaved", whole()),
        ("gpus", list(gpu)),
        ("energy_joules", map(number())),
    ])
}

fn view(numbers: &Numbers) -> Value {
    let status = &numbers.status;
    let measured = &numbers.measured;
    let gpus: Vec<Value> = numbers
        .gpus
        .iter()
        .map(|(gpu, now)| {
            json!({
                "name": gpu.name,
                "busy_percent": now.busy_percent,
                "watts": now.power_watts,
                "clock_mhz": now.clock_mhz,
                "celsius": now.temperature_celsius,
            })
        })
        .collect();
    let energy: Map<String, Value> = numbers
        .energy
        .iter()
        .map(|energy| (energy.part.clone(), json!(energy.joules)))
        .collect();
    let decisions: Vec<Value> = measured
        .decisions
        .iter()
        .map(|decided| json!({ "at": decided.at, "route": decided.route }))
        .collect();
    json!({
        "version": VERSION,
        "uptime_s": status.uptime.as_secs_f64(),
        "queue": { "active": status.active, "waiting": status.waiting },
        "memory": {
            "total_bytes": status.machine.memory_total_bytes,
            "available_bytes": status.machine.memory_available_bytes,
            "used_by_models_bytes": status.models_bytes,
            "own_bytes": numbers.own_bytes,
        },
        "routing": {
            "decided": measured.decided,
            "moved": measured.moved,
            "mean_us": measured.routing_mean.as_secs_f64() * 1e6,
            "slowest_us": measured.routing_slowest.as_secs_f64() * 1e6,
            "last": decisions,
        },
        "lanes": measured.lanes.iter().map(lane).collect::<Vec<_>>(),
        "rates_unsaved": measured.unsaved,
        "rates": measured.rates.iter().map(rates).collect::<Vec<_>>(),
        "gpus": gpus,
        "energy_joules": energy,
    })
}

fn lane(lane: &LaneNumbers) -> Value {
    let outcomes: Map<String, Value> = lane
        .outcomes
        .iter()
        .map(|(name, count)| ((*name).to_owned(), json!(count)))
        .collect();
    json!({
        "lane": lane.lane,
        "active": lane.active,
        "requests": outcomes,
        "prompt_tokens": lane.prompt_tokens,
        "cached_tokens": lane.cached_tokens,
        "made_tokens": lane.made_tokens,
        "joules": lane.joules,
        "queue_s": series(&lane.queue),
        "load_s": series(&lane.load),
        "first_token_s": series(&lane.first_token),
        "between_tokens_s": series(&lane.between),
        "answer_tokens": series(&lane.tokens),
    })
}

/// What a histogram says: shares of the values keep within the bounds named here.
fn series(series: &Series) -> Value {
    let count = series.count();
    json!({
        "count": count,
        "mean": (count > 0).then(|| series.sum / count as f64),
        "p50_within": series.within(0.5),
        "p90_within": series.within(0.9),
        "p99_within": series.within(0.99),
    })
}

fn rates(numbers: &RateNumbers) -> Value {
    let rates: Map<String, Value> = numbers
        .rates
        .iter()
        .map(|(name, value, count)| {
            (
                (*name).to_owned(),
                json!({ "average": value, "measured": count }),
            )
        })
        .collect();
    json!({ "lane": numbers.lane, "model": numbers.model, "rates": rates })
}
