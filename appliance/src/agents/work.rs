//! The loop: ask the model, call what it asks for, show it the result, until it answers or a limit is reached.
//!
//! Knows the order of things and the limits. Every run ends in an answer, or in a sentence that says why not: the last
//! step that a limit leaves is always an answer without tools, calls that cannot be read go back to the model with what
//! is wrong, and a call that was made already is answered with what it gave.

use std::time::{Duration, Instant};

use super::schema;
use super::tools::detail;
use super::world::{Ask, Call, Chosen, Ending, Outcome, Past, Plan, Thought, Want, World};
use crate::domain::{
    Approval, Danger, Decision, FinishReason, Message, Note, Role, RunEvent, RunStatus, ToolCall,
};

/// Calls of one step that are made; more is a model that has lost its way.
const CALLS_MAX: usize = 4;

/// Times in one run that a model is told what was wrong with a call or an empty answer.
const MENDS_MAX: usize = 3;

/// Times that a small model is made to call a tool, as long as no call has worked.
const PUSHES_MAX: usize = 2;

/// Characters of a result that the model is given: about a thousand tokens, which a small context can hold twice.
pub(super) const RESULT_CHARS_MAX: usize = 4000;

/// Characters of a result's line for people.
const SUMMARY_CHARS: usize = 160;

struct Run<'a, W> {
    world: &'a W,
    plan: Plan,
    begun: Instant,
    waited: Duration,
    steps: usize,
    tokens: usize,
    mends: usize,
    calls: usize,
    /// Whether a call has worked.
    worked: bool,
    /// Calls that could not be read or did not work.
    missed: usize,
    /// Calls that were made, with what they gave.
    made: Vec<(String, String, String)>,
    /// Why no more tools are offered.
    closing: Option<&'static str>,
}

/// Works a task through.
pub async fn work<W: World>(world: &W, plan: Plan, past: Past) -> Ending {
    let mut run = Run {
        world,
        plan,
        begun: Instant::now(),
        waited: Duration::ZERO,
        steps: past.steps,
        tokens: past.tokens,
        mends: 0,
        calls: 0,
        worked: false,
        missed: 0,
        made: Vec::new(),
        closing: None,
    };
    let planned = !past.plan.is_empty();
    if planned {
        run.keep_plan(&past.plan);
    }
    run.catch_up(past.calls).await;
    if run.plan.plans && !planned && run.steps == 0 {
        match run.world.plan(&run.plan.messages).await {
            Ok((steps, tokens)) => {
                run.tokens += tokens;
                if !steps.is_empty() {
                    run.keep_plan(&steps);
                    run.world
                        .tell(RunEvent::Plan {
                            steps,
                            current: None,
                        })
                        .await;
                }
            }
            Err(why) => {
                run.world
                    .tell(RunEvent::Trouble(format!("there is no plan: {why}")))
                    .await
            }
        }
    }
    run.go().await
}

