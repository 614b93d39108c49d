//! `onebit status`: how the running appliance is doing.

use serde_json::Value;

use super::client::Client;
use super::{Failed, size};
use crate::config::Config;

pub(super) async fn run(config: Config, json: bool) -> Result<(), Failed> {
    let client = Client::find(&config.data_dir).await.ok_or_else(|| {
        format!(
            "no appliance serves {}; start one with `onebit serve`",
            config.data_dir.display()
        )
    })?;
    let status = client.get("/onebit/status").await?;
    if json {
        println!("{status}");
        return Ok(());
    }
    let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    println!(
        "onebit {} up {} s",
        status["version"].as_str().unwrap_or("?"),
        number("/uptime_s")
    );
    let session = client.get("/onebit/session").await?;
    let network: Vec<&str> = session["network"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !network.is_empty() {
        let pages: Vec<String> = network.iter().map(|base| format!("{base}/app")).collect();
        println!("network {}", pages.join("  "));
    }
    println!(
        "memory  {} of {} free, models hold {}",
        size(number("/memory/available_bytes")),
        size(number("/memory/total_bytes")),
        size(number("/memory/used_by_models_bytes")),
    );
    println!(
        "queue   {} active, {} waiting",
        number("/queue/active"),
        number("/queue/waiting")
    );
    if let Some(line) = super::starter::line(&client.get("/onebit/starter").await?) {
        println!("starter {line}");
    }
    if let Some(gpu) = gpu(&status["gpu"]) {
        println!("gpu     {gpu}");
    }
    for model in status["models"].as_array().into_iter().flatten() {
        let text = |key: &str| model[key].as_str().unwrap_or_default();
        println!("model   {} {} {}", text("id"), text("state"), text("error"));
    }
    Ok(())
}

/// How far the built-in engine's kernels for the GPU are, in one line; `None` where no GPU is used.
fn gpu(gpu: &Value) -> Option<String> {
    let text = |key: &str| gpu[key].as_str().unwrap_or_default();
    let place = format!("{} on {}", text("lane"), text("device"));
    let done = format!("{} of {}", gpu["done"], gpu["total"]);
    Some(match gpu["phase"].as_str()? {
        "compiling" => {
            format!("{place}: {done} kernels compiled and checked; the processor answers")
        }
        "timing" => format!("{place}: answers; parameters of {done} shapes timed"),
        "ready" => format!("{place}: ready"),
        _ => format!("{place}: not used, the processor answers: {}", text("why")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_phase_says_who_answers() {
        let line = |phase: &str| {
            let why = "kernel rope computes other numbers";
            let view = json!({
                "lane": "ternary.hip", "device": "Radeon", "phase": phase, "done": 3, "total": 25, "why": why,
            });
            gpu(&view).unwrap()
        };
        assert_eq!(
            line("compiling"),
            "ternary.hip on Radeon: 3 of 25 kernels compiled and checked; the processor answers"
        );
        assert!(line("timing").contains("3 of 25 shapes"));
        assert_eq!(line("ready"), "ternary.hip on Radeon: ready");
        assert!(line("failed").ends_with("other numbers"));
        assert_eq!(gpu(&Value::Null), None);
    }
}
