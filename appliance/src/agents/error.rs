//! Why something about agents cannot be done.

use crate::error::{Failing, Kind};

/// Why something about agents cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// No such agent.
    #[error("there is no agent `{0}`; `onebit agent ls` lists them")]
    NoAgent(String),
    /// It comes with the program.
    #[error("{0} comes with the program; give your own agent another name")]
    BuiltIn(String),
    /// It is not as an agent must be.
    #[error("the agent cannot be kept: {0}")]
    BadAgent(String),
    /// No such run.
    #[error("there is no run `{0}`")]
    NoRun(String),
    /// Nobody waits for a decision.
    #[error("no call waits for a decision; it was decided already, or its time was up")]
    NothingWaits,
    /// Too many at once.
    #[error("{0} runs go on already; stop one or try again shortly")]
    TooManyRuns(usize),
    /// Nothing to do.
    #[error("give the agent a task")]
    NoTask,
    /// The file of agents is refused as a whole.
    #[error("the agents' file is refused: {0}")]
    BadBundle(String),
    /// No such server.
    #[error("there is no MCP server `{0}`; `onebit mcp ls` lists them")]
    NoServer(String),
    /// The name is taken.
    #[error("there is an MCP server `{0}` already; remove it first, or choose another name")]
    ServerTaken(String),
    /// It cannot be kept so.
    #[error("the MCP server cannot be kept: {0}")]
    BadServer(String),
    /// It is turned off.
    #[error("the MCP server `{0}` is turned off; turn it on with `onebit mcp enable {0}`")]
    ServerOff(String),
    /// It does not answer as it should.
    #[error("the MCP server `{name}` cannot be used: {why}")]
    ServerDown {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
}

impl Failing for AgentError {
    fn kind(&self) -> Kind {
        match self {
            AgentError::NoAgent(_) | AgentError::NoRun(_) | AgentError::NoServer(_) => {
                Kind::NotFound
            }
            AgentError::NothingWaits => Kind::NotFound,
            AgentError::BuiltIn(_) | AgentError::ServerTaken(_) => Kind::Conflict,
            AgentError::BadAgent(_)
            | AgentError::NoTask
            | AgentError::BadBundle(_)
            | AgentError::BadServer(_)
            | AgentError::ServerOff(_) => Kind::BadRequest,
            AgentError::TooManyRuns(_) => Kind::Overloaded,
            AgentError::ServerDown { .. } => Kind::EngineDown,
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            AgentError::NoAgent(_) => "agent_not_found",
            AgentError::BuiltIn(_) => "agent_built_in",
            AgentError::BadAgent(_) => "bad_agent",
            AgentError::NoRun(_) => "run_not_found",
            AgentError::NothingWaits => "nothing_waits",
            AgentError::TooManyRuns(_) => "queue_full",
            AgentError::NoTask => "no_task",
            AgentError::BadBundle(_) => "bad_bundle",
            AgentError::NoServer(_) => "server_not_found",
            AgentError::ServerTaken(_) => "name_taken",
            AgentError::BadServer(_) => "bad_server",
            AgentError::ServerOff(_) => "server_off",
            AgentError::ServerDown { .. } => "server_down",
        })
    }

    fn retry_after_s(&self) -> Option<u32> {
        matches!(self, AgentError::TooManyRuns(_)).then_some(5)
    }
}
