//! Models that engines keep in stores of their own: found, and listed beside ours.

use std::path::PathBuf;

use super::{App, AppError, now_ms};
use crate::domain::model::slug;
use crate::domain::{Model, ModelFormat};
use crate::engines::flm::{self, Listed};

impl App {
    /// Makes the registry say what FastFlowLM has: new models come, those it no longer has go. Does nothing where it is
    /// not installed.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn find_flm_models(&self) -> Result<(), AppError> {
        let means = &self.inner.means;
        let (Some(program), Some(children)) = (means.programs.get("flm"), &means.children) else {
            return Ok(());
        };
        let listed = match flm::list(&children.launcher, &program.path).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "FastFlowLM does not list its models");
                return Ok(());
            }
        };
        let models: Vec<Model> = listed
            .iter()
            .filter(|listed| listed.installed)
            .filter_map(model)
            .collect();
        let store = self.inner.store.models();
        for known in store.all().await? {
            let gone = models.iter().all(|model| model.id != known.id);
            if known.format == ModelFormat::Flm && gone {
                store.remove(&known.id).await?;
            }
        }
        for model in models {
            if let Err(error) = store.put(&model).await {
                tracing::warn!(model = model.id, %error, "a model of FastFlowLM is not listed");
            }
        }
        Ok(())
    }
}

/// A row for one of its models: its name is FLM's tag, its size as FLM tells it.
fn model(listed: &Listed) -> Option<Model> {
    Some(Model {
        id: format!("{}-flm", slug(&listed.tag)?),
        name: listed.tag.clone(),
        format: ModelFormat::Flm,
        path: PathBuf::new(),
        file_bytes: listed.bytes.unwrap_or_default(),
        sha256: format!("flm:{}", listed.tag),
        architecture: listed.tag.split(':').next().unwrap_or_default().to_owned(),
        quantisation: "Q4NX".to_owned(),
        context_length: listed.context.unwrap_or_default(),
        kv_bytes_per_position: 0,
        // It applies the model's own.
        has_template: true,
        imported_at: now_ms(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_becomes_a_model() {
        let listed = Listed {
            tag: "qwen3:0.6b".into(),
            installed: true,
            bytes: Some(7),
            context: None,
        };
        let model = model(&listed).unwrap();
        assert_eq!(
            (model.id.as_str(), model.name.as_str()),
            ("qwen3-0.6b-flm", "qwen3:0.6b")
        );
        assert_eq!(
            (model.file_bytes, model.architecture.as_str()),
            (7, "qwen3")
        );
    }
}
