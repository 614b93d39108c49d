//! `onebit bench`: speed beside what the memory can do, and beside the perplexity.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Failed, size};
use crate::app::{App, BenchPlan, BenchReport, Subject};
use crate::config::Config;

mod figures;
mod report;
mod served;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// What to measure.
    #[arg(required_unless_present_any = ["report", "vs", "compare"])]
    what: Option<What>,
    /// Model files or names; several make one table.
    models: Vec<String>,
    /// Threads; one for each physical core when left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// A text whose perplexity is told as well, possibly several: UTF-8, or token ids in a .u16 file.
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
    /// Windows of 512 tokens of each text at most.
    #[arg(long, value_name = "N", default_value_t = 16)]
    windows: usize,
    /// Measure all of it, on processor and GPU and through a server, into one file to send to whoever asks how this
    /// machine does: Markdown where its name ends in .md, else JSON.
    #[arg(long, value_name = "FILE", conflicts_with = "what")]
    report: Option<PathBuf>,
    /// A word for the report's head, such as the commit that is measured.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "report")]
    note: String,
    /// The name of the model that `--report` or `--vs` measures; the default one without it.
    #[arg(long, value_name = "NAME", default_value = "", conflicts_with = "what")]
    model: String,
    /// Measure a llama.cpp server and ourselves in alternation, with the model of this name on both.
    #[arg(long, value_name = "http://HOST:PORT", conflicts_with_all = ["what", "report"])]
    vs: Option<String>,
    /// Put two reports (JSON) beside each other.
    #[arg(long, num_args = 2, value_names = ["FILE", "FILE"], conflicts_with_all = ["what", "report", "vs"])]
    compare: Vec<PathBuf>,
    /// The GPU that the report is about: `auto`, or `software` for a test without one.
    #[arg(long, value_enum, default_value = "auto", requires = "report")]
    device: super::kernels::Device,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Ternary products, without a model.
    Kernels,
    /// Tokens one after another.
    Decode,
    /// A prompt of 512 tokens.
    Prefill,
    /// Decoding behind 0, 1024 and 4096 positions.
    Depth,
}

pub(super) async fn run(config: Config, args: BenchArgs, json: bool) -> Result<(), Failed> {
    if let Some(file) = &args.report {
        let device = args.device.into();
        return report::write(config, file, &args, device).await;
    }
    if let [a, b] = args.compare.as_slice() {
        return report::compare(a, b, json);
    }
    if let Some(address) = &args.vs {
        let measured = served::versus(config, &args.model, address).await?;
        match json {
            true => println!("{measured}"),
            false => print!("{}", figures::versus(&measured)),
        }
        return Ok(());
    }
    let app = App::open(config)?;
    let plan = BenchPlan {
        subject: match args.what {
            Some(What::Kernels) | None => Subject::Kernels,
            Some(What::Decode) => Subject::Decode,
            Some(What::Prefill) => Subject::Prefill,
            Some(What::Depth) => Subject::Depth,
        },
        models: args.models,
        threads: args.threads.map(usize::from),
        texts: args.text,
        windows_max: args.windows,
    };
    let report = app.bench(plan, |next| eprintln!("{next}")).await?;
    if json {
        println!("{}", view(&report));
    } else {
        print!("{}", table(&report));
    }
    Ok(())
}

fn view(report: &BenchReport) -> Value {
    let lines: Vec<Value> = report
        .lines
        .iter()
        .map(|line| {
            let perplexities: Vec<Value> = line
                .perplexities
                .iter()
                .map(|p| json!({"text": p.text, "perplexity": p.value, "error": p.error, "tokens": p.tokens}))
                .collect();
            json!({
                "name": line.name,
                "kind": line.kind,
                "what": line.what,
                "file_bytes": line.file_bytes,
                "tokens_per_s": line.tokens_per_s,
                "bytes_read": line.bytes_read,
                "gb_per_s": line.gb_per_s,
                "bandwidth_gb_per_s": line.bandwidth_gb_per_s,
                "bandwidth_share": line.share(),
                "perplexities": perplexities,
            })
        })
        .collect();
    json!({ "processor": report.processor, "threads": report.threads, "lines": lines })
}

/// The report for people: one row a figure, one further column a text.
fn table(report: &BenchReport) -> String {
    let mut head: Vec<String> = [
        "name", "kind", "what", "file", "tok/s", "read", "GB/s", "memory", "share",
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some(line) = report.lines.first() {
        head.extend(line.perplexities.iter().map(|p| format!("ppl {}", p.text)));
    }
    let mut rows = vec![head];
    for line in &report.lines {
        let file = if line.file_bytes == 0 {
            "-".to_owned()
        } else {
            size(line.file_bytes)
        };
        let mut row = vec![
            line.name.clone(),
            line.kind.clone(),
            line.what.clone(),
            file,
            format!("{:.1}", line.tokens_per_s),
            size(line.bytes_read),
            format!("{:.2}", line.gb_per_s),
            format!("{:.2}", line.bandwidth_gb_per_s),
            format!("{:.0} %", line.share() * 100.0),
        ];
        row.extend(line.perplexities.iter().map(|p| format!("{:.4}", p.value)));
        rows.push(row);
    }
    let columns = rows[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let processor = report.processor.as_deref().unwrap_or("unnamed processor");
    let mut text = format!("{processor}, {} threads\n", report.threads);
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        // Names to the left, figures to the right.
        let cells: Vec<String> = cells
            .map(|(column, (cell, &width))| {
                if column < 3 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{BenchLine, TextPerplexity};

    #[test]
    fn a_table_has_a_column_for_each_text() {
        let report = BenchReport {
            processor: Some("a processor".into()),
            threads: 2,
            lines: vec![BenchLine {
                name: "mini".into(),
                kind: "t5".into(),
                what: "decode".into(),
                file_bytes: 45_991_104,
                tokens_per_s: 123.45,
                bytes_read: 51_000_000,
                gb_per_s: 6.3,
                bandwidth_gb_per_s: 12.6,
                perplexities: vec![TextPerplexity {
                    text: "docs".into(),
                    value: 9.7,
                    error: 0.1,
                    tokens: 100,
                }],
            }],
        };
        let text = table(&report);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.contains("ppl docs") && text.contains("9.7000") && text.contains("50 %"),
            "{text}"
        );
        let view = view(&report);
        assert_eq!(view["lines"][0]["bandwidth_share"], 0.5);
    }
}
