//! The model that comes with the program: in the registry where it lies, and first in every list.
//!
//! Owns its name, when it is registered, and the sampling that suits it. Must not know how a file is read.

use std::path::{Path, PathBuf};

use super::{App, AppError, NewModel};
use crate::config::shipped_model;
use crate::domain::{Model, Sampling};

/// Its name in requests.
const NAME: &str = "onebit-mini";
/// Its file.
const FILE: &str = "onebit-mini.gguf";

impl App {
    /// Lists the registry, the default model first: what can chat before what cannot, the shipped model before
    /// imported ones, and those in the order of import. The first call registers the shipped model.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn registry(&self) -> Result<Vec<Model>, AppError> {
        let wanted = self.inner.config.models.builtin;
        if wanted {
            let settled = &self.inner.builtin;
            settled.get_or_try_init(|| self.settle_builtin()).await?;
        }
        let mut models = self.inner.store.models().all().await?;
        models.retain(|model| wanted || !self.is_builtin(model));
        models.sort_by_key(|model| (!model.has_template, !self.is_builtin(model)));
        Ok(models)
    }

    /// Whether a model is the one that comes with the program. An owner may have imported another under its name.
    pub(super) fn is_builtin(&self, model: &Model) -> bool {
        model.id == NAME && !model.path.starts_with(self.inner.store.folder())
    }

    /// Makes the registry say what is there: an update may have moved or changed the file.
    async fn settle_builtin(&self) -> Result<(), AppError> {
        let file = shipped_model(FILE);
        if file.is_none() {
            tracing::warn!("{FILE} is not where it was installed; install again to have it back");
        }
        let known = self.inner.store.models().get(NAME).await?;
        if let Some(model) = known {
            let same =
                |path: &PathBuf| *path == model.path && bytes(path) == Some(model.file_bytes);
            if !self.is_builtin(&model) || file.as_ref().is_some_and(same) {
                return Ok(());
            }
            self.inner.store.models().remove(NAME).await?;
        }
        let Some(path) = file else { return Ok(()) };
        let name = Some(NAME.to_owned());
        // A broken file costs this model; the owner's other ones still answer.
        if let Err(error) = self.adopt(NewModel { path, name }).await {
            tracing::error!(%error, "the model that comes with the program cannot be used");
        }
        Ok(())
    }
}

fn bytes(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.len())
}

/// The sampling that suits a model, where a request leaves it open. Packings of one student share it.
///
/// Measured on twenty questions of at most 128 tokens: so 11 answers end by themselves and 1 repeats itself; without
/// the penalty 9 and 4; at 0.7 and 1.15 9 and 1.
pub(super) fn usual(model: &Model) -> Sampling {
    if !model.id.starts_with(NAME) {
        return Sampling::default();
    }
    Sampling {
        temperature: Some(0.6),
        repetition_penalty: Some(1.12),
        ..Sampling::default()
    }
}
