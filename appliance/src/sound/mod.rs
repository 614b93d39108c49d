//! Sound as numbers: files to samples at the rate that recognisers hear, windows, and whether somebody speaks.
//!
//! Pure functions over bytes and samples; blocking, and bounded in memory whatever a file says of itself. Must not know
//! engines or requests.

pub mod decode;
mod resample;
pub mod utterances;
pub mod voice;
pub mod windows;

pub use decode::Decoder;
pub use resample::Resampler;

use crate::error::{Failing, Kind};

/// Samples in a second of everything that is listened to.
pub const RATE_HZ: u32 = 16_000;

/// Why a recording cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// No bytes, or a file without a sample.
    #[error("the recording is empty")]
    Empty,
    /// No container that we read.
    #[error(
        "the file is no sound that can be read here ({0}); send wav, mp3, flac, ogg, opus, m4a, aac, aiff or webm"
    )]
    NotSound(String),
    /// A container without sound.
    #[error("the file has no sound in it, only pictures or text")]
    NoTrack,
    /// A coding without a decoder.
    #[error(
        "the sound is coded in a way that cannot be read here ({0}); send wav, mp3, flac, ogg or opus"
    )]
    Coding(String),
    /// The file contradicts itself from some point on.
    #[error("the recording is broken after {at_s:.1} s: {why}")]
    Broken {
        /// Where.
        at_s: f64,
        /// The decoder's reason.
        why: String,
    },
    /// Samples that are no numbers.
    #[error(
        "the recording holds values that are no sound (NaN or infinite) after {at_s:.1} s; write it anew"
    )]
    NotNumbers {
        /// Where.
        at_s: f64,
    },
    /// A rate that no recording has.
    #[error("the recording has {0} samples a second; 4,000 to 768,000 can be read")]
    Rate(u32),
    /// Longer than is listened to.
    #[error("the recording is longer than {hours} hours; cut it in parts")]
    TooLong {
        /// The limit.
        hours: u32,
    },
    /// The disk.
    #[error("the recording cannot be read back: {0}")]
    Disk(#[from] std::io::Error),
}

impl Failing for SoundError {
    fn kind(&self) -> Kind {
        match self {
            SoundError::TooLong { .. } => Kind::TooLarge,
            SoundError::Disk(_) => Kind::Internal,
            SoundError::Empty
            | SoundError::NotSound(_)
            | SoundError::NoTrack
            | SoundError::Coding(_)
            | SoundError::Broken { .. }
            | SoundError::NotNumbers { .. }
            | SoundError::Rate(_) => Kind::BadRequest,
        }
    }

    fn code(&self) -> Option<&'static str> {
        match self {
            SoundError::Disk(_) => None,
            SoundError::TooLong { .. } => Some("audio_too_long"),
            _ => Some("invalid_audio"),
        }
    }

    fn param(&self) -> Option<&str> {
        Some("file")
    }
}
