//! The messages of a chat request: roles, text parts, calls of tools and their results.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::body::RequestError;
use crate::domain::{Message, Role, ToolCall};

#[derive(Deserialize, JsonSchema)]
pub(super) struct MessageBody {
    role: String,
    content: Option<Content>,
    name: Option<String>,
    /// Not OpenAI's own, but what llama-server, vLLM and DeepSeek answer with and take back.
    reasoning_content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallBody>>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize, JsonSchema)]
struct Part {
    r#type: String,
    text: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct CallBody {
    id: String,
    function: FunctionCallBody,
}

#[derive(Deserialize, JsonSchema)]
struct FunctionCallBody {
    name: String,
    arguments: String,
}

impl TryFrom<MessageBody> for Message {
    type Error = RequestError;

    fn try_from(body: MessageBody) -> Result<Message, RequestError> {
        let wrong = |why: String| RequestError::field("messages", why);
        // `function` is the name that tool results had before 2023-11.
        let role = match body.role.as_str() {
            "function" => Role::Tool,
            name => Role::parse(name)
                .ok_or_else(|| wrong(format!("has a role `{name}` that does not exist")))?,
        };
        let calls = body.tool_calls.unwrap_or_default();
        if !calls.is_empty() && role != Role::Assistant {
            return Err(wrong(
                "has `tool_calls` outside of an assistant's message".to_owned(),
            ));
        }
        let content = match body.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => join(parts)?,
        };
        Ok(Message {
            role,
            content,
            name: body.name,
            reasoning: body.reasoning_content,
            calls: calls.into_iter().map(ToolCall::from).collect(),
            answers: body.tool_call_id,
        })
    }
}

impl From<CallBody> for ToolCall {
    fn from(body: CallBody) -> ToolCall {
        ToolCall {
            id: body.id,
            name: body.function.name,
            arguments: body.function.arguments,
        }
    }
}

fn join(parts: Vec<Part>) -> Result<String, RequestError> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        match (part.r#type.as_str(), part.text, part.refusal) {
            ("text" | "input_text" | "output_text", Some(text), _) => texts.push(text),
            ("refusal", _, Some(text)) => texts.push(text),
            ("text" | "input_text" | "output_text", None, _) => {
                return Err(RequestError::field(
                    "messages",
                    "has a text part without `text`",
                ));
            }
            (other, _, _) => {
                return Err(RequestError::Unsupported {
                    param: "messages",
                    why: no_part(other),
                });
            }
        }
    }
    Ok(texts.join("\n"))
}

/// Why a part that is no text is refused.
pub(super) fn no_part(kind: &str) -> &'static str {
    match kind {
        "image_url" | "input_image" => "this model does not see images; describe them in text",
        "input_audio" => "this model does not hear; send what was said as text",
        "file" | "input_file" => "this route opens no files; send their text",
        _ => "this model reads text parts only",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn message(json: Value) -> Result<Message, String> {
        let body: MessageBody = serde_json::from_value(json).map_err(|error| error.to_string())?;
        Message::try_from(body).map_err(|error| error.to_string())
    }

    #[test]
    fn a_call_and_its_result_come_through() {
        let called = message(json!({
            "role": "assistant", "content": null, "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]
        }))
        .unwrap();
        assert_eq!(called.reasoning.as_deref(), Some("hm"));
        assert_eq!(called.calls[0].arguments, "{\"a\":1}");
        let result = message(json!({"role": "tool", "tool_call_id": "c", "content": "2"})).unwrap();
        assert_eq!(
            (result.role, result.answers.as_deref()),
            (Role::Tool, Some("c"))
        );
    }

    #[test]
    fn nonsense_is_named() {
        for (json, word) in [
            (json!({"role": "king", "content": "x"}), "king"),
            (
                json!({"role": "user", "content": [{"type": "image_url"}]}),
                "images",
            ),
            (
                json!({"role": "user", "content": [{"type": "input_audio"}]}),
                "does not hear",
            ),
            (
                json!({"role": "user", "content": [{"type": "hologram"}]}),
                "text parts",
            ),
            (
                json!({"role": "user", "content": [{"type": "text"}]}),
                "without `text`",
            ),
            (
                json!({"role": "user", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}),
                "tool_calls",
            ),
        ] {
            let error = message(json.clone()).unwrap_err();
            assert!(error.contains(word), "{json}: {error}");
        }
    }
}
