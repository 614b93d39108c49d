//! The one door out: every request that leaves this machine goes through [`Fetch`].
//!
//! Owns who may be spoken to and how: names are resolved once and the checked address is the one that
//! is dialled; private addresses are refused unless the owner listed the target; redirects are followed
//! by hand and checked again; credentials never cross an origin; sizes and silences are bounded; one
//! `offline` switch closes the door. Must not know what is fetched. Children of the appliance are not
//! "out": `engines/upstream` speaks to them.

mod address;
mod url;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    USER_AGENT,
};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub use address::is_public;
pub use url::Url;

/// Hops followed before we give up; hubs use two (resolve, then storage).
pub const REDIRECTS_MAX: usize = 5;
/// For one address to accept a connection and finish TLS.
pub const CONNECT: Duration = Duration::from_secs(10);
/// Silence allowed before the head of an answer and between two pieces of its body.
pub const SILENCE: Duration = Duration::from_secs(30);
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why a request did not happen or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("offline is set; {host} was not contacted")]
    Offline { host: String },
    #[error("{url} is no address that can be fetched: {why}")]
    BadUrl { url: String, why: &'static str },
    #[error(
        "{host} is at {address}, inside a private network; add \"{host}\" to fetch.private_hosts if that is meant"
    )]
    Private {
        host: String,
        address: std::net::IpAddr,
    },
    #[error("cannot find {host}: {why}")]
    Resolve { host: String, why: String },
    #[error("cannot connect to {host}: {why}")]
    Connect { host: String, why: String },
    #[error("{host} would get a credential in clear text; use https")]
    ClearText { host: String },
    #[error("{url} redirects {what}")]
    Redirect { url: String, what: &'static str },
    #[error("{host} was silent for {} s", SILENCE.as_secs())]
    Silent { host: String },
    #[error("{host} sent more than {max_bytes} bytes")]
    TooLarge { host: String, max_bytes: u64 },
    #[error("{host} broke off: {why}")]
    Broken { host: String, why: String },
    #[error("{host} answered {status}")]
    Status { host: String, status: StatusCode },
    #[error("the machine's certificate store cannot be used: {why}")]
    Roots { why: String },
}

/// What the owner allows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Nothing leaves.
    pub offline: bool,
    /// Hosts (`name`, `name:port`, address) that may be private or spoken to without TLS: LAN lanes, local mirrors.
    pub private_hosts: Vec<String>,
}

impl Policy {
    fn lists(&self, url: &Url) -> bool {
        let with_port = format!("{}:{}", url.host(), url.port());
        self.private_hosts
            .iter()
            .any(|h| h.eq_ignore_ascii_case(url.host()) || h.eq_ignore_ascii_case(&with_port))
    }
}

/// A request to be.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Largest body taken.
    pub max_bytes: u64,
    /// Silence allowed; a long prefill elsewhere needs more than [`SILENCE`].
    pub silence: Duration,
}

impl Request {
    /// A GET of at most `max_bytes`.
    #[must_use]
    pub fn get(url: impl Into<String>, max_bytes: u64) -> Self {
        Self {
            method: Method::GET,
            url: url.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            max_bytes,
            silence: SILENCE,
        }
    }

