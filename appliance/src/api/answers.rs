//! Asking for answers and waiting for their first word, the same in every dialect.

use std::time::Duration;

use futures_util::future::{FutureExt, TryFutureExt};
use futures_util::stream::{BoxStream, Peekable, StreamExt, TryStreamExt, select_all};

use super::frames::{Beat, Frame, comment};
use crate::app::{App, AppError, ModelState};
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

/// A comment that tells a request's place in the queue.
pub(super) fn place(ahead: usize) -> Frame {
    Frame::aside(match ahead {
        0 => "this request is the next one".to_owned(),
        1 => "1 request is before this one".to_owned(),
        ahead => format!("{ahead} requests are before this one"),
    })
}

/// Heartbeats of an answer by a model that say what keeps it: the model is being loaded, or others are before it.
pub(super) fn waiting(app: &App, model: &str) -> Beat {
    let (app, model) = (app.clone(), model.to_owned());
    Box::new(move || {
        let (app, model) = (app.clone(), model.clone());
        async move {
            // What cannot be told now is not worth an error: the heartbeat itself counts.
            let models = app.models().await.unwrap_or_default();
            let status = models.into_iter().find(|status| status.model.id == model);
            comment(&silence(status.and_then(|status| status.state).as_ref()))
        }
        .boxed()
    })
}

fn silence(state: Option<&ModelState>) -> String {
    match state {
        Some(ModelState::Loading) => "the model is being loaded".to_owned(),
        Some(ModelState::Loaded { load, .. }) if load.waiting > 0 => format!(
            "{} answers are being written, {} requests wait",
            load.active, load.waiting
        ),
        _ => "still here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Load;

    #[test]
    fn a_silence_has_its_reason() {
        assert!(silence(Some(&ModelState::Loading)).contains("loaded"));
        let loaded = |waiting| ModelState::Loaded {
            engine: "e",
            memory_bytes: 0,
            context_length: 1,
            load: Load { active: 2, waiting },
            leaves_in: None,
        };
        assert_eq!(
            silence(Some(&loaded(3))),
            "2 answers are being written, 3 requests wait"
        );
        assert_eq!(silence(Some(&loaded(0))), "still here");
        assert_eq!(silence(None), "still here");
    }
}
