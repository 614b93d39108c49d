//! `onebit route`: the score table, and why this silicon.

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::Failed;
use super::client::Client;
use crate::app::{App, Ask, Priority};
use crate::config::Config;

#[derive(Args)]
pub(super) struct RouteArgs {
    /// A model, or auto, auto:fast, auto:eco, auto:quality.
    model: String,
    /// Length of the prompt.
    #[arg(long, default_value_t = 64)]
    prompt_tokens: usize,
    /// Limit of the answer.
    #[arg(long)]
    max_tokens: Option<usize>,
    /// Only this lane, by its name or its silicon's.
    #[arg(long)]
    lane: Option<String>,
    /// Nobody waits for the answer.
    #[arg(long)]
    background: bool,
}

/// Asks the running appliance, which knows what is loaded and busy; without one, what a start would find.
pub(super) async fn run(config: Config, args: RouteArgs, json: bool) -> Result<(), Failed> {
    let decision = match Client::find(&config.data_dir).await {
        Some(client) => client.get(&path(&args)).await?,
        None => here(config, &args).await?,
    };
    if json {
        println!("{decision}");
    } else {
        print!("{}", decision["table"].as_str().unwrap_or_default());
    }
    Ok(())
}

async fn here(config: Config, args: &RouteArgs) -> Result<Value, Failed> {
    let app = App::open(config)?;
    let priority = if args.background {
        Priority::Background
    } else {
        Priority::Interactive
    };
    let ask = Ask {
        prompt_tokens: args.prompt_tokens,
        tokens_max: args.max_tokens,
        lane: args.lane.as_deref(),
        priority,
        ..Ask::default()
    };
    let decision = app.explain(&args.model, &ask).await?;
    Ok(json!({
        "model": decision.model,
        "lane": decision.lane,
        "reason": decision.reason,
        "route": decision.header,
        "table": decision.table,
    }))
}

fn path(args: &RouteArgs) -> String {
    let word = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut path = format!(
        "/v1/route/explain?model={}&prompt_tokens={}",
        word(&args.model),
        args.prompt_tokens
    );
    if let Some(tokens) = args.max_tokens {
        path.push_str(&format!("&max_tokens={tokens}"));
    }
    if let Some(lane) = &args.lane {
        path.push_str(&format!("&lane={}", word(lane)));
    }
    if args.background {
        path.push_str("&priority=background");
    }
    path
}
