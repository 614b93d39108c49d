//! The built-in mesh: phones reach this machine, and nothing else, by WireGuard.
//!
//! All of it is in this process: no interface of the system, no rights, one UDP socket. Datagrams go through
//! [`wireguard`] into packets, packets through [`netstack`] into streams, and streams to the server with the device
//! whose key opened the tunnel. [`ports`] asks the router to let the port through. Nothing is open while no device has a
//! tunnel.

mod error;
pub mod headscale;
mod netstack;
mod pinhole;
mod ports;
pub mod tailnet;
mod task;
mod wireguard;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::MeshConfig;
use crate::store::{MeshPeer, Store};
use netstack::{Addresses, MTU};
use task::{Command, Task};
use wireguard::{Far, Key, public_of};

pub use error::MeshError;
pub use netstack::MeshStream;
pub use ports::{By, Look, Surroundings, Verdict};
pub use wireguard::Traffic;

/// Streams that have been opened and not yet taken in by the server.
const ACCEPTED_MAX: usize = 256;

/// Commands to the task; each is a device that comes or goes.
const COMMANDS_MAX: usize = 16;

/// What the appliance keeps to itself: its private key, and what shared keys are made of.
pub type Secret = [u8; 64];

/// A tunnel that has just been made. The private key is here and nowhere else.
pub struct Made {
    /// The device, its number and its public key.
    pub peer: MeshPeer,
    private: Key,
    shared: Key,
}

/// One device's tunnel and how it is doing.
pub struct Peer {
    /// What is kept of it.
    pub kept: MeshPeer,
    /// Its address inside.
    pub address: Ipv4Addr,
    /// What passes through it; `None` while the mesh does not run.
    pub traffic: Option<Traffic>,
    /// Streams that are open.
    pub streams: usize,
}

/// The mesh of one appliance.
pub struct Mesh {
    config: MeshConfig,
    store: Store,
    look: Look,
    running: tokio::sync::Mutex<Option<Running>>,
    verdict: watch::Sender<Verdict>,
    accepted: mpsc::Sender<MeshStream>,
    streams: Mutex<Option<mpsc::Receiver<MeshStream>>>,
    /// Said once more to whoever asks how the mesh is.
    failed: Mutex<Option<String>>,
}

struct Running {
    commands: mpsc::Sender<Command>,
    door: watch::Sender<bool>,
    keeper: Option<tokio::task::JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each holder leaves the value whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn private_of(secret: &Secret) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(&secret[..32]);
    key
}

/// What a device and we share beside our keys. It is made anew each time it is needed, so that no row holds it.
fn shared_of(secret: &Secret, public: &Key) -> Key {
    let mut hash = Sha256::new();
    hash.update(&secret[32..]);
    hash.update(public);
    hash.finalize().into()
}

fn addresses_of(config: &MeshConfig, secret: &Secret) -> Addresses {
    Addresses::new(config.network, &public_of(&private_of(secret)))
}

impl Mesh {
    /// Makes the value; opens nothing yet.
    pub fn new(store: Store, config: MeshConfig, look: Look) -> Mesh {
        let (accepted, streams) = mpsc::channel(ACCEPTED_MAX);
        Mesh {
            config,
            store,
            look,
            running: tokio::sync::Mutex::new(None),
            verdict: watch::channel(Verdict::Looking).0,
            accepted,
            streams: Mutex::new(Some(streams)),
            failed: Mutex::default(),
        }
    }

    /// Streams that devices open; there is one taker.
    pub fn streams(&self) -> Option<mpsc::Receiver<MeshStream>> {
        lock(&self.streams).take()
    }

    /// Our two addresses inside.
    pub fn addresses(&self, secret: &Secret) -> (Ipv4Addr, Ipv6Addr) {
        addresses_of(&self.config, secret).ours()
    }

    /// A device's address inside.
    pub fn address_of(&self, secret: &Secret, peer: &MeshPeer) -> Ipv4Addr {
        addresses_of(&self.config, secret).of(peer.number).0
    }

    /// Our public key, as WireGuard writes it.
    pub fn public_key(&self, secret: &Secret) -> String {
        STANDARD.encode(public_of(&private_of(secret)))
    }

