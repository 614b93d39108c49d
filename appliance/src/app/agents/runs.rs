//! Runs: started, followed, decided about, stopped, and taken up again after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::Stream;
use tokio::sync::{oneshot, watch};

use super::super::{App, AppError, Log, Wish};
use super::setting::{conversation, narrower, past, spoken};
use super::world::Surroundings;
use crate::agents::{AgentError, Ending, Past, Plan, World, builtin, mcp, tools, work};
use crate::domain::{
    Agent, AgentTool, Message, Model, ModelFormat, Note, PersonId, Role, Run, RunEvent, RunRequest,
    RunStatus, ServerStatus, Shelf, Stats,
};
use crate::store::{OpenRun, new_id, now_ms};

/// Runs that go on at a time; each holds a place in some model's queue again and again.
const RUNNING_MAX: usize = 32;

/// How long the events of a finished run can still be followed; its transcript stays.
const KEPT: Duration = Duration::from_secs(300);

/// How often a restart takes a run up: one that ends the appliance each time is let go.
const RESUMED_MAX: u32 = 3;

/// A model whose file is smaller is too small to think of tools by itself: it is pushed to a first call where the task
/// clearly needs one. 1.2 GB are some two billion weights of four bits.
const SMALL_BYTES: u64 = 1_200_000_000;

/// A handle on a run; clones share it.
#[derive(Clone)]
pub struct AgentRun {
    /// The run's name.
    pub id: String,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) log: Log<RunEvent>,
    pub(super) person: PersonId,
    pub(super) chat: Option<String>,
    model: String,
    pub(super) stop: watch::Sender<bool>,
    /// The call that a person is asked about. A std mutex, never held across an await.
    pub(super) waiting: Mutex<Option<Waiting>>,
}

/// A call that waits.
pub(super) struct Waiting {
    pub(super) call: String,
    pub(super) tell: oneshot::Sender<bool>,
}

/// All runs that go on or ended lately.
#[derive(Default)]
pub(in super::super) struct Runs {
    by_id: Mutex<HashMap<String, (AgentRun, Option<Instant>)>>,
    /// Vectors of tools' texts, by text.
    pub(super) directions: Mutex<HashMap<String, Vec<f32>>>,
    /// The owner's MCP servers.
    pub(super) servers: super::servers::Servers,
}

impl Runs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (AgentRun, Option<Instant>)>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_room(&self) -> Result<(), AgentError> {
        let mut by_id = self.lock();
        by_id.retain(|_, (_, ended)| ended.is_none_or(|at| at.elapsed() < KEPT));
        match by_id.values().filter(|(_, ended)| ended.is_none()).count() {
            running if running >= RUNNING_MAX => Err(AgentError::TooManyRuns(running)),
            _ => Ok(()),
        }
    }
}

impl AgentRun {
    /// The model that is asked.
    pub fn model(&self) -> &str {
        &self.shared.model
    }

    /// The chat that it belongs to.
    pub fn chat(&self) -> Option<&str> {
        self.shared.chat.as_deref()
    }

    /// Follows the events from number `from` on (0 is the first), each with its number.
    pub fn events(&self, from: usize) -> impl Stream<Item = (usize, RunEvent)> + Send + use<> {
        self.shared.log.from(from)
    }
}

/// A run that is about to begin, or to go on.
struct Setting {
    run: Run,
    person: PersonId,
    agent: Agent,
    request: RunRequest,
    model: Model,
    /// The conversation before the task.
    path: Vec<Message>,
    past: Past,
}

