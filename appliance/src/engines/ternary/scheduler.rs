//! The thread that computes: all answers of one model, a few tokens each, in one forward pass after the
//! other (continuous batching).
//!
//! Each pass takes one token of every answer that is being written and a bounded piece of the prompts
//! that are being read, so that a long prompt does not make the others stutter. When the cache is full,
//! kept conversations go first; then the youngest answer steps back into the queue with what it has made,
//! and reads it again later. Nothing is lost and the tokens stay the same.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use onebit_kernels::kv::{Cache, PAGE, SequenceId};
use onebit_kernels::model::{Logits, Slice, Want};
use onebit_kernels::sampler::Sampled;
use onebit_kernels::tokenizer::Tokenizer;
use tokio::sync::oneshot;

use super::admission::Admission;
use super::answer::Answer;
use super::compute::{Compute, ComputeError};
use super::prefix::{Kept, shared, worth_sharing};
use crate::domain::FinishReason;
use crate::engines::EngineError;

/// Positions whose logits are wanted at once when text is scored: 64 rows of a 128k vocabulary are 32 MiB.
const SCORE_ROWS: usize = 64;

/// Between two tellings of places in the queue: each may send one event to everybody who waits.
const PLACES_EVERY: Duration = Duration::from_millis(250);

/// What the session asks of its thread.
pub(super) enum Job {
    /// Write an answer.
    Answer(Box<Answer>),
    /// Tell how likely each token is after those before it.
    Score {
        tokens: Vec<u32>,
        reply: oneshot::Sender<Result<Vec<f32>, EngineError>>,
    },
}

/// Limits that the owner set.
#[derive(Debug, Clone, Copy)]
pub(super) struct SchedulerLimits {
    /// Answers in one pass.
    pub(super) active_max: usize,
    /// Prompt tokens in one pass.
    pub(super) prefill_tokens: usize,
    /// Finished conversations that are kept.
    pub(super) kept_max: usize,
}

/// The state of the thread; nobody else touches it.
pub(super) struct Scheduler {
    compute: Compute,
    tokenizer: Arc<Tokenizer>,
    cache: Cache,
    limits: SchedulerLimits,
    admission: Arc<Admission>,
    /// Set when the device is gone: the thread ends, and the next request loads the model again.
    lost: bool,
    waiting: VecDeque<Box<Answer>>,
    /// When those were last told their places.
    places_told: Option<Instant>,
    /// Oldest first.
    active: Vec<Answer>,
    kept: Kept,
}

/// A piece of one answer's tokens in a pass.
struct Share {
    /// Index into `active`.
    index: usize,
    /// How many of its unread tokens.
    len: usize,
}

/// What a pass says of the positions that end it.
enum Ends {
    /// A row of logits for each.
    All(Logits),
    /// The best token of each, which is found without most of the output head.
    Best(Vec<Option<(u32, f32)>>),
}

impl Ends {
    /// Lets an answer choose at position `at`; `None` where there is none.
    fn choose(&self, at: usize, answer: &mut Answer) -> Option<Result<Sampled, EngineError>> {
        match self {
            Ends::All(logits) => logits.rows().nth(at).map(|row| answer.choose(row)),
            Ends::Best(found) => found.get(at).map(|best| answer.choose_best(*best)),
        }
    }
}

impl Scheduler {
    pub(super) fn new(
        compute: Compute,
        tokenizer: Arc<Tokenizer>,
        cache: Cache,
        limits: SchedulerLimits,
        admission: Arc<Admission>,
    ) -> Scheduler {
        let kept = Kept::new(limits.kept_max);
        Scheduler {
            compute,
            tokenizer,
            cache,
            limits,
            admission,
            lost: false,
            waiting: VecDeque::new(),
            places_told: None,
            active: Vec::new(),
            kept,
        }
    }

