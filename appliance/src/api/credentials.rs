//! Where a request carries its credential, and the cookie that a browser carries it in.

use axum::http::{HeaderMap, HeaderValue, Uri, header};

use crate::app::Carried;

/// The cookie over https. The prefix makes browsers refuse it from anybody but this very host over https.
const SECURE_COOKIE: &str = "__Host-onebit";
/// The cookie over plain http, which gives no more than chat.
const PLAIN_COOKIE: &str = "onebit";

/// Seconds that a browser keeps the cookie; the appliance forgets an unused device after the same time.
const COOKIE_S: u32 = 90 * 86_400;

/// What a request shows.
#[derive(Debug, Default)]
pub(super) struct Shown {
    headers: Vec<String>,
    cookies: Vec<String>,
    /// A ticket, which only a WebSocket's first request may carry: browsers cannot give it headers.
    pub(super) ticket: Option<String>,
}

impl Shown {
    /// Reads `Authorization`, `x-api-key`, the cookies and a WebSocket's `ticket`.
    pub(super) fn read(headers: &HeaderMap, uri: &Uri) -> Shown {
        let mut shown = Shown::default();
        for value in headers.get_all(header::AUTHORIZATION) {
            // Not text or not bearer: shown all the same, so that it is refused and not overlooked.
            let text = value.to_str().unwrap_or("?").trim();
            let token = match text.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
                _ => text,
            };
            shown.headers.push(token.to_owned());
        }
        for value in headers.get_all("x-api-key") {
            shown
                .headers
                .push(value.to_str().unwrap_or("?").trim().to_owned());
        }
        for value in headers.get_all(header::COOKIE) {
            let pairs = value.to_str().unwrap_or_default().split(';');
            for (name, value) in pairs.filter_map(|pair| pair.trim().split_once('=')) {
                if name == SECURE_COOKIE || name == PLAIN_COOKIE {
                    shown.cookies.push(value.to_owned());
                }
            }
        }
        let upgrades = headers
            .get(header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if upgrades {
            let pairs = uri.query().unwrap_or_default().split('&');
            shown.ticket = pairs
                .filter_map(|pair| pair.strip_prefix("ticket="))
                .next()
                .map(str::to_owned);
        }
        shown
    }

    /// Whether a cookie of ours came along.
    pub(super) fn has_cookie(&self) -> bool {
        !self.cookies.is_empty()
    }

    /// All of it, for the one function that decides.
    pub(super) fn carried(&self) -> Vec<Carried<'_>> {
        let headers = self.headers.iter().map(|text| Carried {
            text,
            cookie: false,
        });
        let cookies = self
            .cookies
            .iter()
            .map(|text| Carried { text, cookie: true });
        headers.chain(cookies).collect()
    }
}

/// Gives the browser its token.
pub(super) fn set_cookie(headers: &mut HeaderMap, secure: bool, token: &str) {
    let (name, attribute) = match secure {
        true => (SECURE_COOKIE, "; Secure"),
        false => (PLAIN_COOKIE, ""),
    };
    let text =
        format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={COOKIE_S}{attribute}");
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Takes the browser's token away.
pub(super) fn clear_cookies(headers: &mut HeaderMap) {
    for text in [
        "__Host-onebit=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0; Secure",
        "onebit=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0",
    ] {
        headers.append(header::SET_COOKIE, HeaderValue::from_static(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pairs: &[(&'static str, &'static str)], uri: &'static str) -> Shown {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Shown::read(&headers, &Uri::from_static(uri))
    }

    #[test]
    fn every_carrier_is_read() {
        let all = shown(
            &[
                ("authorization", "BEARER a"),
                ("x-api-key", "b"),
                ("cookie", "x=1; onebit=c"),
                ("cookie", "__Host-onebit=d"),
            ],
            "/",
        );
        let texts: Vec<_> = all
            .carried()
            .iter()
            .map(|c| (c.text.to_owned(), c.cookie))
            .collect();
        let expected = [("a", false), ("b", false), ("c", true), ("d", true)];
        assert_eq!(
            texts,
            expected.map(|(text, cookie)| (text.to_owned(), cookie))
        );
        let basic = shown(&[("authorization", "Basic eDp5")], "/");
        assert_eq!(basic.carried()[0].text, "Basic eDp5");
    }

    #[test]
    fn a_ticket_opens_websockets_only() {
        let upgrade = ("upgrade", "WebSocket");
        assert_eq!(
            shown(&[upgrade], "/x?a=1&ticket=t").ticket.as_deref(),
            Some("t")
        );
        assert_eq!(shown(&[], "/x?ticket=t").ticket, None);
        assert_eq!(shown(&[upgrade], "/x?tickets=t").ticket, None);
    }
}
