//! GAIA's own page under `/gaia/`, unmodified, where the owner has given its folder (`gaia.ui`): its files, read-only, with a
//! content policy that lets it reach nothing but this appliance.

use std::path::Path as FilePath;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::super::sent;
use crate::app::App;

/// Its styles are written into elements by React; scripts come from its files alone.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; \
     manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const INDEX: &str = "index.html";

/// What is told where there is none.
const ABSENT: &str = "GAIA's page is not installed here. Unpack it (pip download amd-gaia==0.17.5 --no-deps; unzip it) and start \
     `onebit serve --gaia-ui DIR`, or name the folder as `ui` under [gaia] in the settings. The appliance's own page is /app/.\n";

/// `GET /gaia`
pub(in super::super) async fn enter() -> Redirect {
    Redirect::temporary("/gaia/")
}

/// `GET /gaia/`
pub(in super::super) async fn index(State(app): State<App>) -> Response {
    serve(&app, INDEX)
}

/// `GET /gaia/{path}`: a file, or the page itself for a path without a dot.
pub(in super::super) async fn file(State(app): State<App>, Path(path): Path<String>) -> Response {
    let is_route = !path.rsplit('/').next().unwrap_or_default().contains('.');
    serve(&app, if is_route { INDEX } else { &path })
}

fn serve(app: &App, path: &str) -> Response {
    let Some(folder) = app.config().gaia.page() else {
        return (StatusCode::NOT_FOUND, ABSENT).into_response();
    };
    match read(&folder, path) {
        Some((file, length)) => answer(file, length, path),
        None => (StatusCode::NOT_FOUND, "there is no such file").into_response(),
    }
}

/// Opens a file of the folder; no link is followed and nothing above it is reached.
fn read(folder: &FilePath, path: &str) -> Option<(std::fs::File, u64)> {
    let hidden = path
        .split('/')
        .any(|part| part.is_empty() || part.starts_with('.'));
    if hidden || path.contains('\0') {
        return None;
    }
    let base = std::fs::File::open(folder).ok()?;
    let opened = openat2(
        &base,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    );
    let file = std::fs::File::from(opened.ok()?);
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some((file, metadata.len()))
}

fn answer(file: std::fs::File, length: u64, path: &str) -> Response {
    let mut response = Response::new(sent::file(file));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    // Vite puts everything with a hash in its name below `assets/`.
    let cache = match path.starts_with("assets/") {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    for (name, value) in [
        (header::CONTENT_TYPE, content_type(path)),
        (header::CACHE_CONTROL, cache),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        "cross-origin-opener-policy",
        HeaderValue::from_static("same-origin"),
    );
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
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
    fn only_files_of_the_folder_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("page");
        std::fs::create_dir_all(page.join("assets")).unwrap();
        std::fs::write(page.join("assets/a.js"), "1").unwrap();
        std::fs::write(page.join(".env"), "secret").unwrap();
        std::fs::write(folder.path().join("out.txt"), "secret").unwrap();
        std::os::unix::fs::symlink(folder.path().join("out.txt"), page.join("link.txt")).unwrap();
        assert_eq!(
            read(&page, "assets/a.js").map(|(_, length)| length),
            Some(1)
        );
        for path in [
            "../out.txt",
            "link.txt",
            ".env",
            "assets",
            "assets//a.js",
            "/etc/passwd",
            "a\0b",
        ] {
            assert!(read(&page, path).is_none(), "{path:?}");
        }
    }
}
