//! The messages of a chat request: roles, text parts, calls of tools and their results.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::body::RequestError;
use super::super::failure::Failure;
use super::OpenAi;
use crate::app::App;
use crate::domain::{ChatRequest, Message, Role, ToolCall};

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
    image_url: Option<Picture>,
}

/// Chat writes an object, Responses the bare address.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Picture {
    Address(String),
    Object { url: String },
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
        let mut pictures = Vec::new();
        let content = match body.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => join(parts, &mut pictures)?,
        };
        if !pictures.is_empty() && role != Role::User {
            return Err(wrong("shows images outside of a user's message".to_owned()));
        }
        Ok(Message {
            role,
            content,
            name: body.name,
            reasoning: body.reasoning_content,
            calls: calls.into_iter().map(ToolCall::from).collect(),
            answers: body.tool_call_id,
            pictures,
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

fn join(parts: Vec<Part>, pictures: &mut Vec<String>) -> Result<String, RequestError> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        if let ("image_url" | "input_image", Some(picture)) = (&*part.r#type, part.image_url) {
            let (Picture::Address(url) | Picture::Object { url }) = picture;
            pictures.push(address(url).map_err(|why| RequestError::field("messages", why))?);
            continue;
        }
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

/// Checks where a picture lies: nothing on this machine's disks can be meant.
pub(super) fn address(url: String) -> Result<String, String> {
    let known = ["http://", "https://", "data:image/"];
    match known.iter().any(|start| url.starts_with(start)) {
        true => Ok(url),
        false => {
            let start: String = url.chars().take(40).collect();
            Err(format!(
                "shows images at `{start}`; they lie at an http or https address or in a data:image/ one"
            ))
        }
    }
}

/// Refuses pictures where no lane of the model sees them.
pub(super) async fn check_pictures(
    app: &App,
    request: &ChatRequest,
    param: &'static str,
) -> Result<(), Failure<OpenAi>> {
    if request.shows_pictures() && !app.sees(&request.model).await? {
        let why = no_part("image_url");
        return Err(RequestError::Unsupported { param, why }.into());
    }
    Ok(())
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
    fn pictures_have_an_address_that_somebody_else_may_open() {
        let shown = |url: &str| {
            message(json!({"role": "user", "content": [
                {"type": "text", "text": "this?"}, {"type": "image_url", "image_url": {"url": url}}
            ]}))
        };
        let seen = shown("data:image/png;base64,iVBORw0=").unwrap();
        assert_eq!((seen.content.as_str(), seen.pictures.len()), ("this?", 1));
        for url in ["file:///etc/passwd", "/etc/passwd", "data:text/html,x"] {
            assert!(shown(url).unwrap_err().contains("data:image/"), "{url}");
        }
        let said = json!({"role": "assistant", "content": [{"type": "image_url", "image_url": "https://a/b.png"}]});
        assert!(message(said).unwrap_err().contains("user's"));
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