impl App {
    /// Starts a run.
    ///
    /// # Errors
    /// No such agent, chat, message or model; too many runs.
    pub async fn start_run(
        &self,
        person: &PersonId,
        mut request: RunRequest,
    ) -> Result<AgentRun, AppError> {
        self.inner.runs.make_room()?;
        if request.agent.is_empty() {
            builtin::DEFAULT.clone_into(&mut request.agent);
        }
        let agent = self.agent(&request.agent).await?;
        let store = &self.inner.store;
        let mut path = Vec::new();
        if let Some(chat) = &request.chat {
            store.chats().get(person, chat).await?;
            if let Some(parent) = &request.parent_id {
                path = spoken(store.chats().path(person, chat, parent).await?);
            }
        }
        let again = request.task.trim().is_empty();
        let task = match path.pop_if(|last| again && last.role == Role::User) {
            Some(last) => last.content,
            None if again => return Err(AgentError::NoTask.into()),
            None => request.task.clone(),
        };
        let name = [
            request.model.as_str(),
            agent.model.as_deref().unwrap_or_default(),
        ];
        let name = name
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or_default();
        let model = self.model(name).await?;
        let mut run = Run {
            id: new_id()?.to_string(),
            agent: agent.id.clone(),
            model: model.id.clone(),
            task,
            chat: request.chat.clone(),
            message: None,
            status: RunStatus::Running,
            answer: String::new(),
            error: None,
            steps: 0,
            tokens: 0,
            created_at: now_ms(),
            ended_at: None,
        };
        let mut user = None;
        if let Some(chat) = &request.chat {
            let said = (!again).then(|| (run.task.clone(), Vec::new()));
            let (asked, assistant) = self
                .rows(person, chat, request.parent_id.clone(), said, &model.id)
                .await?;
            run.message = Some(assistant.id);
            user = asked.map(|message| message.id);
        }
        store.agents().begin(person, &run, &request).await?;
        let started = RunEvent::Started {
            run: run.id.clone(),
            user,
            assistant: run.message.clone(),
        };
        store
            .agents()
            .note(&run.id, std::slice::from_ref(&started))
            .await?;
        let setting = Setting {
            run,
            person: person.clone(),
            agent,
            request,
            model,
            path,
            past: Past::default(),
        };
        Ok(self.go(setting, vec![started]))
    }

    /// Takes up what the last process left unfinished; for the process that serves, once, at its start.
    ///
    /// # Errors
    /// The store fails.
    pub async fn resume_runs(&self) -> Result<(), AppError> {
        for open in self.inner.store.agents().reopen().await? {
            let mut run = open.run.clone();
            if let Err(error) = self.take_up(open).await {
                tracing::warn!(run = run.id, %error, "a run is not taken up again");
                run.status = RunStatus::Failed;
                run.error = Some(format!(
                    "the appliance was restarted, and the run cannot go on: {error}"
                ));
                run.ended_at = Some(now_ms());
                self.inner.store.agents().update(&run).await?;
            }
        }
        Ok(())
    }

    async fn take_up(&self, open: OpenRun) -> Result<(), AppError> {
        let OpenRun {
            run,
            person,
            request,
            resumed,
        } = open;
        if resumed > RESUMED_MAX {
            return Err(AppError::Measure(format!(
                "it was taken up {RESUMED_MAX} times already"
            )));
        }
        let agents = self.inner.store.agents();
        let agent = self.agent(&run.agent).await?;
        let model = self.model(&run.model).await?;
        let (_, events) = agents
            .transcript(&person, &run.id)
            .await?
            .ok_or_else(|| AgentError::NoRun(run.id.clone()))?;
        let events: Vec<RunEvent> = events.into_iter().map(|(_, event)| event).collect();
        let mut path = Vec::new();
        if let (Some(chat), Some(parent)) = (&request.chat, &request.parent_id) {
            path = spoken(self.inner.store.chats().path(&person, chat, parent).await?);
            path.pop_if(|last| request.task.trim().is_empty() && last.role == Role::User);
        }
        let past = past(&events, run.tokens);
        let setting = Setting {
            run,
            person,
            agent,
            request,
            model,
            path,
            past,
        };
        tracing::info!(run = setting.run.id, "a run goes on after a restart");
        self.go(setting, events);
        Ok(())
    }