    /// Whether phones get through from anywhere, as far as is known.
    pub fn verdict(&self) -> Verdict {
        if !self.config.endpoint.is_empty() {
            return Verdict::Named(self.config.endpoint.clone());
        }
        if !self.config.map_port {
            return Verdict::NotAsked;
        }
        self.verdict.borrow().clone()
    }

    /// Waits until somebody has looked.
    pub async fn looked(&self) -> Verdict {
        let mut seen = self.verdict.subscribe();
        if self.verdict() == Verdict::Looking {
            let _ = seen.wait_for(|verdict| *verdict != Verdict::Looking).await;
        }
        self.verdict()
    }

    /// Why the mesh does not run although a device has a tunnel.
    pub fn failure(&self) -> Option<String> {
        lock(&self.failed).clone()
    }

    /// Whether the port is open.
    pub async fn is_running(&self) -> bool {
        self.running.lock().await.is_some()
    }

    /// Opens the port, where it is not open and a device has a tunnel, and greets the devices where they were last.
    /// `ports` are those of the appliance inside.
    ///
    /// # Errors
    /// The port is another program's, or the store fails.
    pub async fn start(&self, secret: &Secret, ports: Vec<u16>) -> Result<(), MeshError> {
        let peers = self.store.mesh().all().await?;
        if !self.config.enabled || peers.is_empty() {
            return Ok(());
        }
        let mut running = self.running.lock().await;
        if running.is_some() {
            return Ok(());
        }
        let opened = self.open(secret, ports, &peers);
        *lock(&self.failed) = opened.as_ref().err().map(ToString::to_string);
        *running = Some(opened?);
        Ok(())
    }

