//! Models that clients have described and that are not here yet, and names for several models together.
//!
//! Read once and kept in memory: every chat looks whether its model is such a name.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;
use tokio::sync::OnceCell;

use super::{App, AppError};
use crate::store::NoteKind;

/// Registrations by name.
pub type Registered = Arc<BTreeMap<String, Value>>;

/// What was read.
#[derive(Default)]
pub(super) struct Registrations(OnceCell<RwLock<Registered>>);

impl App {
    /// Every registration by its name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn registrations(&self) -> Result<Registered, AppError> {
        let known = self.known().await?.read();
        Ok(Arc::clone(&known.unwrap_or_else(PoisonError::into_inner)))
    }

    /// Keeps a registration, in place of the one before.
    ///
    /// # Errors
    /// The store fails.
    pub async fn register(&self, name: &str, body: &Value) -> Result<(), AppError> {
        let notes = self.store().notes();
        notes
            .put(NoteKind::Registration, name, &body.to_string())
            .await?;
        self.change(|all| _ = all.insert(name.to_owned(), body.clone()))
            .await
    }

    /// Forgets a registration; `false` when there was none.
    ///
    /// # Errors
    /// The store fails.
    pub async fn unregister(&self, name: &str) -> Result<bool, AppError> {
        let notes = self.store().notes();
        let there = notes.remove(NoteKind::Registration, name).await?;
        self.change(|all| _ = all.remove(name)).await?;
        Ok(there)
    }

    async fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Value>),
    ) -> Result<(), AppError> {
        let mut known = self
            .known()
            .await?
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut known));
        Ok(())
    }

    async fn known(&self) -> Result<&RwLock<Registered>, AppError> {
        let read = || async {
            let rows = self.store().notes().all(NoteKind::Registration).await?;
            // What cannot be read any more is as good as not there.
            let parsed = rows.into_iter().filter_map(|(name, text)| {
                let body = serde_json::from_str(&text)
                    .inspect_err(|error| tracing::warn!(name, %error, "a registration is broken"));
                Some((name, body.ok()?))
            });
            Ok(RwLock::new(Arc::new(parsed.collect())))
        };
        self.inner.registrations.0.get_or_try_init(read).await
    }
}
