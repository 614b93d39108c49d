//! `input`: a text or a list of items, which become plain messages.

use serde_json::Value;

use super::super::super::body::RequestError;
use super::super::messages::{address, no_part};
use crate::domain::{Message, Role, ToolCall};

/// `input` as the list of items that it stands for; this is also the form in which it is kept.
pub(super) fn items(input: Value) -> Result<Vec<Value>, RequestError> {
    match input {
        Value::String(text) => Ok(vec![
            serde_json::json!({ "type": "message", "role": "user", "content": text }),
        ]),
        Value::Array(items) if !items.is_empty() => Ok(items),
        Value::Array(_) | Value::Null => Err(wrong("is empty")),
        _ => Err(wrong("is neither a text nor a list of items")),
    }
}

fn wrong(why: impl Into<String>) -> RequestError {
    RequestError::field("input", why)
}

/// Reads items, in the order of the conversation.
pub(super) fn messages(
    instructions: Option<&str>,
    items: &[Value],
) -> Result<Vec<Message>, RequestError> {
    let mut out = Vec::with_capacity(items.len() + 1);
    if let Some(text) = instructions.filter(|text| !text.is_empty()) {
        out.push(Message::new(Role::System, text));
    }
    // What the model thought stands before the message or call that followed it.
    let mut thought: Option<String> = None;
    for item in items {
        let text = |field: &str| {
            item[field].as_str().map(str::to_owned).ok_or_else(|| {
                wrong(format!(
                    "has an item of the type `{}` without `{field}`",
                    kind(item)
                ))
            })
        };
        match kind(item) {
            "message" => {
                let name = text("role")?;
                let role = Role::parse(&name)
                    .filter(|role| *role != Role::Tool)
                    .ok_or_else(|| wrong(format!("has a role `{name}` that does not exist")))?;
                let (shown, said) = apart(&item["content"]);
                let mut message = Message::new(role, words(&said)?);
                for url in shown {
                    message.pictures.push(address(url).map_err(wrong)?);
                }
                if !message.pictures.is_empty() && role != Role::User {
                    return Err(wrong("shows images outside of a user's message"));
                }
                if role == Role::Assistant {
                    message.reasoning = thought.take();
                }
                out.push(message);
            }
            "function_call" => {
                let call = ToolCall {
                    id: text("call_id")?,
                    name: text("name")?,
                    arguments: text("arguments")?,
                };
                match out.last_mut() {
                    Some(last) if last.role == Role::Assistant => last.calls.push(call),
                    _ => {
                        let mut message = Message::new(Role::Assistant, "");
                        message.reasoning = thought.take();
                        message.calls.push(call);
                        out.push(message);
                    }
                }
            }
            "function_call_output" => {
                let id = text("call_id")?;
                let called = out
                    .iter()
                    .flat_map(|message| &message.calls)
                    .find(|call| call.id == id);
                let Some(name) = called.map(|call| call.name.clone()) else {
                    let why = format!("has a result of `{id}`, which no call before it is named");
                    return Err(wrong(why));
                };
                let mut result = Message::new(Role::Tool, words(&item["output"])?);
                result.name = Some(name);
                result.answers = Some(id);
                out.push(result);
            }
            "reasoning" => thought = words(&item["content"]).ok().filter(|t| !t.is_empty()),
            other => {
                let why = format!("has an item of the type `{other}`, which is not known here");
                return Err(wrong(why));
            }
        }
    }
    Ok(out)
}

/// An item's type; a message may leave it out.
fn kind(item: &Value) -> &str {
    match item["type"].as_str() {
        Some(kind) => kind,
        None if item["role"].is_string() => "message",
        None => "",
    }
}

/// The addresses of pictures, and the content without them. A picture without an address stays, to be refused by name.
fn apart(content: &Value) -> (Vec<String>, Value) {
    let Value::Array(parts) = content else {
        return (Vec::new(), content.clone());
    };
    let mut shown = Vec::new();
    let mut rest = Vec::with_capacity(parts.len());
    for part in parts {
        match (part["type"].as_str(), part["image_url"].as_str()) {
            (Some("input_image"), Some(url)) => shown.push(url.to_owned()),
            _ => rest.push(part.clone()),
        }
    }
    (shown, rest.into())
}

/// The words of a text or of a list of text parts.
fn words(content: &Value) -> Result<String, RequestError> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        Value::Null => return Ok(String::new()),
        _ => {
            return Err(wrong(
                "has content that is neither a text nor a list of parts",
            ));
        }
    };
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        let field = match part["type"].as_str() {
            Some("refusal") => "refusal",
            Some("text" | "input_text" | "output_text" | "reasoning_text") => "text",
            other => {
                return Err(RequestError::Unsupported {
                    param: "input",
                    why: no_part(other.unwrap_or_default()),
                });
            }
        };
        let text = part[field].as_str();
        texts.push(text.ok_or_else(|| wrong("has a text part without `text`"))?);
    }
    Ok(texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(input: Value) -> Result<Vec<Message>, String> {
        let items = items(input).map_err(|error| error.to_string())?;
        messages(Some("s"), &items).map_err(|error| error.to_string())
    }

    #[test]
    fn items_of_every_kind_become_messages() {
        let messages = read(json!([
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c2", "output": "2"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]}
        ]))
        .unwrap();
        let said: Vec<_> = messages
            .iter()
            .map(|m| (m.role, m.content.as_str(), m.calls.len()))
            .collect();
        assert_eq!(
            said,
            [
                (Role::System, "s", 0),
                (Role::User, "a", 0),
                (Role::Assistant, "", 2),
                (Role::Tool, "2", 0),
                (Role::Assistant, "b", 0),
            ]
        );
        assert_eq!(messages[2].reasoning.as_deref(), Some("hm"));
        assert_eq!(messages[3].name.as_deref(), Some("g"));
        assert_eq!(read(json!("x")).unwrap()[1].content, "x");
    }

    #[test]
    fn nonsense_is_named() {
        for (input, word) in [
            (json!([]), "empty"),
            (json!(3), "neither"),
            (json!([{"role": "king", "content": "x"}]), "king"),
            (
                json!([{"type": "item_reference", "id": "x"}]),
                "item_reference",
            ),
            (
                json!([{"role": "user", "content": [{"type": "input_image"}]}]),
                "images",
            ),
            (
                json!([{"type": "function_call_output", "call_id": "c", "output": "x"}]),
                "`c`",
            ),
            (json!([{"type": "function_call", "name": "f"}]), "call_id"),
        ] {
            let error = read(input.clone()).unwrap_err();
            assert!(error.contains(word), "{input}: {error}");
        }
    }
}
