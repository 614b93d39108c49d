//! A session in a child process: keeps it alive, queues for it, asks it, and tries again.
//!
//! Owns what all engines in processes have in common. One task ([`live`]) owns the child and restarts it
//! eagerly; requests wait for it to be up, and one that got no byte yet is simply sent again. Must not
//! know any engine: what differs is in its [`Recipe`].

mod patience;

use std::collections::VecDeque;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::upstream::lists;
use super::upstream::openai::{self, Translator};
use super::upstream::{Endpoint, Upstream, UpstreamError, sse};
use super::{EngineError, Events, Facts, Load, Session};
use crate::domain::{ChatEvent, ChatRequest, Input};
use crate::process::keeper::{Keeper, Next};
use crate::process::log::Ring;
use crate::process::{Child, Exit, Launcher, ProcessError, Spec};
pub use patience::Patience;

/// Times one request is sent: once, and twice more if the engine dies before its first byte.
const TRIES: usize = 3;
/// After a broken connection, how long the exit that explains it may take to be noticed.
const EXIT_NOTICE: Duration = Duration::from_millis(100);
/// For reading what a dead engine had already sent.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Events between the task that reads the engine and the one that writes to the client.
const EVENTS_AHEAD: usize = 64;

/// What sessions in processes live on.
#[derive(Clone)]
pub struct Children {
    pub launcher: Launcher,
    /// A folder that only we can enter, for sockets; short, as socket paths may have 107 bytes.
    pub folder: PathBuf,
    pub patience: Patience,
}

impl Children {
    /// Children of this program, with their sockets in `folder`, which is made and closed to others.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(folder: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        Ok(Self {
            launcher: Launcher::of_this_program(),
            folder,
            patience: Patience::default(),
        })
    }
}

/// Where one incarnation of a child is to listen.
#[derive(Debug, Clone)]
pub struct Seat {
    pub endpoint: Endpoint,
    /// Random, new at every start.
    pub secret: String,
}

/// How an engine wants to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// A private socket, the secret as bearer token.
    Socket,
    /// A random loopback port, the secret as the first part of every path.
    PortWithPath,
    /// A random loopback port and nothing else.
    Port,
}

/// How to start and to treat one kind of child.
pub struct Recipe {
    /// The model's id, for messages.
    pub model: String,
    /// What the engine calls the model.
    pub model_inside: String,
    pub door: Door,
    /// Answers with a success once it can work.
    pub ready_path: &'static str,
    /// Requests sent to it at once.
    pub slots: usize,
    /// Requests that may wait beyond.
    pub queue_max: usize,
    /// Shortest answer the engine survives.
    pub tokens_min: usize,
    pub command: Box<dyn Fn(&Seat) -> Spec + Send + Sync>,
}

/// The counters of one session.
#[derive(Debug, Default)]
pub struct Counters {
    pub deaths: AtomicU64,
    pub hangs: AtomicU64,
    pub retries: AtomicU64,
}

/// Recovery times kept for the metrics.
const RECOVERIES_MAX: usize = 1024;

/// Where the child stands.
#[derive(Clone)]
enum Life {
    Starting,
    Up(Up),
    /// The breaker is open, or the session is ending.
    Over(String),
}

#[derive(Clone)]
struct Up {
    generation: u64,
    upstream: Upstream,
    exit: watch::Receiver<Option<Exit>>,
}

pub(super) struct Shared {
    recipe: Recipe,
    pub(super) children: Children,
    facts: Facts,
    life: watch::Sender<Life>,
    /// The running child's log and number.
    running: watch::Sender<Option<(Arc<Ring>, u32)>>,
    keeper: Mutex<Keeper>,
    /// Milliseconds from each death to being up again.
    recoveries_ms: Mutex<VecDeque<u64>>,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    active: AtomicUsize,
    /// Bytes received from the child: a sign of life.
    received: AtomicU64,
    /// Nobody wants what the child is doing, and only its end stops that.
    abandoned: Notify,
    counters: Counters,
}

