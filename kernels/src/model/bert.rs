//! BERT encoders that turn a text into one vector (MiniLM, BGE, E5 and their kin).
//!
//! The graph of Devlin et al. (2018) with Reimers and Gurevych's (2019) mean pooling: word, position and segment
//! embeddings, then layers of self-attention and a GELU network, each behind a residual and a LayerNorm; the mean of the
//! last states, scaled to length one. All in f32. Several texts run in one pass, their tokens laid end to end, so no
//! work is spent on padding.

use crate::cpu::compiled_twice;
use crate::cpu::elementwise::exp;
use crate::cpu::float_matrix::FloatMatrix;
use crate::cpu::shared::Shared;
use crate::cpu::{Isa, pick};
use crate::threads::Threads;

/// Shape of an encoder, as Hugging Face's `config.json` names it.
#[derive(Debug, Clone, PartialEq)]
pub struct BertConfig {
    /// `hidden_size`: numbers in a state and in the resulting vector.
    pub hidden: usize,
    /// `num_hidden_layers`.
    pub layers: usize,
    /// `num_attention_heads`.
    pub heads: usize,
    /// `intermediate_size`.
    pub intermediate: usize,
    /// `vocab_size`.
    pub vocabulary: usize,
    /// `max_position_embeddings`: the longest text in tokens.
    pub positions: usize,
    /// `layer_norm_eps`.
    pub epsilon: f32,
}

/// Why an encoder could not be built or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BertError {
    #[error("the model file holds no tensor named {0}")]
    Missing(String),
    #[error("tensor {name} has the shape {found:?} where {wanted:?} belongs")]
    Shape {
        name: String,
        found: Vec<usize>,
        wanted: Vec<usize>,
    },
    #[error("{heads} heads do not divide {hidden} hidden units")]
    Heads { heads: usize, hidden: usize },
    #[error("text {index} has {tokens} tokens, more than the {limit} that the model reads")]
    TooLong {
        index: usize,
        tokens: usize,
        limit: usize,
    },
    #[error("text {index} holds token {token}, beyond the vocabulary of {vocabulary}")]
    Token {
        index: usize,
        token: u32,
        vocabulary: usize,
    },
    #[error("text {index} has no tokens")]
    Empty { index: usize },
}

/// Rows that one thread takes of what is done row by row: long enough to be worth handing out, and within its cache.
const SHARE: usize = 16;

/// A tensor's shape and its values, row-major.
pub type Tensor = (Vec<usize>, Vec<f32>);

/// A loaded encoder.
pub struct Bert {
    config: BertConfig,
    words: Vec<f32>,
    positions: Vec<f32>,
    segment: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    kernels: Kernels,
}

