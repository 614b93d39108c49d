//! What a model's file says of itself, beyond what the registry keeps.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use onebit_kernels::format::gguf::{Gguf, Value as Stored};
use serde_json::{Map, Value};

use super::{App, AppError};
use crate::domain::{Model, ModelFormat};

/// A model's own description.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Details {
    /// The file's metadata. Arrays, which are vocabularies for the most part, are `null`.
    pub metadata: Map<String, Value>,
    /// The chat template's source.
    pub template: Option<String>,
    /// Weights, counted one by one; 0 when the model is not a file here.
    pub parameters: u64,
}

impl Details {
    /// Whether the model's template lets it think before it speaks.
    pub fn thinks(&self) -> bool {
        let source = self.template.as_deref().unwrap_or_default();
        source.contains("<think>") || source.contains("enable_thinking")
    }
}

/// Descriptions that were read once; a file's content never changes under its hash.
#[derive(Default)]
pub(super) struct DetailsShelf(Mutex<HashMap<String, Arc<Details>>>);

impl DetailsShelf {
    fn get(&self, sha256: &str) -> Option<Arc<Details>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(sha256).cloned()
    }

    fn put(&self, sha256: &str, details: &Arc<Details>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(sha256.to_owned(), Arc::clone(details));
    }
}

impl App {
    /// Reads what a model says of itself. Models that are no file here say nothing.
    ///
    /// # Errors
    /// The file is gone or broken.
    pub async fn details(&self, model: &Model) -> Result<Arc<Details>, AppError> {
        if model.format != ModelFormat::Gguf {
            return Ok(Arc::default());
        }
        if let Some(details) = self.inner.details.get(&model.sha256) {
            return Ok(details);
        }
        let path = model.path.clone();
        let wrong = |why: String| AppError::NotAModel {
            path: model.path.clone(),
            why,
        };
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let details = read
            .map_err(|panic| wrong(panic.to_string()))?
            .map_err(wrong)?;
        let details = Arc::new(details);
        self.inner.details.put(&model.sha256, &details);
        Ok(details)
    }
}

fn read(path: &Path) -> Result<Details, String> {
    let gguf = Gguf::open(path).map_err(|error| error.to_string())?;
    let template = gguf
        .optional_str("tokenizer.chat_template")
        .map_err(|error| error.to_string())?;
    let metadata = gguf
        .keys()
        .iter()
        .filter_map(|key| Some((key.clone(), plain(gguf.value(key)?))))
        .collect();
    Ok(Details {
        metadata,
        template: template.map(str::to_owned),
        parameters: parameters(&gguf),
    })
}

/// Counts weights. A packed tensor's rows are bytes; its real width stands in the metadata.
fn parameters(gguf: &Gguf) -> u64 {
    let count = |tensor: &onebit_kernels::format::gguf::TensorInfo| {
        let columns = gguf
            .value(&format!("onebit.columns.{}", tensor.name))
            .and_then(Stored::as_u64);
        match (columns, tensor.dims.split_first()) {
            (Some(columns), Some((_, rows))) => columns * rows.iter().product::<u64>(),
            _ => tensor.dims.iter().product(),
        }
    };
    gguf.tensors().iter().map(count).sum()
}

fn plain(value: &Stored) -> Value {
    match value {
        Stored::U8(n) => (*n).into(),
        Stored::I8(n) => (*n).into(),
        Stored::U16(n) => (*n).into(),
        Stored::I16(n) => (*n).into(),
        Stored::U32(n) => (*n).into(),
        Stored::I32(n) => (*n).into(),
        Stored::U64(n) => (*n).into(),
        Stored::I64(n) => (*n).into(),
        Stored::F32(n) => (*n).into(),
        Stored::F64(n) => (*n).into(),
        Stored::Bool(yes) => (*yes).into(),
        Stored::String(text) => text.as_str().into(),
        Stored::Array(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::ternary::tests::write_tiny_model;

    #[test]
    fn a_file_describes_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        write_tiny_model(&path);
        let details = read(&path).unwrap();
        assert!(details.parameters > 1000, "{}", details.parameters);
        assert!(details.metadata.contains_key("general.architecture"));
        assert_eq!(details.metadata["tokenizer.ggml.tokens"], Value::Null);
        assert!(details.template.is_some());
        assert!(read(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn a_template_tells_who_thinks() {
        let with = |source: &str| Details {
            template: Some(source.to_owned()),
            ..Details::default()
        };
        assert!(with("{% if enable_thinking %}").thinks());
        assert!(with("<think>\n").thinks());
        assert!(!with("I think so").thinks() && !Details::default().thinks());
    }
}
