//! Chooses the next token from a row of logits.
//!
//! The order is fixed: bias, penalties, mask; then, unless the temperature is 0 (greedy), temperature, top-k,
//! top-p, min-p, and a draw. Log-probabilities are those of the biased, penalised and masked distribution at
//! temperature 1, before truncation. A sampler owns its random state and what it has seen; it knows nothing of
//! models or text.

mod random;

use crate::cpu::elementwise::exp;
use random::Random;
use std::collections::{HashMap, VecDeque};

/// How tokens are chosen. The default is greedy without penalties.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerConfig {
    /// 0 (or less) takes the best token; 1 draws from the model's distribution.
    pub temperature: f32,
    /// Keep this many best tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the best tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less probable than this fraction of the best one's probability; 0 drops none.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in the window; 1 is off.
    pub repetition_penalty: f32,
    /// Tokens that the penalties look back on; 0 looks at all that were observed.
    pub repetition_window: usize,
    /// Subtracted from the logit of each token in the window.
    pub presence_penalty: f32,
    /// Subtracted once for each occurrence in the window.
    pub frequency_penalty: f32,
    /// Equal seeds and equal logits give equal tokens.
    pub seed: u64,
    /// Added to these tokens' logits.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the best tokens [`Sampled::top`] lists.
    pub logprobs: usize,
}

impl Default for SamplerConfig {
    fn default() -> SamplerConfig {
        SamplerConfig {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
            logprobs: 0,
        }
    }
}

/// The tokens that may come next: one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u64>,
}

impl TokenMask {
    /// Allows nothing yet; `n_vocab` tokens.
    pub fn none(n_vocab: usize) -> TokenMask {
        TokenMask {
            words: vec![0; n_vocab.div_ceil(64)],
        }
    }

    /// Allows a token; one beyond the vocabulary is ignored.
    pub fn allow(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 64) {
            *word |= 1 << (token % 64);
        }
    }

    /// Whether a token is allowed.
    pub fn allows(&self, token: u32) -> bool {
        self.words
            .get(token as usize / 64)
            .is_some_and(|word| word >> (token % 64) & 1 == 1)
    }

    /// Whether any token is allowed.
    pub fn allows_any(&self) -> bool {
        self.words.iter().any(|word| *word != 0)
    }
}

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// Its log-probability; −∞ if the mask allowed nothing (then the token is the mask's fault, not the model's).
    pub logprob: f32,
    /// The best tokens and their log-probabilities, best first.
    pub top: Vec<(u32, f32)>,
}

/// A configuration, its random state, and the tokens seen so far.
#[derive(Clone, Debug)]
pub struct Sampler {
    config: SamplerConfig,
    random: Random,
    window: VecDeque<u32>,
    counts: HashMap<u32, u32>,
    /// Adjusted logits of the current row.
    logits: Vec<f32>,
    /// Weights of the tokens still in the race.
    candidates: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    token: u32,
    /// Logit, then unnormalised probability.
    weight: f32,
}

impl Sampler {
    /// A sampler that has seen nothing.
    pub fn new(config: SamplerConfig) -> Sampler {
        Sampler {
            random: Random::new(config.seed),
            config,
            window: VecDeque::new(),
            counts: HashMap::new(),
            logits: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Whether the best logit alone decides: no penalty, bias, log-probability or draw. Such a sampler does not need
    /// a full row of logits.
    pub fn wants_best_only(&self) -> bool {
        self.config.temperature <= 0.0
            && self.config.logprobs == 0
            && self.config.logit_bias.is_empty()
            && !self.penalises()
    }

    /// Counts tokens for the penalties: the prompt's, then every sampled one.
    pub fn observe(&mut self, tokens: &[u32]) {
        if !self.penalises() {
            return;
        }
        for &token in tokens {
            *self.counts.entry(token).or_insert(0) += 1;
            if self.config.repetition_window == 0 {
                continue;
            }
            self.window.push_back(token);
            if self.window.len() > self.config.repetition_window
                && let Some(old) = self.window.pop_front()
                && let Some(count) = self.counts.get_mut(&old)
            {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&old);
                }
            }
        }
    }

