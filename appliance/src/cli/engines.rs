//! `onebit engines`: the programs behind the models.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::Failed;
use crate::config::{Config, bundled_engines, program_folders};
use crate::engines::Launcher;
use crate::engines::build::{Backend, SOURCES, Step, Target, build};
use crate::engines::probe::{bundled_version, version_of};
use crate::engines::programs::{NAMES, Origin, Program, Programs};
use crate::engines::versions::{Shelf, Verdict, Version, judge};

#[derive(Subcommand)]
pub(super) enum EnginesCommand {
    /// Show what is here and whether it is good.
    List,
    /// Put a program beside the one in use and switch to it.
    Install {
        /// The program's name, such as llama-server.
        program: String,
        /// The file.
        file: PathBuf,
        /// The name of the version; what the program says of itself by default.
        #[arg(long = "as", value_name = "VERSION")]
        label: Option<String>,
    },
    /// Build from the pinned sources: llama.cpp, whisper.cpp or sd.cpp.
    Build {
        /// What to build.
        name: String,
        /// The source archive, where it is here already.
        #[arg(long, value_name = "FILE")]
        archive: Option<PathBuf>,
        /// What it computes on beside the processor: vulkan, rocm, or cpu for nothing. Vulkan by default, where its
        /// compiler and headers are installed.
        #[arg(long)]
        backend: Option<String>,
        /// Build for any 64-bit x86 machine, with a variant for each kind of processor, into a folder in DIR instead of
        /// using it here: what a release carries.
        #[arg(long, value_name = "DIR")]
        portable: Option<PathBuf>,
    },
    /// Remove a version that is not in use.
    Remove {
        /// The program's name.
        program: String,
        /// The version.
        #[arg(value_name = "VERSION")]
        label: String,
    },
    /// Go back to the version before.
    Rollback {
        /// The program's name.
        program: String,
    },
}

pub(super) async fn run(config: Config, command: EnginesCommand, json: bool) -> Result<(), Failed> {
    let engines = config.data_dir.join("engines");
    match command {
        EnginesCommand::List => list(&engines, json).await,
        EnginesCommand::Install {
            program,
            file,
            label,
        } => {
            known(&program)?;
            let version = match label {
                Some(label) => label,
                None => {
                    let found =
                        version_of(&Launcher::of_this_program(), &std::path::absolute(&file)?)
                            .await;
                    found
                        .ok_or("it does not tell its version; give --as VERSION")?
                        .to_string()
                }
            };
            Shelf::new(&engines, &program).put(&version, &file)?;
            println!("{program} {version} is in use");
            Ok(())
        }
        EnginesCommand::Build {
            name,
            archive,
            backend,
            portable,
        } => {
            let source = SOURCES.iter().find(|s| s.name == name).ok_or_else(|| {
                let names: Vec<&str> = SOURCES.iter().map(|s| s.name).collect();
                format!(
                    "`{name}` is not something we build; {} are",
                    names.join(", ")
                )
            })?;
            let backend = match backend {
                None => Backend::usual(Path::new("/")),
                Some(word) => Backend::parse(&word)
                    .ok_or_else(|| format!("`{word}` is no backend; vulkan, rocm and cpu are"))?,
            };
            let launcher = Launcher::of_this_program();
            let target = match &portable {
                Some(folder) => Target::Portable(folder),
                None => Target::Shelf(&engines),
            };
            build(source, backend, archive, &launcher, target, &mut show).await?;
            if std::io::stderr().is_terminal() {
                eprintln!();
            }
            if let Some(folder) = portable {
                let place = folder.join(source.program);
                println!(
                    "{} {} is in {}",
                    source.program,
                    source.version,
                    place.display()
                );
                return Ok(());
            }
            println!(
                "{} {} ({}) is in use",
                source.program,
                source.version,
                backend.as_str()
            );
            Ok(())
        }
        EnginesCommand::Remove { program, label } => {
            known(&program)?;
            Shelf::new(&engines, &program).remove(&label)?;
            println!("{program} {label} is gone");
            Ok(())
        }
        EnginesCommand::Rollback { program } => {
            known(&program)?;
            let version = Shelf::new(&engines, &program).rollback()?;
            println!("{program} {version} is in use again");
            Ok(())
        }
    }
}

fn known(program: &str) -> Result<(), Failed> {
    if NAMES.contains(&program) {
        return Ok(());
    }
    Err(format!(
        "`{program}` is no engine's program; {} are",
        NAMES.join(", ")
    )
    .into())
}

async fn list(engines: &Path, json: bool) -> Result<(), Failed> {
    let programs = Programs::find(engines, &bundled_engines(), &program_folders());
    let launcher = Launcher::of_this_program();
    let mut rows = Vec::new();
    for name in NAMES {
        let shelf = Shelf::new(engines, name);
        let found = programs.get(name);
        let version = match found {
            // What we shelved has the name we gave it; a build outside git calls itself 0.
            Some(Program {
                origin: Origin::Ours,
                ..
            }) => shelf.current().as_deref().and_then(Version::find),
            Some(program) => match bundled_version(&program.path) {
                Some(version) => Some(version),
                None => version_of(&launcher, &program.path).await,
            },
            None => None,
        };
        let verdict = match (found, version.as_ref().map(|v| judge(name, v))) {
            (None, _) => "absent".to_owned(),
            (_, Some(Verdict::TooOld { wanted })) => format!("too old, {wanted} is needed"),
            (_, Some(Verdict::KnownBad { why })) => format!("known bad: {why}"),
            (_, Some(Verdict::Good)) => "good".to_owned(),
            (_, None) => "version unknown".to_owned(),
        };
        let version = version.map(|v| v.to_string());
        if json {
            rows.push(json!({
                "program": name, "path": found.map(|p| &p.path), "version": version, "state": verdict,
                "installed": shelf.versions(), "current": shelf.current(), "previous": shelf.previous(),
            }));
        } else {
            let place = found
                .map(|p| p.path.display().to_string())
                .unwrap_or_default();
            println!(
                "{name:<16} {:<12} {verdict:<28} {place}",
                version.unwrap_or_default()
            );
        }
    }
    if json {
        println!("{}", json!({ "engines": rows }));
    }
    Ok(())
}

fn show(step: Step) {
    let share = step
        .done
        .map(|d| format!(" {:>3.0} %", d * 100.0))
        .unwrap_or_default();
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{}{share}", step.name);
    } else if step.done.is_none_or(|d| d == 1.0) {
        eprintln!("{}{share}", step.name);
    }
}
