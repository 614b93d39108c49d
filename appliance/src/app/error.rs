//! Everything that a request to the appliance can fail with: one error for `api` to translate.

use std::path::PathBuf;

use crate::engines::EngineError;
use crate::error::{Failing, Kind};
use crate::store::StoreError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An engine's reason.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Kernels could not be compiled.
    #[error("{0}")]
    Kernels(String),
    /// The store's reason.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Trust's reason.
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustError),
    /// The mesh's reason.
    #[error(transparent)]
    Mesh(#[from] crate::mesh::MeshError),
    /// Headscale's reason.
    #[error(transparent)]
    Headscale(#[from] crate::mesh::headscale::HeadscaleError),
    /// A server elsewhere does not give what was asked of it.
    #[error("the models of {address} cannot be listed: {why}")]
    Remote {
        /// The server's address.
        address: String,
        /// Why.
        why: String,
    },
    /// A hub's or the disk's reason.
    #[error(transparent)]
    Catalog(#[from] super::catalog::CatalogError),
    /// An agent's reason.
    #[error(transparent)]
    Agent(#[from] crate::agents::AgentError),
    /// A newer version.
    #[error(transparent)]
    Update(#[from] super::update::UpdateError),
    /// The library's reason.
    #[error(transparent)]
    Documents(#[from] super::documents::LibraryError),
    /// A file of this machine may not be shown.
    #[error(transparent)]
    Files(#[from] super::files::FilesError),
    /// A file that was sent cannot be kept.
    #[error(transparent)]
    Upload(#[from] super::uploads::UploadError),
    /// What was ordered and not waited for failed.
    #[error("{0}")]
    Errand(String),
    /// The recording's fault.
    #[error(transparent)]
    Sound(#[from] crate::sound::SoundError),
    /// No model that listens, or none that speaks.
    #[error("no model for {work} has been brought in yet; run `{command}`")]
    NoSpeechModel {
        /// What it would do, as "speech to text".
        work: &'static str,
        /// The command that mends it.
        command: &'static str,
    },
    /// No model here draws.
    #[error(
        "no model here makes pictures; bring one that stable-diffusion.cpp reads: `onebit import MODEL.safetensors`"
    )]
    NoPictureModel,
    /// A model was named that does something else.
    #[error("{model} does no {work}; name one that does, or none{}", among(able))]
    NotForSpeech {
        /// The model.
        model: String,
        /// What was asked, as "speech to text".
        work: &'static str,
        /// Models that do it.
        able: Vec<String>,
    },
    /// No such voice.
    #[error("there is no voice `{voice}`; there are {}", voices.join(", "))]
    NoVoice {
        /// What was asked for.
        voice: String,
        /// What there is.
        voices: Vec<String>,
    },
    /// The container needs another program.
    #[error("{0} needs ffmpeg, which is not installed here; install it, or ask for wav or pcm")]
    NoEncoder(&'static str),
    /// The recording is larger than a disk should hold of it.
    #[error("the recording is larger than {bytes_max} bytes; cut it in parts, or code it tighter")]
    RecordingTooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// No lane can run the request.
    #[error("no lane can run this: {0}")]
    NoLane(String),
    /// It sees no pictures.
    #[error("{0} does not see the pictures of this chat; choose a model that does")]
    Blind(String),
    /// No model of this name has been imported.
    #[error("there is no model `{asked}`{}", hint(suggestions))]
    ModelNotFound {
        /// What was asked for.
        asked: String,
        /// Names that look like it.
        suggestions: Vec<String>,
    },
    /// No model at all.
    #[error("no model has been imported yet; run `onebit import FILE.gguf`")]
    NoModels,
    /// The model's template refuses the conversation.
    #[error("the model's chat template refuses these messages: {why}")]
    Template {
        /// The template's reason.
        why: String,
    },
    /// The file is not a model that we can run.
    #[error("{} is not a model that onebit runs: {why}", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file cannot be read or copied.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried, such as "cannot read".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The name cannot be used.
    #[error("`{0}` has nothing that a model's name can be made of; give one with --name")]
    BadName(String),
    /// Another model has the name.
    #[error("{0} is a model already; choose another name")]
    NameTaken(String),
    /// The model answers somebody now.
    #[error("{0} is in use; unload it first")]
    InUse(String),
    /// It is part of the installation.
    #[error(
        "{0} comes with the program and stays; set builtin = false under [models] to take it out of the list"
    )]
    ComesWithTheProgram(String),
    /// It answers elsewhere.
    #[error("{0} answers elsewhere, and its vocabulary is not here")]
    NoVocabulary(String),
    /// It was not trained to fill gaps.
    #[error("{0} does not fill gaps: its vocabulary has no marks for before, after and middle")]
    FillsNoGaps(String),
    /// It makes no vectors.
    #[error(
        "{0} makes no embeddings; name all-minilm-l6-v2, which comes with the program, or bring in a model that does \
         (`onebit pull ORGANISATION/NAME`, such as a GGUF of nomic-embed-text or bge-small) and name it"
    )]
    NoEmbeddings(String),
    /// A model was to name a label and named none.
    #[error("{0} named none of the labels")]
    NoLabel(String),
    /// Too many pulls run at once.
    #[error("{0} pulls run already; wait for one, or stop one")]
    TooManyDownloads(usize),
    /// A measurement broke.
    #[error("cannot measure: {0}")]
    Measure(String),
    /// The turn has ended long ago or never was.
    #[error("there is no running turn `{0}`")]
    TurnNotFound(String),
    /// A turn needs a question or a message to answer.
    #[error("give `content`, or a `parent_id` that names a message of the person")]
    NothingToAnswer,
    /// The text is too short to measure.
    #[error("the text has {tokens} tokens; perplexity needs at least {needed}")]
    TextTooShort {
        /// Tokens that it has.
        tokens: usize,
        /// Tokens that one window needs.
        needed: usize,
    },
    /// A row says what we never wrote.
    #[error("the database holds a {0} that cannot be read")]
    BadRow(&'static str),
    /// Too many turns run at once.
    #[error("{0} answers are being written already; stop one or try again shortly")]
    TooManyTurns(usize),
}

fn hint(suggestions: &[String]) -> String {
    match suggestions {
        [] => "; `onebit models` lists them".to_owned(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

fn among(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(" of {}", names.join(", ")),
    }
}

impl Failing for AppError {
    fn kind(&self) -> Kind {
        match self {
            AppError::Engine(error) => error.kind(),
            AppError::Store(error) => error.kind(),
            AppError::Trust(error) => error.kind(),
            AppError::Mesh(error) => error.kind(),
            AppError::Headscale(error) => error.kind(),
            AppError::Catalog(error) => error.kind(),
            AppError::Agent(error) => error.kind(),
            AppError::Update(error) => error.kind(),
            AppError::Documents(error) => error.kind(),
            AppError::Files(error) => error.kind(),
            AppError::Upload(error) => error.kind(),
            AppError::Errand(_) => Kind::EngineDown,
            AppError::Sound(error) => error.kind(),
            AppError::NoSpeechModel { .. } | AppError::NoPictureModel => Kind::Conflict,
            AppError::RecordingTooLarge { .. } => Kind::TooLarge,
            AppError::NotForSpeech { .. }
            | AppError::NoEncoder(_)
            | AppError::NoLane(_)
            | AppError::NoVocabulary(_)
            | AppError::FillsNoGaps(_)
            | AppError::NoEmbeddings(_)
            | AppError::Blind(_) => Kind::Unsupported,
            AppError::ModelNotFound { .. } | AppError::NoModels | AppError::TurnNotFound(_) => {
                Kind::NotFound
            }
            AppError::NoVoice { .. }
            | AppError::Template { .. }
            | AppError::NotAModel { .. }
            | AppError::BadName(_)
            | AppError::NothingToAnswer
            | AppError::TextTooShort { .. } => Kind::BadRequest,
            AppError::InUse(_) | AppError::ComesWithTheProgram(_) | AppError::NameTaken(_) => {
                Kind::Conflict
            }
            AppError::NoLabel(_) | AppError::Remote { .. } => Kind::EngineDown,
            AppError::File { .. }
            | AppError::Measure(_)
            | AppError::Kernels(_)
            | AppError::BadRow(_) => Kind::Internal,
            AppError::TooManyTurns(_) | AppError::TooManyDownloads(_) => Kind::Overloaded,
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            AppError::Trust(error) => error.code(),
            AppError::Mesh(error) => error.code(),
            AppError::Headscale(error) => error.code(),
            AppError::Engine(error) => error.code(),
            AppError::Store(error) => error.code(),
            AppError::Agent(error) => error.code(),
            AppError::Documents(error) => error.code(),
            AppError::Files(error) => error.code(),
            AppError::Upload(_) | AppError::Errand(_) => None,
            AppError::Sound(error) => error.code(),
            AppError::NoSpeechModel { .. } => Some("no_speech_model"),
            AppError::NoPictureModel => Some("no_picture_model"),
            AppError::NotForSpeech { .. } | AppError::NoEncoder(_) => Some("unsupported_operation"),
            AppError::NoVoice { .. } => Some("voice_not_found"),
            AppError::RecordingTooLarge { .. } => Some("audio_too_large"),
            AppError::ModelNotFound { .. } | AppError::NoModels => Some("model_not_found"),
            AppError::Template { .. } => Some("template_error"),
            AppError::NotAModel { .. } => Some("not_a_model"),
            AppError::TurnNotFound(_) => Some("turn_not_found"),
            AppError::TooManyTurns(_) => Some("queue_full"),
            AppError::InUse(_) => Some("model_in_use"),
            AppError::NameTaken(_) => Some("name_taken"),
            AppError::ComesWithTheProgram(_) => Some("model_built_in"),
            AppError::NoLane(_) => Some("no_lane"),
            AppError::NoVocabulary(_) | AppError::FillsNoGaps(_) | AppError::NoEmbeddings(_) => {
                Some("unsupported_operation")
            }
            AppError::Catalog(_) => Some("pull_failed"),
            AppError::Update(_) => Some("update_failed"),
            AppError::Blind(_) => Some("no_vision"),
            AppError::File { .. }
            | AppError::Measure(_)
            | AppError::Kernels(_)
            | AppError::BadRow(_)
            | AppError::BadName(_)
            | AppError::NoLabel(_)
            | AppError::Remote { .. }
            | AppError::TooManyDownloads(_)
            | AppError::NothingToAnswer
            | AppError::TextTooShort { .. } => None,
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            AppError::Engine(error) => error.param(),
            AppError::Documents(error) => error.param(),
            AppError::ModelNotFound { .. }
            | AppError::NoModels
            | AppError::NoVocabulary(_)
            | AppError::FillsNoGaps(_)
            | AppError::NoEmbeddings(_)
            | AppError::Blind(_) => Some("model"),
            AppError::Template { .. } => Some("messages"),
            AppError::NoSpeechModel { .. }
            | AppError::NoPictureModel
            | AppError::NotForSpeech { .. } => Some("model"),
            AppError::NoVoice { .. } => Some("voice"),
            AppError::NoEncoder(_) => Some("response_format"),
            AppError::Sound(_) | AppError::RecordingTooLarge { .. } => Some("file"),
            _ => None,
        }
    }

    fn retry_after_s(&self) -> Option<u32> {
        match self {
            AppError::Engine(error) => error.retry_after_s(),
            AppError::Agent(error) => error.retry_after_s(),
            AppError::TooManyTurns(_) => Some(2),
            _ => None,
        }
    }
}
