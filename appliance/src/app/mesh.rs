//! Tunnels for devices: made, listed, taken away, and cut when their device is revoked.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::{App, AppError, now_ms};
use crate::config::MeshConfig;
use crate::domain::CredentialKind;
use crate::host::network;
use crate::mesh::headscale::{Headscale, Invitation, Node};
use crate::mesh::tailnet::{self, Tailnet};
use crate::mesh::{Look, Mesh, MeshStream, Peer, Secret, Surroundings, Verdict};
use crate::store::Store;

/// The file with the mesh's own keys.
const KEY_FILE: &str = "mesh-key";

/// Ports inside beside the appliance's own: what a browser tries when none is typed.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// The tailnet that this machine is in, as it was when it was last looked for.
pub(super) type KnownTailnet = Mutex<Option<Tailnet>>;

/// Whose tunnel is made.
#[derive(Debug)]
pub enum ForDevice {
    /// A paired device, by identifier.
    Known(String),
    /// One that is not paired, by the name that it gets.
    New(String),
}

/// A tunnel that has just been made: what its QR codes hold is shown once.
pub struct NewTunnel {
    /// The device's identifier.
    pub device: String,
    /// The device's address inside.
    pub address: String,
    /// Ours.
    pub own_address: String,
    /// Where the device finds us at home, and the app's settings for it.
    pub home: Option<(String, String)>,
    /// The same for anywhere else.
    pub anywhere: Option<(String, String)>,
    /// Why there is no `anywhere`, or how sure it is.
    pub verdict: Verdict,
}

/// How the mesh is doing.
pub struct MeshStatus {
    /// Whether the settings allow it.
    pub enabled: bool,
    /// Whether the port is open.
    pub running: bool,
    /// Why it is not, although a device has a tunnel.
    pub failure: Option<String>,
    /// The UDP port.
    pub port: u16,
    /// Our public key.
    pub public_key: String,
    /// Our addresses inside.
    pub addresses: Vec<IpAddr>,
    /// Where devices find us at home.
    pub home: Option<String>,
    /// Whether phones get through from anywhere.
    pub verdict: Verdict,
    /// The tailnet that this machine is in already.
    pub tailnet: Option<Tailnet>,
    /// All tunnels.
    pub peers: Vec<Peer>,
}

pub(super) fn open(store: &Store, config: &MeshConfig, offline: bool) -> Mesh {
    let look: Look = Arc::new(|| Surroundings {
        gateway: network::gateway(),
        gateway6: network::gateway6(),
        addresses: network::addresses(),
    });
    let mut config = config.clone();
    // Nothing may leave this machine, not even a question to the router.
    config.map_port &= !offline;
    Mesh::new(store.clone(), config, look)
}

impl App {
    fn mesh_secret(&self) -> Result<Secret, AppError> {
        Ok(self.trust().own_secret(KEY_FILE)?)
    }

