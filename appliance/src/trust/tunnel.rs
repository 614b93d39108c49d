//! Devices that are known by the key of their tunnel.

use super::{DAY_MS, DEVICE_DAYS, Recognised, Trust, TrustError, files, secret};
use crate::domain::{Credential, CredentialKind, Peer, PersonId, Scope, Transport};
use crate::store::now_ms;

impl Trust {
    /// A stream of the mesh that shows no token.
    pub(super) async fn tunnel(&self, transport: Transport) -> Result<Recognised, TrustError> {
        let Transport::Mesh { device, .. } = &transport else {
            return Err(TrustError::Unknown);
        };
        let now = now_ms();
        let found = self.store.access().find(device).await?;
        let found = found.filter(|kept| kept.credential.expires_at.is_none_or(|at| at > now));
        let live = found.as_ref().map(|kept| self.live(&kept.credential.id));
        let peer = match found {
            Some(kept) => {
                self.touch(&kept.credential, &transport, now).await?;
                let mut peer = Peer::bearer(transport, &kept.credential);
                peer.scope = peer.scope.min(Scope::Infer);
                peer
            }
            None => Peer::stranger(transport),
        };
        Ok(Recognised {
            peer,
            wrong: None,
            renewed: None,
            live,
        })
    }

    /// Makes a device whose token nobody has: its tunnel alone tells who it is.
    ///
    /// # Errors
    /// A bad name, or the store fails.
    pub async fn add_device(&self, name: &str, from: &str) -> Result<Credential, TrustError> {
        let expires = Some(now_ms() + DEVICE_DAYS * DAY_MS);
        let grant = (PersonId::owner(), Scope::Chat);
        let made = self
            .make(CredentialKind::Device, grant, name, expires, None)
            .await?;
        let name = &made.credential.name;
        self.store
            .access()
            .audit("device_added", name, from)
            .await?;
        Ok(made.credential)
    }

    /// A secret of this appliance that no device shows: made at its first use, kept in the folder of secrets.
    ///
    /// # Errors
    /// The folder cannot be read or written, or the file is not as long as it was written.
    pub fn own_secret<const N: usize>(&self, name: &str) -> Result<[u8; N], TrustError> {
        files::make_folder(&self.folder)?;
        let file = self.folder.join(name);
        if let Some(bytes) = files::read(&file)? {
            let advice = "it is damaged; bring it back from a backup, or move it away";
            return bytes.try_into().map_err(|_| TrustError::File {
                what: "cannot use",
                source: std::io::Error::other(advice),
                path: file,
            });
        }
        let bytes = secret::random::<N>()?;
        files::write_secret(&file, &bytes)?;
        Ok(bytes)
    }
}
