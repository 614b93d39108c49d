//! `onebit remote`: models of servers elsewhere, another onebit among them.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Failed;
use crate::app::{App, NewRemote};
use crate::config::Config;

#[derive(Args)]
pub(super) struct RemoteArgs {
    /// The server's address, such as https://box.lan:8000. One in a private network also needs its host under
    /// fetch.private_hosts.
    address: String,
    /// Which of its models; all where none is named.
    models: Vec<String>,
    /// The name that requests will use, for one model.
    #[arg(long)]
    name: Option<String>,
    /// A file that holds the key which the server wants.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(super) async fn run(config: Config, args: RemoteArgs, json: bool) -> Result<(), Failed> {
    let key = match &args.key_file {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    let added = App::open(config)?
        .add_remote(NewRemote {
            base: args.address,
            models: args.models,
            name: args.name,
            key,
        })
        .await?;
    if json {
        let ids: Vec<_> = added.iter().map(|model| &model.id).collect();
        println!("{}", json!({ "models": ids }));
    } else {
        for model in &added {
            println!(
                "{} is listed; `onebit rm {}` takes it away",
                model.id, model.id
            );
        }
    }
    Ok(())
}
