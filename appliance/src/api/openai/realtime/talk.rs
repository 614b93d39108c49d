//! The conversation of a session: its messages, and the response that is being made.

use std::sync::Arc;

use serde_json::{Value, json};

use super::events::id;
use super::live::{Live, Task};
use super::respond::{Asked, respond};
use crate::api::cited;
use crate::domain::{Message, Role, ToolCall};

/// Messages that are kept; older ones are forgotten with the conversation's beginning.
const ITEMS_MAX: usize = 512;

/// A message of the conversation.
pub(super) struct Item {
    pub(super) id: String,
    pub(super) message: Message,
    /// What was told of it while it was spoken.
    pub(super) told: String,
    /// How long its sound is.
    pub(super) seconds: f64,
}

impl Item {
    pub(super) fn new(id: String, message: Message) -> Item {
        Item {
            id,
            message,
            told: String::new(),
            seconds: 0.0,
        }
    }
}

/// A response that is being made.
pub(super) struct Running {
    pub(super) id: String,
    _task: Task,
    said: Arc<std::sync::Mutex<String>>,
    item: String,
}

impl Live {
    /// Answers what was said once nobody speaks and everything is written down: a pause inside a sentence is no end of it.
    pub(super) async fn settle(&mut self) {
        if !self.owed || self.next.is_some() || self.hearing > 0 {
            return;
        }
        if self.running.is_some() && self.settings.interrupts {
            self.cancel("turn_detected").await;
        }
        if self.running.is_none() {
            self.respond(&Value::Null, None).await;
        }
    }

    pub(super) async fn create(&mut self, event: &Value) {
        let item = &event["item"];
        let name = item["id"]
            .as_str()
            .map_or_else(|| id("item"), str::to_owned);
        let message = match message(item) {
            Ok(message) => message,
            Err(why) => return self.out.refuse("invalid_value", &why, Some(event)).await,
        };
        let mut view = item.clone();
        view["id"] = name.clone().into();
        view["object"] = "realtime.item".into();
        view["status"] = "completed".into();
        let previous = self.items.last().map(|item| item.id.clone());
        self.keep(Item::new(name, message));
        for event in ["conversation.item.added", "conversation.item.done"] {
            let fields = json!({ "previous_item_id": previous, "item": view });
            self.out.send(event, fields).await;
        }
    }

    /// The person has heard only so much of an answer. Where the words stand in the sound is not kept, so the share of
    /// the time is taken for the share of the text.
    pub(super) async fn truncate(&mut self, event: &Value) {
        let name = event["item_id"].as_str().unwrap_or_default().to_owned();
        let fields = json!({ "item_id": name, "content_index": event["content_index"], "audio_end_ms": event["audio_end_ms"] });
        if self.items.iter().any(|item| item.id == name) {
            self.out.send("conversation.item.truncated", fields).await;
        } else {
            let why = format!("there is no item `{name}`");
            self.out.refuse("item_not_found", &why, Some(event)).await;
        }
    }

    pub(super) fn keep(&mut self, item: Item) {
        self.items.push(item);
        if self.items.len() > ITEMS_MAX {
            self.items.remove(0);
        }
    }

    pub(super) async fn respond(&mut self, wishes: &Value, event: Option<&Value>) {
        if self.settings.transcript_only {
            let why = "this session writes down and does not answer";
            return self.out.refuse("invalid_event", why, event).await;
        }
        if self.running.is_some() {
            let why = "a response is being made; cancel it first";
            return self
                .out
                .refuse("conversation_already_has_active_response", why, event)
                .await;
        }
        let mut settings = self.settings.clone();
        if !wishes.is_null()
            && let Err(why) = settings.update(wishes)
        {
            return self.out.refuse("invalid_value", &why, event).await;
        }
        self.owed = false;
        let mut messages = Vec::with_capacity(self.items.len() + 1);
        if !settings.instructions.is_empty() {
            messages.push(Message::new(Role::System, settings.instructions.clone()));
        }
        let said = self.items.iter().map(|item| item.message.clone());
        messages.extend(
            said.filter(|message| !message.content.is_empty() || !message.calls.is_empty()),
        );
        let asked = Asked {
            response: id("resp"),
            item: id("item"),
            shelf: cited::shelf(&self.peer, settings.collections.clone()),
            settings,
            messages,
            said: Arc::default(),
        };
        self.running = Some(Running {
            id: asked.response.clone(),
            item: asked.item.clone(),
            said: asked.said.clone(),
            _task: Task(tokio::spawn(respond(
                self.app.clone(),
                asked,
                self.out.clone(),
                self.inner.clone(),
            ))),
        });
    }

    /// Stops what is being said; what was said stays in the conversation.
    pub(super) async fn cancel(&mut self, reason: &str) {
        let Some(running) = self.running.take() else {
            return;
        };
        let text = running
            .said
            .lock()
            .map(|said| said.clone())
            .unwrap_or_default();
        let response = json!({
            "id": running.id, "object": "realtime.response", "status": "cancelled",
            "status_details": { "type": "cancelled", "reason": reason },
            "output": [{ "id": running.item, "object": "realtime.item", "type": "message", "role": "assistant",
                "status": "incomplete", "content": [{ "type": "output_audio", "transcript": text }] }],
        });
        self.out
            .send("response.done", json!({ "response": response }))
            .await;
        if !text.is_empty() {
            self.keep(Item::new(running.item, Message::new(Role::Assistant, text)));
        }
    }
}

/// A message that the client puts into the conversation.
fn message(item: &Value) -> Result<Message, String> {
    let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
    match item["type"].as_str().unwrap_or("message") {
        "message" => {
            let role = item["role"].as_str().and_then(Role::parse);
            let role = role.ok_or("`item.role` must be system, user or assistant")?;
            let mut content = String::new();
            for part in item["content"].as_array().into_iter().flatten() {
                let said = part["text"]
                    .as_str()
                    .or_else(|| part["transcript"].as_str());
                content.push_str(said.ok_or(
                    "`item.content` can hold text; sound comes through input_audio_buffer.append",
                )?);
            }
            Ok(Message::new(role, content))
        }
        "function_call" => {
            let mut message = Message::new(Role::Assistant, "");
            message.calls.push(ToolCall {
                id: text("call_id"),
                name: text("name"),
                arguments: text("arguments"),
            });
            Ok(message)
        }
        "function_call_output" => {
            let mut message = Message::new(Role::Tool, text("output"));
            message.answers = Some(text("call_id"));
            Ok(message)
        }
        other => Err(format!(
            "`item.type` is `{other}`; it can be message, function_call or function_call_output"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_messages() {
        let user = json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "Hi" }] });
        assert_eq!(message(&user).unwrap(), Message::new(Role::User, "Hi"));
        let result = json!({ "type": "function_call_output", "call_id": "c", "output": "7" });
        assert_eq!(message(&result).unwrap().answers.as_deref(), Some("c"));
        for bad in [
            json!({ "type": "message", "role": "nobody" }),
            json!({ "type": "picture" }),
            json!({ "type": "message", "role": "user", "content": [{ "type": "input_audio", "audio": "AA==" }] }),
        ] {
            assert!(message(&bad).is_err(), "{bad}");
        }
    }
}