/// A model in a child process. Dropping it stops the child.
pub struct ChildSession {
    pub(super) shared: Arc<Shared>,
    /// Dropped with the session, which ends [`live`].
    _alive: mpsc::Sender<()>,
}

impl ChildSession {
    /// Starts the child and waits until it is ready.
    pub async fn start(
        recipe: Recipe,
        children: Children,
        facts: Facts,
    ) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared {
            slots: Arc::new(Semaphore::new(recipe.slots)),
            recipe,
            children,
            facts,
            life: watch::Sender::new(Life::Starting),
            running: watch::Sender::new(None),
            keeper: Mutex::default(),
            recoveries_ms: Mutex::default(),
            waiting: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            abandoned: Notify::new(),
            counters: Counters::default(),
        });
        let first = spawn(&shared, 1)
            .await
            .map_err(|error| EngineError::LoadFailed {
                model: shared.recipe.model.clone(),
                why: error.to_string(),
            })?;
        let (alive, over) = mpsc::channel(1);
        tokio::spawn(live(shared.clone(), first, over));
        Ok(Self {
            shared,
            _alive: alive,
        })
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The log of the running child.
    #[must_use]
    pub fn log(&self) -> Option<Arc<Ring>> {
        self.shared.log()
    }

    /// The process number of the running child.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.shared.running.borrow().as_ref().map(|(_, pid)| *pid)
    }

    /// Milliseconds from each of the last deaths to being up again.
    #[must_use]
    pub fn recoveries_ms(&self) -> Vec<u64> {
        lock(&self.shared.recoveries_ms).iter().copied().collect()
    }

    /// Forgets the crash history: the owner changed something and wants it tried again.
    pub fn forgive(&self) {
        *lock(&self.shared.keeper) = Keeper::default();
    }

    /// Restarts for ever, without back-off or breaker.
    pub fn endure(&self) {
        *lock(&self.shared.keeper) = Keeper::enduring();
    }

    /// The way to the child, for tasks without an event stream. Waits until it is up.
    pub async fn upstream(&self) -> Result<Upstream, EngineError> {
        self.shared.up(0).await.map(|up| up.upstream)
    }
}

impl Session for ChildSession {
    fn facts(&self) -> &Facts {
        &self.shared.facts
    }

    fn load(&self) -> Load {
        let count = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        Load {
            active: count(&self.shared.active),
            waiting: count(&self.shared.waiting),
        }
    }

    fn alive(&self) -> bool {
        !matches!(*self.shared.life.borrow(), Life::Over(_))
    }

    fn chat(&self, request: ChatRequest) -> Result<Events, EngineError> {
        openai::check_shape(&request.shape)?;
        let ticket = self.shared.enter()?;
        let (events, receiver) = mpsc::channel(EVENTS_AHEAD);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                // The client went away: dropping the answer tells the engine.
                () = events.closed() => {}
                outcome = answer(&shared, &request, ticket, &events) => {
                    if let Err(error) = outcome {
                        // Nobody is left to be told when this fails.
                        let _ = events.send(Err(error)).await;
                    }
                }
            }
        });
        Ok(Box::pin(stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|event| (event, receiver))
        })))
    }

    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EngineError>> {
        Box::pin(async move {
            let ticket = self.shared.enter()?;
            let body = json!({"input": texts, "model": self.shared.recipe.model_inside, "encoding_format": "float"});
            let value = self.shared.ask(ticket, "/v1/embeddings", &body).await?;
            let vectors = lists::vectors(&value).filter(|v| v.len() == texts.len());
            vectors.ok_or_else(|| EngineError::Failed("the engine's vectors cannot be read".into()))
        })
    }

    fn rank(
        &self,
        query: String,
        texts: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<f32>, EngineError>> {
        Box::pin(async move {
            let ticket = self.shared.enter()?;
            let body = json!({"model": self.shared.recipe.model_inside, "query": query, "documents": texts});
            let value = self.shared.ask(ticket, "/v1/rerank", &body).await?;
            let scores = lists::scores(&value, texts.len());
            scores.ok_or_else(|| EngineError::Failed("the engine's ranks cannot be read".into()))
        })
    }
}

