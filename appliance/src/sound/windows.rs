//! A long recording in windows that a recogniser takes, cut where it is quiet.
//!
//! Must not know where samples come from. A window is at most [`WINDOW_S`] long, so memory is bounded by two of them.

use super::RATE_HZ;

/// Longest window: recognisers hear thirty seconds at a time.
pub const WINDOW_S: usize = 29;
/// The cut is looked for after this.
const EARLIEST_S: usize = 20;
/// Length of the frames whose loudness is compared.
const FRAME: usize = RATE_HZ as usize / 50;

/// A piece of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Seconds from the recording's beginning.
    pub start_s: f64,
    /// Its samples.
    pub samples: Vec<f32>,
}

/// Collects samples and gives windows.
#[derive(Debug, Default)]
pub struct Windows {
    samples: Vec<f32>,
    begun: u64,
}

impl Windows {
    /// Takes samples.
    pub fn push(&mut self, samples: &[f32]) {
        self.samples.extend_from_slice(samples);
    }

    /// Where new samples are appended.
    pub fn buffer(&mut self) -> &mut Vec<f32> {
        &mut self.samples
    }

    /// The next window once there is enough for one.
    pub fn ready(&mut self) -> Option<Window> {
        let longest = WINDOW_S * RATE_HZ as usize;
        (self.samples.len() >= longest).then(|| {
            let cut = quietest(&self.samples[..longest]);
            self.take(cut)
        })
    }

    /// What is left at the recording's end; `None` when nothing is.
    pub fn rest(&mut self) -> Option<Window> {
        (!self.samples.is_empty()).then(|| self.take(self.samples.len()))
    }

    fn take(&mut self, n: usize) -> Window {
        let rest = self.samples.split_off(n);
        let samples = std::mem::replace(&mut self.samples, rest);
        let start_s = self.begun as f64 / f64::from(RATE_HZ);
        self.begun += n as u64;
        Window { start_s, samples }
    }
}

/// The middle of the quietest fifth of a second in the last third.
fn quietest(samples: &[f32]) -> usize {
    let from = EARLIEST_S * RATE_HZ as usize;
    let energy: Vec<f32> = samples[from..]
        .chunks(FRAME)
        .map(|frame| frame.iter().map(|x| x * x).sum())
        .collect();
    let best = energy
        .windows(10)
        .enumerate()
        .map(|(i, frames)| (i, frames.iter().sum::<f32>()))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(samples.len(), |(i, _)| from + (i + 5) * FRAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_cut_in_pauses_and_lose_nothing() {
        let rate = RATE_HZ as usize;
        // Speech is loud, and there is a pause at 24 s.
        let sound: Vec<f32> = (0..rate * 70)
            .map(|i| {
                let quiet = (24.0..24.5).contains(&(i as f64 / rate as f64));
                if quiet {
                    0.0
                } else {
                    (i % 7) as f32 / 7.0 - 0.5
                }
            })
            .collect();
        let mut windows = Windows::default();
        let mut got = Vec::new();
        for piece in sound.chunks(5000) {
            windows.push(piece);
            got.extend(windows.ready());
        }
        got.extend(windows.rest());
        assert!(got.iter().all(|w| w.samples.len() <= WINDOW_S * rate));
        let second = got[1].start_s;
        assert!((24.0..24.5).contains(&second), "{second}");
        let joined: Vec<f32> = got.into_iter().flat_map(|w| w.samples).collect();
        assert_eq!(joined, sound);
        assert_eq!(windows.rest(), None);
    }
}