    /// A POST of JSON.
    #[must_use]
    pub fn post_json(url: impl Into<String>, body: impl Into<Bytes>, max_bytes: u64) -> Self {
        let mut request = Self {
            method: Method::POST,
            body: body.into(),
            ..Self::get(url, max_bytes)
        };
        request.headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        request
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds a bearer token, which stays with this request's origin. A token that is no header text is left out.
    #[must_use]
    pub fn bearer(mut self, token: Option<&str>) -> Self {
        if let Some(mut value) =
            token.and_then(|t| HeaderValue::from_str(&format!("Bearer {t}")).ok())
        {
            value.set_sensitive(true);
            self.headers.insert(AUTHORIZATION, value);
        }
        self
    }
}

/// The guarded client. Cheap to clone; one for the life of the process.
#[derive(Clone)]
pub struct Fetch {
    inner: Arc<Inner>,
}

struct Inner {
    policy: Policy,
    /// Read at the first TLS connection: parsing 150 roots would cost a tenth of the start.
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
    dialled: AtomicU64,
}

impl Fetch {
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            inner: Arc::new(Inner {
                policy,
                tls: OnceLock::new(),
                dialled: AtomicU64::new(0),
            }),
        }
    }

    /// Whether the door is closed.
    #[must_use]
    pub fn offline(&self) -> bool {
        self.inner.policy.offline
    }

    /// Connections tried so far; a test of `offline` reads it.
    #[must_use]
    pub fn dialled(&self) -> u64 {
        self.inner.dialled.load(Ordering::Relaxed)
    }

    /// Sends `request`, follows redirects and returns the answer's head with its body to be read. A status
    /// that is not a success is an answer too; [`Response::success`] turns it into an error.
    pub async fn send(&self, request: Request) -> Result<Response, FetchError> {
        let mut request = request;
        let mut url = Url::parse(&request.url)?;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.once(&request, &url).await?;
            let Some(to) = response.redirect()? else {
                return Ok(response);
            };
            let next = url.join(to)?;
            if url.is_tls() && !next.is_tls() {
                return Err(FetchError::Redirect {
                    url: url.to_string(),
                    what: "from https to http",
                });
            }
            if !url.same_origin(&next) {
                for name in [AUTHORIZATION, COOKIE, HeaderName::from_static("x-api-key")] {
                    request.headers.remove(name);
                }
            }
            let keeps_body = matches!(
                response.status,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            );
            if !keeps_body && request.method != Method::HEAD {
                request.method = Method::GET;
                request.body = Bytes::new();
            }
            url = next;
        }
        Err(FetchError::Redirect {
            url: request.url,
            what: "too often",
        })
    }

    /// GETs a small text of at most `max_bytes`.
    pub async fn text(&self, request: Request) -> Result<String, FetchError> {
        let response = self.send(request).await?.success()?;
        let host = response.host.clone();
        let bytes = response.bytes().await?;
        String::from_utf8(bytes).map_err(|_| FetchError::Broken {
            host,
            why: "the text is not UTF-8".into(),
        })
    }

    async fn once(&self, request: &Request, url: &Url) -> Result<Response, FetchError> {
        let policy = &self.inner.policy;
        let host = url.host().to_owned();
        if policy.offline {
            return Err(FetchError::Offline { host });
        }
        if !url.is_tls() && request.headers.contains_key(AUTHORIZATION) && !policy.lists(url) {
            return Err(FetchError::ClearText { host });
        }
        let addresses = self.resolve(url).await?;
        let stream = self.dial(url, &addresses).await?;
        let mut head = http::Request::builder()
            .method(request.method.clone())
            .uri(url.path_and_query());
        if let Some(headers) = head.headers_mut() {
            headers.extend(request.headers.clone());
            headers.insert(
                HOST,
                HeaderValue::from_str(&url.authority()).map_err(|_| url.bad("odd host"))?,
            );
            headers
                .entry(USER_AGENT)
                .or_insert(HeaderValue::from_static(concat!(
                    "onebit/",
                    env!("CARGO_PKG_VERSION")
                )));
        }
        let head = head
            .body(Full::new(request.body.clone()))
            .map_err(|_| url.bad("odd path"))?;
        let broken = |why: hyper::Error| FetchError::Broken {
            host: host.clone(),
            why: why.to_string(),
        };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // Ends when the body was read or dropped; its error shows up in the body too.
        tokio::spawn(connection);
        let answer = tokio::time::timeout(request.silence, sender.send_request(head))
            .await
            .map_err(|_| FetchError::Silent { host: host.clone() })?
            .map_err(broken)?;
        let (parts, body) = answer.into_parts();
        let announced = parts
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|n| n > request.max_bytes && request.method != Method::HEAD) {
            return Err(FetchError::TooLarge {
                host,
                max_bytes: request.max_bytes,
            });
        }
        Ok(Response {
            status: parts.status,
            headers: parts.headers,
            url: url.clone(),
            host,
            body,
            left: request.max_bytes,
            max_bytes: request.max_bytes,
            silence: request.silence,
            _sender: sender,
        })
    }

    /// Looks the name up once. One private address among public ones refuses them all: that mixture is
    /// how rebinding looks.
    async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, FetchError> {
        let host = url.host().to_owned();
        let looked = tokio::time::timeout(
            CONNECT,
            tokio::net::lookup_host((url.bare_host(), url.port())),
        )
        .await;
        let found: Vec<SocketAddr> = looked
            .map_err(|_| FetchError::Resolve {
                host: host.clone(),
                why: "the name server is silent".into(),
            })?
            .map_err(|e| FetchError::Resolve {
                host: host.clone(),
                why: e.to_string(),
            })?
            .collect();
        if !self.inner.policy.lists(url)
            && let Some(private) = found.iter().find(|a| !is_public(a.ip()))
        {
            return Err(FetchError::Private {
                host,
                address: private.ip(),
            });
        }
        if found.is_empty() {
            return Err(FetchError::Resolve {
                host,
                why: "it has no address".into(),
            });
        }
        Ok(found)
    }

    async fn dial(
        &self,
        url: &Url,
        addresses: &[SocketAddr],
    ) -> Result<Box<dyn Stream>, FetchError> {
        let mut why = String::new();
        for address in addresses {
            self.inner.dialled.fetch_add(1, Ordering::Relaxed);
            match tokio::time::timeout(CONNECT, self.dial_one(url, *address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(DialError::Roots(why))) => return Err(FetchError::Roots { why }),
                Ok(Err(DialError::Io(error))) => why = error.to_string(),
                Err(_) => why = format!("no answer within {} s", CONNECT.as_secs()),
            }
        }
        Err(FetchError::Connect {
            host: url.host().to_owned(),
            why,
        })
    }

    async fn dial_one(&self, url: &Url, address: SocketAddr) -> Result<Box<dyn Stream>, DialError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if !url.is_tls() {
            return Ok(Box::new(stream));
        }
        let config = self
            .inner
            .tls
            .get_or_init(tls)
            .clone()
            .map_err(DialError::Roots)?;
        let name =
            ServerName::try_from(url.bare_host().to_owned()).map_err(std::io::Error::other)?;
        Ok(Box::new(
            TlsConnector::from(config).connect(name, stream).await?,
        ))
    }
}

