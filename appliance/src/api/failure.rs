//! How an error becomes an answer: status from its kind, body from its dialect, details to the log.

use std::marker::PhantomData;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::app::new_id;
use crate::error::{Failing, Kind};

/// The shape of a dialect's errors.
pub(super) trait Dialect {
    /// Returns the body for an error.
    fn error_body(told: &Told<'_>) -> Value;

    /// Returns the status for a kind, where the dialect's original differs from the others.
    fn status(kind: Kind) -> StatusCode {
        status(kind)
    }
}

/// What a client is told of an error.
pub(super) struct Told<'a> {
    pub(super) kind: Kind,
    pub(super) message: String,
    pub(super) code: Option<&'static str>,
    pub(super) param: Option<&'a str>,
}

/// A failed request; the handler's return type picks the dialect, so `?` is enough.
pub(super) struct Failure<D> {
    error: Box<dyn Failing + Send + Sync>,
    dialect: PhantomData<D>,
}

impl<D, E: Failing + Send + Sync + 'static> From<E> for Failure<D> {
    fn from(error: E) -> Self {
        Failure {
            error: Box::new(error),
            dialect: PhantomData,
        }
    }
}

impl<D: Dialect> IntoResponse for Failure<D> {
    fn into_response(self) -> Response {
        let status = D::status(self.error.kind());
        let body = D::error_body(&tell(&*self.error));
        let mut response = json(status, &body);
        if let Some(seconds) = self.error.retry_after_s() {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Decides what a client hears, and logs what it does not.
pub(super) fn tell(error: &dyn Failing) -> Told<'_> {
    let kind = error.kind();
    let message = if kind == Kind::Internal {
        let id = new_id().map(|id| id.to_string()).unwrap_or_default();
        tracing::error!(request = id, %error, "request failed");
        format!("something failed inside the appliance; its log has the reason under {id}")
    } else {
        tracing::debug!(%error, ?kind, "request refused");
        error.to_string()
    };
    Told {
        kind,
        message,
        code: error.code(),
        param: error.param(),
    }
}

/// The status of a kind; a dialect may differ in [`Dialect::status`].
pub(super) fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::BadRequest | Kind::Unsupported => StatusCode::BAD_REQUEST,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Kind::EngineDown => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
