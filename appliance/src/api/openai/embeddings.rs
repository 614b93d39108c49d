//! `POST /v1/embeddings`.
//!
//! Token ids are those of the model's own vocabulary. `user` is ignored.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::base64;
use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::OpenAi;
use crate::app::{App, EmbedInput, shortened};
use crate::domain::Overflow;

/// OpenAI's own limit.
const INPUTS_MAX: usize = 2048;

#[derive(Deserialize, JsonSchema)]
pub(in super::super) struct EmbeddingsBody {
    #[serde(default)]
    model: String,
    input: Input,
    encoding_format: Option<String>,
    dimensions: Option<i64>,
}

impl Wire for EmbeddingsBody {
    type Dialect = OpenAi;
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// A checked request.
struct Asked {
    inputs: Vec<EmbedInput>,
    dimensions: Option<usize>,
    base64: bool,
}

impl TryFrom<EmbeddingsBody> for Asked {
    type Error = RequestError;

    fn try_from(body: EmbeddingsBody) -> Result<Asked, RequestError> {
        let inputs: Vec<EmbedInput> = match body.input {
            Input::Text(text) => vec![EmbedInput::Text(text)],
            Input::Texts(texts) => texts.into_iter().map(EmbedInput::Text).collect(),
            Input::Tokens(tokens) => vec![EmbedInput::Tokens(tokens)],
            Input::TokenLists(lists) => lists.into_iter().map(EmbedInput::Tokens).collect(),
        };
        let nothing = |input: &EmbedInput| match input {
            EmbedInput::Text(text) => text.is_empty(),
            EmbedInput::Tokens(tokens) => tokens.is_empty(),
        };
        if inputs.is_empty() || inputs.len() > INPUTS_MAX || inputs.iter().any(nothing) {
            let why = format!("must hold 1 to {INPUTS_MAX} texts, none of them empty");
            return Err(RequestError::field("input", why));
        }
        let base64 = match body.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(other) => {
                let why = format!("is `{other}`; it can be `float` or `base64`");
                return Err(RequestError::field("encoding_format", why));
            }
        };
        let dimensions = match body.dimensions {
            None => None,
            Some(n) if n >= 1 => usize::try_from(n).ok(),
            Some(_) => return Err(RequestError::field("dimensions", "must be at least 1")),
        };
        Ok(Asked {
            inputs,
            dimensions,
            base64,
        })
    }
}

pub(in super::super) async fn answer_with_vectors(
    State(app): State<App>,
    Body(body): Body<EmbeddingsBody>,
) -> Result<Response, Failure<OpenAi>> {
    let model = body.model.clone();
    let asked = Asked::try_from(body)?;
    let made = app.embed(&model, asked.inputs, Overflow::Refuse).await?;
    let length = made.vectors.first().map_or(0, Vec::len);
    if asked.dimensions.is_some_and(|wanted| wanted > length) {
        let why = format!("is more than the {length} that this model makes");
        return Err(RequestError::field("dimensions", why).into());
    }
    let view = |(index, vector): (usize, Vec<f32>)| {
        let vector = shortened(vector, asked.dimensions);
        let vector = match asked.base64 {
            true => base64::encode(&bytes(&vector)).into(),
            false => json!(vector),
        };
        json!({ "object": "embedding", "index": index, "embedding": vector })
    };
    let data: Vec<Value> = made.vectors.into_iter().enumerate().map(view).collect();
    let tokens = made.tokens.unwrap_or(0);
    Ok(answer(
        StatusCode::OK,
        &json!({
            "object": "list",
            "data": data,
            "model": made.model,
            "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        }),
    ))
}

/// Four bytes a number, the lowest first.
fn bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: Value) -> Result<Asked, String> {
        let body: EmbeddingsBody =
            serde_json::from_value(json).map_err(|error| error.to_string())?;
        Asked::try_from(body).map_err(|error| error.to_string())
    }

    #[test]
    fn inputs_come_in_four_forms() {
        for (input, count) in [
            (json!("a"), 1),
            (json!(["a", "b"]), 2),
            (json!([1, 2, 3]), 1),
            (json!([[1], [2, 3]]), 2),
        ] {
            assert_eq!(
                parse(json!({ "input": input })).unwrap().inputs.len(),
                count,
                "{input}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (field, value) in [
            ("input", json!("")),
            ("input", json!([])),
            ("input", json!(["a", ""])),
            ("input", json!([[]])),
            ("encoding_format", json!("hex")),
            ("dimensions", json!(0)),
        ] {
            let mut body = json!({ "input": "a" });
            body[field] = value;
            let error = parse(body.clone()).err().unwrap_or_default();
            assert!(error.contains(&format!("`{field}`")), "{body}: {error}");
        }
    }

    #[test]
    fn numbers_are_four_bytes_each() {
        assert_eq!(base64::encode(&bytes(&[1.0, -2.0])), "AACAPwAAAMA=");
    }
}
