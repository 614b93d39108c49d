//! Paths that two dialects share: the header that only one of them sends decides.

use axum::extract::Request;
use axum::handler::Handler;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::anthropic::Anthropic;
use super::failure::Failure;
use super::openai::OpenAi;
use super::{anthropic, openai};
use crate::app::App;
use crate::error::Failing;

/// Whether an Anthropic client asks: its API demands this header of everyone.
fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// `GET /v1/models`
pub(super) async fn models(
    axum::extract::State(app): axum::extract::State<App>,
    request: Request,
) -> Response {
    if is_anthropic(request.headers()) {
        anthropic::models::list.call(request, app).await
    } else {
        openai::models::list.call(request, app).await
    }
}

/// `GET /v1/models/{id}`
pub(super) async fn model(
    axum::extract::State(app): axum::extract::State<App>,
    request: Request,
) -> Response {
    if is_anthropic(request.headers()) {
        anthropic::models::one.call(request, app).await
    } else {
        openai::models::one.call(request, app).await
    }
}

/// A refusal before any handler has seen the request, in the shape of the dialect that the path belongs to.
pub(super) fn refusal<E>(path: &str, headers: &HeaderMap, error: E) -> Response
where
    E: Failing + Send + Sync + 'static,
{
    if path.starts_with("/v1/messages") || (path.starts_with("/v1/") && is_anthropic(headers)) {
        Failure::<Anthropic>::from(error).into_response()
    } else {
        Failure::<OpenAi>::from(error).into_response()
    }
}
