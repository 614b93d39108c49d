//! Chats of the page, and the turns in them.

use axum::http::Method;

use super::super::native::{chats, import, turns};
use super::{Route, route};
use crate::domain::Scope::Chat;

const GET: Method = Method::GET;
const POST: Method = Method::POST;

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(GET, "/onebit/chats", Chat, chats::list),
        route(POST, "/onebit/chats", Chat, chats::create),
        route(POST, "/onebit/chats/import", Chat, import::import),
        route(GET, "/onebit/chats/{id}", Chat, chats::one),
        route(Method::PATCH, "/onebit/chats/{id}", Chat, chats::change),
        route(Method::DELETE, "/onebit/chats/{id}", Chat, chats::delete),
        route(POST, "/onebit/chats/{id}/turns", Chat, turns::start),
        route(
            GET,
            "/onebit/messages/{id}/pictures/{number}",
            Chat,
            turns::picture,
        ),
        route(POST, "/onebit/turns/{id}/stop", Chat, turns::stop),
        route(GET, "/onebit/turns/{id}/events", Chat, turns::events),
    ]
}
