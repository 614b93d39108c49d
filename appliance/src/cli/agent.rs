//! `onebit agent`: tasks for agents, and what there is of them.
//!
//! Speaks to the running appliance; where none runs, it starts one for as long as the command takes.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::{Failed, serve};
use crate::config::Config;

#[derive(Subcommand)]
pub(super) enum AgentCommand {
    /// Give an agent a task, and follow it.
    Run(RunArgs),
    /// List the agents.
    Ls,
    /// Show one agent.
    Show {
        /// Its identifier.
        agent: String,
    },
    /// List the tools that agents can be given.
    Tools,
    /// List the latest runs.
    Runs,
    /// Show what happened in a run.
    Log {
        /// The run's identifier.
        run: String,
    },
    /// Take one of your own agents away.
    Rm {
        /// Its identifier.
        agent: String,
    },
    /// Write your own agents into a zip.
    Export {
        /// The file to write.
        file: PathBuf,
        /// Only these; all when left out.
        agents: Vec<String>,
    },
    /// Bring agents in from such a zip.
    Import {
        /// The file to read.
        file: PathBuf,
    },
}

#[derive(Args)]
pub(super) struct RunArgs {
    /// The agent: chat, documents, files, summarise, research, or one of your own.
    agent: String,
    /// The task.
    task: String,
    /// The model; the agent's or the default one when left out.
    #[arg(long, default_value = "")]
    model: String,
    /// Allow every call that changes, runs or sends something.
    #[arg(long, conflicts_with = "no")]
    yes: bool,
    /// Refuse every such call.
    #[arg(long)]
    no: bool,
    /// Only these of the agent's tools; possibly several.
    #[arg(long, value_name = "NAME")]
    tool: Vec<String>,
    /// Times that the model is asked at most.
    #[arg(long)]
    steps: Option<usize>,
}

/// The running appliance, or one for as long as the second value is held.
pub(super) async fn appliance(config: Config) -> Result<(Client, Option<serve::Beside>), Failed> {
    if let Some(client) = Client::find(&config.data_dir).await {
        return Ok((client, None));
    }
    let data = config.data_dir.clone();
    let (address, held) = serve::beside(config).await?;
    Ok((Client::at(address, &data), Some(held)))
}

pub(super) async fn run(config: Config, command: AgentCommand, json: bool) -> Result<(), Failed> {
    let (client, _held) = appliance(config).await?;
    match command {
        AgentCommand::Run(args) => work(&client, args, json).await,
        AgentCommand::Ls => {
            let answer = client.get("/onebit/agents").await?;
            show(json, &answer, || {
                for agent in answer["agents"].as_array().into_iter().flatten() {
                    let own = if agent["builtin"] == true {
                        ""
                    } else {
                        " (yours)"
                    };
                    println!(
                        "{:12} {}{own}",
                        text(&agent["id"]),
                        text(&agent["description"])
                    );
                }
            });
            Ok(())
        }
        AgentCommand::Show { agent } => {
            let answer = client
                .get(&format!("/onebit/agents/{}", escaped(&agent)))
                .await?;
            show(json, &answer, || {
                println!(
                    "{} ({})\n{}\n",
                    text(&answer["name"]),
                    text(&answer["id"]),
                    text(&answer["description"])
                );
                println!("{}\n", text(&answer["instructions"]));
                println!("tools   {}", words(&answer["tools"]));
                println!(
                    "limits  {} steps, {} s, {} tokens",
                    answer["steps"], answer["time_s"], answer["tokens"]
                );
            });
            Ok(())
        }
        AgentCommand::Tools => {
            let answer = client.get("/onebit/tools").await?;
            show(json, &answer, || tools(&answer));
            Ok(())
        }
        AgentCommand::Runs => {
            let answer = client.get("/onebit/runs").await?;
            show(json, &answer, || {
                for run in answer["runs"].as_array().into_iter().flatten() {
                    let task: String = text(&run["task"]).chars().take(60).collect();
                    println!(
                        "{}  {:9} {:12} {task}",
                        text(&run["id"]),
                        text(&run["status"]),
                        text(&run["agent"])
                    );
                }
            });
            Ok(())
        }
        AgentCommand::Log { run } => {
            let answer = client
                .get(&format!("/onebit/runs/{}", escaped(&run)))
                .await?;
            show(json, &answer, || {
                for event in answer["events"].as_array().into_iter().flatten() {
                    tell(text(&event["type"]), event);
                }
                println!("{}", text(&answer["run"]["answer"]));
            });
            Ok(())
        }
        AgentCommand::Rm { agent } => {
            let answer = client
                .delete(&format!("/onebit/agents/{}", escaped(&agent)))
                .await?;
            show(json, &answer, || println!("removed {agent}"));
            Ok(())
        }
        AgentCommand::Export { file, agents } => {
            let bytes = client
                .save("/onebit/agents/export", &json!({ "ids": agents }), &file)
                .await?;
            show(json, &json!({ "file": file, "bytes": bytes }), || {
                println!("{} written", file.display())
            });
            Ok(())
        }
        AgentCommand::Import { file } => {
            let answer = client.upload("/onebit/agents/import", &file).await?;
            show(json, &answer, || {
                println!("new: {}", words(&answer["imported"]));
                println!("replaced: {}", words(&answer["overwritten"]));
                for refused in answer["errors"].as_array().into_iter().flatten() {
                    println!(
                        "refused {}: {}",
                        text(&refused["id"]),
                        text(&refused["error"])
                    );
                }
            });
            Ok(())
        }
    }
}

