//! Who begins and ends to speak in a stream: the sound of one turn, cut out.
//!
//! Pure but for the detector's state. Time is counted in samples, so that a test needs no clock.

use super::RATE_HZ;
use super::voice::{FRAME, Listener, THRESHOLD};

/// Frames in a row that make speech of a noise: a click is shorter.
const BEGIN_FRAMES: usize = 3;
/// A voice that has begun goes on down to this much below the threshold.
const HOLD: f32 = 0.15;
/// Longest turn that is kept; what is said later begins another.
const TURN_S_MAX: usize = 600;

/// When a turn begins and ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UtteranceSettings {
    /// How likely a frame must be speech, 0 to 1.
    pub threshold: f32,
    /// Silence that ends a turn.
    pub silence_ms: u32,
    /// Sound before the beginning that belongs to it.
    pub prefix_ms: u32,
}

impl Default for UtteranceSettings {
    fn default() -> Self {
        UtteranceSettings {
            threshold: THRESHOLD,
            silence_ms: 500,
            prefix_ms: 300,
        }
    }
}

/// What happened, in milliseconds from the stream's beginning.
#[derive(Debug, Clone, PartialEq)]
pub enum UtteranceEvent {
    /// Somebody has begun to speak.
    Started {
        /// When, with the sound before it.
        at_ms: u64,
    },
    /// And has ended.
    Stopped {
        /// When.
        at_ms: u64,
        /// All that was said, and the silence behind it.
        samples: Vec<f32>,
        /// How many of them come before that silence.
        voiced: usize,
    },
}

/// The turn that goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Present<'a> {
    /// All of it so far.
    pub samples: &'a [f32],
    /// How many of them come before the silence at its end.
    pub voiced: usize,
}

/// Cuts turns out of a stream.
pub struct Utterances {
    settings: UtteranceSettings,
    listener: Listener,
    /// Sound that does not fill a frame yet.
    pending: Vec<f32>,
    /// The present turn, or what may become its beginning.
    kept: Vec<f32>,
    heard: u64,
    speaking: bool,
    /// Frames in a row that say the other thing.
    row: usize,
}

impl Utterances {
    /// From here on.
    pub fn new(settings: UtteranceSettings) -> Utterances {
        Utterances {
            settings,
            listener: Listener::default(),
            pending: Vec::new(),
            kept: Vec::new(),
            heard: 0,
            speaking: false,
            row: 0,
        }
    }

    /// Takes sound at [`RATE_HZ`].
    pub fn hear(&mut self, samples: &[f32]) -> Vec<UtteranceEvent> {
        self.pending.extend_from_slice(samples);
        let pending = std::mem::take(&mut self.pending);
        let frames = pending.chunks_exact(FRAME);
        self.pending = frames.remainder().to_vec();
        let mut events = Vec::new();
        for frame in frames {
            let score = self.listener.hear(frame);
            events.extend(self.step(frame, score));
        }
        events
    }

    /// The turn that goes on; `None` while nobody speaks.
    pub fn present(&self) -> Option<Present<'_>> {
        self.speaking.then(|| Present {
            samples: &self.kept,
            voiced: self.voiced(),
        })
    }

    fn voiced(&self) -> usize {
        self.kept.len().saturating_sub(self.row * FRAME)
    }

    /// What was said so far, taken away: the turn ends here.
    pub fn take(&mut self) -> Vec<f32> {
        self.speaking = false;
        self.row = 0;
        std::mem::take(&mut self.kept)
    }

    fn step(&mut self, frame: &[f32], score: f32) -> Option<UtteranceEvent> {
        self.kept.extend_from_slice(frame);
        self.heard += frame.len() as u64;
        let now_ms = self.heard * 1000 / u64::from(RATE_HZ);
        let other = if self.speaking {
            score < self.settings.threshold - HOLD
        } else {
            score >= self.settings.threshold
        };
        self.row = if other { self.row + 1 } else { 0 };
        if !self.speaking {
            if self.row >= BEGIN_FRAMES {
                (self.speaking, self.row) = (true, 0);
                let before = self.kept.len() as u64 * 1000 / u64::from(RATE_HZ);
                return Some(UtteranceEvent::Started {
                    at_ms: now_ms - before.min(now_ms),
                });
            }
            let keep = samples(self.settings.prefix_ms) + BEGIN_FRAMES * FRAME;
            let over = self.kept.len().saturating_sub(keep);
            self.kept.drain(..over);
            return None;
        }
        let silent = self.row * FRAME >= samples(self.settings.silence_ms);
        let full = self.kept.len() >= TURN_S_MAX * RATE_HZ as usize;
        (silent || full).then(|| UtteranceEvent::Stopped {
            at_ms: now_ms,
            voiced: self.voiced(),
            samples: self.take(),
        })
    }
}

