//! The built-in tools in words: what a model is told of each, and what tasks call for it. What they do is the
//! world's business.

use serde_json::Value;

use crate::domain::{AgentTool, Danger};

/// What the `mcp` of an agent's tool list stands for: those of all servers.
pub const MCP: &str = "mcp";

/// Not a tool: the passages of the library that fit the task are put before it.
pub const LIBRARY: &str = "library";

/// Not a tool: the agent is asked for a plan before its first step.
pub const PLAN: &str = "plan";

/// One built-in tool.
#[derive(Debug)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub description: &'static str,
    /// JSON Schema of its arguments.
    pub parameters: &'static str,
    /// Whether a person is asked before it runs.
    pub danger: Danger,
    /// Tasks that call for it.
    pub like: &'static [&'static str],
}

/// All of them. Descriptions are short: every word is read before every task.
pub const BUILTIN: &[Builtin] = &[
    Builtin {
        name: "calculate",
        description: "Works out an arithmetic expression exactly.",
        parameters: r#"{"type":"object","properties":{"expression":{"type":"string","pattern":"^(-|[(]|[0-9]|sqrt[(])([-+*/%^()., 0-9]|sqrt[(]){0,80}$","description":"numbers, + - * / % ^ and brackets, such as (12 + 5) * 3"}},"required":["expression"],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "What is 17 * 23?",
            "How much is 15 percent of 80?",
            "Calculate the sum of these numbers",
            "square root of 144",
            "divide, multiply, add, subtract",
        ],
    },
    Builtin {
        name: "now",
        description: "Tells today's date, the weekday and the time.",
        parameters: r#"{"type":"object","properties":{"zone":{"type":"string","maxLength":40,"description":"time zone such as Europe/Berlin; leave out for local time"}},"required":[],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "What time is it?",
            "What is today's date?",
            "Which day of the week is it?",
            "What time is it in Tokyo?",
        ],
    },
    Builtin {
        name: "search_documents",
        description: "Finds passages in the person's documents.",
        parameters: r#"{"type":"object","properties":{"query":{"type":"string","minLength":1,"maxLength":200,"description":"what to look for"}},"required":["query"],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "What do my documents say about this?",
            "Search my documents for the contract",
            "Find the invoice in my library",
            "According to the manual, how is it done?",
        ],
    },
    Builtin {
        name: "list_documents",
        description: "Lists the names of the person's documents.",
        parameters: r#"{"type":"object","properties":{},"required":[],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "Which documents do I have?",
            "List my documents",
            "How many documents are in the library?",
        ],
    },
    Builtin {
        name: "read_document",
        description: "Reads a document of the library, from a character on.",
        parameters: r#"{"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":200,"description":"the document's name"},"from":{"type":"integer","minimum":0,"description":"character to begin at; 0 is the first"}},"required":["name"],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "Summarise the document report.pdf",
            "Read the document and tell me what is in it",
            "What is the document notes.md about?",
        ],
    },
    Builtin {
        name: "list_files",
        description: "Lists a shared folder.",
        parameters: r#"{"type":"object","properties":{"path":{"type":"string","maxLength":200,"description":"the folder; empty for the top"}},"required":["path"],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "Which files are in the folder?",
            "List the files in my folder",
            "What is in the directory notes?",
            "Show the folder",
        ],
    },
    Builtin {
        name: "read_file",
        description: "Reads a text file of a shared folder, from a line on.",
        parameters: r#"{"type":"object","properties":{"path":{"type":"string","minLength":1,"maxLength":200,"description":"the file, as list_files names it"},"line":{"type":"integer","minimum":1,"description":"line to begin at"}},"required":["path"],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "Read the file notes.txt",
            "What is in the file todo.md?",
            "Open config.ini and tell me the port",
            "Show the contents of the file",
        ],
    },
    Builtin {
        name: "search_files",
        description: "Finds files of the shared folders by words in their names or lines.",
        parameters: r#"{"type":"object","properties":{"words":{"type":"string","minLength":1,"maxLength":100,"description":"words that stand in one line"},"path":{"type":"string","maxLength":200,"description":"folder to search; leave out for all"}},"required":["words"],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "Find the file that mentions bread",
            "Which file contains the word password?",
            "Search my files for the phone number",
            "Where is the file budget?",
        ],
    },
    Builtin {
        name: "fetch_page",
        description: "Fetches a page of the web and gives its text.",
        parameters: r#"{"type":"object","properties":{"url":{"type":"string","minLength":8,"maxLength":300,"description":"address, from https:// on"}},"required":["url"],"additionalProperties":false}"#,
        danger: Danger::Acts,
        like: &[
            "Open https://example.org and tell me what it says",
            "Fetch this web page",
            "What does the website say?",
        ],
    },
    Builtin {
        name: "ask_model",
        description: "Asks another model of this machine.",
        parameters: r#"{"type":"object","properties":{"model":{"type":"string","minLength":1,"maxLength":100,"description":"the model's name"},"question":{"type":"string","minLength":1,"maxLength":500}},"required":["model","question"],"additionalProperties":false}"#,
        danger: Danger::Acts,
        like: &[
            "Ask the other model what it thinks",
            "Let the model qwen answer this",
        ],
    },
    Builtin {
        name: "look_at",
        description: "Lets a model that sees look at a picture of a shared folder.",
        parameters: r#"{"type":"object","properties":{"path":{"type":"string","minLength":1,"maxLength":200,"description":"the picture"},"question":{"type":"string","minLength":1,"maxLength":300}},"required":["path","question"],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "What is in the picture photo.jpg?",
            "Describe the image",
            "Read the text in the screenshot",
        ],
    },
    Builtin {
        name: "transcribe",
        description: "Writes down what is said in a recording of a shared folder.",
        parameters: r#"{"type":"object","properties":{"path":{"type":"string","minLength":1,"maxLength":200,"description":"the recording"}},"required":["path"],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "Transcribe the recording meeting.mp3",
            "What is said in the voice memo?",
            "Write down the audio file",
        ],
    },
    Builtin {
        name: "remember",
        description: "Keeps a note about the person for later.",
        parameters: r#"{"type":"object","properties":{"note":{"type":"string","minLength":1,"maxLength":300,"description":"one sentence"}},"required":["note"],"additionalProperties":false}"#,
        danger: Danger::Acts,
        like: &[
            "Remember that my sister is called Anna",
            "Keep in mind that I prefer tea",
            "Make a note of this",
        ],
    },
    Builtin {
        name: "recall",
        description: "Finds notes that were kept with remember.",
        parameters: r#"{"type":"object","properties":{"about":{"type":"string","maxLength":200,"description":"words to look for; leave out for the latest"}},"required":[],"additionalProperties":false}"#,
        danger: Danger::Reads,
        like: &[
            "What do you remember about me?",
            "What is my sister called?",
            "What did I ask you to remember?",
            "Do you know what I prefer?",
        ],
    },
];

