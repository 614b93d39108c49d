//! Server-sent events and JSON lines: frames out of values, a heartbeat in silence, an orderly end.

use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::{self, BoxFuture, FutureExt};
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;

/// Silence after which a comment is sent. Proxies and phones cut quiet connections after 30 s or more.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// One event.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// The event's name; unnamed when `None`.
    pub(super) event: Option<&'static str>,
    /// The event's number, for clients that come back.
    pub(super) id: Option<usize>,
    /// One line of data.
    pub(super) data: String,
    /// Whether it is a comment, which every client skips and people read.
    pub(super) aside: bool,
}

impl Frame {
    /// An unnamed frame.
    pub(super) fn data(data: String) -> Frame {
        Frame {
            data,
            ..Frame::default()
        }
    }

    /// A comment between events, which heartbeats repeat until the next event.
    pub(super) fn aside(what: String) -> Frame {
        Frame {
            data: what,
            aside: true,
            ..Frame::default()
        }
    }

    fn bytes(&self) -> Bytes {
        if self.aside {
            return comment(&self.data);
        }
        let mut text = String::with_capacity(self.data.len() + 32);
        // Writing into a String cannot fail.
        if let Some(id) = self.id {
            let _ = writeln!(text, "id: {id}");
        }
        if let Some(event) = self.event {
            let _ = writeln!(text, "event: {event}");
        }
        let _ = write!(text, "data: {}\n\n", self.data);
        Bytes::from(text)
    }
}

/// A comment, which every client skips.
const COMMENT: &[u8] = b": still here\n\n";

/// Makes a heartbeat when there is need of one.
pub(super) type Beat = Box<dyn Fn() -> BoxFuture<'static, Bytes> + Send>;

/// A comment that says what the silence is.
pub(super) fn comment(what: &str) -> Bytes {
    // A line's end would end the comment.
    Bytes::from(format!(": {}\n\n", what.replace(['\r', '\n'], " ")))
}

/// A response that streams frames. Dropping it drops the stream, which cancels what feeds it.
pub(super) fn sse(frames: impl Stream<Item = Frame> + Send + 'static) -> Response {
    sse_with(frames, COMMENT)
}

/// The same with another heartbeat, for dialects that have one of their own.
pub(super) fn sse_with(
    frames: impl Stream<Item = Frame> + Send + 'static,
    heartbeat: &'static [u8],
) -> Response {
    let beat = move || future::ready(Bytes::from_static(heartbeat)).boxed();
    sse_telling(frames, Box::new(beat))
}

/// The same with heartbeats that are made when they are due.
pub(super) fn sse_telling(
    frames: impl Stream<Item = Frame> + Send + 'static,
    beat: Beat,
) -> Response {
    let state = (Box::pin(frames), beat, Bytes::new());
    let bytes = stream::unfold(state, |(mut frames, beat, mut aside)| async move {
        let bytes = match tokio::time::timeout(HEARTBEAT, frames.next()).await {
            Ok(frame) => {
                let frame = frame?;
                let bytes = frame.bytes();
                aside = if frame.aside {
                    bytes.clone()
                } else {
                    Bytes::new()
                };
                bytes
            }
            Err(_) => {
                let told = beat();
                [told.await, aside.clone()].concat().into()
            }
        };
        Some((Ok::<_, Infallible>(bytes), (frames, beat, aside)))
    });
    streamed(Body::from_stream(bytes), "text/event-stream; charset=utf-8")
}

/// A response that streams values, one a line. The format has no comments, so `beat` makes the line that
/// fills a silence. Dropping the response drops the stream.
pub(super) fn json_lines(
    lines: impl Stream<Item = Value> + Send + 'static,
    beat: impl Fn() -> Value + Send + 'static,
) -> Response {
    let state = (Box::pin(lines), beat);
    let bytes = stream::unfold(state, |(mut lines, beat)| async move {
        let line = match tokio::time::timeout(HEARTBEAT, lines.next()).await {
            Ok(line) => line?,
            Err(_) => beat(),
        };
        let bytes = Bytes::from(format!("{line}\n"));
        Some((Ok::<_, Infallible>(bytes), (lines, beat)))
    });
    streamed(Body::from_stream(bytes), "application/x-ndjson")
}

fn streamed(body: Body, content_type: &'static str) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    // nginx buffers answers unless told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_id_name_and_data() {
        assert_eq!(Frame::data("{}".into()).bytes(), "data: {}\n\n");
        let named = Frame {
            event: Some("turn"),
            id: Some(7),
            data: "1".into(),
            aside: false,
        };
        assert_eq!(named.bytes(), "id: 7\nevent: turn\ndata: 1\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let quiet = stream::once(async {
            tokio::time::sleep(HEARTBEAT * 2 + HEARTBEAT / 2).await;
            Frame::data("x".into())
        });
        let body = axum::body::to_bytes(sse(quiet).into_body(), 1000)
            .await
            .unwrap();
        assert_eq!(body, ": still here\n\n: still here\n\ndata: x\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_repeats_the_last_aside() {
        let quiet = stream::iter([Frame::aside("2 before".into())]).chain(stream::once(async {
            tokio::time::sleep(HEARTBEAT + HEARTBEAT / 2).await;
            Frame::data("x".into())
        }));
        let body = axum::body::to_bytes(sse(quiet).into_body(), 1000)
            .await
            .unwrap();
        assert_eq!(
            body,
            ": 2 before\n\n: still here\n\n: 2 before\n\ndata: x\n\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_tells_what_the_silence_is() {
        let quiet = stream::once(async {
            tokio::time::sleep(HEARTBEAT + HEARTBEAT / 2).await;
            Frame::data("x".into())
        });
        let beat = || future::ready(comment("loading\nm")).boxed();
        let body = sse_telling(quiet, Box::new(beat)).into_body();
        let body = axum::body::to_bytes(body, 1000).await.unwrap();
        assert_eq!(body, ": loading m\n\ndata: x\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn lines_end_with_a_newline_and_silence_is_filled() {
        let quiet = stream::once(async {
            tokio::time::sleep(HEARTBEAT + HEARTBEAT / 2).await;
            serde_json::json!({"done": true})
        });
        let response = json_lines(quiet, || serde_json::json!({"done": false}));
        let body = axum::body::to_bytes(response.into_body(), 1000)
            .await
            .unwrap();
        assert_eq!(body, "{\"done\":false}\n{\"done\":true}\n");
    }
}