impl<W: World> Run<'_, W> {
    async fn go(&mut self) -> Ending {
        loop {
            if self.world.stopped() {
                return self.end(
                    RunStatus::Cancelled,
                    String::new(),
                    None,
                    FinishReason::Cancelled,
                );
            }
            self.mind_limits().await;
            self.steps += 1;
            self.world
                .tell(RunEvent::Step {
                    step: self.steps,
                    total: self.plan.limits.steps,
                })
                .await;
            let Chosen { tools: shown, sure } = match self.closing {
                Some(_) => Chosen::default(),
                None => self.world.choose(&self.plan.task, &self.plan.tools).await,
            };
            let pushed = self.plan.pushed && sure && !self.worked && self.missed < PUSHES_MAX;
            let want = match (shown.is_empty(), pushed) {
                (true, _) => Want::Answer,
                (false, true) => Want::Call,
                (false, false) => Want::Either,
            };
            let left = self.plan.limits.tokens.saturating_sub(self.tokens);
            let ask = Ask {
                messages: &self.plan.messages,
                tools: &shown,
                want,
                // What is left, but never so little that no sentence fits.
                tokens_max: left.max(64),
                first: self.steps == 1,
            };
            let thought = match self.world.think(ask).await {
                Ok(thought) => thought,
                Err(why) if self.world.stopped() => {
                    return self.end(
                        RunStatus::Cancelled,
                        String::new(),
                        Some(why),
                        FinishReason::Cancelled,
                    );
                }
                Err(why) => {
                    return self.end(
                        RunStatus::Failed,
                        String::new(),
                        Some(why),
                        FinishReason::Error,
                    );
                }
            };
            self.tokens += thought.tokens;
            let reason = thought.reason.unwrap_or(FinishReason::Stop);
            if self.world.stopped() {
                return self.end(
                    RunStatus::Cancelled,
                    thought.text,
                    None,
                    FinishReason::Cancelled,
                );
            }
            if thought.calls.is_empty() || self.closing.is_some() {
                let answer = thought.text.trim().to_owned();
                if !answer.is_empty() {
                    return self.answer(answer, reason).await;
                }
                if let Some(ending) = self.nothing_said().await {
                    return ending;
                }
                continue;
            }
            self.take(thought).await;
        }
    }

    /// Closes the tools when a limit leaves one step more.
    async fn mind_limits(&mut self) {
        if self.closing.is_some() {
            return;
        }
        let limits = self.plan.limits;
        let spent = self.begun.elapsed().saturating_sub(self.waited);
        let why = if self.steps + 1 >= limits.steps.max(1) {
            "the last step that it may take"
        } else if spent >= limits.time {
            "the time that it may take is over"
        } else if self.tokens >= limits.tokens {
            "the tokens that it may make are used up"
        } else if self.mends > MENDS_MAX {
            "too many calls could not be read"
        } else {
            return;
        };
        self.closing = Some(why);
        if self.calls > 0 || self.mends > 0 {
            let message = format!("{why}: it answers from what it has");
            self.world
                .tell(RunEvent::Status {
                    note: Note::Warning,
                    message,
                })
                .await;
        }
    }

    /// An empty answer: the model is asked once more, and then it is over.
    async fn nothing_said(&mut self) -> Option<Ending> {
        self.mends += 1;
        if self.mends > MENDS_MAX || self.steps > self.plan.limits.steps {
            let why = "the model gave no answer; ask in other words, or choose a larger model";
            return Some(self.end(
                RunStatus::Failed,
                String::new(),
                Some(why.to_owned()),
                FinishReason::Error,
            ));
        }
        self.plan
            .messages
            .push(Message::new(Role::User, "Answer the task now, in words."));
        self.closing.get_or_insert("an answer is asked for");
        None
    }

    /// Makes the calls of a step.
    async fn take(&mut self, thought: Thought) {
        let mut said = Message::new(Role::Assistant, thought.text.trim());
        let total = thought.calls.len();
        said.calls = thought.calls;
        said.calls.truncate(CALLS_MAX);
        let calls = said.calls.clone();
        self.plan.messages.push(said);
        if total > CALLS_MAX {
            let message = format!("{total} calls at once; the first {CALLS_MAX} are made");
            self.world
                .tell(RunEvent::Status {
                    note: Note::Warning,
                    message,
                })
                .await;
        }
        for call in calls {
            if self.world.stopped() {
                return;
            }
            match self.readable(&call) {
                Ok(call) => self.make(call).await,
                Err(why) => {
                    self.mends += 1;
                    self.missed += 1;
                    let message =
                        format!("a call of {} cannot be made: {why}", name_of(&call.name));
                    self.world
                        .tell(RunEvent::Status {
                            note: Note::Warning,
                            message,
                        })
                        .await;
                    self.observe(
                        &call.id,
                        &call.name,
                        &format!("error: {why}. Call it again, rightly, or answer in words."),
                    );
                }
            }
        }
    }

    /// A call as the tool takes it, or what is wrong with it.
    fn readable(&self, call: &ToolCall) -> Result<Call, String> {
        let tool = self
            .plan
            .tools
            .iter()
            .find(|tool| tool.name == call.name)
            .ok_or_else(|| {
                let names: Vec<&str> = self
                    .plan
                    .tools
                    .iter()
                    .map(|tool| tool.name.as_str())
                    .collect();
                format!("there is no such tool; there are {}", names.join(", "))
            })?;
        let schema = serde_json::from_str(&tool.parameters)
            .map_err(|error| format!("the tool's schema is no JSON: {error}"))?;
        Ok(Call {
            id: call.id.clone(),
            tool: tool.clone(),
            arguments: schema::arguments(&schema, &call.arguments)?,
        })
    }

    async fn make(&mut self, call: Call) {
        let arguments = call.arguments.to_string();
        let name = call.tool.name.clone();
        let before = self
            .made
            .iter()
            .find(|(tool, with, _)| *tool == name && *with == arguments);
        if let Some((_, _, gave)) = before {
            let again = format!(
                "You have called this already; it gave:\n{gave}\nAnswer the task now, in words."
            );
            let message = format!(
                "{} was called with the same arguments again",
                name_of(&name)
            );
            self.observe(&call.id, &name, &again);
            self.closing.get_or_insert("it repeats itself");
            self.world
                .tell(RunEvent::Status {
                    note: Note::Warning,
                    message,
                })
                .await;
            return;
        }
        self.calls += 1;
        let start = RunEvent::ToolStart {
            call: call.id.clone(),
            tool: name.clone(),
            detail: detail(&call.arguments),
            args: arguments.clone(),
            server: call.tool.server.clone(),
        };
        self.world.tell(start).await;
        let mut took = None;
        let outcome = match self.permitted(&call).await {
            Ok(()) => {
                let called = Instant::now();
                let outcome = self.world.call(&call).await;
                took = Some(called.elapsed());
                outcome
            }
            Err(why) => Outcome::failed(why),
        };
        if let Some(rule) = &outcome.rule {
            let reason = outcome.content.clone();
            self.world
                .tell(RunEvent::Refused {
                    tool: name.clone(),
                    reason,
                    rule: rule.clone(),
                })
                .await;
        }
        match outcome.success {
            true => self.worked = true,
            false => self.missed += 1,
        }
        let content = clipped(&outcome.content, RESULT_CHARS_MAX);
        self.observe(&call.id, &name, &framed(&outcome, &content));
        self.made.push((name.clone(), arguments, content.clone()));
        let result = RunEvent::ToolResult {
            call: call.id,
            tool: name,
            summary: one_line(&outcome.content),
            content,
            success: outcome.success,
            took: took.unwrap_or_default(),
            finding: outcome.finding,
        };
        self.world.tell(result).await;
    }

    /// Whether a call may be made: a person says so where it acts.
    async fn permitted(&mut self, call: &Call) -> Result<(), String> {
        if call.tool.danger == Danger::Reads {
            return Ok(());
        }
        match self.plan.approval {
            Approval::Always => return Ok(()),
            Approval::Never => {
                return Err(
                    "this was not allowed: nothing that acts is allowed in this run".to_owned(),
                );
            }
            Approval::Ask => {}
        }
        let asked = Instant::now();
        let decision = self.world.decide(call).await;
        self.waited += asked.elapsed();
        self.world
            .tell(RunEvent::ToolDecided {
                call: call.id.clone(),
                decision,
            })
            .await;
        match decision {
            Decision::Allowed => Ok(()),
            Decision::Denied => Err("the person refused this call; do without it".to_owned()),
            Decision::TimedOut => Err("nobody allowed this call in time; do without it".to_owned()),
        }
    }

    fn observe(&mut self, id: &str, name: &str, content: &str) {
        let mut result = Message::new(Role::Tool, content);
        result.name = Some(name.to_owned());
        result.answers = Some(id.to_owned());
        self.plan.messages.push(result);
    }

    fn keep_plan(&mut self, steps: &[String]) {
        let lines: Vec<String> = steps
            .iter()
            .enumerate()
            .map(|(at, step)| format!("{}. {step}", at + 1))
            .collect();
        if let Some(task) = self.plan.messages.last_mut() {
            task.content
                .push_str(&format!("\n\nThe plan:\n{}", lines.join("\n")));
        }
    }

    /// Takes up what was called before an interruption.
    async fn catch_up(&mut self, calls: Vec<(ToolCall, Option<(String, bool)>)>) {
        for (call, result) in calls {
            let mut said = Message::new(Role::Assistant, "");
            said.calls = vec![call.clone()];
            self.plan.messages.push(said);
            self.calls += 1;
            match (result, self.readable(&call)) {
                (Some((content, success)), _) => {
                    let outcome = Outcome {
                        content: content.clone(),
                        success,
                        finding: None,
                        rule: None,
                    };
                    self.observe(&call.id, &call.name, &framed(&outcome, &content));
                    let arguments = self
                        .readable(&call)
                        .map_or(call.arguments.clone(), |call| call.arguments.to_string());
                    self.made.push((call.name, arguments, content));
                }
                (None, Ok(call)) if call.tool.danger == Danger::Reads => {
                    let called = Instant::now();
                    let outcome = self.world.call(&call).await;
                    self.finish_interrupted(&call.id, &call.tool.name, outcome, called.elapsed())
                        .await;
                }
                (None, _) => {
                    let why = "the appliance was restarted during this call; whether it was carried out is not known";
                    self.finish_interrupted(
                        &call.id,
                        &call.name,
                        Outcome::failed(why),
                        Duration::ZERO,
                    )
                    .await;
                }
            }
        }
    }

    async fn finish_interrupted(&mut self, id: &str, name: &str, outcome: Outcome, took: Duration) {
        let content = clipped(&outcome.content, RESULT_CHARS_MAX);
        self.observe(id, name, &framed(&outcome, &content));
        let result = RunEvent::ToolResult {
            call: id.to_owned(),
            tool: name.to_owned(),
            summary: one_line(&outcome.content),
            content,
            success: outcome.success,
            took,
            finding: outcome.finding,
        };
        self.world.tell(result).await;
    }

    async fn answer(&mut self, answer: String, reason: FinishReason) -> Ending {
        let event = RunEvent::Answer {
            content: answer.clone(),
            steps: self.steps,
            tools: self.calls,
            elapsed: self.begun.elapsed(),
        };
        self.world.tell(event).await;
        self.end(RunStatus::Done, answer, None, reason)
    }

    fn end(
        &self,
        status: RunStatus,
        answer: String,
        error: Option<String>,
        reason: FinishReason,
    ) -> Ending {
        Ending {
            status,
            answer,
            error: error.filter(|_| status == RunStatus::Failed),
            steps: self.steps,
            tokens: self.tokens,
            reason,
        }
    }
}

/// A result as the model reads it: what went wrong is named, and what was found is data.
fn framed(outcome: &Outcome, content: &str) -> String {
    match outcome.success {
        true => content.to_owned(),
        false => format!("error: {content}"),
    }
}

/// A tool's name as a model may write it, made fit for a line.
fn name_of(name: &str) -> String {
    let short: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    format!("`{short}`")
}

/// The beginning of a text, with a word of what is missing.
fn clipped(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((at, _)) => {
            let left = text[at..].chars().count();
            format!("{}\n[{left} more characters were left out]", &text[..at])
        }
    }
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SUMMARY_CHARS) {
        None => line,
        Some((at, _)) => format!("{}…", &line[..at]),
    }
}

#[cfg(test)]
mod tests;
