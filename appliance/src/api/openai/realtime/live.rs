//! One session: what comes in, who speaks, and what follows from it.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::events::{Out, id};
use super::respond::{Asked, Said, respond};
use super::session::Settings;
use crate::api::base64;
use crate::app::{App, AppError, Ear, HEARING_HZ, Resampler, UtteranceEvent, Utterances};
use crate::domain::{Message, Role, ToolCall, Transcript};

/// Longest turn without detection: what is appended beyond it is refused.
const BUFFER_S_MAX: usize = 600;
/// Messages that are kept; older ones are forgotten with the conversation's beginning.
const ITEMS_MAX: usize = 512;

/// What happens inside.
pub(super) enum Inner {
    /// A turn was written down.
    Heard {
        item: String,
        heard: Result<Transcript, AppError>,
        begun: Instant,
    },
    /// A response has ended by itself.
    Said(Box<Said>),
}

struct Item {
    id: String,
    message: Message,
}

struct Running {
    id: String,
    task: JoinHandle<()>,
    said: Arc<std::sync::Mutex<String>>,
    item: String,
}

/// A session.
pub(super) struct Live {
    app: App,
    id: String,
    settings: Settings,
    out: Out,
    inner: mpsc::Sender<Inner>,
    resampler: Option<Resampler>,
    turns: Option<Utterances>,
    /// Sound that waits for a commit, where nothing finds turns.
    buffer: Vec<f32>,
    /// The item that the present turn will be.
    next: Option<String>,
    items: Vec<Item>,
    ear: Option<Arc<Ear>>,
    /// Turns that are being written down.
    hearing: usize,
    /// Whether something was said that no response has answered yet.
    owed: bool,
    running: Option<Running>,
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.task.abort();
        }
    }
}

impl Live {
    pub(super) fn new(
        app: App,
        settings: Settings,
        beta: bool,
        out: mpsc::Sender<Value>,
        inner: mpsc::Sender<Inner>,
    ) -> Live {
        Live {
            app,
            id: id("sess"),
            turns: settings.turns.map(Utterances::new),
            settings,
            out: Out::new(out, beta),
            inner,
            resampler: None,
            buffer: Vec::new(),
            next: None,
            items: Vec::new(),
            ear: None,
            hearing: 0,
            owed: false,
            running: None,
        }
    }

    /// Tells what the session is set to. A model that is missing is told at once, not at the first word.
    pub(super) async fn begin(&mut self) {
        let session = self.settings.view(&self.id);
        self.out
            .send("session.created", json!({ "session": session }))
            .await;
        if let Err(error) = self.app.ear_exists(&self.settings.listener).await {
            self.out
                .refuse("no_speech_model", &error.to_string(), None)
                .await;
        }
    }

    /// An event of the client's.
    pub(super) async fn event(&mut self, text: &str) {
        let event: Value = match serde_json::from_str(text) {
            Ok(event) => event,
            Err(error) => {
                let why = format!("the message cannot be read: {error}");
                return self.out.refuse("invalid_json", &why, None).await;
            }
        };
        match event["type"].as_str().unwrap_or_default() {
            "session.update" | "transcription_session.update" => self.update(&event).await,
            "input_audio_buffer.append" => self.append(&event).await,
            "input_audio_buffer.commit" => self.commit(&event).await,
            "input_audio_buffer.clear" => {
                self.buffer.clear();
                self.next = None;
                self.turns = self.settings.turns.map(Utterances::new);
                self.out.send("input_audio_buffer.cleared", json!({})).await;
            }
            "conversation.item.create" => self.create(&event).await,
            "conversation.item.delete" => {
                let gone = event["item_id"].as_str().unwrap_or_default();
                self.items.retain(|item| item.id != gone);
                self.out
                    .send("conversation.item.deleted", json!({ "item_id": gone }))
                    .await;
            }
            "conversation.item.truncate" => self.truncate(&event).await,
            "response.create" => self.respond(&event["response"], Some(&event)).await,
            "response.cancel" => {
                if self.running.is_some() {
                    self.cancel("client_cancelled").await;
                } else {
                    self.out
                        .refuse(
                            "response_cancel_not_active",
                            "there is no response to cancel",
                            Some(&event),
                        )
                        .await;
                }
            }
            "output_audio_buffer.clear" => self.cancel("client_cancelled").await,
            other => {
                let why = format!("there is no event `{other}`");
                self.out.refuse("invalid_event", &why, Some(&event)).await;
            }
        }
    }

