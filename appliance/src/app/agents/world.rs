//! What a run sees of the appliance: its models, tools, the person, and the place where it tells what happens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::oneshot;

use super::super::{App, AppError};
use super::runs::{AgentRun, Waiting};
use crate::agents::relevance::{self, SHOWN_MAX};
use crate::agents::{Ask, Call, Chosen, Outcome, Thought, Want, World, tools};
use crate::domain::{
    AgentTool, ChatEvent, ChatRequest, Decision, Finish, Input, Limits, Message, Note, Overflow,
    Run, RunEvent, RunStatus, Sampling, Shape, Shelf, Stats, Tool, ToolCall, ToolChoice,
};

/// Tokens of a step that may still call tools: a call is short, and a model that goes on and on would hold everything up.
const STEP_TOKENS_MAX: usize = 1024;

/// Steps of a plan.
const PLAN_MAX: usize = 4;

/// Tokens of a plan.
const PLAN_TOKENS_MAX: usize = 200;

/// The appliance around one run.
pub(super) struct Surroundings {
    pub(super) app: App,
    handle: AgentRun,
    run: Run,
    /// Documents that go before the task.
    shelf: Option<Shelf>,
    begun: Instant,
    time: Duration,
    /// Milliseconds that a person was waited for.
    waited: AtomicU64,
    /// Whether only those tools are shown that are near to the task.
    chooses: bool,
    finish: Mutex<Option<Finish>>,
}

impl Surroundings {
    pub(super) fn new(
        app: App,
        handle: AgentRun,
        run: Run,
        shelf: Option<Shelf>,
        time: Duration,
        chooses: bool,
    ) -> Surroundings {
        Surroundings {
            app,
            handle,
            run,
            shelf,
            begun: Instant::now(),
            time,
            waited: AtomicU64::new(0),
            chooses,
            finish: Mutex::new(None),
        }
    }

    pub(super) fn person(&self) -> &crate::domain::PersonId {
        &self.handle.shared.person
    }

    /// What the last answer cost.
    pub(super) fn stats(&self) -> Option<Stats> {
        let finish = self.finish.lock().unwrap_or_else(PoisonError::into_inner);
        finish.as_ref().map(Stats::from)
    }

    /// When the run's time is over.
    fn deadline(&self) -> tokio::time::Instant {
        let waited = Duration::from_millis(self.waited.load(Ordering::Relaxed));
        tokio::time::Instant::from_std(self.begun + self.time + waited)
    }

    /// Resolves when somebody stops the run.
    pub(super) async fn stop(&self) {
        // The sender lives in the handle that we hold.
        let _ = self
            .handle
            .shared
            .stop
            .subscribe()
            .wait_for(|stop| *stop)
            .await;
    }

    async fn keep(&self, events: &[RunEvent]) {
        if let Err(error) = self
            .app
            .inner
            .store
            .agents()
            .note(&self.run.id, events)
            .await
        {
            tracing::error!(run = self.run.id, %error, "a run's transcript was not written");
        }
    }

    async fn set_status(&self, status: RunStatus) {
        let run = Run {
            status,
            ..self.run.clone()
        };
        if let Err(error) = self.app.inner.store.agents().update(&run).await {
            tracing::error!(run = self.run.id, %error, "a run's state was not written");
        }
    }

