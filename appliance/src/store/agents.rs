//! Agents, runs, MCP servers and memories as rows.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};

use super::run_events::{event, event_text, reach, reach_text, request, request_text};
use super::{Store, StoreError, now_ms};
use crate::domain::{Agent, McpServer, PersonId, Run, RunEvent, RunLimits, RunRequest, RunStatus};

/// Runs that one listing returns at most.
const LIST_MAX: usize = 200;

/// Notes that a search returns.
const MEMORIES_MAX: usize = 20;

/// Agents and what belongs to them.
pub struct Agents<'a>(pub(super) &'a Store);

/// A run that a restart finds unfinished.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenRun {
    /// The run.
    pub run: Run,
    /// Whose.
    pub person: PersonId,
    /// What it was asked.
    pub request: RunRequest,
    /// How often a restart has taken it up, this time included.
    pub resumed: u32,
}

const RUN: &str = "id, agent, model, task, chat, message, status, answer, error, steps, tokens, created_at, ended_at";

fn names(text: &str, what: &'static str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::BadRow {
        what,
        value: text.to_owned(),
    })
}

fn names_text(all: &[String]) -> String {
    serde_json::Value::from(all.to_vec()).to_string()
}

fn run(row: &Row<'_>) -> Result<Run, StoreError> {
    let status: String = row.get(6)?;
    Ok(Run {
        id: row.get(0)?,
        agent: row.get(1)?,
        model: row.get(2)?,
        task: row.get(3)?,
        chat: row.get(4)?,
        message: row.get(5)?,
        status: RunStatus::parse(&status).ok_or(StoreError::BadRow {
            what: "a run's status",
            value: status,
        })?,
        answer: row.get(7)?,
        error: row.get(8)?,
        steps: row.get::<_, i64>(9)?.try_into().unwrap_or_default(),
        tokens: row.get::<_, i64>(10)?.try_into().unwrap_or_default(),
        created_at: row.get(11)?,
        ended_at: row.get(12)?,
    })
}

