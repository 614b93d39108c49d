//! The headers by which a request says how it is to be run and hears how it was: the same in every dialect.
//!
//! In: `x-onebit-lane` (a lane or its silicon), `x-onebit-priority` (`interactive`, `background`),
//! `x-onebit-session` (a conversation's name), `x-onebit-prefer` (`balanced`, `fast`, `eco`, `quality`).
//! Out: `x-onebit-route`.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::body::RequestError;
use super::shared::refusal;
use crate::app::{Preset, Priority, RouteNote, Wish, carrying};

/// What was decided, on every answer that was routed.
const ROUTE: &str = "x-onebit-route";

/// Reads the wishes, and tells the route.
pub(super) async fn carry(request: Request, next: Next) -> Response {
    let wish = match wish(request.headers()) {
        Ok(wish) => wish,
        Err(error) => return refusal(request.uri().path(), request.headers(), error),
    };
    let note = RouteNote::default();
    let mut response = carrying(wish, note.clone(), next.run(request)).await;
    // The names in it are ours and are plain text.
    if let Some(route) = note.read()
        && let Ok(value) = HeaderValue::try_from(route)
    {
        response.headers_mut().insert(ROUTE, value);
    }
    response
}

fn wish(headers: &HeaderMap) -> Result<Wish, RequestError> {
    let text = |name: &'static str| match headers.get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(RequestError::field(name, "is not plain text")),
    };
    Ok(Wish {
        lane: text("x-onebit-lane")?.map(str::to_owned),
        session: text("x-onebit-session")?.map(str::to_owned),
        priority: match text("x-onebit-priority")? {
            None => Priority::default(),
            Some(word) => priority(word).ok_or_else(|| {
                RequestError::field("x-onebit-priority", "must be interactive or background")
            })?,
        },
        preset: match text("x-onebit-prefer")? {
            None => None,
            Some(word) => Some(preset(word).ok_or_else(|| {
                RequestError::field("x-onebit-prefer", "must be balanced, fast, eco or quality")
            })?),
        },
    })
}

/// Reads a priority's name.
pub(super) fn priority(word: &str) -> Option<Priority> {
    Some(match word {
        "interactive" => Priority::Interactive,
        "background" => Priority::Background,
        _ => return None,
    })
}

/// Reads a preset's name.
pub(super) fn preset(word: &str) -> Option<Preset> {
    Some(match word {
        "balanced" => Preset::Balanced,
        "fast" => Preset::Fast,
        "eco" => Preset::Eco,
        "quality" => Preset::Quality,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Wish, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        wish(&headers).map_err(|error| error.to_string())
    }

    #[test]
    fn wishes_are_read_and_odd_ones_refused_by_name() {
        assert_eq!(read(&[]), Ok(Wish::default()));
        let all = read(&[
            ("x-onebit-lane", "npu"),
            ("x-onebit-priority", "background"),
            ("x-onebit-session", " s "),
            ("x-onebit-prefer", "eco"),
        ]);
        let wanted = Wish {
            lane: Some("npu".into()),
            session: Some("s".into()),
            preset: Some(Preset::Eco),
            ..Wish::background()
        };
        assert_eq!(all, Ok(wanted));
        for name in ["x-onebit-priority", "x-onebit-prefer"] {
            let error = read(&[(name, "soon")]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
