//! `POST /tokenize`, `/detokenize` and `/apply-template`: what a model would read, without asking it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::body::{Body, RequestError, Wire};
use super::super::failure::{Failure, json as answer};
use super::LlamaCpp;
use crate::app::{App, Token};
use crate::domain::{ChatRequest, Input, Message, Role, Tool, ToolCall};

#[derive(Deserialize)]
pub(in super::super) struct TokenizeBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    add_special: bool,
    #[serde(default = "yes")]
    parse_special: bool,
    #[serde(default)]
    with_pieces: bool,
}

fn yes() -> bool {
    true
}

impl Wire for TokenizeBody {
    type Dialect = LlamaCpp;
}

#[derive(Deserialize)]
pub(in super::super) struct DetokenizeBody {
    #[serde(default)]
    model: String,
    #[serde(default)]
    tokens: Vec<u32>,
}

impl Wire for DetokenizeBody {
    type Dialect = LlamaCpp;
}

/// The messages of a conversation, in the same form as for chat completions.
#[derive(Deserialize)]
pub(in super::super) struct TemplateBody {
    #[serde(default)]
    model: String,
    messages: Vec<MessageBody>,
    tools: Option<Vec<ToolBody>>,
    chat_template_kwargs: Option<KwargsBody>,
}

impl Wire for TemplateBody {
    type Dialect = LlamaCpp;
}

#[derive(Deserialize)]
struct KwargsBody {
    enable_thinking: Option<bool>,
}

#[derive(Deserialize)]
struct MessageBody {
    role: String,
    #[serde(default)]
    content: Value,
    name: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<CallBody>>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct CallBody {
    id: Option<String>,
    function: CalledBody,
}

#[derive(Deserialize)]
struct CalledBody {
    name: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
struct ToolBody {
    function: FunctionBody,
}

#[derive(Deserialize)]
struct FunctionBody {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
}

pub(in super::super) async fn tokenize(
    State(app): State<App>,
    Body(body): Body<TokenizeBody>,
) -> Result<Response, Failure<LlamaCpp>> {
    // Without a text there are no tokens, as with the original.
    let text = match body.content {
        Value::Null => String::new(),
        Value::String(text) => text,
        _ => return Err(RequestError::field("content", "must be a text").into()),
    };
    let tokens = app
        .tokenize(&body.model, text, body.add_special, body.parse_special)
        .await?;
    let view = |token: Token| match (body.with_pieces, std::str::from_utf8(&token.bytes)) {
        (false, _) => token.id.into(),
        (true, Ok(piece)) => json!({ "id": token.id, "piece": piece }),
        (true, Err(_)) => json!({ "id": token.id, "piece": token.bytes }),
    };
    let tokens: Vec<Value> = tokens.into_iter().map(view).collect();
    Ok(answer(StatusCode::OK, &json!({ "tokens": tokens })))
}

pub(in super::super) async fn detokenize(
    State(app): State<App>,
    Body(body): Body<DetokenizeBody>,
) -> Result<Response, Failure<LlamaCpp>> {
    let content = app.detokenize(&body.model, &body.tokens).await?;
    Ok(answer(StatusCode::OK, &json!({ "content": content })))
}

pub(in super::super) async fn apply_template(
    State(app): State<App>,
    Body(body): Body<TemplateBody>,
) -> Result<Response, Failure<LlamaCpp>> {
    if body.messages.is_empty() {
        return Err(RequestError::field("messages", "is empty").into());
    }
    let messages: Result<_, RequestError> = body.messages.into_iter().map(message).collect();
    let tools = body.tools.unwrap_or_default().into_iter();
    let request = ChatRequest {
        tools: tools.map(tool).collect(),
        thinking: body
            .chat_template_kwargs
            .and_then(|kwargs| kwargs.enable_thinking),
        ..ChatRequest::new(body.model, Input::Messages(messages?))
    };
    let prompt = app.prompt_text(&request).await?;
    Ok(answer(StatusCode::OK, &json!({ "prompt": prompt })))
}

fn tool(body: ToolBody) -> Tool {
    let function = body.function;
    let nothing = || json!({ "type": "object", "properties": {} });
    Tool {
        name: function.name,
        description: function.description,
        parameters: function.parameters.unwrap_or_else(nothing).to_string(),
    }
}

fn message(body: MessageBody) -> Result<Message, RequestError> {
    let wrong = |why: String| RequestError::field("messages", why);
    let role = Role::parse(&body.role)
        .ok_or_else(|| wrong(format!("has a role `{}` that does not exist", body.role)))?;
    let content = match body.content {
        Value::Null => String::new(),
        Value::String(text) => text,
        Value::Array(parts) => {
            let text = |part: &Value| part["text"].as_str().map(str::to_owned);
            let texts: Option<Vec<String>> = parts.iter().map(text).collect();
            texts
                .ok_or_else(|| wrong("has a part that is no text".to_owned()))?
                .join("\n")
        }
        other => return Err(wrong(format!("has a `content` that cannot be {other}"))),
    };
    let call = |call: CallBody| ToolCall {
        id: call.id.unwrap_or_default(),
        name: call.function.name,
        arguments: match call.function.arguments {
            Value::String(text) => text,
            Value::Null => "{}".to_owned(),
            object => object.to_string(),
        },
    };
    let calls = body.tool_calls.unwrap_or_default().into_iter();
    Ok(Message {
        name: body.name,
        reasoning: body.reasoning_content,
        calls: calls.map(call).collect(),
        answers: body.tool_call_id,
        ..Message::new(role, content)
    })
}
