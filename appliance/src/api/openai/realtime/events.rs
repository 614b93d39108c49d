//! The events that go out: their numbers, and their names in both of OpenAI's versions.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::app::new_id;

/// Where events go; clones go to the same client.
#[derive(Clone)]
pub(super) struct Out {
    to: mpsc::Sender<Value>,
    beta: bool,
}

impl Out {
    pub(super) fn new(to: mpsc::Sender<Value>, beta: bool) -> Out {
        Out { to, beta }
    }

    /// Sends an event of a name. A client that has gone is noticed at the socket.
    pub(super) async fn send(&self, name: &str, mut fields: Value) {
        fields["type"] = earlier(name, self.beta).into();
        fields["event_id"] = id("event").into();
        let _ = self.to.send(fields).await;
    }

    /// Tells what is wrong with an event of the client's.
    pub(super) async fn refuse(&self, code: &str, message: &str, about: Option<&Value>) {
        let error = json!({
            "type": "invalid_request_error",
            "code": code,
            "message": message,
            "param": null,
            "event_id": about.and_then(|event| event.get("event_id")),
        });
        self.send("error", json!({ "error": error })).await;
    }

    /// Tells what went wrong here.
    pub(super) async fn fail(&self, message: &str) {
        let error = json!({ "type": "server_error", "code": null, "message": message, "param": null, "event_id": null });
        self.send("error", json!({ "error": error })).await;
    }
}

/// A new identifier with what it is for in front.
pub(super) fn id(of: &str) -> String {
    new_id().map_or_else(|_| of.to_owned(), |id| format!("{of}_{id}"))
}

/// The name of an event before the interface left its beta.
fn earlier(name: &str, beta: bool) -> &str {
    if !beta {
        return name;
    }
    match name {
        "response.output_audio.delta" => "response.audio.delta",
        "response.output_audio.done" => "response.audio.done",
        "response.output_audio_transcript.delta" => "response.audio_transcript.delta",
        "response.output_audio_transcript.done" => "response.audio_transcript.done",
        "response.output_text.delta" => "response.text.delta",
        "response.output_text.done" => "response.text.done",
        "conversation.item.added" => "conversation.item.created",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_have_names_and_numbers() {
        let (to, mut told) = mpsc::channel(4);
        Out::new(to.clone(), false)
            .send("response.output_text.delta", json!({ "delta": "x" }))
            .await;
        Out::new(to, true)
            .send("response.output_text.delta", json!({}))
            .await;
        let first = told.recv().await.unwrap();
        assert_eq!(
            (&first["type"], &first["delta"]),
            (&json!("response.output_text.delta"), &json!("x"))
        );
        assert!(first["event_id"].as_str().unwrap().starts_with("event_"));
        assert_eq!(told.recv().await.unwrap()["type"], "response.text.delta");
    }
}
