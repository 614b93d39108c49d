//! From a conversation to the text that a model reads, and from what it writes back to what it meant.
//!
//! Every family of models has its own markers for roles, tools and thoughts; nothing outside of this folder knows
//! them. Pure: no engine is asked and no row is read.

mod calls;
mod offer;
mod reader;
mod template;
mod thoughts;

use super::AppError;
use crate::domain::{ChatRequest, Message, Role, Shape, Tool, ToolChoice};
use crate::engines::Template;
use calls::{Calls, Family};

pub(super) use reader::Reader;
pub(super) use template::Templates;

/// A conversation in the model's own form, and how its answer is to be read.
pub(super) struct Prompt {
    /// What the model reads.
    pub(super) text: String,
    /// The shape that the choice of a tool gives the answer.
    pub(super) shape: Option<Shape>,
    /// Reads the answer.
    pub(super) reader: Reader,
}

impl Templates {
    /// Writes a conversation with the tools that it offers. `key` goes into the identifiers of calls.
    ///
    /// # Errors
    /// The template refuses the messages, or does not end.
    pub(super) fn prompt(
        &self,
        template: &Template,
        messages: &[Message],
        request: &ChatRequest,
        key: String,
    ) -> Result<Prompt, AppError> {
        let tools: &[Tool] = match request.tool_choice {
            ToolChoice::None => &[],
            ToolChoice::Auto | ToolChoice::Held | ToolChoice::Required | ToolChoice::Named(_) => {
                &request.tools
            }
        };
        let native = template.source.contains("tools");
        let family = if native || tools.is_empty() {
            Family::of(&template.source)
        } else {
            Family::Hermes // the form that the instructions below teach
        };
        let text = if native {
            self.render(template, messages, &offer::views(tools), request.thinking)?
        } else {
            let messages = spelled_out(messages, tools);
            self.render(template, &messages, &[], request.thinking)?
        };
        let names = tools.iter().map(|tool| tool.name.clone()).collect();
        let calls = (!tools.is_empty()).then(|| Calls::new(family, names));
        Ok(Prompt {
            shape: offer::shape(family, tools, &request.tool_choice),
            reader: Reader::new(&text, calls, key),
            text,
        })
    }
}

/// Tools, calls and results as plain text, for a template that knows only roles and words.
fn spelled_out(messages: &[Message], tools: &[Tool]) -> Vec<Message> {
    let mut out: Vec<Message> = messages.iter().map(spell).collect();
    if !tools.is_empty() {
        let instructions = offer::instructions(tools);
        match out.first_mut().filter(|first| first.role == Role::System) {
            Some(system) => system.content = format!("{}\n\n{instructions}", system.content),
            None => out.insert(0, Message::new(Role::System, instructions)),
        }
    }
    out
}

fn spell(message: &Message) -> Message {
    if message.role == Role::Tool {
        let content = format!("<tool_response>\n{}\n</tool_response>", message.content);
        return Message::new(Role::User, content);
    }
    let mut content = message.content.clone();
    for call in &message.calls {
        if !content.is_empty() {
            content.push('\n');
        }
        let name = serde_json::Value::from(call.name.as_str());
        content.push_str(&format!(
            "<tool_call>\n{{\"name\": {name}, \"arguments\": {}}}\n</tool_call>",
            call.arguments
        ));
    }
    Message {
        content,
        calls: Vec::new(),
        ..message.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Input, ToolCall};

    fn ask(source: &str, messages: &[Message], tools: Vec<Tool>) -> String {
        let template = Template {
            source: source.to_owned(),
            bos: String::new(),
            eos: String::new(),
        };
        let mut request = ChatRequest::new("m", Input::Messages(Vec::new()));
        request.tools = tools;
        let prompt = Templates::default().prompt(&template, messages, &request, "k".to_owned());
        prompt.unwrap().text
    }

    fn conversation() -> Vec<Message> {
        let mut called = Message::new(Role::Assistant, "");
        called.calls.push(ToolCall {
            id: "c0".into(),
            name: "look".into(),
            arguments: r#"{"at": "x"}"#.into(),
        });
        let mut result = Message::new(Role::Tool, "seen");
        result.answers = Some("c0".into());
        vec![Message::new(Role::User, "hi"), called, result]
    }

    fn look() -> Tool {
        Tool {
            name: "look".into(),
            description: Some("Looks.".into()),
            parameters: r#"{"type": "object"}"#.into(),
        }
    }

    #[test]
    fn a_template_that_knows_tools_gets_them() {
        let source = "{% for t in tools %}{{ t.function.name }}: {{ t.function.description }};{% endfor %}\
            {% for m in messages %}{{ m.role }}={{ m.content }}\
            {% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments.at }}){% endfor %}|{% endfor %}";
        let text = ask(source, &conversation(), vec![look()]);
        assert_eq!(text, "look: Looks.;user=hi|assistant=look(x)|tool=seen|");
    }

    #[test]
    fn a_template_that_does_not_reads_words() {
        let source = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
        let text = ask(source, &conversation(), vec![look()]);
        assert!(
            text.starts_with("[system]You may call") && text.contains("\"Looks.\""),
            "{text}"
        );
        assert!(
            text.ends_with(
                "[user]hi[assistant]<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"x\"}}\n</tool_call>\
                 [user]<tool_response>\nseen\n</tool_response>"
            ),
            "{text}"
        );
        assert_eq!(
            ask(source, &[Message::new(Role::User, "hi")], Vec::new()),
            "[user]hi"
        );
    }
}
