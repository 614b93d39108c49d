//! Routes that Lemonade has and we have not, each answered by its name, with what to do instead.
//!
//! They are looked up only when nothing else answers, so that a route which comes later simply takes its place.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::super::failure::json as answer;

/// Method, path below the prefix (`*` for the rest), and why it does nothing here.
const ABSENT: [(&str, &str, &str); 15] = [
    (
        "POST",
        "/classify",
        "no engine here runs classifiers; ask a chat model with a JSON schema",
    ),
    ("POST", "/audio/generations", "no engine here makes sounds"),
    (
        "POST",
        "/images/upscale",
        "no engine here enlarges pictures",
    ),
    ("POST", "/3d/generations", "no engine here makes meshes"),
    (
        "POST",
        "/install/dry-run",
        "programs are built from pinned sources; `onebit engines list` shows them",
    ),
    (
        "POST",
        "/cloud/auth",
        "no request leaves for a provider; onebit answers on this machine",
    ),
    (
        "DELETE",
        "/cloud/auth/*",
        "no request leaves for a provider; onebit answers on this machine",
    ),
    (
        "GET",
        "/jobs",
        "sequences of requests are not run here; send them one after the other",
    ),
    (
        "POST",
        "/jobs",
        "sequences of requests are not run here; send them one after the other",
    ),
    (
        "GET",
        "/jobs/*",
        "sequences of requests are not run here; send them one after the other",
    ),
    (
        "POST",
        "/jobs/*",
        "sequences of requests are not run here; send them one after the other",
    ),
    (
        "DELETE",
        "/jobs/*",
        "sequences of requests are not run here; send them one after the other",
    ),
    (
        "GET",
        "/registry/search",
        "searching hubs is not supported; name the repository to pull/variants or pull",
    ),
    (
        "GET",
        "/docs",
        "this server's reference is at /openapi.json",
    ),
    (
        "GET",
        "/docs/*",
        "this server's reference is at /openapi.json",
    ),
];

/// The answer to a route that is known and not here; `None` for one that nobody knows.
pub(super) fn answer_by_name(method: &str, rest: &str) -> Option<Response> {
    let same = |path: &str| match path.strip_suffix('*') {
        Some(front) => rest.starts_with(front),
        None => rest == path,
    };
    let found = ABSENT
        .iter()
        .find(|(its_method, path, _)| *its_method == method && same(path));
    let (_, _, why) = found?;
    let body = json!({ "error": {
        "message": format!("{method} {rest} is not supported: {why}"),
        "type": "unsupported_operation",
        "code": "unsupported_operation",
        "param": null,
    }});
    Some(answer(StatusCode::NOT_IMPLEMENTED, &body))
}
