//! One session: what comes in, who speaks, and what follows from it.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::drafts::{Drafts, End};
use super::events::{Out, id};
use super::respond::Said;
use super::session::Settings;
use super::talk::{Item, Running};
use crate::api::base64;
use crate::app::{App, AppError, Ear, HEARING_HZ, Mouth, Resampler, UtteranceEvent, Utterances};
use crate::domain::{Message, Peer, Role, Transcript};

/// Longest turn without detection: what is appended beyond it is refused.
const BUFFER_S_MAX: usize = 600;

/// What happens inside.
pub(super) enum Inner {
    /// A turn was written down.
    Heard {
        item: String,
        heard: Result<Transcript, AppError>,
        begun: Instant,
    },
    /// So was what there is of one that may go on.
    Drafted {
        item: String,
        number: u64,
        heard: Result<Transcript, AppError>,
        begun: Instant,
    },
    /// The models of a conversation are loaded.
    Ready {
        listener: String,
        ear: Option<Ear>,
        mouth: Option<Box<Mouth>>,
    },
    /// A response has ended by itself.
    Said(Box<Said>),
}

/// Stops when it is dropped.
pub(super) struct Task(pub(super) JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A session.
pub(super) struct Live {
    pub(super) app: App,
    /// Who is there; documents are theirs.
    pub(super) peer: Peer,
    id: String,
    pub(super) settings: Settings,
    pub(super) out: Out,
    pub(super) inner: mpsc::Sender<Inner>,
    resampler: Option<Resampler>,
    turns: Option<Utterances>,
    /// Sound that waits for a commit, where nothing finds turns.
    buffer: Vec<f32>,
    /// The item that the present turn will be.
    pub(super) next: Option<String>,
    pub(super) items: Vec<Item>,
    ear: Option<Arc<Ear>>,
    /// Only kept, so that the first answer does not wait for it to be loaded.
    _mouth: Option<Mouth>,
    warming: bool,
    drafts: Drafts,
    drafting: Option<Task>,
    /// What was told of the present turn.
    told: String,
    /// Turns that have ended and whose last draft is their text: its number, and who makes it.
    coming: Vec<(String, u64, Task)>,
    /// Turns that are being written down.
    pub(super) hearing: usize,
    /// Whether something was said that no response has answered yet.
    pub(super) owed: bool,
    pub(super) running: Option<Running>,
}

impl Live {
    pub(super) fn new(
        app: App,
        peer: Peer,
        settings: Settings,
        beta: bool,
        out: mpsc::Sender<Value>,
        inner: mpsc::Sender<Inner>,
    ) -> Live {
        Live {
            app,
            peer,
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
            _mouth: None,
            warming: false,
            drafts: Drafts::default(),
            drafting: None,
            told: String::new(),
            coming: Vec::new(),
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
                self.restart();
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
            self.restart();
        }
        if before.rate_hz != self.settings.rate_hz {
            self.resampler = None;
        }
        if before.listener != self.settings.listener {
            self.ear = None;
            self.warming = false;
        }
        let session = self.settings.view(&self.id);
        self.out
            .send("session.updated", json!({ "session": session }))
            .await;
    }

    /// Forgets the present turn.
    fn restart(&mut self) {
        self.next = None;
        self.turns = self.settings.turns.map(Utterances::new);
        self.drafts = Drafts::default();
        self.drafting = None;
        self.told.clear();
    }

    /// Loads the models while the first words are spoken.
    fn warm(&mut self) {
        if std::mem::replace(&mut self.warming, true) {
            return;
        }
        let (app, inner, settings) = (self.app.clone(), self.inner.clone(), self.settings.clone());
        tokio::spawn(async move {
            // What cannot be loaded is told with the turn that needs it.
            let ear = app.ear(&settings.listener).await.ok();
            let speaks = settings.speaks && !settings.transcript_only;
            let mouth = match speaks {
                true => app
                    .mouth("", settings.voice.as_deref(), settings.speed)
                    .await
                    .ok(),
                false => None,
            };
            // The session may have ended.
            let _ = inner
                .send(Inner::Ready {
                    listener: settings.listener,
                    ear,
                    mouth: mouth.map(Box::new),
                })
                .await;
        });
    }

    async fn append(&mut self, event: &Value) {
        self.warm();
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
                    self.restarted(&item);
                    let fields = json!({ "audio_start_ms": at_ms, "item_id": item });
                    self.out
                        .send("input_audio_buffer.speech_started", fields)
                        .await;
                    if self.settings.interrupts {
                        self.cancel("turn_detected").await;
                    }
                }
                UtteranceEvent::Stopped {
                    at_ms,
                    samples,
                    voiced,
                } => {
                    let item = self.next.take().unwrap_or_else(|| id("item"));
                    let fields = json!({ "audio_end_ms": at_ms, "item_id": item });
                    self.out
                        .send("input_audio_buffer.speech_stopped", fields)
                        .await;
                    self.ended(item, samples, voiced).await;
                }
            }
        }
        self.look();
    }

    /// Somebody has begun to speak.
    fn restarted(&mut self, item: &str) {
        self.next = Some(item.to_owned());
        self.drafts = Drafts::default();
        self.drafting = None;
        self.told.clear();
    }

    /// Has what there is of the present turn written down, where that is worth it.
    fn look(&mut self) {
        let present = self.turns.as_ref().and_then(Utterances::present);
        let (Some(present), Some(item), Some(ear)) = (present, &self.next, &self.ear) else {
            return;
        };
        let Some(draft) = self.drafts.plan(present.samples.len(), present.voiced) else {
            return;
        };
        let (samples, ear, item) = (present.samples.to_vec(), ear.clone(), item.clone());
        let (language, prompt) = (self.settings.language.clone(), self.settings.prompt.clone());
        let (inner, number, begun) = (self.inner.clone(), draft.number, Instant::now());
        // Whichever was being made is stopped: the engine does one at a time.
        self.drafting = Some(Task(tokio::spawn(async move {
            let heard = ear.hear(samples, language, prompt).await;
            let drafted = Inner::Drafted {
                item,
                number,
                heard,
                begun,
            };
            let _ = inner.send(drafted).await;
        })));
    }

    async fn drafted(
        &mut self,
        item: String,
        number: u64,
        heard: Result<Transcript, AppError>,
        begun: Instant,
    ) {
        let owed = |(of, which, _): &(String, u64, Task)| *of == item && *which == number;
        if let Some(at) = self.coming.iter().position(owed) {
            self.coming.swap_remove(at);
            return self.heard(item, heard, begun).await;
        }
        if self.next.as_ref() != Some(&item) {
            return;
        }
        let Ok(heard) = heard else {
            return self.drafts.failed(number);
        };
        let whole = heard.text();
        let took = begun.elapsed().as_millis() as usize * HEARING_HZ as usize / 1000;
        let fresh = self.drafts.made(number, heard, took);
        let delta = if self.settings.whole_deltas {
            (!whole.is_empty()).then_some(whole)
        } else {
            fresh
        };
        if let Some(delta) = delta {
            self.told.push_str(&delta);
            let fields = json!({ "item_id": item, "content_index": 0, "delta": delta });
            self.out
                .send("conversation.item.input_audio_transcription.delta", fields)
                .await;
        }
        // More may have been said meanwhile.
        self.look();
    }

    /// A turn has ended; its text may be known by now.
    async fn ended(&mut self, item: String, samples: Vec<f32>, voiced: usize) {
        let drafting = self.drafting.take();
        match (std::mem::take(&mut self.drafts).end(voiced), drafting) {
            (End::Known(heard), _) => {
                self.take_in(&item, samples.len()).await;
                self.heard(item, Ok(heard), Instant::now()).await;
            }
            (End::Coming(draft), Some(task)) => {
                self.take_in(&item, samples.len()).await;
                self.coming.push((item, draft.number, task));
            }
            _ => self.hear(item, samples).await,
        }
    }

    async fn commit(&mut self, event: &Value) {
        let mut samples = std::mem::take(&mut self.buffer);
        if let Some(turns) = &mut self.turns {
            samples = turns.take();
        }
        self.drafts = Drafts::default();
        self.drafting = None;
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
        self.take_in(&item, samples.len()).await;
        let (app, ear, inner) = (self.app.clone(), self.ear.clone(), self.inner.clone());
        let Settings {
            listener,
            language,
            prompt,
            ..
        } = self.settings.clone();
        let begun = Instant::now();
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

    /// Takes a turn into the conversation; its words come later.
    async fn take_in(&mut self, item: &str, samples: usize) {
        let previous = self.items.last().map(|item| item.id.clone());
        let fields = json!({ "item_id": item, "previous_item_id": previous });
        self.out.send("input_audio_buffer.committed", fields).await;
        let content = json!([{ "type": "input_audio", "transcript": null }]);
        let view = json!({ "id": item, "object": "realtime.item", "type": "message", "role": "user",
            "status": "completed", "content": content });
        let fields = json!({ "previous_item_id": previous, "item": view });
        self.out.send("conversation.item.added", fields).await;
        let told = std::mem::take(&mut self.told);
        self.keep(Item {
            id: item.to_owned(),
            message: Message::new(Role::User, ""),
            told,
            seconds: samples as f64 / f64::from(HEARING_HZ),
        });
        self.hearing += 1;
    }

    pub(super) async fn happened(&mut self, event: Inner) {
        match event {
            Inner::Heard { item, heard, begun } => self.heard(item, heard, begun).await,
            Inner::Drafted {
                item,
                number,
                heard,
                begun,
            } => self.drafted(item, number, heard, begun).await,
            Inner::Ready {
                listener,
                ear,
                mouth,
            } => {
                if listener == self.settings.listener {
                    self.ear = ear.map(Arc::new);
                }
                self._mouth = mouth.map(|mouth| *mouth);
            }
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
                self.keep(Item::new(said.item, message));
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
                let (mut rest, mut seconds) = (Some(text.as_str()), 0.0);
                if let Some(kept) = self.items.iter_mut().find(|kept| kept.id == item) {
                    kept.message.content.clone_from(&text);
                    seconds = kept.seconds;
                    if !self.settings.whole_deltas {
                        // What was told cannot be taken back; where it was wrong, the whole text says so.
                        rest = text
                            .strip_prefix(&kept.told)
                            .filter(|rest| !rest.is_empty());
                    }
                }
                if let Some(rest) = rest {
                    let delta = json!({ "item_id": item, "content_index": 0, "delta": rest });
                    self.out
                        .send("conversation.item.input_audio_transcription.delta", delta)
                        .await;
                }
                let usage = json!({ "type": "duration", "seconds": seconds });
                let whole = json!({ "item_id": item, "content_index": 0, "transcript": text, "usage": usage });
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
}