impl Agents<'_> {
    /// The owner's agents, by name.
    pub async fn all(&self) -> Result<Vec<Agent>, StoreError> {
        self.0
            .read(|connection| {
                let mut query = connection.prepare_cached(
                    "SELECT id, name, description, instructions, tools, starters, model, steps, time_s, tokens
                     FROM agents ORDER BY name, id",
                )?;
                let mut rows = query.query([])?;
                let mut all = Vec::new();
                while let Some(row) = rows.next()? {
                    let count = |at| row.get::<_, i64>(at).map(|n| usize::try_from(n).unwrap_or_default());
                    all.push(Agent {
                        id: row.get(0)?,
                        name: row.get(1)?,
                        description: row.get(2)?,
                        instructions: row.get(3)?,
                        tools: names(&row.get::<_, String>(4)?, "an agent's tools")?,
                        starters: names(&row.get::<_, String>(5)?, "an agent's starters")?,
                        model: row.get(6)?,
                        limits: RunLimits {
                            steps: count(7)?,
                            time: Duration::from_secs(count(8)? as u64),
                            tokens: count(9)?,
                        },
                        builtin: false,
                    });
                }
                Ok(all)
            })
            .await
    }

    /// Keeps an agent; says whether there was one of its name.
    pub async fn put(&self, agent: Agent) -> Result<bool, StoreError> {
        self.0
            .write(move |transaction| {
                let there = transaction.execute("DELETE FROM agents WHERE id = ?", [&agent.id])? > 0;
                transaction.execute(
                    "INSERT INTO agents (id, name, description, instructions, tools, starters, model, steps, time_s, tokens)
                     VALUES (?,?,?,?,?,?,?,?,?,?)",
                    params![
                        agent.id,
                        agent.name,
                        agent.description,
                        agent.instructions,
                        names_text(&agent.tools),
                        names_text(&agent.starters),
                        agent.model,
                        agent.limits.steps as i64,
                        agent.limits.time.as_secs() as i64,
                        agent.limits.tokens as i64,
                    ],
                )?;
                Ok(there)
            })
            .await
    }

    /// Takes an agent away; says whether it was there.
    pub async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.0
            .write(move |transaction| {
                Ok(transaction.execute("DELETE FROM agents WHERE id = ?", [id])? > 0)
            })
            .await
    }

    /// Writes a new run.
    pub async fn begin(
        &self,
        person: &PersonId,
        run: &Run,
        request: &RunRequest,
    ) -> Result<(), StoreError> {
        let (person, run, request) = (
            person.as_str().to_owned(),
            run.clone(),
            request_text(request)?,
        );
        self.0
            .write(move |transaction| {
                transaction.execute(
                    &format!("INSERT INTO runs (person, request, {RUN}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"),
                    params![
                        person,
                        request,
                        run.id,
                        run.agent,
                        run.model,
                        run.task,
                        run.chat,
                        run.message,
                        run.status.as_str(),
                        run.answer,
                        run.error,
                        run.steps as i64,
                        run.tokens as i64,
                        run.created_at,
                        run.ended_at,
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// Writes how far a run is.
    pub async fn update(&self, run: &Run) -> Result<(), StoreError> {
        let run = run.clone();
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "UPDATE runs SET model = ?2, status = ?3, answer = ?4, error = ?5, steps = ?6, tokens = ?7,
                     ended_at = ?8 WHERE id = ?1",
                    params![
                        run.id,
                        run.model,
                        run.status.as_str(),
                        run.answer,
                        run.error,
                        run.steps as i64,
                        run.tokens as i64,
                        run.ended_at,
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// Writes what happened, behind what there is.
    pub async fn note(&self, run: &str, events: &[RunEvent]) -> Result<(), StoreError> {
        let texts = events
            .iter()
            .map(event_text)
            .collect::<Result<Vec<_>, _>>()?;
        let (run, now) = (run.to_owned(), now_ms());
        self.0
            .write(move |transaction| {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO run_events (run, number, at, event)
                     SELECT ?1, coalesce(max(number), -1) + 1, ?2, ?3 FROM run_events WHERE run = ?1",
                )?;
                for text in texts {
                    insert.execute(params![run, now, text])?;
                }
                Ok(())
            })
            .await
    }

    /// A person's runs, newest first.
    pub async fn runs(
        &self,
        person: &PersonId,
        chat: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Run>, StoreError> {
        let (person, chat) = (person.as_str().to_owned(), chat.map(str::to_owned));
        self.0
            .read(move |connection| {
                let mut query = connection.prepare_cached(&format!(
                    "SELECT {RUN} FROM runs WHERE person = ?1 AND (?2 IS NULL OR chat = ?2)
                     ORDER BY created_at DESC, id LIMIT ?3"
                ))?;
                let mut rows = query.query(params![person, chat, limit.min(LIST_MAX) as i64])?;
                let mut all = Vec::new();
                while let Some(row) = rows.next()? {
                    all.push(run(row)?);
                }
                Ok(all)
            })
            .await
    }

    /// One run with what happened in it, each with its unix milliseconds; `None` where there is none of the person's.
    pub async fn transcript(
        &self,
        person: &PersonId,
        id: &str,
    ) -> Result<Option<(Run, Vec<(i64, RunEvent)>)>, StoreError> {
        let (person, id) = (person.as_str().to_owned(), id.to_owned());
        self.0
            .read(move |connection| {
                let mut query = connection.prepare_cached(&format!(
                    "SELECT {RUN} FROM runs WHERE id = ? AND person = ?"
                ))?;
                let found = query
                    .query_row([&id, &person], |row| Ok(run(row)))
                    .optional()?
                    .transpose()?;
                let Some(found) = found else { return Ok(None) };
                let mut query = connection.prepare_cached(
                    "SELECT at, event FROM run_events WHERE run = ? ORDER BY number",
                )?;
                let mut rows = query.query([&id])?;
                let mut events = Vec::new();
                while let Some(row) = rows.next()? {
                    events.push((row.get(0)?, event(&row.get::<_, String>(1)?)?));
                }
                Ok(Some((found, events)))
            })
            .await
    }

    /// Runs that the last process left unfinished, oldest first; each counts as taken up from now on.
    pub async fn reopen(&self) -> Result<Vec<OpenRun>, StoreError> {
        self.0
            .write(|transaction| {
                transaction.execute("UPDATE runs SET resumed = resumed + 1 WHERE ended_at IS NULL", [])?;
                let mut query = transaction.prepare(&format!(
                    "SELECT {RUN}, person, request, resumed FROM runs WHERE ended_at IS NULL ORDER BY created_at"
                ))?;
                let mut rows = query.query([])?;
                let mut all = Vec::new();
                while let Some(row) = rows.next()? {
                    all.push(OpenRun {
                        run: run(row)?,
                        person: PersonId::from_row(row.get(13)?),
                        request: request(&row.get::<_, String>(14)?)?,
                        resumed: row.get(15)?,
                    });
                }
                Ok(all)
            })
            .await
    }

    /// The owner's MCP servers, by name.
    pub async fn servers(&self) -> Result<Vec<McpServer>, StoreError> {
        self.0
            .read(|connection| {
                let mut query = connection.prepare_cached(
                    "SELECT name, reach, enabled, trusted FROM mcp_servers ORDER BY name",
                )?;
                let mut rows = query.query([])?;
                let mut all = Vec::new();
                while let Some(row) = rows.next()? {
                    all.push(McpServer {
                        name: row.get(0)?,
                        reach: reach(&row.get::<_, String>(1)?)?,
                        enabled: row.get(2)?,
                        trusted: names(&row.get::<_, String>(3)?, "a server's trusted tools")?,
                    });
                }
                Ok(all)
            })
            .await
    }

    /// Adds a server; false where the name is taken.
    pub async fn add_server(&self, server: &McpServer) -> Result<bool, StoreError> {
        let (server, reach) = (server.clone(), reach_text(&server.reach)?);
        self.0
            .write(move |transaction| {
                let added = transaction.execute(
                    "INSERT OR IGNORE INTO mcp_servers (name, reach, enabled, trusted, created_at) VALUES (?,?,?,?,?)",
                    params![server.name, reach, server.enabled, names_text(&server.trusted), now_ms()],
                )?;
                Ok(added > 0)
            })
            .await
    }

    /// Turns a server on or off and says which tools are trusted; false where there is none.
    pub async fn change_server(
        &self,
        name: &str,
        enabled: bool,
        trusted: &[String],
    ) -> Result<bool, StoreError> {
        let (name, trusted) = (name.to_owned(), names_text(trusted));
        self.0
            .write(move |transaction| {
                let changed = transaction.execute(
                    "UPDATE mcp_servers SET enabled = ?2, trusted = ?3 WHERE name = ?1",
                    params![name, enabled, trusted],
                )?;
                Ok(changed > 0)
            })
            .await
    }

    /// Forgets a server; false where there is none.
    pub async fn remove_server(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.0
            .write(move |transaction| {
                Ok(transaction.execute("DELETE FROM mcp_servers WHERE name = ?", [name])? > 0)
            })
            .await
    }

    /// Keeps a note.
    pub async fn remember(&self, person: &PersonId, note: &str) -> Result<(), StoreError> {
        let (person, note) = (person.as_str().to_owned(), note.to_owned());
        self.0
            .write(move |transaction| {
                transaction.execute(
                    "INSERT INTO memories (person, note, created_at) VALUES (?,?,?)",
                    params![person, note, now_ms()],
                )?;
                Ok(())
            })
            .await
    }

    /// A person's notes that hold one of the words, those with most of them first and then the newest; without words,
    /// the newest.
    pub async fn recall(
        &self,
        person: &PersonId,
        words: Vec<String>,
    ) -> Result<Vec<String>, StoreError> {
        let person = person.as_str().to_owned();
        self.0
            .read(move |connection| {
                let mut query = connection.prepare_cached(
                    "SELECT note FROM memories WHERE person = ? ORDER BY created_at DESC, id DESC",
                )?;
                let rows = query.query_map([person], |row| row.get::<_, String>(0))?;
                let mut found = Vec::new();
                for note in rows {
                    let note = note?;
                    let lower = note.to_lowercase();
                    let hits = words.iter().filter(|word| lower.contains(*word)).count();
                    if hits > 0 || words.is_empty() {
                        found.push((hits, note));
                    }
                }
                found.sort_by_key(|(hits, _)| std::cmp::Reverse(*hits));
                found.truncate(MEMORIES_MAX);
                Ok(found.into_iter().map(|(_, note)| note).collect())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ServerReach;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn a_run(id: &str) -> Run {
        Run {
            id: id.into(),
            agent: "chat".into(),
            model: "m".into(),
            task: "t".into(),
            chat: None,
            message: None,
            status: RunStatus::Running,
            answer: String::new(),
            error: None,
            steps: 0,
            tokens: 0,
            created_at: 5,
            ended_at: None,
        }
    }

    #[tokio::test]
    async fn a_run_is_kept_with_what_happened_and_is_its_persons() {
        let (_folder, store) = store();
        let (agents, owner) = (store.agents(), PersonId::owner());
        let mut run = a_run("r");
        let request = RunRequest {
            task: "t".into(),
            ..RunRequest::default()
        };
        agents.begin(&owner, &run, &request).await.unwrap();
        agents
            .note(
                "r",
                &[
                    RunEvent::Step { step: 1, total: 2 },
                    RunEvent::Chunk("a".into()),
                ],
            )
            .await
            .unwrap();
        agents
            .note("r", &[RunEvent::Trouble("x".into())])
            .await
            .unwrap();
        let open = agents.reopen().await.unwrap();
        assert_eq!(
            (open.len(), open[0].resumed, &open[0].request),
            (1, 1, &request)
        );
        run.status = RunStatus::Done;
        run.ended_at = Some(9);
        run.answer = "done".into();
        agents.update(&run).await.unwrap();
        assert!(agents.reopen().await.unwrap().is_empty());
        let (found, events) = agents.transcript(&owner, "r").await.unwrap().unwrap();
        assert_eq!(found, run);
        assert_eq!(events[2].1, RunEvent::Trouble("x".into()));
        assert_eq!(agents.runs(&owner, None, 10).await.unwrap(), [run]);
        assert!(agents.runs(&owner, Some("c"), 10).await.unwrap().is_empty());
        let other = PersonId::from_row("other".into());
        assert!(agents.transcript(&other, "r").await.unwrap().is_none());
        assert!(agents.runs(&other, None, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn agents_servers_and_memories_are_kept() {
        let (_folder, store) = store();
        let agents = store.agents();
        let agent = Agent {
            id: "mine".into(),
            name: "Mine".into(),
            description: "d".into(),
            instructions: "i".into(),
            tools: vec!["now".into()],
            starters: Vec::new(),
            model: None,
            limits: RunLimits::default(),
            builtin: false,
        };
        assert!(!agents.put(agent.clone()).await.unwrap());
        assert!(agents.put(agent.clone()).await.unwrap(), "it was there");
        assert_eq!(agents.all().await.unwrap(), [agent]);
        assert!(agents.remove("mine").await.unwrap() && !agents.remove("mine").await.unwrap());

        let server = McpServer {
            name: "s".into(),
            reach: ServerReach::Http {
                url: "https://x".into(),
                token: Some("t".into()),
            },
            enabled: true,
            trusted: Vec::new(),
        };
        assert!(
            agents.add_server(&server).await.unwrap() && !agents.add_server(&server).await.unwrap()
        );
        assert!(
            agents
                .change_server("s", false, &["a".into()])
                .await
                .unwrap()
        );
        let kept = agents.servers().await.unwrap();
        assert_eq!(
            (kept[0].enabled, kept[0].trusted.as_slice()),
            (false, &["a".to_owned()][..])
        );
        assert!(
            agents.remove_server("s").await.unwrap() && !agents.remove_server("s").await.unwrap()
        );

        let owner = PersonId::owner();
        for note in ["my sister is Anna", "I like tea", "Anna likes tea"] {
            agents.remember(&owner, note).await.unwrap();
        }
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(
            agents
                .recall(&owner, words(&["anna", "tea"]))
                .await
                .unwrap()[0],
            "Anna likes tea"
        );
        assert_eq!(
            agents.recall(&owner, words(&["coffee"])).await.unwrap(),
            [""; 0]
        );
        assert_eq!(agents.recall(&owner, Vec::new()).await.unwrap().len(), 3);
    }
}
