//! `onebit update`: the newest signed release in place of this one.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Failed, size};
use crate::app::{VERSION, update};
use crate::config::{Config, ServerConfig, environment};
use crate::engines::Launcher;
use crate::fetch::{Fetch, Policy};

/// What an installer of this user's may want to know.
const PASSED_ON: [&str; 6] = [
    "PATH",
    "HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
];

#[derive(Args)]
pub(super) struct UpdateArgs {
    /// Only say whether there is a newer version.
    #[arg(long)]
    check: bool,
    /// Another place than the one in the settings.
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// The folder below which onebit is installed; found by itself where this is the installed program.
    #[arg(long, value_name = "DIR")]
    prefix: Option<PathBuf>,
    /// Start in the background instead of as a systemd service.
    #[arg(long)]
    no_service: bool,
}

pub(super) async fn run(config: &Config, args: UpdateArgs, json: bool) -> Result<(), Failed> {
    let mut settings = config.update.clone();
    if let Some(from) = args.from {
        settings.releases = from;
    }
    let fetch = Fetch::new(Policy {
        offline: config.fetch.offline,
        private_hosts: config.fetch.private_hosts.clone(),
    });
    let release = update::newest(&fetch, &settings).await?;
    if args.check || !release.is_newer() {
        if json {
            println!(
                "{}",
                json!({ "installed": VERSION, "newest": release.version, "newer": release.is_newer() })
            );
        } else if release.is_newer() {
            println!("onebit {} can be had; this is {VERSION}", release.version);
        } else {
            println!(
                "onebit {VERSION} is the newest; the list has {}",
                release.version
            );
        }
        return Ok(());
    }
    let prefix = args
        .prefix
        .or_else(installed_in)
        .ok_or("this program is not an installed one; say where onebit is with --prefix DIR")?;
    let folder = config.data_dir.join("downloads/update");
    let image = update::download(&fetch, &release, &folder, show).await?;
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    let mut arguments: Vec<OsString> = vec!["--prefix".into(), prefix.into()];
    // The settings' own addresses need no telling.
    let listen = &config.server.listen;
    if *listen != ServerConfig::default().listen
        && let Some(address) = listen.first()
    {
        arguments.extend(["--listen".into(), address.to_string().into()]);
    }
    if args.no_service {
        arguments.push("--no-service".into());
    }
    let variables: Vec<(&str, String)> = PASSED_ON
        .iter()
        .filter_map(|name| Some((*name, environment(name)?)))
        .collect();
    let installed = update::install(
        &Launcher::of_this_program(),
        &image,
        &release,
        &arguments,
        &variables,
    )
    .await;
    std::fs::remove_dir_all(&folder)?;
    let said = installed?;
    if json {
        println!(
            "{}",
            json!({ "was": VERSION, "installed": release.version })
        );
    } else {
        print!("{said}");
        println!("onebit {VERSION} is now {}", release.version);
    }
    Ok(())
}

/// The prefix that this program is installed in: what `PREFIX/bin/onebit` and `PREFIX/lib/onebit` have in common.
fn installed_in() -> Option<PathBuf> {
    let program = crate::config::own_program()?;
    let prefix = program.ancestors().nth(2).map(Path::to_owned)?;
    prefix.join("lib/onebit").is_dir().then_some(prefix)
}

fn show(bytes: u64) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[Kfetched {}", size(bytes));
    }
}
