//! `prompt`, which is a text, token ids, both mixed, or a list of those.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::body::RequestError;
use crate::app::{App, AppError};
use crate::domain::Input;

/// Prompts in one request; each takes a place in the queue.
const PROMPTS_MAX: usize = 64;

/// `prompt` as it came.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Prompts(Value);

/// One prompt before its texts have become tokens.
#[derive(Debug, PartialEq)]
enum Prompt {
    Whole(Input),
    Mixed(Vec<Part>),
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Token(u32),
}

impl Prompts {
    /// Reads them; the flag says whether they were a list, which is then answered with a list.
    ///
    /// # Errors
    /// They have none of the forms, or bring pictures.
    pub(super) async fn inputs(
        self,
        app: &App,
        model: &str,
    ) -> Result<(Vec<Input>, bool), PromptError> {
        let (prompts, list) = forms(self.0)?;
        if prompts.len() > PROMPTS_MAX {
            return Err(wrong(&format!("may hold at most {PROMPTS_MAX} prompts")).into());
        }
        let mut inputs = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            inputs.push(match prompt {
                Prompt::Whole(input) => input,
                Prompt::Mixed(parts) => mixed(app, model, parts).await?,
            });
        }
        Ok((inputs, list))
    }
}

/// Either half of what can go wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum PromptError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    App(#[from] AppError),
}

impl crate::error::Failing for PromptError {
    fn kind(&self) -> crate::error::Kind {
        match self {
            PromptError::Request(error) => error.kind(),
            PromptError::App(error) => error.kind(),
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            PromptError::Request(error) => error.code(),
            PromptError::App(error) => error.code(),
        }
    }
}

fn wrong(why: &str) -> RequestError {
    RequestError::field("prompt", why)
}

fn text(text: String) -> Prompt {
    Prompt::Whole(Input::Text {
        text,
        parse_special: true,
    })
}

fn forms(value: Value) -> Result<(Vec<Prompt>, bool), RequestError> {
    match value {
        Value::Null => Err(wrong("is required")),
        Value::Array(items) if items.is_empty() => Err(wrong("is empty")),
        // A flat list with a number in it is one prompt; a list of anything else is several.
        Value::Array(items) if items.iter().any(Value::is_number) => Ok((vec![one(items)?], false)),
        Value::Array(items) => {
            let each = items.into_iter().map(single).collect::<Result<_, _>>()?;
            Ok((each, true))
        }
        other => Ok((vec![single(other)?], false)),
    }
}

fn single(value: Value) -> Result<Prompt, RequestError> {
    match value {
        Value::String(words) => Ok(text(words)),
        Value::Array(items) => one(items),
        Value::Object(object) => of_object(object),
        other => Err(wrong(&format!("cannot be {other}"))),
    }
}

fn of_object(mut object: Map<String, Value>) -> Result<Prompt, RequestError> {
    let files = object.get("multimodal_data").and_then(Value::as_array);
    if files.is_some_and(|files| !files.is_empty()) {
        return Err(RequestError::Unsupported {
            param: "multimodal_data",
            why: "this model reads text only",
        });
    }
    match object.remove("prompt_string") {
        Some(Value::String(words)) => Ok(text(words)),
        _ => Err(wrong("needs `prompt_string` in an object")),
    }
}

/// Token ids, with or without texts between them.
fn one(items: Vec<Value>) -> Result<Prompt, RequestError> {
    let part = |item: Value| match item {
        Value::String(text) => Ok(Part::Text(text)),
        item => match item.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(Part::Token(id)),
            None => Err(wrong(&format!("cannot hold {item}"))),
        },
    };
    let parts: Vec<Part> = items.into_iter().map(part).collect::<Result<_, _>>()?;
    let tokens: Option<Vec<u32>> = parts
        .iter()
        .map(|part| match part {
            Part::Token(id) => Some(*id),
            Part::Text(_) => None,
        })
        .collect();
    Ok(match tokens {
        Some(tokens) => Prompt::Whole(Input::Tokens(tokens)),
        None => Prompt::Mixed(parts),
    })
}

/// A text that begins the prompt gets the mark of a document's begin; one in its middle does not.
async fn mixed(app: &App, model: &str, parts: Vec<Part>) -> Result<Input, AppError> {
    let mut tokens = Vec::new();
    for part in parts {
        match part {
            Part::Token(id) => tokens.push(id),
            Part::Text(text) => {
                let more = app.tokenize(model, text, tokens.is_empty(), true).await?;
                tokens.extend(more.into_iter().map(|token| token.id));
            }
        }
    }
    Ok(Input::Tokens(tokens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prompts_come_in_every_form() {
        for (value, count, list) in [
            (json!("a"), 1, false),
            (json!([1, 2]), 1, false),
            (json!(["a", "b"]), 2, true),
            (json!([[1], "b", {"prompt_string": "c"}]), 3, true),
            (
                json!({"prompt_string": "a", "multimodal_data": []}),
                1,
                false,
            ),
        ] {
            let (prompts, is_list) = forms(value.clone()).unwrap();
            assert_eq!((prompts.len(), is_list), (count, list), "{value}");
        }
        let (mixed, _) = forms(json!([1, "a", 2])).unwrap();
        let parts = [Part::Token(1), Part::Text("a".into()), Part::Token(2)];
        assert_eq!(mixed, [Prompt::Mixed(parts.into())]);
    }

    #[test]
    fn nonsense_is_named() {
        for (value, word) in [
            (json!(null), "required"),
            (json!([]), "empty"),
            (json!(3), "3"),
            (json!([1, -1]), "-1"),
            (json!([true]), "true"),
            (json!({}), "prompt_string"),
            (
                json!({"prompt_string": "a", "multimodal_data": ["aGk="]}),
                "multimodal_data",
            ),
        ] {
            let error = forms(value.clone()).unwrap_err().to_string();
            assert!(error.contains(word), "{value}: {error}");
        }
    }
}
