//! `onebit keys` and `onebit devices`: what others show to be let in.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failed;
use super::client::Client;
use crate::app::{App, now_ms};
use crate::config::Config;
use crate::domain::{CredentialKind, PersonId, Scope};

/// Who did it, in the audit log.
const HERE: &str = "this machine's command line";

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key for a program; it is shown once.
    Add(AddArgs),
    /// List the keys.
    Ls,
    /// Remove a key; what runs with it ends.
    Rm {
        /// The key's name or identifier.
        key: String,
    },
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// What the key is for.
    name: String,
    /// infer: ask models. chat: chats and documents as well. owner: everything, over https only.
    #[arg(long, default_value = "infer", value_parser = ["infer", "chat", "owner"])]
    scope: String,
    /// Days until it ends; never when not given.
    #[arg(long)]
    days: Option<u32>,
    /// Whose it is, by identifier; yours when not given.
    #[arg(long)]
    person: Option<String>,
}

#[derive(Subcommand)]
pub(super) enum DevicesCommand {
    /// List the paired devices.
    Ls,
    /// Revoke a device; its streams end at once.
    Rm {
        /// The device's name or identifier.
        device: String,
    },
}

/// Keys are rows: with no appliance running they are written into its store, else asked of it.
pub(super) async fn keys(config: Config, command: KeysCommand, json: bool) -> Result<(), Failed> {
    match command {
        KeysCommand::Add(args) => add(config, args, json).await,
        KeysCommand::Ls => list(config, CredentialKind::Key, json).await,
        KeysCommand::Rm { key } => remove(config, CredentialKind::Key, &key, json).await,
    }
}

pub(super) async fn devices(
    config: Config,
    command: Option<DevicesCommand>,
    json: bool,
) -> Result<(), Failed> {
    match command {
        None | Some(DevicesCommand::Ls) => list(config, CredentialKind::Device, json).await,
        Some(DevicesCommand::Rm { device }) => {
            remove(config, CredentialKind::Device, &device, json).await
        }
    }
}

async fn add(config: Config, args: AddArgs, json: bool) -> Result<(), Failed> {
    let key = match Client::find(&config.data_dir).await {
        Some(client) => {
            let body = json!({ "name": args.name, "scope": args.scope, "days": args.days, "person": args.person });
            client.post("/onebit/keys", &body).await?
        }
        None => {
            let app = App::open(config)?;
            let scope = Scope::parse(&args.scope).ok_or("a scope is infer, chat or owner")?;
            let person = args.person.map_or_else(PersonId::owner, PersonId::from_row);
            let made = app
                .trust()
                .add_key(person, &args.name, scope, args.days, HERE)
                .await?;
            json!({
                "id": made.credential.id, "name": made.credential.name, "scope": args.scope, "key": made.token,
            })
        }
    };
    if json {
        println!("{key}");
    } else {
        println!("{}", key["key"].as_str().unwrap_or_default());
        eprintln!(
            "This key is shown once. Programs send it as their API key; `onebit keys rm` ends it."
        );
    }
    Ok(())
}

fn place(kind: CredentialKind) -> (&'static str, &'static str) {
    match kind {
        CredentialKind::Key => ("/onebit/keys", "keys"),
        CredentialKind::Device => ("/onebit/devices", "devices"),
    }
}

async fn all(config: &Config, kind: CredentialKind) -> Result<Vec<Value>, Failed> {
    let (path, name) = place(kind);
    if let Some(client) = Client::find(&config.data_dir).await {
        let body = client.get(path).await?;
        return Ok(body[name].as_array().cloned().unwrap_or_default());
    }
    let app = App::open(config.clone())?;
    let rows = app.store().access().all(kind).await?;
    Ok(rows
        .iter()
        .map(|c| {
            json!({
                "id": c.id, "name": c.name, "person": c.person.as_str(), "scope": c.scope.as_str(),
                "created_at": c.created_at, "seen_at": c.seen_at, "seen_from": c.seen_from,
                "expires_at": c.expires_at,
            })
        })
        .collect())
}

async fn list(config: Config, kind: CredentialKind, json: bool) -> Result<(), Failed> {
    let rows = all(&config, kind).await?;
    if json {
        println!("{}", json!({ place(kind).1: rows }));
        return Ok(());
    }
    if rows.is_empty() {
        match kind {
            CredentialKind::Key => {
                eprintln!("there are no keys; make one with `onebit keys add NAME`")
            }
            CredentialKind::Device => eprintln!("no device is paired; pair one with `onebit pair`"),
        }
    }
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap_or("-");
        println!(
            "{:<24}  {:<20}  {:<6}  {}  {}",
            text("id"),
            text("name"),
            text("scope"),
            ago(row["seen_at"].as_i64()),
            text("seen_from"),
        );
    }
    Ok(())
}

fn ago(at: Option<i64>) -> String {
    let Some(at) = at else {
        return "never used".to_owned();
    };
    let minutes = now_ms().saturating_sub(at) / 60_000;
    match minutes {
        ..2 => "now".to_owned(),
        2..120 => format!("{minutes} min ago"),
        120..2880 => format!("{} h ago", minutes / 60),
        _ => format!("{} d ago", minutes / 1440),
    }
}

async fn remove(
    config: Config,
    kind: CredentialKind,
    wanted: &str,
    json: bool,
) -> Result<(), Failed> {
    let rows = all(&config, kind).await?;
    let fitting: Vec<&Value> = rows
        .iter()
        .filter(|row| row["id"] == wanted || row["name"] == wanted)
        .collect();
    let id = match fitting.as_slice() {
        [one] => one["id"].as_str().unwrap_or_default().to_owned(),
        [] => return Err(format!("there is no {} `{wanted}`", kind.as_str()).into()),
        _ => return Err(format!("several have the name `{wanted}`; give the identifier").into()),
    };
    match Client::find(&config.data_dir).await {
        Some(client) => {
            client.delete(&format!("{}/{id}", place(kind).0)).await?;
        }
        None => {
            App::open(config)?.trust().remove(kind, &id, HERE).await?;
        }
    }
    match json {
        true => println!("{}", json!({ "deleted": true, "id": id })),
        false => println!("{wanted} is out"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let before = |minutes: i64| ago(Some(now_ms() - minutes * 60_000));
        assert_eq!(ago(None), "never used");
        assert_eq!(
            [before(0), before(5), before(180), before(5000)],
            ["now", "5 min ago", "3 h ago", "3 d ago"]
        );
    }
}
