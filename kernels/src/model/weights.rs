//! A model's tensors, packed for the kernels. Knows the names that GGUF files use and which of them each
//! architecture needs; a tensor that nobody asked for means a graph we do not compute, and is refused by name.

use super::config::Config;
use super::head::Head;
use super::operator::{Matrix, Operator};
use super::{LoadError, LoadOptions, TernaryActivations};
use crate::cpu::Isa;
use crate::cpu::dense::DenseMatrix;
use crate::cpu::packer::Packer;
use crate::cpu::shared::First;
use crate::cpu::ternary::{Layout, TernaryMatrix};
use crate::format::matrix::{Matrix as Stored, MatrixError, scale_name};
use crate::format::ternary::{Packing, TernaryRows};
use crate::format::{Gguf, Tensor, TensorKind, i6, row};
use std::collections::HashSet;
use std::sync::Arc;

/// One block.
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) qkv: Operator,
    pub(crate) query_norm: Option<Vec<f32>>,
    pub(crate) key_norm: Option<Vec<f32>>,
    pub(crate) attention_sub_norm: Option<Vec<f32>>,
    pub(crate) output: Operator,
    pub(crate) ff_norm: Vec<f32>,
    pub(crate) gate_up: Operator,
    pub(crate) ff_sub_norm: Option<Vec<f32>>,
    pub(crate) down: Operator,
}

/// Rows of the embedding, read in place from the file: a token needs one.
pub(crate) struct Embedding {
    gguf: Arc<Gguf>,
}

const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";

impl Embedding {
    /// Checks the matrix and that its type can be read.
    fn open(gguf: &Arc<Gguf>, columns: usize) -> Result<Embedding, LoadError> {
        let matrix = Stored::open(gguf, EMBEDDING)?;
        if matrix.columns() != columns {
            return Err(LoadError::size(
                EMBEDDING,
                [matrix.columns(), matrix.rows()],
                [columns, matrix.rows()],
            ));
        }
        // One row stands for all: type and size are the same.
        matrix.decode_row(EMBEDDING, 0, &mut vec![0.0; columns])?;
        Ok(Embedding {
            gguf: Arc::clone(gguf),
        })
    }

    /// The file's embedding matrix.
    ///
    /// # Errors
    /// As at loading, where it was read once already.
    pub(crate) fn stored(&self) -> Result<Stored<'_>, MatrixError> {
        Stored::open(&self.gguf, EMBEDDING)
    }

    /// The file's head where it has one of its own; `None` where the embedding serves as head.
    ///
    /// # Errors
    /// As at loading.
    pub(crate) fn stored_head(&self) -> Result<Option<Stored<'_>>, MatrixError> {
        let own = self.gguf.tensor(HEAD).is_some();
        own.then(|| Stored::open(&self.gguf, HEAD)).transpose()
    }

    /// Writes the embedding of `token`, which is below the vocabulary's size.
    ///
    /// # Errors
    /// Codes of this row that stand for no weight.
    pub(crate) fn read(&self, token: u32, out: &mut [f32]) -> Result<(), MatrixError> {
        Stored::open(&self.gguf, EMBEDDING)?.decode_row(EMBEDDING, token as usize, out)
    }
}

/// Everything a forward pass reads.
pub(crate) struct Weights {
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    pub(super) head: Head,
    pub(crate) rope_factors: Vec<f32>,
}

impl Weights {
    pub(crate) fn load(
        gguf: &Arc<Gguf>,
        config: &Config,
        isa: Isa,
        options: &LoadOptions,
    ) -> Result<Weights, LoadError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut names = Names {
            gguf,
            isa,
            options,
            packer: Packer::new(cores),
            used: HashSet::from([EMBEDDING.to_owned()]),
        };
        let (embd, ff) = (config.n_embd, config.n_ff);
        let (q, kv) = (
            config.n_heads * config.head_dim,
            config.n_kv_heads * config.head_dim,
        );
        let embedding = Embedding::open(gguf, embd)?;
        let mut layers = Vec::with_capacity(config.n_layers);
        for i in 0..config.n_layers {
            let name = |part: &str| format!("blk.{i}.{part}");
            let head_norms = config.architecture == super::Architecture::Qwen3;
            let sub_norms = config.architecture.sub_norms();
            layers.push(Layer {
                attention_norm: names.vector(&name("attn_norm.weight"), embd)?,
                qkv: names.operator(
                    &[
                        (name("attn_q"), q),
                        (name("attn_k"), kv),
                        (name("attn_v"), kv),
                    ],
                    embd,
                )?,
                query_norm: names.vector_if(
                    head_norms,
                    &name("attn_q_norm.weight"),
                    config.head_dim,
                )?,
                key_norm: names.vector_if(
                    head_norms,
                    &name("attn_k_norm.weight"),
                    config.head_dim,
                )?,
                attention_sub_norm: names.vector_if(sub_norms, &name("attn_sub_norm.weight"), q)?,
                output: names.operator(&[(name("attn_output"), embd)], q)?,
                ff_norm: names.vector(&name("ffn_norm.weight"), embd)?,
                gate_up: names.operator(&[(name("ffn_gate"), ff), (name("ffn_up"), ff)], embd)?,
                ff_sub_norm: names.vector_if(sub_norms, &name("ffn_sub_norm.weight"), ff)?,
                down: names.operator(&[(name("ffn_down"), embd)], ff)?,
            });
        }
        let output_norm = names.vector("output_norm.weight", embd)?;
        let head = if gguf.tensor(HEAD).is_some() {
            "output"
        } else {
            "token_embd"
        };
        let head = if options.two_step_head {
            let name = format!("{head}.weight");
            names.used.insert(name.clone());
            let (stored, wanted) = (Stored::open(gguf, &name)?, [embd, config.n_vocab]);
            Head::two_step(&name, &stored, wanted, &names.packer, options.count_proven)?
        } else {
            Head::Rows(names.operator(&[(head.to_owned(), config.n_vocab)], embd)?)
        };
        let rope_factors = match gguf.tensor("rope_freqs.weight") {
            Some(_) => names.vector("rope_freqs.weight", config.rope.dimensions / 2)?,
            None => Vec::new(),
        };
        names.all_used()?;
        Ok(Weights {
            embedding,
            layers,
            output_norm,
            head,
            rope_factors,
        })
    }

    /// Bytes of packed weights.
    pub(crate) fn bytes(&self) -> u64 {
        let layers = self
            .layers
            .iter()
            .flat_map(|l| [&l.qkv, &l.output, &l.gate_up, &l.down]);
        layers.map(Operator::bytes).sum::<u64>() + self.head.bytes()
    }
}