fn samples(ms: u32) -> usize {
    ms as usize * RATE_HZ as usize / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds frames of which each is as likely speech as told.
    fn feed(turns: &mut Utterances, score: f32, ms: u32) -> Vec<UtteranceEvent> {
        let frames = samples(ms) / FRAME;
        (0..frames)
            .filter_map(|_| turns.step(&[score; FRAME], score))
            .collect()
    }

    #[test]
    fn a_turn_has_its_beginning_and_ends_after_silence() {
        let mut turns = Utterances::new(UtteranceSettings::default());
        assert_eq!(feed(&mut turns, 0.0, 2000), []);
        let begun = feed(&mut turns, 0.9, 1600);
        let [UtteranceEvent::Started { at_ms }] = begun[..] else {
            panic!("{begun:?}");
        };
        // 300 ms before the first loud frame.
        assert!((1650..=1720).contains(&at_ms), "{at_ms}");
        assert_eq!(feed(&mut turns, 0.0, 400), [], "a pause is no end");
        assert_eq!(feed(&mut turns, 0.9, 400), []);
        let ended = feed(&mut turns, 0.0, 600);
        let [
            UtteranceEvent::Stopped {
                at_ms,
                samples,
                voiced,
            },
        ] = &ended[..]
        else {
            panic!("{ended:?}");
        };
        assert!((4850..=4950).contains(at_ms), "{at_ms}");
        assert_eq!(samples.len() - voiced, 32 * FRAME, "half a second");
        let seconds = samples.len() as f64 / 16_000.0;
        assert!((3.1..3.3).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_click_is_no_turn_and_a_faint_voice_goes_on() {
        let mut turns = Utterances::new(UtteranceSettings::default());
        assert_eq!(feed(&mut turns, 0.9, 32), []);
        assert_eq!(feed(&mut turns, 0.0, 500), []);
        assert_eq!(feed(&mut turns, 0.9, 64).len(), 1);
        assert_eq!(feed(&mut turns, 0.4, 5000), []);
    }

    #[test]
    fn a_turn_can_be_looked_at_while_it_goes_on() {
        let mut turns = Utterances::new(UtteranceSettings::default());
        feed(&mut turns, 0.0, 1000);
        assert_eq!(turns.present(), None);
        feed(&mut turns, 0.9, 800);
        let (length, voiced) = turns
            .present()
            .map(|p| (p.samples.len(), p.voiced))
            .unwrap();
        assert_eq!(length, voiced);
        feed(&mut turns, 0.0, 320);
        let paused = turns.present().unwrap();
        assert_eq!(
            (paused.samples.len(), paused.voiced),
            (length + 20 * FRAME, voiced)
        );
    }

    #[test]
    fn a_turn_without_an_end_is_cut() {
        let mut turns = Utterances::new(UtteranceSettings::default());
        let events = feed(&mut turns, 0.9, 601_000);
        assert!(
            matches!(
                events[..],
                [
                    UtteranceEvent::Started { .. },
                    UtteranceEvent::Stopped { .. },
                    ..
                ]
            ),
            "{}",
            events.len()
        );
    }

    #[test]
    fn whatever_comes_in_any_pieces_is_heard() {
        let mut turns = Utterances::new(UtteranceSettings::default());
        for size in [1, 255, 256, 257, 5000] {
            assert_eq!(turns.hear(&vec![0.0; size]), []);
        }
        assert_eq!(turns.heard, (1 + 255 + 256 + 257 + 5000) / 256 * 256);
    }
}
