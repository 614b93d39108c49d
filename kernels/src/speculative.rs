//! Lossless speculative decoding: a draft guesses tokens, one forward pass checks them all.
//!
//! Each guessed position's logits go through the caller's sampler exactly as in plain decoding, and guesses are kept
//! while the sampler agrees with them. As a batch gives the same logits as single steps, bit for bit, and the sampler
//! makes the same draws from its random stream, the tokens are those of plain decoding, greedy or sampled, whatever the
//! draft guesses: a draft can only change the speed.

use crate::kv::{Cache, SequenceId};
use crate::model::{ForwardError, Model, Slice, Want};
use crate::sampler::{Sampled, Sampler, best};
use crate::threads::Threads;

/// Guesses how a sequence goes on.
pub trait Draft {
    /// Appends at most `max` tokens to `guess`; none is a fine answer.
    ///
    /// # Errors
    /// What a draft's own model refuses.
    fn propose(
        &mut self,
        threads: &Threads,
        history: &[u32],
        max: usize,
        guess: &mut Vec<u32>,
    ) -> Result<(), ForwardError>;
}

/// Guesses that the text repeats itself: finds the last earlier place where the latest tokens stood, and proposes what
/// followed there. Costs no model.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// Longest run of latest tokens to look for.
    pub longest: usize,
    /// Shortest run to trust.
    pub shortest: usize,
}

impl Default for Lookup {
    /// Runs of 2 to 4 tokens: single tokens recur by chance, longer runs find nothing new.
    fn default() -> Lookup {
        Lookup {
            longest: 4,
            shortest: 2,
        }
    }
}

