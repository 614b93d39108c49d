//! GGUF as a target: declares every tensor, then streams it.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use super::super::gguf::{GgufBuilder, TensorSink, Value};
use super::super::matrix::{SIX_BIT, scale_name};
use super::super::ternary::{I2_S_TAIL, Packing, Row, TernaryError, Uniform};
use super::super::{TensorKind, i6, row};
use super::trits::{Trits, common_scale};
use super::{Content, ConvertError, Embedding, Model, Progress, Report, Tensor, at};

/// ggml's type for a packing; `None` where the matrix is an I8 tensor with `onebit.packing`.
fn kind_of(packing: Packing) -> Option<TensorKind> {
    Some(match packing {
        Packing::Tq1_0 => TensorKind::Tq1_0,
        Packing::Tq2_0 => TensorKind::Tq2_0,
        Packing::I2S => TensorKind::I2S,
        Packing::Q2G128 => TensorKind::Q2G128,
        Packing::Q1G128 => TensorKind::Q1G128,
        Packing::T2 | Packing::T5 | Packing::T5Words | Packing::S34 | Packing::S24 => return None,
    })
}

/// Where the scales of a matrix go.
#[derive(Clone, Copy, PartialEq)]
enum Scales {
    /// Into a tensor of its own; inside the rows, if there is a place, stands 1.
    Outside(f32),
    /// Behind the rows of I2_S.
    Tail(f32),
    /// Into the rows, as F16.
    Inside,
}

