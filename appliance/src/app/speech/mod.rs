//! Speech: recordings to text, and text to sound.
//!
//! Owns which model is meant and what is refused before any engine is asked.

mod call;
mod coded;
mod foreign;
mod listen;
mod pieces;
mod speak;

pub use call::{Ear, Mouth};
pub use coded::Container;
pub use listen::{Heard, Hearing, ListenAsk, Recording};
pub use pieces::{Cutter, Piece, sayable};
pub use speak::{SpeakAsk, Speaking, Spoken, TEXT_BYTES_MAX};

use super::{Aboard, App, AppError, Pick, Trail, carried};
use crate::domain::{Model, ModelFormat};
use crate::engines::lanes::Work;
use crate::engines::pool::Lease;
use crate::engines::route::Ask;
use crate::engines::whisper;

/// Names that clients send because their own service has models of these names: here they mean whichever model does it.
const HOSTED: [&str; 12] = [
    "whisper-1",
    "whisper",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
    "tts-1",
    "tts-1-hd",
    "tts",
    "gpt-4o-mini-tts",
    "kokoro",
    "kokoro-v1",
    "auto",
];

/// What is done with speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Listen,
    Speak,
}

impl Deed {
    fn format(self) -> ModelFormat {
        match self {
            Deed::Listen => ModelFormat::Whisper,
            Deed::Speak => ModelFormat::Kokoro,
        }
    }

    fn work(self) -> Work {
        match self {
            Deed::Listen => Work::Transcribe,
            Deed::Speak => Work::Speak,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Deed::Listen => "speech to text",
            Deed::Speak => "text to speech",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Deed::Listen => "onebit pull ggerganov/whisper.cpp:base",
            Deed::Speak => "onebit pull onnx-community/Kokoro-82M-v1.0-ONNX:quantized",
        }
    }
}

/// The English name of a language's code; `None` for one that no model knows.
pub fn language_name(code: &str) -> Option<&'static str> {
    let known = whisper::LANGUAGES.iter().find(|(known, _)| *known == code);
    known.map(|(_, name)| *name)
}

impl App {
    /// The model that does a deed under a name; an empty name and those of hosted services mean the first one.
    async fn speech_model(&self, name: &str, deed: Deed) -> Result<Model, AppError> {
        let able = |model: &Model| model.format == deed.format();
        let mut all = self.registry().await?;
        all.retain(able);
        let hosted = name.is_empty() || HOSTED.iter().any(|known| known.eq_ignore_ascii_case(name));
        if all.is_empty() {
            return Err(AppError::NoSpeechModel {
                work: deed.words(),
                command: deed.command(),
            });
        }
        if let Some(at) = all
            .iter()
            .position(|model| model.id.eq_ignore_ascii_case(name))
        {
            return Ok(all.swap_remove(at));
        }
        if hosted {
            return Ok(all.swap_remove(0));
        }
        let named = self
            .model(name.split_once('@').map_or(name, |(bare, _)| bare))
            .await?;
        if able(&named) {
            return Ok(named);
        }
        Err(AppError::NotForSpeech {
            model: named.id,
            work: deed.words(),
            able: all.into_iter().map(|model| model.id).collect(),
        })
    }

    /// The session on the best lane that can be had.
    async fn session_for_speech(
        &self,
        model: &Model,
        deed: Deed,
    ) -> Result<(Lease, Aboard), AppError> {
        let (wish, note) = carried();
        let ask = Ask {
            work: deed.work(),
            lane: wish.lane.as_deref(),
            priority: wish.priority,
            preset: wish.preset.unwrap_or_default(),
            ..Ask::default()
        };
        let routed = self.route(&model.id, &ask, &Trail::default()).await?;
        note.write(routed.header);
        let mut failed = None;
        for pick in routed.picks {
            let Pick {
                lane,
                engine,
                model,
                eta_s,
                ..
            } = pick;
            let aboard = self
                .inner
                .flights
                .begin(&lane, &model.id, eta_s, wish.priority);
            match self.inner.pool.session_on(&model, engine, lane.name).await {
                Ok(lease) => return Ok((lease, aboard)),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        Err(failed.map_or_else(|| AppError::NoLane(model.id.clone()), AppError::Engine))
    }
}
