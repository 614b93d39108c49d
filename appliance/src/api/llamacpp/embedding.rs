//! `POST /embedding`: vectors in this server's own form.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::LlamaCpp;
use crate::app::{App, EmbedInput};
use crate::domain::Overflow;

/// Texts in one request.
const TEXTS_MAX: usize = 2048;

#[derive(Deserialize)]
pub(in super::super) struct EmbeddingBody {
    #[serde(default)]
    model: String,
    #[serde(alias = "input", default)]
    content: Value,
    embd_normalize: Option<i32>,
}

impl Wire for EmbeddingBody {
    type Dialect = LlamaCpp;
}

pub(in super::super) async fn embedding(
    State(app): State<App>,
    Body(body): Body<EmbeddingBody>,
) -> Result<Response, Failure<LlamaCpp>> {
    let inputs = inputs(body.content)?;
    let norm = body.embd_normalize.unwrap_or(2);
    let made = app.embed(&body.model, inputs, Overflow::Refuse).await?;
    let view = |(index, vector): (usize, Vec<f32>)| {
        // A list of vectors, because models without pooling make one for each token.
        json!({ "index": index, "embedding": [normalised(vector, norm)] })
    };
    let views: Vec<Value> = made.vectors.into_iter().enumerate().map(view).collect();
    Ok(answer(StatusCode::OK, &views))
}

fn inputs(content: Value) -> Result<Vec<EmbedInput>, RequestError> {
    let wrong = |why: &str| RequestError::field("content", why);
    let one = |value: Value| match value {
        Value::String(text) => Ok(EmbedInput::Text(text)),
        Value::Array(ids) => {
            let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
            let ids: Option<Vec<u32>> = ids.iter().map(id).collect();
            ids.map(EmbedInput::Tokens)
                .ok_or_else(|| wrong("must hold texts or token ids"))
        }
        _ => Err(wrong("must be a text, token ids, or a list of those")),
    };
    match content {
        Value::Array(items) if items.is_empty() => Err(wrong("is empty")),
        Value::Array(items) if items.len() > TEXTS_MAX && !items[0].is_number() => {
            Err(wrong(&format!("may hold at most {TEXTS_MAX} texts")))
        }
        Value::Array(items) if !items[0].is_number() => items.into_iter().map(one).collect(),
        other => Ok(vec![one(other)?]),
    }
}

/// Scales a vector: -1 leaves it, 0 is by its largest number (to 32760), above by that norm.
fn normalised(mut vector: Vec<f32>, norm: i32) -> Vec<f32> {
    let size = match norm {
        ..0 => 1.0,
        0 => vector.iter().fold(0.0, |most: f32, x| most.max(x.abs())) / 32760.0,
        1 => vector.iter().map(|x| x.abs()).sum(),
        2 => vector.iter().map(|x| x * x).sum::<f32>().sqrt(),
        p => vector
            .iter()
            .map(|x| x.abs().powi(p))
            .sum::<f32>()
            .powf(1.0 / p as f32),
    };
    if size > 0.0 {
        vector.iter_mut().for_each(|x| *x /= size);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_norm_is_its_own() {
        for (norm, wanted) in [
            (-1, [3.0, -4.0]),
            (0, [24570.0, -32760.0]),
            (1, [0.428_571_43, -0.571_428_6]),
            (2, [0.6, -0.8]),
            (3, [0.666_994_3, -0.889_325_7]),
        ] {
            let found = normalised(vec![3.0, -4.0], norm);
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() * 1e-4;
            assert!(found.iter().zip(&wanted).all(near), "{norm}: {found:?}");
        }
        assert_eq!(normalised(vec![0.0], 2), [0.0]);
    }

    #[test]
    fn contents_come_in_four_forms() {
        for (content, count) in [
            (json!("a"), 1),
            (json!(["a", "b"]), 2),
            (json!([1, 2]), 1),
            (json!([[1], "b"]), 2),
        ] {
            assert_eq!(inputs(content.clone()).unwrap().len(), count, "{content}");
        }
        for bad in [json!(null), json!([]), json!([1, "a"]), json!([{}])] {
            assert!(inputs(bad.clone()).is_err(), "{bad}");
        }
    }
}
