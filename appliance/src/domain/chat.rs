//! One request for text and the events that answer it. Every dialect translates to these and back.

use std::time::Duration;

use super::library::{Citation, Shelf};

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions that frame the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool that the model called.
    Tool,
}

impl Role {
    /// The name that templates, rows and every dialect use.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }

    /// Reads the name back; `developer` is OpenAI's newer word for `system`.
    pub fn parse(text: &str) -> Option<Role> {
        Some(match text {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => return None,
        })
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// The participant's name, where a template shows one; for a tool's result, the tool's.
    pub name: Option<String>,
    /// What the model thought before it spoke.
    pub reasoning: Option<String>,
    /// Tools that the model called in this message.
    pub calls: Vec<ToolCall>,
    /// The call that this message, a tool's result, answers.
    pub answers: Option<String>,
    /// Pictures that belong to it: addresses, or `data:` addresses with their bytes.
    pub pictures: Vec<String>,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON Schema of its arguments, as JSON text.
    pub parameters: String,
}

/// Whether the model must call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// As it likes, and a call that it begins is made as the tool's schema says, where its engine can see to that.
    Held,
    /// It must not: the tools are not shown to it.
    None,
    /// It must call one or more.
    Required,
    /// It must call this one.
    Named(String),
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The name by which its result refers to it.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON text of its arguments, as the model wrote it.
    pub arguments: String,
}

/// The shape that an answer must have; the engine makes no token that would break it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Shape {
    /// Any text.
    #[default]
    Free,
    /// One JSON object.
    Json,
    /// JSON that this schema, JSON text itself, accepts.
    Schema(String),
    /// Text that this regular expression matches as a whole.
    Regex(String),
    /// Text of this grammar, in the Lark notation.
    Grammar(String),
}

impl Message {
    /// A message without a name.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message {
            role,
            content: content.into(),
            name: None,
            reasoning: None,
            calls: Vec::new(),
            answers: None,
            pictures: Vec::new(),
        }
    }
}

/// What the model is to continue.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A conversation, to be written with the model's own template.
    Messages(Vec<Message>),
    /// Text that is already in the model's own form.
    Text {
        /// The text.
        text: String,
        /// Whether markers such as `<|im_start|>` in the text mean themselves.
        parse_special: bool,
    },
    /// Token ids of the model's own vocabulary.
    Tokens(Vec<u32>),
}

/// How the next token is chosen. `None` leaves the engine's default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// 0 is greedy; above, how flat the distribution becomes.
    pub temperature: Option<f32>,
    /// Keep the likeliest tokens until their mass reaches this.
    pub top_p: Option<f32>,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: Option<u32>,
    /// Drop tokens less likely than this share of the likeliest.
    pub min_p: Option<f32>,
    /// Divide (or multiply, below zero) the logits of tokens that were seen; 1 does nothing.
    pub repetition_penalty: Option<f32>,
    /// How many of the latest tokens count as seen, for all three penalties; 0 counts every one.
    pub repetition_window: Option<usize>,
    /// Subtract once from the logits of tokens that were seen.
    pub presence_penalty: Option<f32>,
    /// Subtract for every time that a token was seen.
    pub frequency_penalty: Option<f32>,
    /// Makes a sampled answer repeatable.
    pub seed: Option<u64>,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Sampling {
    /// Fills in what is left open; biases and the seed belong to a request and are never filled in.
    #[must_use]
    pub fn or(self, usual: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.or(usual.temperature),
            top_p: self.top_p.or(usual.top_p),
            top_k: self.top_k.or(usual.top_k),
            min_p: self.min_p.or(usual.min_p),
            repetition_penalty: self.repetition_penalty.or(usual.repetition_penalty),
            presence_penalty: self.presence_penalty.or(usual.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(usual.frequency_penalty),
            ..self
        }
    }
}

/// Where an answer ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Tokens to make at most; `None` goes on to the end of the context.
    pub tokens_max: Option<usize>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Go on although the model says that it is done.
    pub ignore_end: bool,
}

/// What becomes of a conversation that is longer than the model's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// It is refused, with its length.
    #[default]
    Refuse,
    /// Its oldest turns are left out, and the client is told.
    LeaveOut,
}

/// One request for text. It has no `Deserialize`: that is what keeps the dialects from leaking in.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's name, as the client wrote it.
    pub model: String,
    /// What to continue.
    pub input: Input,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Where to end.
    pub limits: Limits,
    /// `Some(n)` asks for each token's log probability and those of the `n` likeliest.
    pub logprobs: Option<usize>,
    /// Tools that the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must.
    pub tool_choice: ToolChoice,
    /// The shape of the answer.
    pub shape: Shape,
    /// Whether a model that can think before it speaks does; `None` leaves it to the model's template.
    pub thinking: Option<bool>,
    /// The documents that it is to be answered from; `None` answers from none.
    pub shelf: Option<Shelf>,
    /// What becomes of a conversation that is too long.
    pub overflow: Overflow,
}

impl ChatRequest {
    /// A request that leaves everything but the model and its input to the engine.
    pub fn new(model: impl Into<String>, input: Input) -> ChatRequest {
        ChatRequest {
            model: model.into(),
            input,
            sampling: Sampling::default(),
            limits: Limits::default(),
            logprobs: None,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            shape: Shape::Free,
            thinking: None,
            shelf: None,
            overflow: Overflow::Refuse,
        }
    }

    /// Whether there are pictures in it, which not every model sees.
    pub fn shows_pictures(&self) -> bool {
        match &self.input {
            Input::Messages(messages) => messages.iter().any(|one| !one.pictures.is_empty()),
            Input::Text { .. } | Input::Tokens(_) => false,
        }
    }
}

