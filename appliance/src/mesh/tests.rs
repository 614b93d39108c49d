//! The mesh over a real store and real sockets of loopback.

use super::*;
use crate::domain::{Credential, CredentialKind, PersonId, Scope};

const SECRET: Secret = [7; 64];

async fn store_with(devices: &[&str]) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for (index, id) in devices.iter().enumerate() {
        let credential = Credential {
            id: (*id).to_owned(),
            person: PersonId::owner(),
            kind: CredentialKind::Device,
            name: "Phone".into(),
            scope: Scope::Chat,
            created_at: 1,
            seen_at: None,
            seen_from: None,
            expires_at: None,
        };
        let secret = [u8::try_from(index).unwrap(); 32];
        store.access().add(&credential, secret, None).await.unwrap();
    }
    (folder, store)
}

fn mesh(store: &Store, port: u16) -> Mesh {
    let config = MeshConfig {
        port,
        map_port: false,
        ..MeshConfig::default()
    };
    Mesh::new(store.clone(), config, Arc::new(Surroundings::default))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[tokio::test]
async fn the_port_is_open_only_while_a_device_has_a_tunnel() {
    let (_folder, store) = store_with(&["a"]).await;
    let port = free_port();
    let mesh = mesh(&store, port);
    mesh.start(&SECRET, vec![80]).await.unwrap();
    assert!(!mesh.is_running().await);
    mesh.put(&SECRET, vec![80], "a").await.unwrap();
    assert!(mesh.is_running().await);
    assert!(std::net::UdpSocket::bind(("0.0.0.0", port)).is_err());
    let peers = mesh.peers(&SECRET).await.unwrap();
    assert_eq!(peers[0].address, Ipv4Addr::new(10, 77, 0, 2));
    assert_eq!(peers[0].traffic.as_ref().unwrap().handshake, None);
    store.mesh().remove("a").await.unwrap();
    mesh.cut("a").await;
    mesh.close_if_unused().await.unwrap();
    assert!(!mesh.is_running().await);
    std::net::UdpSocket::bind(("0.0.0.0", port)).unwrap();
}

#[tokio::test]
async fn a_port_of_another_program_is_named() {
    let (_folder, store) = store_with(&["a"]).await;
    let taken = std::net::UdpSocket::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mesh = mesh(&store, port);
    let error = mesh.put(&SECRET, vec![80], "a").await.err().unwrap();
    assert!(matches!(error, MeshError::Port { .. }), "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    assert_eq!(mesh.failure(), Some(error.to_string()));
    drop(taken);
    mesh.start(&SECRET, vec![80]).await.unwrap();
    assert_eq!(mesh.failure(), None);
}

#[tokio::test]
async fn settings_are_what_the_app_reads() {
    let (_folder, store) = store_with(&["a"]).await;
    let mesh = mesh(&store, free_port());
    let made = mesh.put(&SECRET, vec![80], "a").await.unwrap();
    let text = mesh.settings(&SECRET, &made, "192.168.1.5:51820");
    assert!(
        text.len() < 420,
        "a code that a camera reads: {}",
        text.len()
    );
    let value = |key: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")));
        line.unwrap().split_once(" = ").unwrap().1
    };
    let private: Key = STANDARD
        .decode(value("PrivateKey"))
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(public_of(&private), made.peer.public_key);
    assert_eq!(value("PublicKey"), mesh.public_key(&SECRET));
    assert!(value("Address").starts_with("10.77.0.2/32, fd"));
    assert!(value("AllowedIPs").starts_with("10.77.0.1/32, fd"));
    assert_eq!(value("MTU"), "1280");
    let again = mesh.put(&SECRET, vec![80], "a").await.unwrap();
    assert_ne!(again.peer.public_key, made.peer.public_key);
    assert_ne!(again.shared, made.shared);
}

#[tokio::test]
async fn what_is_turned_off_gives_no_tunnel() {
    let (_folder, store) = store_with(&["a"]).await;
    let config = MeshConfig {
        enabled: false,
        ..MeshConfig::default()
    };
    let mesh = Mesh::new(store, config, Arc::new(Surroundings::default));
    let error = mesh.put(&SECRET, vec![80], "a").await.err().unwrap();
    assert!(matches!(error, MeshError::Off));
}

#[test]
fn home_is_the_private_address() {
    let config = MeshConfig::default();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mesh = Mesh::new(store, config, Arc::new(Surroundings::default));
    let home = |list: &[&str]| {
        let list: Vec<IpAddr> = list.iter().map(|ip| ip.parse().unwrap()).collect();
        mesh.home(&list)
    };
    let found = home(&["fe80::1", "8.8.8.8", "2a02::5", "192.168.1.5"]);
    assert_eq!(found.as_deref(), Some("192.168.1.5:51820"));
    assert_eq!(home(&["2a02::5"]).as_deref(), Some("[2a02::5]:51820"));
    assert_eq!(home(&["fe80::1", "169.254.7.7"]), None);
}
