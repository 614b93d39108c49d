//! Who may reach a handler: Host, Origin and Sec-Fetch-Site on every request, then the route's scope.
//!
//! A page of another origin must not drive the appliance through the person's browser, and a foreign
//! name that resolves to this machine (DNS rebinding) must not look like it. The checks are pure
//! functions over header values; [`check`] and [`require`] are their thin middlewares.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::shared::refusal;
use crate::app::App;
use crate::config::ServerConfig;
use crate::domain::{Peer, Scope};
use crate::error::{Failing, Kind};

/// Why a request does not reach its handler.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GuardError {
    /// The Host header names nobody that we are.
    #[error(
        "the host name `{0}` is not one of this appliance; use localhost, or add it to server.allowed_hosts"
    )]
    Host(String),
    /// A page of another origin asks.
    #[error(
        "pages of {0} may not use this appliance; the owner can add it to server.allowed_origins"
    )]
    Origin(String),
    /// The peer's scope is too narrow.
    #[error("this needs {0:?} rights; use the machine that onebit runs on")]
    Scope(Scope),
}

impl Failing for GuardError {
    fn kind(&self) -> Kind {
        Kind::Forbidden
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            GuardError::Host(_) => "host_not_allowed",
            GuardError::Origin(_) => "origin_not_allowed",
            GuardError::Scope(_) => "scope_missing",
        })
    }
}

/// Checks where a request comes from and gives it its `Peer`.
pub(super) async fn check(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let settings = &app.config().server;
    let origin = match admit(settings, request.headers(), request.method()) {
        Ok(origin) => origin,
        Err(error) => return refusal(request.uri().path(), request.headers(), error),
    };
    let address = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|info| info.0);
    let peer = peer(address, request.headers());
    request.extensions_mut().insert(peer);
    let preflight = request.method() == Method::OPTIONS && origin.is_some();
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    if let Some(origin) = origin {
        allow(response.headers_mut(), origin);
    }
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Refuses a request whose peer does not hold the route's scope.
pub(super) async fn require(State(scope): State<Scope>, request: Request, next: Next) -> Response {
    let held = request
        .extensions()
        .get::<Peer>()
        .is_some_and(|peer| peer.holds(scope));
    if held {
        next.run(request).await
    } else {
        refusal(
            request.uri().path(),
            request.headers(),
            GuardError::Scope(scope),
        )
    }
}

/// A program on this machine is the owner; one behind a proxy on this machine is not from here.
fn peer(address: Option<SocketAddr>, headers: &HeaderMap) -> Peer {
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip"]
        .iter()
        .any(|name| headers.contains_key(*name));
    match address {
        Some(address) if !address.ip().to_canonical().is_loopback() || forwarded => {
            Peer::lan(address.to_string())
        }
        _ => Peer::loopback(),
    }
}

/// Decides by Host, Origin and Sec-Fetch-Site; returns an allowed foreign origin, which needs CORS headers.
fn admit(
    settings: &ServerConfig,
    headers: &HeaderMap,
    method: &Method,
) -> Result<Option<HeaderValue>, GuardError> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if !host_is_ours(settings, host) {
        return Err(GuardError::Host(host.to_owned()));
    }
    let site = headers
        .get("sec-fetch-site")
        .and_then(|value| value.to_str().ok());
    let Some(origin) = headers.get(header::ORIGIN) else {
        // Without an Origin a browser reads or navigates; a link from elsewhere may open the page.
        let navigates = headers
            .get("sec-fetch-mode")
            .is_some_and(|mode| mode == "navigate");
        let foreign = matches!(site, Some("cross-site" | "same-site"));
        return match foreign && !(navigates && *method == Method::GET) {
            true => Err(GuardError::Origin("another site".to_owned())),
            false => Ok(None),
        };
    };
    let named = origin.to_str().unwrap_or("an unreadable origin");
    if same_origin(named, host) {
        return Ok(None);
    }
    if settings
        .allowed_origins
        .iter()
        .any(|allowed| allowed.trim_end_matches('/') == named)
    {
        return Ok(Some(origin.clone()));
    }
    Err(GuardError::Origin(named.to_owned()))
}

/// Splits `name:port`, `[v6]:port` or a bare name.
fn split_host(host: &str) -> (&str, Option<&str>) {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (address, port.strip_prefix(':'));
    }
    match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    }
}

