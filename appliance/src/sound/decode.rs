//! Files to samples: whatever the container, one channel at [`RATE_HZ`], piece by piece.

use std::fs::File;
use std::io::Seek;

use opus_decoder::OpusDecoder;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use super::{RATE_HZ, Resampler, SoundError};

/// Nobody listens to more in one go; what is longer is mostly a broken length.
const HOURS_MAX: u32 = 24;
/// Broken packets in a row after which a file counts as broken: single ones are skipped, as players do.
const BROKEN_MAX: usize = 50;
/// Opus counts in this rate whatever was recorded.
const OPUS_HZ: u32 = 48_000;
/// The longest packet of Opus is 120 ms.
const OPUS_FRAMES_MAX: usize = 5760;

enum Codec {
    Common(Box<dyn AudioDecoder>),
    Opus {
        decoder: Box<OpusDecoder>,
        channels: usize,
    },
}

/// A file that is being read.
pub struct Decoder {
    format: Box<dyn FormatReader>,
    track: u32,
    codec: Codec,
    resampler: Option<(u32, Resampler)>,
    /// Interleaved samples of one packet.
    packet: Vec<f32>,
    mono: Vec<f32>,
    seconds: Option<f64>,
    /// Samples given out.
    given: u64,
    broken: usize,
    ended: bool,
}

impl Decoder {
    /// Opens a file and finds its sound. The file's name says nothing: its bytes do.
    ///
    /// # Errors
    /// It is empty, no sound, without a sound track, or coded in a way that is not known.
    pub fn open(mut file: File) -> Result<Decoder, SoundError> {
        file.rewind()?;
        if file.metadata()?.len() == 0 {
            return Err(SoundError::Empty);
        }
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let probed = symphonia::default::get_probe().probe(
            &Hint::new(),
            stream,
            FormatOptions::default(),
            MetadataOptions::default(),
        );
        let format = probed.map_err(|error| SoundError::NotSound(words(&error)))?;
        let Some(track) = format.default_track(TrackType::Audio) else {
            return Err(SoundError::NoTrack);
        };
        let Some(params) = track
            .codec_params
            .as_ref()
            .and_then(|params| params.audio())
        else {
            return Err(SoundError::NoTrack);
        };
        let duration = track.duration.zip(track.time_base);
        let seconds = duration
            .and_then(|(duration, base)| base.calc_duration(duration))
            .map(|time| time.as_secs_f64());
        let codec = if params.codec == CODEC_ID_OPUS {
            let channels = params
                .channels
                .as_ref()
                .map_or(1, |channels| channels.count());
            let channels = channels.clamp(1, 2);
            let decoder = OpusDecoder::new(OPUS_HZ, channels)
                .map_err(|error| SoundError::Coding(format!("Opus: {error:?}")))?;
            Codec::Opus {
                decoder: Box::new(decoder),
                channels,
            }
        } else {
            let made = symphonia::default::get_codecs()
                .make_audio_decoder(params, &AudioDecoderOptions::default());
            Codec::Common(made.map_err(|error| SoundError::Coding(words(&error)))?)
        };
        Ok(Decoder {
            track: track.id,
            format,
            codec,
            resampler: None,
            packet: Vec::new(),
            mono: Vec::new(),
            seconds,
            given: 0,
            broken: 0,
            ended: false,
        })
    }

    /// How long the file says it is; `None` when it does not.
    pub fn seconds(&self) -> Option<f64> {
        self.seconds
    }

    /// Appends the next samples, at most a packet of them; `false` at the end.
    ///
    /// # Errors
    /// The file is broken, holds no numbers, or goes on for too long.
    pub fn read(&mut self, to: &mut Vec<f32>) -> Result<bool, SoundError> {
        if self.ended {
            return Ok(false);
        }
        let before = to.len();
        match self.format.next_packet() {
            Ok(Some(packet)) if packet.track_id == self.track => self.packet(&packet, to)?,
            Ok(Some(_)) => {}
            // A file that was cut off is read as far as it goes; browsers' recordings have no honest end.
            Ok(None) | Err(Error::IoError(_) | Error::ResetRequired) => self.end(to)?,
            Err(error) => return Err(self.fail(words(&error))),
        }
        self.given += (to.len() - before) as u64;
        if self.given > u64::from(HOURS_MAX) * 3600 * u64::from(RATE_HZ) {
            return Err(SoundError::TooLong { hours: HOURS_MAX });
        }
        Ok(!self.ended)
    }

    fn end(&mut self, to: &mut Vec<f32>) -> Result<(), SoundError> {
        self.ended = true;
        if let Some((_, resampler)) = &mut self.resampler {
            resampler.finish(to)?;
        }
        if self.given == 0 && to.is_empty() {
            return Err(SoundError::Empty);
        }
        Ok(())
    }

