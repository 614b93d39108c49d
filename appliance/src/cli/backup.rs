//! `onebit backup` and `onebit restore`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::serve::Presence;
use super::{Failed, size};
use crate::app::backup;
use crate::config::Config;

#[derive(Args)]
pub(super) struct BackupArgs {
    /// The file to write; it must not exist.
    file: PathBuf,
    /// Put the model files in as well.
    #[arg(long)]
    with_models: bool,
}

pub(super) fn write(config: &Config, args: BackupArgs, json: bool) -> Result<(), Failed> {
    let amount = backup::write(&config.data_dir, &args.file, args.with_models)?;
    if json {
        println!(
            "{}",
            json!({ "file": args.file, "files": amount.files, "bytes": amount.bytes })
        );
        return Ok(());
    }
    println!(
        "{}: {} files, {}",
        args.file.display(),
        amount.files,
        size(amount.bytes)
    );
    if !args.with_models {
        println!("model files are not in it; --with-models puts them in");
    }
    Ok(())
}

pub(super) fn restore(config: &Config, file: &Path, json: bool) -> Result<(), Failed> {
    std::fs::create_dir_all(&config.data_dir)?;
    // Nobody may serve what is being replaced, from before the first change to the last.
    let _presence =
        Presence::take(&config.data_dir).map_err(|error| format!("{error}; stop it first"))?;
    let (amount, aside) = backup::restore(file, &config.data_dir)?;
    if json {
        println!(
            "{}",
            json!({ "files": amount.files, "bytes": amount.bytes, "replaced": aside })
        );
        return Ok(());
    }
    println!(
        "{} files, {}, are back in {}",
        amount.files,
        size(amount.bytes),
        config.data_dir.display()
    );
    if let Some(aside) = aside {
        println!("what they replaced is in {}", aside.display());
    }
    Ok(())
}
