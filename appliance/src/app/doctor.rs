//! The facts that `doctor` compares, gathered from this machine: for the command line and for the page.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{App, AppError};
use crate::config::{ComputeDevice, Config, Variables, environment};
use crate::engines::ternary::gpu;
use crate::host::checks::{Check, Facts, Library, Port, checks};
use crate::host::{Host, Vendor, disk_free_bytes};
use onebit_kernels::gpu::Identity;

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
    let has = |vendor| host.gpus.iter().any(|gpu| gpu.vendor == vendor);
    let (listens, state) = match config.server.listen.first() {
        Some(address) => (address.to_string(), port(*address, served)),
        None => {
            let why = "no address to listen on; set server.listen";
            ("nowhere".to_owned(), Port::Taken(why.to_owned()))
        }
    };
    checks(&Facts {
        host: &host,
        hip: has(Vendor::Amd).then(|| way("hip")),
        cuda: has(Vendor::Nvidia).then(|| way("cuda")),
        vulkan: (!host.gpus.is_empty()).then(|| way("vulkan")),
        lane: (!host.gpus.is_empty()).then(|| lane(config.ternary.device)),
        port: (listens, state),
        data: (
            config.data_dir.display().to_string(),
            writable(&config.data_dir),
        ),
        disk_free_bytes: disk_free_bytes(&existing(&config.data_dir)),
        clock_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        xrt_variables: xrt_variables(&environment),
    })
}

/// What one way to drive GPUs offers.
fn way(name: &str) -> Library {
    let way = gpu::ways().iter().find(|way| way.name == name);
    let devices = way.map(|way| &way.devices);
    let usable = |found: &&Identity| !found.software;
    match devices {
        Some(Ok(list)) => list.iter().find(usable).map_or_else(
            || Err("its loader offers no gpu".to_owned()),
            |device| Ok(format!("{} through {}", device.device, device.driver)),
        ),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("unknown".to_owned()),
    }
}

/// What the built-in engine computes ternary models on, and why not on a GPU.
fn lane(wanted: ComputeDevice) -> Library {
    match gpu::device(wanted) {
        Ok(Some(device)) => Ok(format!("{} on {}", gpu::lane(&device).name, device.device)),
        Ok(None) => Ok("ternary.cpu, as the setting ternary.device says".to_owned()),
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
fn xrt_variables(variables: Variables<'_>) -> Vec<String> {
    let own = ["XILINX_XRT", "XRT_INI_PATH"].map(|name| (name, ""));
    own.into_iter()
        .chain([("LD_LIBRARY_PATH", "/xrt")])
        .filter(|(name, part)| variables(name).is_some_and(|value| value.contains(part)))
        .map(|(name, _)| name.to_owned())
        .collect()
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
        let found = xrt_variables(&|name| match name {
            "XILINX_XRT" => Some("/opt/xilinx/xrt".to_owned()),
            "LD_LIBRARY_PATH" => Some("/opt/xilinx/xrt/lib:/usr/lib".to_owned()),
            _ => None,
        });
        assert_eq!(found, ["XILINX_XRT", "LD_LIBRARY_PATH"]);
        let other = |name: &str| (name == "LD_LIBRARY_PATH").then(|| "/opt/other/lib".to_owned());
        assert!(xrt_variables(&other).is_empty());
    }
}
