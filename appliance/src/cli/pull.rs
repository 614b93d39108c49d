//! `onebit pull`: a model from the hub, with its progress.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::{Failed, size};
use crate::app::App;
use crate::app::catalog::{Progress, Source};
use crate::config::Config;

/// Between two looks at the progress: smooth for the eye.
const TICK: Duration = Duration::from_millis(200);
/// Between two lines where no terminal redraws them.
const LINE_TICKS: u32 = 50;

#[derive(Args)]
pub(super) struct PullArgs {
    /// A name from `onebit catalogue`, or a repository: ORGANISATION/NAME, each with :QUANT for a certain file.
    model: String,
    /// The name that requests will use.
    #[arg(long)]
    name: Option<String>,
    /// Another hub than the one in the settings.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

pub(super) async fn run(mut config: Config, args: PullArgs, json: bool) -> Result<(), Failed> {
    if let Some(endpoint) = args.endpoint {
        config.hub.endpoint = endpoint;
    }
    let source = Source::parse(&args.model)?;
    let app = App::open(config)?;
    let progress = Arc::new(Progress::default());
    let begun = Instant::now();
    let mut pulled = std::pin::pin!(app.pull(&source, args.name, &progress));
    let mut tick = tokio::time::interval(TICK);
    let mut ticks = 0;
    let model = loop {
        tokio::select! {
            model = &mut pulled => break model?,
            _ = tick.tick() => {
                ticks += 1;
                show(&progress, begun, ticks);
            }
        }
    };
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    let resumed = progress.resumed_bytes.load(Ordering::Relaxed);
    if json {
        println!(
            "{}",
            json!({"id": model.id, "file_bytes": model.file_bytes, "sha256": model.sha256, "resumed_bytes": resumed})
        );
    } else {
        println!(
            "{} ({}) is ready: onebit chat {}",
            model.id,
            size(model.file_bytes),
            model.id
        );
    }
    Ok(())
}

fn show(progress: &Progress, begun: Instant, ticks: u32) {
    let [total, done, resumed] = [
        &progress.total_bytes,
        &progress.done_bytes,
        &progress.resumed_bytes,
    ]
    .map(|n| n.load(Ordering::Relaxed));
    if total == 0 {
        return;
    }
    let rate = done.saturating_sub(resumed) as f64 / begun.elapsed().as_secs_f64().max(0.1);
    let line = format!(
        "{:>3} %  {} of {}  {}/s",
        done * 100 / total,
        size(done),
        size(total),
        size(rate as u64)
    );
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{line}");
    } else if ticks.is_multiple_of(LINE_TICKS) {
        eprintln!("{line}");
    }
}
