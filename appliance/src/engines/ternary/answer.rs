//! One answer on its way: its tokens, what of them is in the cache, and what its reader has been sent.

use std::time::Instant;

use onebit_kernels::kv::SequenceId;
use onebit_kernels::sampler::{Sampled, Sampler};
use onebit_kernels::tokenizer::{Hold, StreamDecoder, Tokenizer};
use tokio::sync::mpsc::UnboundedSender;

use super::admission::Permit;
use super::grammar::Guide;
use crate::domain::{ChatEvent, Finish, FinishReason, Piece, Timings, TokenLogprob, Usage};
use crate::engines::EngineError;

/// Where an answer's events go. Unbounded, because the scheduler never waits for a reader; what can pile
/// up is one small event for each token of a bounded answer.
pub(super) type EventSender = UnboundedSender<Result<ChatEvent, EngineError>>;

/// An answer, waiting or running.
pub(super) struct Answer {
    /// Prompt and answer so far.
    pub(super) tokens: Vec<u32>,
    /// How many of `tokens` the client sent.
    pub(super) prompt_len: usize,
    /// Prompt tokens that were found in the cache when the answer began.
    pub(super) cached_len: usize,
    /// How many of `tokens` are in the cache.
    pub(super) fed: usize,
    /// The answer's place in the cache, while it has one.
    pub(super) sequence: Option<SequenceId>,
    /// Length of `tokens` at which it ends.
    pub(super) len_max: usize,
    /// Go on past the model's end.
    pub(super) ignore_end: bool,
    /// Whether the client wants log probabilities.
    pub(super) logprobs: bool,
    pub(super) sampler: Sampler,
    /// Keeps the answer in the shape that was asked for.
    pub(super) guide: Option<Guide>,
    pub(super) decoder: StreamDecoder,
    /// Holds back what may be the start of a stop text.
    pub(super) hold: Hold,
    /// Which stop text has come: nothing more is shown.
    pub(super) stopped: Option<usize>,
    pub(super) events: EventSender,
    /// Its place among those admitted, given back when the answer ends.
    pub(super) permit: Permit,
    pub(super) arrived: Instant,
    pub(super) started: Option<Instant>,
    pub(super) first_token: Option<Instant>,
    /// How many requests it was last told are before it.
    pub(super) ahead: Option<usize>,
    /// Tokens whose text is held back.
    pub(super) pending_tokens: usize,
    /// Their log probabilities.
    pub(super) pending: Vec<TokenLogprob>,
}

impl Answer {
    /// Whether nobody listens any more.
    pub(super) fn abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Tells its reader how many requests are before it, where that is news. Once it has begun it is no longer told.
    pub(super) fn wait_behind(&mut self, ahead: usize) {
        if self.started.is_none() && self.ahead != Some(ahead) {
            self.ahead = Some(ahead);
            self.send(Ok(ChatEvent::Waits { ahead }));
        }
    }

    /// Tokens that the next forward passes have to read.
    pub(super) fn unread(&self) -> usize {
        self.tokens.len() - self.fed
    }

    /// Whether it makes a token in every pass, having read its prompt.
    pub(super) fn decoding(&self) -> bool {
        self.tokens.len() > self.prompt_len && self.unread() == 1
    }

    /// Chooses the next token by its logits, within the answer's shape.
    ///
    /// # Errors
    /// The shape allows no token.
    pub(super) fn choose(&mut self, logits: &[f32]) -> Result<Sampled, EngineError> {
        let Some(guide) = &mut self.guide else {
            let sampled = self.sampler.sample(logits, None);
            self.sampler.observe(&[sampled.token]);
            return Ok(sampled);
        };
        let sampled = self.sampler.sample(logits, Some(&guide.mask()?));
        self.sampler.observe(&[sampled.token]);
        guide.take(sampled.token)?;
        Ok(sampled)
    }

    /// Whether it needs the best token alone and not how likely any is: greedy, in no shape, without probabilities.
    pub(super) fn wants_best_only(&self) -> bool {
        self.guide.is_none() && !self.logprobs && self.sampler.wants_best_only()
    }