enum DialError {
    Io(std::io::Error),
    Roots(String),
}

impl From<std::io::Error> for DialError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn tls() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Stores often hold a few certificates older than today's rules; the rest counts.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let first = found.errors.first().map(ToString::to_string);
        return Err(
            first.unwrap_or_else(|| "it is empty; install the ca-certificates package".into())
        );
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// Plain or TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The head of an answer, its body still to be read. Dropping it ends the connection.
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Where it came from in the end.
    pub url: Url,
    host: String,
    body: Incoming,
    left: u64,
    max_bytes: u64,
    silence: Duration,
    _sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Response {
    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Itself if the status is a success.
    pub fn success(self) -> Result<Self, FetchError> {
        if self.status.is_success() {
            Ok(self)
        } else {
            Err(FetchError::Status {
                host: self.host,
                status: self.status,
            })
        }
    }

    /// The next piece of the body, `None` at its honest end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let frame = tokio::time::timeout(self.silence, self.body.frame())
                .await
                .map_err(|_| FetchError::Silent {
                    host: self.host.clone(),
                })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|e| FetchError::Broken {
                host: self.host.clone(),
                why: e.to_string(),
            })?;
            // Trailers carry nothing we use.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                return Err(FetchError::TooLarge {
                    host: self.host.clone(),
                    max_bytes: self.max_bytes,
                });
            };
            self.left = left;
            return Ok(Some(data));
        }
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn redirect(&self) -> Result<Option<&str>, FetchError> {
        let follows = matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        match (follows, self.headers.get(LOCATION)) {
            (false, _) => Ok(None),
            (true, Some(to)) => to.to_str().map(Some).map_err(|_| FetchError::Redirect {
                url: self.url.to_string(),
                what: "to an unreadable place",
            }),
            (true, None) => Err(FetchError::Redirect {
                url: self.url.to_string(),
                what: "to nowhere",
            }),
        }
    }
}
