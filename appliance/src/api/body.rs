//! Request bodies: read under the size limit, parsed, and refused in the dialect's own shape.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::failure::{Dialect, Failure};
use crate::app::App;
use crate::error::{Failing, Kind};

/// A wire type that arrives as a JSON body of a dialect.
pub(super) trait Wire: DeserializeOwned {
    /// The dialect in whose shape a bad body is refused.
    type Dialect: Dialect;
}

/// A parsed body.
pub(super) struct Body<T>(pub(super) T);

/// What is wrong with a request before any verb has seen it.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// Larger than the limit.
    #[error("the body is larger than {bytes_max} bytes (server.body_bytes_max), or broke off")]
    TooLarge { bytes_max: usize },
    /// Not JSON, or JSON of another shape.
    #[error("the body cannot be read: {0}")]
    Malformed(String),
    /// A path or a query that cannot be read.
    #[error("the address cannot be read: {0}")]
    Unread(String),
    /// A field has a value that it cannot have.
    #[error("`{param}` {why}")]
    Field { param: &'static str, why: String },
    /// We know the field and do not do what it asks.
    #[error("`{param}` is not supported: {why}")]
    Unsupported {
        param: &'static str,
        why: &'static str,
    },
    /// No such route.
    #[error("there is no {method} {path}")]
    NoRoute { method: String, path: String },
    /// The path exists for other methods.
    #[error("{path} does not answer {method}")]
    NoMethod { method: String, path: String },
}

impl RequestError {
    /// A field that cannot have its value.
    pub(super) fn field(param: &'static str, why: impl Into<String>) -> RequestError {
        RequestError::Field {
            param,
            why: why.into(),
        }
    }
}

impl Failing for RequestError {
    fn kind(&self) -> Kind {
        match self {
            RequestError::TooLarge { .. } => Kind::TooLarge,
            RequestError::Malformed(_) | RequestError::Unread(_) | RequestError::Field { .. } => {
                Kind::BadRequest
            }
            RequestError::Unsupported { .. } => Kind::Unsupported,
            RequestError::NoRoute { .. } | RequestError::NoMethod { .. } => Kind::NotFound,
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            RequestError::Field { .. } => Some("invalid_value"),
            RequestError::Unsupported { .. } => Some("unsupported_parameter"),
            RequestError::NoRoute { .. } => Some("unknown_url"),
            RequestError::NoMethod { .. } => Some("method_not_allowed"),
            RequestError::TooLarge { .. }
            | RequestError::Malformed(_)
            | RequestError::Unread(_) => None,
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            RequestError::Field { param, .. } | RequestError::Unsupported { param, .. } => {
                Some(param)
            }
            _ => None,
        }
    }
}

impl<T: Wire> FromRequest<App> for Body<T> {
    type Rejection = Failure<T::Dialect>;

    async fn from_request(request: Request, app: &App) -> Result<Self, Self::Rejection> {
        let bytes_max = app.config().server.body_bytes_max;
        let bytes = to_bytes(request.into_body(), bytes_max)
            .await
            .map_err(|_| RequestError::TooLarge { bytes_max })?;
        // A list would be read as the fields of a wire type in their order, which no dialect means.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return Err(RequestError::Malformed("it must be a JSON object".to_owned()).into());
        }
        let parsed =
            serde_json::from_slice(&bytes).map_err(|e| RequestError::Malformed(e.to_string()))?;
        Ok(Body(parsed))
    }
}
