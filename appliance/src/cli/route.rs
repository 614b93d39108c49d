//! `onebit route`: the score table, and why this silicon.

use clap::Args;
use serde_json::json;

use super::Failed;
use crate::app::App;
use crate::config::Config;
use crate::engines::route::{Ask, Priority};

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
    /// Nobody waits for the answer.
    #[arg(long)]
    background: bool,
}

pub(super) async fn run(config: Config, args: RouteArgs, json: bool) -> Result<(), Failed> {
    let app = App::open(config)?;
    let priority = if args.background {
        Priority::Background
    } else {
        Priority::Interactive
    };
    let ask = Ask {
        prompt_tokens: args.prompt_tokens,
        tokens_max: args.max_tokens,
        priority,
        ..Ask::default()
    };
    let decision = app.explain(&args.model, &ask).await?;
    if json {
        println!(
            "{}",
            json!({"model": decision.model, "lane": decision.lane, "route": decision.header})
        );
    } else {
        print!("{}", decision.table);
    }
    Ok(())
}
