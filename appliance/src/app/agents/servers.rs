//! The owner's MCP servers: which there are, what they offer, and which of it needs no asking.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::super::{App, AppError};
use crate::agents::mcp::{self, Connection, Means};
use crate::agents::{AgentError, Outcome};
use crate::domain::{AgentTool, McpServer, PersonId, ServerStatus};
use crate::process::Launcher;

/// After a server could not be reached, it is not tried again for this long, unless somebody asks for it by name.
const PAUSE: Duration = Duration::from_secs(30);

/// How long a run waits for a server that is still starting; it goes on without its tools.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Servers that are kept at most.
const SERVERS_MAX: usize = 32;

/// Connections, by the server's name.
pub(super) struct Servers {
    launcher: Launcher,
    held: Mutex<HashMap<String, Arc<Slot>>>,
}

impl Default for Servers {
    fn default() -> Self {
        Servers {
            launcher: Launcher::of_this_program(),
            held: Mutex::default(),
        }
    }
}

/// One server's place. An async mutex: held while it is being reached, so that two runs start it once.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Open(Arc<Connection>),
    Failed(String, Instant),
}

impl Servers {
    fn slot(&self, name: &str) -> Arc<Slot> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(held.entry(name.to_owned()).or_default())
    }

    /// Forgets a connection, which ends its program once nobody uses it.
    fn forget(&self, name: &str) {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

impl App {
    fn server_means(&self) -> Means {
        Means {
            launcher: self.inner.runs.servers.launcher.clone(),
            fetch: self.inner.means.fetch.clone(),
            homes: self.inner.config.data_dir.join("mcp"),
            own_ports: self.listening_ports(),
        }
    }

    /// A connection to a server, opened where there is none. `again` tries also when it has just failed.
    async fn server(&self, server: &McpServer, again: bool) -> Result<Arc<Connection>, AgentError> {
        let slot = self.inner.runs.servers.slot(&server.name);
        let mut state = slot.0.lock().await;
        match &*state {
            State::Open(connection) if connection.is_open() => return Ok(Arc::clone(connection)),
            State::Failed(why, at) if !again && at.elapsed() < PAUSE => {
                return Err(down(&server.name, why.clone()));
            }
            _ => {}
        }
        match Connection::open(server, &self.server_means()).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *state = State::Open(Arc::clone(&connection));
                Ok(connection)
            }
            Err(why) => {
                tracing::warn!(server = server.name, why, "an MCP server cannot be used");
                *state = State::Failed(why.clone(), Instant::now());
                Err(down(&server.name, why))
            }
        }
    }

    /// A server's tools. The work goes on when nobody waits any longer, so that a slow start is not begun anew each time.
    async fn offered_by(
        &self,
        server: &McpServer,
        again: bool,
        wait: Option<Duration>,
    ) -> Result<Vec<AgentTool>, AgentError> {
        let (app, server) = (self.clone(), server.clone());
        let name = server.name.clone();
        let work = tokio::spawn(async move {
            let connection = app.server(&server, again).await?;
            connection
                .tools(&server.trusted)
                .await
                .map_err(|why| down(&server.name, why))
        });
        let done = match wait {
            None => work.await,
            Some(wait) => match tokio::time::timeout(wait, work).await {
                Ok(done) => done,
                Err(_) => return Err(down(&name, "it is still starting".to_owned())),
            },
        };
        done.map_err(|panic| down(&name, panic.to_string()))?
    }

    /// Tools of all enabled servers, and how each server is.
    pub(super) async fn server_tools(
        &self,
        wait: Option<Duration>,
    ) -> Result<(Vec<AgentTool>, Vec<ServerStatus>), AppError> {
        let servers = self.mcp_servers().await?;
        let enabled = servers.iter().filter(|server| server.enabled);
        let asked = enabled
            .map(|server| async move { (server, self.offered_by(server, false, wait).await) });
        let (mut tools, mut states) = (Vec::new(), Vec::new());
        for (server, offered) in futures_util::future::join_all(asked).await {
            let error = offered.as_ref().err().map(|error| match error {
                AgentError::ServerDown { why, .. } => why.clone(),
                other => other.to_string(),
            });
            let offered = offered.unwrap_or_default();
            states.push(ServerStatus {
                name: server.name.clone(),
                connected: error.is_none(),
                tools: offered.len(),
                error,
            });
            tools.extend(offered);
        }
        Ok((tools, states))
    }

    /// The tools that a person's runs can be given, each with why it cannot be used now. Servers are the owner's.
    ///
    /// # Errors
    /// The store fails.
    pub async fn tools_of(&self, person: &PersonId) -> Result<Vec<AgentTool>, AppError> {
        let mut tools = self.builtin_tools(person).await?;
        if person.is_owner() {
            tools.extend(self.server_tools(Some(PATIENCE)).await?.0);
        }
        Ok(tools)
    }

    /// Makes a call of a server's tool.
    pub(super) async fn call_server(
        &self,
        name: &str,
        tool: &str,
        arguments: &serde_json::Value,
    ) -> Outcome {
        let called = async {
            let server = self.named_server(name).await?;
            let connection = self.server(&server, false).await?;
            let called = connection.call(tool, arguments).await;
            called.map_err(|why| AppError::from(down(name, why)))
        };
        match called.await {
            Ok((text, true)) if text.is_empty() => Outcome::done("it gave nothing"),
            Ok((text, true)) => Outcome::done(text),
            Ok((text, false)) => Outcome::failed(text),
            Err(error) => Outcome::failed(error.to_string()),
        }
    }

    /// The MCP server of this name.
    ///
    /// # Errors
    /// None of this name (`NotFound`), or the store cannot be read.
    pub async fn mcp_server(&self, name: &str) -> Result<McpServer, AppError> {
        let servers = self.mcp_servers().await?;
        let found = servers.into_iter().find(|server| server.name == name);
        Ok(found.ok_or_else(|| AgentError::NoServer(name.to_owned()))?)
    }

    async fn named_server(&self, name: &str) -> Result<McpServer, AppError> {
        let server = self.mcp_server(name).await?;
        match server.enabled {
            true => Ok(server),
            false => Err(AgentError::ServerOff(name.to_owned()).into()),
        }
    }

    /// The owner's MCP servers.
    ///
    /// # Errors
    /// The store fails.
    pub async fn mcp_servers(&self) -> Result<Vec<McpServer>, AppError> {
        Ok(self.inner.store.agents().servers().await?)
    }

    /// Adds an MCP server.
    ///
    /// # Errors
    /// The name is taken or cannot be used ([`crate::error::Kind::Conflict`], `BadRequest`).
    pub async fn add_mcp_server(&self, server: McpServer) -> Result<(), AppError> {
        mcp::check(&server).map_err(AgentError::BadServer)?;
        if self.mcp_servers().await?.len() >= SERVERS_MAX {
            return Err(AgentError::BadServer(format!(
                "there are {SERVERS_MAX} already; remove one"
            ))
            .into());
        }
        match self.inner.store.agents().add_server(&server).await? {
            true => Ok(()),
            false => Err(AgentError::ServerTaken(server.name).into()),
        }
    }

    /// Takes an MCP server away, and stops it.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn remove_mcp_server(&self, name: &str) -> Result<(), AppError> {
        let there = self.inner.store.agents().remove_server(name).await?;
        self.inner.runs.servers.forget(name);
        match there {
            true => Ok(()),
            false => Err(AgentError::NoServer(name.to_owned()).into()),
        }
    }

    async fn change_server(
        &self,
        name: &str,
        change: impl FnOnce(&mut McpServer),
    ) -> Result<(), AppError> {
        let mut server = self.mcp_server(name).await?;
        change(&mut server);
        let agents = self.inner.store.agents();
        match agents
            .change_server(name, server.enabled, &server.trusted)
            .await?
        {
            true => Ok(()),
            false => Err(AgentError::NoServer(name.to_owned()).into()),
        }
    }

    /// Lets agents use a server, or no longer; one that is turned off is stopped.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn enable_mcp_server(&self, name: &str, enabled: bool) -> Result<(), AppError> {
        self.change_server(name, |server| server.enabled = enabled)
            .await?;
        if !enabled {
            self.inner.runs.servers.forget(name);
        }
        Ok(())
    }

    /// Says whether a server's tool may run without asking each time.
    ///
    /// # Errors
    /// There is no server of this name.
    pub async fn trust_mcp_tool(
        &self,
        name: &str,
        tool: &str,
        trusted: bool,
    ) -> Result<(), AppError> {
        self.change_server(name, |server| {
            server.trusted.retain(|one| one != tool);
            if trusted {
                server.trusted.push(tool.to_owned());
            }
        })
        .await
    }

    /// What a server offers; starts it where it does not run.
    ///
    /// # Errors
    /// None of this name (`NotFound`), turned off (`BadRequest`), or it cannot be reached (`EngineDown`).
    pub async fn mcp_tools(&self, name: &str) -> Result<Vec<AgentTool>, AppError> {
        let server = self.named_server(name).await?;
        Ok(self.offered_by(&server, true, None).await?)
    }

    /// How each server is; those that are turned off are not asked.
    ///
    /// # Errors
    /// The store fails.
    pub async fn mcp_status(&self) -> Result<Vec<ServerStatus>, AppError> {
        let (_, mut states) = self.server_tools(Some(PATIENCE)).await?;
        for server in self
            .mcp_servers()
            .await?
            .into_iter()
            .filter(|server| !server.enabled)
        {
            states.push(ServerStatus {
                name: server.name,
                connected: false,
                tools: 0,
                error: None,
            });
        }
        states.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(states)
    }
}

fn down(name: &str, why: String) -> AgentError {
    AgentError::ServerDown {
        name: name.to_owned(),
        why,
    }
}