/// Tensors by name, and which of them have been taken.
struct Names<'a> {
    gguf: &'a Gguf,
    isa: Isa,
    options: &'a LoadOptions,
    /// Packing is work for every core of the machine.
    packer: Packer,
    used: HashSet<String>,
}

impl Names<'_> {
    fn tensor(&mut self, name: &str) -> Result<Tensor<'_>, LoadError> {
        self.used.insert(name.to_owned());
        self.gguf.tensor(name).ok_or_else(|| LoadError::Missing {
            name: name.to_owned(),
        })
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let tensor = self.tensor(name)?;
        if tensor.info.columns() != len || tensor.info.rows() != 1 {
            return Err(LoadError::shape(tensor.info, &[len]));
        }
        let mut values = vec![0.0; len];
        row::decode(tensor.info.kind, tensor.data, &mut values).map_err(|source| {
            LoadError::Row {
                name: name.to_owned(),
                source,
            }
        })?;
        Ok(values)
    }

    fn vector_if(
        &mut self,
        wanted: bool,
        name: &str,
        len: usize,
    ) -> Result<Option<Vec<f32>>, LoadError> {
        wanted.then(|| self.vector(name, len)).transpose()
    }

    fn operator(
        &mut self,
        parts: &[(String, usize)],
        columns: usize,
    ) -> Result<Operator, LoadError> {
        let mut matrices = Vec::with_capacity(parts.len());
        for (name, rows) in parts {
            matrices.push(self.matrix(&format!("{name}.weight"), [columns, *rows])?);
        }
        Ok(Operator::new(matrices, self.isa))
    }

    /// A packed matrix and the factor on its products.
    fn matrix(
        &mut self,
        name: &str,
        [columns, rows]: [usize; 2],
    ) -> Result<(Matrix, f32), LoadError> {
        self.used.insert(name.to_owned());
        if self.gguf.tensor(name).is_none() {
            return Err(LoadError::Missing {
                name: name.to_owned(),
            });
        }
        let stored = Stored::open(self.gguf, name)?;
        if [stored.columns(), stored.rows()] != [columns, rows] {
            return Err(LoadError::size(
                name,
                [stored.columns(), stored.rows()],
                [columns, rows],
            ));
        }
        let scale = match scale_name(name) {
            Some(scale) if self.gguf.tensor(&scale).is_some() => self.vector(&scale, 1)?[0],
            _ => 1.0,
        };
        let dense = |kind, data: &[u8]| {
            let matrix =
                DenseMatrix::pack_rows(name, kind, (rows, columns), data, self.isa, &self.packer)?;
            Ok((Matrix::Dense(matrix), scale))
        };
        match stored {
            Stored::Dense { kind, data, .. } => dense(kind, data),
            Stored::SixBit { data, .. } => {
                let mut bytes = Vec::new();
                i6::to_q8_0(data, &mut bytes);
                dense(TensorKind::Q8_0, &bytes)
            }
            // `rows` knows its scale tensor already.
            Stored::Ternary(rows) => self.ternary(name, &rows),
        }
    }

    fn ternary(&self, name: &str, source: &TernaryRows<'_>) -> Result<(Matrix, f32), LoadError> {
        let named = |source| MatrixError::Ternary {
            name: name.to_owned(),
            source,
        };
        let scale = match self.options.ternary {
            TernaryActivations::Rows => source.scale().map_err(named)?,
            TernaryActivations::Blocks => None,
        };
        let Some(scale) = scale else {
            return Ok((
                Matrix::Dense(DenseMatrix::pack_ternary(
                    name,
                    source,
                    self.isa,
                    &self.packer,
                )?),
                1.0,
            ));
        };
        let layout = self.options.layout.unwrap_or(match source.packing() {
            Packing::S34 => Layout::S34,
            Packing::S24 => Layout::S24,
            Packing::T5 | Packing::T5Words | Packing::Tq1_0 => Layout::B5,
            _ => Layout::P2,
        });
        let (broken, shape) = (First::new(), (source.rows(), source.columns()));
        let packed = TernaryMatrix::pack(layout, shape.0, shape.1, &self.packer, |r, out| {
            if let Err(error) = source.trits(r, out) {
                broken.note(r, error);
            }
        });
        broken.result().map_err(named)?;
        let mut packed = packed.map_err(|source| LoadError::Pack {
            name: name.to_owned(),
            source,
        })?;
        if self.isa == Isa::Scalar {
            packed.use_variant("scalar");
        }
        Ok((Matrix::Ternary(packed), scale))
    }

    fn all_used(&self) -> Result<(), LoadError> {
        let mut unused = self
            .gguf
            .tensors()
            .iter()
            .filter(|t| !self.used.contains(&t.name));
        match unused.next() {
            None => Ok(()),
            Some(first) => Err(LoadError::Unused {
                name: first.name.clone(),
                others: unused.count(),
            }),
        }
    }
}
