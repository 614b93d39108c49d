//! A model's memory on a device: weights, working rows, and the cache.

use super::plan::Plan;
use crate::cpu::attention::CHUNK;
use crate::gpu::driver::{Buffer, Driver, GpuError, Place};
use crate::gpu::ops::best::{Best, SPAN};
use crate::gpu::ops::bytes_of;
use crate::gpu::pack::{self, Table};
use crate::kv::{Cache, PAGE};
use crate::model::Config;
use crate::model::operator::Operator;
use crate::model::weights::{self, Weights};

/// Tokens of one pass: enough that reading the weights is a small part of it, few enough that working rows stay in the
/// second-level cache of a card.
pub(super) const PASS_TOKENS: usize = 256;
/// Rows of logits of one pass.
pub(super) const PASS_WANTED: usize = 64;
/// Tokens times chunks of one pass: bounds the states that attention leaves, 130 numbers a head.
pub(super) const PASS_STATES: usize = 4096;
/// Entries of the page tables of one pass: 16 sequences of 32,768 positions.
const TABLES_MAX: usize = 16 << 10;

/// Matrices that are multiplied in one launch.
pub(super) struct Product {
    pub(super) weights: Buffer,
    pub(super) table: Buffer,
    pub(super) blocks: u32,
}

/// One block of the model.
pub(super) struct Layer {
    pub(super) attention_norm: Buffer,
    pub(super) qkv: Product,
    pub(super) attention_sub_norm: Buffer,
    pub(super) output: Product,
    pub(super) ff_norm: Buffer,
    pub(super) gate_up: Product,
    pub(super) ff_sub_norm: Buffer,
    pub(super) down: Product,
}

impl Layer {
    pub(super) fn all(driver: &mut dyn Driver, weights: &Weights) -> Result<Vec<Layer>, GpuError> {
        let none = upload(driver, &[0])?;
        let layer = |layer: &weights::Layer| {
            let mut vector = |values: Option<&Vec<f32>>| match values {
                Some(values) => upload(driver, &crate::gpu::ops::bits(values)),
                None => Ok(none),
            };
            let norms = [
                vector(Some(&layer.attention_norm))?,
                vector(layer.attention_sub_norm.as_ref())?,
                vector(Some(&layer.ff_norm))?,
                vector(layer.ff_sub_norm.as_ref())?,
            ];
            Ok(Layer {
                attention_norm: norms[0],
                qkv: product(driver, &layer.qkv)?,
                attention_sub_norm: norms[1],
                output: product(driver, &layer.output)?,
                ff_norm: norms[2],
                gate_up: product(driver, &layer.gate_up)?,
                ff_sub_norm: norms[3],
                down: product(driver, &layer.down)?,
            })
        };
        let mut layer = layer;
        weights.layers.iter().map(&mut layer).collect()
    }
}

fn product(driver: &mut dyn Driver, operator: &Operator) -> Result<Product, GpuError> {
    let parts = operator
        .ternary()
        .ok_or_else(|| GpuError::Unsupported("a matrix that is not ternary".to_owned()))?;
    let words: Vec<u32> = parts.iter().flat_map(|(m, _)| pack::weights(m)).collect();
    Ok(Product {
        weights: upload(driver, &words)?,
        table: upload(driver, &pack::blocks(&parts))?,
        blocks: parts.iter().map(|(m, _)| m.n_blocks() as u32).sum(),
    })
}

fn upload(driver: &mut dyn Driver, words: &[u32]) -> Result<Buffer, GpuError> {
    let buffer = driver.alloc(4 * words.len() as u64, Place::Device)?;
    driver.write(buffer, 0, &bytes_of(words))?;
    Ok(buffer)
}

