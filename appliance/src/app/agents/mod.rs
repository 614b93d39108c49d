//! Agents at work: runs, their events, and the tools that they are given.
//!
//! A run belongs to the appliance and not to the connection that asked for it. It writes its transcript into the
//! store and its events into a log that any number of readers follow, and a restart goes on where it was.

use futures_util::Stream;

use super::{App, AppError};
use crate::domain::{
    Agent, AgentTool, McpServer, PersonId, Run, RunEvent, RunRequest, ServerStatus,
};

/// A handle on a run; clones share it.
#[derive(Clone)]
pub struct AgentRun {
    /// The run's name.
    pub id: String,
}

impl AgentRun {
    /// The model that is asked.
    pub fn model(&self) -> &str {
        todo!()
    }

    /// Follows the events from number `from` on (0 is the first), each with its number.
    pub fn events(&self, _from: usize) -> impl Stream<Item = (usize, RunEvent)> + Send + use<> {
        futures_util::stream::empty()
    }
}

/// A run with its events as they are kept: pieces of text joined, each event with its Unix milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// The run.
    pub run: Run,
    /// What happened.
    pub events: Vec<(i64, RunEvent)>,
}

/// What came of an agents' file that was brought in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BroughtAgents {
    /// New ones.
    pub imported: Vec<String>,
    /// Those that took the place of an older one of the same name.
    pub overwritten: Vec<String>,
    /// Those that were refused, and why.
    pub errors: Vec<(String, String)>,
}

impl App {
    /// Starts a run.
    ///
    /// # Errors
    /// No such agent, chat, message or model; too many runs.
    pub async fn start_run(
        &self,
        _person: &PersonId,
        _request: RunRequest,
    ) -> Result<AgentRun, AppError> {
        todo!()
    }

    /// Finds a run that goes on or ended lately.
    ///
    /// # Errors
    /// There is none, or it is somebody else's.
    pub fn find_run(&self, _person: &PersonId, _id: &str) -> Result<AgentRun, AppError> {
        todo!()
    }

    /// The run that goes on in a chat now.
    pub fn run_of_chat(&self, _person: &PersonId, _chat: &str) -> Option<AgentRun> {
        todo!()
    }

    /// Allows or refuses a call that waits; `call` is `None` for whichever waits.
    ///
    /// # Errors
    /// Nothing waits under that name.
    pub fn decide(
        &self,
        _person: &PersonId,
        _run: &str,
        _call: Option<&str>,
        _allow: bool,
    ) -> Result<(), AppError> {
        todo!()
    }

    /// Stops a run; its answer stays as far as it came. Stopping one that has ended does nothing.
    ///
    /// # Errors
    /// There is none.
    pub fn cancel_run(&self, _person: &PersonId, _id: &str) -> Result<(), AppError> {
        todo!()
    }

    /// A person's runs, newest first; `chat` narrows them to one chat's.
    ///
    /// # Errors
    /// The store fails.
    pub async fn runs(
        &self,
        _person: &PersonId,
        _chat: Option<&str>,
        _limit: usize,
    ) -> Result<Vec<Run>, AppError> {
        todo!()
    }

    /// One run with what happened in it.
    ///
    /// # Errors
    /// There is none.
    pub async fn transcript(&self, _person: &PersonId, _id: &str) -> Result<Transcript, AppError> {
        todo!()
    }

    /// Transcripts of all of a chat's runs, by the message that holds the answer (`run.message`).
    ///
    /// # Errors
    /// The store fails.
    pub async fn transcripts_of_chat(
        &self,
        _person: &PersonId,
        _chat: &str,
    ) -> Result<Vec<Transcript>, AppError> {
        todo!()
    }

    /// All agents, built-in ones first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn agents(&self) -> Result<Vec<Agent>, AppError> {
        todo!()
    }

    /// One agent.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn agent(&self, _id: &str) -> Result<Agent, AppError> {
        todo!()
    }

    /// Keeps an agent, new or changed.
    ///
    /// # Errors
    /// A built-in one, or one that is not as an agent must be.
    pub async fn put_agent(&self, _agent: Agent) -> Result<(), AppError> {
        todo!()
    }

    /// Takes an agent away.
    ///
    /// # Errors
    /// A built-in one, or none of this name.
    pub async fn remove_agent(&self, _id: &str) -> Result<(), AppError> {
        todo!()
    }

    /// The owner's agents as a zip; `ids` narrows them, none means all.
    ///
    /// # Errors
    /// There is none of a name.
    pub async fn export_agents(&self, _ids: &[String]) -> Result<Vec<u8>, AppError> {
        todo!()
    }

    /// Brings agents in from a zip.
    ///
    /// # Errors
    /// It is no zip, or one that breaks the rules.
    pub async fn import_agents(&self, _zip: Vec<u8>) -> Result<BroughtAgents, AppError> {
        todo!()
    }

    /// All tools that an agent can be given, those of enabled MCP servers included.
    ///
    /// # Errors
    /// The store fails.
    pub async fn agent_tools(&self) -> Result<Vec<AgentTool>, AppError> {
        todo!()
    }

    /// The owner's MCP servers.
    ///
    /// # Errors
    /// The store fails.
    pub async fn mcp_servers(&self) -> Result<Vec<McpServer>, AppError> {
        todo!()
    }

    /// Adds an MCP server.
    ///
    /// # Errors
    /// The name is taken or cannot be used ([`crate::error::Kind::Conflict`], `BadRequest`).
    pub async fn add_mcp_server(&self, _server: McpServer) -> Result<(), AppError> {
        todo!()
    }

    /// Takes an MCP server away, and stops it.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn remove_mcp_server(&self, _name: &str) -> Result<(), AppError> {
        todo!()
    }

    /// Lets agents use a server, or no longer; one that is turned off is stopped.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn enable_mcp_server(&self, _name: &str, _enabled: bool) -> Result<(), AppError> {
        todo!()
    }

    /// Says whether a server's tool may run without asking each time.
    ///
    /// # Errors
    /// There is no server of this name.
    pub async fn trust_mcp_tool(
        &self,
        _name: &str,
        _tool: &str,
        _trusted: bool,
    ) -> Result<(), AppError> {
        todo!()
    }

    /// What a server offers; starts it where it does not run.
    ///
    /// # Errors
    /// None of this name (`NotFound`), turned off (`BadRequest`), or it cannot be reached (`EngineDown`).
    pub async fn mcp_tools(&self, _name: &str) -> Result<Vec<AgentTool>, AppError> {
        todo!()
    }

    /// How each server is; those that are turned off are not asked.
    ///
    /// # Errors
    /// The store fails.
    pub async fn mcp_status(&self) -> Result<Vec<ServerStatus>, AppError> {
        todo!()
    }
}