    /// Chooses a token. Does not observe it: the caller may still reject it.
    pub fn sample(&mut self, logits: &[f32], mask: Option<&TokenMask>) -> Sampled {
        self.adjust(logits, mask);
        let Some(best) = best(&self.logits) else {
            return Sampled {
                token: 0,
                logprob: f32::NEG_INFINITY,
                top: Vec::new(),
            };
        };
        let log_total = log_sum_exp(&self.logits, self.logits[best]);
        let token = if self.config.temperature <= 0.0 {
            best as u32
        } else {
            self.truncate(best);
            self.draw()
        };
        let top = if self.config.logprobs > 0 {
            self.top(log_total)
        } else {
            Vec::new()
        };
        Sampled {
            token,
            logprob: self.logits[token as usize] - log_total,
            top,
        }
    }

    /// The probabilities that [`Sampler::sample`] draws from, as `(token, probability)` in no particular order: what
    /// speculative decoding must preserve. Greedy sampling has one token of probability 1.
    pub fn probabilities(&mut self, logits: &[f32], mask: Option<&TokenMask>) -> Vec<(u32, f32)> {
        self.adjust(logits, mask);
        let Some(best) = best(&self.logits) else {
            return Vec::new();
        };
        if self.config.temperature <= 0.0 {
            return vec![(best as u32, 1.0)];
        }
        self.truncate(best);
        let total: f32 = self.candidates.iter().map(|c| c.weight).sum();
        self.candidates
            .iter()
            .map(|c| (c.token, c.weight / total))
            .collect()
    }

    /// A number from 0 (included) to 1 (excluded), from the sampler's own stream.
    pub fn uniform(&mut self) -> f32 {
        self.random.uniform()
    }

    fn penalises(&self) -> bool {
        let c = &self.config;
        c.repetition_penalty != 1.0 || c.presence_penalty != 0.0 || c.frequency_penalty != 0.0
    }

    /// Copies the row and applies bias, penalties and mask to it.
    fn adjust(&mut self, logits: &[f32], mask: Option<&TokenMask>) {
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        for &(token, bias) in &self.config.logit_bias {
            if let Some(logit) = self.logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        let c = &self.config;
        for (&token, &count) in &self.counts {
            if let Some(logit) = self.logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 {
                    *logit / c.repetition_penalty
                } else {
                    *logit * c.repetition_penalty
                };
                *logit -= c.presence_penalty + c.frequency_penalty * count as f32;
            }
        }
        if let Some(mask) = mask {
            for (token, logit) in self.logits.iter_mut().enumerate() {
                if !mask.allows(token as u32) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Leaves the tokens that top-k, top-p and min-p keep, with unnormalised probabilities at the temperature.
    fn truncate(&mut self, best: usize) {
        let (largest, c) = (self.logits[best], &self.config);
        let inverse = 1.0 / c.temperature;
        // A weight relative to the best token's 1; min-p is a bound on it, and so is what f32 can add to 1.
        let floor = if c.min_p > 0.0 {
            (c.min_p.ln() / inverse).max(-87.0 / inverse)
        } else {
            -87.0 / inverse
        };
        self.candidates.clear();
        for (token, &logit) in self.logits.iter().enumerate() {
            if logit - largest >= floor {
                self.candidates.push(Candidate {
                    token: token as u32,
                    weight: exp((logit - largest) * inverse),
                });
            }
        }
        if c.top_k > 0 && c.top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(c.top_k - 1, heavier);
            self.candidates.truncate(c.top_k);
        }
        if c.top_p < 1.0 {
            self.nucleus();
        }
    }

    /// Keeps the heaviest candidates whose weights reach `top_p` of the total; always one.
    fn nucleus(&mut self) {
        let total: f32 = self.candidates.iter().map(|c| c.weight).sum();
        let wanted = self.config.top_p.max(0.0) * total;
        // Nuclei are small: sort a growing prefix instead of the vocabulary.
        let mut sorted = 64.min(self.candidates.len());
        loop {
            if sorted < self.candidates.len() {
                self.candidates.select_nth_unstable_by(sorted - 1, heavier);
            }
            self.candidates[..sorted].sort_unstable_by(heavier);
            let mut sum = 0.0;
            for (i, candidate) in self.candidates[..sorted].iter().enumerate() {
                sum += candidate.weight;
                if sum >= wanted {
                    self.candidates.truncate(i + 1);
                    return;
                }
            }
            if sorted == self.candidates.len() {
                return;
            }
            sorted = (sorted * 8).min(self.candidates.len());
        }
    }

    fn draw(&mut self) -> u32 {
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.weight)).sum();
        let mut left = f64::from(self.random.uniform()) * total;
        let mut chosen = self.candidates[0].token;
        for candidate in &self.candidates {
            chosen = candidate.token;
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                break;
            }
        }
        chosen
    }

    fn top(&self, log_total: f32) -> Vec<(u32, f32)> {
        let mut all: Vec<Candidate> = self
            .logits
            .iter()
            .enumerate()
            .map(|(token, &weight)| Candidate {
                token: token as u32,
                weight,
            })
            .collect();
        let n = self.config.logprobs.min(all.len());
        if n < all.len() {
            all.select_nth_unstable_by(n, heavier);
            all.truncate(n);
        }
        all.sort_unstable_by(heavier);
        all.into_iter()
            .map(|c| (c.token, c.weight - log_total))
            .collect()
    }
}

