//! Paths that several dialects share: a header that only one of them sends, or the path itself, decides.

use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};

use super::anthropic::Anthropic;
use super::failure::Failure;
use super::gaia::Gaia;
use super::lemonade::Lemonade;
use super::llamacpp::LlamaCpp;
use super::ollama::Ollama;
use super::openai::OpenAi;
use super::{anthropic, gaia, lemonade, llamacpp, ollama, openai};
use crate::app::App;
use crate::error::Failing;

/// Whether an Anthropic client asks: its API demands this header of everyone.
fn is_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// Whether a path is Ollama's: below `/api`, but not the versioned paths that other servers have there.
pub(super) fn is_ollama(path: &str) -> bool {
    let versioned = ["/api/v0", "/api/v1"].iter().any(|prefix| {
        let rest = path.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    (path == "/api" || path.starts_with("/api/")) && !versioned
}

/// `GET /`: a phone that has scanned GAIA's picture goes on to be paired; everybody else is Ollama's or a person.
pub(super) async fn root(uri: Uri, headers: HeaderMap) -> Response {
    match gaia::tunnel::arrive(&uri) {
        Some(response) => response,
        None => ollama::root(headers).await,
    }
}

/// `GET /v1/models`
pub(super) async fn models(
    axum::extract::State(app): axum::extract::State<App>,
    request: Request,
) -> Response {
    if is_anthropic(request.headers()) {
        anthropic::models::list.call(request, app).await
    } else {
        lemonade::models::list.call(request, app).await
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
        lemonade::models::one.call(request, app).await
    }
}

/// `POST chat/completions`: a model's name may be a policy's.
pub(super) async fn chat(
    axum::extract::State(app): axum::extract::State<App>,
    request: Request,
) -> Response {
    let inner = |request, app| openai::chat::answer.call(request, app);
    lemonade::routing::through(app, request, inner).await
}

/// `POST completions`, in the same way.
pub(super) async fn completions(
    axum::extract::State(app): axum::extract::State<App>,
    request: Request,
) -> Response {
    let inner = |request, app| openai::completions::answer.call(request, app);
    lemonade::routing::through(app, request, inner).await
}

/// `POST responses`, in the same way.
pub(super) async fn responses(
    axum::extract::State(app): axum::extract::State<App>,
    request: Request,
) -> Response {
    let inner = |request, app| openai::responses::answer.call(request, app);
    lemonade::routing::through(app, request, inner).await
}

/// A refusal before any handler has seen the request, in the shape of the dialect that the path belongs to.
pub(super) fn refusal<E>(path: &str, headers: &HeaderMap, error: E) -> Response
where
    E: Failing + Send + Sync + 'static,
{
    if path.starts_with("/v1/messages") || (path.starts_with("/v1/") && is_anthropic(headers)) {
        Failure::<Anthropic>::from(error).into_response()
    } else if gaia::owns(path) {
        Failure::<Gaia>::from(error).into_response()
    } else if lemonade::owns(path) {
        Failure::<Lemonade>::from(error).into_response()
    } else if is_ollama(path) {
        Failure::<Ollama>::from(error).into_response()
    } else if llamacpp::owns(path) {
        Failure::<LlamaCpp>::from(error).into_response()
    } else {
        Failure::<OpenAi>::from(error).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ollamas_own_paths_speak_its_shape() {
        for path in ["/api", "/api/", "/api/chat", "/api/v2", "/api/v10/x"] {
            assert!(is_ollama(path), "{path}");
        }
        for path in ["/", "/apis", "/api/v0", "/api/v1/models", "/v1/chat"] {
            assert!(!is_ollama(path), "{path}");
        }
    }
}
