//! `onebit import`, `models`, `show`, `rm`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::{Failed, size};
use crate::app::catalog::{CURATED, Curated, Source, repositories};
use crate::app::{App, ModelStatus, NewModel};
use crate::config::Config;
use crate::domain::Model;

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The model file; or ORGANISATION/NAME[:QUANT], where another program of the hub has fetched it already.
    file: PathBuf,
    /// The name to use; made from the file's own when left out.
    #[arg(long)]
    name: Option<String>,
}

fn view(model: &Model) -> Value {
    json!({
        "id": model.id,
        "name": model.name,
        "architecture": model.architecture,
        "quantisation": model.quantisation,
        "context_length": model.context_length,
        "file_bytes": model.file_bytes,
        "sha256": model.sha256,
        "path": model.path,
        "chat": model.has_template,
    })
}

pub(super) async fn import(config: Config, args: ImportArgs, json: bool) -> Result<(), Failed> {
    let app = App::open(config)?;
    let source = args.file.to_str().and_then(|text| Source::parse(text).ok());
    let model = match source.filter(|_| !args.file.exists()) {
        Some(source) => app.import_cached(&source, args.name).await?,
        None => {
            let (path, name) = (args.file, args.name);
            app.import(NewModel { path, name }).await?
        }
    };
    if json {
        println!("{}", view(&model));
    } else {
        println!(
            "{} ({}, {}, {})",
            model.id,
            model.architecture,
            model.quantisation,
            size(model.file_bytes)
        );
    }
    Ok(())
}

/// What is worth starting with, and what the hub's own programs have fetched already.
pub(super) fn catalogue(config: &Config, json: bool) {
    let cached = repositories(&config.hub.cache);
    if json {
        let view = |model: &Curated| {
            json!({
                "name": model.name,
                "repository": model.repository,
                "flm": model.flm,
                "licence": model.licence,
                "good_for": model.good_for,
            })
        };
        let models: Vec<Value> = CURATED.iter().map(view).collect();
        println!("{}", json!({ "models": models, "cached": cached }));
        return;
    }
    for model in CURATED {
        println!(
            "{:<18} {:<42} {:<11} {:<11} {}",
            model.name,
            model.repository,
            model.flm.unwrap_or("-"),
            model.licence,
            model.good_for
        );
    }
    for repo in &cached {
        println!("{repo} is in the hub's cache: onebit import {repo}");
    }
}

pub(super) async fn list(config: Config, json: bool) -> Result<(), Failed> {
    let client = Client::find(&config.data_dir).await;
    let running = match &client {
        Some(client) => client.get("/onebit/models").await?,
        None => Value::Null,
    };
    let app = App::open(config)?;
    let models = app.models().await?;
    let state = |status: &ModelStatus| {
        let known = running["models"]
            .as_array()
            .and_then(|list| list.iter().find(|m| m["id"] == status.model.id.as_str()));
        let idle = if status.present { "ready" } else { "absent" };
        known
            .and_then(|model| model["state"].as_str())
            .unwrap_or(idle)
            .to_owned()
    };
    if json {
        let views: Vec<Value> = models
            .iter()
            .map(|status| {
                let mut view = view(&status.model);
                view["state"] = json!(state(status));
                view
            })
            .collect();
        println!("{}", json!({ "models": views }));
        return Ok(());
    }
    if models.is_empty() {
        println!("no models yet; `onebit import FILE.gguf` brings one in");
    }
    for status in &models {
        let model = &status.model;
        println!(
            "{:<32} {:<14} {:<8} {:>9}  {}",
            model.id,
            model.architecture,
            model.quantisation,
            size(model.file_bytes),
            state(status)
        );
    }
    Ok(())
}

pub(super) async fn show(config: Config, name: &str, json: bool) -> Result<(), Failed> {
    let app = App::open(config)?;
    let model = app.model(name).await?;
    if json {
        println!("{}", view(&model));
        return Ok(());
    }
    println!("id            {}", model.id);
    println!("name          {}", model.name);
    println!("architecture  {}", model.architecture);
    println!("quantisation  {}", model.quantisation);
    println!("context       {} tokens", model.context_length);
    println!(
        "cache         {} a token",
        size(model.kv_bytes_per_position)
    );
    println!(
        "chat template {}",
        if model.has_template { "yes" } else { "no" }
    );
    println!(
        "file          {} ({})",
        model.path.display(),
        size(model.file_bytes)
    );
    println!("sha256        {}", model.sha256);
    Ok(())
}

pub(super) async fn remove(config: Config, name: &str, json: bool) -> Result<(), Failed> {
    let removed = match Client::find(&config.data_dir).await {
        Some(client) => {
            let answer = client.delete(&format!("/onebit/models/{name}")).await?;
            answer["id"].as_str().unwrap_or(name).to_owned()
        }
        None => App::open(config)?.remove_model(name).await?.id,
    };
    if json {
        println!("{}", json!({ "deleted": true, "id": removed }));
    } else {
        println!("{removed} is gone");
    }
    Ok(())
}