    fn packet(&mut self, packet: &Packet, to: &mut Vec<f32>) -> Result<(), SoundError> {
        let (rate_hz, channels) = match &mut self.codec {
            Codec::Common(decoder) => match decoder.decode(packet) {
                Ok(sound) => {
                    sound.copy_to_vec_interleaved(&mut self.packet);
                    (sound.spec().rate(), sound.spec().channels().count())
                }
                Err(Error::DecodeError(why)) => return self.skip(why),
                Err(error) => {
                    let why = words(&error);
                    return Err(self.fail(why));
                }
            },
            Codec::Opus { decoder, channels } => {
                self.packet.resize(OPUS_FRAMES_MAX * *channels, 0.0);
                match decoder.decode_float(&packet.data, &mut self.packet, false) {
                    Ok(frames) => self.packet.truncate(frames * *channels),
                    Err(_) => return self.skip("a packet of Opus cannot be read"),
                }
                (OPUS_HZ, *channels)
            }
        };
        self.broken = 0;
        if self.packet.iter().any(|x| !x.is_finite()) {
            return Err(SoundError::NotNumbers { at_s: self.at_s() });
        }
        self.mono.clear();
        let share = 1.0 / channels.max(1) as f32;
        let frames = self.packet.chunks_exact(channels.max(1));
        self.mono
            .extend(frames.map(|frame| frame.iter().sum::<f32>() * share));
        // A stream may change its rate; what the old one still holds comes first.
        if self
            .resampler
            .as_ref()
            .is_none_or(|(rate, _)| *rate != rate_hz)
        {
            if let Some((_, mut old)) = self.resampler.take() {
                old.finish(to)?;
            }
            self.resampler = Some((rate_hz, Resampler::new(rate_hz, RATE_HZ)?));
        }
        match &mut self.resampler {
            Some((_, resampler)) => resampler.push(&self.mono, to),
            None => Ok(()),
        }
    }

    fn skip(&mut self, why: &str) -> Result<(), SoundError> {
        self.broken += 1;
        if self.broken < BROKEN_MAX {
            return Ok(());
        }
        Err(self.fail(why.to_owned()))
    }

    fn at_s(&self) -> f64 {
        self.given as f64 / f64::from(RATE_HZ)
    }

    fn fail(&self, why: String) -> SoundError {
        SoundError::Broken {
            at_s: self.at_s(),
            why,
        }
    }
}

/// The library's words without its prefixes.
fn words(error: &Error) -> String {
    match error {
        Error::Unsupported(what) => (*what).to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::speech::wav_head;

    fn decode(bytes: &[u8]) -> Result<Vec<f32>, SoundError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sound");
        std::fs::write(&path, bytes).unwrap();
        let mut decoder = Decoder::open(File::open(path).unwrap())?;
        let mut all = Vec::new();
        while decoder.read(&mut all)? {}
        Ok(all)
    }

    fn float_wav(samples: &[f32], rate_hz: u32) -> Vec<u8> {
        let mut file = wav_head(rate_hz, u32::try_from(samples.len() * 4).unwrap());
        file[20] = 3; // floats
        file[32] = 4;
        file[34] = 32;
        file[28..32].copy_from_slice(&(rate_hz * 4).to_le_bytes());
        file.extend(samples.iter().flat_map(|x| x.to_le_bytes()));
        file
    }

    #[test]
    fn a_file_is_read_at_any_rate() {
        for rate in [8000, 16_000, 44_100, 192_000] {
            let one_second = vec![0.25; rate as usize];
            let heard = decode(&float_wav(&one_second, rate)).unwrap();
            assert_eq!(heard.len(), 16_000, "{rate}");
            assert!((heard[8000] - 0.25).abs() < 0.01);
        }
    }

    #[test]
    fn what_is_no_sound_is_refused_with_its_reason() {
        let nan = float_wav(&[0.0, f32::NAN, 0.0], 16_000);
        assert!(matches!(decode(&nan), Err(SoundError::NotNumbers { .. })));
        assert!(matches!(decode(b""), Err(SoundError::Empty)));
        assert!(matches!(
            decode(&wav_head(16_000, 0)),
            Err(SoundError::Empty)
        ));
        for bytes in [&b"hello, this is a letter"[..], b"%PDF-1.7", &[0; 5000]] {
            let error = decode(bytes).unwrap_err();
            assert!(matches!(error, SoundError::NotSound(_)), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_is_read_as_far_as_it_goes() {
        let mut file = float_wav(&[0.5; 16_000], 16_000);
        file.truncate(file.len() / 2);
        let heard = decode(&file).unwrap();
        assert!((7000..=8000).contains(&heard.len()), "{}", heard.len());
    }
}
