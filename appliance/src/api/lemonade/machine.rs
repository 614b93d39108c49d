//! `GET system-info`, `system-stats` and `stats`: the machine, what it does, and what answers cost.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::super::failure::json as answer;
use super::engines::recipes;
use super::{LEMONADE_VERSION, Refused};
use crate::app::{App, Hardware};
use crate::domain::{Peer, Scope};

const GIB: f64 = (1u64 << 30) as f64;

fn gib(bytes: u64) -> f64 {
    (bytes as f64 / GIB * 100.0).round() / 100.0
}

pub(in super::super) async fn system_stats(State(app): State<App>) -> Result<Response, Refused> {
    let now = app.activity().await?;
    let gpu = now.gpu.unwrap_or_default();
    Ok(answer(
        StatusCode::OK,
        &json!({
            "cpu_percent": now.cpu_percent.map(|percent| (percent * 10.0).round() / 10.0),
            "memory_gb": now.memory_used_bytes.map(gib),
            "gpu_percent": gpu.busy_percent,
            "vram_gb": gpu.vram_used_bytes.map(gib),
            // Mapped host memory, which is where an integrated GPU keeps its models.
            "gtt_gb": gpu.gtt_used_bytes.map(gib),
            "gpu_watts": gpu.power_watts,
            "npu_percent": null,
        }),
    ))
}

/// Where models lie on the disk is told to the owner only.
pub(in super::super) async fn system_info(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
) -> Result<Response, Refused> {
    let hardware = app.hardware().await?;
    let host = &hardware.host;
    let mut body = Map::new();
    body.insert("version".into(), LEMONADE_VERSION.into());
    let system = host.system.name.clone().or(host.system.kernel.clone());
    body.insert("OS Version".into(), json!(system));
    body.insert("Processor".into(), json!(host.cpu.model));
    let memory = host
        .memory
        .map(|memory| format!("{} GB", gib(memory.total_bytes)));
    body.insert("Physical Memory".into(), json!(memory));
    if let Some((total, free)) = hardware.disk {
        let path = app.store().folder().join("models").display().to_string();
        let storage = json!({
            "path": if peer.holds(Scope::Owner) { Value::from(path) } else { Value::Null },
            "total_bytes": total,
            "free_bytes": free,
            "used_bytes": total.saturating_sub(free),
        });
        body.insert("model_storage".into(), storage);
    }
    body.insert("devices".into(), devices(&hardware));
    body.insert("recipes".into(), recipes(&app.programs(), &hardware));
    body.insert("unavailable_recipes".into(), json!([]));
    body.insert("no_fetch_executables".into(), true.into());
    body.insert("cloud".into(), json!({ "providers": [] }));
    Ok(answer(StatusCode::OK, &Value::Object(body)))
}

fn devices(hardware: &Hardware) -> Value {
    let host = &hardware.host;
    let gpus = |vendor: &str| -> Vec<Value> {
        let of_vendor = host
            .gpus
            .iter()
            .filter(|gpu| format!("{:?}", gpu.vendor) == vendor);
        of_vendor
            .map(|gpu| {
                json!({
                    "name": gpu.name,
                    "vram_gb": gpu.vram_total_bytes.map(gib),
                    "virtual_mem_gb": gpu.gtt_total_bytes.map(gib),
                    "integrated": gpu.integrated,
                    "family": gpu.isa.map(|isa| isa.to_string()),
                    "available": gpu.driver.is_some(),
                })
            })
            .collect()
    };
    let mut devices = json!({
        "cpu": {
            "name": host.cpu.model,
            "cores": host.cpu.cores,
            "threads": host.cpu.threads,
            "available": true,
            "family": if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" },
        },
        "amd_gpu": gpus("Amd"),
        "nvidia_gpu": gpus("Nvidia"),
    });
    if let Some(npu) = &host.npu {
        devices["amd_npu"] = json!({
            "name": npu.product,
            "family": if npu.generation.is_xdna2() { "XDNA2" } else { "XDNA" },
            "power_mode": null,
            "available": npu.driver.is_some(),
        });
    }
    devices
}
