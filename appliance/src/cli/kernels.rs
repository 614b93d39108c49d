//! `onebit kernels`: what is compiled for this machine's GPU, and the work that does it.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{Failed, size};
use crate::app::{App, KernelWork};
use crate::config::{CacheKind, ComputeDevice, Config};
use crate::engines::ternary::gpu;
use onebit_kernels::gpu::first_run::Progress;

#[derive(Subcommand)]
pub(super) enum KernelsCommand {
    /// Show the devices and what is compiled for them.
    List,
    /// Compile and check the kernels of a model.
    Compile {
        /// The model; the default one when left out.
        #[arg(default_value = "")]
        model: String,
        /// The device; that of the settings when left out.
        #[arg(long, value_enum)]
        device: Option<Device>,
    },
    /// Compile, check and time: the fastest parameters are kept.
    Tune {
        /// The model; the default one when left out.
        #[arg(default_value = "")]
        model: String,
        /// The device; that of the settings when left out.
        #[arg(long, value_enum)]
        device: Option<Device>,
        /// Time again what was timed before.
        #[arg(long)]
        retune: bool,
    },
    /// Forget what was compiled and timed.
    Clear,
    /// What the others start: works in this process, one line a kernel.
    #[command(hide = true)]
    Work {
        model: PathBuf,
        #[arg(long, value_enum)]
        device: Device,
        #[arg(long)]
        cache_kind: String,
        #[arg(long)]
        tune: bool,
        #[arg(long)]
        anew: bool,
    },
    /// What `onebit bench --report` starts: measures in this process, one line a figure.
    #[command(hide = true)]
    Figures {
        model: PathBuf,
        #[arg(long, value_enum)]
        device: Device,
        #[arg(long)]
        cache_kind: String,
    },
}

/// A device by name.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Device {
    /// The GPU, in the best way that there is.
    Auto,
    /// None.
    Cpu,
    /// An AMD GPU through ROCm.
    Hip,
    /// An NVIDIA GPU through CUDA.
    Cuda,
    /// A GPU through Vulkan.
    Vulkan,
    /// A Vulkan device made of the processor, for tests.
    Software,
}

impl From<Device> for ComputeDevice {
    fn from(device: Device) -> ComputeDevice {
        match device {
            Device::Auto => ComputeDevice::Auto,
            Device::Cpu => ComputeDevice::Cpu,
            Device::Hip => ComputeDevice::Hip,
            Device::Cuda => ComputeDevice::Cuda,
            Device::Vulkan => ComputeDevice::Vulkan,
            Device::Software => ComputeDevice::Software,
        }
    }
}

pub(super) async fn run(config: Config, command: KernelsCommand, json: bool) -> Result<(), Failed> {
    match command {
        KernelsCommand::List => list(&App::open(config)?, json),
        KernelsCommand::Compile { model, device } => {
            let work = KernelWork {
                device: device.map(Into::into),
                ..KernelWork::default()
            };
            follow(&App::open(config)?, &model, work, json).await
        }
        KernelsCommand::Tune {
            model,
            device,
            retune,
        } => {
            let work = KernelWork {
                device: device.map(Into::into),
                tune: true,
                anew: retune,
            };
            follow(&App::open(config)?, &model, work, json).await
        }
        KernelsCommand::Clear => {
            let files = App::open(config)?.clear_kernels()?;
            println!("{files} files of compiled kernels removed");
            Ok(())
        }
        KernelsCommand::Work {
            model,
            device,
            cache_kind,
            tune,
            anew,
        } => {
            let work = gpu::Work {
                tune,
                anew,
                ..plain(device, &cache_kind)
            };
            let folder = config.data_dir.join("kernels");
            gpu::work(&folder, &model, work, &mut |progress| {
                println!("{}", line(&progress))
            })?;
            Ok(())
        }
        KernelsCommand::Figures {
            model,
            device,
            cache_kind,
        } => {
            let (folder, work) = (config.data_dir.join("kernels"), plain(device, &cache_kind));
            let mut say = |name: &str, value: f64| println!("{name}\t{value}");
            gpu::figures(&folder, &model, work, &mut say)?;
            Ok(())
        }
    }
}