    async fn update(&mut self, event: &Value) {
        let before = self.settings.clone();
        if let Err(why) = self.settings.update(&event["session"]) {
            return self.out.refuse("invalid_value", &why, Some(event)).await;
        }
        if before.turns != self.settings.turns {
            self.next = None;
            self.turns = self.settings.turns.map(Utterances::new);
        }
        if before.rate_hz != self.settings.rate_hz {
            self.resampler = None;
        }
        if before.listener != self.settings.listener {
            self.ear = None;
        }
        let session = self.settings.view(&self.id);
        self.out
            .send("session.updated", json!({ "session": session }))
            .await;
    }

    async fn append(&mut self, event: &Value) {
        let bytes = event["audio"].as_str().and_then(base64::decode);
        let Some(bytes) = bytes else {
            return self
                .out
                .refuse("invalid_value", "`audio` must be base64", Some(event))
                .await;
        };
        let (pairs, _) = bytes.as_chunks::<2>();
        let samples: Vec<f32> = pairs
            .iter()
            .map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32768.0)
            .collect();
        if self.resampler.is_none() {
            match Resampler::new(self.settings.rate_hz, HEARING_HZ) {
                Ok(resampler) => self.resampler = Some(resampler),
                Err(error) => {
                    return self
                        .out
                        .refuse("invalid_value", &error.to_string(), Some(event))
                        .await;
                }
            }
        }
        let mut heard = Vec::new();
        if let Some(resampler) = &mut self.resampler
            && let Err(error) = resampler.push(&samples, &mut heard)
        {
            return self.out.fail(&error.to_string()).await;
        }
        let Some(turns) = &mut self.turns else {
            if self.buffer.len() + heard.len() > BUFFER_S_MAX * HEARING_HZ as usize {
                let why = "ten minutes wait to be committed already; commit or clear them";
                return self
                    .out
                    .refuse("input_audio_buffer_full", why, Some(event))
                    .await;
            }
            self.buffer.extend(heard);
            return;
        };
        for happened in turns.hear(&heard) {
            match happened {
                UtteranceEvent::Started { at_ms } => {
                    let item = id("item");
                    self.next = Some(item.clone());
                    let fields = json!({ "audio_start_ms": at_ms, "item_id": item });
                    self.out
                        .send("input_audio_buffer.speech_started", fields)
                        .await;
                    if self.settings.interrupts {
                        self.cancel("turn_detected").await;
                    }
                }
                UtteranceEvent::Stopped { at_ms, samples } => {
                    let item = self.next.take().unwrap_or_else(|| id("item"));
                    let fields = json!({ "audio_end_ms": at_ms, "item_id": item });
                    self.out
                        .send("input_audio_buffer.speech_stopped", fields)
                        .await;
                    self.hear(item, samples).await;
                }
            }
        }
    }

    async fn commit(&mut self, event: &Value) {
        let mut samples = std::mem::take(&mut self.buffer);
        if let Some(turns) = &mut self.turns {
            samples = turns.take();
        }
        if samples.len() < HEARING_HZ as usize / 10 {
            let why =
                "the buffer holds less than 100 ms of sound; append more before it is committed";
            return self
                .out
                .refuse("input_audio_buffer_commit_empty", why, Some(event))
                .await;
        }
        let item = self.next.take().unwrap_or_else(|| id("item"));
        self.hear(item, samples).await;
    }

    /// Takes a turn into the conversation and has it written down.
    async fn hear(&mut self, item: String, samples: Vec<f32>) {
        let previous = self.items.last().map(|item| item.id.clone());
        let fields = json!({ "item_id": item, "previous_item_id": previous });
        self.out.send("input_audio_buffer.committed", fields).await;
        let content = json!([{ "type": "input_audio", "transcript": null }]);
        let view = json!({ "id": item, "object": "realtime.item", "type": "message", "role": "user",
            "status": "completed", "content": content });
        let fields = json!({ "previous_item_id": previous, "item": view });
        self.out.send("conversation.item.added", fields).await;
        self.keep(Item {
            id: item.clone(),
            message: Message::new(Role::User, ""),
        });
        let (app, known, inner) = (self.app.clone(), self.ear.clone(), self.inner.clone());
        let Settings {
            listener,
            language,
            prompt,
            ..
        } = self.settings.clone();
        let begun = Instant::now();
        self.hearing += 1;
        if known.is_none() {
            // Loaded once; what it says while that fails is told with the turn.
            self.ear = app.ear(&listener).await.ok().map(Arc::new);
        }
        let ear = self.ear.clone();
        tokio::spawn(async move {
            let heard = match ear {
                Some(ear) => ear.hear(samples, language, prompt).await,
                None => match app.ear(&listener).await {
                    Ok(ear) => ear.hear(samples, language, prompt).await,
                    Err(error) => Err(error),
                },
            };
            // The session may have ended.
            let _ = inner.send(Inner::Heard { item, heard, begun }).await;
        });
    }

    pub(super) async fn happened(&mut self, event: Inner) {
        match event {
            Inner::Heard { item, heard, begun } => self.heard(item, heard, begun).await,
            Inner::Said(said) => {
                if self
                    .running
                    .as_ref()
                    .is_some_and(|running| running.id == said.response)
                {
                    self.running = None;
                }
                let mut message = Message::new(Role::Assistant, said.text);
                message.calls = said.calls;
                self.keep(Item {
                    id: said.item,
                    message,
                });
                self.settle().await;
            }
        }
    }

    async fn heard(&mut self, item: String, heard: Result<Transcript, AppError>, begun: Instant) {
        tracing::debug!(
            ms = begun.elapsed().as_millis() as u64,
            "a turn was written down"
        );
        self.hearing -= 1;
        match heard {
            Ok(transcript) => {
                let text = transcript.text();
                if let Some(kept) = self.items.iter_mut().find(|kept| kept.id == item) {
                    kept.message.content.clone_from(&text);
                }
                let delta = json!({ "item_id": item, "content_index": 0, "delta": text });
                self.out
                    .send("conversation.item.input_audio_transcription.delta", delta)
                    .await;
                let whole = json!({ "item_id": item, "content_index": 0, "transcript": text });
                self.out
                    .send(
                        "conversation.item.input_audio_transcription.completed",
                        whole,
                    )
                    .await;
                let answers = self.settings.turns.is_some() && self.settings.answers_turns;
                self.owed |= answers && !self.settings.transcript_only && !text.is_empty();
            }
            Err(error) => {
                self.items.retain(|kept| kept.id != item);
                let error = json!({ "type": "transcription_error", "code": null, "message": error.to_string(), "param": null });
                let fields = json!({ "item_id": item, "content_index": 0, "error": error });
                self.out
                    .send("conversation.item.input_audio_transcription.failed", fields)
                    .await;
            }
        }
        self.settle().await;
    }

    /// Answers what was said once nobody speaks and everything is written down: a pause inside a sentence is no end of it.
    async fn settle(&mut self) {
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

    async fn create(&mut self, event: &Value) {
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
        self.keep(Item { id: name, message });
        for event in ["conversation.item.added", "conversation.item.done"] {
            let fields = json!({ "previous_item_id": previous, "item": view });
            self.out.send(event, fields).await;
        }
    }

    /// The person has heard only so much of an answer. Where the words stand in the sound is not kept, so the share of
    /// the time is taken for the share of the text.
    async fn truncate(&mut self, event: &Value) {
        let name = event["item_id"].as_str().unwrap_or_default().to_owned();
        let fields = json!({ "item_id": name, "content_index": event["content_index"], "audio_end_ms": event["audio_end_ms"] });
        if self.items.iter().any(|item| item.id == name) {
            self.out.send("conversation.item.truncated", fields).await;
        } else {
            let why = format!("there is no item `{name}`");
            self.out.refuse("item_not_found", &why, Some(event)).await;
        }
    }

    fn keep(&mut self, item: Item) {
        self.items.push(item);
        if self.items.len() > ITEMS_MAX {
            self.items.remove(0);
        }
    }

    async fn respond(&mut self, wishes: &Value, event: Option<&Value>) {
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
            settings,
            messages,
            said: Arc::default(),
        };
        self.running = Some(Running {
            id: asked.response.clone(),
            item: asked.item.clone(),
            said: asked.said.clone(),
            task: tokio::spawn(respond(
                self.app.clone(),
                asked,
                self.out.clone(),
                self.inner.clone(),
            )),
        });
    }

    /// Stops what is being said; what was said stays in the conversation.
    async fn cancel(&mut self, reason: &str) {
        let Some(running) = self.running.take() else {
            return;
        };
        running.task.abort();
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
            self.keep(Item {
                id: running.item,
                message: Message::new(Role::Assistant, text),
            });
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
