//! `/sd/...`: the picture engine's own routes, for programs that speak them. The engine is ours to start and to stop.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::body::RequestError;
use super::super::failure::Failure;
use super::super::openai::OpenAi;
use crate::app::App;

/// What is passed on: the routes of AUTOMATIC1111's web interface and the server's own. Those of OpenAI are ours.
const FAMILIES: [&str; 2] = ["sdapi/v1/", "sdcpp/v1/"];

/// `GET /sd/{*path}`
pub(in super::super) async fn get(
    State(app): State<App>,
    Path(path): Path<String>,
) -> Result<Response, Failure<OpenAi>> {
    forward(app, path, None).await
}

/// `POST /sd/{*path}`
pub(in super::super) async fn post(
    State(app): State<App>,
    Path(path): Path<String>,
    body: Bytes,
) -> Result<Response, Failure<OpenAi>> {
    forward(app, path, Some(body)).await
}

async fn forward(app: App, path: String, body: Option<Bytes>) -> Result<Response, Failure<OpenAi>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    let known = FAMILIES.iter().any(|family| path.starts_with(family));
    if !known || !path.chars().all(plain) {
        let method = if body.is_some() { "POST" } else { "GET" };
        return Err(RequestError::NoRoute {
            method: method.to_owned(),
            path: format!("/sd/{path}"),
        }
        .into());
    }
    let answer = app.forward_to_painter(format!("/{path}"), body).await?;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((status, json, answer.body).into_response())
}
