//! The command line: one file a command. It talks on stdout and stderr; nothing else in the appliance does.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the part that talks to people"
)]

mod agent;
mod backup;
mod bench;
mod chat;
mod choices;
mod client;
mod convert;
mod docs;
mod doctor;
mod engines;
mod kernels;
mod keys;
mod mcp;
mod mesh;
mod models;
mod openapi;
mod pair;
mod ppl;
mod pull;
mod remote;
mod route;
mod serve;
mod service;
mod speech;
mod starter;
mod status;
mod update;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use crate::app::journal::{self, JournalLayer};
use crate::config::{Config, Flags, LogConfig, LogFormat, environment};

/// What a command fails with: one line for people.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A local-AI appliance: chat with models on your own machine.
#[derive(Parser)]
#[command(name = "onebit", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct Common {
    /// Where chats and models live.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The settings file.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the appliance.
    Serve {
        /// Address to listen on, possibly several times.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Vec<SocketAddr>,
        /// The folder of GAIA's page, shown under /gaia/.
        #[arg(long, value_name = "DIR")]
        gaia_ui: Option<PathBuf>,
    },
    /// Let a phone or another computer in.
    Pair(pair::PairArgs),
    /// The paired devices: list, revoke.
    Devices {
        #[command(subcommand)]
        command: Option<keys::DevicesCommand>,
    },
    /// Tunnels with which phones reach this machine from anywhere: status, add, remove.
    Mesh {
        #[command(subcommand)]
        command: Option<mesh::MeshCommand>,
    },
    /// Keys for programs: make, list, remove.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Ask a model, once or in a conversation.
    Chat(chat::ChatArgs),
    /// Copy a model file into the data directory.
    Import(models::ImportArgs),
    /// Store a model in another packing, without loss or not at all.
    Convert(convert::ConvertArgs),
    /// Fetch a model from the hub.
    Pull(pull::PullArgs),
    /// List models that are worth starting with, for `pull`.
    Catalogue,
    /// The models that this machine is worth having: show, fetch, say no.
    Starter {
        #[command(subcommand)]
        command: Option<starter::StarterCommand>,
    },
    /// List the models of an OpenAI-compatible server elsewhere beside ours.
    Remote(remote::RemoteArgs),
    /// The library: add, list, search and ask documents.
    #[command(subcommand)]
    Docs(docs::DocsCommand),
    /// Agents: give one a task, list them, and files of them.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// MCP: servers that agents may use; without a command, this appliance as a server on standard streams.
    Mcp {
        #[command(subcommand)]
        command: Option<mcp::McpCommand>,
    },
    /// Write down what is said in a recording.
    Transcribe(speech::TranscribeArgs),
    /// Say a text, into a sound file.
    Speak(speech::SpeakArgs),
    /// Tell where a request would run, and why.
    Route(route::RouteArgs),
    /// Keep a model loaded.
    Pin {
        /// The model's name.
        model: String,
    },
    /// Let a pinned model go again.
    Unpin {
        /// The model's name.
        model: String,
    },
    /// Give several artifacts of a model one name, among which the router chooses.
    Group(choices::GroupArgs),
    /// The programs behind the models: list, install, build, remove, roll back.
    #[command(subcommand)]
    Engines(engines::EnginesCommand),
    /// Kernels for this machine's GPU: list, compile, tune, clear.
    #[command(subcommand)]
    Kernels(kernels::KernelsCommand),
    /// List the models.
    Models,
    /// Show one model.
    Show {
        /// The model's name.
        model: String,
    },
    /// Forget a model and delete its file.
    Rm {
        /// The model's name.
        model: String,
    },
    /// Measure a model's perplexity on a text.
    Ppl(ppl::PplArgs),
    /// Measure speed, as a share of what this machine's memory can do.
    Bench(bench::BenchArgs),
    /// Tell how the running appliance is doing.
    Status,
    /// Check every prerequisite: found, wanted, and the line that mends it.
    Doctor {
        /// Address to check, possibly several times.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Vec<SocketAddr>,
        /// Print the fixes as a shell script, to read first and then run.
        #[arg(long)]
        fix_script: bool,
        /// Read the machine's facts below this folder instead of `/`.
        #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
        root: PathBuf,
    },
    /// Install the newest signed release; a version that does not come up healthy is taken back.
    Update(update::UpdateArgs),
    /// Write chats, documents, keys and settings into one file; safe while the appliance runs.
    Backup(backup::BackupArgs),
    /// Bring a backup back; what it replaces is kept aside.
    Restore {
        /// The file that `backup` wrote.
        file: PathBuf,
    },
    /// Print every setting with its explanation and default.
    Settings,
    /// Print the description of the HTTP routes, as OpenAPI has it.
    Openapi {
        /// Only this dialect's, possibly several times.
        #[arg(long, value_name = "NAME")]
        dialect: Vec<String>,
    },
}