/// These locks are held for a few instructions and never across an await.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the queue; dropping it leaves the queue.
pub(super) struct Ticket(Arc<Shared>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request in work; dropping it frees the slot.
pub(super) struct Working {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.shared.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// The log of the running child.
    pub(super) fn log(&self) -> Option<Arc<Ring>> {
        let running = self.running.borrow();
        running.as_ref().map(|(log, _)| Arc::clone(log))
    }

    /// The child has shown a sign of life.
    pub(super) fn moved(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the child for the sake of what it is doing. From here on nobody is sent to it; another one takes its place.
    pub(super) fn abandon(&self) {
        self.life.send_replace(Life::Starting);
        self.abandoned.notify_one();
    }

    pub(super) fn enter(self: &Arc<Self>) -> Result<Ticket, EngineError> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket(self.clone());
        // Whoever finds a free slot leaves the queue at once.
        if waiting >= self.recipe.queue_max + self.slots.available_permits() {
            return Err(EngineError::QueueFull { waiting });
        }
        Ok(ticket)
    }

    pub(super) async fn work(self: &Arc<Self>, ticket: Ticket) -> Result<Working, EngineError> {
        let permit = self
            .slots
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| EngineError::Stopped)?;
        self.active.fetch_add(1, Ordering::Relaxed);
        drop(ticket);
        Ok(Working {
            shared: self.clone(),
            _permit: permit,
        })
    }

    /// The running child, of a later generation than `after`.
    async fn up(&self, after: u64) -> Result<Up, EngineError> {
        let mut life = self.life.subscribe();
        let state = life
            .wait_for(|life| match life {
                Life::Up(up) => up.generation > after,
                Life::Over(_) => true,
                Life::Starting => false,
            })
            .await
            .map_err(|_| EngineError::Stopped)?;
        match &*state {
            Life::Up(up) => Ok(up.clone()),
            Life::Over(why) => Err(EngineError::Failed(why.clone())),
            Life::Starting => Err(EngineError::Stopped),
        }
    }

    /// Runs `attempt` against the running child until it succeeds, fails for good, or has shown its
    /// first byte. A death of the child ends an attempt at once, whatever its connection thinks.
    pub(super) async fn attempts<T, F: Future<Output = Result<T, UpstreamError>>>(
        &self,
        mut attempt: impl FnMut(Upstream) -> F,
        shown: impl Fn() -> bool,
    ) -> Result<T, EngineError> {
        let mut after = 0;
        for tried in 1.. {
            let mut up = self.up(after).await?;
            let mut running = std::pin::pin!(attempt(up.upstream.clone()));
            let outcome = tokio::select! {
                biased;
                outcome = &mut running => outcome,
                // What it had sent before it died is still in the socket. A grandchild may hold that
                // socket open for ever, so the wait ends.
                () = ended(&mut up.exit) => match tokio::time::timeout(LAST_WORDS, running).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(UpstreamError::Broken { why: "it died".into() }),
                },
            };
            let error = match outcome {
                Ok(value) => return Ok(value),
                Err(UpstreamError::TooLong { tokens, context }) => {
                    return Err(EngineError::PromptTooLong { tokens, context });
                }
                Err(error) => error,
            };
            if shown() || tried == TRIES || !error.is_worth_a_retry() {
                return Err(EngineError::Failed(error.to_string()));
            }
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
            // A broken connection mostly means a death that is about to be noticed.
            if tokio::time::timeout(EXIT_NOTICE, ended(&mut up.exit))
                .await
                .is_ok()
            {
                after = up.generation;
            }
        }
        Err(EngineError::Stopped)
    }

    async fn ask(
        self: &Arc<Self>,
        ticket: Ticket,
        path: &str,
        body: &Value,
    ) -> Result<Value, EngineError> {
        let _working = self.work(ticket).await?;
        let silence = self.children.patience.answer * 4;
        let attempt = |upstream: Upstream| async move { upstream.json(path, body, silence).await };
        self.attempts(attempt, || false).await
    }
}

