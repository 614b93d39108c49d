//! `onebit mesh`: tunnels for phones, with which they reach this machine from anywhere.

use std::io::IsTerminal;

use clap::Subcommand;
use serde_json::{Value, json};

use super::Failed;
use super::client::Client;
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum MeshCommand {
    /// Tell which devices have a tunnel, and whether they get through from anywhere.
    Status,
    /// Give a device a tunnel: a QR code for the WireGuard app, shown once.
    Add {
        /// A paired device's name or identifier, or a name for one that is not paired.
        device: String,
        /// Show the code for home, where the one for anywhere does not work.
        #[arg(long)]
        home: bool,
    },
    /// A Headscale server of yours: its devices, a key for a new one, a session ended.
    Headscale {
        #[command(subcommand)]
        command: Option<HeadscaleCommand>,
    },
    /// Take a device's tunnel away; the device stays paired.
    Rm {
        /// The device's name or identifier.
        device: String,
    },
}

#[derive(Subcommand)]
pub(super) enum HeadscaleCommand {
    /// List its devices.
    Ls,
    /// Make a key that lets one device in, within an hour.
    Invite {
        /// Whose device it is: a user there, made where there is none.
        user: String,
    },
    /// End a device's session; it has to come in anew.
    Expire {
        /// The device's number there.
        node: String,
    },
}

pub(super) async fn run(
    config: Config,
    command: Option<MeshCommand>,
    json: bool,
) -> Result<(), Failed> {
    let client = Client::find(&config.data_dir).await.ok_or_else(|| {
        format!(
            "no appliance serves {}; start one with `onebit serve`",
            config.data_dir.display()
        )
    })?;
    match command.unwrap_or(MeshCommand::Status) {
        MeshCommand::Status => status(&client, json).await,
        MeshCommand::Add { device, home } => add(&client, &device, home, json).await,
        MeshCommand::Headscale { command } => headscale(&client, command, json).await,
        MeshCommand::Rm { device } => remove(&client, &device, json).await,
    }
}

/// The paired device of that name or identifier; `None` where there is none.
async fn find(client: &Client, wanted: &str) -> Result<Option<Value>, Failed> {
    let all = client.get("/onebit/devices").await?;
    let all = all["devices"].as_array().cloned().unwrap_or_default();
    let mut fitting = all
        .into_iter()
        .filter(|row| row["id"] == wanted || row["name"] == wanted);
    match (fitting.next(), fitting.next()) {
        (_, Some(_)) => {
            Err(format!("several have the name `{wanted}`; give the identifier").into())
        }
        (found, None) => Ok(found),
    }
}

/// What to do about a verdict, in a line.
fn advice(verdict: &Value) -> String {
    let text = |key: &str| verdict[key].as_str().unwrap_or_default();
    match text("state") {
        "open" => format!("from anywhere: {} (the router lets it through, {})", text("endpoint"), text("by")),
        "public" => format!("from anywhere: {}, if no firewall stands before it (install.sh --open-firewall)", text("endpoint")),
        "named" => format!("from anywhere: {}, as the settings say", text("endpoint")),
        "carrier" => format!(
            "from anywhere: no. The router's own address{} is not a public one: another router, mostly your provider's, \
             stands before it. Ask the provider for a public address or IPv6, or use a tailnet",
            verdict["address"].as_str().map_or_else(String::new, |ip| format!(" ({ip})"))
        ),
        "closed" => format!(
            "from anywhere: no. {}. Open the UDP port in the router by hand and set endpoint under [mesh]",
            text("why")
        ),
        "not_asked" => "from anywhere: unknown; the router is not asked (map_port, offline). Set endpoint under [mesh]".to_owned(),
        _ => "from anywhere: not looked at; the router is asked when a device has a tunnel".to_owned(),
    }
}

async fn status(client: &Client, json: bool) -> Result<(), Failed> {
    let status = client.get("/onebit/mesh").await?;
    if json {
        println!("{status}");
        return Ok(());
    }
    let devices = client.get("/onebit/devices").await?;
    let devices = devices["devices"].as_array().cloned().unwrap_or_default();
    if status["enabled"] == false {
        println!("the mesh is turned off (enabled under [mesh])");
    }
    if let Some(why) = status["failure"].as_str() {
        println!("the mesh is closed: {why}");
    }
    if let Some(name) = status["tailnet"]["name"].as_str() {
        println!("in a tailnet as {name}; its devices reach this machine by that name");
    }
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    if peers.is_empty() {
        println!("no device has a tunnel; give one with `onebit mesh add NAME`");
        return Ok(());
    }
    println!(
        "at home: {}",
        status["home"]
            .as_str()
            .unwrap_or("this machine has no network")
    );
    println!("{}", advice(&status["anywhere"]));
    for peer in peers {
        let name = devices.iter().find(|row| row["id"] == peer["device"]);
        let seen = match peer["handshake_s"].as_u64() {
            Some(seconds) => format!(
                "{seconds} s ago at {}",
                peer["endpoint"].as_str().unwrap_or("?")
            ),
            None => "not connected".to_owned(),
        };
        println!(
            "{:<20}  {:<12}  {seen}",
            name.and_then(|row| row["name"].as_str())
                .unwrap_or_default(),
            peer["address"].as_str().unwrap_or_default(),
        );
    }
    Ok(())
}