/// Heavier first, then the smaller token, so that ties fall the same way everywhere.
fn heavier(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token))
}

/// The first of the largest logits; NaN and −∞ do not count.
pub fn best(logits: &[f32]) -> Option<usize> {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let largest = lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    if largest == f32::NEG_INFINITY {
        return None;
    }
    logits.iter().position(|&logit| logit == largest)
}

/// `ln Σ e^logit`, given the largest logit.
pub fn log_sum_exp(logits: &[f32], largest: f32) -> f32 {
    let (chunks, rest) = logits.as_chunks::<16>();
    let mut total = 0.0_f64;
    for chunk in chunks {
        let mut lanes = [0.0_f32; 16];
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = exp(logit - largest);
        }
        total += f64::from(lanes.iter().sum::<f32>());
    }
    total += rest
        .iter()
        .map(|&logit| f64::from(exp(logit - largest)))
        .sum::<f64>();
    largest + total.ln() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SamplerConfig {
        SamplerConfig {
            temperature: 1.0,
            seed: 5,
            ..SamplerConfig::default()
        }
    }

    /// How often each token is drawn in `n` draws.
    fn histogram(config: SamplerConfig, logits: &[f32], n: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(config);
        let mut counts = vec![0; logits.len()];
        for _ in 0..n {
            counts[sampler.sample(logits, None).token as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let mut sampler = Sampler::new(SamplerConfig::default());
        assert_eq!(sampler.sample(&[0.0, 3.0, 3.0, f32::NAN], None).token, 1);
        assert!(sampler.wants_best_only());
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln(), 0.0_f32.ln()];
        let counts = histogram(config(), &logits, 80_000);
        for (count, wanted) in counts.iter().zip([0.125, 0.25, 0.625, 0.0]) {
            // Five standard deviations of a binomial of 80,000.
            assert!(
                (*count as f64 / 80_000.0 - wanted).abs() < 0.009,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn truncation_keeps_what_it_says() {
        let logits: Vec<f32> = [0.4_f32, 0.3, 0.2, 0.1].iter().map(|p| p.ln()).collect();
        let kept = |config: SamplerConfig| -> Vec<bool> {
            histogram(config, &logits, 2000)
                .iter()
                .map(|c| *c > 0)
                .collect()
        };
        assert_eq!(
            kept(SamplerConfig {
                top_k: 2,
                ..config()
            }),
            [true, true, false, false]
        );
        assert_eq!(
            kept(SamplerConfig {
                top_p: 0.65,
                ..config()
            }),
            [true, true, false, false]
        );
        assert_eq!(
            kept(SamplerConfig {
                top_p: 0.75,
                ..config()
            }),
            [true, true, true, false]
        );
        assert_eq!(
            kept(SamplerConfig {
                top_p: 0.0,
                ..config()
            }),
            [true, false, false, false]
        );
        assert_eq!(
            kept(SamplerConfig {
                min_p: 0.6,
                ..config()
            }),
            [true, true, false, false]
        );
        assert_eq!(
            kept(SamplerConfig {
                temperature: 0.01,
                ..config()
            }),
            [true, false, false, false]
        );
    }

    #[test]
    fn wide_nuclei_are_exact() {
        // 1000 equal tokens: a nucleus of 0.3 holds the first 300.
        let counts = histogram(
            SamplerConfig {
                top_p: 0.2999,
                ..config()
            },
            &[0.0; 1000],
            20_000,
        );
        assert_eq!(counts.iter().filter(|c| **c > 0).count(), 300);
        assert!(counts[300..].iter().all(|c| *c == 0));
    }

    #[test]
    fn penalties_look_back_on_their_window() {
        let config = SamplerConfig {
            repetition_penalty: 2.0,
            repetition_window: 2,
            ..SamplerConfig::default()
        };
        let mut sampler = Sampler::new(config);
        sampler.observe(&[0, 0, 1]);
        assert_eq!(sampler.sample(&[4.0, 3.0, 2.5], None).token, 2);
        sampler.observe(&[1]);
        assert_eq!(sampler.sample(&[4.0, 3.0, 2.5], None).token, 0);
        let mut sampler = Sampler::new(SamplerConfig {
            frequency_penalty: 0.5,
            presence_penalty: 0.1,
            ..SamplerConfig::default()
        });
        sampler.observe(&[0, 0, 1]);
        // 4.0 - 1.1 = 2.9, 3.6 - 0.6 = 3.0
        assert_eq!(sampler.sample(&[4.0, 3.6, 2.95], None).token, 1);
    }

    #[test]
    fn masks_and_biases_decide() {
        let mut mask = TokenMask::none(3);
        assert_eq!(
            Sampler::new(config())
                .sample(&[1.0; 3], Some(&mask))
                .logprob,
            f32::NEG_INFINITY
        );
        mask.allow(2);
        mask.allow(99);
        let sampled = Sampler::new(config()).sample(&[9.0, 9.0, 1.0], Some(&mask));
        assert_eq!((sampled.token, sampled.logprob), (2, 0.0));
        let biased = SamplerConfig {
            logit_bias: vec![(0, -100.0), (7, 1.0)],
            ..SamplerConfig::default()
        };
        assert_eq!(Sampler::new(biased).sample(&[9.0, 8.0, 1.0], None).token, 1);
    }

    #[test]
    fn logprobs_are_those_of_the_whole_distribution() {
        let logits = [0.5_f32.ln(), 0.25_f32.ln(), 0.25_f32.ln()];
        let sampled = Sampler::new(SamplerConfig {
            logprobs: 2,
            top_k: 1,
            ..config()
        })
        .sample(&logits, None);
        assert!((sampled.logprob - 0.5_f32.ln()).abs() < 1e-6);
        assert_eq!(sampled.top.iter().map(|t| t.0).collect::<Vec<_>>(), [0, 1]);
        assert!((sampled.top[1].1 - 0.25_f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn equal_seeds_give_equal_tokens() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin()).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(SamplerConfig { seed, ..config() });
            (0..50)
                .map(|_| sampler.sample(&logits, None).token)
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
