//! Who answers: engines behind one trait, and the pool of loaded sessions.
//!
//! An engine is one file or folder: a [`Card`], a pure `fit`, and `load`, whose [`Session`] stops when it
//! is dropped. Nothing above this module can tell one engine from another, and nothing here knows of
//! HTTP, chats or persons.

pub mod build;
pub mod child;
pub mod encoder;
pub mod flm;
pub mod kokoro;
pub mod lanes;
pub mod ledger;
pub mod llama_server;
pub mod plan;
pub mod pool;
pub mod probe;
pub mod programs;
pub mod remote;
pub mod route;
pub mod sd;
pub mod ternary;
pub mod upstream;
pub mod versions;
pub mod whisper;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use onebit_kernels::threads::Threads;

use self::lanes::Lane;
use crate::config::TernaryConfig;
use crate::domain::{
    ChatEvent, ChatRequest, Input, ListenRequest, Machine, Model, ModelFormat, PictureEvent,
    PictureRequest, Sound, SpeakRequest, Transcript,
};
use crate::error::{Failing, Kind};
use crate::fetch::Fetch;

/// Every engine, in the order in which they are asked. Adding one is one file and one line.
pub const ENGINES: &[&dyn Engine] = &[
    &ternary::Ternary,
    &llama_server::LlamaServer,
    &flm::Flm,
    &remote::Remote,
    &whisper::Whisper,
    &kokoro::Kokoro,
    &sd::Sd,
];

// Commands build and list engines without knowing how processes are made.
pub use crate::process::{Launcher, Spec};

/// What a session can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Text from text.
    Chat,
    /// The likelihood of given text.
    Score,
    /// The number of tokens of a prompt.
    Count,
    /// Vectors from text.
    Embed,
    /// Text from speech.
    Transcribe,
    /// Speech from text.
    Speak,
    /// How well texts answer a question.
    Rank,
    /// Pictures from text.
    Draw,
}

/// What an engine is, as plain data: read by listings, `doctor` and the contract test alike.
#[derive(Debug)]
pub struct Card {
    /// The name in rows, logs and routes.
    pub name: &'static str,
    /// What its sessions do.
    pub tasks: &'static [Task],
    /// What it loads.
    pub formats: &'static [ModelFormat],
    /// Where it computes, for people.
    pub device: &'static str,
}

/// Whether an engine can run a model on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It can.
    Runs {
        /// Bytes that it needs at least.
        memory_bytes_min: u64,
        /// Bytes that it would like.
        memory_bytes: u64,
    },
    /// It cannot.
    No {
        /// Why, as a sentence's end: "the architecture `mamba` is not supported".
        why: String,
    },
}

/// What a session is given to live on.
#[derive(Clone)]
pub struct Slot {
    /// Bytes that it may take.
    pub memory_bytes_max: u64,
    /// The lane that it is to run on; empty leaves it to the engine.
    pub lane: &'static str,
    /// Threads for computing, shared by all sessions of this process.
    pub threads: Arc<Threads>,
    /// What all sessions share.
    pub means: Arc<Means>,
}

/// What engines are given to work with, the same for all sessions of a process.
#[derive(Clone, Default)]
pub struct Means {
    /// The built-in engine's settings.
    pub ternary: TernaryConfig,
    /// The folder of kernels compiled for this machine's GPU; empty where there is none.
    pub kernels: PathBuf,
    /// Programs found on this machine.
    pub programs: programs::Programs,
    /// What those programs have said of themselves.
    pub probed: probe::Probed,
    /// How children are started; `None` where none may be.
    pub children: Option<child::Children>,
    /// The folder of keys for models elsewhere.
    pub remotes: PathBuf,
    /// The way out; `None` where nothing leaves.
    pub fetch: Option<Fetch>,
}

/// What a loaded session says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The engine's name.
    pub engine: &'static str,
    /// Positions that one answer may use, prompt included.
    pub context_length: usize,
    /// Bytes that it holds.
    pub memory_bytes: u64,
    /// The model's own chat template; `None` when it has none or its engine applies it itself.
    pub template: Option<Template>,
}

/// A chat template with the texts that it may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Jinja source.
    pub source: String,
    /// The text of the token that begins a document; empty when there is none.
    pub bos: String,
    /// The text of the token that ends one; empty when there is none.
    pub eos: String,
}

/// How busy a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Answers being made.
    pub active: usize,
    /// Requests that wait.
    pub waiting: usize,
}

/// The events of one answer; dropping the stream cancels it.
pub type Events = BoxStream<'static, Result<ChatEvent, EngineError>>;

