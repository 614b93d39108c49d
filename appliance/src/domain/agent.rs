//! Agents: who they are, what they may use, and what happens while one works.

use std::time::Duration;

use super::chat::{FinishReason, Stats};
use super::library::Citation;

/// Instructions and tools under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// What requests name it by: letters, digits, `_` and `-`, at most 64.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// What the model is told before every task.
    pub instructions: String,
    /// Names of the tools that it may use; `mcp` stands for those of all servers.
    pub tools: Vec<String>,
    /// Tasks to begin with, for the page.
    pub starters: Vec<String>,
    /// The model that it asks; `None` is the default one.
    pub model: Option<String>,
    /// How far a run of it may go.
    pub limits: RunLimits,
    /// Whether it comes with the program and cannot be changed or taken away.
    pub builtin: bool,
}

/// How far a run may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLimits {
    /// Times that the model is asked.
    pub steps: usize,
    /// From start to end; waiting for a person does not count.
    pub time: Duration,
    /// Tokens made in all steps together.
    pub tokens: usize,
}

impl Default for RunLimits {
    /// A small model either gets there in a few steps or not at all.
    fn default() -> Self {
        RunLimits {
            steps: 8,
            time: Duration::from_secs(600),
            tokens: 8192,
        }
    }
}

/// What a tool may do without being asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Danger {
    /// It only looks.
    Reads,
    /// It changes something, runs something, or leaves the machine: a person is asked first.
    Acts,
}

/// A tool that an agent can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentTool {
    /// The name that the model calls it by.
    pub name: String,
    /// What it does, for the model and for people.
    pub description: String,
    /// JSON Schema of its arguments, as JSON text.
    pub parameters: String,
    /// The MCP server that runs it; `None` for a built-in one.
    pub server: Option<String>,
    /// Whether a person is asked before it runs.
    pub danger: Danger,
    /// Why it cannot be used now, such as a setting that is off.
    pub off: Option<String>,
}

/// What a person decided about tools before a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Approval {
    /// Ask each time, and take silence for no.
    #[default]
    Ask,
    /// Everything that would be asked is refused at once.
    Never,
    /// Everything that would be asked is allowed.
    Always,
}

/// A task for an agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunRequest {
    /// The agent's identifier; empty is `chat`.
    pub agent: String,
    /// The task. Empty only with a `chat` and a `parent_id`: that message is answered again.
    pub task: String,
    /// The chat that the task belongs to: its messages go before, task and answer are stored in it.
    pub chat: Option<String>,
    /// The message of the chat that the task follows; `None` begins a branch of its own.
    pub parent_id: Option<String>,
    /// The model; empty is the agent's, and then the default one.
    pub model: String,
    /// Further instructions, after the agent's own.
    pub system: Option<String>,
    /// Documents or collections to look in; none means the chat's, and then all of the person's.
    pub only: Vec<String>,
    /// The tools that it may use, of those that the agent has; `None` is all of them.
    pub tools: Option<Vec<String>>,
    /// What was decided about tools that act.
    pub approval: Approval,
    /// Narrower limits than the agent's; wider ones are cut to it.
    pub limits: Option<RunLimits>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// It works.
    Running,
    /// A person is asked whether a tool may act.
    Waiting,
    /// It answered.
    Done,
    /// It ended without an answer; the run's `error` says why.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl RunStatus {
    /// The name in rows and views.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Running => "running",
            RunStatus::Waiting => "waiting",
            RunStatus::Done => "done",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<RunStatus> {
        Some(match text {
            "running" => RunStatus::Running,
            "waiting" => RunStatus::Waiting,
            "done" => RunStatus::Done,
            "failed" => RunStatus::Failed,
            "cancelled" => RunStatus::Cancelled,
            _ => return None,
        })
    }

    /// Whether nothing more comes.
    pub fn ended(self) -> bool {
        !matches!(self, RunStatus::Running | RunStatus::Waiting)
    }
}

/// One run of an agent, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Identifier.
    pub id: String,
    /// The agent's identifier.
    pub agent: String,
    /// The model that was asked.
    pub model: String,
    /// The task.
    pub task: String,
    /// The chat that it belongs to.
    pub chat: Option<String>,
    /// The message of that chat that holds its answer.
    pub message: Option<String>,
    /// How far it is.
    pub status: RunStatus,
    /// The answer, as far as there is one.
    pub answer: String,
    /// Why it failed, and what to do.
    pub error: Option<String>,
    /// Times that the model was asked.
    pub steps: usize,
    /// Tokens made.
    pub tokens: usize,
    /// Unix milliseconds.
    pub created_at: i64,
    /// Unix milliseconds of its end.
    pub ended_at: Option<i64>,
}

/// What a status line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It works on something.
    Working,
    /// For information.
    Info,
    /// Something went less well than hoped: a call that had to be mended, a limit that is near.
    Warning,
}

/// Who decided about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A person allowed it.
    Allowed,
    /// A person refused it.
    Denied,
    /// Nobody answered in time.
    TimedOut,
}

