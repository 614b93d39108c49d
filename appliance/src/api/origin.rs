//! From which page a request comes, and to whom it is addressed: pure functions over Host, Origin and
//! Sec-Fetch-Site.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderValue, Method, header};

use super::guard::GuardError;

/// What we answer to.
pub(super) struct Known<'a> {
    pub(super) names: &'a [String],
    pub(super) origins: &'a [String],
}

/// Decides by Host, Origin and Sec-Fetch-Site; returns an allowed foreign origin, which needs CORS headers.
pub(super) fn admit(
    known: &Known<'_>,
    headers: &HeaderMap,
    method: &Method,
) -> Result<Option<HeaderValue>, GuardError> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if !host_is_ours(known, host) {
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
    if known
        .origins
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

/// Our own names, and every address that can be one: a name that was rebound is never an address.
fn host_is_ours(known: &Known<'_>, host: &str) -> bool {
    let (name, port) = split_host(host);
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let is_address = name.parse::<IpAddr>().is_ok_and(|address| {
        let address = address.to_canonical();
        !address.is_unspecified() && !address.is_multicast()
    });
    let is_named = known.names.iter().any(|own| own.eq_ignore_ascii_case(name));
    port_fits && (is_address || is_named || is_loopback_name(name))
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

pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
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
        known: &Known<'_>,
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
        admit(known, &headers, &method).map(|origin| origin.is_some())
    }

    #[test]
    fn hosts() {
        let names = ["onebit.local".to_owned(), "box.example".to_owned()];
        let known = Known {
            names: &names,
            origins: &[],
        };
        for host in [
            "localhost",
            "localhost:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
            "LOCALHOST:1",
            "a.localhost",
            "127.9.9.9",
            "192.168.1.5:8000",
            "[fd00::2]:8443",
            "OneBit.local:8000",
            "box.example",
        ] {
            assert!(
                matches!(verdict(&known, &[("host", host)]), Ok(false)),
                "{host}"
            );
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "onebit.local.evil.example",
            "evil.example:8000",
            "0.0.0.0:8000",
            "[::]:8000",
            "[::ffff:0.0.0.0]",
            "224.0.0.1",
            "localhost:http",
            "localhost:99999",
            "user@localhost",
            "localhost/",
            "2130706433",
            "0x7f000001",
            "127.1",
        ] {
            assert!(
                matches!(verdict(&known, &[("host", host)]), Err(GuardError::Host(_))),
                "{host}"
            );
        }
    }

    #[test]
    fn origins() {
        let origins = ["http://localhost:5173".to_owned()];
        let known = Known {
            names: &[],
            origins: &origins,
        };
        type Headers = &'static [(&'static str, &'static str)];
        let cases: &[(Headers, Option<bool>)] = &[
            (&[("origin", "http://localhost:8000")], Some(false)),
            (&[("origin", "http://127.0.0.1:8000")], Some(false)),
            (&[("origin", "http://localhost:5173")], Some(true)),
            (&[("origin", "http://localhost:3000")], None),
            (&[("origin", "http://localhost:8000.evil.example")], None),
            (&[("origin", "http://localhost@evil.example")], None),
            (&[("origin", "https://evil.example")], None),
            (&[("origin", "null")], None),
            (&[("origin", "")], None),
            (&[("origin", "file://")], None),
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
            let got = verdict(&known, &all);
            match (expected, got) {
                (Some(cors), Ok(got)) => assert_eq!(got, *cors, "{pairs:?}"),
                (None, Err(GuardError::Origin(_))) => {}
                (_, got) => panic!("{pairs:?}: {got:?}"),
            }
        }
    }

    /// Whatever stands in the headers: an answer, never a panic, and never a foreign name let in.
    #[test]
    fn noise_in_host_and_origin_is_refused() {
        let mut seed = 1u64;
        let mut next = move || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        const PARTS: &[&str] = &[
            "localhost",
            "evil.example",
            "127.0.0.1",
            "[",
            "]",
            "::1",
            ":",
            "8000",
            ".",
            "@",
            "/",
            "http://",
            "https",
            "://",
            "%00",
            "0",
            "\\",
            "#",
            "?",
            " ",
            "xn--",
            "local",
        ];
        let known = Known {
            names: &[],
            origins: &[],
        };
        for _ in 0..200_000 {
            let mut text = || {
                (0..next() % 6)
                    .map(|_| PARTS[next() % PARTS.len()])
                    .collect::<String>()
            };
            let (host, origin) = (text(), text());
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(&host) {
                headers.insert("host", value);
            }
            if let Ok(value) = HeaderValue::from_str(&origin) {
                headers.insert("origin", value);
            }
            if admit(&known, &headers, &Method::POST).is_ok() {
                assert!(
                    !host.contains("evil") && !origin.contains("evil"),
                    "{host:?} {origin:?}"
                );
            }
        }
    }
}
