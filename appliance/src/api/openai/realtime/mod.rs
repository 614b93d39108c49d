//! `WS /v1/realtime`: a conversation by voice, or a transcript as somebody speaks.
//!
//! OpenAI's events, under their present names and, with `OpenAI-Beta: realtime=v1`, under the earlier ones; Lemonade's
//! variant is the transcript alone at 16 kHz. Owns the socket and the order of events; what is heard and said is the
//! application's. WebRTC and SIP are other ways to the same and are not offered.

mod drafts;
mod events;
mod live;
mod respond;
mod session;
mod talk;

use axum::Extension;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::app::App;
use crate::domain::Peer;
use live::{Inner, Live};
use session::Settings;

/// Largest message: a minute of sound as base64.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Events on their way out. A client that reads none for this many is waited for.
const OUT_MAX: usize = 256;

#[derive(Debug, Default, Deserialize)]
pub(in super::super::super) struct RealtimeQuery {
    #[serde(default)]
    model: String,
    #[serde(default)]
    intent: String,
}

/// OpenAI's address. A model that listens means Lemonade's clients, which name one.
pub(in super::super::super) async fn connect(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Query(query): Query<RealtimeQuery>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let beta = headers
        .get("openai-beta")
        .is_some_and(|value| value.as_bytes().starts_with(b"realtime"));
    let settings = if app.listens(&query.model).await {
        Settings::lemonade(&query.model)
    } else if query.intent == "transcription" {
        Settings::transcription()
    } else {
        Settings::conversation(&query.model)
    };
    open(app, peer, settings, beta, upgrade)
}

/// Lemonade's addresses.
pub(in super::super::super) async fn connect_lemonade(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Query(query): Query<RealtimeQuery>,
    upgrade: WebSocketUpgrade,
) -> Response {
    open(app, peer, Settings::lemonade(&query.model), false, upgrade)
}

fn open(
    app: App,
    peer: Peer,
    settings: Settings,
    beta: bool,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        // Browsers cannot send headers, so OpenAI's client names the protocol instead.
        .protocols(["realtime"])
        .max_message_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| async move {
            // A client that hangs up is the usual end.
            let _ = serve(socket, app, peer, settings, beta).await;
        })
}

async fn serve(
    mut socket: WebSocket,
    app: App,
    peer: Peer,
    settings: Settings,
    beta: bool,
) -> Result<(), axum::Error> {
    let (out, mut told) = mpsc::channel::<Value>(OUT_MAX);
    let (inner, mut happened) = mpsc::channel::<Inner>(OUT_MAX);
    let mut live = Live::new(app, peer, settings, beta, out, inner);
    live.begin().await;
    loop {
        tokio::select! {
            // What is to be told goes first: an event never waits behind the client's next one.
            biased;
            Some(event) = told.recv() => {
                socket.send(Message::Text(event.to_string().into())).await?;
            }
            Some(event) = happened.recv() => live.happened(event).await,
            message = socket.recv() => match message {
                None => return Ok(()),
                Some(message) => match message? {
                    Message::Text(text) => live.event(&text).await,
                    Message::Close(_) => return Ok(()),
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
                },
            },
        }
    }
}
