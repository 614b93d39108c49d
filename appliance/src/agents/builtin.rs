//! The agents that come with the program.

use crate::domain::{Agent, RunLimits};

/// The agent that answers where a request names none.
pub const DEFAULT: &str = "chat";

fn agent(
    id: &str,
    name: &str,
    description: &str,
    instructions: &str,
    tools: &[&str],
    starters: &[&str],
) -> Agent {
    let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    Agent {
        id: id.to_owned(),
        name: name.to_owned(),
        description: description.to_owned(),
        instructions: instructions.to_owned(),
        tools: list(tools),
        starters: list(starters),
        model: None,
        limits: RunLimits::default(),
        builtin: true,
    }
}

/// All of them, the default one first.
pub fn all() -> Vec<Agent> {
    vec![
        agent(
            DEFAULT,
            "Chat",
            "Talks, and uses a tool where one helps.",
            "You are a helpful assistant. Answer briefly and say so when you do not know.",
            &[
                "calculate",
                "now",
                "search_documents",
                "list_documents",
                "recall",
                "remember",
                "fetch_page",
                "mcp",
            ],
            &[
                "What is 17.5 % of 2,340?",
                "Which documents do I have?",
                "Remember that I drink my coffee black.",
            ],
        ),
        agent(
            "documents",
            "Documents",
            "Answers from the library, and cites what it used.",
            "You answer from the person's documents. Use only what the passages say, and say so when they do not answer the question.",
            &[
                "library",
                "search_documents",
                "list_documents",
                "read_document",
            ],
            &[
                "What do my documents say about the warranty?",
                "List my documents.",
                "What is the notice period in my lease?",
            ],
        ),
        agent(
            "files",
            "Files",
            "Finds, lists and reads files of the shared folders.",
            "You help with the files of the shared folders. Look before you answer: use the tools, and name the files that you used.",
            &[
                "list_files",
                "search_files",
                "read_file",
                "look_at",
                "transcribe",
            ],
            &[
                "Which files are in my shared folder?",
                "Find the file that mentions the budget.",
                "Read todo.md and tell me what is open.",
            ],
        ),
        agent(
            "summarise",
            "Summarise",
            "Sums up a document, a file or a text.",
            "You write summaries. Read the document or file first, then give its main points in a few short sentences. Add nothing of your own.",
            &["read_document", "list_documents", "read_file", "list_files"],
            &[
                "Summarise the document report.pdf.",
                "Summarise notes.txt in three sentences.",
            ],
        ),
        agent(
            "research",
            "Research",
            "Works through the library step by step and reports what it found, with sources.",
            "You research a question in the person's documents. Search several times with different words, read where it is worth it, \
             then report what was found and in which documents, and what was not found.",
            &[
                "plan",
                "search_documents",
                "read_document",
                "list_documents",
                "calculate",
                "fetch_page",
            ],
            &[
                "What do my documents say about heating costs over the years?",
                "Compare the offers in my documents.",
            ],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tools::{LIBRARY, MCP, PLAN, builtin};
    use super::*;

    #[test]
    fn built_in_agents_are_as_agents_must_be() {
        let all = all();
        assert_eq!(all[0].id, DEFAULT);
        for agent in &all {
            super::super::bundle::check(agent)
                .unwrap_or_else(|error| panic!("{}: {error}", agent.id));
            for tool in &agent.tools {
                assert!(
                    builtin(tool).is_some() || [LIBRARY, MCP, PLAN].contains(&tool.as_str()),
                    "{tool}"
                );
            }
            assert!(!agent.starters.is_empty());
        }
    }
}
