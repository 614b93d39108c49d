//! `onebit doctor`: every prerequisite, found and wanted, with the line that mends it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Failed;
use super::client::Client;
use crate::config::{ComputeDevice, Config};
use crate::engines::ternary::gpu;
use crate::host::checks::{Check, Facts, Library, Port, Verdict, checks};
use crate::host::{Host, Vendor, disk_free_bytes};

pub(super) async fn run(
    config: Config,
    root: &Path,
    json: bool,
    fix_script: bool,
) -> Result<(), Failed> {
    let host = Host::read(root);
    let address = config
        .server
        .listen
        .first()
        .copied()
        .ok_or("no address to listen on; set server.listen")?;
    let served = Client::find(&config.data_dir).await.is_some();
    let facts = Facts {
        host: &host,
        hip: host
            .gpus
            .iter()
            .any(|gpu| gpu.vendor == Vendor::Amd)
            .then(hip),
        vulkan: (!host.gpus.is_empty()).then(vulkan),
        port: (address.to_string(), port(address, served)),
        data: (
            config.data_dir.display().to_string(),
            writable(&config.data_dir),
        ),
        disk_free_bytes: disk_free_bytes(&existing(&config.data_dir)),
    };
    let checks = checks(&facts);
    if fix_script {
        print!("{}", script(&checks));
        return Ok(());
    }
    if json {
        println!(
            "{}",
            json!({ "checks": checks.iter().map(view).collect::<Vec<_>>() })
        );
    } else {
        checks.iter().for_each(print);
    }
    let problems = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Problem)
        .count();
    match problems {
        0 => Ok(()),
        1 => Err("one problem keeps the appliance from working; its fix is above".into()),
        n => Err(
            format!("{n} problems keep the appliance from working; their fixes are above").into(),
        ),
    }
}

/// The fixes as a shell script that stops at the first one that fails. Advice that no command gives is a comment.
fn script(checks: &[Check]) -> String {
    let mut script = String::from(
        "#!/bin/sh\n# What `onebit doctor` advises for this machine. Read it before you run it.\nset -eu\n",
    );
    let mut known = Vec::new();
    for check in checks.iter().filter(|check| check.verdict != Verdict::Good) {
        let Some(fix) = &check.fix else { continue };
        script.push_str(&format!("\n# {}: {}\n", check.name, check.found));
        // Several checks may be mended by one line; running it once is enough.
        if known.contains(&fix) {
            script.push_str("# the line for it stands above\n");
        } else {
            script.push_str(&format!("{fix}\n"));
            known.push(fix);
        }
    }
    if known.is_empty() {
        script.push_str("\n# nothing to mend\n");
    }
    script
}

fn view(check: &Check) -> serde_json::Value {
    json!({
        "name": check.name,
        "verdict": check.verdict.word(),
        "found": check.found,
        "wanted": check.wanted,
        "why": check.why,
        "fix": check.fix,
    })
}

/// A good check is one line; the others say what to do.
fn print(check: &Check) {
    println!(
        "{:<8} {:<18} {}",
        check.verdict.word(),
        check.name,
        check.found
    );
    if check.verdict != Verdict::Good {
        println!("{:27} wanted: {}", "", check.wanted);
        println!("{:27} why:    {}", "", check.why);
    }
    if let Some(fix) = &check.fix {
        println!("{:27} fix:    {fix}", "");
    }
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

    fn check(name: &'static str, verdict: Verdict, fix: Option<&str>) -> Check {
        Check {
            name,
            verdict,
            found: "this".into(),
            wanted: "that",
            why: "because",
            fix: fix.map(str::to_owned),
        }
    }

    #[test]
    fn a_script_says_each_line_once() {
        let checks = [
            check("a", Verdict::Good, Some("never")),
            check("b", Verdict::Problem, Some("sudo mend")),
            check("c", Verdict::Advice, Some("sudo mend")),
            check("d", Verdict::Advice, None),
        ];
        let script = script(&checks);
        assert_eq!(script.matches("sudo mend").count(), 1, "{script}");
        assert!(!script.contains("never") && script.starts_with("#!/bin/sh\n"));
        assert!(super::script(&checks[..1]).contains("nothing to mend"));
    }
}
