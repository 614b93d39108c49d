//! A model's tensors, packed for the kernels. Knows the names that GGUF files use and which of them each
//! architecture needs; a tensor that nobody asked for means a graph we do not compute, and is refused by name.

use super::LoadError;
use super::config::Config;
use super::operator::Operator;
use crate::cpu::Isa;
use crate::cpu::dense::DenseMatrix;
use crate::format::{Gguf, Tensor, TensorInfo, row};
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
    info: TensorInfo,
    row_bytes: usize,
}

impl Embedding {
    /// Writes the embedding of `token`.
    ///
    /// # Panics
    /// If the token is not below the number of rows.
    pub(crate) fn read(&self, token: u32, out: &mut [f32]) {
        let data = self
            .gguf
            .tensor(&self.info.name)
            .map_or(&[][..], |t| t.data);
        let bytes = &data[token as usize * self.row_bytes..][..self.row_bytes];
        let read = row::decode(self.info.kind, bytes, out);
        debug_assert!(read.is_ok(), "the type and row size were checked at load");
    }
}

/// Everything a forward pass reads.
pub(crate) struct Weights {
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    pub(crate) head: Operator,
    pub(crate) rope_factors: Vec<f32>,
}

impl Weights {
    pub(crate) fn load(gguf: &Arc<Gguf>, config: &Config, isa: Isa) -> Result<Weights, LoadError> {
        let mut names = Names {
            gguf,
            isa,
            used: HashSet::new(),
        };
        let (embd, ff) = (config.n_embd, config.n_ff);
        let (q, kv) = (
            config.n_heads * config.head_dim,
            config.n_kv_heads * config.head_dim,
        );
        let embedding = names.embedding(gguf, embd)?;
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
        let head = if gguf.tensor("output.weight").is_some() {
            "output"
        } else {
            "token_embd"
        };
        let head = names.operator(&[(head.to_owned(), config.n_vocab)], embd)?;
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
        layers.chain([&self.head]).map(Operator::bytes).sum()
    }
}

/// Tensors by name, and which of them have been taken.
struct Names<'a> {
    gguf: &'a Gguf,
    isa: Isa,
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
        let isa = self.isa;
        let mut matrices = Vec::with_capacity(parts.len());
        for (name, rows) in parts {
            let tensor = self.tensor(&format!("{name}.weight"))?;
            if tensor.info.columns() != columns || tensor.info.rows() != *rows {
                return Err(LoadError::shape(tensor.info, &[columns, *rows]));
            }
            let matrix = DenseMatrix::pack(&tensor, isa)?;
            let scale_name = format!("{name}.scale");
            let scale = match self.gguf.tensor(&scale_name) {
                Some(_) => self.vector(&scale_name, 1)?[0],
                None => 1.0,
            };
            matrices.push((matrix, scale));
        }
        Ok(Operator::new(matrices))
    }

    fn embedding(&mut self, gguf: &Arc<Gguf>, columns: usize) -> Result<Embedding, LoadError> {
        let name = "token_embd.weight";
        let tensor = self.tensor(name)?;
        let info = tensor.info.clone();
        if info.columns() != columns || info.dims.len() != 2 {
            return Err(LoadError::shape(&info, &[columns, info.rows()]));
        }
        let row_bytes = tensor.data.len() / info.rows();
        let mut row = vec![0.0; columns];
        // One row stands for all: type and size are the same.
        row::decode(info.kind, &tensor.data[..row_bytes], &mut row).map_err(|source| {
            LoadError::Row {
                name: name.to_owned(),
                source,
            }
        })?;
        Ok(Embedding {
            gguf: Arc::clone(gguf),
            info,
            row_bytes,
        })
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
