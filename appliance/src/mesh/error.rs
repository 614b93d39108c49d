//! Everything that the mesh can fail with.

use crate::error::{Failing, Kind};
use crate::store::StoreError;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The owner has turned it off.
    #[error(
        "the mesh is turned off; set enabled = true under [mesh] and start the appliance again"
    )]
    Off,
    /// Another program has the port.
    #[error("UDP port {port} cannot be opened ({source}); set another under [mesh] port")]
    Port {
        /// The port.
        port: u16,
        /// The system's reason.
        source: std::io::Error,
    },
    /// All addresses are given away.
    #[error("253 devices have a tunnel; take one from a device that is not used any more")]
    Full,
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
    /// Rows.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failing for MeshError {
    fn kind(&self) -> Kind {
        match self {
            MeshError::Off | MeshError::Full | MeshError::Port { .. } => Kind::Conflict,
            MeshError::Random(_) => Kind::Internal,
            MeshError::Store(error) => error.kind(),
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            MeshError::Off => "mesh_off",
            MeshError::Port { .. } => "mesh_port",
            MeshError::Full => "mesh_full",
            MeshError::Random(_) => return None,
            MeshError::Store(error) => return error.code(),
        })
    }
}
