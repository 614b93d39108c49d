//! The messages and tools of a chat request. Ollama's calls carry their arguments as objects and often have
//! no identifier; the ones made up here tie a call to its result.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::body::RequestError;
use crate::domain::{Message, Role, Tool, ToolCall};

/// Longest name of a tool, as everywhere here.
const NAME_LENGTH_MAX: usize = 64;

#[derive(Deserialize, JsonSchema)]
pub(super) struct MessageBody {
    role: String,
    #[serde(default)]
    content: Option<String>,
    thinking: Option<String>,
    images: Option<Vec<Value>>,
    tool_calls: Option<Vec<CallBody>>,
    #[serde(alias = "name")]
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct CallBody {
    id: Option<String>,
    function: CalledBody,
}

#[derive(Deserialize, JsonSchema)]
struct CalledBody {
    name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct ToolBody {
    function: FunctionBody,
}

#[derive(Deserialize, JsonSchema)]
struct FunctionBody {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
}

/// Reads a conversation.
pub(super) fn messages(bodies: Vec<MessageBody>) -> Result<Vec<Message>, RequestError> {
    let mut calls = 0;
    // Calls of the last assistant's message whose results have not come yet, in order.
    let mut open: Vec<String> = Vec::new();
    let mut out = Vec::with_capacity(bodies.len());
    for body in bodies {
        let wrong = |why: String| RequestError::field("messages", why);
        let role = Role::parse(&body.role)
            .ok_or_else(|| wrong(format!("has a role `{}` that does not exist", body.role)))?;
        let mut message = Message::new(role, body.content.unwrap_or_default());
        message.pictures = pictures(body.images.unwrap_or_default())?;
        message.reasoning = body.thinking.filter(|text| !text.is_empty());
        match role {
            Role::Assistant => {
                for call in body.tool_calls.unwrap_or_default() {
                    calls += 1;
                    message.calls.push(ToolCall {
                        id: call.id.unwrap_or_else(|| format!("call_{calls}")),
                        name: call.function.name,
                        arguments: Value::Object(call.function.arguments).to_string(),
                    });
                }
                open = message.calls.iter().map(|call| call.id.clone()).collect();
            }
            Role::Tool => {
                let next = (!open.is_empty()).then(|| open.remove(0));
                message.name = body.tool_name;
                message.answers = body.tool_call_id.or(next);
            }
            Role::System | Role::User => {}
        }
        out.push(message);
    }
    Ok(out)
}

/// How the usual formats of pictures begin in base64.
const FORMATS: [(&str, &str); 4] = [
    ("iVBORw0", "png"),
    ("/9j/", "jpeg"),
    ("R0lGOD", "gif"),
    ("UklGR", "webp"),
];

/// Reads `images`: bytes in base64, without their format.
pub(super) fn pictures(images: Vec<Value>) -> Result<Vec<String>, RequestError> {
    let picture = |image: Value| {
        let bytes = image.as_str().unwrap_or_default();
        let format = FORMATS.iter().find(|(start, _)| bytes.starts_with(start));
        match format {
            Some((_, format)) => Ok(format!("data:image/{format};base64,{bytes}")),
            None => Err(RequestError::field(
                "images",
                "must hold PNG, JPEG, GIF or WebP files as base64",
            )),
        }
    };
    images.into_iter().map(picture).collect()
}

/// Reads `tools`.
pub(super) fn tools(bodies: Vec<ToolBody>) -> Result<Vec<Tool>, RequestError> {
    let tool = |ToolBody { function }: ToolBody| {
        let wrong = |why: String| Err(RequestError::field("tools", why));
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = function.name;
        if name.is_empty() || name.len() > NAME_LENGTH_MAX || !name.chars().all(allowed) {
            return wrong(format!(
                "has a name `{name}` that is not 1 to {NAME_LENGTH_MAX} letters, digits, `_`, `-` or `.`"
            ));
        }
        let parameters = match function.parameters {
            None | Some(Value::Null) => r#"{"type":"object","properties":{}}"#.to_owned(),
            Some(schema @ Value::Object(_)) => schema.to_string(),
            Some(_) => {
                return wrong(format!(
                    "describes `{name}` with `parameters` that are no JSON Schema object"
                ));
            }
        };
        Ok(Tool {
            name,
            description: function.description,
            parameters,
        })
    };
    bodies.into_iter().map(tool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: Value) -> Result<Vec<Message>, String> {
        let bodies = serde_json::from_value(json).map_err(|error| error.to_string())?;
        messages(bodies).map_err(|error| error.to_string())
    }

    #[test]
    fn calls_without_identifiers_meet_their_results() {
        let messages = read(json!([
            {"role": "user", "content": "go"},
            {"role": "assistant", "thinking": "hm", "tool_calls": [
                {"function": {"name": "a", "arguments": {"x": 1}}},
                {"function": {"name": "b"}}
            ]},
            {"role": "tool", "tool_name": "a", "content": "1"},
            {"role": "tool", "tool_name": "b", "content": "2"}
        ]))
        .unwrap();
        assert_eq!(messages[1].reasoning.as_deref(), Some("hm"));
        assert_eq!(messages[1].calls[0].arguments, r#"{"x":1}"#);
        assert_eq!(messages[1].calls[1].arguments, "{}");
        let answers: Vec<_> = messages[2..]
            .iter()
            .map(|message| message.answers.clone().unwrap())
            .collect();
        assert_eq!(
            answers,
            [
                messages[1].calls[0].id.clone(),
                messages[1].calls[1].id.clone()
            ]
        );
    }

    #[test]
    fn nonsense_is_named() {
        for (json, word) in [
            (json!([{"role": "king", "content": "x"}]), "king"),
            (
                json!([{"role": "user", "content": "x", "images": ["aGk="]}]),
                "images",
            ),
            (
                json!([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]),
                "map",
            ),
        ] {
            assert!(read(json.clone()).unwrap_err().contains(word), "{json}");
        }
        let bad: Vec<ToolBody> =
            serde_json::from_value(json!([{"function": {"name": "a b"}}])).unwrap();
        assert!(tools(bad).unwrap_err().to_string().contains("`a b`"));
    }
}
