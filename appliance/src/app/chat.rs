//! One answer: route it, load the model, write the prompt in its own form, and hand over its events.
//!
//! Owns the way from a request to its first byte. A lane that fails before that is followed by the next one;
//! [`super::answer`] reads on from there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};

use super::energy::Look;
use super::{
    Aboard, Answer, App, AppError, Pick, Reader, RouteNote, Trail, ask_of, carried, has_turns,
    leave_out, new_id, rates_key, room,
};
use crate::domain::{
    ChatEvent, ChatRequest, Citation, Input, Model, ModelFormat, Overflow, Sampling, Shape,
};
use crate::engines::pool::Lease;
use crate::engines::route::{Ask, Priority};
use crate::engines::{EngineError, Events, Task, ternary};

/// Prompts above this are split into tokens on a blocking thread: 16 kB take about a millisecond. So are
/// shapes compiled, of which a large one takes tens of them.
const INLINE_BYTES_MAX: usize = 16 << 10;

/// A request on its way, and where it may still go.
pub(super) struct Journey {
    app: App,
    request: ChatRequest,
    picks: VecDeque<Pick>,
    trail: Trail,
    note: RouteNote,
    priority: Priority,
    /// Messages left out so far.
    left_out: usize,
    /// Lanes that have failed.
    failed: Vec<&'static str>,
    /// The first lane's error, which is what the client hears if nobody answers.
    error: Option<AppError>,
}

/// A request that an engine has taken.
pub(super) struct Begun {
    pub(super) pick: Pick,
    pub(super) events: Events,
    /// Messages that were left out because the conversation was too long.
    pub(super) left_out: usize,
    /// The passages that the answer is made from.
    pub(super) sources: Vec<Citation>,
    /// Counts as running while it lives.
    pub(super) _aboard: Aboard,
    /// Requests that ran on the lane already.
    pub(super) beside: usize,
    /// The energy counter at its begin and the request's number, where it ran alone.
    pub(super) energy: Option<(Look, u64)>,
    pub(super) _lease: Arc<Lease>,
}

impl App {
    /// Answers a request. Resolves when the request is checked and stands in a model's queue.
    ///
    /// # Errors
    /// The model is not known, no lane can run it or none could load it, the prompt cannot be made or is too
    /// long, the queue is full.
    pub async fn chat(&self, request: ChatRequest) -> Result<Answer, AppError> {
        let arrived = Instant::now();
        let (wish, note) = carried();
        let trail = Trail::of(&request, wish.session.as_deref());
        let ask = Ask {
            lane: wish.lane.as_deref(),
            priority: wish.priority,
            preset: wish.preset.unwrap_or_default(),
            ..ask_of(&request)
        };
        let routed = self.route(&request.model, &ask, &trail).await?;
        note.write(routed.header);
        let mut journey = Journey {
            app: self.clone(),
            request,
            picks: routed.picks.into(),
            trail,
            note,
            priority: wish.priority,
            left_out: 0,
            failed: Vec::new(),
            error: None,
        };
        let begun = journey.go_on().await?;
        Ok(Answer::new(self, journey, begun, arrived))
    }

    /// How an answer of this model is sampled where a request leaves it open. What an engine on another machine does
    /// is not known. llama.cpp's server has the built-in engine's values.
    pub fn usual_sampling(&self, model: &Model) -> Sampling {
        let usual = super::builtin::usual(model);
        match model.format {
            ModelFormat::Gguf => usual.or(ternary::usual_sampling()),
            ModelFormat::Flm
            | ModelFormat::Remote
            | ModelFormat::Whisper
            | ModelFormat::Kokoro
            | ModelFormat::Diffusion => usual,
        }
    }

    /// Counts the tokens of a request's prompt as [`App::chat`] would read it, and makes none.
    ///
    /// # Errors
    /// The model is not known or cannot be loaded, the prompt cannot be made, the engine does not count.
    pub async fn count(&self, mut request: ChatRequest) -> Result<usize, AppError> {
        let (_, lease) = self.load_for(&request.model, Task::Count).await?;
        let lease = Arc::new(lease);
        self.put_in_words(&mut request, &lease)?;
        count_words(request.input, &lease).await
    }

