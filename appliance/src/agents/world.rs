//! What the loop works with: the world that it is given, what it asks of it, and how it ends.

use std::future::Future;

use crate::domain::{
    AgentTool, Approval, Decision, Finding, FinishReason, Message, RunEvent, RunLimits, RunStatus,
    ToolCall,
};

/// How the model may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// With words or with a call, as it likes.
    Either,
    /// With a call.
    Call,
    /// With words.
    Answer,
}

/// What the model is asked in one step.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// The tools that it is shown.
    pub tools: &'a [AgentTool],
    /// How it may answer.
    pub want: Want,
    /// Tokens to make at most.
    pub tokens_max: usize,
    /// Whether this is the run's first step.
    pub first: bool,
}

/// What the model answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Thought {
    /// Its words.
    pub text: String,
    /// Its calls.
    pub calls: Vec<ToolCall>,
    /// Tokens that it made.
    pub tokens: usize,
    /// Why it ended.
    pub reason: Option<FinishReason>,
}

/// A call whose arguments are as the tool asks for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its name.
    pub id: String,
    /// The tool.
    pub tool: AgentTool,
    /// Its arguments.
    pub arguments: serde_json::Value,
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What the model is given.
    pub content: String,
    /// Whether it did what it was called for.
    pub success: bool,
    /// What it found, where that is a list.
    pub finding: Option<Finding>,
    /// The rule that refused it, before anything was touched.
    pub rule: Option<String>,
}

impl Outcome {
    /// It worked.
    pub fn done(content: impl Into<String>) -> Outcome {
        Outcome {
            content: content.into(),
            success: true,
            finding: None,
            rule: None,
        }
    }

    /// It did not.
    pub fn failed(why: impl Into<String>) -> Outcome {
        Outcome {
            content: why.into(),
            success: false,
            finding: None,
            rule: None,
        }
    }
}

/// Tools for a task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chosen {
    /// Those to show, best first.
    pub tools: Vec<AgentTool>,
    /// Whether the task clearly needs one of them.
    pub sure: bool,
}

/// What a run needs of the appliance.
pub trait World: Sync {
    /// Asks the model, telling of its words while they come.
    fn think(&self, ask: Ask<'_>) -> impl Future<Output = Result<Thought, String>> + Send;
    /// The tools that the task is likely to need, of those given.
    fn choose(&self, task: &str, tools: &[AgentTool]) -> impl Future<Output = Chosen> + Send;
    /// Asks for a plan.
    fn plan(
        &self,
        messages: &[Message],
    ) -> impl Future<Output = Result<(Vec<String>, usize), String>> + Send;
    /// Makes a call.
    fn call(&self, call: &Call) -> impl Future<Output = Outcome> + Send;
    /// Asks a person; tells of the question itself.
    fn decide(&self, call: &Call) -> impl Future<Output = Decision> + Send;
    /// Tells what happens.
    fn tell(&self, event: RunEvent) -> impl Future<Output = ()> + Send;
    /// Whether somebody has stopped the run.
    fn stopped(&self) -> bool;
}

/// What is to be done, and how far one may go.
#[derive(Debug)]
pub struct Plan {
    /// Instructions and conversation; the task is its last message.
    pub messages: Vec<Message>,
    /// The task.
    pub task: String,
    /// The tools that the agent has and that can be used.
    pub tools: Vec<AgentTool>,
    /// Whether it plans first.
    pub plans: bool,
    /// How far it may go.
    pub limits: RunLimits,
    /// What was decided about tools that act.
    pub approval: Approval,
    /// Whether a call is demanded where the task clearly needs one: for models too small to think of it.
    pub pushed: bool,
}

/// How far a run had come when it was interrupted.
#[derive(Debug, Default)]
pub struct Past {
    /// Steps that were done.
    pub steps: usize,
    /// Tokens that were made.
    pub tokens: usize,
    /// Calls and their results, in order; a call without one was interrupted.
    pub calls: Vec<(ToolCall, Option<(String, bool)>)>,
    /// Whether there is a plan already, as the model knows it.
    pub plan: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// How.
    pub status: RunStatus,
    /// Its answer, as far as it came.
    pub answer: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Times that the model was asked.
    pub steps: usize,
    /// Tokens made.
    pub tokens: usize,
    /// Why the last answer ended.
    pub reason: FinishReason,
}
