//! Every route of the appliance in one table: method, path, and the scope that it needs.

mod agents;
mod chats;
mod gaia;
mod mesh;
mod prefixed;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{DefaultBodyLimit, Request};
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Redirect, Response};
use axum::routing::{MethodFilter, MethodRouter, on};

use super::body::RequestError;
use super::{
    anthropic, assets, documents, guard, health, lane, lemonade, llamacpp, metrics, native, ollama,
    openai, openapi, shared,
};
use crate::app::{App, new_id};
use crate::domain::Scope;

/// What a route is, without its handler: for documents and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFact {
    /// The method.
    pub method: Method,
    /// The path, with `{names}` for its parts.
    pub path: &'static str,
    /// What a peer must hold.
    pub scope: Scope,
}

struct Route {
    fact: RouteFact,
    rule: guard::Rule,
    handler: MethodRouter<App>,
}

impl Route {
    /// Takes bodies of any length and kind: its handler counts them as they go to disk.
    fn whole(mut self) -> Route {
        self.handler = self.handler.layer(DefaultBodyLimit::disable());
        self.rule.any_body = true;
        self.rule.body_bytes_max = Some(usize::MAX);
        self
    }
}

fn route<H, T>(method: Method, path: &'static str, scope: Scope, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    let filter = match method {
        Method::POST => MethodFilter::POST,
        Method::PATCH => MethodFilter::PATCH,
        Method::PUT => MethodFilter::PUT,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET, // answers HEAD as well
    };
    Route {
        fact: RouteFact {
            method,
            path,
            scope,
        },
        rule: guard::Rule {
            scope,
            any_body: false,
            body_bytes_max: None,
        },
        handler: on(filter, handler),
    }
}

/// The table. Owner: models, devices and settings. Chat: one's own chats, documents and settings. Infer: asking
/// models. Public: nothing private.
fn table() -> Vec<Route> {
    let mut table = single();
    table.extend(gaia::routes());
    table.extend(prefixed::routes());
    table.extend(mesh::routes());
    table.extend(agents::routes());
    table.extend(chats::routes());
    table
}

