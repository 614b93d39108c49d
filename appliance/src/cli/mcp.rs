//! `onebit mcp`: the owner's MCP servers, and the appliance itself as one on standard input and output.
//!
//! Without a command it speaks the protocol: each line that comes in goes to the running appliance's `/mcp`, and what
//! it answers goes out. Where none runs, one is started for as long as the input stays open.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failed;
use super::agent::{appliance, escaped, show, text, tools};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum McpCommand {
    /// Add a server: a program, after `--`, or an address.
    Add(AddArgs),
    /// List the servers, and how they are.
    Ls,
    /// Take a server away.
    Rm {
        /// Its name.
        name: String,
    },
    /// List what a server offers.
    Tools {
        /// Its name.
        name: String,
    },
    /// Let agents use a server.
    Enable {
        /// Its name.
        name: String,
    },
    /// Let agents no longer use a server, and stop it.
    Disable {
        /// Its name.
        name: String,
    },
    /// Let a server's tool run without asking each time.
    Trust {
        /// The server's name.
        name: String,
        /// The tool, as the server names it.
        tool: String,
    },
    /// Ask before a server's tool runs, again.
    Distrust {
        /// The server's name.
        name: String,
        /// The tool, as the server names it.
        tool: String,
    },
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// What it is called here.
    name: String,
    /// Its address, where it is no program of this machine.
    #[arg(long, conflicts_with = "command")]
    url: Option<String>,
    /// A token that is sent along to the address.
    #[arg(long, requires = "url")]
    token: Option<String>,
    /// A variable of the program's environment, as KEY=VALUE; possibly several.
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// The program and its arguments, after `--`.
    #[arg(last = true, required_unless_present = "url")]
    command: Vec<String>,
}

pub(super) async fn run(
    config: Config,
    command: Option<McpCommand>,
    json: bool,
) -> Result<(), Failed> {
    let (client, _held) = appliance(config).await?;
    let place = |name: &str| format!("/onebit/mcp/{}", escaped(name));
    let (answer, done) = match command {
        None => return serve(&client).await,
        Some(McpCommand::Ls) => {
            let answer = client.get("/onebit/mcp").await?;
            show(json, &answer, || list(&answer));
            return Ok(());
        }
        Some(McpCommand::Tools { name }) => {
            let answer = client.get(&format!("{}/tools", place(&name))).await?;
            show(json, &answer, || tools(&answer));
            return Ok(());
        }
        Some(McpCommand::Add(args)) => {
            let mut env = serde_json::Map::new();
            for variable in &args.env {
                let (key, value) = variable.split_once('=').ok_or("--env takes KEY=VALUE")?;
                env.insert(key.to_owned(), value.into());
            }
            let (program, arguments) = match args.command.split_first() {
                Some((program, arguments)) => (Some(program), arguments),
                None => (None, &[][..]),
            };
            let body = json!({
                "name": args.name,
                "command": program,
                "args": arguments,
                "env": env,
                "url": args.url,
                "token": args.token,
            });
            let done = format!(
                "added {}; `onebit mcp tools {}` starts it and lists what it offers",
                args.name, args.name
            );
            (client.post("/onebit/mcp", &body).await?, done)
        }
        Some(McpCommand::Rm { name }) => (
            client.delete(&place(&name)).await?,
            format!("removed {name}"),
        ),
        Some(McpCommand::Enable { name }) => (
            client
                .patch(&place(&name), &json!({ "enabled": true }))
                .await?,
            format!("{name} is on"),
        ),
        Some(McpCommand::Disable { name }) => (
            client
                .patch(&place(&name), &json!({ "enabled": false }))
                .await?,
            format!("{name} is off"),
        ),
        Some(McpCommand::Trust { name, tool }) => {
            let answer = client
                .patch(&place(&name), &json!({ "trust": tool }))
                .await?;
            (answer, format!("{tool} of {name} runs without asking"))
        }
        Some(McpCommand::Distrust { name, tool }) => {
            let answer = client
                .patch(&place(&name), &json!({ "distrust": tool }))
                .await?;
            (answer, format!("{tool} of {name} asks first"))
        }
    };
    show(json, &answer, || println!("{done}"));
    Ok(())
}

fn list(answer: &Value) {
    for server in answer["servers"].as_array().into_iter().flatten() {
        let state = match (&server["enabled"], &server["connected"]) {
            (Value::Bool(false), _) => "off".to_owned(),
            (_, Value::Bool(true)) => format!("{} tools", server["tools"]),
            _ => text(&server["error"]).to_owned(),
        };
        let mut reach = vec![text(&server["command"]), text(&server["url"])];
        reach.extend(server["args"].as_array().into_iter().flatten().map(text));
        reach.retain(|part| !part.is_empty());
        println!(
            "{:16} {:12} {}",
            text(&server["name"]),
            state,
            reach.join(" ")
        );
    }
}

/// The protocol on standard input and output: one message a line.
async fn serve(client: &super::client::Client) -> Result<(), Failed> {
    // What both sides agreed on, which HTTP repeats with every message.
    let mut version: Option<String> = None;
    while let Some(line) = read_line().await? {
        if line.trim().is_empty() {
            continue;
        }
        let message: Value = match serde_json::from_str(&line) {
            Ok(message) => message,
            Err(error) => {
                let why = format!("the line is no JSON: {error}");
                println!(
                    "{}",
                    json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32700, "message": why } })
                );
                continue;
            }
        };
        let answered = client.message("/mcp", &message, version.as_deref()).await;
        if let Ok(Some(answer)) = &answered
            && let Some(agreed) = answer["result"]["protocolVersion"].as_str()
        {
            version = Some(agreed.to_owned());
        }
        let id = message
            .get("id")
            .filter(|_| message.get("method").is_some());
        match (answered, id) {
            (Ok(Some(answer)), _) => println!("{answer}"),
            (Ok(None), _) | (Err(_), None) => {}
            (Err(error), Some(id)) => {
                let refusal = json!({ "code": -32000, "message": error.to_string() });
                println!(
                    "{}",
                    json!({ "jsonrpc": "2.0", "id": id, "error": refusal })
                );
            }
        }
    }
    Ok(())
}

/// The next line of standard input; `None` at its end.
async fn read_line() -> Result<Option<String>, Failed> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|n| (n, line))
    });
    let (n, line) = read.await??;
    Ok((n > 0).then_some(line))
}
