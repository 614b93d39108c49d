//! Text to sound: cut in pieces, said one by one, so that the first is heard while the others are made.

use futures_util::stream::{self, BoxStream};

use super::pieces::Cutter;
use super::{App, AppError, Deed};
use crate::domain::{Model, Sound};
use crate::engines::{EngineError, kokoro};

/// Longest text that is said in one go: some two hours.
pub const TEXT_BYTES_MAX: usize = 100_000;
/// What is quieter than this at a piece's edges is cut off: pauses are made by the text's marks.
const SILENCE: f32 = 0.004;
/// Sound that stays at the edges, in seconds: words begin and end in a breath.
const EDGE_S: f32 = 0.08;

/// The voices that clients of hosted services ask for, and those of ours that are like them.
const HOSTED: &[(&str, &str)] = &[
    ("alloy", "af_alloy"),
    ("ash", "am_michael"),
    ("ballad", "bm_george"),
    ("cedar", "am_fenrir"),
    ("coral", "af_heart"),
    ("echo", "am_echo"),
    ("fable", "bm_fable"),
    ("marin", "af_bella"),
    ("nova", "af_nova"),
    ("onyx", "am_onyx"),
    ("sage", "af_sarah"),
    ("shimmer", "af_sky"),
    ("verse", "am_puck"),
];

/// What is to be said, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeakAsk {
    /// The text.
    pub text: String,
    /// The voice; the usual one when `None`.
    pub voice: Option<String>,
    /// 1 is the usual speed.
    pub speed: f32,
    /// The first piece is a clause of a few words, so that it is heard soon; else a sentence, as all others.
    pub in_clauses: bool,
}

/// A text that is being said; dropping it stops that.
pub struct Speaking {
    /// The model that says it.
    pub model: Model,
    /// With this voice.
    pub voice: String,
    /// Samples in a second.
    pub rate_hz: u32,
    /// What is said, piece by piece, with the pauses between.
    pub parts: BoxStream<'static, Result<Spoken, AppError>>,
}

/// A piece as sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Spoken {
    /// What is said.
    pub text: String,
    /// How it sounds.
    pub sound: Sound,
}

impl App {
    /// Says a text with a model, or with the first one that can. The first piece is ready when this resolves.
    ///
    /// # Errors
    /// There is no such model or voice, or it cannot be loaded.
    pub async fn speak(&self, name: &str, ask: SpeakAsk) -> Result<Speaking, AppError> {
        let mouth = self.mouth(name, ask.voice.as_deref(), ask.speed).await?;
        let (model, voice, rate_hz) = (mouth.model.clone(), mouth.voice.clone(), mouth.rate_hz);
        let mut cutter = match ask.in_clauses {
            true => Cutter::default(),
            false => Cutter::sentences(),
        };
        let mut pieces = cutter.all(&ask.text).into_iter();
        let first = match pieces.next() {
            Some(piece) => Some(mouth.say(piece).await?),
            None => None,
        };
        let parts =
            stream::try_unfold((first, pieces, mouth), |(first, mut pieces, mouth)| async {
                let spoken = match first {
                    Some(first) => Some(first),
                    None => match pieces.next() {
                        Some(piece) => Some(mouth.say(piece).await?),
                        None => None,
                    },
                };
                Ok(spoken.map(|spoken| (spoken, (None, pieces, mouth))))
            });
        Ok(Speaking {
            model,
            voice,
            rate_hz,
            parts: Box::pin(parts),
        })
    }

    /// The voices of a model, the usual one first.
    ///
    /// # Errors
    /// There is no such model.
    pub async fn voices(&self, name: &str) -> Result<(Model, Vec<String>), AppError> {
        let model = self.speech_model(name, Deed::Speak).await?;
        let voices = kokoro::voices(&model.path);
        Ok((model, voices))
    }
}

/// The voice of a model that is meant.
pub(super) fn voice(model: &Model, asked: Option<&str>) -> Result<String, AppError> {
    let voices = kokoro::voices(&model.path);
    let Some(usual) = voices.first() else {
        return Err(AppError::Engine(EngineError::LoadFailed {
            model: model.id.clone(),
            why: "it has no voice that speaks English".to_owned(),
        }));
    };
    let Some(asked) = asked.filter(|name| !name.is_empty()) else {
        return Ok(usual.clone());
    };
    let known = |name: &str| {
        voices
            .iter()
            .find(|voice| voice.eq_ignore_ascii_case(name))
            .cloned()
    };
    let hosted = HOSTED
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(asked));
    // A model may come with a few voices only; whoever asks for a hosted service's gets the usual one then.
    let like = hosted.map(|(_, ours)| known(ours).unwrap_or_else(|| usual.clone()));
    known(asked).or(like).ok_or_else(|| AppError::NoVoice {
        voice: asked.to_owned(),
        voices,
    })
}

/// Cuts off the silence at both edges.
pub(super) fn trim(sound: &mut Sound) {
    let loud = |x: &f32| x.abs() > SILENCE;
    let edge = (EDGE_S * sound.rate_hz as f32) as usize;
    let Some(last) = sound.samples.iter().rposition(loud) else {
        sound.samples.clear();
        return;
    };
    sound.samples.truncate(last + edge);
    let first = sound.samples.iter().position(loud).unwrap_or(0);
    sound.samples.drain(..first.saturating_sub(edge));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_cut_off_and_sound_is_not() {
        let mut samples = vec![0.0; 24_000];
        samples.extend([0.5; 100]);
        samples.extend([0.0; 24_000]);
        let mut sound = Sound {
            samples,
            rate_hz: 24_000,
        };
        trim(&mut sound);
        assert_eq!(sound.samples.len(), 1920 + 100 + 1919);
        let mut nothing = Sound {
            samples: vec![0.001; 100],
            rate_hz: 24_000,
        };
        trim(&mut nothing);
        assert!(nothing.samples.is_empty());
    }
}
