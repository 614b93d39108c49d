//! `.h1b` as a target, with an `.htok` beside it. The format holds BitNet-b1.58 models with a tied
//! head and nothing else: every difference is refused.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::super::gguf::{Array, Value};
use super::super::h1b::{BINARY, HADAMARD, HIDDEN_VECTORS, Header, MATRICES, Norm, TERNARY};
use super::super::htok::Htok;
use super::super::ternary::{Packing, Row, Uniform};
use super::gguf_target::inside_row;
use super::trits::Trits;
use super::{Content, ConvertError, Model, Progress, Report, Tensor, at};

pub(super) fn write(
    model: &Model<'_>,
    path: &Path,
    output: &Path,
    version: i32,
    packing: Packing,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ConvertError> {
    let header = header(model, version, packing)?;
    header.check()?;
    let mut source = Source {
        by_name: HashMap::new(),
    };
    for tensor in &model.tensors {
        source.by_name.insert(&tensor.name, tensor);
    }
    let mut notes = model.notes.clone();
    let tokenizer = tokenizer(model, &mut notes)?;

    let file = File::create(path).map_err(|source| at(path, source))?;
    let mut out = Out {
        file: BufWriter::with_capacity(1 << 20, file),
        path,
    };
    out.put(&header.to_bytes())?;
    let mut report = Report {
        notes,
        ..Report::default()
    };
    let total = model.tensors.len();
    let mut step = |tensor: &str, report: &mut Report| {
        progress(Progress {
            done: report.tensors,
            total,
            tensor,
        });
        report.tensors += 1;
    };
    for (name, rows, columns) in [
        ("token_embd.weight", header.vocabulary, header.hidden),
        ("output_norm.weight", 1, header.hidden),
    ] {
        step(name, &mut report);
        out.floats(source.take(name)?, rows, columns)?;
    }
    for layer in 0..header.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let norms = Norm::ALL.map(|norm| name(norm.name()));
        let [attention, feed_forward, attention_sub, feed_forward_sub] = norms;
        for norm in [&attention, &feed_forward, &attention_sub] {
            step(norm, &mut report);
            out.floats(source.take(norm)?, 1, header.hidden)?;
        }
        step(&feed_forward_sub, &mut report);
        let (sub, last) = (
            source.peek(&attention_sub)?,
            source.take(&feed_forward_sub)?,
        );
        out.fillers(sub, last, &header)?;
        out.floats(last, 1, header.intermediate)?;
        for (which, matrix) in MATRICES.iter().enumerate() {
            let name = name(matrix);
            step(&name, &mut report);
            let tensor = source.take(&name)?;
            let Content::Ternary(trits) = &tensor.content else {
                return Err(ConvertError::Loss {
                    what: format!("the weights of {name}"),
                    why: "they are not ternary".to_owned(),
                });
            };
            let (rows, columns) = header.shape(which);
            expect_shape(tensor, rows, columns)?;
            out.matrix(&name, trits.as_ref(), packing)?;
            report.ternary += 1;
        }
    }
    source.finish()?;
    out.file.flush().map_err(|source| at(path, source))?;
    if let Some(tokenizer) = tokenizer {
        let beside = output.with_extension("htok");
        std::fs::write(&beside, tokenizer.to_bytes()?).map_err(|source| at(&beside, source))?;
    }
    Ok(report)
}

