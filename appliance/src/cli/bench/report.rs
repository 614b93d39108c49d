//! `onebit bench --report`: everything that tells how a machine does, in one file that names nobody.

use std::path::Path;

use serde_json::{Value, json};

use super::{BenchArgs, Failed, figures, served, view};
use crate::api::now;
use crate::app::{App, BenchPlan, KernelWork, Subject, VERSION};
use crate::config::{ComputeDevice, Config};
use crate::engines::ternary::gpu;
use crate::host::Host;

/// Measures and writes the file; what fails is told in it.
pub(super) async fn write(
    config: Config,
    file: &Path,
    args: &BenchArgs,
    device: ComputeDevice,
) -> Result<(), Failed> {
    let model = &*args.model;
    let models: Vec<String> = match model {
        "" => Vec::new(),
        name => vec![name.to_owned()],
    };
    let app = App::open(config.clone())?;
    let mut processor = Vec::new();
    for (name, subject) in [
        ("kernels", Subject::Kernels),
        ("decode", Subject::Decode),
        ("prefill", Subject::Prefill),
        ("depth", Subject::Depth),
    ] {
        eprintln!("the processor: {name}");
        let plan = BenchPlan {
            subject,
            models: models.clone(),
            threads: args.threads.map(usize::from),
            // Once, beside the speed of writing.
            texts: match subject {
                Subject::Decode => args.text.clone(),
                _ => Vec::new(),
            },
            windows_max: args.windows,
        };
        let outcome = app.bench(plan, |_| {}).await;
        processor.push(match outcome {
            Ok(report) => json!({"what": name, "report": view(&report)}),
            Err(error) => json!({"what": name, "error": error.to_string()}),
        });
    }
    let gpu = on_gpu(&app, model, device).await;
    // It holds the computing threads; the server has its own.
    drop(app);
    let served = match Path::new(model).is_file() {
        true => json!({ "error": "a bare file is not served; import it and give its name" }),
        false => served::measure(config, model).await,
    };
    let report = json!({
        "onebit": VERSION,
        "date": now(),
        "note": args.note,
        "machine": machine(),
        "processor": processor,
        "served": served,
        "gpu": gpu,
    });
    let text = match file.extension().is_some_and(|end| end == "md") {
        true => figures::markdown(&report),
        false => format!("{report:#}\n"),
    };
    std::fs::write(file, text)
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    println!(
        "{} is ready to be sent; it names no person and no file of yours",
        file.display()
    );
    Ok(())
}

/// Prints two reports beside each other.
pub(super) fn compare(a: &Path, b: &Path, json: bool) -> Result<(), Failed> {
    let read = |file: &Path| -> Result<Value, Failed> {
        let cannot = |why: String| format!("cannot read {}: {why}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| cannot(error.to_string()))?;
        let report: Value = serde_json::from_str(&text)
            .map_err(|error| cannot(format!("it is no JSON report ({error})")))?;
        match report["machine"].is_object() {
            true => Ok(report),
            false => Err(cannot("it is no report of `onebit bench --report`".into()).into()),
        }
    };
    let reports = [read(a)?, read(b)?];
    if json {
        let [a, b] = reports.each_ref().map(|report| {
            let all = figures::figures(report);
            let view = all
                .iter()
                .map(|f| json!({"name": f.name, "value": f.value, "unit": f.unit}));
            Value::Array(view.collect())
        });
        println!("{}", json!({ "figures": [a, b] }));
        return Ok(());
    }
    let name = |file: &Path| {
        file.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let (first, second) = (name(a), name(b));
    print!(
        "{}",
        figures::compare(&reports[0], &reports[1], [&first, &second])
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
        "npu": host.npu.map(|npu| json!({
            "generation": format!("{:?}", npu.generation),
            "firmware": npu.firmware,
            "driver": npu.driver,
        })),
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
                let told = ["compiled", "bad", "chosen"];
                if told.iter().any(|word| line.starts_with(word)) {
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
        "lane": gpu::lane(&identity).name,
        "driver": identity.driver,
        "software": identity.software,
        "shared_memory": identity.shared_memory,
        "memory_bytes": identity.memory_bytes,
        "starts": starts,
        "kernels": lines,
        "model": figures,
    })
}
