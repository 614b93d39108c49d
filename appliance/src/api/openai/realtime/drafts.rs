//! What is written down of a turn before it has ended: some of it while somebody speaks, and all of it in a pause that
//! may be its end. If it is, nobody waits for the recogniser any more.
//!
//! Pure: time is counted in samples, so that tests need no clock.

use crate::app::HEARING_HZ;
use crate::domain::Transcript;

/// Silence after which a turn may have ended, though that is not told yet.
const PAUSE: usize = HEARING_HZ as usize / 5;
/// New sound between two drafts while somebody speaks.
const STEP: usize = HEARING_HZ as usize;
/// Longest turn of which drafts are made: each hears all of it, in one window.
const LONGEST: usize = 29 * HEARING_HZ as usize;
/// A recogniser that needs so long for a draft gets twice that time for itself before the next one.
const SHARE: usize = 2;

/// A look at a turn that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) number: u64,
    /// Samples of speech that it hears.
    voiced: usize,
    /// Made in a pause, so that it is the turn's text if nothing follows.
    whole: bool,
}

/// What is known of a turn when it ends.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// All that was said.
    Known(Transcript),
    /// It is being written down already.
    Coming(Draft),
    /// Nothing that helps.
    Unknown,
}

/// The drafts of one turn.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    made: u64,
    running: Option<Draft>,
    last: Option<(Draft, Transcript)>,
    /// How long the last one took.
    took: usize,
    /// Words of the turn that were told already.
    told: usize,
}

impl Drafts {
    /// Whether to look at a turn of so many samples, of which so many come before the silence at its end. The draft that
    /// is being made, if there is one, is of no use any more then.
    pub(super) fn plan(&mut self, length: usize, voiced: usize) -> Option<Draft> {
        let known = self.running.or(self.last.as_ref().map(|(draft, _)| *draft));
        let whole = length - voiced >= PAUSE;
        if length > LONGEST {
            return None;
        }
        let wanted = if whole {
            !known.is_some_and(|draft| draft.whole && draft.voiced == voiced)
        } else {
            let step = STEP.max(self.took * SHARE);
            let heard = known.map_or(0, |draft| draft.voiced);
            self.running.is_none() && voiced >= heard + step
        };
        wanted.then(|| {
            self.made += 1;
            let draft = Draft {
                number: self.made,
                voiced,
                whole,
            };
            self.running = Some(draft);
            draft
        })
    }

    /// A draft is there; gives the words that are certain now and were not told yet. Two drafts in a row that agree on
    /// a word make it certain, but for a draft's last one, which may be half a word.
    pub(super) fn made(&mut self, number: u64, heard: Transcript, took: usize) -> Option<String> {
        let draft = self.running.take_if(|draft| draft.number == number)?;
        self.took = took;
        let text = heard.text();
        let before = self.last.replace((draft, heard));
        let before = before.map(|(_, heard)| heard.text()).unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let same = words
            .iter()
            .zip(before.split_whitespace())
            .take_while(|(new, old)| **new == *old)
            .count();
        let certain = same.min(words.len().saturating_sub(1));
        if certain <= self.told {
            return None;
        }
        let fresh = words.get(self.told..certain)?.join(" ");
        let gap = if self.told == 0 { "" } else { " " };
        self.told = certain;
        Some(format!("{gap}{fresh}"))
    }

    /// A draft could not be made; the turn's end is heard without it.
    pub(super) fn failed(&mut self, number: u64) {
        self.running.take_if(|draft| draft.number == number);
    }

    /// The turn has ended with so much speech.
    pub(super) fn end(self, voiced: usize) -> End {
        let fits = |draft: &Draft| draft.whole && draft.voiced == voiced;
        match (self.running, self.last) {
            (Some(draft), _) if fits(&draft) => End::Coming(draft),
            (None, Some((draft, heard))) if fits(&draft) => End::Known(heard),
            _ => End::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Segment;

    const S: usize = HEARING_HZ as usize;

    fn heard(text: &str) -> Transcript {
        let mut heard = Transcript::default();
        heard.segments.push(Segment {
            text: text.to_owned(),
            ..Segment::default()
        });
        heard
    }

    #[test]
    fn words_are_told_once_two_drafts_agree() {
        let mut drafts = Drafts::default();
        assert_eq!(drafts.plan(S / 2, S / 2), None, "too little");
        let one = drafts.plan(S, S).unwrap();
        assert_eq!(drafts.plan(3 * S, 3 * S), None, "one at a time");
        assert_eq!(drafts.made(one.number, heard("What is a he"), S / 4), None);
        assert_eq!(drafts.plan(S * 3 / 2, S * 3 / 2), None, "not yet");
        let two = drafts.plan(2 * S, 2 * S).unwrap();
        let told = drafts.made(two.number, heard("What is a heat pump"), S / 4);
        assert_eq!(told.as_deref(), Some("What is a"));
        let three = drafts.plan(3 * S, 3 * S).unwrap();
        let told = drafts.made(three.number, heard("What is a heat pump, please"), S / 4);
        assert_eq!(told.as_deref(), Some(" heat"));
        let four = drafts.plan(4 * S, 4 * S).unwrap();
        assert_eq!(drafts.made(four.number, heard("What was it"), S / 4), None);
    }

    #[test]
    fn a_pause_is_written_down_at_once_and_once() {
        let mut drafts = Drafts::default();
        let partial = drafts.plan(S, S).unwrap();
        assert_eq!(drafts.plan(S * 11 / 10, S), None, "a short pause is none");
        let whole = drafts.plan(S * 6 / 5, S).unwrap();
        assert_eq!(drafts.made(partial.number, heard("late"), S), None);
        assert_eq!(drafts.plan(S * 7 / 5, S), None);
        assert_eq!(drafts.made(whole.number, heard("Yes."), S / 4), None);
        assert_eq!(drafts.plan(S * 3 / 2, S), None);
        assert_eq!(drafts.end(S), End::Known(heard("Yes.")));
    }

    #[test]
    fn who_speaks_on_makes_a_draft_worthless() {
        let mut drafts = Drafts::default();
        let whole = drafts.plan(S * 6 / 5, S).unwrap();
        drafts.made(whole.number, heard("Yes."), S / 4);
        let again = drafts.plan(S * 2, S * 3 / 2).unwrap();
        assert_eq!(drafts.end(S * 3 / 2), End::Coming(again));
        let mut drafts = Drafts::default();
        let whole = drafts.plan(S * 6 / 5, S).unwrap();
        drafts.failed(whole.number);
        assert_eq!(drafts.end(S), End::Unknown);
    }

    #[test]
    fn a_slow_recogniser_is_asked_less_often_and_a_long_turn_not_at_all() {
        let mut drafts = Drafts::default();
        let one = drafts.plan(S, S).unwrap();
        drafts.made(one.number, heard("a"), 2 * S);
        assert_eq!(drafts.plan(4 * S, 4 * S), None);
        assert!(drafts.plan(5 * S, 5 * S).is_some());
        assert_eq!(Drafts::default().plan(30 * S, 30 * S), None);
    }
}
