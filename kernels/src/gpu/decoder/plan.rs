//! Which operations a model needs on a device, in which shapes, and with which parameters.

use super::Codes;
use crate::cpu::ternary::Layout;
use crate::gpu::driver::{Driver, GpuError, Kernel};
use crate::gpu::ops::attend::Attend;
use crate::gpu::ops::best::Best;
use crate::gpu::ops::blocks::Blocks;
use crate::gpu::ops::embed::Embed;
use crate::gpu::ops::gemv::Gemv;
use crate::gpu::ops::head::Head;
use crate::gpu::ops::merge::Merge;
use crate::gpu::ops::prepare::{Gate, Prepare};
use crate::gpu::ops::rope::{Heads, Rope};
use crate::gpu::ops::{Op, THREADS};
use crate::gpu::pack::Table;
use crate::kv::{KvKind, PAGE};
use crate::model::operator::Operator;
use crate::model::{Architecture, Model};
use std::collections::{BTreeMap, HashMap};

/// Parameters that were measured to be the best, by the shape they are for.
pub type Choices = BTreeMap<String, String>;

/// Tokens that meet a loaded word of weights when many are computed.
const BATCH: u32 = 8;

/// A product for one token and for many.
#[derive(Clone, Debug)]
struct Products {
    one: Gemv,
    many: Gemv,
}

impl Products {
    fn new(
        operator: &Operator,
        what: &str,
        add: bool,
        choices: &Choices,
    ) -> Result<Products, GpuError> {
        let parts = operator.ternary().ok_or_else(|| {
            GpuError::Unsupported(format!(
                "the model's {what} is not ternary with one scale a matrix"
            ))
        })?;
        let (first, rows) = (parts[0].0, operator.rows());
        let (layout, columns): (Layout, usize) = (first.layout(), first.columns());
        let chosen = |tokens| {
            let gemv = Gemv::new(layout, columns, rows, add, tokens);
            let choice = choices.get(&gemv.shape());
            gemv.chosen(choice)
        };
        Ok(Products {
            one: chosen(1),
            many: chosen(BATCH),
        })
    }
}

/// The operations of a model.
#[derive(Debug)]
pub struct Plan {
    embed: Embed,
    prepare_in: Prepare,
    prepare_out: Prepare,
    prepare_down: Prepare,
    rope: Rope,
    attend: Attend,
    merge: Merge,
    blocks: Blocks,
    pub(super) head: Head,
    best: [Best; 2],
    /// Queries with keys and values, output, gate with up, down; of each layer.
    layers: Vec<[Products; 4]>,
}