pub(super) fn write(
    model: &Model<'_>,
    path: &Path,
    packing: Packing,
    embedding: Option<Embedding>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ConvertError> {
    let mut builder = GgufBuilder::new();
    for (key, value) in &model.metadata {
        builder.value(key, value.clone());
    }
    let mut plans = Vec::new();
    for tensor in &model.tensors {
        plans.push(declare(&mut builder, tensor, packing, embedding)?);
    }
    if !plans.iter().any(Option::is_some) {
        return Err(ConvertError::NotTernary);
    }
    let file = File::create(path).map_err(|source| at(path, source))?;
    let mut sink = builder.begin(BufWriter::with_capacity(1 << 20, file))?;
    let mut report = Report {
        notes: model.notes.clone(),
        ..Report::default()
    };
    for (tensor, plan) in model.tensors.iter().zip(plans) {
        progress(Progress {
            done: report.tensors,
            total: model.tensors.len(),
            tensor: &tensor.name,
        });
        match (&tensor.content, plan) {
            (Content::Ternary(trits), Some(scales)) => {
                put_trits(&mut sink, &tensor.name, trits.as_ref(), packing, scales)?;
                report.ternary += 1;
            }
            _ => put_dense(
                &mut sink,
                tensor,
                embedding.filter(|_| tensor.is_embedding()),
            )?,
        }
        report.tensors += 1;
    }
    sink.finish()?;
    Ok(report)
}

/// Declares a tensor; for a ternary matrix says where its scales go.
fn declare(
    builder: &mut GgufBuilder,
    tensor: &Tensor<'_>,
    packing: Packing,
    embedding: Option<Embedding>,
) -> Result<Option<Scales>, ConvertError> {
    let name = &tensor.name;
    let (rows, columns) = tensor.shape();
    let six_bit = |builder: &mut GgufBuilder| -> Result<(), ConvertError> {
        if !columns.is_multiple_of(i6::BLOCK) {
            let what = format!(
                "{columns} columns are no multiple of the {} that i6 needs",
                i6::BLOCK
            );
            return Err(ConvertError::Tensor {
                name: name.clone(),
                what,
            });
        }
        packed(builder, name, SIX_BIT, columns);
        builder.tensor(
            name,
            &[(columns / i6::BLOCK * i6::BYTES) as u64, rows as u64],
            TensorKind::I8,
        )?;
        Ok(())
    };
    match &tensor.content {
        Content::Ternary(trits) => {
            let row_bytes = packing
                .row_bytes(columns)
                .map_err(|source| ConvertError::Row {
                    tensor: name.clone(),
                    row: 0,
                    source,
                })?;
            let scales = place_scales(name, trits.as_ref(), packing)?;
            match kind_of(packing) {
                Some(kind) => builder.tensor(name, &[columns as u64, rows as u64], kind)?,
                None => {
                    builder.value("onebit.packing", Value::String(packing.name().to_owned()));
                    builder.value(
                        &format!("onebit.columns.{name}"),
                        Value::U32(columns as u32),
                    );
                    builder.tensor(name, &[row_bytes as u64, rows as u64], TensorKind::I8)?
                }
            };
            if let (Scales::Outside(_), Some(scale)) = (scales, scale_name(name)) {
                builder.tensor(&scale, &[1], TensorKind::F32)?;
            }
            return Ok(Some(scales));
        }
        _ if tensor.is_embedding() && embedding.is_some() => match embedding {
            Some(Embedding::Dense(kind)) => {
                builder.tensor(name, &[columns as u64, rows as u64], kind)?;
            }
            _ => six_bit(builder)?,
        },
        Content::Dense { kind, dims, .. } | Content::Owned { kind, dims, .. } => {
            builder.tensor(name, dims, *kind)?;
        }
        Content::SixBit { .. } => six_bit(builder)?,
    }
    Ok(None)
}

fn packed(builder: &mut GgufBuilder, name: &str, packing: &str, columns: usize) {
    builder.value(
        &format!("onebit.packing.{name}"),
        Value::String(packing.to_owned()),
    );
    builder.value(
        &format!("onebit.columns.{name}"),
        Value::U32(columns as u32),
    );
}

fn place_scales(name: &str, trits: &dyn Trits, packing: Packing) -> Result<Scales, ConvertError> {
    let common = common_scale(trits)?;
    Ok(match (packing, common) {
        (Packing::I2S, Some(scale)) => Scales::Tail(scale),
        // PrismML's own programs know no scale outside its groups.
        (Packing::Q2G128 | Packing::Q1G128, Some(scale)) if is_f16(scale) => Scales::Inside,
        (_, Some(scale)) => Scales::Outside(scale),
        (_, None) if packing.group().is_some() => Scales::Inside,
        (_, None) => {
            return Err(ConvertError::Loss {
                what: format!("the scales of {name}"),
                why: format!(
                    "they differ between rows or groups, and {} stores one for the matrix",
                    packing.name()
                ),
            });
        }
    })
}

fn is_f16(scale: f32) -> bool {
    half::f16::from_f32(scale).to_f32() == scale
}

fn put_trits(
    sink: &mut TensorSink<BufWriter<File>>,
    name: &str,
    trits: &dyn Trits,
    packing: Packing,
    scales: Scales,
) -> Result<(), ConvertError> {
    let (mut row, mut bytes, mut groups) = (Row::default(), Vec::new(), Vec::new());
    for index in 0..trits.rows() {
        let refused = |source| ConvertError::Row {
            tensor: name.to_owned(),
            row: index,
            source,
        };
        trits.read(index, &mut row)?;
        bytes.clear();
        inside(&row, packing, scales, &mut groups).map_err(refused)?;
        packing
            .encode(&row.trits, &groups, &mut bytes)
            .map_err(refused)?;
        sink.part(&bytes)?;
    }
    match scales {
        Scales::Tail(scale) => {
            let mut tail = scale.to_le_bytes().to_vec();
            tail.resize(I2_S_TAIL, 0);
            sink.part(&tail)?;
            sink.end_tensor()?;
        }
        Scales::Outside(scale) => {
            sink.end_tensor()?;
            sink.tensor(&scale.to_le_bytes())?;
        }
        Scales::Inside => sink.end_tensor()?,
    }
    Ok(())
}

/// The scales that go into a row: one a group of the packing.
pub(super) fn inside_row(
    row: &Row,
    packing: Packing,
    groups: &mut Vec<f32>,
) -> Result<(), TernaryError> {
    inside(row, packing, Scales::Inside, groups)
}

fn inside(
    row: &Row,
    packing: Packing,
    scales: Scales,
    groups: &mut Vec<f32>,
) -> Result<(), TernaryError> {
    groups.clear();
    let Some(group) = packing.group() else {
        return Ok(());
    };
    for start in (0..row.trits.len()).step_by(group) {
        groups.push(match scales {
            Scales::Inside => match row.scale_of(start..start + group) {
                Uniform::One(scale) => scale,
                Uniform::Zero => 0.0,
                Uniform::Many => {
                    return Err(TernaryError::Groups {
                        packing: packing.name(),
                        group,
                        column: start,
                    });
                }
            },
            _ => 1.0,
        });
    }
    Ok(())
}

fn put_dense(
    sink: &mut TensorSink<BufWriter<File>>,
    tensor: &Tensor<'_>,
    embedding: Option<Embedding>,
) -> Result<(), ConvertError> {
    let Some(embedding) = embedding else {
        match &tensor.content {
            Content::Dense { data, .. } | Content::SixBit { data, .. } => sink.part(data)?,
            Content::Owned { data, .. } => sink.part(data)?,
            Content::Ternary(_) => {}
        }
        return Ok(sink.end_tensor()?);
    };
    let (rows, columns) = tensor.shape();
    let (mut values, mut bytes) = (vec![0.0; columns], Vec::new());
    for index in 0..rows {
        tensor.row(index, &mut values)?;
        bytes.clear();
        match embedding {
            Embedding::Dense(kind) => row::encode(kind, &values, &mut bytes)?,
            Embedding::SixBit => i6::encode(&values, &mut bytes),
        }
        sink.part(&bytes)?;
    }
    Ok(sink.end_tensor()?)
}
