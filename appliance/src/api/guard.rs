//! Who may reach a handler: Host, Origin and Sec-Fetch-Site on every request, then who asks, then the route's
//! rule. Nothing is allowed that no line here allows.
//!
//! A page of another origin must not drive the appliance through the person's browser, and a foreign
//! name that resolves to this machine (DNS rebinding) must not look like it. The checks are pure
//! functions over header values; [`check`] and [`require`] are their thin middlewares.

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};

use super::body::RequestError;
use super::credentials::{self, Shown};
use super::origin::{Known, admit, allow};
use super::server::Arrival;
use super::shared::refusal;
use crate::app::{App, Live, Recognised};
use crate::domain::{Peer, Scope, Transport};
use crate::error::{Failing, Kind};

/// Largest body of a route that needs no sign-in: a code and a name.
const PUBLIC_BYTES_MAX: usize = 16 << 10;

/// What a route demands of a request before its handler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// What the peer must hold.
    pub(super) scope: Scope,
    /// Whether bodies beside JSON are taken (uploads).
    pub(super) any_body: bool,
    /// Largest body, where it differs from the setting.
    pub(super) body_bytes_max: Option<usize>,
}

/// Why a request does not reach its handler.
#[derive(Debug, thiserror::Error)]
pub(super) enum GuardError {
    /// The Host header names nobody that we are.
    #[error(
        "the host name `{0}` is not one of this appliance; use its address or localhost, or add it to server.allowed_hosts"
    )]
    Host(String),
    /// A page of another origin asks.
    #[error(
        "pages of {0} may not use this appliance; the owner can add it to server.allowed_origins"
    )]
    Origin(String),
    /// Nobody has signed in.
    #[error("sign in first: pair this device (onebit pair), or send a key (onebit keys add)")]
    Nobody,
    /// The owner's rights do not travel in the open.
    #[error(
        "this needs the owner's rights, which are given over https only; open the https address of this appliance"
    )]
    NeedsHttps,
    /// The peer's scope is too narrow.
    #[error("this needs {} scope, and this device or key has {}", .0.as_str(), .1.as_str())]
    Scope(Scope, Scope),
    /// A body that a form of another page could send.
    #[error("send the body as application/json")]
    NotJson,
}

impl Failing for GuardError {
    fn kind(&self) -> Kind {
        match self {
            GuardError::Nobody => Kind::Unauthorized,
            GuardError::NotJson => Kind::BadRequest,
            _ => Kind::Forbidden,
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            GuardError::Host(_) => "host_not_allowed",
            GuardError::Origin(_) => "origin_not_allowed",
            GuardError::Nobody => "sign_in",
            GuardError::NeedsHttps => "needs_https",
            GuardError::Scope(..) => "scope_missing",
            GuardError::NotJson => "not_json",
        })
    }
}

/// Why the credential of a request was not accepted; a public route answers all the same.
#[derive(Clone)]
struct Wrong(std::sync::Arc<crate::app::TrustError>);

