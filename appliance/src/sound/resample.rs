//! Samples from one rate to another, as they come.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use super::SoundError;

/// Samples taken in at a time.
const CHUNK: usize = 1024;

/// Changes the rate of one channel.
pub struct Resampler {
    /// `None` where both rates are the same.
    inner: Option<Fft<f32>>,
    /// Samples that do not fill a chunk yet.
    pending: Vec<f32>,
    out: Vec<f32>,
    /// Samples of the filter's delay that are still to be left out.
    skip: usize,
    taken: u64,
    given: u64,
    from_hz: u32,
    to_hz: u32,
}

impl Resampler {
    /// From one rate to another, both in samples a second.
    ///
    /// # Errors
    /// A rate that no recording has.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Resampler, SoundError> {
        if !(4000..=768_000).contains(&from_hz) {
            return Err(SoundError::Rate(from_hz));
        }
        let inner = if from_hz == to_hz {
            None
        } else {
            let made = Fft::new(from_hz as usize, to_hz as usize, CHUNK, 1, FixedSync::Input);
            Some(made.map_err(|_| SoundError::Rate(from_hz))?)
        };
        Ok(Resampler {
            skip: inner.as_ref().map_or(0, rubato::Resampler::output_delay),
            out: vec![
                0.0;
                inner
                    .as_ref()
                    .map_or(0, rubato::Resampler::output_frames_max)
            ],
            inner,
            pending: Vec::new(),
            taken: 0,
            given: 0,
            from_hz,
            to_hz,
        })
    }

    /// Takes samples and appends what they become.
    ///
    /// # Errors
    /// The library's own, which only a wrong size can cause.
    pub fn push(&mut self, samples: &[f32], to: &mut Vec<f32>) -> Result<(), SoundError> {
        self.taken += samples.len() as u64;
        if self.inner.is_none() {
            to.extend_from_slice(samples);
            self.given += samples.len() as u64;
            return Ok(());
        }
        self.pending.extend_from_slice(samples);
        self.work(to)
    }

    /// Appends what is still inside: afterwards as much has come out as went in, in time.
    ///
    /// # Errors
    /// As [`Resampler::push`].
    pub fn finish(&mut self, to: &mut Vec<f32>) -> Result<(), SoundError> {
        let wanted = self.taken * u64::from(self.to_hz) / u64::from(self.from_hz);
        while self.inner.is_some() && self.given < wanted {
            let filled = self.pending.len() + CHUNK;
            self.pending.resize(filled, 0.0);
            self.work(to)?;
        }
        let over = self.given.saturating_sub(wanted);
        to.truncate(
            to.len()
                .saturating_sub(usize::try_from(over).unwrap_or(usize::MAX)),
        );
        self.given = wanted;
        Ok(())
    }

    fn work(&mut self, to: &mut Vec<f32>) -> Result<(), SoundError> {
        let Some(inner) = &mut self.inner else {
            return Ok(());
        };
        let broken = |why: String| SoundError::Broken { at_s: 0.0, why };
        let mut done = 0;
        loop {
            let needed = inner.input_frames_next();
            let Some(piece) = self.pending.get(done..done + needed) else {
                break;
            };
            let room = self.out.len();
            let input =
                InterleavedSlice::new(piece, 1, needed).map_err(|e| broken(e.to_string()))?;
            let mut output = InterleavedSlice::new_mut(&mut self.out, 1, room)
                .map_err(|e| broken(e.to_string()))?;
            let (_, made) = inner
                .process_into_buffer(&input, &mut output, None)
                .map_err(|e| broken(e.to_string()))?;
            done += needed;
            let left_out = made.min(self.skip);
            self.skip -= left_out;
            to.extend_from_slice(&self.out[left_out..made]);
            self.given += (made - left_out) as u64;
        }
        self.pending.drain(..done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, rate: u32, seconds: f64) -> Vec<f32> {
        let n = (seconds * f64::from(rate)) as usize;
        (0..n)
            .map(|i| (i as f64 * hz * std::f64::consts::TAU / f64::from(rate)).sin() as f32 * 0.5)
            .collect()
    }

    #[test]
    fn a_tone_keeps_its_pitch_its_place_and_its_length() {
        for rate in [
            8000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000,
        ] {
            let mut resampler = Resampler::new(rate, 16_000).unwrap();
            let mut out = Vec::new();
            for piece in tone(440.0, rate, 1.0).chunks(777) {
                resampler.push(piece, &mut out).unwrap();
            }
            resampler.finish(&mut out).unwrap();
            assert_eq!(out.len(), 16_000, "{rate}");
            let wanted = tone(440.0, 16_000, 1.0);
            // Its edges ring, as those of every filter; a shift of less than a sample is 0.086 of this tone.
            let worst = (2000..14_000)
                .map(|i| (out[i] - wanted[i]).abs())
                .fold(0.0, f32::max);
            assert!(worst < 0.086, "{rate}: {worst}");
        }
    }

    #[test]
    fn what_cannot_be_heard_is_not_folded_into_what_can() {
        let mut resampler = Resampler::new(48_000, 16_000).unwrap();
        let mut out = Vec::new();
        resampler
            .push(&tone(15_000.0, 48_000, 1.0), &mut out)
            .unwrap();
        let loudest = out[2000..14_000]
            .iter()
            .fold(0.0_f32, |a, x| a.max(x.abs()));
        assert!(loudest < 0.01, "{loudest}");
    }

    #[test]
    fn no_recording_has_such_a_rate() {
        assert!(Resampler::new(0, 16_000).is_err());
        assert!(Resampler::new(u32::MAX, 16_000).is_err());
    }
}