/// What a tool found, beyond text: what the page and other dialects show as a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// Files and folders.
    Files {
        /// The first of them.
        files: Vec<FoundFile>,
        /// How many there are.
        total: usize,
    },
    /// Passages of documents.
    Passages(Vec<Citation>),
}

/// A file or folder that a tool found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Its name.
    pub name: String,
    /// Where it lies, from the shared root's name on: never a path of this machine.
    pub path: String,
    /// Whether it is a folder.
    pub folder: bool,
    /// Size in bytes; 0 for a folder.
    pub bytes: u64,
    /// Unix milliseconds of its last change, where the system tells.
    pub modified_at: Option<i64>,
}

/// What happens in a run, in order. `Done` comes last and once.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// The rows are written. Comes first; the messages are those of the chat, where the run has one.
    Started {
        /// The run.
        run: String,
        /// The task's message, where this run added one.
        user: Option<String>,
        /// The answer's message, still empty.
        assistant: Option<String>,
    },
    /// A line for people.
    Status {
        /// What it is about.
        note: Note,
        /// The line.
        message: String,
    },
    /// The model is asked, for the `step`th time from 1 of at most `total`.
    Step {
        /// Which.
        step: usize,
        /// The limit.
        total: usize,
    },
    /// More of what the model thinks.
    Thinking(String),
    /// What it means to do.
    Plan {
        /// The steps.
        steps: Vec<String>,
        /// Which of them is being done, from 0.
        current: Option<usize>,
    },
    /// A tool is about to be called; its arguments are valid.
    ToolStart {
        /// The call, as later events of it name it.
        call: String,
        /// The tool's name.
        tool: String,
        /// The call in a line, for people.
        detail: String,
        /// JSON text of its arguments.
        args: String,
        /// The MCP server that runs it.
        server: Option<String>,
    },
    /// A person is asked; the run waits.
    ToolConfirm {
        /// The call.
        call: String,
        /// The tool's name.
        tool: String,
        /// JSON text of its arguments.
        args: String,
        /// After this long silence is taken for no.
        timeout: Duration,
    },
    /// The person's decision, or none.
    ToolDecided {
        /// The call.
        call: String,
        /// The decision.
        decision: Decision,
    },
    /// A tool's result.
    ToolResult {
        /// The call.
        call: String,
        /// The tool's name.
        tool: String,
        /// The result in a line, for people.
        summary: String,
        /// What the model is given.
        content: String,
        /// Whether it did what it was called for.
        success: bool,
        /// How long it took.
        took: Duration,
        /// What it found, where that is a list.
        finding: Option<Finding>,
    },
    /// A call was refused by a rule, before anything was touched.
    Refused {
        /// The tool's name.
        tool: String,
        /// Why, for people.
        reason: String,
        /// The rule's name: `path_outside`, `symlink`, `hidden`, `not_allowed` and so on.
        rule: String,
    },
    /// How the MCP servers are that this run may use; once, where there are any.
    Servers(Vec<ServerStatus>),
    /// The passages that the answer is made from; may come again with more, and then replaces the earlier ones.
    Sources(Vec<Citation>),
    /// More of the answer.
    Chunk(String),
    /// The whole answer; replaces what the chunks built.
    Answer {
        /// The answer.
        content: String,
        /// Times that the model was asked.
        steps: usize,
        /// Tools that were called.
        tools: usize,
        /// From start to here.
        elapsed: Duration,
    },
    /// Something went wrong and the run goes on.
    Trouble(String),
    /// The run ended without an answer: why, and what to do. `Done` follows.
    Failed(String),
    /// The end.
    Done {
        /// The message that holds the answer, where the run has a chat.
        message: Option<String>,
        /// How it ended.
        status: RunStatus,
        /// Why the last answer ended.
        reason: FinishReason,
        /// The answer, as it is stored.
        content: String,
        /// What it cost, where the model was asked.
        stats: Option<Stats>,
    },
}

/// How an MCP server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerReach {
    /// A program on this machine, spoken to over its standard input and output.
    Command {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, in order of name; values are secrets and are shown masked.
        env: Vec<(String, String)>,
    },
    /// An address, spoken to over streamable HTTP.
    Http {
        /// The address.
        url: String,
        /// A token that is sent along; a secret.
        token: Option<String>,
    },
}

/// An MCP server of the owner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpServer {
    /// What the owner calls it.
    pub name: String,
    /// How it is reached.
    pub reach: ServerReach,
    /// Whether agents may use it.
    pub enabled: bool,
    /// Tools that run without asking each time, because the owner said so.
    pub trusted: Vec<String>,
}

/// How an MCP server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// Whether it answered.
    pub connected: bool,
    /// How many tools it offers.
    pub tools: usize,
    /// Why it did not.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back() {
        for status in [
            RunStatus::Running,
            RunStatus::Waiting,
            RunStatus::Done,
            RunStatus::Failed,
            RunStatus::Cancelled,
        ] {
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(RunStatus::parse("asleep"), None);
        assert!(RunStatus::Failed.ended() && !RunStatus::Waiting.ended());
    }
}
