//! The conversation: `system` and `messages` with their blocks become plain messages.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::body::RequestError;
use crate::domain::{Message, Role, ToolCall};

#[derive(Deserialize, JsonSchema)]
pub(super) struct MessageBody {
    role: String,
    content: Content,
}

/// A text or a list of blocks.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

/// Any block; what each kind needs is checked by name. `cache_control`, `citations` and the `signature` of a thought
/// change nothing here.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Block {
    r#type: String,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Value>,
    tool_use_id: Option<String>,
    content: Option<Content>,
    source: Option<Source>,
}

/// Where a picture lies.
#[derive(Deserialize, JsonSchema)]
struct Source {
    r#type: String,
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
}

impl Source {
    /// Its address, or one that holds its bytes.
    fn address(self) -> Result<String, RequestError> {
        match (self.r#type.as_str(), self.media_type, self.data, self.url) {
            ("base64", Some(kind), Some(data), _) if kind.starts_with("image/") => {
                Ok(format!("data:{kind};base64,{data}"))
            }
            ("url", _, _, Some(url))
                if url.starts_with("http://") || url.starts_with("https://") =>
            {
                Ok(url)
            }
            _ => Err(RequestError::field(
                "messages",
                "has images whose `source` is neither base64 with `media_type` and `data` nor an http address as `url`",
            )),
        }
    }
}

/// Reads `system` and `messages`.
pub(super) fn conversation(
    system: Option<Content>,
    bodies: Vec<MessageBody>,
) -> Result<Vec<Message>, RequestError> {
    if bodies.is_empty() {
        return Err(RequestError::field(
            "messages",
            "needs at least one message",
        ));
    }
    let mut out = Vec::with_capacity(bodies.len() + 1);
    if let Some(system) = system {
        let text = text_of("system", system)?;
        if !text.is_empty() {
            out.push(Message::new(Role::System, text));
        }
    }
    for body in bodies {
        match body.role.as_str() {
            "user" => user(body.content, &mut out)?,
            "assistant" => out.push(assistant(body.content)?),
            // Newer clients put instructions between the turns as well.
            "system" => {
                let text = text_of("messages", body.content)?;
                out.push(Message::new(Role::System, text));
            }
            other => {
                let why = format!("has a role `{other}`; it can be user, assistant or system");
                return Err(RequestError::field("messages", why));
            }
        }
    }
    Ok(out)
}

/// A message of the person: results of tools, each a message of its own, and words.
fn user(content: Content, out: &mut Vec<Message>) -> Result<(), RequestError> {
    let blocks = match content {
        Content::Text(text) => {
            say(text, out);
            return Ok(());
        }
        Content::Blocks(blocks) => blocks,
    };
    let mut texts = Vec::new();
    for block in blocks {
        match block.r#type.as_str() {
            "text" => texts.push(need(block.text, "text", "text")?),
            "image" => {
                let address = need(block.source, "image", "source")?.address()?;
                say(std::mem::take(&mut texts).join("\n"), out);
                if let Some(last) = out.last_mut() {
                    last.pictures.push(address);
                }
            }
            "tool_result" => {
                flush(&mut texts, out);
                let id = need(block.tool_use_id, "tool_result", "tool_use_id")?;
                let content = block
                    .content
                    .map_or(Ok(String::new()), |content| text_of("messages", content))?;
                let called = out
                    .iter()
                    .flat_map(|message| &message.calls)
                    .find(|call| call.id == id);
                let Some(name) = called.map(|call| call.name.clone()) else {
                    let why = format!(
                        "has a tool_result for `{id}`, which no tool_use before it is named"
                    );
                    return Err(RequestError::field("messages", why));
                };
                let mut result = Message::new(Role::Tool, content);
                result.name = Some(name);
                result.answers = Some(id);
                out.push(result);
            }
            other => return Err(not_text("messages", other)),
        }
    }
    flush(&mut texts, out);
    Ok(())
}

fn flush(texts: &mut Vec<String>, out: &mut Vec<Message>) {
    if !texts.is_empty() {
        say(std::mem::take(texts).join("\n"), out);
    }
}

/// Words of the person; Anthropic reads two messages in a row as one turn, and most templates insist on turns.
fn say(text: String, out: &mut Vec<Message>) {
    match out.last_mut().filter(|last| last.role == Role::User) {
        Some(last) if text.is_empty() || last.content.is_empty() => last.content.push_str(&text),
        Some(last) => {
            last.content.push('\n');
            last.content.push_str(&text);
        }
        None => out.push(Message::new(Role::User, text)),
    }
}