    /// Runs until the session is dropped.
    pub(super) fn run(mut self, inbox: Receiver<Job>) {
        while !self.lost {
            let idle = self.active.is_empty() && self.waiting.is_empty();
            let job = if idle {
                inbox.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                inbox.try_recv()
            };
            match job {
                Ok(Job::Answer(answer)) => {
                    self.waiting.push_back(answer);
                    continue; // take all that has arrived before the next pass
                }
                Ok(Job::Score { tokens, reply }) => {
                    // A reader that has gone away needs no score.
                    let _ = reply.send(self.score(&tokens));
                    continue;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => break,
            }
            self.drop_abandoned();
            self.admit();
            self.tell_places();
            self.admission.set_active(self.active.len());
            if !self.active.is_empty() {
                self.pass();
                self.admission.set_active(self.active.len());
            }
        }
        let waiting = self.waiting.drain(..).map(|answer| *answer);
        for answer in self.active.drain(..).chain(waiting) {
            answer.fail(EngineError::Stopped);
        }
        // What arrived while the device was being lost is asked again of the model that is loaded next.
        for job in inbox.try_iter() {
            match job {
                Job::Answer(answer) => answer.fail(EngineError::Stopped),
                Job::Score { reply, .. } => drop(reply.send(Err(EngineError::Stopped))),
            }
        }
    }

    /// Lets go of answers whose reader has gone, wherever they stand.
    fn drop_abandoned(&mut self) {
        self.waiting.retain(|answer| !answer.abandoned());
        let mut index = 0;
        while index < self.active.len() {
            if self.active[index].abandoned() {
                self.retire(index);
            } else {
                index += 1;
            }
        }
    }

    /// Starts waiting answers while there are places.
    fn admit(&mut self) {
        while self.active.len() < self.limits.active_max {
            let Some(mut answer) = self.waiting.pop_front() else {
                return;
            };
            let known = self.known_start(&answer.tokens);
            let sequence = match known {
                Some((sequence, length)) => self.cache.fork(sequence, length),
                None => self.cache.create(),
            };
            let fed = known.map_or(0, |(_, length)| length);
            // Room for its prompt and a page for everybody, else it would only push others out.
            let pages = (answer.tokens.len() - fed).div_ceil(PAGE) + 1 + self.active.len();
            while self.cache.positions_free() < pages * PAGE && self.kept.evict(&mut self.cache) {}
            if self.cache.positions_free() < pages * PAGE && !self.active.is_empty() {
                self.cache.remove(sequence);
                self.waiting.push_front(answer);
                return;
            }
            answer.fed = fed;
            answer.sequence = Some(sequence);
            if answer.started.is_none() {
                answer.started = Some(Instant::now());
                answer.cached_len = answer.fed;
            }
            self.active.push(*answer);
        }
    }

    /// Tells those who wait how many are before them.
    fn tell_places(&mut self) {
        let due = |at: Instant| at.elapsed() >= PLACES_EVERY;
        if self.waiting.is_empty() || !self.places_told.is_none_or(due) {
            return;
        }
        self.places_told = Some(Instant::now());
        for (ahead, answer) in self.waiting.iter_mut().enumerate() {
            answer.wait_behind(ahead);
        }
    }

    /// Finds the longest start of `tokens` in kept conversations and running answers.
    fn known_start(&mut self, tokens: &[u32]) -> Option<(SequenceId, usize)> {
        let running = self
            .active
            .iter()
            .filter_map(|other| Some((other.sequence?, shared(&other.tokens[..other.fed], tokens))))
            .max_by_key(|(_, length)| *length)
            .filter(|(_, length)| worth_sharing(*length));
        let kept = self.kept.find(tokens);
        running
            .into_iter()
            .chain(kept)
            .max_by_key(|(_, length)| *length)
    }

    /// One forward pass and what follows from it.
    fn pass(&mut self) {
        let shares = self.shares_with_room();
        if shares.is_empty() {
            return;
        }
        let batch: Vec<Slice<'_>> = shares
            .iter()
            .filter_map(|share| {
                let answer = &self.active[share.index];
                let last = share.len == answer.unread();
                Some(Slice {
                    sequence: answer.sequence?,
                    tokens: &answer.tokens[answer.fed..answer.fed + share.len],
                    logits: if last { Want::Last } else { Want::None },
                })
            })
            .collect();
        let ending = |share: &&Share| share.len == self.active[share.index].unread();
        let best_only = shares
            .iter()
            .filter(ending)
            .all(|share| self.active[share.index].wants_best_only());
        let outcome = if best_only {
            let best = self.compute.forward_best(&mut self.cache, &batch);
            best.map(Ends::Best)
        } else {
            self.compute.forward(&mut self.cache, &batch).map(Ends::All)
        };
        let ends = match outcome {
            Ok(ends) => ends,
            Err(error) => return self.failed(&error),
        };
        let mut at = 0;
        let mut ended = Vec::new();
        for share in &shares {
            let answer = &mut self.active[share.index];
            answer.fed += share.len;
            if answer.unread() > 0 {
                continue;
            }
            let Some(chosen) = ends.choose(at, answer) else {
                break;
            };
            at += 1;
            let end = match chosen {
                Ok(sampled) => answer.take(sampled, &self.tokenizer).map(Ok),
                Err(error) => Some(Err(error)),
            };
            ended.extend(end.map(|end| (share.index, end)));
        }
        ended.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, end) in ended {
            self.end(index, end);
        }
    }

    /// Divides the next pass among the active answers and makes room for it in the cache.
    fn shares_with_room(&mut self) -> Vec<Share> {
        loop {
            let shares = self.shares();
            let pages: usize = shares.iter().map(|share| self.pages_wanted(share)).sum();
            if pages * PAGE <= self.cache.positions_free() {
                return shares;
            }
            if self.kept.evict(&mut self.cache) {
                continue;
            }
            if self.active.len() > 1 {
                self.step_back();
                continue;
            }
            // One answer alone has the whole cache, which is at least one full context.
            self.fail_all(&EngineError::Failed(
                "the cache is too small for one answer".to_owned(),
            ));
            return Vec::new();
        }
    }