    /// Returns a routed model loaded where it was routed to, and remembers how that went.
    pub(super) async fn lease(&self, pick: &Pick) -> Result<Lease, EngineError> {
        let (lane, key) = (&pick.lane, rates_key(&pick.model));
        let pool = &self.inner.pool;
        let outcome = pool.session_on(&pick.model, pick.engine, lane.name).await;
        match &outcome {
            Ok(lease) => {
                if let Some(took) = lease.loaded_in() {
                    self.inner.facts.forget();
                    self.inner.meter.loaded(lane, key, took);
                    self.forget_failure(lane.name, key).await;
                }
            }
            Err(EngineError::LoadFailed { why, .. }) => {
                self.note_failure(lane.name, key, why).await;
            }
            Err(_) => {}
        }
        outcome
    }

    /// Writes a conversation with the model's own template, where it has one that we apply; returns how its answer
    /// is read.
    pub(super) fn put_in_words(
        &self,
        request: &mut ChatRequest,
        lease: &Lease,
    ) -> Result<Option<Reader>, AppError> {
        let (Input::Messages(messages), Some(template)) = (&request.input, &lease.facts().template)
        else {
            return Ok(None);
        };
        let key = new_id()?.to_string();
        let prompt = self
            .inner
            .templates
            .prompt(template, messages, request, key)?;
        request.input = Input::Text {
            text: prompt.text,
            parse_special: true,
        };
        if let Some(shape) = prompt.shape {
            request.shape = shape;
        }
        Ok(Some(prompt.reader))
    }
}

impl Journey {
    /// Whether there is another lane to try.
    pub(super) fn may_go_on(&self, error: &EngineError) -> bool {
        self.may_shorten(error) || (!self.picks.is_empty() && moves_on(error))
    }

    fn may_shorten(&self, error: &EngineError) -> bool {
        matches!(error, EngineError::PromptTooLong { .. })
            && self.request.overflow == Overflow::LeaveOut
            && matches!(&self.request.input, Input::Messages(messages) if has_turns(messages))
    }

    /// Leaves out the oldest turns of a conversation that was too long; says whether it has become shorter.
    fn shorten(&mut self, error: &EngineError) -> bool {
        if !self.may_shorten(error) {
            return false;
        }
        let EngineError::PromptTooLong { tokens, context } = *error else {
            return false;
        };
        let Input::Messages(messages) = &mut self.request.input else {
            return false;
        };
        let limit = room(context, self.request.limits.tokens_max);
        let gone = leave_out(messages, tokens, limit, context);
        self.left_out += gone;
        gone > 0
    }

