//! One answer: find the model, load it, write the prompt in its own form, and hand over its events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt, stream};

use super::{App, AppError, Reader, new_id};
use crate::domain::{ChatEvent, ChatRequest, Citation, Input, Model, ModelFormat, Sampling, Shape};
use crate::engines::pool::Lease;
use crate::engines::{EngineError, Events, ternary};

/// Prompts above this are split into tokens on a blocking thread: 16 kB take about a millisecond. So are
/// shapes compiled, of which a large one takes tens of them.
const INLINE_BYTES_MAX: usize = 16 << 10;

/// The events of one answer; dropping it cancels the answer. It holds the model in memory.
pub struct Answer {
    /// The model that answers.
    pub model: Model,
    events: Events,
    _lease: Arc<Lease>,
}

impl Stream for Answer {
    type Item = Result<ChatEvent, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(context)
    }
}

impl App {
    /// Answers a request. Resolves when the request is checked and stands in the model's queue.
    ///
    /// # Errors
    /// The model is not known or cannot be loaded, the prompt cannot be made or is too long, the queue is full.
    pub async fn chat(&self, mut request: ChatRequest) -> Result<Answer, AppError> {
        let (model, lease) = self.load(&request.model).await?;
        request.sampling = request.sampling.or(super::builtin::usual(&model));
        let sources = match request.shelf.take() {
            Some(shelf) => {
                let room = lease.facts().context_length;
                self.put_passages(&mut request, shelf, room).await?
            }
            None => Vec::new(),
        };
        let reader = self.put_in_words(&mut request, &lease)?;
        let lease = Arc::new(lease);
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
        let events = match reader {
            Some(reader) => read(events, reader),
            None => events,
        };
        Ok(Answer {
            model,
            events: match sources.is_empty() {
                true => events,
                false => with_sources(events, sources),
            },
            _lease: lease,
        })
    }

    /// How an answer of this model is sampled where a request leaves it open. What an engine on another machine does
    /// is not known. llama.cpp's server has the built-in engine's values.
    pub fn usual_sampling(&self, model: &Model) -> Sampling {
        let usual = super::builtin::usual(model);
        match model.format {
            ModelFormat::Gguf => usual.or(ternary::usual_sampling()),
            ModelFormat::Flm | ModelFormat::Remote => usual,
        }
    }

    /// Counts the tokens of a request's prompt as [`App::chat`] would read it, and makes none.
    ///
    /// # Errors
    /// The model is not known or cannot be loaded, the prompt cannot be made, the engine does not count.
    pub async fn count(&self, mut request: ChatRequest) -> Result<usize, AppError> {
        let (_, lease) = self.load(&request.model).await?;
        self.put_in_words(&mut request, &lease)?;
        if input_bytes(&request.input) <= INLINE_BYTES_MAX {
            return Ok(lease.count(request.input)?);
        }
        let counted = tokio::task::spawn_blocking(move || lease.count(request.input));
        Ok(counted
            .await
            .map_err(|panic| EngineError::Failed(panic.to_string()))??)
    }

    /// Writes a conversation with the model's own template, where it has one that we apply; returns how its answer
    /// is read.
    fn put_in_words(
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

/// The answer's events with the passages behind the first of them, which tells that the request stands in the queue.
fn with_sources(events: Events, sources: Vec<Citation>) -> Events {
    let mut sources = Some(sources);
    let told = move |event: Result<ChatEvent, EngineError>| {
        let sources = match event.is_ok() {
            true => sources
                .take()
                .map(|sources| Ok(ChatEvent::Sources(sources))),
            false => None,
        };
        stream::iter([event].into_iter().chain(sources))
    };
    events.flat_map(told).boxed()
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

fn input_bytes(input: &Input) -> usize {
    match input {
        Input::Messages(messages) => messages.iter().map(|message| message.content.len()).sum(),
        Input::Text { text, .. } => text.len(),
        Input::Tokens(tokens) => tokens.len(),
    }
}