/// The routes that stand in one place only.
fn single() -> Vec<Route> {
    use Scope::{Chat, Infer, Owner, Public};
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    vec![
        route(GET, "/health", Public, health::health),
        route(GET, "/", Public, shared::root),
        route(GET, "/app", Public, || async {
            Redirect::temporary("/app/")
        }),
        route(GET, "/app/", Public, assets::index),
        route(GET, "/app/{*path}", Public, assets::file),
        route(GET, "/favicon.ico", Public, assets::favicon),
        route(GET, "/openapi.json", Chat, openapi::document),
        route(GET, "/reference", Chat, openapi::page),
        route(GET, "/reference.css", Chat, openapi::style),
        // OpenAI
        route(GET, "/v1/models", Infer, shared::models),
        route(GET, "/v1/models/{*id}", Infer, shared::model),
        route(POST, "/v1/chat/completions", Infer, shared::chat),
        route(POST, "/v1/completions", Infer, shared::completions),
        route(POST, "/v1/responses", Infer, shared::responses),
        route(GET, "/v1/responses/{id}", Chat, openai::responses::one),
        route(
            Method::DELETE,
            "/v1/responses/{id}",
            Chat,
            openai::responses::delete,
        ),
        route(
            GET,
            "/v1/responses/{id}/input_items",
            Chat,
            openai::responses::input_items,
        ),
        route(
            POST,
            "/v1/embeddings",
            Infer,
            openai::embeddings::answer_with_vectors,
        ),
        route(
            POST,
            "/v1/audio/transcriptions",
            Infer,
            openai::transcriptions::transcribe,
        )
        .whole(),
        route(
            POST,
            "/v1/audio/translations",
            Infer,
            openai::transcriptions::translate,
        )
        .whole(),
        route(POST, "/v1/audio/speech", Infer, openai::speech::speak),
        route(GET, "/v1/audio/voices", Infer, openai::speech::voices),
        route(GET, "/v1/realtime", Infer, openai::realtime::connect),
        route(GET, "/v1/files", Chat, openai::files::list),
        route(POST, "/v1/files", Chat, openai::files::create).whole(),
        route(GET, "/v1/files/{id}", Chat, openai::files::one),
        route(
            Method::DELETE,
            "/v1/files/{id}",
            Chat,
            openai::files::delete,
        ),
        route(GET, "/v1/files/{id}/content", Chat, openai::files::content),
        route(GET, "/v1/vector_stores", Chat, openai::vector_stores::list),
        route(
            POST,
            "/v1/vector_stores",
            Chat,
            openai::vector_stores::create,
        ),
        route(
            GET,
            "/v1/vector_stores/{id}",
            Chat,
            openai::vector_stores::one,
        ),
        route(
            POST,
            "/v1/vector_stores/{id}",
            Chat,
            openai::vector_stores::change,
        ),
        route(
            Method::DELETE,
            "/v1/vector_stores/{id}",
            Chat,
            openai::vector_stores::delete,
        ),
        route(
            GET,
            "/v1/vector_stores/{id}/files",
            Chat,
            openai::vector_stores::files,
        ),
        route(
            POST,
            "/v1/vector_stores/{id}/files",
            Chat,
            openai::vector_stores::put,
        ),
        route(
            GET,
            "/v1/vector_stores/{id}/files/{file}",
            Chat,
            openai::vector_stores::file,
        ),
        route(
            Method::DELETE,
            "/v1/vector_stores/{id}/files/{file}",
            Chat,
            openai::vector_stores::take,
        ),
        route(
            POST,
            "/v1/vector_stores/{id}/file_batches",
            Chat,
            openai::vector_stores::batch,
        ),
        route(
            POST,
            "/v1/vector_stores/{id}/search",
            Chat,
            openai::vector_stores::search,
        ),
        route(POST, "/v1/moderations", Infer, openai::moderations::refuse),
        // Anthropic
        route(POST, "/v1/messages", Infer, anthropic::messages::answer),
        route(
            POST,
            "/v1/messages/count_tokens",
            Infer,
            anthropic::messages::count,
        ),
        // Ollama
        route(GET, "/api/version", Public, ollama::version),
        route(GET, "/api/tags", Infer, ollama::models::tags),
        route(GET, "/api/ps", Infer, ollama::models::ps),
        route(POST, "/api/show", Infer, ollama::models::show),
        route(POST, "/api/chat", Infer, ollama::chat::answer),
        route(POST, "/api/generate", Infer, ollama::generate::answer),
        route(POST, "/api/embed", Infer, ollama::embed::embed),
        route(POST, "/api/embeddings", Infer, ollama::embed::embeddings),
        route(POST, "/api/pull", Owner, ollama::pull::pull),
        route(POST, "/api/copy", Owner, ollama::manage::copy),
        route(Method::DELETE, "/api/delete", Owner, ollama::manage::delete),
        route(POST, "/api/create", Owner, ollama::manage::no_create),
        route(POST, "/api/push", Owner, ollama::manage::no_push),
        route(GET, "/api/blobs/{digest}", Owner, ollama::manage::blob),
        route(POST, "/api/blobs/{digest}", Owner, ollama::manage::no_blob),
        // llama.cpp's server: its own, and OpenAI's without the version
        route(POST, "/completion", Infer, llamacpp::completion::completion),
        route(
            POST,
            "/completions",
            Infer,
            llamacpp::completion::completion,
        ),
        route(POST, "/infill", Infer, llamacpp::completion::infill),
        route(POST, "/tokenize", Infer, llamacpp::tokens::tokenize),
        route(POST, "/detokenize", Infer, llamacpp::tokens::detokenize),
        route(
            POST,
            "/apply-template",
            Infer,
            llamacpp::tokens::apply_template,
        ),
        route(POST, "/embedding", Infer, llamacpp::embedding::embedding),
        route(GET, "/props", Infer, llamacpp::props::props),
        route(POST, "/props", Owner, llamacpp::props::no_props),
        route(GET, "/slots", Infer, llamacpp::props::slots),
        route(POST, "/slots/{id}", Infer, llamacpp::props::no_slots),
        route(GET, "/lora-adapters", Infer, llamacpp::props::lora_adapters),
        route(POST, "/lora-adapters", Owner, llamacpp::props::no_lora),
        route(POST, "/rerank", Infer, llamacpp::props::no_rerank),
        route(POST, "/reranking", Infer, llamacpp::props::no_rerank),
        route(POST, "/chat/completions", Infer, openai::chat::answer),
        route(
            POST,
            "/embeddings",
            Infer,
            openai::embeddings::answer_with_vectors,
        ),
        route(GET, "/models", Infer, openai::models::list),
        // documents: GAIA's paths, and what it has none for
        route(GET, "/api/documents", Chat, documents::list),
        route(POST, "/api/documents/upload", Chat, documents::add::upload).whole(),
        route(POST, "/api/documents/raw", Chat, documents::add::raw).whole(),
        route(POST, "/api/documents/note", Chat, documents::add::note),
        route(
            POST,
            "/api/documents/upload-path",
            Owner,
            documents::add::path,
        ),
        route(
            POST,
            "/api/documents/index-folder",
            Owner,
            documents::add::folder,
        ),
        route(POST, "/api/documents/url", Owner, documents::add::url),
        route(
            GET,
            "/api/documents/monitor/status",
            Chat,
            documents::monitor,
        ),
        route(
            Method::DELETE,
            "/api/documents/monitor/{id}",
            Owner,
            documents::unwatch,
        ),
        route(GET, "/api/documents/{id}", Chat, documents::one),
        route(
            Method::DELETE,
            "/api/documents/{id}",
            Chat,
            documents::delete,
        ),
        route(GET, "/api/documents/{id}/status", Chat, documents::status),
        route(POST, "/api/documents/{id}/cancel", Chat, documents::cancel),
        route(POST, "/api/documents/{id}/retry", Chat, documents::retry),
        route(
            GET,
            "/api/documents/{id}/content",
            Chat,
            documents::texts::content,
        ),
        route(
            GET,
            "/api/documents/{id}/chunks",
            Chat,
            documents::texts::chunks,
        ),
        route(
            GET,
            "/api/documents/{id}/chunks/{number}",
            Chat,
            documents::texts::chunk,
        ),
        route(POST, "/v1/search", Chat, native::library::search),
        route(
            GET,
            "/onebit/collections",
            Chat,
            native::library::collections,
        ),
        route(POST, "/onebit/collections", Chat, native::library::create),
        route(
            Method::PATCH,
            "/onebit/collections/{id}",
            Chat,
            native::library::rename,
        ),
        route(
            Method::DELETE,
            "/onebit/collections/{id}",
            Chat,
            native::library::delete,
        ),
        route(
            Method::PUT,
            "/onebit/collections/{id}/documents/{document}",
            Chat,
            native::library::put,
        ),
        route(
            Method::DELETE,
            "/onebit/collections/{id}/documents/{document}",
            Chat,
            native::library::take,
        ),
        route(GET, "/onebit/library", Owner, native::library::export),
        route(POST, "/onebit/library", Owner, native::library::import).whole(),
        route(GET, "/models/{*id}", Infer, openai::models::one),
        // Lemonade's that stand in one place
        route(GET, "/live", Public, lemonade::health::live),
        route(GET, "/logs/stream", Owner, lemonade::logs::stream),
        route(GET, "/realtime", Infer, openai::realtime::connect_lemonade),
        // where requests go, and what that costs
        route(GET, "/v1/route/explain", Chat, native::route::explain),
        route(GET, "/metrics", Chat, metrics::metrics),
        route(GET, "/stats", Chat, native::stats::stats),
        // who is let in
        route(GET, "/pair", Public, assets::pair),
        route(GET, "/ca.pem", Public, native::access::authority),
        route(GET, "/ca.mobileconfig", Public, native::access::profile),
        route(GET, "/onebit/session", Public, native::access::session),
        route(POST, "/onebit/claim", Public, native::access::claim),
        route(POST, "/onebit/pair", Public, native::pairing::claim),
        route(POST, "/onebit/pair/{id}", Public, native::pairing::collect),
        route(
            Method::DELETE,
            "/onebit/session",
            Infer,
            native::access::sign_out,
        ),
        route(POST, "/onebit/session/renew", Infer, native::access::renew),
        route(POST, "/onebit/tickets", Infer, native::access::ticket),
        route(POST, "/onebit/pairing", Owner, native::pairing::open),
        route(GET, "/onebit/pairing", Owner, native::pairing::list),
        route(POST, "/onebit/pairing/{id}", Owner, native::pairing::decide),
        route(GET, "/onebit/devices", Owner, native::access::devices),
        route(
            Method::DELETE,
            "/onebit/devices",
            Owner,
            native::access::remove_all_devices,
        ),
        route(
            Method::PATCH,
            "/onebit/devices/{id}",
            Owner,
            native::access::rename_device,
        ),
        route(
            Method::DELETE,
            "/onebit/devices/{id}",
            Owner,
            native::access::remove_device,
        ),
        route(GET, "/onebit/keys", Owner, native::access::keys),
        route(POST, "/onebit/keys", Owner, native::access::add_key),
        route(
            Method::DELETE,
            "/onebit/keys/{id}",
            Owner,
            native::access::remove_key,
        ),
        route(GET, "/onebit/persons", Owner, native::access::persons),
        route(POST, "/onebit/persons", Owner, native::access::add_person),
        route(
            Method::DELETE,
            "/onebit/persons/{id}",
            Owner,
            native::access::remove_person,
        ),
        route(GET, "/onebit/audit", Owner, native::access::audit),
        // the page
        route(GET, "/onebit/status", Chat, native::status),
        route(GET, "/onebit/doctor", Owner, native::doctor::doctor),
        route(GET, "/onebit/starter", Chat, native::starter::show),
        route(POST, "/onebit/starter", Owner, native::starter::decide),
        route(GET, "/onebit/update", Owner, native::machine::update),
        route(GET, "/onebit/hub", Owner, native::machine::hub),
        route(GET, "/onebit/models", Chat, native::models::list),
        route(GET, "/onebit/models/{id}", Chat, native::models::one),
        route(
            POST,
            "/onebit/models/{id}/load",
            Owner,
            native::models::load,
        ),
        route(
            POST,
            "/onebit/models/{id}/unload",
            Owner,
            native::models::unload,
        ),
        route(
            Method::DELETE,
            "/onebit/models/{id}",
            Owner,
            native::models::remove,
        ),
        route(POST, "/onebit/models/{id}/pin", Owner, native::choices::pin),
        route(
            POST,
            "/onebit/models/{id}/unpin",
            Owner,
            native::choices::unpin,
        ),
        route(GET, "/onebit/logical", Chat, native::choices::list),
        route(
            Method::PUT,
            "/onebit/logical/{name}",
            Owner,
            native::choices::put,
        ),
        route(GET, "/onebit/settings", Chat, native::settings::all),
        route(
            Method::PUT,
            "/onebit/settings/{key}",
            Chat,
            native::settings::set,
        ),
    ]
}

