//! Speaking to an engine over HTTP: one connection for each request, no pool.
//!
//! Owns the wire to children (private sockets, loopback ports) and, through `fetch`, to other machines.
//! A connection costs some 30 us on a socket, and pooling is what breaks FastFlowLM and hides dead
//! servers. Must not know how a child is started or when a request is tried again.

mod lengths;
pub mod lists;
pub mod openai;
pub mod sse;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::fetch::{self, Fetch, FetchError};

/// Largest body of a plain (not streamed) answer: a batch of embeddings is a few megabytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// A child on this machine accepts at once or is in trouble.
const CONNECT: Duration = Duration::from_secs(2);

/// Why an engine gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot connect to the engine: {why}")]
    Connect { why: String },
    #[error("the engine broke off: {why}")]
    Broken { why: String },
    #[error("the engine was silent for {} s", .after.as_secs())]
    Silent { after: Duration },
    #[error("the engine answered with rubbish: {why}")]
    Garbage { why: String },
    /// Its own words, with whatever status.
    #[error("the engine says: {message}")]
    Said { message: String },
    #[error("the engine refused ({status}): {message}")]
    Refused { status: u16, message: String },
    #[error("the prompt has {tokens} tokens and the context holds {context}")]
    TooLong { tokens: usize, context: usize },
}

impl UpstreamError {
    /// Whether the same request may succeed when it is sent again. What the engine refuses on purpose
    /// will be refused again.
    #[must_use]
    pub fn is_worth_a_retry(&self) -> bool {
        !matches!(
            self,
            Self::TooLong { .. }
                | Self::Refused {
                    status: 400..=499,
                    ..
                }
        )
    }
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket in a folder that only we can enter.
    Socket(PathBuf),
    /// A loopback port, for programs that know no sockets.
    Port(SocketAddr),
}

/// An engine that can be spoken to.
#[derive(Clone)]
pub struct Upstream {
    to: To,
    /// What every path begins with: some servers take a secret there and nowhere else.
    prefix: String,
    secret: Option<String>,
}

#[derive(Clone)]
enum To {
    Child(Endpoint),
    Away { fetch: Fetch, base: String },
}

impl Upstream {
    #[must_use]
    pub fn child(endpoint: Endpoint, prefix: String, secret: Option<String>) -> Self {
        Self {
            to: To::Child(endpoint),
            prefix,
            secret,
        }
    }

    /// A server elsewhere, such as `https://box.lan:8000`.
    #[must_use]
    pub fn away(fetch: Fetch, base: &str, secret: Option<String>) -> Self {
        let base = base
            .trim_end_matches('/')
            .trim_end_matches("/v1")
            .to_owned();
        Self {
            to: To::Away { fetch, base },
            prefix: String::new(),
            secret,
        }
    }

    /// Whether `GET path` is answered with a success: the readiness probe.
    pub async fn is_ready(&self, path: &str) -> bool {
        let answer = self
            .send(Method::GET, path, None, Bytes::new(), CONNECT)
            .await;
        answer.is_ok_and(|answer| answer.status.is_success())
    }

    /// Sends JSON and reads JSON.
    pub async fn json(
        &self,
        path: &str,
        body: &Value,
        silence: Duration,
    ) -> Result<Value, UpstreamError> {
        let mut answer = self.post(path, body, silence).await?;
        let bytes = answer.bytes(silence).await?;
        let body = serde_json::from_slice(&bytes)
            .map_err(|e| UpstreamError::Garbage { why: e.to_string() })?;
        openai::error_of(&body).map_or(Ok(body), Err)
    }

    /// Sends JSON and returns the answer, its body unread. An error status, or a success that is no
    /// event stream and carries an `error`, is an error.
    pub async fn post(
        &self,
        path: &str,
        body: &Value,
        silence: Duration,
    ) -> Result<Answer, UpstreamError> {
        let bytes = Bytes::from(body.to_string());
        let json = HeaderValue::from_static("application/json");
        let answer = self
            .send(Method::POST, path, Some(json), bytes, silence)
            .await?;
        succeeded(answer).await
    }

    /// Asks for what is at a path. An error status is an error.
    pub async fn get(&self, path: &str, silence: Duration) -> Result<Answer, UpstreamError> {
        let answer = self
            .send(Method::GET, path, None, Bytes::new(), silence)
            .await?;
        succeeded(answer).await
    }