    /// Reads an answer to its end; what was said and thought goes to the readers as it comes, and whole to the store.
    async fn read(&self, request: ChatRequest) -> Result<(Thought, String), AppError> {
        let mut answer = tokio::select! {
            answer = self.app.chat(request) => answer?,
            () = self.stop() => return Ok(Default::default()),
        };
        let mut thought = Thought::default();
        let mut reasoning = String::new();
        let deadline = self.deadline();
        loop {
            let event = tokio::select! {
                event = answer.next() => event,
                () = self.stop() => break,
                () = tokio::time::sleep_until(deadline) => {
                    thought.reason = Some(crate::domain::FinishReason::Length);
                    break;
                }
            };
            match event {
                Some(Ok(ChatEvent::Piece(piece))) => {
                    thought.text.push_str(&piece.text);
                    thought.tokens += piece.tokens;
                    if !piece.text.is_empty() {
                        self.handle.shared.log.push(RunEvent::Chunk(piece.text));
                    }
                }
                Some(Ok(ChatEvent::Reasoning(text))) => {
                    reasoning.push_str(&text);
                    self.handle.shared.log.push(RunEvent::Thinking(text));
                }
                Some(Ok(ChatEvent::CallBegins { id, name, .. })) => {
                    thought.calls.push(ToolCall {
                        id,
                        name,
                        arguments: String::new(),
                    });
                }
                Some(Ok(ChatEvent::CallArguments { index, json })) => {
                    if let Some(call) = thought.calls.get_mut(index) {
                        call.arguments.push_str(&json);
                    }
                }
                Some(Ok(ChatEvent::Sources(sources))) => {
                    if let Some(message) = &self.run.message {
                        let chats = self.app.inner.store.chats();
                        if let Err(error) = chats.write_citations(message, &sources).await {
                            tracing::error!(message, %error, "an answer's citations were not written");
                        }
                    }
                    self.tell(RunEvent::Sources(sources)).await;
                }
                Some(Ok(ChatEvent::LeftOut { messages })) => {
                    let message = format!(
                        "the oldest {messages} messages were left out: the model's context is full"
                    );
                    self.tell(RunEvent::Status {
                        note: Note::Info,
                        message,
                    })
                    .await;
                }
                Some(Ok(ChatEvent::Queued { .. } | ChatEvent::Waits { .. })) => {}
                Some(Ok(ChatEvent::Finished(finish))) => {
                    thought.reason = Some(finish.reason);
                    thought.tokens = finish.usage.completion_tokens;
                    *self.finish.lock().unwrap_or_else(PoisonError::into_inner) = Some(finish);
                    break;
                }
                Some(Err(error)) => return Err(error),
                None => break,
            }
        }
        Ok((thought, reasoning))
    }

    /// How near each tool is to the task: by vectors where there is an embedder, by words otherwise.
    async fn scores(&self, task: &str, all: &[AgentTool]) -> Vec<f32> {
        let texts = |tool: &AgentTool| {
            let mut texts = vec![tool.description.clone()];
            if let Some(builtin) = tools::builtin(&tool.name) {
                texts.extend(builtin.like.iter().map(|like| (*like).to_owned()));
            }
            texts
        };
        let of_tools: Vec<Vec<String>> = all.iter().map(texts).collect();
        let known = &self.app.inner.runs.directions;
        let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing: Vec<String> = {
            let known = lock();
            of_tools
                .iter()
                .flatten()
                .filter(|text| !known.contains_key(*text))
                .cloned()
                .collect()
        };
        missing.push(task.to_owned());
        match self.app.directions(missing.clone()).await {
            Ok(mut vectors) => {
                let Some(task) = vectors.pop() else {
                    return vec![0.0; all.len()];
                };
                let mut known = lock();
                if known.len() > DIRECTIONS_MAX {
                    known.clear();
                }
                known.extend(missing.into_iter().zip(vectors));
                let score = |texts: &Vec<String>| {
                    let vectors: Vec<Vec<f32>> = texts
                        .iter()
                        .filter_map(|text| known.get(text).cloned())
                        .collect();
                    relevance::nearness(&task, &vectors)
                };
                of_tools.iter().map(score).collect()
            }
            Err(error) => {
                tracing::debug!(%error, "tools are chosen by their words");
                let score = |texts: &Vec<String>| {
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    relevance::likeness(task, &texts)
                };
                of_tools.iter().map(score).collect()
            }
        }
    }
}

/// Vectors of tools' texts that are kept; servers come and go.
const DIRECTIONS_MAX: usize = 2000;

impl World for Surroundings {
    async fn think(&self, ask: Ask<'_>) -> Result<Thought, String> {
        let held = self.app.inner.config.agents.constrained;
        let tool = |tool: &AgentTool| Tool {
            name: tool.name.clone(),
            description: Some(tool.description.clone()),
            parameters: tool.parameters.clone(),
        };
        let request = ChatRequest {
            tools: ask.tools.iter().map(tool).collect(),
            tool_choice: match ask.want {
                Want::Answer => ToolChoice::None,
                Want::Call => ToolChoice::Required,
                Want::Either if held => ToolChoice::Held,
                Want::Either => ToolChoice::Auto,
            },
            sampling: Sampling {
                // A call is to be the likeliest one, not a lucky one.
                temperature: (!ask.tools.is_empty()).then_some(0.0),
                ..Sampling::default()
            },
            limits: Limits {
                tokens_max: Some(match ask.want {
                    Want::Answer => ask.tokens_max,
                    _ => ask.tokens_max.min(STEP_TOKENS_MAX),
                }),
                ..Limits::default()
            },
            shelf: self.shelf.clone(),
            overflow: Overflow::LeaveOut,
            ..ChatRequest::new(
                self.run.model.clone(),
                Input::Messages(ask.messages.to_vec()),
            )
        };
        let (thought, reasoning) = self
            .read(request)
            .await
            .map_err(|error| error.to_string())?;
        let mut kept = Vec::new();
        if !reasoning.is_empty() {
            kept.push(RunEvent::Thinking(reasoning));
        }
        if !thought.text.is_empty() {
            kept.push(RunEvent::Chunk(thought.text.clone()));
        }
        self.keep(&kept).await;
        Ok(thought)
    }

