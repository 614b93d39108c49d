//! The forward pass: embedding, blocks, head.
//!
//! One batch may hold many tokens of several sequences. Every step treats a token's row by itself, in an order
//! of operations that only its own position decides: that is what makes batching invisible in the results.

use super::attend::{self, Heads};
use super::head::Head;
use super::operator::Store;
use super::scratch::Scratch;
use super::weights::Layer;
use super::{Architecture, ForwardError, Logits, Model, Slice, Want};
use crate::cpu::activation::grow;
use crate::cpu::attention::Attention;
use crate::cpu::elementwise::{self, Gate};
use crate::cpu::hadamard::{self, Hadamard};
use crate::cpu::inputs::{Inputs, Quantisers};
use crate::cpu::norm::RmsNorm;
use crate::cpu::rope::Rotate;
use crate::cpu::{Isa, norm, pick, rope};
use crate::kv::{Cache, KvKind};
use crate::threads::Threads;

/// The kernels that are not bound to a matrix, chosen at load.
pub(super) struct Kernels {
    pub(super) norm: RmsNorm,
    pub(super) rotate: Rotate,
    silu: Gate,
    hadamard: Hadamard,
    quantisers: Quantisers,
    f16: Attention,
    int8: Attention,
}

impl Kernels {
    pub(super) fn new(isa: Isa) -> Kernels {
        Kernels {
            norm: pick(&norm::variants(), isa),
            rotate: pick(&rope::variants(), isa),
            silu: pick(&elementwise::silu_variants(), isa),
            hadamard: pick(&hadamard::variants(), isa),
            quantisers: Quantisers::new(isa),
            f16: Attention::new(KvKind::F16, isa),
            int8: Attention::new(KvKind::Int8, isa),
        }
    }

    fn attention(&self, kind: KvKind) -> &Attention {
        match kind {
            KvKind::F16 => &self.f16,
            KvKind::Int8 => &self.int8,
        }
    }
}

