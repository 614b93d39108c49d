//! Whether the appliance answers: for service managers, load balancers and the page.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::failure;
use crate::app::VERSION;

/// `GET /health`: it runs. Names no model and no process, for anybody may ask.
pub(super) async fn health() -> Response {
    failure::json(
        StatusCode::OK,
        &json!({ "status": "ok", "version": VERSION }),
    )
}
