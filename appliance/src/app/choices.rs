//! What the owner chose about models: which stay loaded, for how long, and which share a name.

use std::time::Duration;

use super::{App, AppError};
use crate::domain::Model;
use crate::domain::model::slug;
use crate::engines::pool::Stay;

impl App {
    /// Keeps a model loaded, from now on and after every start; or lets it go again.
    ///
    /// # Errors
    /// It is not known, or the store fails.
    pub async fn pin(&self, name: &str, pinned: bool) -> Result<Model, AppError> {
        let model = self.model(name).await?;
        self.inner.store.choices().pin(&model.id, pinned).await?;
        let stay = if pinned { Stay::Pinned } else { Stay::Usual };
        self.inner.pool.stay(&model, stay);
        Ok(model)
    }

    /// The names of the models that stay loaded.
    ///
    /// # Errors
    /// The store fails.
    pub async fn pins(&self) -> Result<Vec<String>, AppError> {
        Ok(self.inner.store.choices().pins().await?)
    }

    /// Lets a model go once nobody has used it for so long; `None` as the settings say. A pinned one stays.
    ///
    /// # Errors
    /// It is not known, or the store fails.
    pub async fn keep(&self, name: &str, idle: Option<Duration>) -> Result<(), AppError> {
        let model = self.model(name).await?;
        if !self.pins().await?.contains(&model.id) {
            self.inner
                .pool
                .stay(&model, idle.map_or(Stay::Usual, Stay::Idle));
        }
        Ok(())
    }

    /// Loads what stays loaded; for the process that serves, at its start.
    pub(super) async fn load_pinned(&self) -> Result<(), AppError> {
        for name in self.pins().await? {
            match self.model(&name).await {
                Ok(model) => self.inner.pool.stay(&model, Stay::Pinned),
                Err(error) => tracing::warn!(model = name, %error, "a pinned model is not loaded"),
            }
        }
        Ok(())
    }

    /// Every shared name with its artifacts.
    ///
    /// # Errors
    /// The store fails.
    pub async fn logical_models(&self) -> Result<Vec<(String, Vec<String>)>, AppError> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for (name, model) in self.inner.store.choices().logical().await? {
            match groups.last_mut() {
                Some((last, models)) if *last == name => models.push(model),
                _ => groups.push((name, vec![model])),
            }
        }
        Ok(groups)
    }

    /// Makes one name stand for several artifacts of a model, among which the router chooses; none take it away.
    ///
    /// # Errors
    /// An artifact is not known, or the name cannot be used or is a model's own.
    pub async fn set_logical(&self, name: &str, models: &[String]) -> Result<(), AppError> {
        if slug(name).as_deref() != Some(name) || name == "auto" {
            return Err(AppError::BadName(name.to_owned()));
        }
        if self.registry().await?.iter().any(|model| model.id == name) {
            return Err(AppError::NameTaken(name.to_owned()));
        }
        let mut ids = Vec::new();
        for model in models {
            ids.push(self.model(model).await?.id);
        }
        Ok(self.inner.store.choices().set_logical(name, ids).await?)
    }
}