fn is_loopback_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let address = name.parse::<IpAddr>();
    name == "localhost"
        || name.ends_with(".localhost")
        || address.is_ok_and(|a| a.to_canonical().is_loopback())
}

/// Loopback names always; addresses when the network is allowed (a rebound name is never an address);
/// other names when the owner listed them.
fn host_is_ours(settings: &ServerConfig, host: &str) -> bool {
    let (name, _) = split_host(host);
    is_loopback_name(name)
        || (settings.lan && name.parse::<IpAddr>().is_ok())
        || settings
            .allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// Whether a page's origin is the host that it talks to; loopback names are one machine.
fn same_origin(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let (origin_name, origin_port) = split_host(authority);
    let (host_name, host_port) = split_host(host);
    let same_name = origin_name.eq_ignore_ascii_case(host_name)
        || (is_loopback_name(origin_name) && is_loopback_name(host_name));
    same_name && origin_port.unwrap_or(default_port) == host_port.unwrap_or(default_port)
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    let methods = HeaderValue::from_static("GET, POST, PATCH, DELETE");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    let names = HeaderValue::from_static("content-type, authorization, last-event-id");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(
        settings: &ServerConfig,
        pairs: &[(&'static str, &'static str)],
    ) -> Result<bool, GuardError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let method = if headers.contains_key("sec-fetch-mode") {
            Method::GET
        } else {
            Method::POST
        };
        admit(settings, &headers, &method).map(|origin| origin.is_some())
    }

    #[test]
    fn hosts() {
        let mut settings = ServerConfig::default();
        for host in [
            "localhost",
            "localhost:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
            "LOCALHOST:1",
            "a.localhost",
            "127.9.9.9",
        ] {
            assert_eq!(verdict(&settings, &[("host", host)]), Ok(false), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "192.168.1.5:8000",
            "127.0.0.1.evil.example",
            "[::2]",
        ] {
            assert!(
                matches!(
                    verdict(&settings, &[("host", host)]),
                    Err(GuardError::Host(_))
                ),
                "{host}"
            );
        }
        settings.lan = true;
        settings.allowed_hosts = vec!["onebit.local".into()];
        assert_eq!(
            verdict(&settings, &[("host", "192.168.1.5:8000")]),
            Ok(false)
        );
        assert_eq!(
            verdict(&settings, &[("host", "onebit.local:8000")]),
            Ok(false)
        );
        assert!(verdict(&settings, &[("host", "evil.example")]).is_err());
    }

    #[test]
    fn origins() {
        let settings = ServerConfig {
            allowed_origins: vec!["http://localhost:5173".into()],
            ..ServerConfig::default()
        };
        type Headers = &'static [(&'static str, &'static str)];
        let cases: &[(Headers, Option<bool>)] = &[
            (&[("origin", "http://localhost:8000")], Some(false)),
            (&[("origin", "http://127.0.0.1:8000")], Some(false)),
            (&[("origin", "http://localhost:5173")], Some(true)),
            (&[("origin", "http://localhost:3000")], None),
            (&[("origin", "https://evil.example")], None),
            (&[("origin", "null")], None),
            (&[("origin", "chrome-extension://abc")], None),
            (&[("sec-fetch-site", "same-origin")], Some(false)),
            (&[("sec-fetch-site", "none")], Some(false)),
            (&[("sec-fetch-site", "cross-site")], None),
            (&[("sec-fetch-site", "same-site")], None),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                ],
                Some(false),
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "no-cors"),
                ],
                None,
            ),
        ];
        for (pairs, expected) in cases {
            let mut all = vec![("host", "localhost:8000")];
            all.extend_from_slice(pairs);
            let got = verdict(&settings, &all);
            match expected {
                Some(cors) => assert_eq!(got, Ok(*cors), "{pairs:?}"),
                None => assert!(matches!(got, Err(GuardError::Origin(_))), "{pairs:?}"),
            }
        }
    }

    #[test]
    fn a_forwarded_request_is_not_from_this_machine() {
        let here = Some(SocketAddr::from(([127, 0, 0, 1], 5)));
        let mut headers = HeaderMap::new();
        assert_eq!(peer(here, &headers), Peer::loopback());
        assert!(!peer(Some(SocketAddr::from(([10, 0, 0, 2], 5))), &headers).holds(Scope::Owner));
        headers.insert("x-forwarded-for", HeaderValue::from_static("127.0.0.1"));
        assert!(!peer(here, &headers).holds(Scope::Owner));
    }
}