impl Plan {
    /// What a model needs.
    ///
    /// # Errors
    /// [`GpuError::Unsupported`] with what is not computed on devices.
    pub fn new(model: &Model, kind: KvKind, choices: &Choices) -> Result<Plan, GpuError> {
        let config = model.config();
        let (weights, _) = model.parts();
        if config.architecture == Architecture::Qwen3 {
            return Err(GpuError::Unsupported(
                "norms of query and key heads".to_owned(),
            ));
        }
        let unreadable =
            |error: crate::format::MatrixError| GpuError::Unsupported(error.to_string());
        let table = |stored: &crate::format::Matrix<'_>| {
            Table::bits_of(stored).ok_or_else(|| {
                GpuError::Unsupported(
                    "an embedding or head that is neither i6 nor Q8_0; convert the model with `onebit convert`"
                        .to_owned(),
                )
            })
        };
        let stored = weights.embedding.stored().map_err(unreadable)?;
        let embedding_bits = table(&stored)?;
        let head_bits = match weights.embedding.stored_head().map_err(unreadable)? {
            Some(stored) => table(&stored)?,
            None => embedding_bits,
        };
        let mut heads = Heads {
            heads: config.n_heads,
            kv_heads: config.n_kv_heads,
            dim: config.head_dim,
            kind,
            page_words: config.kv_bytes_per_position(kind) * PAGE / 4,
        };
        heads.page_words = heads.page_words.max(1);
        let sub_norms = config.architecture.sub_norms();
        let prepare = |columns, gate, norm| {
            let prepare = Prepare {
                columns,
                gate,
                norm,
                epsilon: config.norm_epsilon,
                rotate: config.hadamard,
                threads: THREADS,
            };
            let choice = choices.get(&prepare.shape());
            prepare.chosen(choice)
        };
        let gate = match config.architecture {
            Architecture::BitNet158 => Gate::SquaredRelu,
            _ => Gate::Silu,
        };
        let head = Head::new(head_bits, config.n_vocab, config.n_embd);
        let choice = choices.get(&head.shape());
        let head = head.chosen(choice);
        let layers = weights.layers.iter().map(|layer| {
            Ok([
                Products::new(&layer.qkv, "attention input", false, choices)?,
                Products::new(&layer.output, "attention output", true, choices)?,
                Products::new(&layer.gate_up, "feed-forward input", false, choices)?,
                Products::new(&layer.down, "feed-forward output", true, choices)?,
            ])
        });
        Ok(Plan {
            embed: Embed {
                bits: embedding_bits,
                columns: config.n_embd,
            },
            prepare_in: prepare(config.n_embd, Gate::None, true),
            prepare_out: prepare(config.n_heads * config.head_dim, Gate::None, sub_norms),
            prepare_down: prepare(config.n_ff, gate, sub_norms),
            rope: Rope {
                heads,
                pairing: config.rope.pairing,
                pairs: config.rope.dimensions / 2,
            },
            attend: Attend::new(heads),
            merge: Merge { heads },
            blocks: Blocks {
                columns: config.n_embd,
                epsilon: config.norm_epsilon,
            },
            head,
            best: [true, false].map(|first| Best { first, keep: 1 }),
            layers: layers.collect::<Result<_, GpuError>>()?,
        })
    }

    /// Every different operation, in the order of a pass.
    pub fn ops(&self) -> Vec<&dyn Op> {
        let mut ops: Vec<&dyn Op> = vec![
            &self.embed,
            &self.prepare_in,
            &self.prepare_out,
            &self.prepare_down,
            &self.rope,
            &self.attend,
            &self.merge,
            &self.blocks,
            &self.head,
            &self.best[0],
            &self.best[1],
        ];
        for products in self.layers.iter().flatten() {
            ops.push(&products.one);
            ops.push(&products.many);
        }
        let mut seen = std::collections::HashSet::new();
        ops.retain(|op| seen.insert(op.source().name()));
        ops
    }

    /// Loads all of them.
    pub(super) fn load(
        &self,
        driver: &mut dyn Driver,
        codes: &mut dyn Codes,
    ) -> Result<Kernels, GpuError> {
        let mut loaded: HashMap<String, Kernel> = HashMap::new();
        let mut kernel = |op: &dyn Op| -> Result<Kernel, GpuError> {
            let source = op.source();
            if let Some(kernel) = loaded.get(&source.name()) {
                return Ok(*kernel);
            }
            let code = codes.code(driver, &source)?;
            let kernel = driver.load(&source, &code)?;
            loaded.insert(source.name(), kernel);
            Ok(kernel)
        };
        let mut layers = Vec::with_capacity(self.layers.len());
        for [qkv, output, gate_up, down] in &self.layers {
            let mut pair = |products: &Products| -> Result<Pair, GpuError> {
                Ok(Pair {
                    one: (kernel(&products.one)?, products.one.clone()),
                    many: (kernel(&products.many)?, products.many.clone()),
                })
            };
            layers.push(LayerKernels {
                qkv: pair(qkv)?,
                output: pair(output)?,
                gate_up: pair(gate_up)?,
                down: pair(down)?,
            });
        }
        Ok(Kernels {
            embed: kernel(&self.embed)?,
            prepare_in: kernel(&self.prepare_in)?,
            prepare_out: kernel(&self.prepare_out)?,
            prepare_down: kernel(&self.prepare_down)?,
            rope: kernel(&self.rope)?,
            attend: kernel(&self.attend)?,
            merge: kernel(&self.merge)?,
            blocks: kernel(&self.blocks)?,
            head: (kernel(&self.head)?, self.head.clone()),
            best: (kernel(&self.best[0])?, kernel(&self.best[1])?),
            layers,
        })
    }
}

/// A product's kernels.
pub(super) struct Pair {
    one: (Kernel, Gemv),
    many: (Kernel, Gemv),
}

impl Pair {
    /// The kernel for so many tokens, and its workgroups.
    pub(super) fn choose(&self, blocks: u32, tokens: u32) -> (Kernel, [u32; 3]) {
        // Two tokens read the weights twice and still do less than eight tokens' worth of sums.
        let (kernel, gemv) = if tokens <= 2 { &self.one } else { &self.many };
        (*kernel, gemv.grid(blocks, tokens))
    }
}

/// A layer's products.
pub(super) struct LayerKernels {
    pub(super) qkv: Pair,
    pub(super) output: Pair,
    pub(super) gate_up: Pair,
    pub(super) down: Pair,
}

/// All kernels of a model.
pub(super) struct Kernels {
    pub(super) embed: Kernel,
    pub(super) prepare_in: Kernel,
    pub(super) prepare_out: Kernel,
    pub(super) prepare_down: Kernel,
    pub(super) rope: Kernel,
    pub(super) attend: Kernel,
    pub(super) merge: Kernel,
    pub(super) blocks: Kernel,
    pub(super) head: (Kernel, Head),
    pub(super) best: (Kernel, Kernel),
    pub(super) layers: Vec<LayerKernels>,
}