/// Resolves when the child has ended, or its owner is gone.
async fn ended(exit: &mut watch::Receiver<Option<Exit>>) {
    let _ = exit.wait_for(Option::is_some).await.map(|_| ());
}

async fn answer(
    shared: &Arc<Shared>,
    request: &ChatRequest,
    ticket: Ticket,
    events: &mpsc::Sender<Result<ChatEvent, EngineError>>,
) -> Result<(), EngineError> {
    let arrived = Instant::now();
    let _working = shared.work(ticket).await?;
    let recipe = &shared.recipe;
    let (path, body) = openai::request(request, &recipe.model_inside, recipe.tokens_min);
    let body = &body;
    // One token is asked as two where an engine dies of one, and the second is kept back.
    let pieces_max = request.limits.tokens_max.filter(|&n| n < recipe.tokens_min);
    let silence = patience(&shared.children.patience, request);
    let shown = &AtomicUsize::new(0);
    let attempt = |upstream: Upstream| async move {
        let begun = Instant::now();
        let queued = begun - arrived;
        let mut first = None;
        let mut translator = Translator::new(pieces_max);
        let mut parser = sse::Parser::default();
        let mut answer = upstream.post(path, body, silence).await?;
        let mut batch = Vec::new();
        while !translator.is_done() {
            let patience = if first.is_none() {
                silence
            } else {
                shared.children.patience.answer
            };
            let Some(chunk) = answer.chunk(patience).await? else {
                break;
            };
            shared
                .received
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
            let mut failure = None;
            let pushed = parser.push(&chunk, |data| {
                if failure.is_none() && !translator.is_done() {
                    match translator.frame(data) {
                        Ok(event) => batch.extend(event),
                        Err(error) => failure = Some(error),
                    }
                }
            });
            for event in batch.drain(..) {
                first.get_or_insert_with(Instant::now);
                shown.fetch_add(1, Ordering::Relaxed);
                // A full channel is a slow client: waiting here slows the engine's connection too.
                if events.send(Ok(event)).await.is_err() {
                    return Ok(());
                }
            }
            if let Some(error) = failure {
                return Err(error);
            }
            pushed.map_err(|e| UpstreamError::Garbage { why: e.to_string() })?;
        }
        let first = first.unwrap_or_else(Instant::now);
        let finish = translator.finish(queued, first - begun, first.elapsed());
        let finish = match finish {
            // FLM puts its errors into a plain body where a stream was asked for.
            Err(error) => Err(parser.plain_error().unwrap_or(error)),
            ok => ok,
        }?;
        // The client may have left just before the end.
        let _ = events.send(Ok(finish)).await;
        Ok(())
    };
    shared
        .attempts(attempt, || shown.load(Ordering::Relaxed) > 0)
        .await
}