/// Checks where a request comes from and gives it its `Peer`.
pub(super) async fn check(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let known = Known {
        names: &app.names(),
        origins: &app.config().server.allowed_origins,
    };
    let origin = match admit(&known, request.headers(), request.method()) {
        Ok(origin) => origin,
        Err(error) => {
            let is_host = matches!(error, GuardError::Host(_));
            let mut response = refusal(&path, request.headers(), error);
            if is_host {
                *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
            }
            return response;
        }
    };
    let arrival = request.extensions().get::<Arrival>().cloned();
    let transport = transport(arrival, request.headers());
    let secure = matches!(&transport, Transport::Lan { secure: true, .. });
    let shown = Shown::read(request.headers(), request.uri());
    let recognised = match recognise(&app, &shown, transport).await {
        Ok(recognised) => recognised,
        Err(error) => return refusal(&path, request.headers(), error),
    };
    let Recognised {
        peer,
        wrong,
        renewed,
        live,
    } = recognised;
    if let Err(error) = app.trust().count(&peer) {
        return refusal(&path, request.headers(), error);
    }
    // A cookie that opens nothing (any more) is taken away, so that the page can start anew.
    let stale = wrong.is_some() && shown.has_cookie();
    request.extensions_mut().insert(peer);
    if let Some(wrong) = wrong {
        request.extensions_mut().insert(Wrong(wrong.into()));
    }
    if let Some(live) = &live {
        request.extensions_mut().insert(live.clone());
    }
    let headers = request.headers().clone();
    let preflight = request.method() == Method::OPTIONS && origin.is_some();
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        match live {
            None => next.run(request).await,
            Some(live) => tokio::select! {
                biased;
                () = live.clone().revoked() => refusal(&path, &headers, crate::app::TrustError::Unknown),
                response = next.run(request) => response.map(|body| cut(body, live)),
            },
        }
    };
    if let Some(origin) = origin {
        allow(response.headers_mut(), origin);
    }
    let headers = response.headers_mut();
    if let Some(token) = renewed {
        credentials::set_cookie(headers, secure, &token);
    } else if stale {
        credentials::clear_cookies(headers);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

async fn recognise(
    app: &App,
    shown: &Shown,
    transport: Transport,
) -> Result<Recognised, crate::app::TrustError> {
    match &shown.ticket {
        Some(ticket) => app.trust().redeem(ticket, transport).await,
        None => app.trust().recognise(transport, &shown.carried()).await,
    }
}

/// Ends a body that is still being made when its peer is revoked: with an error, so that nobody takes what has
/// arrived for the whole.
fn cut(body: Body, live: Live) -> Body {
    if body.size_hint().exact().is_some() {
        return body; // it is whole already
    }
    let state = (body.into_data_stream(), Box::pin(live.revoked()), false);
    Body::from_stream(stream::unfold(
        state,
        |(mut data, mut revoked, ended)| async move {
            if ended {
                return None;
            }
            tokio::select! {
                biased;
                () = &mut revoked => {
                    let error = std::io::Error::other("the device was revoked");
                    Some((Err(error), (data, revoked, true)))
                }
                item = data.next() => {
                    item.map(|item| (item.map_err(std::io::Error::other), (data, revoked, false)))
                }
            }
        },
    ))
}

/// Refuses a request that the route's rule does not let through.
pub(super) async fn require(
    State((app, rule)): State<(App, Rule)>,
    request: Request,
    next: Next,
) -> Response {
    let (path, headers) = (request.uri().path(), request.headers());
    let Some(peer) = request.extensions().get::<Peer>() else {
        return refusal(path, headers, GuardError::Nobody);
    };
    if !peer.holds(rule.scope) {
        let mut response = match request.extensions().get::<Wrong>() {
            Some(wrong) => refusal(path, headers, SharedError(wrong.0.clone())),
            None => refusal(path, headers, missing(peer, rule.scope)),
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"onebit\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        return response;
    }
    if !rule.any_body && form_could_send(request.method(), headers) {
        let mut response = refusal(path, headers, GuardError::NotJson);
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let bytes_max = rule.body_bytes_max.unwrap_or(match rule.scope {
        Scope::Public => PUBLIC_BYTES_MAX,
        _ => app.config().server.body_bytes_max,
    });
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max) {
        return refusal(path, headers, RequestError::TooLarge { bytes_max });
    }
    let request = request.map(|body| Body::new(http_body_util::Limited::new(body, bytes_max)));
    next.run(request).await
}

fn missing(peer: &Peer, scope: Scope) -> GuardError {
    match peer.scope {
        Scope::Public => GuardError::Nobody,
        _ if scope == Scope::Owner && !peer.transport.is_private() => GuardError::NeedsHttps,
        held => GuardError::Scope(scope, held),
    }
}

/// An error that several requests may be told.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct SharedError(std::sync::Arc<crate::app::TrustError>);

impl Failing for SharedError {
    fn kind(&self) -> Kind {
        self.0.kind()
    }

    fn code(&self) -> Option<&'static str> {
        self.0.code()
    }
}

/// Whether a body comes from a browser in a form that any page can send without being asked first. Programs
/// without a browser's marks send what they like: nobody can send it through them.
fn form_could_send(method: &Method, headers: &HeaderMap) -> bool {
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let by_browser = [
        "origin",
        "referer",
        "cookie",
        "sec-fetch-site",
        "sec-fetch-mode",
    ]
    .iter()
    .any(|name| headers.contains_key(*name));
    if !changes || !by_browser {
        return false;
    }
    match headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    {
        Some(Ok(kind)) => {
            let essence = kind.split(';').next().unwrap_or_default().trim();
            !(essence.eq_ignore_ascii_case("application/json")
                || essence.to_ascii_lowercase().ends_with("+json"))
        }
        Some(Err(_)) => true,
        None => {
            headers
                .get(header::CONTENT_LENGTH)
                .is_some_and(|length| length != "0")
                || headers.contains_key(header::TRANSFER_ENCODING)
        }
    }
}

/// What proxies add. Behind one, this machine's own address is not where the request comes from.
const FORWARDED: [&str; 9] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-client-ip",
    "cf-connecting-ip",
    "true-client-ip",
];

/// How a request came in. One that was forwarded came from anywhere, and what the proxy says of it is not believed.
fn transport(arrival: Option<Arrival>, headers: &HeaderMap) -> Transport {
    let forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
    match arrival {
        Some(Arrival::Mesh { device, address }) => Transport::Mesh {
            device,
            address: address.to_string(),
        },
        Some(Arrival::Socket { address, secure }) => {
            let ip = address.ip().to_canonical();
            match ip.is_loopback() && !forwarded {
                true => Transport::Loopback,
                false => Transport::Lan {
                    address: ip.to_string(),
                    secure: secure && !forwarded,
                },
            }
        }
        None => Transport::Lan {
            address: "unknown".to_owned(),
            secure: false,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_forwarded_request_is_not_from_this_machine() {
        let from = |address: [u8; 4], secure, header: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(name) = header {
                headers.insert(name, HeaderValue::from_static("127.0.0.1"));
            }
            let address = SocketAddr::from((address, 5));
            transport(Some(Arrival::Socket { address, secure }), &headers)
        };
        assert_eq!(from([127, 0, 0, 1], false, None), Transport::Loopback);
        assert!(from([10, 0, 0, 2], true, None).is_private());
        assert!(!from([10, 0, 0, 2], false, None).is_private());
        for name in FORWARDED {
            assert!(
                !from([127, 0, 0, 1], true, Some(name)).is_private(),
                "{name}"
            );
        }
        assert!(!transport(None, &HeaderMap::new()).is_private());
    }

    #[test]
    fn only_programs_send_forms() {
        let could = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            form_could_send(&Method::POST, &headers)
        };
        let site = ("sec-fetch-site", "same-origin");
        let length = ("content-length", "5");
        assert!(could(&[site, ("content-type", "text/plain"), length]));
        assert!(could(&[
            site,
            ("content-type", "multipart/form-data; boundary=x")
        ]));
        assert!(could(&[site, ("content-type", "application/jsonx")]));
        assert!(could(&[("cookie", "a=b"), length]));
        assert!(!could(&[
            site,
            ("content-type", "application/JSON; charset=utf-8"),
            length
        ]));
        assert!(!could(&[site]), "nothing is sent");
        assert!(!could(&[
            ("content-type", "application/x-www-form-urlencoded"),
            length
        ]));
    }
}