/// A token and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token's id.
    pub id: u32,
    /// The token's bytes: a token may be half a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens at this place, best first.
    pub top: Vec<(u32, Vec<u8>, f32)>,
}

/// A piece of the answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Piece {
    /// Whole characters; may be empty while a character is unfinished or a stop text may be starting.
    pub text: String,
    /// How many tokens made it.
    pub tokens: usize,
    /// Those tokens, where the request asked for log probabilities.
    pub logprobs: Vec<TokenLogprob>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model said so, or a stop text came.
    Stop,
    /// The model called tools and waits for their results.
    ToolCalls,
    /// `tokens_max` or the context's end was reached.
    Length,
    /// The person stopped it.
    Cancelled,
    /// The engine failed; the answer is as far as it came.
    Error,
}

impl FinishReason {
    /// The name that rows and the page use.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::ToolCalls => "tool_calls",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Error => "error",
        }
    }
}

/// Tokens read and made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that an earlier turn had already left in the cache.
    pub cached_tokens: usize,
    /// Tokens made.
    pub completion_tokens: usize,
    /// Those of them that the model thought before it spoke, its marks of thinking included.
    pub reasoning_tokens: usize,
}

/// Where the time of a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From arrival to the first forward pass.
    pub queued: Duration,
    /// Reading the prompt.
    pub prefill: Duration,
    /// Making tokens after the first.
    pub decode: Duration,
}

impl Timings {
    /// From arrival to the first token.
    pub fn first_token(&self) -> Duration {
        self.queued + self.prefill
    }

    /// Prompt tokens read a second, those from the cache left out.
    pub fn prefill_rate(&self, usage: &Usage) -> Option<f64> {
        rate(
            usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            self.prefill,
        )
    }

    /// Tokens made a second; the first belongs to the prompt's pass.
    pub fn decode_rate(&self, usage: &Usage) -> Option<f64> {
        rate(usage.completion_tokens.saturating_sub(1), self.decode)
    }
}

fn rate(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

/// How an answer ended and what it cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finish {
    /// Why it ended.
    pub reason: FinishReason,
    /// Which of the request's stop texts ended it, where one did and the engine tells.
    pub stop: Option<usize>,
    /// What it read and made.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// What it took of the machine above idle, where that is measured and nothing else ran.
    pub joules: Option<f64>,
}

/// What an answer cost, as it is kept with the message.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that came from the cache; unknown when the answer was stopped.
    pub cached_tokens: Option<usize>,
    /// Tokens made.
    pub completion_tokens: usize,
    /// From the question to the first token, milliseconds.
    pub ttft_ms: f64,
    /// Prompt tokens read a second, cached ones left out.
    pub prefill_tps: Option<f64>,
    /// Tokens made a second after the first.
    pub decode_tps: Option<f64>,
    /// Energy above idle, where it was measured.
    pub joules: Option<f64>,
    /// From the first thought to the first word, milliseconds; `None` where there was no thought or no word.
    pub thought_ms: Option<f64>,
}

impl From<&Finish> for Stats {
    fn from(finish: &Finish) -> Stats {
        Stats {
            prompt_tokens: finish.usage.prompt_tokens,
            cached_tokens: Some(finish.usage.cached_tokens),
            completion_tokens: finish.usage.completion_tokens,
            ttft_ms: finish.timings.first_token().as_secs_f64() * 1e3,
            prefill_tps: finish.timings.prefill_rate(&finish.usage),
            decode_tps: finish.timings.decode_rate(&finish.usage),
            joules: finish.joules,
            thought_ms: None,
        }
    }
}

/// One event of an answer. The last one is always `Finished`, or the stream ends in an error.
#[derive(Debug, Clone, PartialEq)]
pub enum ChatEvent {
    /// An engine has taken the request. Comes first and once.
    Queued {
        /// Tokens of the prompt; `None` where the engine tells only at the end.
        prompt_tokens: Option<usize>,
    },
    /// It waits in the engine's queue. Comes again whenever that changes, and not once its prompt is being read.
    Waits {
        /// Requests that are before it.
        ahead: usize,
    },
    /// The conversation was too long, and its oldest messages were left out; at most once, and before any text.
    LeftOut {
        /// How many.
        messages: usize,
    },
    /// The passages that the answer is made from; at most once, and before any text.
    Sources(Vec<Citation>),
    /// More text.
    Piece(Piece),
    /// More of what the model thinks before it speaks.
    Reasoning(String),
    /// A call of a tool begins; `index` counts the calls of this answer from 0.
    CallBegins {
        /// Which call.
        index: usize,
        /// Its identifier, for the result to refer to.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// More of a call's arguments: the pieces of one call join to one JSON text.
    CallArguments {
        /// Which call.
        index: usize,
        /// The piece.
        json: String,
    },
    /// The end.
    Finished(Finish),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_leave_out_what_was_not_computed() {
        let usage = Usage {
            prompt_tokens: 110,
            cached_tokens: 10,
            completion_tokens: 21,
            reasoning_tokens: 0,
        };
        let timings = Timings {
            queued: Duration::from_millis(5),
            prefill: Duration::from_secs(2),
            decode: Duration::from_secs(4),
        };
        assert_eq!(timings.prefill_rate(&usage), Some(50.0));
        assert_eq!(timings.decode_rate(&usage), Some(5.0));
        assert_eq!(Timings::default().decode_rate(&usage), None);
        assert_eq!(timings.first_token(), Duration::from_millis(2005));
    }

    #[test]
    fn roles_read_back() {
        for role in [Role::System, Role::User, Role::Assistant, Role::Tool] {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("developer"), Some(Role::System));
        assert_eq!(Role::parse("root"), None);
    }
}
