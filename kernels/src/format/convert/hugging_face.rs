//! A Hugging Face folder as a source: config.json, safetensors, tokenizer.json.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::super::TensorKind;
use super::super::gguf::Value;
use super::super::row;
use super::super::safetensors::{Dtype, Entry, Safetensors};
use super::trits::{Floats, FourRows, Interleaved, Master, Trits, Unpacked, split_row};
use super::{Content, ConvertError, Model, Tensor, at, tokenizer_json};

/// An open folder.
pub(super) struct Folder {
    path: PathBuf,
    config: Json,
    files: Vec<Safetensors>,
}

/// The graphs that can be read, by `architectures[0]`.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    Llama,
    BitNet,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Folder, ConvertError> {
        let config_path = path.join("config.json");
        if !config_path.is_file() {
            return Err(ConvertError::Input(path.to_owned()));
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|source| at(path, source))? {
            let entry = entry.map_err(|source| at(path, source))?.path();
            if entry
                .extension()
                .is_some_and(|extension| extension == "safetensors")
            {
                names.push(entry);
            }
        }
        names.sort();
        if names.is_empty() {
            return Err(ConvertError::Json {
                file: "config.json",
                what: "there is no .safetensors file beside it".into(),
            });
        }
        let files = names
            .iter()
            .map(|name| Safetensors::open(name))
            .collect::<Result<_, _>>()?;
        Ok(Folder {
            path: path.to_owned(),
            config: read_json(&config_path, "config.json")?,
            files,
        })
    }

    pub(super) fn model(&self) -> Result<Model<'_>, ConvertError> {
        let config = Config { json: &self.config };
        let family = config.family()?;
        let mut model = Model {
            metadata: config.metadata(family)?,
            tensors: Vec::new(),
            notes: Vec::new(),
        };
        self.add_tokenizer(&config, &mut model)?;
        for file in &self.files {
            for (name, entry) in file.entries() {
                if name.ends_with(".weight_scale") || (name == "lm_head.weight" && config.tied()) {
                    continue;
                }
                if name.ends_with(".rotary_emb.inv_freq") {
                    continue; // computed from the base; stored by old programs only
                }
                let Some(gguf_name) = gguf_name(name) else {
                    return Err(ConvertError::Loss {
                        what: format!("tensor {name}"),
                        why: "this converter does not know it".to_owned(),
                    });
                };
                let data = file.tensor(name).map_or(&[][..], |(_, data)| data);
                let content = self.content(&config, family, name, &gguf_name, entry, data)?;
                model.tensors.push(Tensor {
                    name: gguf_name,
                    content,
                });
            }
        }
        Ok(model)
    }

    fn content<'a>(
        &'a self,
        config: &Config<'_>,
        family: Family,
        name: &str,
        gguf_name: &str,
        entry: &'a Entry,
        data: &'a [u8],
    ) -> Result<Content<'a>, ConvertError> {
        let wrong = |what: String| ConvertError::Tensor {
            name: name.to_owned(),
            what,
        };
        let kind = match entry.dtype {
            Dtype::F32 => TensorKind::F32,
            Dtype::F16 => TensorKind::F16,
            Dtype::Bf16 => TensorKind::Bf16,
            Dtype::U8 if name.contains("_proj.") => return self.packed(config, name, entry, data),
            dtype => return Err(wrong(format!("the type {dtype:?} has no meaning here"))),
        };
        let dims: Vec<u64> = entry.shape.iter().rev().copied().collect();
        if dims.is_empty() || dims.contains(&0) || dims.len() > 2 {
            return Err(wrong(format!(
                "the shape {:?} is neither a vector nor a matrix",
                entry.shape
            )));
        }
        if dims.len() == 1 {
            // Norms are F32 in GGUF, which holds every F16 and BF16 exactly.
            let mut values = vec![0.0; dims[0] as usize];
            row::decode(kind, data, &mut values)?;
            let mut bytes = Vec::new();
            row::encode(TensorKind::F32, &values, &mut bytes)?;
            return Ok(Content::Owned {
                kind: TensorKind::F32,
                dims,
                data: bytes,
            });
        }
        if !name.contains("_proj.") {
            return Ok(Content::Dense { kind, dims, data });
        }
        let floats = Floats {
            kind,
            columns: dims[0] as usize,
            rows: dims[1] as usize,
            data,
        };
        let trits: Box<dyn Trits + 'a> = match (Unpacked::of(floats)?, family) {
            (Some(unpacked), _) => Box::new(unpacked),
            (None, Family::BitNet) => Box::new(Master::of(floats)?),
            (None, Family::Llama) => {
                let head = config.pairs(gguf_name)?;
                return Ok(match head {
                    Some(head) => Content::Owned {
                        kind,
                        dims,
                        data: interleave(data, floats.rows, head),
                    },
                    None => Content::Dense { kind, dims, data },
                });
            }
        };
        Ok(Content::Ternary(match config.pairs(gguf_name)? {
            Some(head) if family == Family::Llama => Box::new(Interleaved { inner: trits, head }),
            _ => trits,
        }))
    }

    fn packed<'a>(
        &'a self,
        config: &Config<'_>,
        name: &str,
        entry: &Entry,
        data: &'a [u8],
    ) -> Result<Content<'a>, ConvertError> {
        let wrong = |what: &str| ConvertError::Tensor {
            name: name.to_owned(),
            what: what.to_owned(),
        };
        let [quarter, columns] = entry.shape[..] else {
            return Err(wrong("is packed but no matrix"));
        };
        if quarter == 0 || columns == 0 {
            return Err(wrong("is empty"));
        }
        let scale_name = format!("{name}_scale");
        let found = self.files.iter().find_map(|file| file.tensor(&scale_name));
        let (scale_entry, bytes) =
            found.ok_or_else(|| wrong("is packed, but has no weight_scale"))?;
        let kind = match scale_entry.dtype {
            Dtype::F32 => TensorKind::F32,
            Dtype::F16 => TensorKind::F16,
            Dtype::Bf16 => TensorKind::Bf16,
            _ => return Err(wrong("has a weight_scale that is no float")),
        };
        let mut stored = [0.0];
        row::decode(kind, bytes, &mut stored)?;
        let scale = if config.scale_divides() {
            1.0 / stored[0]
        } else {
            stored[0]
        };
        if !scale.is_finite() {
            return Err(wrong("has a weight_scale that is no usable number"));
        }
        Ok(Content::Ternary(Box::new(FourRows {
            name: name.to_owned(),
            columns: columns as usize,
            rows: 4 * quarter as usize,
            data,
            scale,
        })))
    }

    fn add_tokenizer(
        &self,
        config: &Config<'_>,
        model: &mut Model<'_>,
    ) -> Result<(), ConvertError> {
        let path = self.path.join("tokenizer.json");
        if !path.is_file() {
            model
                .notes
                .push("there is no tokenizer.json, so the output has no tokenizer".to_owned());
            return Ok(());
        }
        let json = read_json(&path, "tokenizer.json")?;
        let vocabulary = config.number("vocab_size")?;
        model
            .metadata
            .extend(tokenizer_json::values(&json, vocabulary)?);
        for (key, field) in [
            ("bos_token_id", "bos_token_id"),
            ("eos_token_id", "eos_token_id"),
        ] {
            let id = self.config.get(field);
            let id = id.and_then(|id| id.as_u64().or_else(|| id.get(0).and_then(Json::as_u64)));
            if let Some(id) = id.and_then(|id| u32::try_from(id).ok()) {
                model
                    .metadata
                    .push((format!("tokenizer.ggml.{key}"), Value::U32(id)));
            }
        }
        let settings = self.path.join("tokenizer_config.json");
        if settings.is_file() {
            let settings = read_json(&settings, "tokenizer_config.json")?;
            if let Some(template) = settings.get("chat_template").and_then(Json::as_str) {
                model.metadata.push((
                    "tokenizer.chat_template".to_owned(),
                    Value::String(template.to_owned()),
                ));
            }
            if let Some(add) = settings.get("add_bos_token").and_then(Json::as_bool) {
                model
                    .metadata
                    .push(("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(add)));
            }
        }
        Ok(())
    }
}

/// config.json, field by field.
struct Config<'a> {
    json: &'a Json,
}