async fn add(client: &Client, wanted: &str, home: bool, json: bool) -> Result<(), Failed> {
    let body = match find(client, wanted).await? {
        Some(device) => json!({ "device": device["id"] }),
        None => json!({ "name": wanted }),
    };
    let made = client.post("/onebit/mesh/peers", &body).await?;
    if json {
        println!("{made}");
        return Ok(());
    }
    let place = match home || made["anywhere"].is_null() {
        true => &made["home"],
        false => &made["anywhere"],
    };
    let settings = place["settings"]
        .as_str()
        .ok_or("this machine has no address that a device could use; connect it to a network")?;
    if std::io::stdout().is_terminal() {
        println!("{}", crate::app::trust::qr::terminal(settings)?);
        println!(
            "Scan this with the WireGuard app. It is shown once: the key in it is kept nowhere here."
        );
    } else {
        print!("{settings}");
    }
    eprintln!("{}", advice(&made["verdict"]));
    eprintln!(
        "With the tunnel on, open http://{}/app on the device.",
        made["own_address"].as_str().unwrap_or_default()
    );
    Ok(())
}

async fn remove(client: &Client, wanted: &str, json: bool) -> Result<(), Failed> {
    let device = find(client, wanted)
        .await?
        .ok_or_else(|| format!("there is no device `{wanted}`"))?;
    let id = device["id"].as_str().unwrap_or_default();
    let answer = client.delete(&format!("/onebit/mesh/peers/{id}")).await?;
    match json {
        true => println!("{answer}"),
        false => println!("{wanted} has no tunnel any more"),
    }
    Ok(())
}

async fn headscale(
    client: &Client,
    command: Option<HeadscaleCommand>,
    json: bool,
) -> Result<(), Failed> {
    let answer = match &command {
        None | Some(HeadscaleCommand::Ls) => client.get("/onebit/headscale").await?,
        Some(HeadscaleCommand::Invite { user }) => {
            let body = json!({ "user": user });
            client.post("/onebit/headscale/invitations", &body).await?
        }
        Some(HeadscaleCommand::Expire { node }) => {
            client
                .delete(&format!("/onebit/headscale/nodes/{node}"))
                .await?
        }
    };
    let text = |key: &str| answer[key].as_str().unwrap_or_default();
    if json {
        println!("{answer}");
        return Ok(());
    }
    match command {
        None | Some(HeadscaleCommand::Ls) => {
            for node in answer["nodes"].as_array().into_iter().flatten() {
                let word = |key: &str| node[key].as_str().unwrap_or_default();
                let online = if node["online"] == true {
                    "online"
                } else {
                    "offline"
                };
                println!(
                    "{:>4}  {:<20}  {:<12}  {online}",
                    word("id"),
                    word("name"),
                    word("user")
                );
            }
        }
        Some(HeadscaleCommand::Invite { .. }) => {
            if std::io::stdout().is_terminal() {
                let both = format!("{}\n{}", text("server"), text("key"));
                println!("{}", crate::app::trust::qr::terminal(&both)?);
            }
            println!("server  {}\nkey     {}", text("server"), text("key"));
            eprintln!(
                "In the Tailscale app: Settings, Accounts, \"Use an alternate server\", the server; then \"Use an auth key\", \
                 the key. No app does both by one scan. The key works once, within {} minutes.",
                answer["expires_in_min"]
            );
        }
        Some(HeadscaleCommand::Expire { node }) => println!("{node} has to come in anew"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_says_what_to_do() {
        let said = |verdict: Value| advice(&verdict);
        let carrier = said(json!({ "state": "carrier", "address": "100.64.0.7" }));
        assert!(
            carrier.contains("100.64.0.7") && carrier.contains("provider"),
            "{carrier}"
        );
        let closed = said(json!({ "state": "closed", "why": "no answer" }));
        assert!(
            closed.contains("no answer") && closed.contains("endpoint"),
            "{closed}"
        );
        let open = said(json!({ "state": "open", "endpoint": "8.8.8.8:51820", "by": "PCP" }));
        assert!(
            open.contains("8.8.8.8:51820") && open.contains("PCP"),
            "{open}"
        );
    }
}