    fn open(
        &self,
        secret: &Secret,
        ports: Vec<u16>,
        peers: &[MeshPeer],
    ) -> Result<Running, MeshError> {
        let socket = task::bind(self.config.port).map_err(|source| MeshError::Port {
            port: self.config.port,
            source,
        })?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| MeshError::Random(error.to_string()))?;
        let (commands, obeyed) = mpsc::channel(COMMANDS_MAX);
        let mut task = Task::new(
            socket,
            Box::new(wireguard::Boring::new(&private_of(secret))),
            netstack::Netstack::new(
                addresses_of(&self.config, secret),
                ports,
                u64::from_le_bytes(seed),
            ),
            task::Ends {
                store: self.store.clone(),
                accepted: self.accepted.clone(),
                commands: obeyed,
            },
        );
        for peer in peers {
            task.put(&far(secret, peer), peer.device.clone());
        }
        tokio::spawn(task.run());
        let (door, shut) = watch::channel(false);
        let asks = self.config.map_port && self.config.endpoint.is_empty();
        let keeper = NonZeroU16::new(self.config.port)
            .filter(|_| asks)
            .map(|port| {
                let look = Arc::clone(&self.look);
                tokio::spawn(ports::keep(port, look, self.verdict.clone(), shut))
            });
        tracing::info!(
            port = self.config.port,
            devices = peers.len(),
            "the mesh is open"
        );
        Ok(Running {
            commands,
            door,
            keeper,
        })
    }

    /// Gives a device a tunnel; the one that it had is gone.
    ///
    /// # Errors
    /// The mesh is off or cannot be opened, there is no such device, or no address is left.
    pub async fn put(
        &self,
        secret: &Secret,
        ports: Vec<u16>,
        device: &str,
    ) -> Result<Made, MeshError> {
        if !self.config.enabled {
            return Err(MeshError::Off);
        }
        let mut private = [0; 32];
        getrandom::fill(&mut private).map_err(|error| MeshError::Random(error.to_string()))?;
        let put = self.store.mesh().put(device, public_of(&private)).await?;
        let peer = put.ok_or(MeshError::Full)?;
        if let Some(running) = &*self.running.lock().await {
            let (done, obeyed) = oneshot::channel();
            let put = Command::Put(far(secret, &peer), peer.device.clone(), done);
            if running.commands.send(put).await.is_ok() {
                let _ = obeyed.await;
            }
        }
        self.start(secret, ports).await?;
        let shared = shared_of(secret, &peer.public_key);
        Ok(Made {
            peer,
            private,
            shared,
        })
    }

    /// Forgets the tunnel of a device: its streams break off now, and it is a stranger from then on.
    pub async fn cut(&self, device: &str) {
        let commands = match &*self.running.lock().await {
            Some(running) => running.commands.clone(),
            None => return,
        };
        let (done, obeyed) = oneshot::channel();
        let remove = Command::Remove(device.to_owned(), done);
        if commands.send(remove).await.is_ok() {
            let _ = obeyed.await;
        }
    }

    /// Closes the port when no device has a tunnel any more.
    ///
    /// # Errors
    /// The store fails.
    pub async fn close_if_unused(&self) -> Result<(), MeshError> {
        let mut running = self.running.lock().await;
        if self.store.mesh().all().await?.is_empty()
            && let Some(open) = running.take()
        {
            shut(open).await;
            self.verdict.send_replace(Verdict::Looking);
            tracing::info!("the mesh is closed: no device has a tunnel");
        }
        Ok(())
    }

    /// Takes back what the router was asked for; streams go on until the process ends.
    pub async fn stop(&self) {
        let mut running = self.running.lock().await;
        if let Some(open) = running.as_mut() {
            open.door.send_replace(true);
            if let Some(keeper) = open.keeper.take() {
                let _ = keeper.await;
            }
        }
    }

    /// All tunnels and how they are doing.
    ///
    /// # Errors
    /// The store fails.
    pub async fn peers(&self, secret: &Secret) -> Result<Vec<Peer>, MeshError> {
        let kept = self.store.mesh().all().await?;
        let commands = self
            .running
            .lock()
            .await
            .as_ref()
            .map(|r| r.commands.clone());
        let mut doing = HashMap::new();
        if let Some(commands) = commands {
            let (tell, told) = oneshot::channel();
            if commands.send(Command::Tell(tell)).await.is_ok() {
                doing = told.await.unwrap_or_default();
            }
        }
        let addresses = addresses_of(&self.config, secret);
        let with = |kept: MeshPeer| {
            let found = doing.remove(&kept.number);
            let (traffic, streams) = found.map_or((None, 0), |(traffic, n)| (Some(traffic), n));
            Peer {
                address: addresses.of(kept.number).0,
                kept,
                traffic,
                streams,
            }
        };
        Ok(kept.into_iter().map(with).collect())
    }

    /// The settings of a device for the WireGuard app, with its private key: what a QR code shows once.
    pub fn settings(&self, secret: &Secret, made: &Made, endpoint: &str) -> String {
        let addresses = addresses_of(&self.config, secret);
        let (four, six) = addresses.of(made.peer.number);
        let (our_four, our_six) = addresses.ours();
        let key = |key: &Key| STANDARD.encode(key);
        format!(
            "[Interface]\nPrivateKey = {}\nAddress = {four}/32, {six}/128\nMTU = {MTU}\n\n\
             [Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = {our_four}/32, {our_six}/128\nEndpoint = {endpoint}\n",
            key(&made.private),
            self.public_key(secret),
            key(&made.shared),
        )
    }

    /// Where a device in the same house finds us.
    pub fn home(&self, addresses: &[IpAddr]) -> Option<String> {
        let best = addresses.iter().min_by_key(|ip| match ip {
            IpAddr::V4(ip) => (ip.is_link_local(), u8::from(!ip.is_private())),
            IpAddr::V6(ip) => (ip.is_unicast_link_local(), 2),
        })?;
        let usable = match best {
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        };
        usable.then(|| SocketAddr::new(*best, self.config.port).to_string())
    }
}

fn far(secret: &Secret, peer: &MeshPeer) -> Far {
    Far {
        number: peer.number,
        public: peer.public_key,
        shared: shared_of(secret, &peer.public_key),
        endpoint: peer.endpoint,
    }
}

async fn shut(open: Running) {
    open.door.send_replace(true);
    if let Some(keeper) = open.keeper {
        let _ = keeper.await;
    }
    let (done, obeyed) = oneshot::channel();
    if open.commands.send(Command::Close(done)).await.is_ok() {
        let _ = obeyed.await;
    }
}

#[cfg(test)]
mod tests;
