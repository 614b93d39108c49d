//! `tools`, `tool_choice` and `output_config`: what a model may call, and the shape of its answer.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::super::body::RequestError;
use crate::domain::{Shape, Tool, ToolChoice};

/// Longest name of a tool, Anthropic's own limit.
const NAME_LENGTH_MAX: usize = 128;

#[derive(Deserialize, JsonSchema)]
pub(super) struct ToolBody {
    /// `custom` or nothing; anything else is a tool that Anthropic's own servers run.
    r#type: Option<String>,
    name: String,
    description: Option<String>,
    input_schema: Option<Value>,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct ChoiceBody {
    r#type: String,
    name: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct OutputBody {
    format: Option<FormatBody>,
}

#[derive(Deserialize, JsonSchema)]
struct FormatBody {
    r#type: String,
    schema: Option<Value>,
}

/// Reads `tools`.
pub(super) fn tools(bodies: Vec<ToolBody>) -> Result<Vec<Tool>, RequestError> {
    bodies.into_iter().map(tool).collect()
}

fn tool(body: ToolBody) -> Result<Tool, RequestError> {
    let wrong = |why: String| Err(RequestError::field("tools", why));
    if let Some(kind) = body.r#type.filter(|kind| kind != "custom") {
        return wrong(format!(
            "holds `{}` of the type `{kind}`; only custom tools are known here",
            body.name
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if body.name.is_empty() || body.name.len() > NAME_LENGTH_MAX || !body.name.chars().all(allowed)
    {
        return wrong(format!(
            "has a name `{}` that is not 1 to {NAME_LENGTH_MAX} letters, digits, `_` or `-`",
            body.name
        ));
    }
    match body.input_schema {
        Some(schema @ Value::Object(_)) => Ok(Tool {
            name: body.name,
            description: body.description,
            parameters: schema.to_string(),
        }),
        _ => wrong(format!(
            "describes `{}` without an `input_schema` that is a JSON Schema object",
            body.name
        )),
    }
}

/// Reads `tool_choice`, which may only name a tool that is offered.
pub(super) fn choice(body: Option<ChoiceBody>, tools: &[Tool]) -> Result<ToolChoice, RequestError> {
    let wrong = |why: String| Err(RequestError::field("tool_choice", why));
    let Some(body) = body else {
        return Ok(ToolChoice::Auto);
    };
    let choice = match (body.r#type.as_str(), body.name) {
        ("auto", _) => ToolChoice::Auto,
        ("none", _) => ToolChoice::None,
        ("any", _) => ToolChoice::Required,
        ("tool", Some(name)) if tools.iter().any(|tool| tool.name == name) => {
            ToolChoice::Named(name)
        }
        ("tool", Some(name)) => {
            return wrong(format!("names `{name}`, which is not among `tools`"));
        }
        ("tool", None) => return wrong("of the type tool needs a `name`".to_owned()),
        (other, _) => {
            return wrong(format!(
                "is of the type `{other}`; it can be auto, any, tool or none"
            ));
        }
    };
    if tools.is_empty() && choice == ToolChoice::Required {
        return wrong("asks for a call, but there are no `tools`".to_owned());
    }
    Ok(choice)
}

/// Reads `output_config`.
pub(super) fn shape(body: Option<OutputBody>) -> Result<Shape, RequestError> {
    let Some(format) = body.and_then(|body| body.format) else {
        return Ok(Shape::Free);
    };
    match (format.r#type.as_str(), format.schema) {
        ("json_schema", Some(schema @ Value::Object(_))) => Ok(Shape::Schema(schema.to_string())),
        (kind, _) => Err(RequestError::field(
            "output_config",
            format!("has a format of the type `{kind}`; it needs json_schema and a `schema`"),
        )),
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
    fn custom_tools_are_read_and_others_refused_by_name() {
        let tools = read(json!([
            {"name": "a", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}},
            {"type": "custom", "name": "b", "description": "d", "input_schema": {}}
        ]))
        .unwrap();
        assert_eq!(tools[0].parameters, r#"{"type":"object"}"#);
        assert_eq!(tools[1].description.as_deref(), Some("d"));
        for (json, word) in [
            (
                json!([{"type": "web_search_20250305", "name": "web_search"}]),
                "web_search_20250305",
            ),
            (json!([{"name": "a b", "input_schema": {}}]), "`a b`"),
            (json!([{"name": "a"}]), "input_schema"),
        ] {
            assert!(read(json.clone()).unwrap_err().contains(word), "{json}");
        }
    }

    #[test]
    fn a_choice_names_what_is_there() {
        let tools = read(json!([{"name": "a", "input_schema": {}}])).unwrap();
        let read = |json: Value| choice(Some(serde_json::from_value(json).unwrap()), &tools);
        for (json, expected) in [
            (json!({"type": "auto"}), ToolChoice::Auto),
            (json!({"type": "none"}), ToolChoice::None),
            (
                json!({"type": "any", "disable_parallel_tool_use": true}),
                ToolChoice::Required,
            ),
            (
                json!({"type": "tool", "name": "a"}),
                ToolChoice::Named("a".into()),
            ),
        ] {
            assert_eq!(read(json).unwrap(), expected);
        }
        assert!(read(json!({"type": "tool", "name": "b"})).is_err());
        assert!(read(json!({"type": "tool"})).is_err());
        assert!(read(json!({"type": "perhaps"})).is_err());
        let any: ChoiceBody = serde_json::from_value(json!({"type": "any"})).unwrap();
        assert!(choice(Some(any), &[]).is_err());
    }

    #[test]
    fn a_format_becomes_a_shape() {
        let read = |json: Value| shape(Some(serde_json::from_value(json).unwrap()));
        let schema = json!({"format": {"type": "json_schema", "schema": {"type": "object"}}});
        assert_eq!(
            read(schema).unwrap(),
            Shape::Schema(r#"{"type":"object"}"#.into())
        );
        assert_eq!(read(json!({"effort": "low"})).unwrap(), Shape::Free);
        assert!(read(json!({"format": {"type": "yaml"}})).is_err());
    }
}
