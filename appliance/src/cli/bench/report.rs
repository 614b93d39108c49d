//! `onebit bench --report`: everything that tells how a machine does, in one file that names nobody.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Failed, view};
use crate::app::{App, BenchPlan, KernelWork, Subject, VERSION};
use crate::config::{ComputeDevice, Config};
use crate::engines::ternary::gpu;
use crate::host::Host;

/// Measures and writes the file; what fails is told in it.
pub(super) async fn write(
    config: Config,
    file: &Path,
    models: &[String],
    device: ComputeDevice,
) -> Result<(), Failed> {
    let app = App::open(config)?;
    let mut processor = Vec::new();
    for (name, subject) in [
        ("kernels", Subject::Kernels),
        ("decode", Subject::Decode),
        ("prefill", Subject::Prefill),
    ] {
        eprintln!("the processor: {name}");
        let plan = BenchPlan {
            subject,
            models: models.to_vec(),
            threads: None,
            texts: Vec::<PathBuf>::new(),
            windows_max: 0,
        };
        let outcome = app.bench(plan, |_| {}).await;
        processor.push(match outcome {
            Ok(report) => json!({"what": name, "report": view(&report)}),
            Err(error) => json!({"what": name, "error": error.to_string()}),
        });
    }
    let model = models.first().map_or("", String::as_str);
    let report = json!({
        "onebit": VERSION,
        "machine": machine(),
        "processor": processor,
        "gpu": on_gpu(&app, model, device).await,
    });
    std::fs::write(file, format!("{report:#}\n"))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    println!(
        "{} is ready to be sent; it names no person and no file of yours",
        file.display()
    );
    Ok(())
}

/// The hardware, without names of hosts or users.
fn machine() -> Value {
    let host = Host::read(Path::new("/"));
    json!({
        "processor": host.cpu.model,
        "threads": host.cpu.threads,
        "memory_bytes": host.memory.map(|memory| memory.total_bytes),
        "kernel": host.system.kernel,
        "gpus": host.gpus.iter().map(|gpu| json!({
            "name": gpu.name,
            "isa": gpu.isa.map(|isa| isa.to_string()),
            "compute_units": gpu.compute_units,
            "driver": gpu.driver,
            "memory_bytes": gpu.pool_bytes(),
        })).collect::<Vec<_>>(),
    })
}

/// First run, second start, every choice with its time, and a model's speed.
async fn on_gpu(app: &App, model: &str, device: ComputeDevice) -> Value {
    let identity = match gpu::device(device) {
        Ok(Some(identity)) => identity,
        Ok(None) => return json!({"error": "none was asked for"}),
        Err(error) => return json!({"error": error.to_string()}),
    };
    let (mut starts, mut lines) = (Vec::new(), Vec::new());
    for (tune, anew) in [(false, false), (false, false), (true, true)] {
        eprintln!(
            "the gpu: {}",
            if tune {
                "timing kernels"
            } else {
                "compiling kernels"
            }
        );
        let work = KernelWork {
            device: Some(device),
            tune,
            anew,
        };
        let started = std::time::Instant::now();
        let outcome = app
            .compile_kernels(model, work, |line| {
                if !line.starts_with("known") {
                    lines.push(line.replace('\t', " "));
                }
            })
            .await;
        let seconds = started.elapsed().as_secs_f64();
        starts.push(json!({"tune": tune, "seconds": seconds, "error": outcome.err().map(|e| e.to_string())}));
    }
    eprintln!("the gpu: a model");
    let figures = match app.gpu_figures(model, device).await {
        Ok(figures) => figures
            .into_iter()
            .map(|(name, value)| (name, json!(value)))
            .collect(),
        Err(error) => json!({"error": error.to_string()}),
    };
    json!({
        "device": identity.device,
        "driver": identity.driver,
        "software": identity.software,
        "shared_memory": identity.shared_memory,
        "memory_bytes": identity.memory_bytes,
        "starts": starts,
        "kernels": lines,
        "model": figures,
    })
}
