//! A GGUF file as a source: metadata as it is, matrices through the one view of `matrix`.

use super::super::matrix::{Matrix, scale_name};
use super::super::{Gguf, TensorKind};
use super::trits::{Floats, Packed, Unpacked};
use super::{Content, ConvertError, Model, Tensor};

/// The names of the matrices that a ternary model has in ternary.
const LINEAR: [&str; 7] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];

/// Keys that describe the storage of the source, which the target decides anew.
fn is_storage(key: &str) -> bool {
    key.starts_with("onebit.packing")
        || key.starts_with("onebit.columns.")
        || matches!(
            key,
            "general.alignment" | "general.file_type" | "general.quantization_version"
        )
}

pub(super) fn model(gguf: &Gguf) -> Result<Model<'_>, ConvertError> {
    let metadata = gguf
        .keys()
        .iter()
        .filter(|key| !is_storage(key))
        .filter_map(|key| Some((key.clone(), gguf.value(key)?.clone())))
        .collect();
    let mut tensors = Vec::new();
    let mut scales = Vec::new();
    for info in gguf.tensors() {
        let name = info.name.clone();
        let is_embedding = matches!(name.as_str(), "token_embd.weight" | "output.weight");
        let content = match Matrix::open(gguf, &name)? {
            // Embeddings keep their storage: the packing asked for is that of the layers.
            Matrix::Ternary(_) if is_embedding && info.kind != TensorKind::I8 => {
                let data = gguf.tensor(&name).map_or(&[][..], |tensor| tensor.data);
                Content::Dense {
                    kind: info.kind,
                    dims: info.dims.clone(),
                    data,
                }
            }
            Matrix::Ternary(rows) => {
                scales.extend(scale_name(&name));
                Content::Ternary(Box::new(Packed {
                    name: name.clone(),
                    rows,
                }))
            }
            Matrix::SixBit {
                columns,
                rows,
                data,
            } => Content::SixBit {
                columns,
                rows,
                data,
            },
            Matrix::Dense {
                kind,
                columns,
                rows,
                data,
            } => {
                let floats = Floats {
                    kind,
                    columns,
                    rows,
                    data,
                };
                match ternary_floats(&name, floats)? {
                    Some(unpacked) => Content::Ternary(Box::new(unpacked)),
                    None => Content::Dense {
                        kind,
                        dims: info.dims.clone(),
                        data,
                    },
                }
            }
        };
        tensors.push(Tensor { name, content });
    }
    tensors.retain(|tensor| !scales.contains(&tensor.name));
    Ok(Model {
        metadata,
        tensors,
        notes: Vec::new(),
    })
}

/// A linear layer stored as floats may be ternary all the same.
fn ternary_floats<'a>(
    name: &str,
    floats: Floats<'a>,
) -> Result<Option<Unpacked<'a>>, ConvertError> {
    let linear = name
        .strip_suffix(".weight")
        .and_then(|name| name.rsplit('.').next());
    let wanted = linear.is_some_and(|linear| LINEAR.contains(&linear))
        && matches!(
            floats.kind,
            TensorKind::F32 | TensorKind::F16 | TensorKind::Bf16
        );
    if wanted {
        Unpacked::of(floats)
    } else {
        Ok(None)
    }
}
