//! The routes of GAIA's page, and the page itself. Documents stand with the library.

use axum::http::Method;

use super::super::gaia::{agents, chat, files, mcp, newer, page, sessions, system, tunnel};
use super::{Route, route};
use crate::domain::Scope::{Chat, Owner, Public};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

/// All of them. What shows or changes this machine is its owner's; sessions and uploads are each person's own.
pub(super) fn routes() -> Vec<Route> {
    vec![
        route(GET, "/gaia", Public, page::enter),
        route(GET, "/gaia/", Public, page::index),
        route(GET, "/gaia/{*path}", Public, page::file),
        route(GET, "/api/health", Public, system::health),
        route(GET, "/api/system/status", Chat, system::status),
        route(GET, "/api/system/tasks", Chat, system::tasks),
        route(POST, "/api/system/load-model", Owner, system::load_model),
        route(
            POST,
            "/api/system/download-model",
            Owner,
            system::download_model,
        ),
        route(GET, "/api/settings", Chat, system::settings),
        route(PUT, "/api/settings", Chat, system::set_settings),
        route(GET, "/api/sessions", Chat, sessions::list),
        route(POST, "/api/sessions", Chat, sessions::create),
        route(GET, "/api/sessions/{id}", Chat, sessions::one),
        route(PUT, "/api/sessions/{id}", Chat, sessions::change),
        route(DELETE, "/api/sessions/{id}", Chat, sessions::delete),
        route(GET, "/api/sessions/{id}/messages", Chat, sessions::messages),
        route(
            DELETE,
            "/api/sessions/{id}/messages/{message}",
            Chat,
            sessions::delete_message,
        ),
        route(
            DELETE,
            "/api/sessions/{id}/messages/{message}/and-below",
            Chat,
            sessions::delete_from,
        ),
        route(GET, "/api/sessions/{id}/export", Chat, sessions::export),
        route(POST, "/api/sessions/{id}/documents", Chat, sessions::attach),
        route(
            DELETE,
            "/api/sessions/{id}/documents/{document}",
            Chat,
            sessions::detach,
        ),
        route(POST, "/api/chat/send", Chat, chat::send),
        route(POST, "/api/chat/confirm-tool", Chat, chat::confirm),
        route(GET, "/api/files/browse", Owner, files::browse),
        route(GET, "/api/files/search", Owner, files::search),
        route(GET, "/api/files/preview", Owner, files::preview),
        route(GET, "/api/files/image", Owner, files::image),
        route(POST, "/api/files/open", Owner, files::open),
        route(POST, "/api/files/upload", Chat, files::upload).whole(),
        route(GET, "/api/files/uploads/{name}", Chat, files::uploaded),
        route(POST, "/api/tunnel/start", Owner, tunnel::start),
        route(GET, "/api/tunnel/status", Owner, tunnel::status),
        route(POST, "/api/tunnel/stop", Owner, tunnel::stop),
        route(GET, "/api/agents", Chat, agents::list),
        route(POST, "/api/agents/export", Owner, agents::export),
        route(POST, "/api/agents/import", Owner, agents::import).whole(),
        route(GET, "/api/agents/{*id}", Chat, agents::one),
        route(GET, "/api/mcp/servers", Owner, mcp::list),
        route(POST, "/api/mcp/servers", Owner, mcp::add),
        route(DELETE, "/api/mcp/servers/{name}", Owner, mcp::remove),
        route(POST, "/api/mcp/servers/{name}/enable", Owner, mcp::enable),
        route(POST, "/api/mcp/servers/{name}/disable", Owner, mcp::disable),
        route(GET, "/api/mcp/servers/{name}/tools", Owner, mcp::tools),
        route(GET, "/api/mcp/catalog", Chat, mcp::catalog),
        route(GET, "/api/mcp/status", Chat, mcp::status),
        // what the page of 0.25.1 asks beside them
        route(GET, "/api/chat/active", Chat, newer::active),
        route(POST, "/api/chat/cancel", Chat, newer::cancel),
        route(GET, "/api/chat/permissions", Chat, newer::all_permissions),
        route(GET, "/api/chat/permissions/{id}", Chat, newer::permissions),
        route(
            PUT,
            "/api/chat/permissions/{id}",
            Chat,
            newer::set_permissions,
        ),
        route(GET, "/api/chat/context/{id}", Chat, newer::context),
        route(GET, "/api/sessions/events", Chat, newer::events),
        route(
            GET,
            "/api/sessions/{id}/environment",
            Chat,
            newer::environment,
        ),
        route(GET, "/api/sessions/{id}/outputs", Chat, newer::outputs),
        route(GET, "/api/sessions/{id}/changes", Chat, newer::turns),
        route(
            GET,
            "/api/sessions/{id}/changes/total",
            Chat,
            newer::changes,
        ),
        route(GET, "/api/schedules", Chat, newer::schedules),
        route(GET, "/api/setup/check", Chat, newer::setup),
        route(GET, "/api/onboarding/start", Chat, newer::start_screen),
        route(GET, "/api/system/warm-up", Chat, newer::warm),
        route(POST, "/api/system/warm-up", Chat, newer::warm_up),
        route(GET, "/api/providers/active", Chat, newer::provider),
        route(GET, "/api/providers/local/models", Chat, newer::models),
        route(
            GET,
            "/api/providers/local/status",
            Chat,
            newer::provider_status,
        ),
    ]
}