/// Runs the command that was typed.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    };
    // A blocking read of the terminal may still wait; it must not keep the program.
    runtime.shutdown_background();
    code
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("onebit: {}", error.to_string().replace('\n', " "));
    ExitCode::FAILURE
}

async fn run(cli: Cli) -> Result<(), Failed> {
    let listen = match &cli.command {
        Command::Serve { listen, .. } | Command::Doctor { listen, .. } => listen.clone(),
        _ => Vec::new(),
    };
    let gaia_ui = match &cli.command {
        Command::Serve { gaia_ui, .. } => gaia_ui.clone(),
        _ => None,
    };
    if matches!(cli.command, Command::Settings) {
        print!("{}", crate::config::DEFAULT_FILE);
        return Ok(());
    }
    if let Command::Openapi { dialect } = &cli.command {
        return openapi::print(dialect);
    }
    let Common { data, config, json } = cli.common;
    let flags = Flags {
        file: config,
        data_dir: data,
        listen,
        gaia_ui,
    };
    let config = Config::resolve(&flags, &environment)?;
    let serves = matches!(cli.command, Command::Serve { .. });
    start_log(&config.log, serves)?;
    match cli.command {
        Command::Serve { .. } => serve::run(config).await,
        Command::Pair(args) => pair::run(config, args, json).await,
        Command::Devices { command } => keys::devices(config, command, json).await,
        Command::Mesh { command } => mesh::run(config, command, json).await,
        Command::Keys(command) => keys::keys(config, command, json).await,
        Command::Chat(args) => chat::run(config, args, json).await,
        Command::Import(args) => models::import(config, args, json).await,
        Command::Convert(args) => convert::run(args, json).await,
        Command::Pull(args) => pull::run(config, args, json).await,
        Command::Catalogue => {
            models::catalogue(&config, json);
            Ok(())
        }
        Command::Starter { command } => starter::run(config, command, json).await,
        Command::Remote(args) => remote::run(config, args, json).await,
        Command::Docs(command) => docs::run(config, command, json).await,
        Command::Agent(command) => agent::run(config, command, json).await,
        Command::Mcp { command } => mcp::run(config, command, json).await,
        Command::Transcribe(args) => speech::transcribe(config, args, json).await,
        Command::Speak(args) => speech::speak(config, args, json).await,
        Command::Route(args) => route::run(config, args, json).await,
        Command::Pin { model } => choices::pin(config, &model, true, json).await,
        Command::Unpin { model } => choices::pin(config, &model, false, json).await,
        Command::Group(args) => choices::group(config, &args, json).await,
        Command::Engines(command) => engines::run(config, command, json).await,
        Command::Kernels(command) => kernels::run(config, command, json).await,
        Command::Models => models::list(config, json).await,
        Command::Show { model } => models::show(config, &model, json).await,
        Command::Rm { model } => models::remove(config, &model, json).await,
        Command::Ppl(args) => ppl::run(config, args, json).await,
        Command::Bench(args) => bench::run(config, args, json).await,
        Command::Status => status::run(config, json).await,
        Command::Update(args) => update::run(&config, args, json).await,
        Command::Backup(args) => backup::write(&config, args, json),
        Command::Restore { file } => backup::restore(&config, &file, json),
        Command::Doctor {
            root, fix_script, ..
        } => doctor::run(config, &root, json, fix_script).await,
        Command::Settings | Command::Openapi { .. } => Ok(()),
    }
}

/// The appliance logs what the settings say; a command only what is wrong.
fn start_log(settings: &LogConfig, serves: bool) -> Result<(), Failed> {
    let level = if serves {
        settings.level.as_str()
    } else {
        "warn"
    };
    let filter = quiet(level).map_err(|error| format!("log.level: {error}"))?;
    let (filter, change) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match settings.format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(JournalLayer)
        .try_init();
    started.map_err(|error| format!("the log cannot start: {error}"))?;
    journal::on_set_level(move |level| {
        let filter = quiet(level)?;
        change.reload(filter).map_err(|error| error.to_string())
    });
    Ok(())
}

/// A level or a filter; a phone that goes to sleep is an error to the WireGuard library and none to anybody else.
fn quiet(level: &str) -> Result<EnvFilter, String> {
    let text = match level.contains("boringtun") {
        true => level.to_owned(),
        false => format!("{level},boringtun=off"),
    };
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(
            [size(5), size(98_362_432), size(3_000_000_000_000)],
            ["5 B", "98.4 MB", "3.0 TB"]
        );
    }
}
