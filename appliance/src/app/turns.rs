//! Turns: answers that belong to the appliance and not to the connection that asked for them.
//!
//! A turn writes its answer into the store and its events into a log. Any number of readers follow the
//! log, from the beginning or from where they left; closing a reader stops nothing. A turn ends when the
//! model does, or when it is stopped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;

use super::{Answer, App, AppError, Log};
use crate::domain::{
    ChatEvent, ChatRequest, FinishReason, Input, Limits, Message, Overflow, PersonId, Role,
    Sampling, Shelf, Stats,
};
use crate::store::{ChatChange, NewMessage, StoredMessage, new_id};

/// Turns that run at a time; each holds a place in some model's queue.
const RUNNING_MAX: usize = 256;

/// How long the events of a finished turn can still be read: a phone that was locked comes back.
const KEPT: Duration = Duration::from_secs(300);

/// How often a growing answer is written to the store; a kill loses at most this much of it.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// The title of a chat that nobody has named, until its first question names it.
pub const UNTITLED: &str = "New chat";

/// What clients of other pages call such a chat.
const UNTITLED_ELSEWHERE: [&str; 2] = ["New Chat", "New Task"];

/// Characters of the first question that become the title.
const TITLE_CHARS: usize = 60;

/// What a person asks of a chat.
#[derive(Debug, Clone)]
pub struct TurnRequest {
    /// The chat.
    pub chat: String,
    /// The message that the question follows, or, without a question, the message to answer again.
    pub parent_id: Option<String>,
    /// The question.
    pub content: Option<String>,
    /// Pictures that are shown with it, at `data:` addresses.
    pub pictures: Vec<String>,
    /// The model; empty for the default one.
    pub model: String,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Where to end.
    pub limits: Limits,
    /// Instructions that frame the conversation, where it brings none of its own; `None` takes the chat's.
    pub system: Option<String>,
    /// Collections or documents to answer from; `None` takes the chat's.
    pub shelves: Option<Vec<String>>,
    /// What becomes of a chat that is too long.
    pub overflow: Overflow,
}

/// A turn that runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningTurn {
    /// The turn.
    pub id: String,
    /// The chat that it writes in.
    pub chat: String,
    /// The row that it writes.
    pub assistant_id: String,
}

/// One event of a turn.
#[derive(Debug, Clone)]
pub enum TurnEvent {
    /// The rows have been written; the answer begins.
    Started {
        /// The question, when this turn added one.
        user: Option<Box<StoredMessage>>,
        /// The answer's row, still empty.
        assistant: Box<StoredMessage>,
    },
    /// From the engine.
    Chat(ChatEvent),
    /// The end: the answer as it is stored.
    Stored(StoredMessage),
    /// The end: the answer failed; what there was of it is stored.
    Failed {
        /// The reason, for people.
        error: Arc<AppError>,
    },
}

/// A handle on a turn's events; clones share it.
#[derive(Clone)]
pub struct Turn {
    /// The turn's name.
    pub id: String,
    shared: Arc<Shared>,
}

struct Shared {
    log: Log<TurnEvent>,
    stop: watch::Sender<bool>,
    person: PersonId,
    model: String,
}

/// All turns that run or ended lately.
#[derive(Default)]
pub(super) struct Turns {
    by_id: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    turn: Turn,
    chat: String,
    assistant_id: String,
    ended: Option<Instant>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses when too many run; forgets those that ended long ago.
    fn make_room(&self) -> Result<(), AppError> {
        let mut by_id = self.lock();
        by_id.retain(|_, entry| entry.ended.is_none_or(|at| at.elapsed() < KEPT));
        match by_id.values().filter(|entry| entry.ended.is_none()).count() {
            running if running >= RUNNING_MAX => Err(AppError::TooManyTurns(running)),
            _ => Ok(()),
        }
    }

    fn add(&self, turn: &Turn, chat: &str, assistant_id: &str) {
        let entry = Entry {
            turn: turn.clone(),
            chat: chat.to_owned(),
            assistant_id: assistant_id.to_owned(),
            ended: None,
        };
        self.lock().insert(turn.id.clone(), entry);
    }

