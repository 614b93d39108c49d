//! `POST /api/embed` and the older `/api/embeddings`. A model whose engine makes no vectors is refused by name.

use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::{Ollama, OllamaError, find, options};
use crate::app::{App, AppError, EmbedInput, Embedded};
use crate::domain::Overflow;

/// Texts in one request.
const TEXTS_MAX: usize = 2048;

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

/// `options` and `keep_alive` are ignored.
#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct EmbedBody {
    #[serde(default)]
    model: String,
    input: Option<Texts>,
    dimensions: Option<usize>,
    /// Whether only the beginning of a text that is too long is read; so it is unless this is false.
    truncate: Option<bool>,
}

impl Wire for EmbedBody {
    type Dialect = Ollama;
}

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct EmbeddingsBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    prompt: String,
}

impl Wire for EmbeddingsBody {
    type Dialect = Ollama;
}

pub(in super::super) async fn embed(
    State(app): State<App>,
    Body(body): Body<EmbedBody>,
) -> Result<Response, Failure<Ollama>> {
    let arrived = Instant::now();
    let texts = match body.input {
        None => Vec::new(),
        Some(Texts::One(text)) => vec![text],
        Some(Texts::Many(texts)) => texts,
    };
    if texts.len() > TEXTS_MAX {
        let why = format!("may hold at most {TEXTS_MAX} texts");
        return Err(RequestError::field("input", why).into());
    }
    let overflow = options::overflow(body.truncate);
    let Embedded {
        mut vectors, load, ..
    } = vectors(&app, &body.model, texts, overflow).await?;
    for vector in &mut vectors {
        vector.truncate(body.dimensions.unwrap_or(usize::MAX));
        normalise(vector);
    }
    let nanoseconds =
        |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Ok(answer(
        StatusCode::OK,
        &json!({
            "model": body.model,
            "embeddings": vectors,
            "total_duration": nanoseconds(arrived.elapsed()),
            "load_duration": nanoseconds(load),
        }),
    ))
}

pub(in super::super) async fn embeddings(
    State(app): State<App>,
    Body(body): Body<EmbeddingsBody>,
) -> Result<Response, Failure<Ollama>> {
    let texts = vec![body.prompt];
    let embedded = vectors(&app, &body.model, texts, Overflow::LeaveOut).await?;
    let vector = embedded.vectors.into_iter().next().unwrap_or_default();
    Ok(answer(StatusCode::OK, &json!({ "embedding": vector })))
}

/// One vector for each text, and how long the model took to load.
async fn vectors(
    app: &App,
    asked: &str,
    texts: Vec<String>,
    overflow: Overflow,
) -> Result<Embedded, OllamaError> {
    let inputs = texts.into_iter().map(EmbedInput::Text).collect();
    // The encoder that comes with the program is in no list.
    let (name, unknown) = match find(app, asked).await {
        Ok(model) => (model.id, None),
        Err(error) if asked.is_empty() => return Err(error),
        Err(error) => (asked.to_owned(), Some(error)),
    };
    match (app.embed(&name, inputs, overflow).await, unknown) {
        (Err(AppError::ModelNotFound { .. }), Some(error)) => Err(error),
        (Err(AppError::NoEmbeddings(model)), _) => Err(OllamaError::Cannot {
            model,
            what: "embeddings",
        }),
        (embedded, _) => Ok(embedded?),
    }
}

/// Brings a vector to length 1, as `/api/embed` promises.
fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_or_none() {
        let mut vector = [3.0, 4.0];
        normalise(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut nothing = [0.0; 2];
        normalise(&mut nothing);
        assert_eq!(nothing, [0.0; 2]);
    }
}