/// The built-in tool of a name.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|tool| tool.name == name)
}

impl Builtin {
    /// As an agent is offered it; `off` says why it cannot be used now.
    pub fn offered(&self, off: Option<String>) -> AgentTool {
        AgentTool {
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            parameters: self.parameters.to_owned(),
            server: None,
            danger: self.danger,
            off,
        }
    }
}

/// A call in a line: its arguments' values, the first ones of them.
pub fn detail(arguments: &Value) -> String {
    const CHARS: usize = 120;
    let one = |value: &Value| match value {
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let all: Vec<String> = arguments
        .as_object()
        .into_iter()
        .flatten()
        .map(|(_, value)| one(value))
        .collect();
    let line = all.join(", ");
    match line.char_indices().nth(CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_tool_has_a_schema_that_can_be_held_to() {
        for tool in BUILTIN {
            let schema: Value = serde_json::from_str(tool.parameters)
                .unwrap_or_else(|error| panic!("{}: {error}", tool.name));
            assert_eq!(schema["type"], "object", "{}", tool.name);
            assert!(
                schema["required"].is_array() && !tool.like.is_empty(),
                "{}",
                tool.name
            );
            // A model that may write without end does.
            for (name, field) in schema["properties"].as_object().unwrap() {
                let bounded = field["type"] != "string"
                    || field["maxLength"].is_u64()
                    || field["pattern"].is_string();
                assert!(bounded, "{}.{name}", tool.name);
            }
        }
        assert!(builtin("calculate").is_some() && builtin("shell").is_none());
    }

    #[test]
    fn a_call_fits_a_line() {
        assert_eq!(detail(&json!({"path": "a\n b", "line": 3})), "a b, 3");
        assert!(detail(&json!({"x": "ü".repeat(500)})).chars().count() <= 121);
        assert_eq!(detail(&json!({})), "");
    }
}