/// The table without its handlers.
pub fn facts() -> Vec<RouteFact> {
    table().into_iter().map(|route| route.fact).collect()
}

/// The whole HTTP surface.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for Route {
        fact,
        rule,
        handler,
    } in table()
    {
        router = router.route(
            fact.path,
            handler.layer(from_fn_with_state((app.clone(), rule), guard::require)),
        );
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn(in_shape))
        .layer(from_fn(lane::carry))
        .layer(from_fn_with_state(app.clone(), guard::check))
        .layer(from_fn(log))
        .with_state(app)
}

/// Gives what the framework itself refuses (a path or a query that cannot be read) the shape of its dialect.
async fn in_shape(request: Request, next: Next) -> Response {
    let (path, headers) = (request.uri().path().to_owned(), request.headers().clone());
    let response = next.run(request).await;
    let plain = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if response.status() != StatusCode::BAD_REQUEST || !plain {
        return response;
    }
    // Its words are one line; more than that is not ours to tell.
    let words = to_bytes(response.into_body(), 4096)
        .await
        .unwrap_or_default();
    let why = String::from_utf8_lossy(&words).into_owned();
    shared::refusal(&path, &headers, RequestError::Unread(why))
}

async fn no_route(request: Request) -> Response {
    let (method, path) = (
        request.method().to_string(),
        request.uri().path().to_owned(),
    );
    if let Some(response) = lemonade::no_route(&method, &path) {
        return response;
    }
    if shared::is_ollama(&path) {
        return ollama::no_route();
    }
    let error = RequestError::NoRoute {
        method,
        path: path.clone(),
    };
    shared::refusal(&path, request.headers(), error)
}