    fn end(&self, id: &str) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.ended = Some(Instant::now());
        }
    }

    fn get(&self, id: &str) -> Option<Turn> {
        self.lock().get(id).map(|entry| entry.turn.clone())
    }

    fn running(&self, person: &PersonId) -> Vec<RunningTurn> {
        let mine = |entry: &&Entry| entry.ended.is_none() && entry.turn.shared.person == *person;
        let view = |entry: &Entry| RunningTurn {
            id: entry.turn.id.clone(),
            chat: entry.chat.clone(),
            assistant_id: entry.assistant_id.clone(),
        };
        self.lock().values().filter(mine).map(view).collect()
    }
}

impl Turn {
    /// The model that answers.
    pub fn model(&self) -> &str {
        &self.shared.model
    }

    /// Follows the events from number `from` on (0 is the first), each with its number.
    pub fn events(&self, from: usize) -> impl Stream<Item = (usize, TurnEvent)> + Send + use<> {
        self.shared.log.from(from)
    }

    fn push(&self, event: TurnEvent) {
        self.shared.log.push(event);
    }
}

impl App {
    /// Asks a question in a chat, or asks for another answer to one.
    ///
    /// # Errors
    /// The chat or message does not exist, or whatever [`App::chat`] refuses.
    pub async fn turn(&self, person: &PersonId, request: TurnRequest) -> Result<Turn, AppError> {
        self.inner.turns.make_room()?;
        let store = &self.inner.store;
        let path = match &request.parent_id {
            Some(parent) => store.chats().path(person, &request.chat, parent).await?,
            None => Vec::new(),
        };
        let mut messages = Vec::with_capacity(path.len() + 1);
        let told = |said: &&StoredMessage| !said.content.is_empty() || said.pictures > 0;
        for said in path.iter().filter(told) {
            let mut message = Message::new(said.role, said.content.as_str());
            if said.pictures > 0 {
                message.pictures = store.pictures().of(&said.id).await?;
            }
            messages.push(message);
        }
        match &request.content {
            Some(content) => messages.push(Message {
                pictures: request.pictures.clone(),
                ..Message::new(Role::User, content.as_str())
            }),
            None if messages.last().is_some_and(|last| last.role == Role::User) => {}
            None => return Err(AppError::NothingToAnswer),
        }
        let system = match request.system {
            Some(system) => Some(system),
            None => store.chats().instructions(person, &request.chat).await?,
        };
        if let Some(system) = system.filter(|text| !text.trim().is_empty())
            && messages
                .first()
                .is_none_or(|first| first.role != Role::System)
        {
            messages.insert(0, Message::new(Role::System, system));
        }
        if messages.iter().any(|message| !message.pictures.is_empty())
            && !self.sees(&request.model).await?
        {
            return Err(AppError::Blind(self.model(&request.model).await?.id));
        }
        // Refused before anything is written, so that a full queue leaves no half turn behind.
        let only = match request.shelves {
            Some(shelves) => shelves,
            None => store.collections().of_chat(&request.chat).await?,
        };
        let shelf = (!only.is_empty()).then(|| Shelf {
            person: person.clone(),
            only,
        });
        let answer = self
            .chat(ChatRequest {
                sampling: request.sampling,
                limits: request.limits,
                shelf,
                overflow: request.overflow,
                ..ChatRequest::new(request.model, Input::Messages(messages))
            })
            .await?;
        let (user, assistant) = self
            .rows(
                person,
                &request.chat,
                request.parent_id,
                request.content.map(|content| (content, request.pictures)),
                &answer.model.id,
            )
            .await?;
        let (stop, stopped) = watch::channel(false);
        let shared = Shared {
            log: Log::new(),
            stop,
            person: person.clone(),
            model: answer.model.id.clone(),
        };
        let turn = Turn {
            id: new_id()?.to_string(),
            shared: Arc::new(shared),
        };
        self.inner.turns.add(&turn, &request.chat, &assistant.id);
        turn.push(TurnEvent::Started {
            user: user.map(Box::new),
            assistant: Box::new(assistant.clone()),
        });
        tokio::spawn(self.clone().write(turn.clone(), answer, assistant, stopped));
        Ok(turn)
    }

    /// Finds a turn that runs or ended lately.
    ///
    /// # Errors
    /// [`AppError::TurnNotFound`], also when it is somebody else's.
    pub fn find_turn(&self, person: &PersonId, id: &str) -> Result<Turn, AppError> {
        let turn = self
            .inner
            .turns
            .get(id)
            .filter(|turn| turn.shared.person == *person);
        turn.ok_or_else(|| AppError::TurnNotFound(id.to_owned()))
    }