    /// Sets a run going. `events` are those that it has already.
    fn go(&self, setting: Setting, events: Vec<RunEvent>) -> AgentRun {
        let shared = Arc::new(Shared {
            log: Log::new(),
            person: setting.person.clone(),
            chat: setting.run.chat.clone(),
            model: setting.run.model.clone(),
            stop: watch::channel(false).0,
            waiting: Mutex::default(),
        });
        for event in events {
            shared.log.push(event);
        }
        let run = AgentRun {
            id: setting.run.id.clone(),
            shared,
        };
        self.inner
            .runs
            .lock()
            .insert(run.id.clone(), (run.clone(), None));
        let (app, handle) = (self.clone(), run.clone());
        tokio::spawn(async move {
            let wish = Wish {
                session: Some(handle.id.clone()),
                ..Wish::default()
            };
            super::super::carrying(
                wish,
                super::super::RouteNote::default(),
                app.clone().work_through(handle.clone(), setting),
            )
            .await;
            handle.shared.log.end();
            if let Some(entry) = app.inner.runs.lock().get_mut(&handle.id) {
                entry.1 = Some(Instant::now());
            }
        });
        run
    }

    async fn work_through(self, handle: AgentRun, setting: Setting) {
        let Setting {
            mut run,
            person,
            agent,
            request,
            model,
            path,
            past,
        } = setting;
        let limits = narrower(agent.limits, request.limits);
        let (offered, off, states) = self
            .tools_for(&person, &agent, request.tools.as_deref())
            .await;
        let shelf = self.shelf_for(&person, &agent, &request).await;
        let has = |tool: &str| agent.tools.iter().any(|one| one == tool);
        let surroundings = Surroundings::new(
            self.clone(),
            handle.clone(),
            run.clone(),
            shelf,
            limits.time,
            // A handful is shown as it is; of more, those that the task needs.
            offered.len() > crate::agents::relevance::SHOWN_MAX,
        );
        if !states.is_empty() {
            surroundings.tell(RunEvent::Servers(states)).await;
        }
        if offered.is_empty() && !off.is_empty() {
            let message = format!("this agent works without its tools: {}", off.join("; "));
            surroundings
                .tell(RunEvent::Status {
                    note: Note::Warning,
                    message,
                })
                .await;
        }
        let plan = Plan {
            messages: conversation(&agent, &request, path, &run.task),
            task: run.task.clone(),
            plans: has(tools::PLAN),
            pushed: self.inner.config.agents.constrained
                && model.format == ModelFormat::Gguf
                && model.file_bytes < SMALL_BYTES,
            tools: offered,
            limits,
            approval: request.approval,
        };
        let ending = work(&surroundings, plan, past).await;
        let stats = surroundings.stats();
        self.close(&mut run, ending, stats, &handle).await;
    }

    /// Writes a run's end everywhere, and tells it last.
    async fn close(&self, run: &mut Run, ending: Ending, stats: Option<Stats>, handle: &AgentRun) {
        run.status = ending.status;
        run.answer.clone_from(&ending.answer);
        run.error.clone_from(&ending.error);
        (run.steps, run.tokens) = (ending.steps, ending.tokens);
        run.ended_at = Some(now_ms());
        let store = &self.inner.store;
        // Where nothing was answered, the chat shows why.
        let content = match &ending.error {
            Some(why) if ending.answer.is_empty() => why.clone(),
            _ => ending.answer.clone(),
        };
        let mut events = Vec::new();
        if let Some(why) = &ending.error {
            events.push(RunEvent::Failed(why.clone()));
        }
        events.push(RunEvent::Done {
            message: run.message.clone(),
            status: ending.status,
            reason: ending.reason,
            content: content.clone(),
            stats: stats.clone(),
        });
        let written = async {
            if let Some(message) = &run.message {
                let reason = Some(ending.reason.as_str());
                store
                    .chats()
                    .write_answer(message, &content, None, reason, stats.as_ref())
                    .await?;
            }
            store.agents().note(&run.id, &events).await?;
            store.agents().update(run).await
        };
        if let Err(error) = written.await {
            tracing::error!(run = run.id, %error, "a run's end was not written");
        }
        for event in events {
            handle.shared.log.push(event);
        }
    }