/// Everything else.
pub(super) struct Buffers {
    /// Codes and scales.
    pub(super) embedding: (Buffer, Buffer),
    pub(super) head: (Buffer, Buffer),
    pub(super) output_norm: Buffer,
    pub(super) steps: Buffer,
    pub(super) tables: Buffer,
    pub(super) tables_max: usize,
    pub(super) angles: Buffer,
    pub(super) wanted: Buffer,
    pub(super) faults: Buffer,
    /// The residual stream.
    pub(super) x: Buffer,
    pub(super) row: Buffer,
    pub(super) codes: Buffer,
    pub(super) scales: Buffer,
    pub(super) wide: Buffer,
    pub(super) attended: Buffer,
    pub(super) states: Buffer,
    pub(super) chunks_max: usize,
    pub(super) cache: Buffer,
    pub(super) page_bytes: u64,
    pub(super) head_codes: Buffer,
    pub(super) head_scales: Buffer,
    pub(super) logits: Buffer,
    pub(super) best: (Buffer, Buffer),
    /// What the processor reads.
    pub(super) out: Buffer,
}

impl Buffers {
    pub(super) fn new(
        driver: &mut dyn Driver,
        c: &Config,
        weights: &Weights,
        plan: &Plan,
        cache: &Cache,
    ) -> Result<Buffers, GpuError> {
        let unreadable =
            |error: crate::format::MatrixError| GpuError::Unsupported(error.to_string());
        let mut table = |stored: &crate::format::Matrix<'_>| {
            let table = Table::of(stored)
                .ok_or_else(|| GpuError::Unsupported("an embedding of another type".to_owned()))?;
            Ok::<_, GpuError>((
                upload(driver, &table.codes)?,
                upload(driver, &table.scales)?,
            ))
        };
        let embedding = table(&weights.embedding.stored().map_err(unreadable)?)?;
        let head = match weights.embedding.stored_head().map_err(unreadable)? {
            Some(stored) => table(&stored)?,
            None => embedding,
        };
        let output_norm = upload(driver, &crate::gpu::ops::bits(&weights.output_norm))?;
        let positions = cache.n_pages() * PAGE;
        let chunks_max = positions.div_ceil(CHUNK).max(1);
        let attended = c.n_heads * c.head_dim;
        let widest = c.n_embd.max(attended).max(c.n_ff);
        let states = PASS_STATES.max(chunks_max) * c.n_heads * (c.head_dim + 2);
        let row = (c.n_heads + 2 * c.n_kv_heads) * c.head_dim;
        let spans = (c.n_vocab as u32).div_ceil(SPAN) as usize;
        debug_assert!(!Best::rounds(1, c.n_vocab as u32).is_empty() && plan.head.rows == c.n_vocab);
        let tables_max = TABLES_MAX.max(cache.n_pages());
        let mut room = |words: usize, place| driver.alloc(4 * words as u64, place);
        let (near, host) = (Place::Device, Place::Host);
        Ok(Buffers {
            embedding,
            head,
            output_norm,
            steps: room(PASS_TOKENS * 4, host)?,
            tables: room(tables_max, host)?,
            tables_max,
            angles: room(PASS_TOKENS * c.rope.dimensions, host)?,
            wanted: room(PASS_WANTED, host)?,
            faults: room(4, host)?,
            x: room(PASS_TOKENS * c.n_embd, near)?,
            row: room(PASS_TOKENS * widest, near)?,
            codes: room(PASS_TOKENS * pack::code_words(widest), near)?,
            scales: room(PASS_TOKENS * 2, near)?,
            wide: room(PASS_TOKENS * row.max(2 * c.n_ff), near)?,
            attended: room(PASS_TOKENS * attended, near)?,
            states: room(states, near)?,
            chunks_max: chunks_max.next_power_of_two(),
            cache: room(cache.bytes() as usize / 4, near)?,
            page_bytes: cache.bytes() / cache.n_pages().max(1) as u64,
            head_codes: room(PASS_WANTED * c.n_embd / 4, near)?,
            head_scales: room(PASS_WANTED * c.n_embd / 16, near)?,
            logits: room(PASS_WANTED * c.n_vocab, near)?,
            best: (
                room(PASS_WANTED * spans * 2, near)?,
                room(PASS_WANTED * spans * 2, near)?,
            ),
            out: room(PASS_WANTED * c.n_vocab, host)?,
        })
    }
}