    /// Lists a person's turns that run now.
    pub fn running_turns(&self, person: &PersonId) -> Vec<RunningTurn> {
        self.inner.turns.running(person)
    }

    /// Stops a turn; its answer stays as far as it came. Stopping one that has ended does nothing.
    ///
    /// # Errors
    /// [`AppError::TurnNotFound`].
    pub fn stop_turn(&self, person: &PersonId, id: &str) -> Result<(), AppError> {
        let turn = self.find_turn(person, id)?;
        turn.shared.stop.send_replace(true);
        Ok(())
    }

    /// Stops every turn and waits until what they have is stored; for the end of the process.
    pub async fn close_turns(&self) {
        let turns: Vec<Turn> = self
            .inner
            .turns
            .lock()
            .values()
            .map(|entry| entry.turn.clone())
            .collect();
        for turn in &turns {
            turn.shared.stop.send_replace(true);
        }
        for turn in &turns {
            turn.shared.log.ended().await;
        }
    }

    /// Writes the question and the empty answer, and names the chat after its first question.
    pub(super) async fn rows(
        &self,
        person: &PersonId,
        chat: &str,
        parent_id: Option<String>,
        question: Option<(String, Vec<String>)>,
        model: &str,
    ) -> Result<(Option<StoredMessage>, StoredMessage), AppError> {
        let chats = self.inner.store.chats();
        let answer = NewMessage {
            parent_id: parent_id.clone(),
            role: Role::Assistant,
            content: String::new(),
            model: Some(model.to_owned()),
            pictures: Vec::new(),
        };
        let mut new = Vec::new();
        let first = parent_id.is_none();
        let asked = question.as_ref().filter(|_| first);
        let title = asked.map(|(content, _)| title(content));
        if let Some((content, pictures)) = question {
            new.push(NewMessage {
                parent_id,
                role: Role::User,
                content,
                model: None,
                pictures,
            });
        }
        new.push(answer);
        let mut rows = chats.add(person, chat, new).await?;
        if let Some(title) = title
            && is_untitled(&chats.session(person, chat).await?.chat.title)
        {
            let change = ChatChange {
                title: Some(title),
                ..ChatChange::default()
            };
            chats.change(person, chat, change).await?;
        }
        // `add` returns what it was given: the answer is the last of one or two rows.
        let assistant = rows.pop().ok_or(AppError::NothingToAnswer)?;
        Ok((rows.pop(), assistant))
    }

    /// Follows the engine to the end of the answer.
    async fn write(
        self,
        turn: Turn,
        mut answer: Answer,
        mut row: StoredMessage,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut meter = Meter::new();
        let mut saved = Instant::now();
        let mut failure = None;
        let finish = loop {
            let event = tokio::select! {
                event = answer.next() => event,
                _ = stopped.wait_for(|stop| *stop) => break None,
            };
            match event {
                Some(Ok(ChatEvent::Finished(finish))) => {
                    turn.push(TurnEvent::Chat(ChatEvent::Finished(finish)));
                    break Some(finish);
                }
                Some(Ok(event)) => {
                    meter.take(&event);
                    match &event {
                        ChatEvent::Piece(piece) => row.content.push_str(&piece.text),
                        ChatEvent::Reasoning(text) => {
                            row.reasoning.get_or_insert_default().push_str(text);
                        }
                        ChatEvent::Sources(sources) => {
                            row.citations.clone_from(sources);
                            self.save_citations(&row).await;
                        }
                        _ => {}
                    }
                    turn.push(TurnEvent::Chat(event));
                }
                Some(Err(error)) => {
                    failure = Some(error);
                    break None;
                }
                None => break None,
            }
            if saved.elapsed() > SAVE_EVERY {
                saved = Instant::now();
                self.save(&row).await;
            }
        };
        drop(answer); // gives the engine its place back before the disk is waited for
        let reason = match (&finish, &failure) {
            (Some(finish), _) => finish.reason,
            (None, Some(_)) => FinishReason::Error,
            (None, None) => FinishReason::Cancelled,
        };
        row.finish_reason = Some(reason.as_str().to_owned());
        row.stats = Some(Stats {
            thought_ms: meter.thought_ms(),
            ..finish.as_ref().map_or_else(|| meter.stats(), Stats::from)
        });
        self.save(&row).await;
        turn.push(match failure {
            Some(error) => TurnEvent::Failed {
                error: Arc::new(error),
            },
            None => TurnEvent::Stored(row),
        });
        turn.shared.log.end();
        self.inner.turns.end(&turn.id);
    }