    async fn choose(&self, task: &str, all: &[AgentTool]) -> Chosen {
        if all.is_empty() {
            return Chosen::default();
        }
        let scores = self.scores(task, all).await;
        let sure = scores.iter().any(|score| *score >= relevance::SURE);
        let tools = match self.chooses || all.len() > SHOWN_MAX {
            false => all.to_vec(),
            true => relevance::choose(&scores, relevance::NEAR)
                .into_iter()
                .map(|at| all[at].clone())
                .collect(),
        };
        Chosen { tools, sure }
    }

    async fn plan(&self, messages: &[Message]) -> Result<(Vec<String>, usize), String> {
        let mut messages = messages.to_vec();
        if let Some(task) = messages.last_mut() {
            task.content.push_str("\n\nFirst write a plan of at most four short steps, as JSON: {\"steps\": [\"...\"]}");
        }
        let schema = serde_json::json!({
            "type": "object",
            "properties": {"steps": {
                "type": "array",
                "items": {"type": "string", "minLength": 3, "maxLength": 120},
                "minItems": 1,
                "maxItems": PLAN_MAX,
            }},
            "required": ["steps"],
            "additionalProperties": false,
        });
        let request = ChatRequest {
            shape: Shape::Schema(schema.to_string()),
            sampling: Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            },
            limits: Limits {
                tokens_max: Some(PLAN_TOKENS_MAX),
                ..Limits::default()
            },
            overflow: Overflow::LeaveOut,
            ..ChatRequest::new(self.run.model.clone(), Input::Messages(messages))
        };
        let mut answer = self
            .app
            .chat(request)
            .await
            .map_err(|error| error.to_string())?;
        let (mut text, mut tokens) = (String::new(), 0);
        loop {
            let event = tokio::select! {
                event = answer.next() => event,
                () = self.stop() => break,
            };
            match event {
                Some(Ok(ChatEvent::Piece(piece))) => text.push_str(&piece.text),
                Some(Ok(ChatEvent::Finished(finish))) => tokens = finish.usage.completion_tokens,
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(_)) => {}
                None => break,
            }
        }
        let value: Value = serde_json::from_str(text.trim())
            .map_err(|_| "the model's plan cannot be read".to_owned())?;
        let steps = value["steps"].as_array().into_iter().flatten();
        let steps: Vec<String> = steps.filter_map(Value::as_str).map(str::to_owned).collect();
        Ok((steps, tokens))
    }

    async fn call(&self, call: &Call) -> Outcome {
        tokio::select! {
            outcome = self.app.run_tool(self.person(), self.shelf.as_ref(), call) => outcome,
            () = self.stop() => Outcome::failed("the run was stopped"),
            () = tokio::time::sleep_until(self.deadline()) => {
                Outcome::failed("the time that the run may take is over")
            }
        }
    }

    async fn decide(&self, call: &Call) -> Decision {
        let timeout = Duration::from_secs(self.app.inner.config.agents.confirm_s);
        let (tell, told) = oneshot::channel();
        let waiting = &self.handle.shared.waiting;
        *waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(Waiting {
            call: call.id.clone(),
            tell,
        });
        self.set_status(RunStatus::Waiting).await;
        let ask = RunEvent::ToolConfirm {
            call: call.id.clone(),
            tool: call.tool.name.clone(),
            args: call.arguments.to_string(),
            timeout,
        };
        self.tell(ask).await;
        let asked = Instant::now();
        let decision = tokio::select! {
            told = told => match told {
                Ok(true) => Decision::Allowed,
                Ok(false) | Err(_) => Decision::Denied,
            },
            () = tokio::time::sleep(timeout) => Decision::TimedOut,
            () = self.stop() => Decision::Denied,
        };
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let waited = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.waited.fetch_add(waited, Ordering::Relaxed);
        self.set_status(RunStatus::Running).await;
        decision
    }

    async fn tell(&self, event: RunEvent) {
        // Kept first: what readers have seen is there after a restart too.
        self.keep(std::slice::from_ref(&event)).await;
        self.handle.shared.log.push(event);
    }

    fn stopped(&self) -> bool {
        *self.handle.shared.stop.borrow()
    }
}
