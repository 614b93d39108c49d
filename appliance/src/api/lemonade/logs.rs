//! `WS /logs/stream`: the log so far, then each line as it comes.
//!
//! Log lines name models and paths, so they are the owner's alone.

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::time;
use crate::app::journal::{self, Entry};

/// Largest message of a client: a subscription has some fifty bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

#[derive(Deserialize)]
struct Subscribe {
    r#type: String,
    after_seq: Option<u64>,
}

pub(in super::super) async fn stream(upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .on_upgrade(|socket| async move {
            // A client that hangs up is the usual end.
            let _ = serve(socket).await;
        })
}

async fn serve(mut socket: WebSocket) -> Result<(), axum::Error> {
    let mut new = journal::follow();
    // Nothing is told before the first subscription.
    let mut told: Option<u64> = None;
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                None => return Ok(()),
                Some(message) => match message? {
                    Message::Text(text) => match subscription(&text) {
                        Ok(after) => told = Some(snapshot(&mut socket, after).await?),
                        Err(error) => send(&mut socket, &error).await?,
                    },
                    Message::Close(_) => return Ok(()),
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
                },
            },
            changed = new.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let Some(last) = &mut told else { continue };
                for entry in journal::entries_after(*last) {
                    *last = entry.number;
                    send(&mut socket, &json!({ "type": "logs.entry", "entry": view(&entry) })).await?;
                }
            }
        }
    }
}

/// Sends everything kept after `after`; returns the number of the last line.
async fn snapshot(socket: &mut WebSocket, after: u64) -> Result<u64, axum::Error> {
    let entries = journal::entries_after(after);
    let last = entries.last().map_or(after, |entry| entry.number);
    let entries: Vec<Value> = entries.iter().map(view).collect();
    send(
        socket,
        &json!({ "type": "logs.snapshot", "entries": entries }),
    )
    .await?;
    Ok(last)
}

fn subscription(text: &str) -> Result<u64, Value> {
    let error = |message: &str| json!({ "type": "error", "error": { "message": message } });
    let message: Subscribe = serde_json::from_str(text)
        .map_err(|e| error(&format!("the message cannot be read: {e}")))?;
    match message.r#type.as_str() {
        "logs.subscribe" => Ok(message.after_seq.unwrap_or(0)),
        other => Err(error(&format!(
            "there is no message `{other}`; send logs.subscribe"
        ))),
    }
}

fn view(entry: &Entry) -> Value {
    let timestamp = time::rfc3339(entry.at).replace('T', " ").replace('Z', "");
    let severity = match entry.level.as_str() {
        "ERROR" => "Error",
        "WARN" => "Warning",
        "INFO" => "Info",
        "DEBUG" => "Debug",
        _ => "Trace",
    };
    json!({
        "seq": entry.number,
        "line": format!("{timestamp} [{severity}] ({}) {}", entry.part, entry.text),
        "timestamp": timestamp,
        "severity": severity,
        "tag": entry.part,
    })
}

async fn send(socket: &mut WebSocket, value: &Value) -> Result<(), axum::Error> {
    socket.send(Message::Text(value.to_string().into())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_say_where_to_go_on() {
        assert_eq!(
            subscription(r#"{"type":"logs.subscribe","after_seq":null}"#),
            Ok(0)
        );
        assert_eq!(
            subscription(r#"{"type":"logs.subscribe","after_seq":7}"#),
            Ok(7)
        );
        for bad in ["{", "{}", r#"{"type":"hello"}"#] {
            assert_eq!(subscription(bad).unwrap_err()["type"], "error", "{bad}");
        }
    }
}