/// Follows a run to its end; asks the person where a call waits.
async fn work(client: &Client, args: RunArgs, json: bool) -> Result<(), Failed> {
    let asks = std::io::stdin().is_terminal() && !json;
    let approval = match (args.yes, args.no || !asks) {
        (true, _) => "always",
        (false, true) => "never",
        (false, false) => "ask",
    };
    let body = json!({
        "agent": args.agent,
        "task": args.task,
        "model": args.model,
        "approval": approval,
        "tools": (!args.tool.is_empty()).then_some(args.tool),
        "steps": args.steps,
    });
    let mut events = client.events("/onebit/runs", &body).await?;
    let (mut run, mut shown) = (String::new(), false);
    let mut failed = None;
    loop {
        let (name, event) = events.next_named().await?;
        if json {
            let mut line = event.clone();
            line["type"] = name.as_str().into();
            println!("{line}");
        }
        match name.as_str() {
            "started" => run = text(&event["run"]).to_owned(),
            "chunk" if !json => {
                print!("{}", text(&event["content"]));
                std::io::stdout().flush()?;
                shown = true;
            }
            "tool_confirm" if asks => {
                let allow = confirmed(&event).await?;
                let decision = json!({ "call": event["call"], "allow": allow });
                // Where the time was up meanwhile, the next event says so.
                let _ = client
                    .post(&format!("/onebit/runs/{run}/decide"), &decision)
                    .await;
            }
            "failed" => failed = Some(text(&event["content"]).to_owned()),
            "done" => {
                if shown {
                    println!();
                }
                return match failed {
                    Some(why) => Err(why.into()),
                    None if event["status"] == "cancelled" => Err("the run was stopped".into()),
                    None => Ok(()),
                };
            }
            _ if json => {}
            name => {
                if shown && name != "answer" {
                    println!();
                    shown = false;
                }
                tell(name, &event);
            }
        }
    }
}

/// One line on stderr for what happens, so that stdout is the answer alone.
fn tell(name: &str, event: &Value) {
    match name {
        "status" | "trouble" => {
            let message = event.get("message").or(event.get("content")).map(text);
            eprintln!("· {}", message.unwrap_or_default());
        }
        "plan" => {
            for (at, step) in event["steps"].as_array().into_iter().flatten().enumerate() {
                eprintln!("· plan {}. {}", at + 1, text(step));
            }
        }
        "tool_start" => eprintln!("→ {}({})", text(&event["tool"]), text(&event["detail"])),
        "tool_decided" => eprintln!("· {}", text(&event["decision"]).replace('_', " ")),
        "tool_result" => {
            let mark = if event["success"] == true {
                "←"
            } else {
                "✗"
            };
            eprintln!("{mark} {}", text(&event["summary"]));
        }
        "sources" => {
            for cited in event["citations"].as_array().into_iter().flatten() {
                eprintln!("[{}] {}", cited["number"], text(&cited["filename"]));
            }
        }
        _ => {}
    }
}

async fn confirmed(event: &Value) -> Result<bool, Failed> {
    eprint!(
        "? allow {}({})? [y/N] ",
        text(&event["tool"]),
        event["args"]
    );
    std::io::stderr().flush()?;
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = read.await??;
    Ok(matches!(
        line.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}

pub(super) fn tools(answer: &Value) {
    for tool in answer["tools"].as_array().into_iter().flatten() {
        let asks = if tool["asks"] == true {
            " (asks first)"
        } else {
            ""
        };
        let off = tool["off"]
            .as_str()
            .map(|why| format!(" [off: {why}]"))
            .unwrap_or_default();
        println!(
            "{:18} {}{asks}{off}",
            text(&tool["name"]),
            text(&tool["description"])
        );
    }
}

pub(super) fn show(json: bool, answer: &Value, people: impl FnOnce()) {
    if json {
        println!("{answer}");
    } else {
        people();
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn words(value: &Value) -> String {
    let all: Vec<&str> = value.as_array().into_iter().flatten().map(text).collect();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(", "),
    }
}

/// A name as a part of an address.
pub(super) fn escaped(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