impl Config<'_> {
    fn wrong(what: String) -> ConvertError {
        ConvertError::Json {
            file: "config.json",
            what,
        }
    }

    fn family(&self) -> Result<Family, ConvertError> {
        let named = self.json.pointer("/architectures/0").and_then(Json::as_str);
        match named {
            Some("LlamaForCausalLM") => Ok(Family::Llama),
            Some("BitNetForCausalLM" | "BitnetForCausalLM") => Ok(Family::BitNet),
            other => Err(Config::wrong(format!(
                "the architecture {} is not supported; LlamaForCausalLM and BitNetForCausalLM are",
                other.unwrap_or("(none)")
            ))),
        }
    }

    fn number(&self, field: &str) -> Result<u32, ConvertError> {
        let value = self
            .json
            .get(field)
            .and_then(Json::as_u64)
            .and_then(|value| u32::try_from(value).ok());
        value
            .filter(|&value| value > 0)
            .ok_or_else(|| Config::wrong(format!("{field} is missing or wrong")))
    }

    fn float(&self, field: &str) -> Option<f32> {
        self.json
            .get(field)
            .and_then(Json::as_f64)
            .map(|value| value as f32)
    }

    fn tied(&self) -> bool {
        self.json
            .get("tie_word_embeddings")
            .and_then(Json::as_bool)
            .unwrap_or(false)
    }

    /// `bitlinear` divides by the stored scale, `autobitlinear` multiplies.
    fn scale_divides(&self) -> bool {
        let class = self
            .json
            .pointer("/quantization_config/linear_class")
            .and_then(Json::as_str);
        class != Some("autobitlinear")
    }

    /// The head size where rows of this matrix are rotated in pairs.
    fn pairs(&self, gguf_name: &str) -> Result<Option<usize>, ConvertError> {
        if !(gguf_name.ends_with("attn_q.weight") || gguf_name.ends_with("attn_k.weight")) {
            return Ok(None);
        }
        let head = self.head()? as usize;
        if head.is_multiple_of(2) {
            Ok(Some(head))
        } else {
            Err(Config::wrong(format!("heads of {head} cannot be rotated")))
        }
    }

    fn head(&self) -> Result<u32, ConvertError> {
        match self.json.get("head_dim").and_then(Json::as_u64) {
            Some(head) => {
                u32::try_from(head).map_err(|_| Config::wrong("head_dim is too large".to_owned()))
            }
            None => Ok(self.number("hidden_size")? / self.number("num_attention_heads")?),
        }
    }

    fn metadata(&self, family: Family) -> Result<Vec<(String, Value)>, ConvertError> {
        if self
            .json
            .get("rope_scaling")
            .is_some_and(|scaling| !scaling.is_null())
        {
            return Err(ConvertError::Loss {
                what: "rope_scaling in config.json".to_owned(),
                why: "this converter does not know it".to_owned(),
            });
        }
        let act = self
            .json
            .get("hidden_act")
            .and_then(Json::as_str)
            .unwrap_or("silu");
        let arch = match (family, act) {
            (Family::Llama, "silu") => "llama",
            (Family::BitNet, "relu2") => "bitnet-b1.58",
            (Family::BitNet, "silu") => "bitnet",
            (_, other) => {
                return Err(Config::wrong(format!(
                    "the activation {other} is not supported here"
                )));
            }
        };
        let heads = self.number("num_attention_heads")?;
        let kv_heads = if self.json.get("num_key_value_heads").is_some() {
            self.number("num_key_value_heads")?
        } else {
            heads
        };
        let head = self.head()?;
        let mut out = vec![(
            "general.architecture".to_owned(),
            Value::String(arch.to_owned()),
        )];
        for (key, value) in [
            ("block_count", self.number("num_hidden_layers")?),
            ("context_length", self.number("max_position_embeddings")?),
            ("embedding_length", self.number("hidden_size")?),
            ("feed_forward_length", self.number("intermediate_size")?),
            ("attention.head_count", heads),
            ("attention.head_count_kv", kv_heads),
            ("attention.key_length", head),
            ("attention.value_length", head),
            ("rope.dimension_count", head),
            ("vocab_size", self.number("vocab_size")?),
        ] {
            out.push((format!("{arch}.{key}"), Value::U32(value)));
        }
        let epsilon = self
            .float("rms_norm_eps")
            .ok_or_else(|| Config::wrong("rms_norm_eps is missing".to_owned()))?;
        out.push((
            format!("{arch}.attention.layer_norm_rms_epsilon"),
            Value::F32(epsilon),
        ));
        // 10000 is the base that the field's absence has always meant.
        out.push((
            format!("{arch}.rope.freq_base"),
            Value::F32(self.float("rope_theta").unwrap_or(10_000.0)),
        ));
        Ok(out)
    }
}

/// GGUF's name of a tensor of a llama-like model.
fn gguf_name(name: &str) -> Option<String> {
    let whole = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(whole.to_owned());
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let part = match part.strip_suffix(".weight")? {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.attn_sub_norm" | "self_attn.inner_attn_ln" => "attn_sub_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "mlp.ffn_sub_norm" | "mlp.ffn_layernorm" => "ffn_sub_norm",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.weight"))
}

/// Rows of split heads, re-ordered to neighbouring pairs.
fn interleave(data: &[u8], rows: usize, head: usize) -> Vec<u8> {
    let size = data.len() / rows.max(1);
    (0..rows)
        .flat_map(|index| {
            data[split_row(index, head) * size..][..size]
                .iter()
                .copied()
        })
        .collect()
}

fn read_json(path: &Path, file: &'static str) -> Result<Json, ConvertError> {
    let bytes = std::fs::read(path).map_err(|source| at(path, source))?;
    serde_json::from_slice(&bytes).map_err(|error| ConvertError::Json {
        file,
        what: error.to_string(),
    })
}
