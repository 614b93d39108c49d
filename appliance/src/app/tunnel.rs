//! The pairing window that a client without pairing of its own opens: its code is kept as long as it can be used.

use std::sync::{Mutex, PoisonError};

use super::{App, AppError};
use crate::domain::{PersonId, Scope};
use crate::store::now_ms;
use crate::trust::pairing::{Grant, Stage};

/// A window that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The pairing's identifier.
    pub id: String,
    /// Where a phone goes.
    pub address: String,
    /// The code; `None` once a device has used it.
    pub code: Option<String>,
    /// Unix milliseconds.
    pub opened_at: i64,
}

/// The window, where one was opened.
#[derive(Default)]
pub(super) struct LastTunnel(Mutex<Option<Tunnel>>);

impl LastTunnel {
    fn set(&self, tunnel: Option<Tunnel>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tunnel;
    }

    fn get(&self) -> Option<Tunnel> {
        let tunnel = self.0.lock();
        tunnel.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl App {
    /// Opens a pairing window for a phone that may chat, unless one is open; `None` where no phone can reach this machine.
    ///
    /// # Errors
    /// Too many are open.
    pub async fn open_tunnel(
        &self,
        person: &PersonId,
        from: &str,
    ) -> Result<Option<Tunnel>, AppError> {
        if let Some(open) = self.tunnel() {
            return Ok(Some(open));
        }
        let reach = self.reach();
        let Some(address) = reach.https.first().filter(|_| reach.lan).cloned() else {
            return Ok(None);
        };
        let grant = Grant {
            person: person.clone(),
            scope: Scope::Chat,
        };
        let opened = self.trust().open_pairing(grant, from).await?;
        let tunnel = Tunnel {
            id: opened.id,
            address,
            code: Some(opened.link_code),
            opened_at: now_ms(),
        };
        self.inner.tunnel.set(Some(tunnel.clone()));
        Ok(Some(tunnel))
    }

    /// The window, as long as a phone may still come in through it.
    pub fn tunnel(&self) -> Option<Tunnel> {
        let mut tunnel = self.inner.tunnel.get()?;
        let pairings = self.trust().pairings();
        let stage = pairings
            .into_iter()
            .find_map(|window| (window.id == tunnel.id).then_some(window.stage));
        match stage {
            Some(Stage::Open) => {}
            Some(Stage::Claimed { .. } | Stage::Allowed) => tunnel.code = None,
            _ => {
                self.inner.tunnel.set(None);
                return None;
            }
        }
        Some(tunnel)
    }

    /// Closes the window; a device that waits is refused.
    ///
    /// # Errors
    /// The store fails.
    pub async fn close_tunnel(&self, from: &str) -> Result<(), AppError> {
        let Some(tunnel) = self.tunnel() else {
            return Ok(());
        };
        self.inner.tunnel.set(None);
        match self
            .trust()
            .decide_pairing(&tunnel.id, "", false, from)
            .await
        {
            // It ended by itself in the same moment.
            Err(crate::trust::TrustError::Pairing(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
