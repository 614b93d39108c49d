//! What a live conversation is made of: an ear and a mouth that stay loaded as long as it lasts.

use super::super::Aboard;
use super::pieces::Piece;
use super::speak::{Spoken, trim, voice};
use super::{App, AppError, Deed};
use crate::domain::{ListenRequest, Model, Sound, SpeakRequest, Transcript};
use crate::engines::kokoro;
use crate::engines::pool::Lease;
use crate::sound::RATE_HZ;
use crate::sound::windows::Windows;

/// A model that hears, loaded as long as this lives.
pub struct Ear {
    /// Which.
    pub model: Model,
    lease: Lease,
    _aboard: Aboard,
}

impl Ear {
    /// What is said in samples at 16 kHz.
    ///
    /// # Errors
    /// The engine fails.
    pub async fn hear(
        &self,
        samples: Vec<f32>,
        mut language: Option<String>,
        prompt: Option<String>,
    ) -> Result<Transcript, AppError> {
        let mut windows = Windows::default();
        windows.push(&samples);
        let mut heard = Transcript::default();
        while let Some(window) = windows.ready().or_else(|| windows.rest()) {
            let request = ListenRequest {
                sound: Sound {
                    samples: window.samples,
                    rate_hz: RATE_HZ,
                },
                language: language.clone(),
                prompt: prompt.clone(),
                ..ListenRequest::default()
            };
            let part = self.lease.transcribe(request).await?;
            if !part.language.is_empty() {
                language = Some(part.language.clone());
                heard.language = part.language;
            }
            heard.segments.extend(part.segments);
        }
        Ok(heard)
    }
}

/// A model that speaks in one voice, loaded as long as this lives.
pub struct Mouth {
    /// Which.
    pub model: Model,
    /// Its voice.
    pub voice: String,
    /// Samples in a second of what it says.
    pub rate_hz: u32,
    speed: f32,
    lease: Lease,
    _aboard: Aboard,
}

impl Mouth {
    /// Says a piece, with the pause behind it.
    ///
    /// # Errors
    /// The engine fails.
    pub async fn say(&self, piece: Piece) -> Result<Spoken, AppError> {
        let request = SpeakRequest {
            text: piece.text.clone(),
            voice: self.voice.clone(),
            speed: self.speed,
        };
        let mut sound = self.lease.speak(request).await?;
        trim(&mut sound);
        let pause =
            f64::from(piece.pause_ms) / 1e3 / f64::from(self.speed) * f64::from(sound.rate_hz);
        let length = sound.samples.len() + pause as usize;
        sound.samples.resize(length, 0.0);
        Ok(Spoken {
            text: piece.text,
            sound,
        })
    }
}

impl App {
    /// Loads a model that hears, or the first one that can.
    ///
    /// # Errors
    /// There is none, or it cannot be loaded.
    pub async fn ear(&self, name: &str) -> Result<Ear, AppError> {
        let model = self.speech_model(name, Deed::Listen).await?;
        let (lease, aboard) = self.session_for_speech(&model, Deed::Listen).await?;
        Ok(Ear {
            model,
            lease,
            _aboard: aboard,
        })
    }

    /// Whether a name is that of a model that hears.
    pub async fn listens(&self, name: &str) -> bool {
        !name.is_empty()
            && self
                .speech_model(name, Deed::Listen)
                .await
                .is_ok_and(|model| model.id.eq_ignore_ascii_case(name))
    }

    /// Tells whether [`App::ear`] would find a model, without loading it.
    ///
    /// # Errors
    /// There is none.
    pub async fn ear_exists(&self, name: &str) -> Result<(), AppError> {
        self.speech_model(name, Deed::Listen).await.map(|_| ())
    }

    /// Loads a model that speaks, or the first one that can.
    ///
    /// # Errors
    /// There is none, it has no such voice, or it cannot be loaded.
    pub async fn mouth(
        &self,
        name: &str,
        asked: Option<&str>,
        speed: f32,
    ) -> Result<Mouth, AppError> {
        let model = self.speech_model(name, Deed::Speak).await?;
        let voice = voice(&model, asked)?;
        let (lease, aboard) = self.session_for_speech(&model, Deed::Speak).await?;
        Ok(Mouth {
            model,
            voice,
            rate_hz: kokoro::RATE_HZ,
            speed,
            lease,
            _aboard: aboard,
        })
    }
}