/// The events of one drawing; dropping the stream cancels it.
pub type PictureEvents = BoxStream<'static, Result<PictureEvent, EngineError>>;

/// What an engine's own server has answered, in its own words.
#[derive(Debug, Clone)]
pub struct Forwarded {
    /// The status.
    pub status: u16,
    /// The body, JSON mostly.
    pub body: Bytes,
}

/// A kind of runner.
pub trait Engine: Send + Sync {
    /// Returns what it is.
    fn card(&self) -> &'static Card;

    /// Its lanes for a model on this machine, the one that it is loaded on first; none where no request can be routed.
    fn lanes(&self, model: &Model, means: &Means) -> Vec<Lane> {
        let _ = (model, means);
        Vec::new()
    }

    /// Decides whether it can run `model` on `machine`. Pure.
    fn fit(&self, model: &Model, machine: &Machine, means: &Means) -> Fit;

    /// Loads the model; resolves when it can answer. Dropping the session stops it.
    fn load<'a>(
        &'a self,
        model: &'a Model,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<dyn Session>, EngineError>>;
}

/// A loaded model that answers. Every task defaults to [`EngineError::Unsupported`].
pub trait Session: Send + Sync {
    /// Returns what it says of itself.
    fn facts(&self) -> &Facts;

    /// Returns how busy it is.
    fn load(&self) -> Load;

    /// Whether it can still answer; a session that cannot is replaced at the next request.
    fn alive(&self) -> bool {
        true
    }

    /// Answers a request. Returns as soon as the request is checked and stands in the queue.
    ///
    /// # Errors
    /// A request that can never be answered, or a full queue.
    fn chat(&self, request: ChatRequest) -> Result<Events, EngineError> {
        let _ = request;
        Err(EngineError::Unsupported(Task::Chat))
    }

    /// Splits text into the model's tokens, with the marker that begins a document where it has one.
    ///
    /// # Errors
    /// The engine keeps its tokenizer to itself.
    fn tokens(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let _ = text;
        Err(EngineError::Unsupported(Task::Score))
    }

    /// Counts the tokens of an input as an answer to it would; one that is too long is counted too.
    ///
    /// # Errors
    /// The engine keeps its tokenizer to itself.
    fn count(&self, input: Input) -> Result<usize, EngineError> {
        let _ = input;
        Err(EngineError::Unsupported(Task::Count))
    }

    /// Returns the log probability of each token after the first, given those before it.
    fn score(&self, tokens: Vec<u32>) -> BoxFuture<'_, Result<Vec<f32>, EngineError>> {
        let _ = tokens;
        Box::pin(async { Err(EngineError::Unsupported(Task::Score)) })
    }

    /// Returns one vector for each text.
    fn embed(&self, texts: Vec<String>) -> BoxFuture<'_, Result<Vec<Vec<f32>>, EngineError>> {
        let _ = texts;
        Box::pin(async { Err(EngineError::Unsupported(Task::Embed)) })
    }

    /// Writes down what is said in a recording of at most a window.
    fn transcribe(&self, request: ListenRequest) -> BoxFuture<'_, Result<Transcript, EngineError>> {
        let _ = request;
        Box::pin(async { Err(EngineError::Unsupported(Task::Transcribe)) })
    }

    /// Says a sentence or less.
    fn speak(&self, request: SpeakRequest) -> BoxFuture<'_, Result<Sound, EngineError>> {
        let _ = request;
        Box::pin(async { Err(EngineError::Unsupported(Task::Speak)) })
    }

    /// The voices that it speaks with, the usual one first; none for what does not speak.
    fn voices(&self) -> &[String] {
        &[]
    }

    /// Draws. Returns as soon as the request stands in the queue.
    ///
    /// # Errors
    /// A full queue.
    fn draw(&self, request: PictureRequest) -> Result<PictureEvents, EngineError> {
        let _ = request;
        Err(EngineError::Unsupported(Task::Draw))
    }

    /// Passes a request on to the engine's own server: a GET without a body, a POST with one.
    fn forward(
        &self,
        path: String,
        body: Option<Bytes>,
    ) -> BoxFuture<'_, Result<Forwarded, EngineError>> {
        let _ = (path, body);
        Box::pin(async { Err(EngineError::Unsupported(Task::Draw)) })
    }

    /// Returns how well each text answers `query`: more is better, on a scale of the model's own.
    fn rank(
        &self,
        query: String,
        texts: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<f32>, EngineError>> {
        let _ = (query, texts);
        Box::pin(async { Err(EngineError::Unsupported(Task::Rank)) })
    }
}