impl Model {
    /// Runs a checked batch for which `cache` has room; `finish` turns the prepared rows of the head into logits or
    /// something less. Its outcome is `None` if nothing was wanted.
    pub(super) fn run<T>(
        &self,
        threads: &Threads,
        cache: &mut Cache,
        batch: &[Slice<'_>],
        finish: impl FnOnce(&Head, &Inputs, &mut Vec<f32>, &mut Logits) -> T,
    ) -> Result<(Logits, Option<T>), ForwardError> {
        let mut scratch = std::mem::take(&mut cache.scratch);
        let outcome = self
            .layers(threads, cache, batch, &mut scratch)
            .map(|()| self.head(threads, &mut scratch, finish));
        let broken = scratch.inputs.broken.take();
        cache.scratch = scratch;
        match broken {
            Some(broken) => Err(broken.into()),
            None => outcome,
        }
    }

    fn layers(
        &self,
        threads: &Threads,
        cache: &mut Cache,
        batch: &[Slice<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), ForwardError> {
        let tokens = self.embed(scratch, cache, batch)?;
        attend::plan(
            &mut scratch.tasks,
            &self.config,
            cache,
            batch,
            threads.count(),
        );
        for (i, layer) in self.weights.layers.iter().enumerate() {
            self.attention_block(threads, cache, scratch, batch, i, layer, tokens);
            self.feed_forward_block(threads, scratch, layer, tokens);
        }
        Ok(())
    }

    /// Fills the residual stream, the positions and their angles; returns the number of tokens.
    fn embed(
        &self,
        s: &mut Scratch,
        cache: &Cache,
        batch: &[Slice<'_>],
    ) -> Result<usize, ForwardError> {
        let tokens = batch.iter().map(|slice| slice.tokens.len()).sum();
        let (width, pairs) = (self.config.n_embd, self.frequencies.pairs());
        grow(&mut s.x, tokens * width);
        grow(&mut s.cos, tokens * pairs);
        grow(&mut s.sin, tokens * pairs);
        s.positions.clear();
        s.wanted.clear();
        for slice in batch {
            let start = cache.len(slice.sequence);
            for (i, &token) in slice.tokens.iter().enumerate() {
                let t = s.positions.len();
                self.weights
                    .embedding
                    .read(token, &mut s.x[t * width..][..width])?;
                let (cos, sin) = (
                    &mut s.cos[t * pairs..][..pairs],
                    &mut s.sin[t * pairs..][..pairs],
                );
                self.frequencies.angles(start + i, cos, sin);
                s.positions.push(start + i);
                if slice.logits == Want::All
                    || (slice.logits == Want::Last && i + 1 == slice.tokens.len())
                {
                    s.wanted.push(t);
                }
            }
        }
        Ok(tokens)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; a struct would only rename them"
    )]
    fn attention_block(
        &self,
        threads: &Threads,
        cache: &mut Cache,
        s: &mut Scratch,
        batch: &[Slice<'_>],
        index: usize,
        layer: &Layer,
        tokens: usize,
    ) {
        let (c, k) = (&self.config, &self.kernels);
        let (width, eps) = (c.n_embd, c.norm_epsilon);
        let x = &s.x;
        s.inputs.prepare(
            threads,
            k.quantisers,
            (tokens, width),
            layer.qkv.wants(),
            &|t, row| {
                (k.norm)(&x[t * width..][..width], &layer.attention_norm, eps, row);
                self.turn(row);
            },
        );
        grow(&mut s.wide, tokens * layer.qkv.rows());
        layer
            .qkv
            .multiply(threads, &s.inputs, tokens, &mut s.wide, Store::Set);

        let heads = Heads {
            config: c,
            kernels: k,
            layer,
            index,
        };
        heads.store(threads, cache, s, batch);
        grow(&mut s.attended, tokens * c.n_heads * c.head_dim);
        heads.attend(threads, k.attention(cache.kind()), cache, s);

        let (attended, row_len) = (&s.attended, c.n_heads * c.head_dim);
        s.inputs.prepare(
            threads,
            k.quantisers,
            (tokens, row_len),
            layer.output.wants(),
            &|t, row| {
                let from = &attended[t * row_len..][..row_len];
                match &layer.attention_sub_norm {
                    Some(weight) => (k.norm)(from, weight, eps, row),
                    None => row.copy_from_slice(from),
                }
                self.turn(row);
            },
        );
        layer
            .output
            .multiply(threads, &s.inputs, tokens, &mut s.x, Store::Add);
    }

    fn feed_forward_block(&self, threads: &Threads, s: &mut Scratch, layer: &Layer, tokens: usize) {
        let (c, k) = (&self.config, &self.kernels);
        let (width, ff, eps) = (c.n_embd, c.n_ff, c.norm_epsilon);
        let x = &s.x;
        s.inputs.prepare(
            threads,
            k.quantisers,
            (tokens, width),
            layer.gate_up.wants(),
            &|t, row| {
                (k.norm)(&x[t * width..][..width], &layer.ff_norm, eps, row);
                self.turn(row);
            },
        );
        grow(&mut s.wide, tokens * layer.gate_up.rows());
        layer
            .gate_up
            .multiply(threads, &s.inputs, tokens, &mut s.wide, Store::Set);

        let squared_relu = c.architecture == Architecture::BitNet158;
        let wide = crate::cpu::shared::Shared::new(&mut s.wide);
        s.inputs.prepare(
            threads,
            k.quantisers,
            (tokens, ff),
            layer.down.wants(),
            &|t, row| {
                // SAFETY: row `t` belongs to this call alone.
                let (gate, up) = unsafe { wide.range(t * 2 * ff, 2 * ff) }.split_at_mut(ff);
                if squared_relu {
                    elementwise::squared_relu_gate(gate, up);
                } else {
                    (k.silu)(gate, up);
                }
                match &layer.ff_sub_norm {
                    Some(weight) => (k.norm)(gate, weight, eps, row),
                    None => row.copy_from_slice(gate),
                }
                self.turn(row);
            },
        );
        layer
            .down
            .multiply(threads, &s.inputs, tokens, &mut s.x, Store::Add);
    }

    /// Final norm and head of the wanted rows.
    fn head<T>(
        &self,
        threads: &Threads,
        s: &mut Scratch,
        finish: impl FnOnce(&Head, &Inputs, &mut Vec<f32>, &mut Logits) -> T,
    ) -> (Logits, Option<T>) {
        let (c, k) = (&self.config, &self.kernels);
        let (width, rows) = (c.n_embd, s.wanted.len());
        let mut logits = Logits::new(&self.spare, rows, c.n_vocab);
        if rows == 0 {
            return (logits, None);
        }
        let (x, wanted) = (&s.x, &s.wanted);
        s.inputs.prepare(
            threads,
            k.quantisers,
            (rows, width),
            self.weights.head.wants(),
            &|i, row| {
                (k.norm)(
                    &x[wanted[i] * width..][..width],
                    &self.weights.output_norm,
                    c.norm_epsilon,
                    row,
                );
            },
        );
        let outcome = finish(&self.weights.head, &s.inputs, &mut s.coarse, &mut logits);
        (logits, Some(outcome))
    }

    /// Rotates a row that block matrices will multiply, if the model was trained so.
    fn turn(&self, row: &mut [f32]) {
        if let Some(block) = self.config.hadamard {
            (self.kernels.hadamard)(row, block);
        }
    }
}
