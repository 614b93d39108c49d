//! Agents at work: runs, their events, and the tools that they are given.
//!
//! A run belongs to the appliance and not to the connection that asked for it. It writes its transcript into the
//! store and its events into a log that any number of readers follow, and a restart goes on where it was.

mod runs;
mod servers;
mod setting;
mod tools;
mod world;

pub use runs::AgentRun;
pub(super) use runs::Runs;

use super::{App, AppError};
use crate::agents::{AgentError, builtin, bundle};
use crate::domain::{Agent, AgentTool, PersonId, Run, RunEvent};

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
    /// A person's runs, newest first; `chat` narrows them to one chat's.
    ///
    /// # Errors
    /// The store fails.
    pub async fn runs(
        &self,
        person: &PersonId,
        chat: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Run>, AppError> {
        Ok(self.inner.store.agents().runs(person, chat, limit).await?)
    }

    /// One run with what happened in it.
    ///
    /// # Errors
    /// There is none.
    pub async fn transcript(&self, person: &PersonId, id: &str) -> Result<Transcript, AppError> {
        let found = self.inner.store.agents().transcript(person, id).await?;
        let (run, events) = found.ok_or_else(|| AgentError::NoRun(id.to_owned()))?;
        Ok(Transcript { run, events })
    }

    /// Transcripts of all of a chat's runs, by the message that holds the answer (`run.message`).
    ///
    /// # Errors
    /// The store fails.
    pub async fn transcripts_of_chat(
        &self,
        person: &PersonId,
        chat: &str,
    ) -> Result<Vec<Transcript>, AppError> {
        let mut all = Vec::new();
        for run in self.runs(person, Some(chat), usize::MAX).await? {
            all.push(self.transcript(person, &run.id).await?);
        }
        Ok(all)
    }

    /// All agents, built-in ones first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn agents(&self) -> Result<Vec<Agent>, AppError> {
        let mut all = builtin::all();
        all.extend(self.inner.store.agents().all().await?);
        Ok(all)
    }

    /// One agent.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn agent(&self, id: &str) -> Result<Agent, AppError> {
        let found = self
            .agents()
            .await?
            .into_iter()
            .find(|agent| agent.id == id);
        found.ok_or_else(|| AgentError::NoAgent(id.to_owned()).into())
    }

    /// Keeps an agent, new or changed.
    ///
    /// # Errors
    /// A built-in one, or one that is not as an agent must be.
    pub async fn put_agent(&self, agent: Agent) -> Result<(), AppError> {
        own(&agent.id)?;
        bundle::check(&agent).map_err(AgentError::BadAgent)?;
        self.inner.store.agents().put(agent).await?;
        Ok(())
    }

    /// Takes an agent away.
    ///
    /// # Errors
    /// A built-in one, or none of this name.
    pub async fn remove_agent(&self, id: &str) -> Result<(), AppError> {
        own(id)?;
        match self.inner.store.agents().remove(id).await? {
            true => Ok(()),
            false => Err(AgentError::NoAgent(id.to_owned()).into()),
        }
    }

    /// The owner's agents as a zip; `ids` narrows them, none means all.
    ///
    /// # Errors
    /// There is none of a name.
    pub async fn export_agents(&self, ids: &[String]) -> Result<Vec<u8>, AppError> {
        let mut all = self.inner.store.agents().all().await?;
        for id in ids {
            own(id)?;
            if !all.iter().any(|agent| agent.id == *id) {
                return Err(AgentError::NoAgent(id.clone()).into());
            }
        }
        all.retain(|agent| ids.is_empty() || ids.contains(&agent.id));
        Ok(bundle::write(&all).map_err(AgentError::BadBundle)?)
    }

    /// Brings agents in from a zip.
    ///
    /// # Errors
    /// It is no zip, or one that breaks the rules.
    pub async fn import_agents(&self, zip: Vec<u8>) -> Result<BroughtAgents, AppError> {
        let read = tokio::task::spawn_blocking(move || bundle::read(&zip)).await;
        let read = read.map_err(|panic| AgentError::BadBundle(panic.to_string()))?;
        let (agents, errors) = read.map_err(AgentError::BadBundle)?;
        let mut brought = BroughtAgents {
            errors,
            ..BroughtAgents::default()
        };
        for agent in agents {
            let id = agent.id.clone();
            match self.inner.store.agents().put(agent).await? {
                true => brought.overwritten.push(id),
                false => brought.imported.push(id),
            }
        }
        Ok(brought)
    }

    /// All tools that an agent can be given, those of enabled MCP servers included.
    ///
    /// # Errors
    /// The store fails.
    pub async fn agent_tools(&self) -> Result<Vec<AgentTool>, AppError> {
        self.tools_of(&PersonId::owner()).await
    }
}

/// Refuses what comes with the program.
fn own(id: &str) -> Result<(), AgentError> {
    match builtin::all().iter().any(|agent| agent.id == id) {
        true => Err(AgentError::BuiltIn(id.to_owned())),
        false => Ok(()),
    }
}