    /// Goes on after a lane that took the request has failed.
    pub(super) fn retry(
        mut self,
        failed: &Pick,
        error: EngineError,
    ) -> BoxFuture<'static, (Journey, Result<Begun, AppError>)> {
        if self.shorten(&error) {
            self.picks.push_front(failed.clone());
        } else {
            self.moved(failed, error.into());
        }
        Box::pin(async move {
            let begun = self.go_on().await;
            (self, begun)
        })
    }

    /// Sends the request to the next lane that takes it.
    async fn go_on(&mut self) -> Result<Begun, AppError> {
        while let Some(pick) = self.picks.pop_front() {
            let error = match self.start(&pick).await {
                Ok(begun) => return Ok(begun),
                Err(error) => error,
            };
            if let AppError::Engine(engine) = &error
                && self.shorten(engine)
            {
                self.picks.push_front(pick);
                continue;
            }
            let goes_on = match &error {
                AppError::Engine(error) => moves_on(error),
                // What the model's template refuses another engine's may take, but the person should know.
                _ => false,
            };
            if !goes_on || self.picks.is_empty() {
                self.app
                    .inner
                    .meter
                    .lane(pick.lane.name)
                    .ended(super::Outcome::Failed);
                return Err(self.error.take().unwrap_or(error));
            }
            self.moved(&pick, error);
        }
        let stopped = || AppError::Engine(EngineError::Stopped);
        Err(self.error.take().unwrap_or_else(stopped))
    }

    fn moved(&mut self, failed: &Pick, error: AppError) {
        let Some(next) = self.picks.front() else {
            return;
        };
        tracing::warn!(
            lane = failed.lane.name,
            model = failed.model.id,
            next = next.lane.name,
            %error,
            "the lane failed before its first byte; the request goes on"
        );
        self.app.inner.meter.moved(failed.lane.name);
        self.failed.push(failed.lane.name);
        self.note.write(format!(
            "lane={} model={} reason=fell-back eta_ms={:.0} joules={:.0} from={}",
            next.lane.name,
            next.model.id,
            next.eta_s * 1e3,
            next.joules,
            self.failed.join(",")
        ));
        self.error.get_or_insert(error);
    }

    async fn start(&mut self, pick: &Pick) -> Result<Begun, AppError> {
        let app = &self.app;
        let flights = &app.inner.flights;
        let beside = flights.pressure(&pick.lane, &pick.model.id).active;
        let aboard = flights.begin(&pick.lane, &pick.model.id, pick.eta_s, self.priority);
        let lease = Arc::new(app.lease(pick).await?);
        let energy = match flights.last() {
            (number, true) => app
                .inner
                .energy
                .begin(&pick.lane)
                .map(|look| (look, number)),
            (_, false) => None,
        };
        // The last lane may have the request itself, unless it is asked again with less.
        let last = self.picks.is_empty() && self.request.overflow == Overflow::Refuse;
        let mut request = match last {
            true => std::mem::replace(
                &mut self.request,
                ChatRequest::new("", Input::Tokens(Vec::new())),
            ),
            false => self.request.clone(),
        };
        request.sampling = request.sampling.or(super::builtin::usual(&pick.model));
        let sources = match request.shelf.take() {
            Some(shelf) => {
                let room = lease.facts().context_length;
                app.put_passages(&mut request, shelf, room).await?
            }
            None => Vec::new(),
        };
        let (reader, left_out) = app.put_in_words_that_fit(&mut request, &lease).await?;
        let turn = match self.priority {
            Priority::Interactive => None,
            Priority::Background => Some(flights.turn(pick.lane.slots, || lease.load()).await?),
        };
        let quick = request.shape == Shape::Free && input_bytes(&request.input) <= INLINE_BYTES_MAX;
        let events = if quick {
            lease.chat(request)?
        } else {
            let lease = Arc::clone(&lease);
            let asked = tokio::task::spawn_blocking(move || lease.chat(request));
            asked
                .await
                .map_err(|panic| EngineError::Failed(panic.to_string()))??
        };
        drop(turn);
        app.inner
            .affinity
            .landed(&self.trail, pick.lane.name, &pick.model.id);
        Ok(Begun {
            pick: pick.clone(),
            events: match reader {
                Some(reader) => read(events, reader),
                None => events,
            },
            left_out: self.left_out + left_out,
            sources,
            _aboard: aboard,
            beside,
            energy,
            _lease: lease,
        })
    }
}

/// Whether another lane may do what this one could not. What is wrong with the request itself is wrong everywhere;
/// a prompt that is too long here may fit there.
fn moves_on(error: &EngineError) -> bool {
    match error {
        EngineError::NoFit { .. }
        | EngineError::TooBig { .. }
        | EngineError::LoadFailed { .. }
        | EngineError::Unsupported(_)
        | EngineError::QueueFull { .. }
        | EngineError::PromptTooLong { .. }
        | EngineError::NoTemplate
        | EngineError::Failed(_)
        | EngineError::Stopped => true,
        EngineError::EmptyPrompt | EngineError::BadToken { .. } | EngineError::BadShape { .. } => {
            false
        }
    }
}

/// The answer's events with thoughts and calls told apart from words.
fn read(events: Events, mut reader: Reader) -> Events {
    let read = move |event| {
        let read: Vec<Result<ChatEvent, EngineError>> = match event {
            Ok(event) => reader.read(event).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(read)
    };
    events.flat_map(read).boxed()
}

/// Counts the tokens of an input.
pub(super) async fn count_words(input: Input, lease: &Arc<Lease>) -> Result<usize, AppError> {
    if input_bytes(&input) <= INLINE_BYTES_MAX {
        return Ok(lease.count(input)?);
    }
    let lease = Arc::clone(lease);
    let counted = tokio::task::spawn_blocking(move || lease.count(input));
    Ok(counted
        .await
        .map_err(|panic| EngineError::Failed(panic.to_string()))??)
}

pub(super) fn input_bytes(input: &Input) -> usize {
    match input {
        Input::Messages(messages) => messages.iter().map(|message| message.content.len()).sum(),
        Input::Text { text, .. } => text.len(),
        Input::Tokens(tokens) => tokens.len(),
    }
}
