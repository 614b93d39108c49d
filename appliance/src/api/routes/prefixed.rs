//! The routes that stand below each of Lemonade's four prefixes, and OpenAI's beside them where they are not at home.

use axum::http::Method;

use super::super::{lemonade, llamacpp, native, openai, shared};
use super::{Route, route};
use crate::domain::Scope::{Chat, Infer, Owner, Public};

const GET: Method = Method::GET;
const POST: Method = Method::POST;

/// Lemonade's routes below one of its prefixes.
macro_rules! lemonade_below {
    ($prefix:literal) => {
        [
            route(
                GET,
                concat!($prefix, "/health"),
                Public,
                lemonade::health::health,
            ),
            route(
                GET,
                concat!($prefix, "/system-info"),
                Chat,
                lemonade::machine::system_info,
            ),
            route(
                GET,
                concat!($prefix, "/system-stats"),
                Chat,
                lemonade::machine::system_stats,
            ),
            route(
                GET,
                concat!($prefix, "/stats"),
                Chat,
                lemonade::stats::stats,
            ),
            route(POST, concat!($prefix, "/load"), Owner, lemonade::load::load),
            route(
                POST,
                concat!($prefix, "/unload"),
                Owner,
                lemonade::load::unload,
            ),
            route(
                POST,
                concat!($prefix, "/delete"),
                Owner,
                lemonade::load::delete,
            ),
            route(POST, concat!($prefix, "/pull"), Owner, lemonade::pull::pull),
            route(
                GET,
                concat!($prefix, "/pull/variants"),
                Owner,
                lemonade::registry::variants,
            ),
            route(
                GET,
                concat!($prefix, "/downloads"),
                Owner,
                lemonade::pull::downloads,
            ),
            route(
                POST,
                concat!($prefix, "/downloads/control"),
                Owner,
                lemonade::pull::control,
            ),
            route(
                POST,
                concat!($prefix, "/models/register"),
                Owner,
                lemonade::registry::register_only,
            ),
            route(
                POST,
                concat!($prefix, "/models/check-updates"),
                Owner,
                lemonade::registry::check_updates,
            ),
            route(
                POST,
                concat!($prefix, "/models/{*id}"),
                Owner,
                lemonade::models::set,
            ),
            route(
                Method::DELETE,
                concat!($prefix, "/models/{*id}"),
                Owner,
                lemonade::models::reset,
            ),
            route(
                POST,
                concat!($prefix, "/install"),
                Owner,
                lemonade::engines::install,
            ),
            route(
                POST,
                concat!($prefix, "/uninstall"),
                Owner,
                lemonade::engines::uninstall,
            ),
            route(
                GET,
                concat!($prefix, "/params"),
                Owner,
                lemonade::params::get,
            ),
            route(
                POST,
                concat!($prefix, "/params"),
                Owner,
                lemonade::params::set,
            ),
            route(
                POST,
                concat!($prefix, "/log-level"),
                Owner,
                lemonade::params::log_level,
            ),
            route(
                POST,
                concat!($prefix, "/routing/validate"),
                Chat,
                lemonade::routing::validate,
            ),
            route(
                POST,
                concat!($prefix, "/tokenize"),
                Chat,
                llamacpp::tokens::tokenize,
            ),
            route(
                GET,
                concat!($prefix, "/slots"),
                Chat,
                llamacpp::props::slots,
            ),
            route(
                POST,
                concat!($prefix, "/slots/{id}"),
                Chat,
                llamacpp::props::no_slots,
            ),
            route(
                POST,
                concat!($prefix, "/rerank"),
                Chat,
                llamacpp::props::no_rerank,
            ),
            route(
                POST,
                concat!($prefix, "/reranking"),
                Chat,
                llamacpp::props::no_rerank,
            ),
            route(
                POST,
                concat!($prefix, "/reranker"),
                Chat,
                llamacpp::props::no_rerank,
            ),
            route(
                GET,
                concat!($prefix, "/logs/stream"),
                Owner,
                lemonade::logs::stream,
            ),
        ]
    };
}

/// OpenAI's routes, and the models in Lemonade's form, where they stand below another prefix than `/v1`.
macro_rules! openai_below {
    ($prefix:literal) => {
        [
            route(
                GET,
                concat!($prefix, "/models"),
                Chat,
                lemonade::models::list,
            ),
            route(
                GET,
                concat!($prefix, "/models/{*id}"),
                Chat,
                lemonade::models::one,
            ),
            route(
                POST,
                concat!($prefix, "/chat/completions"),
                Chat,
                shared::chat,
            ),
            route(
                POST,
                concat!($prefix, "/completions"),
                Chat,
                shared::completions,
            ),
            route(
                POST,
                concat!($prefix, "/responses"),
                Chat,
                shared::responses,
            ),
            route(
                POST,
                concat!($prefix, "/embeddings"),
                Chat,
                openai::embeddings::answer_with_vectors,
            ),
            route(
                GET,
                concat!($prefix, "/realtime"),
                Infer,
                openai::realtime::connect_lemonade,
            ),
            route(
                POST,
                concat!($prefix, "/audio/speech"),
                Infer,
                openai::speech::speak,
            ),
            route(
                POST,
                concat!($prefix, "/images/generations"),
                Infer,
                openai::images::generate,
            ),
            route(
                POST,
                concat!($prefix, "/images/edits"),
                Infer,
                openai::images::edit,
            )
            .whole(),
            route(
                POST,
                concat!($prefix, "/images/variations"),
                Infer,
                openai::images::vary,
            )
            .whole(),
            route(
                POST,
                concat!($prefix, "/audio/transcriptions"),
                Infer,
                openai::transcriptions::transcribe,
            )
            .whole(),
        ]
    };
}

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    let mut table = Vec::new();
    table.extend(lemonade_below!("/v1"));
    table.extend(lemonade_below!("/v0"));
    table.extend(lemonade_below!("/api/v1"));
    table.extend(lemonade_below!("/api/v0"));
    table.extend(openai_below!("/v0"));
    table.extend(openai_below!("/api/v1"));
    table.extend(openai_below!("/api/v0"));
    table.extend(internal());
    table.extend(pictures());
    table
}

/// What Lemonade's own tools set, in one place.
fn internal() -> [Route; 7] {
    [
        route(GET, "/internal/config", Owner, lemonade::params::get),
        route(
            GET,
            "/internal/config/defaults",
            Owner,
            lemonade::params::defaults,
        ),
        route(POST, "/internal/set", Owner, lemonade::params::set),
        route(POST, "/internal/pin", Owner, lemonade::names::pin),
        route(GET, "/internal/aliases", Owner, lemonade::names::aliases),
        route(POST, "/internal/aliases", Owner, lemonade::names::set_alias),
        route(
            Method::DELETE,
            "/internal/aliases/{alias}",
            Owner,
            lemonade::names::remove_alias,
        ),
    ]
}

/// Pictures, by OpenAI's own paths and by those of the engine that draws them.
fn pictures() -> [Route; 5] {
    [
        route(
            POST,
            "/v1/images/generations",
            Infer,
            openai::images::generate,
        ),
        route(POST, "/v1/images/edits", Infer, openai::images::edit).whole(),
        route(POST, "/v1/images/variations", Infer, openai::images::vary).whole(),
        route(GET, "/sd/{*path}", Infer, native::painter::get),
        route(POST, "/sd/{*path}", Infer, native::painter::post),
    ]
}