fn assistant(content: Content) -> Result<Message, RequestError> {
    let blocks = match content {
        Content::Text(text) => return Ok(Message::new(Role::Assistant, text)),
        Content::Blocks(blocks) => blocks,
    };
    let (mut texts, mut thoughts, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        match block.r#type.as_str() {
            "text" => texts.push(need(block.text, "text", "text")?),
            "thinking" => thoughts.push(need(block.thinking, "thinking", "thinking")?),
            "redacted_thinking" => {} // readable by Anthropic alone
            "tool_use" => calls.push(ToolCall {
                id: need(block.id, "tool_use", "id")?,
                name: need(block.name, "tool_use", "name")?,
                arguments: need(block.input, "tool_use", "input")?.to_string(),
            }),
            other => return Err(not_text("messages", other)),
        }
    }
    let mut message = Message::new(Role::Assistant, texts.join("\n"));
    message.reasoning = (!thoughts.is_empty()).then(|| thoughts.join("\n"));
    message.calls = calls;
    Ok(message)
}

/// The words of a place that holds nothing else.
fn text_of(param: &'static str, content: Content) -> Result<String, RequestError> {
    let blocks = match content {
        Content::Text(text) => return Ok(text),
        Content::Blocks(blocks) => blocks,
    };
    let mut texts = Vec::with_capacity(blocks.len());
    for block in blocks {
        match block.r#type.as_str() {
            "text" => texts.push(need(block.text, "text", "text")?),
            other => return Err(not_text(param, other)),
        }
    }
    Ok(texts.join("\n"))
}

fn need<T>(value: Option<T>, block: &str, field: &str) -> Result<T, RequestError> {
    value.ok_or_else(|| {
        RequestError::field("messages", format!("has a {block} block without `{field}`"))
    })
}

fn not_text(param: &'static str, kind: &str) -> RequestError {
    match kind {
        "image" => RequestError::Unsupported {
            param,
            why: "this model does not read images",
        },
        "document" => RequestError::Unsupported {
            param,
            why: "this model does not read documents; send their text",
        },
        other => RequestError::field(
            param,
            format!("has a block of the type `{other}`, which is not known at this place"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(system: Value, messages: Value) -> Result<Vec<Message>, String> {
        let system = serde_json::from_value(system).map_err(|error| error.to_string())?;
        let bodies = serde_json::from_value(messages).map_err(|error| error.to_string())?;
        conversation(system, bodies).map_err(|error| error.to_string())
    }

    #[test]
    fn blocks_of_every_kind_become_messages() {
        let messages = read(
            json!([{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "t"}]),
            json!([
                {"role": "user", "content": "a"},
                {"role": "user", "content": [{"type": "text", "text": "b"}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "look"},
                    {"type": "tool_use", "id": "toolu_1", "name": "see", "input": {"at": 1}}
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "seen"}]},
                    {"type": "text", "text": "and?"}
                ]}
            ]),
        )
        .unwrap();
        let said: Vec<_> = messages
            .iter()
            .map(|m| (m.role, m.content.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                (Role::System, "s\nt"),
                (Role::User, "a\nb"),
                (Role::Assistant, "look"),
                (Role::Tool, "seen"),
                (Role::User, "and?"),
            ]
        );
        assert_eq!(messages[2].reasoning.as_deref(), Some("hm"));
        assert_eq!(messages[2].calls[0].arguments, r#"{"at":1}"#);
        assert_eq!(messages[3].name.as_deref(), Some("see"));
        assert_eq!(messages[3].answers.as_deref(), Some("toolu_1"));
    }

    #[test]
    fn nonsense_is_named() {
        for (messages, word) in [
            (json!([]), "at least one"),
            (json!([{"role": "king", "content": "x"}]), "king"),
            (json!([{"role": "king", "content": "x"}]), "king"),
            (
                json!([{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]),
                "images",
            ),
            (
                json!([{"role": "user", "content": [{"type": "document"}]}]),
                "documents",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                "without `text`",
            ),
            (
                json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "no"}]}]),
                "`no`",
            ),
            (
                json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b"}]}]),
                "without `input`",
            ),
            (
                json!([{"role": "user", "content": [{"type": "tool_use"}]}]),
                "`tool_use`",
            ),
        ] {
            let error = read(Value::Null, messages.clone()).unwrap_err();
            assert!(error.contains(word), "{messages}: {error}");
        }
    }
}
