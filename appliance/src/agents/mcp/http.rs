//! Streamable HTTP through the guarded client: each message of ours is one POST, and what comes back is passed on in
//! lines, as a program would say it.

use bytes::Bytes;
use http::header::{ACCEPT, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

use super::{CALL, MESSAGE_BYTES_MAX};
use crate::fetch::{Fetch, FetchError, Request};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Messages that one answer may bring before its own: notifications, which nobody here waits for.
const EVENTS_MAX: usize = 1000;

/// Carries messages to the server and its answers back until our side is closed.
pub(super) async fn carry(fetch: Fetch, url: String, token: Option<String>, stream: DuplexStream) {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    let mut session: Option<HeaderValue> = None;
    let mut version: Option<HeaderValue> = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let sent: Value = serde_json::from_str(&line).unwrap_or_default();
        let id = sent
            .get("id")
            .filter(|_| sent.get("method").is_some())
            .cloned();
        let mut request =
            Request::post_json(url.clone(), Bytes::from(line), MESSAGE_BYTES_MAX as u64)
                .header(
                    ACCEPT,
                    HeaderValue::from_static("application/json, text/event-stream"),
                )
                .bearer(token.as_deref());
        request.silence = CALL;
        for (name, value) in [(SESSION, &session), (VERSION, &version)] {
            if let Some(value) = value {
                request = request.header(name, value.clone());
            }
        }
        let answers = match post(&fetch, request, &mut session, id.as_ref()).await {
            Ok(answers)
                if id.is_none() || answers.iter().any(|one| one.get("id") == id.as_ref()) =>
            {
                answers
            }
            Ok(_) => id
                .iter()
                .map(|id| refusal(id, "the server gave no answer to this"))
                .collect(),
            // Who waits for an answer hears why there is none.
            Err(error) => id
                .iter()
                .map(|id| refusal(id, &error.to_string()))
                .collect(),
        };
        for answer in answers {
            if let Some(agreed) = answer["result"]["protocolVersion"].as_str() {
                version = HeaderValue::from_str(agreed).ok();
            }
            if write
                .write_all(format!("{answer}\n").as_bytes())
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

fn refusal(id: &Value, why: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32000, "message": why } })
}

/// Sends one message; gives what the server says up to its answer to `id`.
async fn post(
    fetch: &Fetch,
    request: Request,
    session: &mut Option<HeaderValue>,
    id: Option<&Value>,
) -> Result<Vec<Value>, FetchError> {
    let mut response = fetch.send(request).await?.success()?;
    if let Some(given) = response.headers.get(&SESSION) {
        *session = Some(given.clone());
    }
    let events = response
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    if !events {
        let bytes = response.bytes().await?;
        return Ok(messages(&bytes));
    }
    let (mut buffer, mut all) = (Vec::new(), Vec::new());
    while let Some(piece) = response.chunk().await? {
        buffer.extend_from_slice(&piece);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data:") else {
                continue;
            };
            for message in messages(data) {
                let answered =
                    id.is_some() && message.get("id") == id && message.get("method").is_none();
                all.push(message);
                if answered || all.len() >= EVENTS_MAX {
                    return Ok(all);
                }
            }
        }
    }
    Ok(all)
}

/// The messages of a body: one, or a list; what is none is left out, and who waits is told by the time that is up.
fn messages(bytes: &[u8]) -> Vec<Value> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Array(all)) => all.into_iter().filter(Value::is_object).collect(),
        Ok(one @ Value::Object(_)) => vec![one],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_hold_one_message_or_several_or_none() {
        assert_eq!(messages(br#" {"id": 1}"#).len(), 1);
        assert_eq!(messages(br#"[{"id": 1}, 5, {"id": 2}]"#).len(), 2);
        assert!(messages(b"<html>").is_empty() && messages(b"").is_empty());
    }
}
