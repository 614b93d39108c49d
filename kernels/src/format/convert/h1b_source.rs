//! An `.h1b` file as a source, with the `.htok` and the Qwen3 sidecar that may lie beside it.

use std::path::Path;

use super::super::TensorKind;
use super::super::gguf::{Array, Gguf, Value};
use super::super::h1b::{self, H1b, MATRICES, Norm};
use super::super::htok::Htok;
use super::trits::Packed;
use super::{Content, ConvertError, Model, Tensor, at, gguf_source};

/// The sidecar's other name.
const BONSAI: &str = "Ternary-Bonsai-1.7B-Q2_0.gguf";

/// The open files.
pub(super) struct H1bModel {
    h1b: H1b,
    tokenizer: Option<Htok>,
    sidecar: Option<Gguf>,
}

impl H1bModel {
    pub(super) fn open(path: &Path) -> Result<H1bModel, ConvertError> {
        let h1b = H1b::open(path)?;
        let beside = path.with_extension("htok");
        let tokenizer = if beside.is_file() {
            let bytes = std::fs::read(&beside).map_err(|source| at(&beside, source))?;
            Some(Htok::from_bytes(&bytes)?)
        } else {
            None
        };
        let mut sidecar = None;
        if h1b.packing().group().is_some() {
            for candidate in [path.with_extension("gguf"), path.with_file_name(BONSAI)] {
                if sidecar.is_none() && candidate.is_file() {
                    let gguf = Gguf::open(&candidate)?;
                    sidecar = (gguf.optional_str("general.architecture")? == Some("qwen3"))
                        .then_some(gguf);
                }
            }
        }
        Ok(H1bModel {
            h1b,
            tokenizer,
            sidecar,
        })
    }

    pub(super) fn model(&self) -> Result<Model<'_>, ConvertError> {
        let mut model = match &self.sidecar {
            Some(sidecar) => qwen3(sidecar)?,
            None => self.bitnet()?,
        };
        for layer in 0..self.h1b.header().layers {
            for (which, name) in MATRICES.iter().enumerate() {
                let name = format!("blk.{layer}.{name}.weight");
                let rows = self.h1b.matrix(layer, which)?;
                let content = Content::Ternary(Box::new(Packed {
                    name: name.clone(),
                    rows,
                }));
                model.tensors.push(Tensor { name, content });
            }
        }
        Ok(model)
    }

    fn bitnet(&self) -> Result<Model<'_>, ConvertError> {
        let header = self.h1b.header();
        let (hidden, arch) = (header.hidden as u64, "bitnet-b1.58");
        let mut metadata = vec![(
            "general.architecture".to_owned(),
            Value::String(arch.to_owned()),
        )];
        for (key, value) in [
            ("block_count", header.layers),
            ("context_length", header.context),
            ("embedding_length", header.hidden),
            ("feed_forward_length", header.intermediate),
            ("attention.head_count", header.heads),
            ("attention.head_count_kv", header.kv_heads),
            ("rope.dimension_count", header.head()),
            ("vocab_size", header.vocabulary),
        ] {
            metadata.push((format!("{arch}.{key}"), Value::U32(value as u32)));
        }
        metadata.push((
            format!("{arch}.attention.layer_norm_rms_epsilon"),
            Value::F32(header.epsilon),
        ));
        metadata.push((
            format!("{arch}.rope.freq_base"),
            Value::F32(header.rope_base),
        ));
        if header.flags & h1b::HADAMARD != 0 {
            metadata.push(("onebit.hadamard".to_owned(), Value::U32(128)));
        }
        let mut notes = Vec::new();
        match &self.tokenizer {
            Some(tokenizer) => metadata.extend(tokenizer_values(tokenizer)),
            None => notes.push(
                "there is no .htok file beside the model, so the output has no tokenizer"
                    .to_owned(),
            ),
        }

        let dense = |name: String, dims: Vec<u64>, data| Tensor {
            name,
            content: Content::Dense {
                kind: TensorKind::F32,
                dims,
                data,
            },
        };
        let mut tensors = vec![
            dense(
                "token_embd.weight".to_owned(),
                vec![hidden, header.vocabulary as u64],
                self.h1b.embedding(),
            ),
            dense(
                "output_norm.weight".to_owned(),
                vec![hidden],
                self.h1b.final_norm(),
            ),
        ];
        for layer in 0..header.layers {
            for norm in Norm::ALL {
                let data = self.h1b.norm(layer, norm)?;
                tensors.push(dense(
                    format!("blk.{layer}.{}.weight", norm.name()),
                    vec![data.len() as u64 / 4],
                    data,
                ));
            }
        }
        Ok(Model {
            metadata,
            tensors,
            notes,
        })
    }
}

/// Everything but the matrices comes from the sidecar.
fn qwen3(sidecar: &Gguf) -> Result<Model<'_>, ConvertError> {
    let mut model = gguf_source::model(sidecar)?;
    model.tensors.retain(|tensor| {
        let linear = |name: &str| tensor.name.ends_with(&format!(".{name}.weight"));
        !MATRICES.iter().any(|name| linear(name)) && tensor.name != "output.weight"
    });
    Ok(model)
}

fn tokenizer_values(tokenizer: &Htok) -> Vec<(String, Value)> {
    let control = |text: &String| text.starts_with("<|") && text.ends_with("|>");
    let kinds = tokenizer
        .tokens
        .iter()
        .map(|text| if control(text) { 3 } else { 1 })
        .collect();
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    vec![
        (key("model"), Value::String("gpt2".to_owned())),
        (key("pre"), Value::String("llama-bpe".to_owned())),
        (
            key("tokens"),
            Value::Array(Array::String(tokenizer.tokens.clone())),
        ),
        (key("token_type"), Value::Array(Array::I32(kinds))),
        (
            key("merges"),
            Value::Array(Array::String(tokenizer.merge_texts())),
        ),
        (key("bos_token_id"), Value::U32(tokenizer.bos)),
        (key("eos_token_id"), Value::U32(tokenizer.eos)),
    ]
}
