//! The page inside the binary. A debug build reads `web/dist` from disk at each request.
//!
//! Files with a hash in their name never change and are cached for ever; the others are asked for again
//! each time. A `.br` or `.gz` neighbour made by the web build is sent to browsers that take it.

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

/// The web build's output; `build.rs` has made sure that it is there.
#[derive(RustEmbed)]
#[folder = "$ONEBIT_PAGE"]
struct Page;

/// Nothing from outside, no inline script or style, no framing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; worker-src 'self'; \
     manifest-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// `GET /app/`
pub(super) async fn index(headers: HeaderMap) -> Response {
    serve("index.html", &headers)
}

/// `GET /pair`: the page itself, which sees by its address that a device wants in. Its files lie under `/app/`, so
/// the browser is sent there; a fragment goes along and no server ever sees it.
pub(super) async fn pair() -> Response {
    let mut response = axum::response::Redirect::temporary("/app/pair").into_response();
    response.headers_mut().insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}

/// `GET /app/{path}`: a file, or the page itself for its own routes (paths without a dot).
pub(super) async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let is_route = !path.rsplit('/').next().unwrap_or_default().contains('.');
    serve(if is_route { "index.html" } else { &path }, &headers)
}

/// `GET /favicon.ico`
pub(super) async fn favicon(headers: HeaderMap) -> Response {
    let name = ["favicon.ico", "favicon.svg", "icon.svg"]
        .into_iter()
        .find(|name| Page::get(name).is_some());
    match name {
        Some(name) => serve(name, &headers),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

fn serve(path: &str, request: &HeaderMap) -> Response {
    let Some((file, encoding)) = choose(path, request) else {
        return (StatusCode::NOT_FOUND, "there is no such file").into_response();
    };
    let tag = etag(&file);
    let known = request
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(file.data.into_owned()))
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(content_type(path)),
    );
    let cache = if is_hashed(path) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(
        "cross-origin-opener-policy",
        HeaderValue::from_static("same-origin"),
    );
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// The smallest form that the browser takes.
fn choose(path: &str, request: &HeaderMap) -> Option<(EmbeddedFile, Option<&'static str>)> {
    let accepted = request
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    for (encoding, ending) in [("br", "br"), ("gzip", "gz")] {
        if accepts(accepted, encoding)
            && let Some(file) = Page::get(&format!("{path}.{ending}"))
        {
            return Some((file, Some(encoding)));
        }
    }
    Page::get(path).map(|file| (file, None))
}

fn accepts(header: &str, encoding: &str) -> bool {
    header.split(',').any(|item| {
        let (name, quality) = item.split_once(';').unwrap_or((item, ""));
        name.trim() == encoding && quality.trim() != "q=0"
    })
}

fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let digits: String = hash[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{digits}\"")
}

/// Vite puts everything with a hash in its name below `assets/`.
fn is_hashed(path: &str) -> bool {
    path.starts_with("assets/")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_negotiated() {
        assert!(accepts("gzip, deflate, br", "br") && accepts("br;q=1.0", "br"));
        assert!(!accepts("gzip, br;q=0", "br") && !accepts("", "gzip") && !accepts("broken", "br"));
    }

    #[tokio::test]
    async fn the_page_carries_its_policy() {
        let response = index(HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/html; charset=utf-8"
        );
        assert!(
            response
                .headers()
                .contains_key(header::CONTENT_SECURITY_POLICY)
        );
        let missing = file(Path("nowhere.js".into()), HeaderMap::new()).await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
        let view = file(Path("chats/abc".into()), HeaderMap::new()).await;
        assert_eq!(
            view.headers()[header::CONTENT_TYPE],
            "text/html; charset=utf-8"
        );
    }
}