    async fn save_citations(&self, row: &StoredMessage) {
        let chats = self.inner.store.chats();
        if let Err(error) = chats.write_citations(&row.id, &row.citations).await {
            tracing::error!(%error, message = row.id, "an answer's citations were not written");
        }
    }

    async fn save(&self, row: &StoredMessage) {
        let written = self
            .inner
            .store
            .chats()
            .write_answer(
                &row.id,
                &row.content,
                row.reasoning.as_deref(),
                row.finish_reason.as_deref(),
                row.stats.as_ref(),
            )
            .await;
        if let Err(error) = written {
            tracing::error!(%error, message = row.id, "answer not written");
        }
    }
}

/// Measures an answer from outside, for one that is stopped before its engine tells what it cost.
struct Meter {
    started: Instant,
    prompt_tokens: usize,
    tokens: usize,
    first: Option<Instant>,
    last: Instant,
    /// The first thought.
    thinks: Option<Instant>,
    /// The first word after it.
    speaks: Option<Instant>,
}

impl Meter {
    fn new() -> Meter {
        let now = Instant::now();
        Meter {
            started: now,
            prompt_tokens: 0,
            tokens: 0,
            first: None,
            last: now,
            thinks: None,
            speaks: None,
        }
    }

    fn take(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Queued { prompt_tokens } => {
                self.prompt_tokens = prompt_tokens.unwrap_or_default();
            }
            ChatEvent::Piece(piece) => {
                self.last = Instant::now();
                self.first.get_or_insert(self.last);
                self.speaks.get_or_insert(self.last);
                self.tokens += piece.tokens;
            }
            ChatEvent::Reasoning(_) => {
                self.last = Instant::now();
                self.first.get_or_insert(self.last);
                self.thinks.get_or_insert(self.last);
            }
            ChatEvent::CallBegins { .. } | ChatEvent::CallArguments { .. } => {
                self.last = Instant::now();
                self.first.get_or_insert(self.last);
            }
            ChatEvent::Waits { .. }
            | ChatEvent::LeftOut { .. }
            | ChatEvent::Sources(_)
            | ChatEvent::Finished(_) => {}
        }
    }

    /// How long it thought before it spoke.
    fn thought_ms(&self) -> Option<f64> {
        let (thinks, speaks) = (self.thinks?, self.speaks?);
        Some(speaks.saturating_duration_since(thinks).as_secs_f64() * 1e3)
    }

    fn stats(&self) -> Stats {
        let first = self.first.unwrap_or(self.last);
        let writing = (self.last - first).as_secs_f64();
        let measurable = self.tokens > 1 && writing > 0.0;
        Stats {
            joules: None,
            thought_ms: None,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: None,
            completion_tokens: self.tokens,
            ttft_ms: (first - self.started).as_secs_f64() * 1e3,
            prefill_tps: None,
            decode_tps: measurable.then(|| (self.tokens - 1) as f64 / writing),
        }
    }
}

fn is_untitled(title: &str) -> bool {
    title == UNTITLED || UNTITLED_ELSEWHERE.contains(&title)
}

/// The start of a question, cut between words where that is near.
fn title(question: &str) -> String {
    let line = question.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= TITLE_CHARS {
        return if line.is_empty() {
            UNTITLED.to_owned()
        } else {
            line
        };
    }
    let cut: String = line.chars().take(TITLE_CHARS).collect();
    let end = cut
        .rfind(' ')
        .filter(|&at| at > cut.len() / 2)
        .unwrap_or(cut.len());
    format!("{}…", &cut[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_short_single_lines() {
        assert_eq!(
            title("  What is\n a ternary model? "),
            "What is a ternary model?"
        );
        let long = title(&"wörter ".repeat(40));
        assert!(
            long.chars().count() <= TITLE_CHARS + 1 && long.ends_with("wörter…"),
            "{long}"
        );
        assert_eq!(
            title(&"x".repeat(100)),
            format!("{}…", "x".repeat(TITLE_CHARS))
        );
        assert_eq!(title(" "), UNTITLED);
    }
}
