//! Whether somebody speaks: frame by frame, and over a whole window.

use earshot::Detector;

/// Samples of one frame: 16 ms.
pub const FRAME: usize = 256;
/// From here on a frame counts as speech, where a caller sets nothing else.
pub const THRESHOLD: f32 = 0.5;

/// Judges frames in their order.
pub struct Listener {
    detector: Box<Detector>,
}

impl Default for Listener {
    fn default() -> Self {
        Listener {
            detector: Detector::default_boxed(),
        }
    }
}

impl Listener {
    /// How likely a frame of [`FRAME`] samples is speech, 0 to 1.
    pub fn hear(&mut self, frame: &[f32]) -> f32 {
        // Files of floats may be louder than loud, and a change of rate shoots a little beyond; the detector takes
        // neither.
        let mut bounded = [0.0; FRAME];
        for (to, x) in bounded.iter_mut().zip(frame) {
            *to = x.clamp(-1.0, 1.0);
        }
        self.detector.predict_f32(&bounded)
    }
}

/// Whether a window holds any speech. Recognisers make words of silence and noise, so nobody asks them then. Three
/// frames in a row at a low threshold: a whispered word counts, a click does not.
pub fn speaks(samples: &[f32]) -> bool {
    let mut listener = Listener::default();
    let mut row = 0;
    for frame in samples.chunks_exact(FRAME) {
        row = if listener.hear(frame) >= 0.3 {
            row + 1
        } else {
            0
        };
        if row == 3 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_no_speech() {
        assert!(!speaks(&vec![0.0; 16_000 * 3]));
        assert!(!speaks(&vec![0.001; 16_000]));
        assert!(!speaks(&[]));
    }

    /// A file of floats may hold anything; the detector alone would panic.
    #[test]
    fn as_loud_as_floats_can_be_is_still_judged() {
        let likely = Listener::default().hear(&[1e30; FRAME]);
        assert!((0.0..=1.0).contains(&likely), "{likely}");
    }
}
