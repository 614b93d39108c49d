//! `onebit ppl`: perplexity, the gate for correctness.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Failed;
use crate::app::App;
use crate::config::Config;

#[derive(Args)]
pub(super) struct PplArgs {
    /// The model's name.
    model: String,
    /// The text, in UTF-8.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Tokens in one window.
    #[arg(long, default_value_t = 512, value_name = "N")]
    context: usize,
}

pub(super) async fn run(config: Config, args: PplArgs, json: bool) -> Result<(), Failed> {
    let text = std::fs::read_to_string(&args.text)
        .map_err(|error| format!("cannot read {}: {error}", args.text.display()))?;
    let app = App::open(config)?;
    let shows = std::io::stderr().is_terminal() && !json;
    let measured = app
        .perplexity(&args.model, &text, args.context, |done, of, so_far| {
            if shows {
                eprint!("\r{done}/{of} {so_far:.4} ");
            }
        })
        .await?;
    if shows {
        eprintln!();
    }
    if json {
        println!(
            "{}",
            json!({
                "model": args.model,
                "perplexity": measured.value,
                "error": measured.error,
                "windows": measured.windows,
                "tokens": measured.tokens,
                "context": args.context,
            })
        );
    } else {
        println!(
            "perplexity {:.4} ± {:.4} ({} windows, {} tokens scored)",
            measured.value, measured.error, measured.windows, measured.tokens
        );
    }
    Ok(())
}
