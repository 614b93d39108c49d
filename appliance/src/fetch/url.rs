//! Just enough of a URL: scheme, host, port and the rest, with nothing that can hide a second meaning.

use std::fmt;

use http::Uri;

use super::FetchError;

/// A checked `http` or `https` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    host: String,
    port: u16,
    rest: String,
}

impl Url {
    /// Reads an absolute address. User names and passwords inside it are refused: they end up in logs.
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        let bad = |why| FetchError::BadUrl {
            url: text.to_owned(),
            why,
        };
        let text = text.split('#').next().unwrap_or(text);
        let uri: Uri = text.parse().map_err(|_| bad("it cannot be read"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("only https and http are spoken")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it carries a user name"));
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(bad("it names no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let rest = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Ok(Self {
            tls,
            host,
            port,
            rest,
        })
    }

    /// Where a `Location` leads from here.
    pub(super) fn join(&self, to: &str) -> Result<Self, FetchError> {
        let scheme = if self.tls { "https" } else { "http" };
        if to.contains("://") {
            return Self::parse(to);
        }
        if let Some(rest) = to.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let path = self.rest.split('?').next().unwrap_or("/");
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let rest = if to.starts_with('/') {
            to.to_owned()
        } else {
            format!("{folder}/{to}")
        };
        Self::parse(&format!("{scheme}://{}{rest}", self.authority()))
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host without the brackets of an IPv6 address.
    pub(super) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Path and query, as sent.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.rest
    }

    pub(super) fn authority(&self) -> String {
        if self.port == if self.tls { 443 } else { 80 } {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(super) fn same_origin(&self, other: &Self) -> bool {
        (self.tls, &self.host, self.port) == (other.tls, &other.host, other.port)
    }

    pub(super) fn bad(&self, why: &'static str) -> FetchError {
        FetchError::BadUrl {
            url: self.to_string(),
            why,
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            if self.tls { "https" } else { "http" },
            self.authority(),
            self.rest
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("https://Example.com", "https://example.com/"),
            (
                "https://example.com:443/a?b=c#d",
                "https://example.com/a?b=c",
            ),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "ftp://a/",
            "file:///etc/passwd",
            "/relative",
            "https://u:p@a/",
            "https://",
            "http:// a/",
            "",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn locations_are_joined() {
        let from = Url::parse("https://a.b/c/d?e=f").unwrap();
        for (to, joined) in [
            ("https://x/y", "https://x/y"),
            ("//x/y", "https://x/y"),
            ("/y?z=https%3A", "https://a.b/y?z=https%3A"),
            ("y", "https://a.b/c/y"),
        ] {
            assert_eq!(from.join(to).unwrap().to_string(), joined);
        }
        assert!(from.join("file:///etc/passwd").is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let a = Url::parse("https://a/x").unwrap();
        assert!(a.same_origin(&Url::parse("https://A:443/y").unwrap()));
        for other in ["http://a/", "https://b/", "https://a:8443/", "https://a.b/"] {
            assert!(!a.same_origin(&Url::parse(other).unwrap()), "{other}");
        }
    }
}