struct Layer {
    /// Queries, keys and values in one matrix, in this order.
    qkv: FloatMatrix,
    out: FloatMatrix,
    attention_norm: Norm,
    up: FloatMatrix,
    down: FloatMatrix,
    norm: Norm,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Kernels {
    norm: AddNorm,
    gelu: Gelu,
    attend: Attend,
}

impl Bert {
    /// Builds an encoder from tensors named as in Hugging Face's files, with or without the prefix `bert.`.
    pub fn load(
        config: BertConfig,
        tensor: &dyn Fn(&str) -> Option<Tensor>,
    ) -> Result<Bert, BertError> {
        let BertConfig {
            hidden,
            intermediate,
            ..
        } = config;
        if config.heads == 0 || !hidden.is_multiple_of(config.heads) {
            return Err(BertError::Heads {
                heads: config.heads,
                hidden,
            });
        }
        let get = |name: &str, wanted: &[usize]| -> Result<Vec<f32>, BertError> {
            let found = tensor(name).or_else(|| tensor(&format!("bert.{name}")));
            let (shape, values) = found.ok_or_else(|| BertError::Missing(name.to_owned()))?;
            if shape != wanted || values.len() != wanted.iter().product::<usize>() {
                return Err(BertError::Shape {
                    name: name.to_owned(),
                    found: shape,
                    wanted: wanted.to_vec(),
                });
            }
            Ok(values)
        };
        let norm = |name: &str| -> Result<Norm, BertError> {
            Ok(Norm {
                weight: get(&format!("{name}.weight"), &[hidden])?,
                bias: get(&format!("{name}.bias"), &[hidden])?,
            })
        };
        let linear =
            |name: &str, rows: usize, cols: usize| -> Result<(Vec<f32>, Vec<f32>), BertError> {
                Ok((
                    get(&format!("{name}.weight"), &[rows, cols])?,
                    get(&format!("{name}.bias"), &[rows])?,
                ))
            };
        let pack = |name: &str, rows: usize, cols: usize| -> Result<FloatMatrix, BertError> {
            let (weight, bias) = linear(name, rows, cols)?;
            Ok(FloatMatrix::pack(rows, cols, &weight, &bias))
        };
        let layer = |index: usize| -> Result<Layer, BertError> {
            let at = |part: &str| format!("encoder.layer.{index}.{part}");
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for part in ["query", "key", "value"] {
                let (more, offset) =
                    linear(&at(&format!("attention.self.{part}")), hidden, hidden)?;
                weight.extend(more);
                bias.extend(offset);
            }
            Ok(Layer {
                qkv: FloatMatrix::pack(3 * hidden, hidden, &weight, &bias),
                out: pack(&at("attention.output.dense"), hidden, hidden)?,
                attention_norm: norm(&at("attention.output.LayerNorm"))?,
                up: pack(&at("intermediate.dense"), intermediate, hidden)?,
                down: pack(&at("output.dense"), hidden, intermediate)?,
                norm: norm(&at("output.LayerNorm"))?,
            })
        };
        let isa = Isa::detect();
        Ok(Bert {
            words: get(
                "embeddings.word_embeddings.weight",
                &[config.vocabulary, hidden],
            )?,
            positions: get(
                "embeddings.position_embeddings.weight",
                &[config.positions, hidden],
            )?,
            segment: get("embeddings.token_type_embeddings.weight", &[2, hidden])?[..hidden]
                .to_vec(),
            norm: norm("embeddings.LayerNorm")?,
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
            kernels: Kernels {
                norm: pick(&norm_variants(), isa),
                gelu: pick(&gelu_variants(), isa),
                attend: pick(&attend_variants(), isa),
            },
            config,
        })
    }

    /// The encoder's shape.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Encodes texts, given as token ids with their markers, into vectors of `hidden` numbers and length one.
    pub fn encode(&self, threads: &Threads, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, BertError> {
        let hidden = self.config.hidden;
        let spans = self.spans(texts)?;
        let tokens = spans.last().map_or(0, |span| span.end);
        let mut states = self.embed(threads, texts, tokens);
        let mut qkv = vec![0.0; tokens * 3 * hidden];
        let mut mixed = vec![0.0; tokens * hidden];
        let mut wide = vec![0.0; tokens * self.config.intermediate];
        let mut change = vec![0.0; tokens * hidden];
        for layer in &self.layers {
            layer.qkv.multiply(threads, &states, &mut qkv);
            self.attend(threads, &spans, &qkv, &mut mixed);
            layer.out.multiply(threads, &mixed, &mut change);
            self.add_norm(threads, &mut states, &change, &layer.attention_norm);
            layer.up.multiply(threads, &states, &mut wide);
            self.activate(threads, &mut wide);
            layer.down.multiply(threads, &wide, &mut change);
            self.add_norm(threads, &mut states, &change, &layer.norm);
        }
        Ok(spans
            .into_iter()
            .map(|span| pool(&states[span.start * hidden..span.end * hidden], hidden))
            .collect())
    }

    /// Where each text's tokens lie in the pass.
    fn spans(&self, texts: &[&[u32]]) -> Result<Vec<std::ops::Range<usize>>, BertError> {
        let mut end = 0;
        let mut spans = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let (limit, vocabulary) = (self.config.positions, self.config.vocabulary);
            if text.is_empty() {
                return Err(BertError::Empty { index });
            }
            if text.len() > limit {
                return Err(BertError::TooLong {
                    index,
                    tokens: text.len(),
                    limit,
                });
            }
            if let Some(&token) = text.iter().find(|token| **token as usize >= vocabulary) {
                return Err(BertError::Token {
                    index,
                    token,
                    vocabulary,
                });
            }
            spans.push(end..end + text.len());
            end += text.len();
        }
        Ok(spans)
    }

