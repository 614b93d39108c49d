//! `tools`, `tool_choice` and `response_format`: what a model may call, and the shape of its answer.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::body::RequestError;
use crate::domain::{Shape, Tool, ToolChoice};

/// Longest name of a tool, OpenAI's own limit.
const NAME_LENGTH_MAX: usize = 64;

#[derive(Deserialize, JsonSchema)]
pub(super) struct ToolBody {
    r#type: String,
    function: Option<FunctionBody>,
}

/// A function as `tools` and the older `functions` describe it.
#[derive(Deserialize, JsonSchema)]
pub(super) struct FunctionBody {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum ToolChoiceBody {
    Word(String),
    Function {
        function: NameBody,
    },
    /// The older `function_call`.
    Name(NameBody),
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct NameBody {
    name: String,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct FormatBody {
    r#type: String,
    json_schema: Option<SchemaBody>,
}

#[derive(Deserialize, JsonSchema)]
struct SchemaBody {
    schema: Option<Value>,
}

/// Reads `tools`.
pub(super) fn tools(bodies: Vec<ToolBody>) -> Result<Vec<Tool>, RequestError> {
    let functions = bodies.into_iter().map(|body| match body.function {
        Some(function) if body.r#type == "function" => Ok(function),
        _ => Err(RequestError::Unsupported {
            param: "tools",
            why: "only tools of the type `function` are known here",
        }),
    });
    functions.map(|function| tool(function?)).collect()
}

/// Reads one function.
pub(super) fn tool(body: FunctionBody) -> Result<Tool, RequestError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if body.name.is_empty() || body.name.len() > NAME_LENGTH_MAX || !body.name.chars().all(allowed)
    {
        let why = format!(
            "has a name `{}` that is not 1 to {NAME_LENGTH_MAX} letters, digits, `_`, `-` or `.`",
            body.name
        );
        return Err(RequestError::field("tools", why));
    }
    let parameters = match body.parameters {
        None | Some(Value::Null) => r#"{"type":"object","properties":{}}"#.to_owned(),
        Some(schema @ Value::Object(_)) => schema.to_string(),
        Some(_) => {
            let why = format!(
                "describes `{}` with `parameters` that are no JSON Schema object",
                body.name
            );
            return Err(RequestError::field("tools", why));
        }
    };
    Ok(Tool {
        name: body.name,
        description: body.description,
        parameters,
    })
}

/// Reads `tool_choice`, which may only name a tool that is offered.
pub(super) fn choice(
    body: Option<ToolChoiceBody>,
    tools: &[Tool],
) -> Result<ToolChoice, RequestError> {
    let choice = match body {
        None => return Ok(ToolChoice::Auto),
        Some(ToolChoiceBody::Word(word)) => match word.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" => ToolChoice::Required,
            other => {
                let why =
                    format!("is `{other}`; it can be auto, none, required, or name a function");
                return Err(RequestError::field("tool_choice", why));
            }
        },
        Some(
            ToolChoiceBody::Function {
                function: NameBody { name },
            }
            | ToolChoiceBody::Name(NameBody { name }),
        ) => {
            if !tools.iter().any(|tool| tool.name == name) {
                let why = format!("names `{name}`, which is not among `tools`");
                return Err(RequestError::field("tool_choice", why));
            }
            ToolChoice::Named(name)
        }
    };
    if tools.is_empty() && choice == ToolChoice::Required {
        return Err(RequestError::field(
            "tool_choice",
            "is `required`, but there are no `tools`",
        ));
    }
    Ok(choice)
}

/// Reads `response_format`.
pub(super) fn shape(body: Option<FormatBody>) -> Result<Shape, RequestError> {
    let Some(body) = body else {
        return Ok(Shape::Free);
    };
    match (body.r#type.as_str(), body.json_schema) {
        ("text", _) => Ok(Shape::Free),
        ("json_object", _) => Ok(Shape::Json),
        (
            "json_schema",
            Some(SchemaBody {
                schema: Some(schema),
            }),
        ) => Ok(Shape::Schema(schema.to_string())),
        ("json_schema", _) => Err(RequestError::field(
            "response_format",
            "is of the type json_schema and needs `json_schema.schema`",
        )),
        (other, _) => {
            let why =
                format!("is of the type `{other}`; it can be text, json_object or json_schema");
            Err(RequestError::field("response_format", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: Value) -> Result<Vec<Tool>, String> {
        let bodies: Vec<ToolBody> =
            serde_json::from_value(json).map_err(|error| error.to_string())?;
        tools(bodies).map_err(|error| error.to_string())
    }

    #[test]
    fn tools_come_in_all_their_forms() {
        let tools = read(json!([
            {"type": "function", "function": {"name": "a"}},
            {"type": "function", "function": {"name": "b", "description": "d", "parameters": {"type": "object"}}}
        ]))
        .unwrap();
        assert_eq!(tools[0].parameters, r#"{"type":"object","properties":{}}"#);
        assert_eq!(tools[1].description.as_deref(), Some("d"));
        for (json, word) in [
            (json!([{"type": "retrieval"}]), "function"),
            (
                json!([{"type": "function", "function": {"name": "a b"}}]),
                "`a b`",
            ),
            (
                json!([{"type": "function", "function": {"name": "a", "parameters": 3}}]),
                "`a`",
            ),
        ] {
            assert!(read(json.clone()).unwrap_err().contains(word), "{json}");
        }
    }

    #[test]
    fn a_choice_names_what_is_there() {
        let tools = read(json!([{"type": "function", "function": {"name": "a"}}])).unwrap();
        let read = |json: Value| choice(Some(serde_json::from_value(json).unwrap()), &tools);
        for (json, expected) in [
            (json!("auto"), ToolChoice::Auto),
            (json!("none"), ToolChoice::None),
            (json!("required"), ToolChoice::Required),
            (
                json!({"type": "function", "function": {"name": "a"}}),
                ToolChoice::Named("a".into()),
            ),
            (json!({"name": "a"}), ToolChoice::Named("a".into())),
        ] {
            assert_eq!(read(json).unwrap(), expected);
        }
        assert!(read(json!({"name": "b"})).is_err());
        assert!(read(json!("perhaps")).is_err());
        assert!(choice(Some(ToolChoiceBody::Word("required".into())), &[]).is_err());
    }

    #[test]
    fn formats_become_shapes() {
        let read = |json: Value| shape(Some(serde_json::from_value(json).unwrap()));
        assert_eq!(read(json!({"type": "text"})).unwrap(), Shape::Free);
        assert_eq!(read(json!({"type": "json_object"})).unwrap(), Shape::Json);
        let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
        assert_eq!(
            read(schema).unwrap(),
            Shape::Schema(r#"{"type":"object"}"#.into())
        );
        assert!(read(json!({"type": "json_schema"})).is_err());
        assert!(read(json!({"type": "yaml"})).is_err());
    }
}
