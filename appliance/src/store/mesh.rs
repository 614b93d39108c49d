//! The devices that have a tunnel.

use std::net::SocketAddr;

use rusqlite::{OptionalExtension, Row, params};

use super::{Store, StoreError, now_ms};

/// The numbers that devices can have: ours is 1.
const NUMBERS: std::ops::RangeInclusive<u8> = 2..=254;

/// One device's tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshPeer {
    /// The device.
    pub device: String,
    /// Its public key.
    pub public_key: [u8; 32],
    /// The last part of its address inside.
    pub number: u8,
    /// Where it was last.
    pub endpoint: Option<SocketAddr>,
    /// When it was made, in Unix milliseconds.
    pub created_at: i64,
}

/// Tunnels.
pub struct Mesh<'a>(pub(super) &'a Store);

impl Mesh<'_> {
    /// Gives a device a tunnel; one that it had before is replaced and keeps its number. `None` where all numbers are
    /// taken.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such device.
    pub async fn put(
        &self,
        device: &str,
        public_key: [u8; 32],
    ) -> Result<Option<MeshPeer>, StoreError> {
        let device = device.to_owned();
        self.0
            .write(move |transaction| {
                let known: bool = transaction.query_row(
                    "SELECT EXISTS (SELECT 1 FROM credentials WHERE id = ? AND kind = 'device')",
                    [&device],
                    |row| row.get(0),
                )?;
                if !known {
                    return Err(StoreError::NotFound {
                        what: "device",
                        id: device,
                    });
                }
                let had: Option<u8> = transaction
                    .query_row(
                        "SELECT number FROM mesh_peers WHERE device = ?",
                        [&device],
                        |row| row.get(0),
                    )
                    .optional()?;
                let taken = transaction
                    .prepare("SELECT number FROM mesh_peers")?
                    .query_map([], |row| row.get(0))?
                    .collect::<Result<Vec<u8>, _>>()?;
                let free = || NUMBERS.into_iter().find(|number| !taken.contains(number));
                let Some(number) = had.or_else(free) else {
                    return Ok(None);
                };
                let peer = MeshPeer {
                    device,
                    public_key,
                    number,
                    endpoint: None,
                    created_at: now_ms(),
                };
                transaction.execute(
                    "INSERT OR REPLACE INTO mesh_peers (device, public_key, number, created_at) VALUES (?,?,?,?)",
                    params![peer.device, peer.public_key, peer.number, peer.created_at],
                )?;
                Ok(Some(peer))
            })
            .await
    }

    /// Returns all tunnels, by number.
    ///
    /// # Errors
    /// The store fails.
    pub async fn all(&self) -> Result<Vec<MeshPeer>, StoreError> {
        self.0
            .read(|connection| {
                let mut rows = connection.prepare_cached(
                    "SELECT device, public_key, number, endpoint, created_at FROM mesh_peers ORDER BY number",
                )?;
                let rows = rows.query_map([], peer)?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Takes a device's tunnel away; the device stays.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it has none.
    pub async fn remove(&self, device: &str) -> Result<(), StoreError> {
        let device = device.to_owned();
        self.0
            .write(move |transaction| {
                let removed =
                    transaction.execute("DELETE FROM mesh_peers WHERE device = ?", [&device])?;
                match removed {
                    0 => Err(StoreError::NotFound {
                        what: "tunnel",
                        id: device,
                    }),
                    _ => Ok(()),
                }
            })
            .await
    }

    /// Notes where devices are now.
    ///
    /// # Errors
    /// The store fails.
    pub async fn moved(&self, places: Vec<(String, SocketAddr)>) -> Result<(), StoreError> {
        self.0
            .write(move |transaction| {
                let mut statement =
                    transaction.prepare("UPDATE mesh_peers SET endpoint = ? WHERE device = ?")?;
                for (device, place) in places {
                    statement.execute(params![place.to_string(), device])?;
                }
                Ok(())
            })
            .await
    }
}

fn peer(row: &Row<'_>) -> Result<MeshPeer, rusqlite::Error> {
    let endpoint: Option<String> = row.get("endpoint")?;
    Ok(MeshPeer {
        device: row.get("device")?,
        public_key: row.get("public_key")?,
        number: row.get("number")?,
        // Only a greeting depends on it.
        endpoint: endpoint.and_then(|text| text.parse().ok()),
        created_at: row.get("created_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Credential, CredentialKind, PersonId, Scope};

    #[tokio::test]
    async fn a_tunnel_has_a_number_and_ends_with_its_device() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for id in ["a", "b"] {
            let credential = Credential {
                id: id.into(),
                person: PersonId::owner(),
                kind: CredentialKind::Device,
                name: id.into(),
                scope: Scope::Chat,
                created_at: 1,
                seen_at: None,
                seen_from: None,
                expires_at: None,
            };
            let secret = [id.as_bytes()[0]; 32];
            store.access().add(&credential, secret, None).await.unwrap();
        }
        let mesh = store.mesh();
        assert!(mesh.put("nobody", [0; 32]).await.is_err());
        let number = async |device: &str, key: u8| {
            mesh.put(device, [key; 32]).await.unwrap().unwrap().number
        };
        assert_eq!(number("a", 1).await, 2);
        assert_eq!(number("b", 2).await, 3);
        assert_eq!(number("a", 3).await, 2, "a new key, the same address");
        let place: SocketAddr = "[2001:db8::9]:4444".parse().unwrap();
        mesh.moved(vec![("b".into(), place)]).await.unwrap();
        let all = mesh.all().await.unwrap();
        assert_eq!((all[0].public_key, all[0].endpoint), ([3; 32], None));
        assert_eq!(all[1].endpoint, Some(place));
        store
            .access()
            .remove(CredentialKind::Device, "a")
            .await
            .unwrap();
        mesh.remove("b").await.unwrap();
        assert!(mesh.remove("b").await.is_err());
        assert_eq!(mesh.all().await.unwrap(), []);
    }
}