async fn no_method(request: Request) -> Response {
    let (method, path) = (
        request.method().to_string(),
        request.uri().path().to_owned(),
    );
    if lemonade::owns(&path) {
        return lemonade::no_method();
    }
    let error = RequestError::NoMethod {
        method,
        path: path.clone(),
    };
    let mut response = shared::refusal(&path, request.headers(), error);
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// One line for each request, with its status; never a body or a query, which may be private. The line's number goes
/// to the client under the names that OpenAI's and Anthropic's clients show.
async fn log(request: Request, next: Next) -> Response {
    let started = std::time::Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    let id = new_id().map(|id| format!("req_{id}")).unwrap_or_default();
    tracing::debug!(%method, path, status, id, us = started.elapsed().as_micros() as u64, "request");
    if let Ok(id) = HeaderValue::try_from(id) {
        let headers = response.headers_mut();
        headers.insert("x-request-id", id.clone());
        headers.insert("request-id", id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_stands_twice_and_only_few_are_public() {
        let facts = facts();
        for (i, fact) in facts.iter().enumerate() {
            assert!(
                facts[..i]
                    .iter()
                    .all(|other| (&other.method, other.path) != (&fact.method, fact.path)),
                "{} {}",
                fact.method,
                fact.path
            );
        }
        let public: Vec<_> = facts
            .iter()
            .filter(|f| f.scope == Scope::Public)
            .map(|f| f.path)
            .collect();
        assert_eq!(
            public,
            [
                "/health",
                "/",
                "/app",
                "/app/",
                "/app/{*path}",
                "/favicon.ico",
                "/api/version",
                "/live",
                "/pair",
                "/ca.pem",
                "/ca.mobileconfig",
                "/onebit/session",
                "/onebit/claim",
                "/onebit/pair",
                "/onebit/pair/{id}",
                "/gaia",
                "/gaia/",
                "/gaia/{*path}",
                "/api/health",
                "/v1/health",
                "/v0/health",
                "/api/v1/health",
                "/api/v0/health"
            ]
        );
    }
}