    fn shares(&self) -> Vec<Share> {
        let mut left = self.limits.prefill_tokens;
        let mut shares = Vec::with_capacity(self.active.len());
        for (index, answer) in self.active.iter().enumerate() {
            let len = if answer.decoding() {
                1
            } else {
                answer.unread().min(left)
            };
            if !answer.decoding() {
                left -= len;
            }
            if len > 0 {
                shares.push(Share { index, len });
            }
        }
        shares
    }

    /// Pages that a share may take: new ones, and one for a last page that is shared with another sequence.
    fn pages_wanted(&self, share: &Share) -> usize {
        let fed = self.active[share.index].fed;
        (fed + share.len).div_ceil(PAGE) - fed.div_ceil(PAGE)
            + usize::from(!fed.is_multiple_of(PAGE))
    }

    /// Sends the youngest answer back into the queue, to be read again when there is room.
    fn step_back(&mut self) {
        let Some(mut answer) = self.active.pop() else {
            return;
        };
        if let Some(sequence) = answer.sequence.take() {
            self.cache.remove(sequence);
        }
        answer.fed = 0;
        self.waiting.push_front(Box::new(answer));
    }

    /// Takes an answer out and keeps its conversation for the next turn.
    fn retire(&mut self, index: usize) -> Answer {
        let mut answer = self.active.remove(index);
        if let Some(sequence) = answer.sequence.take() {
            let known = answer.tokens[..answer.fed].to_vec();
            self.kept.add(&mut self.cache, known, sequence);
        }
        answer
    }

    fn end(&mut self, index: usize, end: Result<FinishReason, EngineError>) {
        let answer = self.retire(index);
        self.admission.set_active(self.active.len());
        match end {
            Ok(reason) => answer.finish(reason),
            Err(error) => answer.fail(error),
        }
    }

    fn failed(&mut self, error: &ComputeError) {
        self.note_loss(error);
        self.fail_all(&error.told());
    }

    /// Where the device is gone this session is over, and whoever asks next must find it so.
    fn note_loss(&mut self, error: &ComputeError) {
        if error.lost {
            self.lost = true;
            self.admission.end();
        }
    }

    fn fail_all(&mut self, error: &EngineError) {
        tracing::error!(%error, answers = self.active.len(), "forward pass failed");
        for mut answer in self.active.drain(..) {
            if let Some(sequence) = answer.sequence.take() {
                self.cache.remove(sequence);
            }
            answer.fail(error.clone());
        }
    }

    /// Scores a text in one go; running answers wait for it, for it is a measurement and not a service.
    fn score(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let wanted = tokens.len().div_ceil(PAGE) * PAGE;
        while self.cache.positions_free() < wanted {
            if !self.kept.evict(&mut self.cache) {
                if self.active.is_empty() {
                    return Err(EngineError::PromptTooLong {
                        tokens: tokens.len(),
                        context: self.cache.positions_free(),
                    });
                }
                self.step_back();
            }
        }
        let sequence = self.cache.create();
        let result = self.score_in(sequence, tokens);
        self.cache.remove(sequence);
        result
    }

    fn score_in(&mut self, sequence: SequenceId, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let mut scores = Vec::with_capacity(tokens.len());
        for (at, chunk) in tokens.chunks(SCORE_ROWS).enumerate() {
            let batch = [Slice {
                sequence,
                tokens: chunk,
                logits: Want::All,
            }];
            let outcome = self.compute.forward(&mut self.cache, &batch);
            let logits = outcome.map_err(|error| {
                self.note_loss(&error);
                error.told()
            })?;
            let next = &tokens[at * SCORE_ROWS + 1..];
            scores.extend(
                logits
                    .rows()
                    .zip(next)
                    .map(|(row, &token)| log_probability(row, token)),
            );
        }
        Ok(scores)
    }
}

/// The natural logarithm of a token's probability under `logits`, summed in double precision.
fn log_probability(logits: &[f32], token: u32) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|&logit| f64::from(logit - max).exp())
        .sum();
    let logit = logits
        .get(token as usize)
        .copied()
        .unwrap_or(f32::NEG_INFINITY);
    (f64::from(logit - max) - sum.ln()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_a_softmax() {
        let logits = [1.0f32, 2.0, 3.0, 1000.0];
        let total: f64 = (0..4)
            .map(|t| f64::from(log_probability(&logits, t)).exp())
            .sum();
        assert!((total - 1.0).abs() < 1e-6, "{total}");
        assert!((log_probability(&[0.0, 0.0], 1) + std::f32::consts::LN_2).abs() < 1e-6);
        assert_eq!(log_probability(&[0.0], 9), f32::NEG_INFINITY);
    }
}
