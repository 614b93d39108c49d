//! Speech: sound, what was heard in it, and what is to be said.

/// Sound of one channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sound {
    /// Samples, -1 to 1.
    pub samples: Vec<f32>,
    /// Samples in a second.
    pub rate_hz: u32,
}

impl Sound {
    /// How long it lasts.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.rate_hz.max(1))
    }

    /// The samples with 16 bits each, the low byte first.
    pub fn pcm16(&self) -> Vec<u8> {
        let number = |x: &f32| (x.clamp(-1.0, 1.0) * 32767.0).round() as i16;
        self.samples
            .iter()
            .flat_map(|x| number(x).to_le_bytes())
            .collect()
    }

    /// A WAV file of 16 bits a sample.
    pub fn wav(&self) -> Vec<u8> {
        let pcm = self.pcm16();
        let mut file = wav_head(self.rate_hz, u32::try_from(pcm.len()).unwrap_or(u32::MAX));
        file.extend_from_slice(&pcm);
        file
    }
}

/// A recording to be written down.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListenRequest {
    /// At 16 kHz, at most a window long.
    pub sound: Sound,
    /// The language spoken, as `en`; found out when `None`.
    pub language: Option<String>,
    /// Write it down in English, whatever is spoken.
    pub translate: bool,
    /// What was said before, or how names are spelled.
    pub prompt: Option<String>,
    /// How freely words are chosen; the engine's usual when `None`.
    pub temperature: Option<f32>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transcript {
    /// The language, as `en`; empty when the engine does not tell.
    pub language: String,
    /// One for each phrase, in their order.
    pub segments: Vec<Segment>,
}

impl Transcript {
    /// The whole text.
    pub fn text(&self) -> String {
        let all: String = self.segments.iter().map(|s| s.text.as_str()).collect();
        all.trim().to_owned()
    }
}

/// A phrase with its place in the recording.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Segment {
    /// Seconds from the beginning.
    pub start_s: f64,
    /// Seconds from the beginning.
    pub end_s: f64,
    /// Its text, with the space before it.
    pub text: String,
    /// Its words.
    pub words: Vec<Word>,
    /// Its tokens in the model's vocabulary.
    pub tokens: Vec<u32>,
    /// Mean log probability of its tokens.
    pub avg_logprob: f64,
    /// How likely nobody speaks here, 0 to 1.
    pub no_speech: f64,
}

/// A word with its place in the recording.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Word {
    /// The word without spaces.
    pub text: String,
    /// Seconds from the beginning.
    pub start_s: f64,
    /// Seconds from the beginning.
    pub end_s: f64,
}

/// Something to be said in one breath.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeakRequest {
    /// The text: a sentence or less.
    pub text: String,
    /// One of the session's voices.
    pub voice: String,
    /// 1 is the usual speed, 2 twice as fast.
    pub speed: f32,
}

/// The head of a WAV file of one channel with 16 bits a sample; `u32::MAX` bytes where the length is not known yet, as
/// players expect of a stream.
pub fn wav_head(rate_hz: u32, pcm_bytes: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(44);
    head.extend_from_slice(b"RIFF");
    head.extend_from_slice(&pcm_bytes.saturating_add(36).to_le_bytes());
    head.extend_from_slice(b"WAVEfmt ");
    head.extend_from_slice(&16_u32.to_le_bytes());
    head.extend_from_slice(&1_u16.to_le_bytes()); // whole numbers
    head.extend_from_slice(&1_u16.to_le_bytes()); // one channel
    head.extend_from_slice(&rate_hz.to_le_bytes());
    head.extend_from_slice(&rate_hz.saturating_mul(2).to_le_bytes());
    head.extend_from_slice(&2_u16.to_le_bytes());
    head.extend_from_slice(&16_u16.to_le_bytes());
    head.extend_from_slice(b"data");
    head.extend_from_slice(&pcm_bytes.to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_file_has_its_sizes_and_clips() {
        let sound = Sound {
            samples: vec![0.0, 2.0, -2.0],
            rate_hz: 24_000,
        };
        let file = sound.wav();
        assert_eq!(file.len(), 44 + 6);
        assert_eq!(file[4..8], 42_u32.to_le_bytes());
        assert_eq!(file[40..44], 6_u32.to_le_bytes());
        assert_eq!(file[46..50], [0xff, 0x7f, 0x01, 0x80]);
        assert_eq!(sound.seconds(), 3.0 / 24_000.0);
    }
}