/// Why an engine cannot answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// No engine runs this model on this machine.
    #[error("no engine can run {model}: {why}")]
    NoFit {
        /// The model's name.
        model: String,
        /// Each engine's reason.
        why: String,
    },
    /// The model is larger than what models may take.
    #[error("{model} needs {} of memory and models may take {}; free some, or raise pool.memory_bytes_max", mebibytes(*needed_bytes), mebibytes(*budget_bytes))]
    TooBig {
        /// The model's name.
        model: String,
        /// Bytes that it needs at least.
        needed_bytes: u64,
        /// Bytes that all models may take.
        budget_bytes: u64,
    },
    /// Loading failed.
    #[error("{model} cannot be loaded: {why}")]
    LoadFailed {
        /// The model's name.
        model: String,
        /// The loader's reason.
        why: String,
    },
    /// The session does not do this.
    #[error("this model does not do {0:?}")]
    Unsupported(Task),
    /// Too many requests wait already.
    #[error("{waiting} requests are already waiting; try again shortly")]
    QueueFull {
        /// How many.
        waiting: usize,
    },
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {tokens} tokens and the context holds {context}; shorten it")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Positions of the context.
        context: usize,
    },
    /// There is nothing to continue.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token id that the vocabulary does not have.
    #[error("token {id} is not in the vocabulary of {vocabulary} tokens")]
    BadToken {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// The conversation must be rendered by the caller, and was not.
    #[error(
        "this model has no chat template; use /v1/completions, or import a model with a template"
    )]
    NoTemplate,
    /// The shape that the answer must have cannot be enforced.
    #[error("the answer cannot be held to this shape: {why}")]
    BadShape {
        /// The compiler's reason, naming the keyword.
        why: String,
    },
    /// The forward pass failed.
    #[error("the engine failed: {0}")]
    Failed(String),
    /// The session was unloaded or the appliance is stopping.
    #[error("the model was unloaded while the request waited; try again")]
    Stopped,
}

impl Failing for EngineError {
    fn kind(&self) -> Kind {
        match self {
            EngineError::NoFit { .. } | EngineError::Unsupported(_) | EngineError::NoTemplate => {
                Kind::Unsupported
            }
            EngineError::TooBig { .. }
            | EngineError::LoadFailed { .. }
            | EngineError::Failed(_)
            | EngineError::Stopped => Kind::EngineDown,
            EngineError::QueueFull { .. } => Kind::Overloaded,
            EngineError::PromptTooLong { .. }
            | EngineError::EmptyPrompt
            | EngineError::BadShape { .. }
            | EngineError::BadToken { .. } => Kind::BadRequest,
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            EngineError::NoFit { .. } => "model_not_supported",
            EngineError::TooBig { .. } => "model_too_big",
            EngineError::LoadFailed { .. } => "model_load_error",
            EngineError::Unsupported(_) | EngineError::NoTemplate => "unsupported_operation",
            EngineError::QueueFull { .. } => "queue_full",
            EngineError::PromptTooLong { .. } => "context_length_exceeded",
            EngineError::EmptyPrompt => "empty_prompt",
            EngineError::BadToken { .. } => "bad_token",
            EngineError::BadShape { .. } => "invalid_schema",
            EngineError::Failed(_) => "engine_failed",
            EngineError::Stopped => "model_unloaded",
        })
    }

    fn param(&self) -> Option<&str> {
        match self {
            EngineError::PromptTooLong { .. } | EngineError::EmptyPrompt => Some("messages"),
            EngineError::NoFit { .. } | EngineError::TooBig { .. } => Some("model"),
            EngineError::BadShape { .. } => Some("response_format"),
            _ => None,
        }
    }

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            // A queue of this kind moves within a second or two.
            EngineError::QueueFull { .. } => Some(2),
            EngineError::Stopped => Some(1),
            _ => None,
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_engine_does_something() {
        for (i, engine) in ENGINES.iter().enumerate() {
            let card = engine.card();
            assert!(
                !card.tasks.is_empty() && !card.formats.is_empty(),
                "{}",
                card.name
            );
            assert!(
                ENGINES[..i]
                    .iter()
                    .all(|other| other.card().name != card.name)
            );
        }
    }

    #[test]
    fn sizes_are_shown_in_mebibytes() {
        let error = EngineError::TooBig {
            model: "m".into(),
            needed_bytes: 3 << 20,
            budget_bytes: (2 << 20) - 1,
        };
        assert!(
            error
                .to_string()
                .starts_with("m needs 3 MiB of memory and models may take 2 MiB")
        );
    }
}