    /// Sends a body of any type, such as a form with a sound file in it.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        kind: Option<HeaderValue>,
        body: Bytes,
        silence: Duration,
    ) -> Result<Answer, UpstreamError> {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, kind);
        }
        if let Some(secret) = &self.secret {
            let value = HeaderValue::from_str(&format!("Bearer {secret}"));
            headers.insert(
                AUTHORIZATION,
                value.map_err(|_| UpstreamError::Connect {
                    why: "the key is no header text".into(),
                })?,
            );
        }
        match &self.to {
            To::Child(endpoint) => {
                headers.insert(HOST, HeaderValue::from_static("localhost"));
                let mut request = http::Request::new(Full::new(body));
                *request.method_mut() = method;
                let uri = format!("{}{path}", self.prefix).parse();
                *request.uri_mut() = uri.map_err(|_| UpstreamError::Connect {
                    why: "odd path".into(),
                })?;
                *request.headers_mut() = headers;
                tokio::time::timeout(silence, exchange(endpoint, request))
                    .await
                    .map_err(|_| UpstreamError::Silent { after: silence })?
            }
            To::Away { fetch, base } => {
                let url = format!("{base}{path}");
                let max_bytes = ANSWER_BYTES_MAX as u64;
                let request = fetch::Request {
                    method,
                    url,
                    headers,
                    body,
                    max_bytes,
                    silence,
                };
                let response = fetch.send(request).await.map_err(away)?;
                Ok(Answer {
                    status: response.status,
                    body: Body::Away(Box::new(response)),
                })
            }
        }
    }
}

/// The answer if its status says so, else what is wrong in the server's own words.
async fn succeeded(mut answer: Answer) -> Result<Answer, UpstreamError> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let status = answer.status.as_u16();
    // The status tells already; a body that cannot be read only takes its words from us.
    let said = answer.bytes(CONNECT).await.unwrap_or_default();
    let parsed = serde_json::from_slice::<Value>(&said)
        .ok()
        .as_ref()
        .and_then(openai::error_of);
    Err(match parsed {
        Some(UpstreamError::Said { message }) => UpstreamError::Refused { status, message },
        Some(other) => other,
        None => UpstreamError::Refused {
            status,
            message: String::from_utf8_lossy(&said[..said.len().min(300)]).into_owned(),
        },
    })
}

fn away(error: FetchError) -> UpstreamError {
    match error {
        FetchError::Silent { .. } => UpstreamError::Silent {
            after: fetch::SILENCE,
        },
        FetchError::Broken { .. } | FetchError::TooLarge { .. } => UpstreamError::Broken {
            why: error.to_string(),
        },
        other => UpstreamError::Connect {
            why: other.to_string(),
        },
    }
}

async fn exchange(
    endpoint: &Endpoint,
    request: http::Request<Full<Bytes>>,
) -> Result<Answer, UpstreamError> {
    let connect = |e: std::io::Error| UpstreamError::Connect { why: e.to_string() };
    match endpoint {
        Endpoint::Socket(path) => {
            exchange_over(UnixStream::connect(path).await.map_err(connect)?, request).await
        }
        Endpoint::Port(address) => {
            let stream = TcpStream::connect(address).await.map_err(connect)?;
            stream.set_nodelay(true).map_err(connect)?;
            exchange_over(stream, request).await
        }
    }
}

async fn exchange_over<S>(
    stream: S,
    request: http::Request<Full<Bytes>>,
) -> Result<Answer, UpstreamError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |e: hyper::Error| UpstreamError::Broken { why: e.to_string() };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends with the answer or when the answer is dropped; its error shows up in the answer's body.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let (parts, body) = response.into_parts();
    Ok(Answer {
        status: parts.status,
        body: Body::Child {
            body,
            _sender: sender,
        },
    })
}

/// An answer's head, its body still to be read. Dropping it ends the connection, and engines stop
/// computing for a client that went away.
pub struct Answer {
    pub status: StatusCode,
    body: Body,
}

enum Body {
    Child {
        body: Incoming,
        _sender: http1::SendRequest<Full<Bytes>>,
    },
    Away(Box<fetch::Response>),
}

impl Answer {
    /// The next piece of the body, `None` at its honest end.
    pub async fn chunk(&mut self, silence: Duration) -> Result<Option<Bytes>, UpstreamError> {
        match &mut self.body {
            Body::Away(response) => response.chunk().await.map_err(away),
            Body::Child { body, .. } => loop {
                let frame = tokio::time::timeout(silence, body.frame())
                    .await
                    .map_err(|_| UpstreamError::Silent { after: silence })?;
                let Some(frame) = frame else { return Ok(None) };
                let frame = frame.map_err(|e| UpstreamError::Broken { why: e.to_string() })?;
                // Trailers carry nothing.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            },
        }
    }

    /// The whole body.
    pub async fn bytes(&mut self, silence: Duration) -> Result<Vec<u8>, UpstreamError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(silence).await? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(UpstreamError::Broken {
                    why: "the answer is far too long".into(),
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