    /// Finds a run that goes on or ended lately.
    ///
    /// # Errors
    /// There is none, or it is somebody else's.
    pub fn find_run(&self, person: &PersonId, id: &str) -> Result<AgentRun, AppError> {
        let run = self.inner.runs.lock().get(id).map(|(run, _)| run.clone());
        let run = run.filter(|run| run.shared.person == *person);
        run.ok_or_else(|| AgentError::NoRun(id.to_owned()).into())
    }

    /// The run that goes on in a chat now.
    pub fn run_of_chat(&self, person: &PersonId, chat: &str) -> Option<AgentRun> {
        let runs = self.inner.runs.lock();
        let mut going = runs
            .values()
            .filter(|(_, ended)| ended.is_none())
            .map(|(run, _)| run);
        going
            .find(|run| run.shared.person == *person && run.shared.chat.as_deref() == Some(chat))
            .cloned()
    }

    /// Allows or refuses a call that waits; `call` is `None` for whichever waits.
    ///
    /// # Errors
    /// Nothing waits under that name.
    pub fn decide_call(
        &self,
        person: &PersonId,
        run: &str,
        call: Option<&str>,
        allow: bool,
    ) -> Result<(), AppError> {
        let run = self.find_run(person, run)?;
        let mut waiting = run
            .shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let asked = waiting.take_if(|waiting| call.is_none_or(|call| call == waiting.call));
        match asked.map(|asked| asked.tell.send(allow)) {
            Some(Ok(())) => Ok(()),
            _ => Err(AgentError::NothingWaits.into()),
        }
    }

    /// Stops a run; its answer stays as far as it came. Stopping one that has ended does nothing.
    ///
    /// # Errors
    /// There is none.
    pub fn cancel_run(&self, person: &PersonId, id: &str) -> Result<(), AppError> {
        self.find_run(person, id)?.shared.stop.send_replace(true);
        Ok(())
    }

    /// The documents that a run is answered from before it uses any tool.
    async fn shelf_for(
        &self,
        person: &PersonId,
        agent: &Agent,
        request: &RunRequest,
    ) -> Option<Shelf> {
        let mut only = request.only.clone();
        if let Some(chat) = &request.chat
            && only.is_empty()
        {
            // A chat without rows of this kind has none; a store that fails will say so at the next write.
            only = self
                .inner
                .store
                .collections()
                .of_chat(chat)
                .await
                .unwrap_or_default();
        }
        let always = agent.tools.iter().any(|tool| tool == tools::LIBRARY);
        (always || !only.is_empty()).then(|| Shelf {
            person: person.clone(),
            only,
        })
    }

    /// The tools that an agent can use now, and why it cannot use others.
    async fn tools_for(
        &self,
        person: &PersonId,
        agent: &Agent,
        narrowed: Option<&[String]>,
    ) -> (Vec<AgentTool>, Vec<String>, Vec<ServerStatus>) {
        let mut all = self.builtin_tools(person).await.unwrap_or_default();
        let mut states = Vec::new();
        // A server is started for those agents alone that use servers.
        if person.is_owner()
            && agent
                .tools
                .iter()
                .any(|tool| tool == tools::MCP || tool.contains(mcp::JOINT))
        {
            let wait = Some(super::servers::PATIENCE);
            let (more, found) = self.server_tools(wait).await.unwrap_or_default();
            all.extend(more);
            states = found;
        }
        let asked = |tool: &AgentTool| {
            let named = |list: &[String]| {
                list.iter()
                    .any(|one| *one == tool.name || (one == tools::MCP && tool.server.is_some()))
            };
            named(&agent.tools) && narrowed.is_none_or(named)
        };
        let (mut offered, mut off) = (Vec::new(), Vec::new());
        for tool in all.into_iter().filter(asked) {
            match &tool.off {
                None => offered.push(tool),
                Some(why) if !off.contains(why) => off.push(why.clone()),
                Some(_) => {}
            }
        }
        (offered, off, states)
    }
}
