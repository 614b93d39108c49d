//! `onebit status`: how the running appliance is doing.

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
    let number = |pointer: &str| {
        status
            .pointer(pointer)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0)
    };
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
        .filter_map(serde_json::Value::as_str)
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
    for model in status["models"].as_array().into_iter().flatten() {
        let text = |key: &str| model[key].as_str().unwrap_or_default();
        println!("model   {} {} {}", text("id"), text("state"), text("error"));
    }
    Ok(())
}
