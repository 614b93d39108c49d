//! The facts that `doctor` compares, gathered from this machine: for the command line and for the page.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{App, AppError};
use crate::config::{ComputeDevice, Config};
use crate::engines::ternary::gpu;
use crate::host::checks::{Check, Facts, Library, Port, checks};
use crate::host::{Host, Vendor, disk_free_bytes};

impl App {
    /// Looks at this machine as `onebit doctor` does.
    ///
    /// # Errors
    /// The reader broke.
    pub async fn check_up(&self) -> Result<Vec<Check>, AppError> {
        let config = self.config().clone();
        let looked = tokio::task::spawn_blocking(move || check_up(&config, Path::new("/"), true));
        looked
            .await
            .map_err(|panic| AppError::Measure(panic.to_string()))
    }
}

/// Every prerequisite of an appliance with these settings; `served` says that it runs already.
pub fn check_up(config: &Config, root: &Path, served: bool) -> Vec<Check> {
    let host = Host::read(root);
    let amd = host.gpus.iter().any(|gpu| gpu.vendor == Vendor::Amd);
    let (listens, state) = match config.server.listen.first() {
        Some(address) => (address.to_string(), port(*address, served)),
        None => {
            let why = "no address to listen on; set server.listen";
            ("nowhere".to_owned(), Port::Taken(why.to_owned()))
        }
    };
    checks(&Facts {
        host: &host,
        hip: amd.then(hip),
        vulkan: (!host.gpus.is_empty()).then(vulkan),
        port: (listens, state),
        data: (
            config.data_dir.display().to_string(),
            writable(&config.data_dir),
        ),
        disk_free_bytes: disk_free_bytes(&existing(&config.data_dir)),
        clock_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        xrt_variables: xrt_variables(std::env::vars_os()),
    })
}

fn hip() -> Library {
    match onebit_kernels::drivers::hip() {
        Ok(hip) => Ok(match hip.compiler {
            Some((major, minor)) => format!("{}, compiler {major}.{minor}", hip.version),
            None => format!("{}, without its run-time compiler", hip.version),
        }),
        Err(error) => Err(error.to_string()),
    }
}

fn vulkan() -> Library {
    match gpu::device(ComputeDevice::Auto) {
        Ok(Some(device)) => Ok(format!("{} through {}", device.device, device.driver)),
        Ok(None) => Err("no device".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn port(address: SocketAddr, served: bool) -> Port {
    match TcpListener::bind(address) {
        Ok(_) => Port::Free,
        Err(error) if error.kind() == ErrorKind::AddrInUse && served => Port::Ours,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Port::Taken("another program listens there".to_owned())
        }
        Err(error) => Port::Taken(error.to_string()),
    }
}

/// Names of the variables that XRT's setup script sets: its own, and a library path that leads to it.
fn xrt_variables(all: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let mut names: Vec<String> = all
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| {
            name == "XILINX_XRT"
                || name.starts_with("XRT_")
                || (name == "LD_LIBRARY_PATH" && value.contains("/xrt"))
        })
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names
}

/// The folder itself, or the nearest one above it that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"))
        .to_owned()
}

/// Writes and removes an empty file, in the folder that exists already.
fn writable(data: &Path) -> Result<(), String> {
    let probe = existing(data).join(format!(".onebit-doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe));
    written.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_xrts_setup_script_are_named() {
        let set = [
            ("XILINX_XRT", "/opt/xilinx/xrt"),
            ("LD_LIBRARY_PATH", "/opt/xilinx/xrt/lib:/usr/lib"),
            ("PATH", "/opt/xilinx/xrt/bin"),
            ("XRT_INI_PATH", ""),
        ];
        let found = xrt_variables(set.map(|(name, value)| (name.into(), value.into())).into_iter());
        assert_eq!(found, ["LD_LIBRARY_PATH", "XILINX_XRT", "XRT_INI_PATH"]);
    }
}