    /// The ports that a device may open inside.
    fn mesh_ports(&self) -> Vec<u16> {
        let mut ports = self.listening_ports();
        ports.extend(USUAL_PORTS);
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Our addresses inside; none while the mesh is turned off.
    pub(super) fn mesh_addresses(&self) -> Result<Vec<IpAddr>, AppError> {
        if !self.config().mesh.enabled {
            return Ok(Vec::new());
        }
        let (four, six) = self.inner.mesh.addresses(&self.mesh_secret()?);
        Ok(vec![four.into(), six.into()])
    }

    /// Opens the mesh where a device has a tunnel; what keeps it closed is logged and told by [`App::mesh_status`].
    pub async fn start_mesh(&self) {
        let begun = async {
            let peers = self.inner.store.mesh().all().await?;
            self.inner
                .mesh
                .start(&self.mesh_secret()?, self.mesh_ports())
                .await?;
            for peer in peers {
                self.cut_when_revoked(peer.device);
            }
            Ok::<_, AppError>(())
        };
        if let Err(error) = begun.await {
            tracing::error!(%error, "devices cannot come in by the mesh");
        }
    }

    /// Takes back what the router was asked for.
    pub async fn stop_mesh(&self) {
        self.inner.mesh.stop().await;
    }

    /// Streams that devices open through their tunnels; there is one taker.
    pub fn mesh_streams(&self) -> Option<mpsc::Receiver<MeshStream>> {
        self.inner.mesh.streams()
    }

    fn cut_when_revoked(&self, device: String) {
        let live = self.trust().live(&device);
        let app = self.clone();
        tokio::spawn(async move {
            // Revoked before we began to watch: nothing would tell us.
            let found = app.inner.store.access().find(&device).await;
            if !matches!(found, Ok(None)) {
                live.revoked().await;
            }
            app.inner.mesh.cut(&device).await;
            if let Err(error) = app.inner.mesh.close_if_unused().await {
                tracing::warn!(%error, "the mesh stays open");
            }
        });
    }

    /// Gives a device a tunnel; one that it had is gone. `from` is who asks, for the audit log.
    ///
    /// # Errors
    /// The mesh is off or its port is taken, or there is no such device.
    pub async fn add_tunnel(&self, who: ForDevice, from: &str) -> Result<NewTunnel, AppError> {
        let secret = self.mesh_secret()?;
        let mesh = &self.inner.mesh;
        let (device, is_new) = match who {
            ForDevice::Known(id) => (id, false),
            ForDevice::New(name) => (self.trust().add_device(&name, from).await?.id, true),
        };
        let made = match mesh.put(&secret, self.mesh_ports(), &device).await {
            Ok(made) => made,
            Err(error) => {
                if is_new {
                    // A device that nothing shows is of no use.
                    let kind = CredentialKind::Device;
                    self.trust().remove(kind, &device, from).await?;
                }
                return Err(error.into());
            }
        };
        self.cut_when_revoked(device.clone());
        self.audit_tunnel("tunnel_added", &device, from).await?;
        let verdict = mesh.looked().await;
        let with = |endpoint: String| {
            let settings = mesh.settings(&secret, &made, &endpoint);
            (endpoint, settings)
        };
        Ok(NewTunnel {
            address: mesh.address_of(&secret, &made.peer).to_string(),
            own_address: mesh.addresses(&secret).0.to_string(),
            home: mesh.home(&network::addresses()).map(with),
            anywhere: verdict.endpoint().map(with),
            verdict,
            device,
        })
    }

    /// Takes a device's tunnel away; the device stays.
    ///
    /// # Errors
    /// It has none.
    pub async fn remove_tunnel(&self, device: &str, from: &str) -> Result<(), AppError> {
        self.inner.store.mesh().remove(device).await?;
        self.inner.mesh.cut(device).await;
        self.inner.mesh.close_if_unused().await?;
        self.audit_tunnel("tunnel_removed", device, from).await
    }

    async fn audit_tunnel(&self, event: &str, device: &str, from: &str) -> Result<(), AppError> {
        let access = self.inner.store.access();
        let found = access.find(device).await?;
        let name = found.map_or_else(|| device.to_owned(), |kept| kept.credential.name);
        Ok(access.audit(event, &name, from).await?)
    }

    /// The tailnet that this machine is in.
    pub(super) fn tailnet(&self) -> Option<Tailnet> {
        let known = self.inner.tailnet.lock();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks whether this machine is in a tailnet, whose name for it is then one of ours.
    pub(super) async fn look_for_tailnet(&self) {
        let found = tailnet::look(Path::new(&self.config().mesh.tailscaled)).await;
        let mut known = self
            .inner
            .tailnet
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *known != found {
            tracing::info!(
                name = found.as_ref().map(|net| net.name.as_str()),
                "tailnet"
            );
            *known = found;
        }
    }

    fn headscale(&self) -> Result<Headscale, AppError> {
        let set = &self.config().headscale;
        let fetch = self.inner.means.fetch.clone();
        let fetch = fetch.ok_or(crate::mesh::headscale::HeadscaleError::NotSet)?;
        Ok(Headscale::new(fetch, &set.url, &set.key)?)
    }

    /// The owner's Headscale: its version, where it tells one, and its devices.
    ///
    /// # Errors
    /// None is set, or it does not answer.
    pub async fn headscale_nodes(&self) -> Result<(Option<String>, Vec<Node>), AppError> {
        let server = self.headscale()?;
        let nodes = server.nodes().await?;
        Ok((server.version().await, nodes))
    }

    /// A key that lets one device into the owner's Headscale.
    ///
    /// # Errors
    /// None is set, or it refuses.
    pub async fn headscale_invite(&self, user: &str, from: &str) -> Result<Invitation, AppError> {
        let made = self.headscale()?.invite(user, now_ms() / 1000).await?;
        let access = self.inner.store.access();
        access.audit("headscale_invited", user, from).await?;
        Ok(made)
    }

    /// Ends a device's session in the owner's Headscale.
    ///
    /// # Errors
    /// None is set, or it has no such device.
    pub async fn headscale_expire(&self, id: &str, from: &str) -> Result<(), AppError> {
        self.headscale()?.expire(id).await?;
        let access = self.inner.store.access();
        Ok(access.audit("headscale_expired", id, from).await?)
    }

    /// How the mesh is doing.
    ///
    /// # Errors
    /// The store fails.
    pub async fn mesh_status(&self) -> Result<MeshStatus, AppError> {
        let secret = self.mesh_secret()?;
        let (mesh, config) = (&self.inner.mesh, &self.config().mesh);
        Ok(MeshStatus {
            enabled: config.enabled,
            running: mesh.is_running().await,
            failure: mesh.failure(),
            port: config.port,
            public_key: mesh.public_key(&secret),
            addresses: self.mesh_addresses()?,
            home: mesh.home(&network::addresses()),
            verdict: mesh.verdict(),
            tailnet: self.tailnet(),
            peers: mesh.peers(&secret).await?,
        })
    }
}
