//! The routes of tunnels and of the owner's Headscale.

use axum::http::Method;

use super::super::native::mesh;
use super::{Route, route};
use crate::domain::Scope::Owner;

pub(super) fn routes() -> Vec<Route> {
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const DELETE: Method = Method::DELETE;
    vec![
        route(GET, "/onebit/mesh", Owner, mesh::status),
        route(POST, "/onebit/mesh/peers", Owner, mesh::add),
        route(DELETE, "/onebit/mesh/peers/{device}", Owner, mesh::remove),
        route(GET, "/onebit/headscale", Owner, mesh::headscale),
        route(POST, "/onebit/headscale/invitations", Owner, mesh::invite),
        route(DELETE, "/onebit/headscale/nodes/{id}", Owner, mesh::expire),
    ]
}