fn header(model: &Model<'_>, version: i32, packing: Packing) -> Result<Header, ConvertError> {
    let arch = model.str("general.architecture").unwrap_or("unnamed");
    if arch != "bitnet-b1.58" {
        return Err(ConvertError::Loss {
            what: format!("the architecture {arch}"),
            why: ".h1b holds bitnet-b1.58 models only".to_owned(),
        });
    }
    let key = |name: &str| format!("{arch}.{name}");
    let number = |name: &str| -> Result<usize, ConvertError> {
        let value = model.value(&key(name)).and_then(Value::as_u64);
        let value = value.and_then(|value| i32::try_from(value).ok());
        value
            .map(|value| value as usize)
            .ok_or_else(|| ConvertError::Loss {
                what: key(name),
                why: "it is missing or no positive 32-bit number".to_owned(),
            })
    };
    let float = |name: &str| match model.value(&key(name)) {
        Some(Value::F32(value)) => Some(*value),
        _ => None,
    };
    let embedding = model
        .tensors
        .iter()
        .find(|tensor| tensor.name == "token_embd.weight");
    let vocabulary = embedding.map(|tensor| tensor.shape().0).unwrap_or(0);
    let mut flags = match packing {
        Packing::Q1G128 => BINARY,
        Packing::Q2G128 => TERNARY,
        _ => 0,
    };
    if model.value("onebit.hadamard").is_some() {
        flags |= HADAMARD;
    }
    let header = Header {
        version,
        hidden: number("embedding_length")?,
        intermediate: number("feed_forward_length")?,
        layers: number("block_count")?,
        heads: number("attention.head_count")?,
        kv_heads: number("attention.head_count_kv")?,
        vocabulary,
        context: number("context_length")?,
        flags,
        rope_base: float("rope.freq_base").unwrap_or(10_000.0),
        epsilon: float("attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
    };
    if version == 1 && (header.rope_base != 500_000.0 || header.epsilon != 1e-5) {
        return Err(ConvertError::Loss {
            what: format!(
                "the RoPE base {} and the epsilon {}",
                header.rope_base, header.epsilon
            ),
            why: "version 1 has no place for others than 500000 and 0.00001".to_owned(),
        });
    }
    Ok(header)
}

/// The model's tensors, each of which must be used.
struct Source<'a, 'b> {
    by_name: HashMap<&'a str, &'a Tensor<'b>>,
}

impl<'a, 'b> Source<'a, 'b> {
    fn peek(&self, name: &str) -> Result<&'a Tensor<'b>, ConvertError> {
        let missing = || ConvertError::Tensor {
            name: name.to_owned(),
            what: "is missing".to_owned(),
        };
        // A norm is taken before its copies are written.
        self.by_name.get(name).copied().ok_or_else(missing)
    }

    fn take(&mut self, name: &str) -> Result<&'a Tensor<'b>, ConvertError> {
        let tensor = self.peek(name)?;
        if !name.ends_with("attn_sub_norm.weight") {
            self.by_name.remove(name);
        }
        Ok(tensor)
    }

    fn finish(self) -> Result<(), ConvertError> {
        match self
            .by_name
            .keys()
            .filter(|name| !name.ends_with("attn_sub_norm.weight"))
            .min()
        {
            Some(name) => Err(ConvertError::Loss {
                what: format!("tensor {name}"),
                why: ".h1b has no place for it".to_owned(),
            }),
            None => Ok(()),
        }
    }
}

struct Out<'a> {
    file: BufWriter<File>,
    path: &'a Path,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), ConvertError> {
        self.file
            .write_all(bytes)
            .map_err(|source| at(self.path, source))
    }

    fn floats(
        &mut self,
        tensor: &Tensor<'_>,
        rows: usize,
        columns: usize,
    ) -> Result<(), ConvertError> {
        expect_shape(tensor, rows, columns)?;
        let mut values = vec![0.0; columns];
        for index in 0..rows {
            tensor.row(index, &mut values)?;
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            self.put(&bytes)?;
        }
        Ok(())
    }

    /// Copies that readers skip: three of one norm, two of the start of the other.
    fn fillers(
        &mut self,
        attention: &Tensor<'_>,
        last: &Tensor<'_>,
        header: &Header,
    ) -> Result<(), ConvertError> {
        // Three vectors were written; the rest of HIDDEN_VECTORS are fillers.
        for _ in 3..HIDDEN_VECTORS - 2 {
            self.floats(attention, 1, header.hidden)?;
        }
        let mut values = vec![0.0; header.intermediate];
        expect_shape(last, 1, header.intermediate)?;
        last.row(0, &mut values)?;
        values.resize(header.hidden, 0.0);
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.put(&bytes)?;
        self.put(&bytes)
    }

    fn matrix(
        &mut self,
        name: &str,
        trits: &dyn Trits,
        packing: Packing,
    ) -> Result<(), ConvertError> {
        let (mut row, mut bytes, mut groups, mut scales) =
            (Row::default(), Vec::new(), Vec::new(), Vec::new());
        for index in 0..trits.rows() {
            let refused = |source| ConvertError::Row {
                tensor: name.to_owned(),
                row: index,
                source,
            };
            trits.read(index, &mut row)?;
            bytes.clear();
            inside_row(&row, packing, &mut groups).map_err(refused)?;
            packing
                .encode(&row.trits, &groups, &mut bytes)
                .map_err(refused)?;
            self.put(&bytes)?;
            if packing.group().is_none() {
                scales.extend(match row.scale() {
                    Uniform::One(scale) => scale.to_le_bytes(),
                    Uniform::Zero => 0.0_f32.to_le_bytes(),
                    Uniform::Many => {
                        return Err(ConvertError::Loss {
                            what: format!("the scales of {name}, row {index}"),
                            why: "they differ within the row, and .h1b stores one a row".to_owned(),
                        });
                    }
                });
            }
        }
        self.put(&scales)
    }
}

