//! How good and how fast a model is: perplexity of a token stream, prefill and decode rates.
//!
//! Takes the clock from its caller's process (`std::time::Instant`) and prints nothing.

use crate::kv::{Cache, CacheError, CacheOptions, KvKind};
use crate::model::{ForwardError, Model, Slice, Want};
use crate::sampler::{best, log_sum_exp};
use crate::threads::Threads;
use std::time::{Duration, Instant};

/// Why a measurement cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The text is too short.
    #[error("{found} tokens are too few to measure, at least {wanted} are needed")]
    TooShort {
        /// Tokens given.
        found: usize,
        /// Tokens needed.
        wanted: usize,
    },
    /// The cache cannot be made.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The model refused a batch.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// Perplexity and what it was measured on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// `exp` of the mean negative log-likelihood.
    pub value: f64,
    /// Standard error of `value`.
    pub error: f64,
    /// Predicted tokens.
    pub tokens: usize,
    /// Chunks of the text.
    pub chunks: usize,
}

/// Tokens a batch of a perplexity run has: logits of so many positions are held at once.
const PPL_BATCH: usize = 64;

/// Perplexity as `llama-perplexity` counts it: the tokens are cut into whole chunks of `chunk`, each chunk starts from
/// an empty cache with its first token replaced by `bos` if the model has one that it adds, and only the second half
/// of a chunk is scored (positions `chunk/2 .. chunk-1` predict their successors).
///
/// `progress` is called after each chunk with the chunks done, the chunks in all, and the perplexity so far.
///
/// # Errors
/// A text of less than one chunk, or what the model or the cache refuses.
pub fn perplexity(
    model: &Model,
    threads: &Threads,
    tokens: &[u32],
    chunk: usize,
    bos: Option<u32>,
    progress: &mut dyn FnMut(usize, usize, f64),
) -> Result<Perplexity, MeasureError> {
    let chunks = tokens.len().checked_div(chunk).unwrap_or(0);
    if chunks == 0 || chunk < 4 {
        return Err(MeasureError::TooShort {
            found: tokens.len(),
            wanted: chunk.max(4),
        });
    }
    let mut cache = Cache::new(
        model.config(),
        CacheOptions {
            positions_max: chunk,
            kind: KvKind::F16,
        },
    )?;
    let (mut sum, mut squares, mut count) = (0.0_f64, 0.0_f64, 0_usize);
    for (done, text) in tokens.chunks_exact(chunk).enumerate() {
        let mut text = text.to_vec();
        if let Some(bos) = bos {
            text[0] = bos;
        }
        let sequence = cache.create();
        let first = chunk / 2;
        let mut at = 0;
        while at < chunk - 1 {
            let (end, logits) = if at < first {
                (first, Want::None)
            } else {
                ((at + PPL_BATCH).min(chunk - 1), Want::All)
            };
            let out = model.forward(
                threads,
                &mut cache,
                &[Slice {
                    sequence,
                    tokens: &text[at..end],
                    logits,
                }],
            )?;
            for (row, &next) in out.rows().zip(&text[at + 1..]) {
                let largest = best(row).map_or(f32::NAN, |b| row[b]);
                let loss = f64::from(log_sum_exp(row, largest)) - f64::from(row[next as usize]);
                sum += loss;
                squares += loss * loss;
                count += 1;
            }
            at = end;
        }
        cache.remove(sequence);
        progress(done + 1, chunks, (sum / count as f64).exp());
    }
    let mean = sum / count as f64;
    let variance = (squares / count as f64 - mean * mean).max(0.0);
    let error = (variance / (count as f64 - 1.0)).sqrt() * mean.exp();
    Ok(Perplexity {
        value: mean.exp(),
        error,
        tokens: count,
        chunks,
    })
}

/// A rate and what it cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Tokens processed.
    pub tokens: usize,
    /// Wall-clock time.
    pub time: Duration,
    /// Bytes of weights, keys and values that were read, by the formats' own count.
    pub bytes: u64,
}

impl Rate {
    /// Tokens a second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.time.as_secs_f64()
    }

    /// Gigabytes (10⁹) read a second.
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64() / 1e9
    }
}

/// Time to process a prompt of `n` tokens, logits of the last included. A pass before it, not timed, grows the buffers
/// as earlier requests do.
///
/// # Errors
/// What the model or the cache refuses.
pub fn prefill(model: &Model, threads: &Threads, n: usize) -> Result<Rate, MeasureError> {
    let mut cache = Cache::new(
        model.config(),
        CacheOptions {
            positions_max: n,
            kind: KvKind::F16,
        },
    )?;
    let tokens = noise(model, n);
    let mut pass = || {
        let sequence = cache.create();
        let started = Instant::now();
        let slice = Slice {
            sequence,
            tokens: &tokens,
            logits: Want::Last,
        };
        model.forward(threads, &mut cache, &[slice])?;
        cache.remove(sequence);
        Ok::<_, MeasureError>(started.elapsed())
    };
    pass()?;
    Ok(Rate {
        tokens: n,
        time: pass()?,
        bytes: model.weight_bytes(),
    })
}

/// Time to decode `n` tokens one by one after `depth` positions of context: all logits of each, or where the head has
/// two steps the best token of each. One token before them is not timed.
///
/// # Errors
/// What the model or the cache refuses.
pub fn decode(
    model: &Model,
    threads: &Threads,
    kind: KvKind,
    depth: usize,
    n: usize,
) -> Result<Rate, MeasureError> {
    let mut cache = Cache::new(
        model.config(),
        CacheOptions {
            positions_max: depth + 1 + n,
            kind,
        },
    )?;
    let sequence = cache.create();
    let tokens = noise(model, depth + 1 + n);
    if depth > 0 {
        model.forward(
            threads,
            &mut cache,
            &[Slice {
                sequence,
                tokens: &tokens[..depth],
                logits: Want::None,
            }],
        )?;
    }
    let mut started = Instant::now();
    for (i, token) in tokens[depth..].iter().enumerate() {
        if i == 1 {
            started = Instant::now();
        }
        let slice = Slice {
            sequence,
            tokens: std::slice::from_ref(token),
            logits: Want::Last,
        };
        if model.has_two_step_head() {
            model.forward_best(threads, &mut cache, &[slice])?;
        } else {
            model.forward(threads, &mut cache, &[slice])?;
        }
    }
    let time = started.elapsed();
    let positions = (n * depth + n * (n + 1) / 2) as u64;
    let kv = model.config().kv_bytes_per_position(kind) as u64 * positions;
    Ok(Rate {
        tokens: n,
        time,
        bytes: model.weight_bytes() * n as u64 + kv,
    })
}

/// Tokens spread over the vocabulary: speed does not depend on which they are.
fn noise(model: &Model, n: usize) -> Vec<u32> {
    let n_vocab = model.config().n_vocab as u64;
    (0..n as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % n_vocab)
        .map(|t| t as u32)
        .collect()
}