fn plain(device: Device, cache_kind: &str) -> gpu::Work {
    gpu::Work {
        device: device.into(),
        kind: match cache_kind {
            "int8" => CacheKind::Int8,
            _ => CacheKind::F16,
        },
        tune: false,
        anew: false,
    }
}

/// One line of the child's.
fn line(progress: &Progress) -> String {
    match progress {
        Progress::Compiling(kernels) => format!("compiling\t{kernels}"),
        Progress::Timing(shapes) => format!("timing\t{shapes}"),
        Progress::Compiled(name) => format!("compiled\t{name}"),
        Progress::Known(name) => format!("known\t{name}"),
        Progress::Bad(name, why) => format!("bad\t{name}: {}", why.replace('\n', " ")),
        Progress::Chosen {
            shape,
            choice,
            time,
            bytes,
        } => {
            let (us, gb) = (
                time.as_secs_f64() * 1e6,
                *bytes as f64 / time.as_secs_f64() / 1e9,
            );
            format!("chosen\t{shape}: {choice}, {us:.1} us, {gb:.1} GB/s")
        }
    }
}

async fn follow(app: &App, model: &str, work: KernelWork, json: bool) -> Result<(), Failed> {
    let started = Instant::now();
    let (mut counts, mut lines) = ([0; 4], Vec::new());
    app.compile_kernels(model, work, |line| {
        let (word, rest) = line.split_once('\t').unwrap_or(("", line));
        let words = ["compiled", "known", "bad", "chosen"];
        if let Some(i) = words.iter().position(|w| *w == word) {
            counts[i] += 1;
        }
        if json {
            lines.push(json!({"what": word, "kernel": rest}));
        } else if word != "known" {
            println!("{word:<9} {rest}");
        }
    })
    .await?;
    let [compiled, known, bad, chosen] = counts;
    let seconds = started.elapsed().as_secs_f64();
    if json {
        println!(
            "{}",
            json!({"compiled": compiled, "known": known, "bad": bad, "chosen": chosen, "seconds": seconds, "lines": lines})
        );
    } else {
        println!(
            "{compiled} compiled and checked, {known} known, {bad} set aside, {chosen} chosen, {seconds:.1} s"
        );
    }
    Ok(())
}

fn list(app: &App, json: bool) -> Result<(), Failed> {
    let (ways, entries) = (gpu::ways(), app.kernels()?);
    if json {
        let rows = |list: &[onebit_kernels::gpu::Identity]| -> serde_json::Value {
            let rows = list.iter().map(|d| {
                json!({"name": d.device, "lane": gpu::lane(d).name, "driver": d.driver, "software": d.software, "memory_bytes": d.memory_bytes})
            });
            rows.collect()
        };
        let devices: Vec<_> = ways
            .iter()
            .map(|way| match &way.devices {
                Ok(list) => json!({"way": way.name, "devices": rows(list)}),
                Err(error) => json!({"way": way.name, "error": error.to_string()}),
            })
            .collect();
        let rows: Vec<_> = entries
            .iter()
            .map(|e| json!({"name": e.name, "bytes": e.bytes, "bad": e.bad}))
            .collect();
        println!("{}", json!({"devices": devices, "kernels": rows}));
        return Ok(());
    }
    for way in ways {
        match &way.devices {
            Ok(list) if list.is_empty() => {
                println!("{:<9} none: its loader offers no device", way.name)
            }
            Ok(list) => {
                for device in list {
                    let note = if device.software {
                        ", the processor in disguise"
                    } else {
                        ""
                    };
                    println!(
                        "{:<9} {} ({}{note})",
                        way.name, device.device, device.driver
                    );
                }
            }
            Err(error) => println!("{:<9} none: {error}", way.name),
        }
    }
    match gpu::device(app.config().ternary.device) {
        Ok(Some(device)) => println!("chosen    {} on {}", gpu::lane(&device).name, device.device),
        Ok(None) => println!("chosen    ternary.cpu, as ternary.device says"),
        Err(_) => println!("chosen    ternary.cpu, for no gpu is usable"),
    }
    for entry in &entries {
        match &entry.bad {
            None => println!("{:<9} {}", size(entry.bytes), entry.name),
            Some(why) => println!("set aside {}: {why}", entry.name),
        }
    }
    println!("{} files", entries.len());
    Ok(())
}