/// How long the first byte may take: longer for a longer prompt. Four bytes are about one token.
fn patience(patience: &Patience, request: &ChatRequest) -> Duration {
    let tokens = match &request.input {
        Input::Messages(messages) => messages.iter().map(|m| m.content.len()).sum::<usize>() / 4,
        Input::Text { text, .. } => text.len() / 4,
        Input::Tokens(tokens) => tokens.len(),
    };
    patience.answer + patience.per_token * u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// Starts one incarnation and waits until it is ready.
async fn spawn(shared: &Shared, generation: u64) -> Result<(Child, Up), ProcessError> {
    let recipe = &shared.recipe;
    let seat = seat(recipe.door, &shared.children.folder)
        .await
        .map_err(|e| ProcessError::Start {
            program: recipe.model.clone(),
            why: format!("no place to listen: {e}"),
        })?;
    let child = shared
        .children
        .launcher
        .spawn((recipe.command)(&seat))
        .await?;
    shared
        .running
        .send_replace(Some((child.log().clone(), child.pid())));
    let upstream = match recipe.door {
        Door::Socket => Upstream::child(seat.endpoint, String::new(), Some(seat.secret)),
        Door::PortWithPath => Upstream::child(seat.endpoint, format!("/{}", seat.secret), None),
        Door::Port => Upstream::child(seat.endpoint, String::new(), None),
    };
    child
        .ready(shared.children.patience.starting, || {
            upstream.is_ready(recipe.ready_path)
        })
        .await?;
    let exit = child.watch_exit();
    Ok((
        child,
        Up {
            generation,
            upstream,
            exit,
        },
    ))
}

async fn seat(door: Door, folder: &std::path::Path) -> std::io::Result<Seat> {
    let mut random = [0; 22];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let name = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let endpoint = match door {
        Door::Socket => Endpoint::Socket(folder.join(format!("{}.sock", name(&random[..6])))),
        // The kernel's choice is free now; a thief of the next millisecond fails the start, which is tried again.
        Door::Port | Door::PortWithPath => Endpoint::Port(
            tokio::net::TcpListener::bind(("127.0.0.1", 0))
                .await?
                .local_addr()?,
        ),
    };
    Ok(Seat {
        endpoint,
        secret: name(&random[6..]),
    })
}

/// Owns the child for the session's life and starts it again whenever it ends.
async fn live(shared: Arc<Shared>, first: (Child, Up), mut over: mpsc::Receiver<()>) {
    let (mut child, up) = first;
    let mut generation = up.generation;
    shared.life.send_replace(Life::Up(up));
    loop {
        let began = Instant::now();
        let mut wanted = false;
        let busy = || {
            (shared.active.load(Ordering::Relaxed) > 0)
                .then(|| shared.received.load(Ordering::Relaxed))
        };
        tokio::select! {
            biased;
            _ = over.recv() => {
                shared.life.send_replace(Life::Over("the model was unloaded".into()));
                child.stop().await;
                return;
            }
            _ = child.wait() => {}
            () = shared.abandoned.notified() => {
                wanted = true;
                child.kill().await;
            }
            _ = child.hung(shared.children.patience.working, busy) => {
                shared.counters.hangs.fetch_add(1, Ordering::Relaxed);
                child.kill().await;
            }
        }
        let died = Instant::now();
        if !wanted {
            shared.counters.deaths.fetch_add(1, Ordering::Relaxed);
        }
        shared.life.send_replace(Life::Starting);
        let mut lived = began.elapsed();
        loop {
            let next = match std::mem::take(&mut wanted) {
                true => Next::Start { at: died },
                false => lock(&shared.keeper).after_exit(Instant::now(), lived),
            };
            let wait = match next {
                Next::Start { at } => at,
                Next::Open { .. } => {
                    let why = format!(
                        "{} stopped too often; its last words: {}",
                        shared.recipe.model,
                        child.log().last_line()
                    );
                    shared.life.send_replace(Life::Over(why));
                    return;
                }
            };
            tokio::select! {
                biased;
                _ = over.recv() => return,
                () = tokio::time::sleep_until(wait.into()) => {}
            }
            generation += 1;
            let begun = Instant::now();
            tokio::select! {
                biased;
                _ = over.recv() => return,
                started = spawn(&shared, generation) => if let Ok((next, up)) = started {
                    lock(&shared.keeper).started();
                    child = next;
                    let mut recoveries = lock(&shared.recoveries_ms);
                    recoveries.truncate(RECOVERIES_MAX - 1);
                    recoveries.push_front(u64::try_from(died.elapsed().as_millis()).unwrap_or(u64::MAX));
                    drop(recoveries);
                    shared.life.send_replace(Life::Up(up));
                    break;
                }
            }
            lived = begun.elapsed().min(Duration::from_secs(1));
        }
    }
}
