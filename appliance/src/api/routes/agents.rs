//! Agents, their runs and their tools.

use axum::extract::DefaultBodyLimit;
use axum::http::Method;

use super::super::native::{agents, mcp, runs};
use super::{Route, route};
use crate::domain::Scope::{Chat, Infer, Owner};

const GET: Method = Method::GET;
const POST: Method = Method::POST;

/// Agents come in as a zip, larger than other bodies and still bounded.
fn bundle() -> Route {
    let mut route = route(POST, "/onebit/agents/import", Owner, agents::import);
    route.handler = route.handler.layer(DefaultBodyLimit::disable());
    route.rule.any_body = true;
    route.rule.body_bytes_max = Some(agents::BUNDLE_BYTES_MAX);
    route
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        route(GET, "/onebit/agents", Chat, agents::list),
        route(POST, "/onebit/agents/export", Owner, agents::export),
        bundle(),
        route(GET, "/onebit/agents/{id}", Chat, agents::one),
        route(Method::PUT, "/onebit/agents/{id}", Owner, agents::put),
        route(Method::DELETE, "/onebit/agents/{id}", Owner, agents::remove),
        route(GET, "/onebit/tools", Chat, agents::tools),
        route(POST, "/onebit/runs", Chat, runs::start),
        route(GET, "/onebit/runs", Chat, runs::list),
        route(GET, "/onebit/runs/{id}", Chat, runs::one),
        route(GET, "/onebit/runs/{id}/events", Chat, runs::events),
        route(POST, "/onebit/runs/{id}/decide", Chat, runs::decide),
        route(POST, "/onebit/runs/{id}/stop", Chat, runs::stop),
        route(GET, "/onebit/mcp", Owner, mcp::list),
        route(POST, "/onebit/mcp", Owner, mcp::add),
        route(Method::PATCH, "/onebit/mcp/{name}", Owner, mcp::change),
        route(Method::DELETE, "/onebit/mcp/{name}", Owner, mcp::remove),
        route(GET, "/onebit/mcp/{name}/tools", Owner, mcp::tools),
        route(POST, "/mcp", Infer, super::super::mcp::answer),
    ]
}
