//! `onebit pin`, `unpin`, `group`: what stays loaded, and which artifacts share a name.

use clap::Args;
use serde_json::{Value, json};

use super::Failed;
use super::client::Client;
use crate::app::App;
use crate::config::Config;

#[derive(Args)]
pub(super) struct GroupArgs {
    /// The name that requests will use.
    name: String,
    /// The models among which the router chooses; none take the name away.
    models: Vec<String>,
}

/// Pins or unpins: in the running appliance, so that it happens now, else in the store for its next start.
pub(super) async fn pin(
    config: Config,
    model: &str,
    pinned: bool,
    json: bool,
) -> Result<(), Failed> {
    let id = match Client::find(&config.data_dir).await {
        Some(client) => {
            let verb = if pinned { "pin" } else { "unpin" };
            let path = format!("/onebit/models/{model}/{verb}");
            let said = client.post(&path, &json!({})).await?;
            said["id"].as_str().unwrap_or(model).to_owned()
        }
        None => App::open(config)?.pin(model, pinned).await?.id,
    };
    say(
        &json!({ "id": id, "pinned": pinned }),
        &match pinned {
            true => format!("{id} stays loaded"),
            false => format!("{id} leaves when its room is needed"),
        },
        json,
    );
    Ok(())
}

pub(super) async fn group(config: Config, args: &GroupArgs, json: bool) -> Result<(), Failed> {
    // The running appliance reads the store at every request of such a name.
    App::open(config)?
        .set_logical(&args.name, &args.models)
        .await?;
    let words = match args.models.as_slice() {
        [] => format!("{} stands for nothing now", args.name),
        models => format!("{} stands for {}", args.name, models.join(", ")),
    };
    say(
        &json!({ "name": args.name, "models": args.models }),
        &words,
        json,
    );
    Ok(())
}

fn say(value: &Value, words: &str, json: bool) {
    if json {
        println!("{value}");
    } else {
        println!("{words}");
    }
}
