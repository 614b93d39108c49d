//! `POST /api/pull`: a model from the hub, with its progress in lines.
//!
//! Names are `organisation/name` or `organisation/name:QUANT`, also with the hub's host before them. A model
//! that is here already is a success at once. `insecure` is ignored: the way out is the owner's to set.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, Stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, Wire};
use super::super::failure::{Failure, json as answer};
use super::super::frames::json_lines;
use super::reply::error_line;
use super::{Ollama, OllamaError, find, untagged};
use crate::app::catalog::{Progress, Source};
use crate::app::{App, AppError};
use crate::domain::Model;

/// Pause between two lines: smooth for the eye, and few enough bytes.
const TICK: Duration = Duration::from_millis(200);

/// `name` is the older field.
#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct PullBody {
    #[serde(default, alias = "name")]
    model: String,
    stream: Option<bool>,
}

impl Wire for PullBody {
    type Dialect = Ollama;
}

pub(in super::super) async fn pull(
    State(app): State<App>,
    Body(body): Body<PullBody>,
) -> Result<Response, Failure<Ollama>> {
    let stream = body.stream.unwrap_or(true);
    let success = json!({ "status": "success" });
    match find(&app, &body.model).await {
        Ok(_) if stream => return Ok(json_lines(stream::iter([success]), beat)),
        Ok(_) => return Ok(answer(StatusCode::OK, &success)),
        Err(OllamaError::NotFound { .. } | OllamaError::App(AppError::NoModels)) => {}
        Err(error) => return Err(error.into()),
    }
    let source = Source::parse(repository(&body.model)).map_err(AppError::from)?;
    let progress = Arc::new(Progress::default());
    let shown = Arc::clone(&progress);
    let pulled = async move { app.pull(&source, None, &progress).await };
    if !stream {
        pulled.await?;
        return Ok(answer(StatusCode::OK, &success));
    }
    Ok(json_lines(lines(pulled.boxed(), shown), beat))
}

/// The last two parts of a name, without what stands before them.
fn repository(name: &str) -> &str {
    let name = untagged(name);
    match name.rmatch_indices('/').nth(1) {
        Some((at, _)) => &name[at + 1..],
        None => name,
    }
}

fn beat() -> Value {
    json!({ "status": "pulling manifest" })
}

enum Stage {
    Begin,
    Under,
    Last(Value),
    Over,
}

/// Lines until the model is here or an error tells why not. Dropping them stops the pull; what has arrived stays.
fn lines(
    pulled: BoxFuture<'static, Result<Model, AppError>>,
    progress: Arc<Progress>,
) -> impl Stream<Item = Value> {
    let state = (pulled, progress, Stage::Begin);
    stream::unfold(state, |(mut pulled, progress, stage)| async move {
        let (line, stage) = match stage {
            Stage::Begin => (beat(), Stage::Under),
            Stage::Under => match tokio::time::timeout(TICK, &mut pulled).await {
                Err(_) => (under(&progress), Stage::Under),
                Ok(Err(error)) => (error_line(&error), Stage::Over),
                Ok(Ok(model)) => {
                    let total = model.file_bytes;
                    let digest = format!("sha256:{}", model.sha256);
                    let status = format!("pulling {}", &digest[7..digest.len().min(19)]);
                    let line = json!({ "status": status, "digest": digest, "total": total, "completed": total });
                    (line, Stage::Last(json!({ "status": "success" })))
                }
            },
            Stage::Last(line) => (line, Stage::Over),
            Stage::Over => return None,
        };
        Some((line, (pulled, progress, stage)))
    })
}

/// How far it is; before the first byte, that the listing is being read.
fn under(progress: &Progress) -> Value {
    let [total, completed] =
        [&progress.total_bytes, &progress.done_bytes].map(|bytes| bytes.load(Ordering::Relaxed));
    match total {
        0 => beat(),
        total if completed < total => {
            json!({ "status": "pulling model", "total": total, "completed": completed })
        }
        _ => json!({ "status": "verifying sha256 digest" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[test]
    fn hosts_and_tags_are_left_out() {
        assert_eq!(repository("hub.example/org/name:Q4_1"), "org/name:Q4_1");
        assert_eq!(repository("org/name:latest"), "org/name");
        assert_eq!(repository("llama3.2:1b"), "llama3.2:1b");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pull_tells_how_far_it_is_and_ends_once() {
        let progress = Arc::new(Progress::default());
        let at = Arc::clone(&progress);
        let pulled = async move {
            at.total_bytes.store(10, Ordering::Relaxed);
            at.done_bytes.store(4, Ordering::Relaxed);
            tokio::time::sleep(TICK + TICK / 2).await;
            Err(AppError::NoModels)
        };
        let lines: Vec<Value> = lines(pulled.boxed(), progress).collect().await;
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0]["status"], "pulling manifest");
        assert_eq!(lines[1]["completed"], 4);
        assert!(lines[2]["error"].is_string());
    }
}
