//! Asking for answers and waiting for their first word, the same in every dialect.

use std::time::Duration;

use futures_util::future::TryFutureExt;
use futures_util::stream::{BoxStream, Peekable, StreamExt, TryStreamExt, select_all};

use crate::app::{App, AppError};
use crate::domain::{ChatEvent, ChatRequest};

/// How long headers wait for the first word of an answer. Within it an error has its own status; a model
/// that loads longer gets its headers now, heartbeats, and a framed error should it fail.
const FIRST_WORD: Duration = Duration::from_secs(3);

/// Events of one or several answers, each with the answer's number.
pub(super) type Events = Peekable<BoxStream<'static, Result<(usize, ChatEvent), AppError>>>;

/// Asks for all answers at once.
pub(super) fn ask(app: &App, requests: Vec<ChatRequest>) -> Events {
    let answers = requests.into_iter().enumerate().map(|(index, request)| {
        let app = app.clone();
        let answer = async move { app.chat(request).await };
        answer
            .map_ok(|answer| answer.map_err(AppError::from))
            .try_flatten_stream()
            .map_ok(move |event| (index, event))
            .boxed()
    });
    select_all(answers.collect::<Vec<_>>()).boxed().peekable()
}

/// Waits for the first word, so that an early error has its own status.
pub(super) async fn first_word(events: &mut Events) -> Result<(), AppError> {
    let first = tokio::time::timeout(FIRST_WORD, std::pin::Pin::new(&mut *events).peek()).await;
    if let Ok(Some(Err(_))) = first
        && let Some(Err(error)) = events.next().await
    {
        return Err(error);
    }
    Ok(())
}