    fn embed(&self, threads: &Threads, texts: &[&[u32]], tokens: usize) -> Vec<f32> {
        let hidden = self.config.hidden;
        let mut states = Vec::with_capacity(tokens * hidden);
        for text in texts {
            for (position, token) in text.iter().enumerate() {
                let word = &self.words[*token as usize * hidden..][..hidden];
                let place = &self.positions[position * hidden..][..hidden];
                states.extend(
                    word.iter()
                        .zip(place)
                        .zip(&self.segment)
                        .map(|((w, p), s)| w + p + s),
                );
            }
        }
        let none = vec![0.0; states.len()];
        self.add_norm(threads, &mut states, &none, &self.norm);
        states
    }

    fn add_norm(&self, threads: &Threads, states: &mut [f32], change: &[f32], norm: &Norm) {
        let width = SHARE * self.config.hidden;
        let shares = change.len().div_ceil(width);
        let out = Shared::new(states);
        threads.run(shares, &|share| {
            let from = share * width;
            let change = &change[from..change.len().min(from + width)];
            // SAFETY: each share is rows of its own.
            let states = unsafe { out.range(from, change.len()) };
            (self.kernels.norm)(
                states,
                change,
                &norm.weight,
                &norm.bias,
                self.config.epsilon,
            );
        });
    }

    fn activate(&self, threads: &Threads, wide: &mut [f32]) {
        let width = SHARE * self.config.intermediate;
        let length = wide.len();
        let out = Shared::new(wide);
        threads.run(length.div_ceil(width), &|share| {
            let from = share * width;
            // SAFETY: each share is rows of its own.
            (self.kernels.gelu)(unsafe { out.range(from, width.min(length - from)) });
        });
    }