fn expect_shape(tensor: &Tensor<'_>, rows: usize, columns: usize) -> Result<(), ConvertError> {
    let found = tensor.shape();
    if found == (rows, columns) {
        return Ok(());
    }
    let what = format!(
        "has {} rows of {}, but the header means {rows} of {columns}",
        found.0, found.1
    );
    Err(ConvertError::Tensor {
        name: tensor.name.clone(),
        what,
    })
}

/// The vocabulary as `.htok`, if it is one that the format holds.
fn tokenizer(model: &Model<'_>, notes: &mut Vec<String>) -> Result<Option<Htok>, ConvertError> {
    if model.str("tokenizer.ggml.model").is_none() {
        return Ok(None);
    }
    let strings = |key: &str| match model.value(key) {
        Some(Value::Array(Array::String(texts))) => Some(texts),
        _ => None,
    };
    let id = |key: &str| {
        model
            .value(key)
            .and_then(Value::as_u64)
            .and_then(|id| u32::try_from(id).ok())
    };
    let parts = (
        model.str("tokenizer.ggml.model"),
        model.str("tokenizer.ggml.pre"),
        strings("tokenizer.ggml.tokens"),
        strings("tokenizer.ggml.merges"),
        id("tokenizer.ggml.bos_token_id"),
        id("tokenizer.ggml.eos_token_id"),
    );
    let (Some("gpt2"), Some("llama-bpe"), Some(tokens), Some(merges), Some(bos), Some(eos)) = parts
    else {
        return Err(ConvertError::Loss {
            what: "the tokenizer".to_owned(),
            why: ".htok holds byte-level BPE with the pre-tokenizer llama-bpe, a begin and an end token".to_owned(),
        });
    };
    let ids: HashMap<&str, u32> = tokens
        .iter()
        .enumerate()
        .map(|(id, text)| (text.as_str(), id as u32))
        .collect();
    let merges = merges.iter().map(|merge| {
        let (left, right) = merge.split_once(' ')?;
        Some((
            *ids.get(left)?,
            *ids.get(right)?,
            *ids.get(format!("{left}{right}").as_str())?,
        ))
    });
    let merges: Option<Vec<_>> = merges.collect();
    let merges = merges.ok_or_else(|| ConvertError::Loss {
        what: "a merge of the tokenizer".to_owned(),
        why: "its texts are no tokens, and .htok stores merges by id".to_owned(),
    })?;
    if model.value("tokenizer.chat_template").is_some() {
        notes.push(".h1b has no place for the chat template".to_owned());
    }
    notes.push(
        ".htok has no kinds of tokens: only texts like <|...|> stay control tokens".to_owned(),
    );
    Ok(Some(Htok {
        tokens: tokens.clone(),
        merges,
        bos,
        eos,
    }))
}
