//! How tools are offered to a model, and how an answer is made to call one.

use serde_json::{Value, json};

use super::calls::Family;
use crate::domain::{Shape, Tool, ToolChoice};

/// Tools as chat templates expect them: OpenAI's `function` objects.
pub(super) fn views(tools: &[Tool]) -> Vec<Value> {
    let view = |tool: &Tool| {
        json!({
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description.as_deref().unwrap_or_default(),
                "parameters": schema(tool),
            },
        })
    };
    tools.iter().map(view).collect()
}

/// What a model is told whose own template has no place for tools; it follows the family of Hermes.
pub(super) fn instructions(tools: &[Tool]) -> String {
    let lines: Vec<String> = views(tools).iter().map(Value::to_string).collect();
    format!(
        "You may call one or more of these functions, given as JSON:\n<tools>\n{}\n</tools>\n\
         To call one, answer with its name and arguments as JSON between markers:\n\
         <tool_call>\n{{\"name\": \"<name>\", \"arguments\": {{<arguments>}}}}\n</tool_call>",
        lines.join("\n")
    )
}

/// The shape of an answer that calls one of the tools, or may; `None` where the model may write what it likes.
pub(super) fn shape(family: Family, tools: &[Tool], choice: &ToolChoice) -> Option<Shape> {
    let wanted: Vec<&Tool> = match choice {
        ToolChoice::Auto | ToolChoice::None => return None,
        ToolChoice::Held | ToolChoice::Required => tools.iter().collect(),
        ToolChoice::Named(name) => tools.iter().filter(|tool| tool.name == *name).collect(),
    };
    let key = match family {
        Family::Llama3 => "parameters",
        Family::Hermes | Family::Mistral | Family::Generic => "arguments",
    };
    let call = |tool: &&Tool| {
        json!({
            "type": "object",
            "properties": { "name": { "const": tool.name }, key: schema(tool) },
            "required": ["name", key],
            "additionalProperties": false,
        })
    };
    let (before, after) = match family {
        Family::Hermes => ("\"<tool_call>\\n\" ", " \"\\n</tool_call>\""),
        Family::Mistral => ("\"[TOOL_CALLS][\" ", " \"]\""),
        Family::Llama3 | Family::Generic => ("", ""),
    };
    let names: Vec<String> = (0..wanted.len())
        .map(|index| format!("call_{index}"))
        .collect();
    let rules: Vec<String> = wanted
        .iter()
        .zip(&names)
        .map(|(tool, name)| format!("{name}: %json {}", call(tool)))
        .collect();
    // Words are whatever does not begin as a call does.
    let (start, words) = match (choice, family) {
        (ToolChoice::Held, Family::Hermes) => ("words | ", "words: /(?s:([^<]|<[^t]|<t[^o]).*)/\n"),
        (ToolChoice::Held, Family::Mistral) => ("words | ", "words: /(?s:([^\\[]|\\[[^T]).*)/\n"),
        (ToolChoice::Held, Family::Llama3 | Family::Generic) => {
            ("words | ", "words: /(?s:[^{].*)/\n")
        }
        _ => ("", ""),
    };
    Some(Shape::Grammar(format!(
        "start: {start}{before}call{after}\ncall: {}\n{words}{}\n",
        names.join(" | "),
        rules.join("\n")
    )))
}

/// A tool's schema; text that is no JSON is refused where requests enter, so none is lost here.
fn schema(tool: &Tool) -> Value {
    serde_json::from_str(&tool.parameters).unwrap_or_else(|_| json!({ "type": "object" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Vec<Tool> {
        let tool = |name: &str| Tool {
            name: name.to_owned(),
            description: None,
            parameters: r#"{"type":"object","properties":{"at":{"type":"string"}}}"#.to_owned(),
        };
        vec![tool("look"), tool("sum")]
    }

    #[test]
    fn a_choice_becomes_a_grammar_of_the_family() {
        let tools = tools();
        assert_eq!(shape(Family::Hermes, &tools, &ToolChoice::Auto), None);
        let Some(Shape::Grammar(lark)) = shape(Family::Hermes, &tools, &ToolChoice::Required)
        else {
            panic!("no grammar")
        };
        assert!(lark.starts_with(
            "start: \"<tool_call>\\n\" call \"\\n</tool_call>\"\ncall: call_0 | call_1\n"
        ));
        let Some(Shape::Grammar(lark)) = shape(Family::Hermes, &tools, &ToolChoice::Held) else {
            panic!("no grammar")
        };
        assert!(lark.starts_with("start: words | \"<tool_call>") && lark.contains("words: /"));
        let Some(Shape::Grammar(lark)) =
            shape(Family::Llama3, &tools, &ToolChoice::Named("sum".into()))
        else {
            panic!("no grammar")
        };
        assert!(
            lark.contains("\"const\":\"sum\"")
                && !lark.contains("look")
                && lark.contains("\"parameters\"")
        );
    }

    #[test]
    fn instructions_name_every_tool() {
        let text = instructions(&tools());
        assert!(
            text.contains("\"look\"") && text.contains("\"sum\"") && text.contains("<tool_call>")
        );
    }
}
