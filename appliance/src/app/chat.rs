//! One answer: find the model, load it, write the prompt in its own form, and hand over its events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::{App, AppError};
use crate::domain::{ChatEvent, ChatRequest, Input, Model};
use crate::engines::pool::Lease;
use crate::engines::{EngineError, Events};

/// Prompts above this are split into tokens on a blocking thread: 16 kB take about a millisecond.
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
        if let Input::Messages(messages) = &request.input
            && let Some(template) = &lease.facts().template
        {
            let text = self.inner.templates.render(template, messages)?;
            request.input = Input::Text {
                text,
                parse_special: true,
            };
        }
        let lease = Arc::new(lease);
        let events = if input_bytes(&request.input) <= INLINE_BYTES_MAX {
            lease.chat(request)?
        } else {
            let lease = Arc::clone(&lease);
            let asked = tokio::task::spawn_blocking(move || lease.chat(request));
            asked
                .await
                .map_err(|panic| EngineError::Failed(panic.to_string()))??
        };
        Ok(Answer {
            model,
            events,
            _lease: lease,
        })
    }
}

fn input_bytes(input: &Input) -> usize {
    match input {
        Input::Messages(messages) => messages.iter().map(|message| message.content.len()).sum(),
        Input::Text { text, .. } => text.len(),
        Input::Tokens(tokens) => tokens.len(),
    }
}