    /// Self-attention of every text and head; `qkv` is `[token][3 · hidden]`, `out` is `[token][hidden]`.
    fn attend(
        &self,
        threads: &Threads,
        spans: &[std::ops::Range<usize>],
        qkv: &[f32],
        out: &mut [f32],
    ) {
        let (hidden, heads) = (self.config.hidden, self.config.heads);
        let size = hidden / heads;
        let out = Shared::new(out);
        threads.run(spans.len() * heads, &|block| {
            let (span, head) = (&spans[block / heads], block % heads);
            let rows = &qkv[span.start * 3 * hidden..span.end * 3 * hidden];
            let mut mixed = vec![0.0; span.len() * size];
            (self.kernels.attend)(rows, hidden, head * size, size, &mut mixed);
            for (token, values) in mixed.chunks_exact(size).enumerate() {
                // SAFETY: each block owns one head's columns of one text's rows; no two blocks share an element.
                let target =
                    unsafe { out.range((span.start + token) * hidden + head * size, size) };
                target.copy_from_slice(values);
            }
        });
    }
}

/// The mean of the states, scaled to length one.
fn pool(states: &[f32], hidden: usize) -> Vec<f32> {
    let mut mean = vec![0.0; hidden];
    for state in states.chunks_exact(hidden) {
        for (mean, value) in mean.iter_mut().zip(state) {
            *mean += value;
        }
    }
    // Dividing by the number of states would only be undone by the scaling.
    let length = mean
        .iter()
        .map(|value| f64::from(*value) * f64::from(*value))
        .sum::<f64>()
        .sqrt();
    let inverse = if length > 0.0 { 1.0 / length } else { 0.0 };
    for value in &mut mean {
        *value = (f64::from(*value) * inverse) as f32;
    }
    mean
}

compiled_twice! {
    /// `(states, change, weight, bias, epsilon)`: `states = LayerNorm(states + change)`, row by row of `weight.len()`.
    fn norm_variants / AddNorm = add_norm(states: &mut [f32], change: &[f32], weight: &[f32], bias: &[f32], epsilon: f32)
}

#[inline(always)]
fn add_norm(states: &mut [f32], change: &[f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let width = weight.len();
    for (state, change) in states
        .chunks_exact_mut(width)
        .zip(change.chunks_exact(width))
    {
        for (state, change) in state.iter_mut().zip(change) {
            *state += change;
        }
        let mean = sum(state, |x| x) / width as f32;
        let variance = sum(state, |x| (x - mean) * (x - mean)) / width as f32;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for ((state, weight), bias) in state.iter_mut().zip(weight).zip(bias) {
            *state = (*state - mean) * scale * weight + bias;
        }
    }
}

/// Sums `f(x)` in sixteen lanes, which a vector unit can hold and which lose less than one long sum.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [0f32; 16];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(*value);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|value| f(*value)).sum::<f32>()
}

compiled_twice! {
    /// `x = x · Φ(x)`, the exact GELU.
    fn gelu_variants / Gelu = gelu(values: &mut [f32])
}

#[inline(always)]
fn gelu(values: &mut [f32]) {
    for x in values {
        *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// The error function within 2.5e-7: Abramowitz and Stegun, 7.1.26.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let p = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t
        + 0.254_829_6)
        * t;
    (1.0 - p * exp(-x * x)).copysign(x)
}

compiled_twice! {
    /// `(qkv, hidden, first, size, out)`: softmax(q·kᵀ/√size)·v of the head whose columns begin at `first`.
    fn attend_variants / Attend = attend(qkv: &[f32], hidden: usize, first: usize, size: usize, out: &mut [f32])
}

#[inline(always)]
fn attend(qkv: &[f32], hidden: usize, first: usize, size: usize, out: &mut [f32]) {
    let rows: Vec<&[f32]> = qkv.chunks_exact(3 * hidden).collect();
    let tokens = rows.len();
    // Keys lie across, so that the scores of one query are made many at a time.
    let mut keys = vec![0f32; size * tokens];
    for (token, row) in rows.iter().enumerate() {
        for (d, key) in row[hidden + first..][..size].iter().enumerate() {
            keys[d * tokens + token] = *key;
        }
    }
    let scale = 1.0 / (size as f32).sqrt();
    let mut scores = vec![0f32; tokens];
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(size)) {
        scores.fill(0.0);
        for (d, query) in row[first..][..size].iter().enumerate() {
            let query = query * scale;
            for (score, key) in scores.iter_mut().zip(&keys[d * tokens..][..tokens]) {
                *score += query * key;
            }
        }
        let largest = scores.iter().fold(f32::NEG_INFINITY, |largest, score| {
            if *score > largest { *score } else { largest }
        });
        for score in &mut scores {
            *score = exp(*score - largest);
        }
        let inverse = 1.0 / sum(&scores, |x| x);
        out.fill(0.0);
        for (score, row) in scores.iter().zip(&rows) {
            let weight = score * inverse;
            for (out, value) in out.iter_mut().zip(&row[2 * hidden + first..][..size]) {
                *out += weight * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(seed: usize) -> f32 {
        ((seed as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 8.4e6 - 1.0
    }

    fn tiny() -> Bert {
        let config = BertConfig {
            hidden: 8,
            layers: 2,
            heads: 2,
            intermediate: 12,
            vocabulary: 20,
            positions: 6,
            epsilon: 1e-12,
        };
        let tensor = |name: &str| {
            let shape: Vec<usize> = match name {
                "embeddings.word_embeddings.weight" => vec![20, 8],
                "embeddings.position_embeddings.weight" => vec![6, 8],
                "embeddings.token_type_embeddings.weight" => vec![2, 8],
                name if name.contains("LayerNorm") => vec![8],
                name if name.ends_with("intermediate.dense.weight") => vec![12, 8],
                name if name.ends_with("intermediate.dense.bias") => vec![12],
                name if name.contains("attention") && name.ends_with("weight") => vec![8, 8],
                name if name.ends_with("output.dense.weight") => vec![8, 12],
                name if name.ends_with("bias") => vec![8],
                _ => return None,
            };
            let seed = name.bytes().fold(7, |seed: usize, byte| {
                seed.wrapping_mul(31).wrapping_add(byte as usize)
            });
            let count = shape.iter().product();
            Some((
                shape,
                (0..count)
                    .map(|i| value(seed.wrapping_add(i * 17)))
                    .collect(),
            ))
        };
        Bert::load(config, &tensor).expect("the tensors fit")
    }

    #[test]
    fn a_text_is_the_same_alone_and_in_company() {
        let bert = tiny();
        let texts: [&[u32]; 3] = [&[1, 2, 3], &[4], &[5, 6, 7, 8, 9, 1]];
        let threads = Threads::new(2);
        let together = bert.encode(&threads, &texts).expect("they fit");
        for (text, vector) in texts.iter().zip(&together) {
            assert_eq!(&bert.encode(&threads, &[text]).expect("it fits")[0], vector);
            let length: f32 = vector.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5, "length {length}");
        }
        assert_ne!(together[0], together[2]);
        assert!(
            bert.encode(&threads, &[])
                .expect("nothing to do")
                .is_empty()
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let bert = tiny();
        let threads = Threads::new(1);
        for (text, expected) in [
            (&[][..], BertError::Empty { index: 0 }),
            (
                &[1; 7],
                BertError::TooLong {
                    index: 0,
                    tokens: 7,
                    limit: 6,
                },
            ),
            (
                &[20],
                BertError::Token {
                    index: 0,
                    token: 20,
                    vocabulary: 20,
                },
            ),
        ] {
            assert_eq!(bert.encode(&threads, &[text]), Err(expected));
        }
        let error = Bert::load(bert.config.clone(), &|_| None)
            .map(|_| ())
            .expect_err("no tensors");
        assert_eq!(
            error.to_string(),
            "the model file holds no tensor named embeddings.word_embeddings.weight"
        );
    }

    #[test]
    fn every_variant_gives_the_same_bits() {
        let x: Vec<f32> = (0..3 * 24 * 9).map(|i| value(i) * 3.0).collect();
        let run = |(norm, gelu, attend): (AddNorm, Gelu, Attend)| {
            let (mut normed, mut gated, mut mixed) = (x.clone(), x.clone(), vec![0.0; 9 * 8]);
            norm(&mut normed, &x, &x[..24], &x[24..48], 1e-12);
            gelu(&mut gated);
            attend(&x, 24, 8, 8, &mut mixed);
            (normed, gated, mixed)
        };
        let expected = run((add_norm, gelu, attend));
        for (((isa, norm), (_, gelu)), (_, attend)) in norm_variants()
            .into_iter()
            .zip(gelu_variants())
            .zip(attend_variants())
        {
            assert_eq!(run((norm, gelu, attend)), expected, "{}", isa.name());
        }
    }

    #[test]
    fn erf_is_close() {
        // Abramowitz and Stegun, table 7.1.
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.520_499_9),
            (1.0, 0.842_700_8),
            (2.0, 0.995_322_3),
            (-1.5, -0.966_105_1),
        ] {
            assert!((erf(x) - expected).abs() < 3e-7, "erf({x}) = {}", erf(x));
        }
    }
}
