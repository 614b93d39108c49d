//! `onebit convert`: from one packing or container to another, without loss or not at all.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use onebit_kernels::format::TensorKind;
use onebit_kernels::format::convert::{ConvertOptions, Embedding, Progress, Target, convert};
use serde_json::json;

use super::{Failed, size};

/// What embeddings can be written as.
const EMBEDDINGS: [(&str, Embedding); 8] = [
    ("f32", Embedding::Dense(TensorKind::F32)),
    ("f16", Embedding::Dense(TensorKind::F16)),
    ("bf16", Embedding::Dense(TensorKind::Bf16)),
    ("q8_0", Embedding::Dense(TensorKind::Q8_0)),
    ("q5_1", Embedding::Dense(TensorKind::Q5_1)),
    ("q4_0", Embedding::Dense(TensorKind::Q4_0)),
    ("q4_1", Embedding::Dense(TensorKind::Q4_1)),
    ("i6", Embedding::SixBit),
];
/// Lines told where no terminal redraws one.
const LINES: usize = 10;

#[derive(Args)]
pub(super) struct ConvertArgs {
    /// A .gguf or .h1b file, or a Hugging Face folder with safetensors.
    input: PathBuf,
    /// The file to write; it must not exist.
    output: PathBuf,
    /// How to store the ternary matrices: t2, t5, s34, s24, tq1_0, tq2_0, i2_s, q2_0_g128, q1_0_g128, or
    /// h1b-v1 to h1b-v4, h1b-q2, h1b-q1.
    #[arg(long, value_name = "FORMAT")]
    to: String,
    /// Store embeddings and head anew, which may round: f32, f16, bf16, q8_0, q5_1, q4_0, q4_1 or i6.
    #[arg(long, value_name = "KIND")]
    embedding: Option<String>,
}

pub(super) async fn run(args: ConvertArgs, json: bool) -> Result<(), Failed> {
    let options = ConvertOptions {
        to: Target::named(&args.to)?,
        embedding: args.embedding.as_deref().map(embedding).transpose()?,
    };
    let (input, output) = (args.input, args.output.clone());
    let task = move || convert(&input, &output, &options, &mut show);
    let report = tokio::task::spawn_blocking(task).await;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let report = report??;
    if json {
        println!(
            "{}",
            json!({
                "output": args.output,
                "format": args.to.to_ascii_lowercase(),
                "tensors": report.tensors,
                "ternary": report.ternary,
                "bytes": report.bytes,
                "notes": report.notes,
            })
        );
        return Ok(());
    }
    for note in &report.notes {
        eprintln!("note: {note}");
    }
    println!(
        "{}: {} tensors, {} of them ternary, {}",
        args.output.display(),
        report.tensors,
        report.ternary,
        size(report.bytes)
    );
    Ok(())
}

fn embedding(name: &str) -> Result<Embedding, Failed> {
    let known = EMBEDDINGS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    let names = || EMBEDDINGS.map(|(name, _)| name).join(", ");
    known
        .map(|&(_, embedding)| embedding)
        .ok_or_else(|| format!("`{name}` is no kind of embedding; these are: {}", names()).into())
}

fn show(progress: Progress<'_>) {
    let Progress {
        done,
        total,
        tensor,
    } = progress;
    let percent = done * 100 / total.max(1);
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K{percent:>3} %  {tensor}");
    } else if done > 0 && done % total.div_ceil(LINES).max(1) == 0 {
        eprintln!("{percent:>3} %  {tensor}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_named() {
        assert_eq!(embedding("I6").unwrap(), Embedding::SixBit);
        let error = embedding("q9").unwrap_err().to_string();
        assert!(error.contains("q9") && error.contains("q8_0"), "{error}");
    }
}