    /// Takes the best token, found without a row of logits.
    ///
    /// # Errors
    /// No logit was a number.
    pub(super) fn choose_best(&mut self, best: Option<(u32, f32)>) -> Result<Sampled, EngineError> {
        let (token, _) = best.ok_or_else(|| {
            EngineError::Failed("the model's output is not a number; import its file again".into())
        })?;
        self.sampler.observe(&[token]);
        Ok(Sampled {
            token,
            logprob: f32::NAN, // nobody asked
            top: Vec::new(),
        })
    }

    /// Takes the token that was sampled; returns why the answer ends, if it does.
    pub(super) fn take(&mut self, sampled: Sampled, tokenizer: &Tokenizer) -> Option<FinishReason> {
        self.first_token.get_or_insert_with(Instant::now);
        if tokenizer.is_end(sampled.token) && !self.ignore_end {
            return Some(FinishReason::Stop); // a mark, neither text nor counted
        }
        self.tokens.push(sampled.token);
        self.pending_tokens += 1;
        if self.logprobs {
            let of = |id: u32| tokenizer.token_bytes(id).to_vec();
            self.pending.push(TokenLogprob {
                id: sampled.token,
                bytes: of(sampled.token),
                logprob: sampled.logprob,
                top: sampled
                    .top
                    .iter()
                    .map(|&(id, logprob)| (id, of(id), logprob))
                    .collect(),
            });
        }
        let text = self.decoder.push(tokenizer, sampled.token);
        let released = self.hold.push(&text);
        self.stopped = released.stop;
        if self.stopped.is_some() {
            self.pending.clear();
        }
        self.send_piece(released.text);
        if self.stopped.is_some() {
            return Some(FinishReason::Stop);
        }
        (self.tokens.len() >= self.len_max).then_some(FinishReason::Length)
    }

    /// Ends the answer: sends what was held back, then the finish.
    pub(super) fn finish(mut self, reason: FinishReason) {
        if self.stopped.is_none() {
            let rest = self.decoder.finish();
            let released = self.hold.push(&rest);
            let mut text = released.text;
            self.stopped = released.stop;
            if released.stop.is_none() {
                text.push_str(&self.hold.finish());
            }
            self.send_piece(text);
            if !self.pending.is_empty() {
                let logprobs = std::mem::take(&mut self.pending);
                self.send(Ok(ChatEvent::Piece(Piece {
                    text: String::new(),
                    tokens: self.pending_tokens,
                    logprobs,
                })));
            }
        }
        let finish = Finish {
            reason,
            stop: self.stopped,
            usage: self.usage(),
            timings: self.timings(),
            joules: None,
        };
        // The place is free before the client hears of the end: its next request must not find it taken.
        drop(self.permit);
        // A reader that has gone needs no end.
        let _ = self.events.send(Ok(ChatEvent::Finished(finish)));
    }

    /// Ends the answer with an error.
    pub(super) fn fail(self, error: EngineError) {
        drop(self.permit);
        let _ = self.events.send(Err(error));
    }

    fn send_piece(&mut self, text: String) {
        if text.is_empty() {
            return; // log probabilities go with the text that their tokens end up in
        }
        let logprobs = std::mem::take(&mut self.pending);
        let tokens = std::mem::take(&mut self.pending_tokens);
        self.send(Ok(ChatEvent::Piece(Piece {
            text,
            tokens,
            logprobs,
        })));
    }

    fn send(&self, event: Result<ChatEvent, EngineError>) {
        // A reader that has gone is noticed by `abandoned` before the next pass.
        let _ = self.events.send(event);
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_len,
            cached_tokens: self.cached_len,
            completion_tokens: self.tokens.len() - self.prompt_len,
            reasoning_tokens: 0, // told apart where the model's marks are known
        }
    }

    fn timings(&self) -> Timings {
        let now = Instant::now();
        let started = self.started.unwrap_or(now);
        let first = self.first_token.unwrap_or(now);
        Timings {
            queued: started - self.arrived,
            prefill: first - started,
            decode: now - first,
        }
    }
}
