//! Recordings to text: taken in, decoded, cut in windows, heard one by one.
//!
//! A thread decodes at most two windows ahead of the engine, so that ten hours take no more memory than a minute. The
//! engine is asked window by window, so that others' requests come in between.

use std::fs::File;
use std::io::Write;

use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

use super::super::Aboard;
use super::{App, AppError, Deed};
use crate::domain::{ListenRequest, Model, Sound, Transcript};
use crate::engines::pool::Lease;
use crate::sound::windows::{Window, Windows};
use crate::sound::{Decoder, RATE_HZ, SoundError, voice};
use crate::store::new_id;

/// Largest recording that is taken in: ten hours of speech as mp3 are 300 MB.
const BYTES_MAX: u64 = 2 << 30;
/// Windows that wait to be heard.
const AHEAD: usize = 1;
/// Characters of what was heard that go before the next window.
const CONTEXT_CHARS: usize = 200;

/// A recording on its way in: bytes go to disk as they come, in a file that has no name any more, so that nothing is
/// left of it whatever happens.
pub struct Recording {
    file: File,
    bytes: u64,
}

impl Recording {
    /// The file that holds it.
    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Takes more bytes; blocking for as long as the page cache takes.
    ///
    /// # Errors
    /// The limit is reached, or the disk fails.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), AppError> {
        self.bytes += piece.len() as u64;
        if self.bytes > BYTES_MAX {
            return Err(AppError::RecordingTooLarge {
                bytes_max: BYTES_MAX,
            });
        }
        self.file
            .write_all(piece)
            .map_err(|e| SoundError::Disk(e).into())
    }
}

/// How a recording is to be heard.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListenAsk {
    /// The language spoken, as `en`; found out when `None`.
    pub language: Option<String>,
    /// Write it down in English.
    pub translate: bool,
    /// What was said before, or how names are spelled.
    pub prompt: Option<String>,
    /// How freely words are chosen.
    pub temperature: Option<f32>,
}

/// A recording that is being heard; dropping it stops that.
pub struct Hearing {
    /// The model that hears it.
    pub model: Model,
    /// How long the recording says it is.
    pub seconds: Option<f64>,
    /// What was heard, window by window.
    pub parts: BoxStream<'static, Result<Heard, AppError>>,
}

/// What was heard in a window, with times from the recording's beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// What was said.
    pub transcript: Transcript,
    /// Seconds of the recording that are done.
    pub done_s: f64,
}

struct Piece {
    window: Window,
    speaks: bool,
}

struct Ears {
    lease: Lease,
    ask: ListenAsk,
    pieces: mpsc::Receiver<Result<Piece, SoundError>>,
    first: Option<Heard>,
    _aboard: Aboard,
}

impl App {
    /// Makes room for a recording.
    ///
    /// # Errors
    /// The disk fails.
    pub fn recording(&self) -> Result<Recording, AppError> {
        let path = self
            .inner
            .config
            .data_dir
            .join("run")
            .join(format!("{}.sound", new_id()?));
        let made = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = made.map_err(SoundError::Disk)?;
        std::fs::remove_file(&path).map_err(SoundError::Disk)?;
        Ok(Recording { file, bytes: 0 })
    }

    /// Hears a recording with a model, or with the first one that can. The first window has been heard when this
    /// resolves, so that what cannot be heard at all is an error here.
    ///
    /// # Errors
    /// There is no such model, it cannot be loaded, or the recording is none.
    pub async fn listen(
        &self,
        name: &str,
        recording: Recording,
        ask: ListenAsk,
    ) -> Result<Hearing, AppError> {
        let model = self.speech_model(name, Deed::Listen).await?;
        let decoder = self.decoder(recording.file).await?;
        let seconds = decoder.seconds();
        let (lease, aboard) = self.session_for_speech(&model, Deed::Listen).await?;
        let (sender, pieces) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || decode(decoder, &sender));
        let mut ears = Ears {
            lease,
            ask,
            pieces,
            first: None,
            _aboard: aboard,
        };
        ears.first = ears.next().await?;
        let parts = stream::try_unfold(ears, |mut ears| async {
            let heard = match ears.first.take() {
                Some(first) => Some(first),
                None => ears.next().await?,
            };
            Ok(heard.map(|heard| (heard, ears)))
        });
        Ok(Hearing {
            model,
            seconds,
            parts: Box::pin(parts),
        })
    }
}

impl Ears {
    async fn next(&mut self) -> Result<Option<Heard>, AppError> {
        let Some(piece) = self.pieces.recv().await else {
            return Ok(None);
        };
        let Piece { window, speaks } = piece?;
        let done_s = window.start_s + window.samples.len() as f64 / f64::from(RATE_HZ);
        if !speaks {
            let transcript = Transcript::default();
            return Ok(Some(Heard { transcript, done_s }));
        }
        let request = ListenRequest {
            sound: Sound {
                samples: window.samples,
                rate_hz: RATE_HZ,
            },
            language: self.ask.language.clone(),
            translate: self.ask.translate,
            prompt: self.ask.prompt.clone(),
            temperature: self.ask.temperature,
        };
        let mut transcript = self.lease.transcribe(request).await?;
        for segment in &mut transcript.segments {
            // The engine may place an end behind the window's.
            let place = |at: f64| (at + window.start_s).min(done_s);
            (segment.start_s, segment.end_s) = (place(segment.start_s), place(segment.end_s));
            for word in &mut segment.words {
                (word.start_s, word.end_s) = (place(word.start_s), place(word.end_s));
            }
        }
        let text = transcript.text();
        if !text.is_empty() {
            // Looking for the language takes a pass of the encoder: once is enough.
            if self.ask.language.is_none() && !transcript.language.is_empty() {
                self.ask.language = Some(transcript.language.clone());
            }
            let from = text
                .char_indices()
                .rev()
                .nth(CONTEXT_CHARS - 1)
                .map_or(0, |(at, _)| at);
            self.ask.prompt = Some(text[from..].to_owned());
        }
        Ok(Some(Heard { transcript, done_s }))
    }
}

/// Reads a file to its end, as fast as its windows are taken.
fn decode(mut decoder: Decoder, to: &mpsc::Sender<Result<Piece, SoundError>>) {
    let mut windows = Windows::default();
    let give = |window: Window| {
        let speaks = voice::speaks(&window.samples);
        to.blocking_send(Ok(Piece { window, speaks })).is_ok()
    };
    loop {
        match decoder.read(windows.buffer()) {
            Ok(more) => {
                while let Some(window) = windows.ready() {
                    if !give(window) {
                        return;
                    }
                }
                if !more {
                    if let Some(rest) = windows.rest() {
                        give(rest);
                    }
                    return;
                }
            }
            Err(error) => {
                // Whoever listened may have gone.
                let _ = to.blocking_send(Err(error));
                return;
            }
        }
    }
}