impl Draft for Lookup {
    fn propose(
        &mut self,
        _: &Threads,
        history: &[u32],
        max: usize,
        guess: &mut Vec<u32>,
    ) -> Result<(), ForwardError> {
        for n in (self.shortest.max(1)..=self.longest).rev() {
            if history.len() <= n {
                continue;
            }
            let (latest, earlier) = (&history[history.len() - n..], &history[..history.len() - 1]);
            if let Some(at) = earlier.windows(n).rposition(|run| run == latest) {
                guess.extend(history[at + n..].iter().take(max));
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A smaller model of the same vocabulary that decodes greedily ahead.
pub struct DraftModel<'a> {
    model: &'a Model,
    cache: Cache,
    sequence: SequenceId,
    /// What the draft's cache holds.
    fed: Vec<u32>,
}

impl<'a> DraftModel<'a> {
    /// A draft that keeps its own cache, with room for the history and the guesses.
    pub fn new(model: &'a Model, mut cache: Cache) -> DraftModel<'a> {
        let sequence = cache.create();
        DraftModel {
            model,
            cache,
            sequence,
            fed: Vec::new(),
        }
    }
}

impl Draft for DraftModel<'_> {
    fn propose(
        &mut self,
        threads: &Threads,
        history: &[u32],
        max: usize,
        guess: &mut Vec<u32>,
    ) -> Result<(), ForwardError> {
        // The last token is always fed anew: its logits are what we need.
        let usable = history.len().saturating_sub(1);
        let common = self
            .fed
            .iter()
            .zip(&history[..usable])
            .take_while(|(a, b)| a == b)
            .count();
        self.cache.truncate(self.sequence, common);
        self.fed.truncate(common);
        let mut fresh: Vec<u32> = history[common..].to_vec();
        for _ in 0..max {
            let slice = Slice {
                sequence: self.sequence,
                tokens: &fresh,
                logits: Want::Last,
            };
            let logits = self.model.forward(threads, &mut self.cache, &[slice])?;
            self.fed.append(&mut fresh);
            let Some(next) = best(logits.row(0)) else {
                break;
            };
            guess.push(next as u32);
            fresh.push(next as u32);
        }
        Ok(())
    }
}

/// One step of decoding.
pub struct Step<'a> {
    /// The model that decides.
    pub model: &'a Model,
    /// Its threads.
    pub threads: &'a Threads,
    /// Where `sequence` lives.
    pub cache: &'a mut Cache,
    /// The sequence; its cache holds all of the history but the last token.
    pub sequence: SequenceId,
    /// The caller's sampler; every returned token has been observed by it.
    pub sampler: &'a mut Sampler,
}

impl Step<'_> {
    /// Decodes one or more tokens after `history` (not empty) and appends them to it. Stops behind the first token for
    /// which `is_end` holds.
    ///
    /// # Errors
    /// What the model, or the draft's, refuses; history, cache and sampler are then as before.
    pub fn run(
        &mut self,
        history: &mut Vec<u32>,
        draft: &mut dyn Draft,
        guesses_max: usize,
        is_end: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<Sampled>, ForwardError> {
        let known = history.len();
        let last = *history.last().ok_or(ForwardError::Empty)?;
        let mut tokens = vec![last];
        draft.propose(self.threads, history, guesses_max, &mut tokens)?;
        tokens.truncate(guesses_max + 1);
        let slice = Slice {
            sequence: self.sequence,
            tokens: &tokens,
            logits: Want::All,
        };
        let logits = self.model.forward(self.threads, self.cache, &[slice])?;
        let mut out = Vec::new();
        for (i, row) in logits.rows().enumerate() {
            let sampled = self.sampler.sample(row, None);
            self.sampler.observe(&[sampled.token]);
            let token = sampled.token;
            history.push(token);
            out.push(sampled);
            if is_end(token) || tokens.get(i + 1) != Some(&token) {
                break;
            }
        }
        // Of what was fed, the last known token and the confirmed guesses stay.
        self.cache.truncate(self.sequence, known + out.len() - 1);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{CacheOptions, KvKind};
    use crate::model::tests::tiny;
    use crate::sampler::SamplerConfig;

    /// Guesses right and wrong in turns, to exercise both.
    struct Fickle(Vec<u32>, usize);

    impl Draft for Fickle {
        fn propose(
            &mut self,
            _: &Threads,
            history: &[u32],
            max: usize,
            guess: &mut Vec<u32>,
        ) -> Result<(), ForwardError> {
            self.1 += 1;
            let right = self
                .0
                .iter()
                .skip(history.len())
                .take(max.min(self.1 % 4))
                .copied();
            guess.extend(right);
            guess.push(self.1 as u32 % 90);
            Ok(())
        }
    }

    fn cache(model: &Model) -> Cache {
        Cache::new(
            model.config(),
            CacheOptions {
                positions_max: 512,
                kind: KvKind::F16,
            },
        )
        .unwrap()
    }

    fn plain(model: &Model, config: &SamplerConfig, prompt: &[u32], n: usize) -> Vec<u32> {
        let (threads, mut cache, mut sampler) =
            (Threads::new(1), cache(model), Sampler::new(config.clone()));
        let sequence = cache.create();
        let (mut history, mut fed) = (prompt.to_vec(), 0);
        while history.len() < n {
            let slice = Slice {
                sequence,
                tokens: &history[fed..],
                logits: Want::Last,
            };
            let logits = model.forward(&threads, &mut cache, &[slice]).unwrap();
            fed = history.len();
            let token = sampler.sample(logits.row(0), None).token;
            sampler.observe(&[token]);
            history.push(token);
        }
        history
    }

    fn speculative(
        model: &Model,
        config: &SamplerConfig,
        prompt: &[u32],
        n: usize,
        draft: &mut dyn Draft,
    ) -> (Vec<u32>, usize) {
        let (threads, mut cache, mut sampler) =
            (Threads::new(2), cache(model), Sampler::new(config.clone()));
        let sequence = cache.create();
        let mut history = prompt.to_vec();
        let slice = Slice {
            sequence,
            tokens: &prompt[..prompt.len() - 1],
            logits: Want::None,
        };
        model.forward(&threads, &mut cache, &[slice]).unwrap();
        let mut passes = 0;
        while history.len() < n {
            let mut step = Step {
                model,
                threads: &threads,
                cache: &mut cache,
                sequence,
                sampler: &mut sampler,
            };
            step.run(&mut history, draft, 5, &|_| false).unwrap();
            assert_eq!(cache.len(sequence), history.len() - 1);
            passes += 1;
        }
        history.truncate(n);
        (history, passes)
    }

    #[test]
    fn tokens_are_those_of_plain_decoding() {
        let model = tiny();
        let prompt = [5, 9, 5, 9, 5, 9, 2];
        for config in [
            SamplerConfig::default(),
            SamplerConfig {
                repetition_penalty: 1.3,
                ..SamplerConfig::default()
            },
            SamplerConfig {
                temperature: 0.8,
                top_p: 0.9,
                seed: 3,
                ..SamplerConfig::default()
            },
        ] {
            let wanted = plain(&model, &config, &prompt, 120);
            let (found, passes) = speculative(
                &model,
                &config,
                &prompt,
                120,
                &mut Fickle(wanted.clone(), 0),
            );
            assert_eq!(found, wanted, "{config:?}");
            assert!(
                passes < 80,
                "{passes} passes for 113 tokens: good guesses were not used"
            );
            assert_eq!(
                speculative(&model, &config, &prompt, 120, &mut Lookup::default()).0,
                wanted
            );
            let mut draft = DraftModel::new(&model, cache(&model));
            let (found, passes) = speculative(&model, &config, &prompt, 120, &mut draft);
            assert_eq!(found, wanted);
            // Its own greedy guesses are always right.
            assert!(
                config != SamplerConfig::default() || passes <= 20,
                "{passes}"
            );
        }
    }

    #[test]
    fn lookup_finds_the_latest_longest_run() {
        let mut guess = Vec::new();
        let history = [1, 2, 3, 7, 1, 2, 3, 8, 9, 2, 3];
        Lookup::default()
            .propose(&Threads::new(1), &history, 2, &mut guess)
            .unwrap();
        assert_eq!(guess, [8, 9]);
        guess.clear();
        Lookup::default()
            .propose(&Threads::new(1), &[1, 2, 3], 2, &mut guess)
            .unwrap();
        assert!(guess.is_empty());
    }
}
