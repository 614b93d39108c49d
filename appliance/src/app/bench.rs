//! How fast this machine runs models and kernels, beside what its memory can do, and how good the models are.
//!
//! Owns the one report that the command line prints as a table or as JSON. Measures bare files with the
//! built-in engine, alone: a loaded appliance would share its cores with the measurement.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use onebit_kernels::bench::{Plan, bandwidth, gemv, multiply};
use onebit_kernels::cpu::ternary::{Layout, TernaryMatrix};
use onebit_kernels::format::gguf::Gguf;
use onebit_kernels::kv::KvKind;
use onebit_kernels::measure::{self, Rate};
use onebit_kernels::model::{LoadOptions, Model};
use onebit_kernels::threads::Threads;
use onebit_kernels::tokenizer::{Encode, Tokenizer};

use super::{App, AppError};

/// Each figure is the median of so many runs; bandwidth is measured before each of them.
const RUNS: usize = 3;
/// Tokens of one decode run: half a second to five for the models that are measured.
const DECODE_TOKENS: usize = 64;
/// Tokens of one prefill run: what peers are measured with.
const PREFILL_TOKENS: usize = 512;
/// Positions already in the cache, for `depth`, as far as the model's context goes.
const DEPTHS: [usize; 3] = [0, 1024, 4096];
/// Tokens decoded at a depth: filling the cache costs more than they do.
const DEPTH_TOKENS: usize = 32;
/// Tokens in one window of a perplexity.
const WINDOW_TOKENS: usize = 512;
/// Weights of a kernel's matrix: twice the last-level cache of the largest machines we know.
const KERNEL_BYTES: usize = 128 << 20;
/// Columns of a kernel's matrix: BitNet-2B-4T's width.
const KERNEL_COLUMNS: usize = 2560;
/// Columns of the batch kernels.
const KERNEL_BATCH: usize = 64;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Ternary products of every layout, without a model.
    Kernels,
    /// Tokens one after another.
    Decode,
    /// A prompt of 512 tokens.
    Prefill,
    /// Decoding behind 0, 1024 and 4096 positions.
    Depth,
}

/// What to measure, on what.
#[derive(Debug, Clone)]
pub struct BenchPlan {
    /// What.
    pub subject: Subject,
    /// Files, or names of models; the default model when empty.
    pub models: Vec<String>,
    /// Threads; the settings' number when `None`.
    pub threads: Option<usize>,
    /// Texts whose perplexity stands beside the speed: UTF-8, or token ids as `.u16`.
    pub texts: Vec<PathBuf>,
    /// Windows of each text at most.
    pub windows_max: usize,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Processor, as it calls itself, where it does.
    pub processor: Option<String>,
    /// Threads that computed.
    pub threads: usize,
    /// One line a figure.
    pub lines: Vec<Line>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The model's file name or the kernel's.
    pub name: String,
    /// The packing or the variant.
    pub kind: String,
    /// What was done, such as `decode` or `decode at 1024`.
    pub what: String,
    /// Size of the model's file; 0 for kernels.
    pub file_bytes: u64,
    /// Tokens a second; for kernels, passes over the matrix.
    pub tokens_per_s: f64,
    /// Bytes of weights and cache that one token (in prefill, one prompt) reads.
    pub bytes_read: u64,
    /// Gigabytes read a second.
    pub gb_per_s: f64,
    /// Read bandwidth of this machine, measured between the runs over as many bytes and threads.
    pub bandwidth_gb_per_s: f64,
    /// One for each text.
    pub perplexities: Vec<TextPerplexity>,
}

impl Line {
    /// Share of the bandwidth that was used; above 1 where a cache helps.
    pub fn share(&self) -> f64 {
        self.gb_per_s / self.bandwidth_gb_per_s
    }
}

/// How well a model predicts a text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextPerplexity {
    /// The text's file name.
    pub text: String,
    /// The perplexity.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
    /// Tokens scored.
    pub tokens: usize,
}

impl App {
    /// Measures, and tells `progress` what comes next.
    ///
    /// # Errors
    /// A model or a text cannot be read, or there is no memory for it.
    pub async fn bench(
        &self,
        plan: BenchPlan,
        mut progress: impl FnMut(String) + Send + 'static,
    ) -> Result<Report, AppError> {
        let threads = plan.threads.unwrap_or(match self.config().ternary.threads {
            0 => self.inner.cores,
            set => set,
        });
        let mut files = Vec::new();
        if plan.subject != Subject::Kernels {
            let names = if plan.models.is_empty() {
                vec![String::new()]
            } else {
                plan.models.clone()
            };
            for name in names {
                let file = Path::new(&name).is_file();
                files.push(if file {
                    PathBuf::from(name)
                } else {
                    self.model(&name).await?.path
                });
            }
        }
        let task = tokio::task::spawn_blocking(move || {
            let mut lines = Vec::new();
            if plan.subject == Subject::Kernels {
                kernels(threads, &mut lines, &mut progress)?;
            }
            for file in &files {
                model(file, &plan, threads, &mut lines, &mut progress)?;
            }
            Ok::<_, AppError>(lines)
        });
        let lines = task
            .await
            .map_err(|panic| AppError::Measure(panic.to_string()))??;
        let processor = crate::host::Host::read(Path::new("/")).cpu.model;
        Ok(Report {
            processor,
            threads,
            lines,
        })
    }
}

fn failed(error: impl std::fmt::Display) -> AppError {
    AppError::Measure(error.to_string())
}

/// Seconds since the first call.
fn clock() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

fn reading(threads: usize, bytes: usize) -> Plan {
    Plan {
        clock,
        threads,
        runs: RUNS,
        bytes,
        timed_bytes: 4 * bytes,
    }
}

fn kernels(
    threads: usize,
    lines: &mut Vec<Line>,
    progress: &mut impl FnMut(String),
) -> Result<(), AppError> {
    let plan = Plan {
        timed_bytes: KERNEL_BYTES,
        ..reading(threads, KERNEL_BYTES)
    };
    for layout in Layout::ALL {
        let best = TernaryMatrix::variants(layout)
            .into_iter()
            .next_back()
            .unwrap_or("scalar");
        progress(format!("{} {best}", layout.name()));
        let one = gemv(&plan, layout, best, KERNEL_COLUMNS).map_err(failed)?;
        let many = multiply(&plan, layout, best, KERNEL_COLUMNS, KERNEL_BATCH).map_err(failed)?;
        for speed in [one, many] {
            lines.push(Line {
                name: speed.kernel.clone(),
                kind: speed.variant.to_owned(),
                what: format!("{} tokens, {:.1} GMAC/s", speed.tokens, speed.gmac_s()),
                file_bytes: 0,
                tokens_per_s: speed.tokens as f64 / speed.seconds,
                bytes_read: speed.bytes as u64,
                gb_per_s: speed.gb_s(),
                bandwidth_gb_per_s: speed.bandwidth / 1e9,
                perplexities: Vec::new(),
            });
        }
    }
    Ok(())
}

fn model(
    file: &Path,
    plan: &BenchPlan,
    n_threads: usize,
    lines: &mut Vec<Line>,
    progress: &mut impl FnMut(String),
) -> Result<(), AppError> {
    let wrong = |why: String| AppError::NotAModel {
        path: file.to_owned(),
        why,
    };
    let name = file_name(file);
    let gguf = Arc::new(Gguf::open(file).map_err(|error| wrong(error.to_string()))?);
    let loaded = Model::load(Arc::clone(&gguf), &LoadOptions::default());
    let model = loaded.map_err(|error| wrong(error.to_string()))?;
    let threads = Threads::new(n_threads);
    let perplexities = perplexities(&model, &gguf, plan, &threads, &name, progress)?;
    let context = model.config().context_length;
    let runs: Vec<(String, usize)> = match plan.subject {
        Subject::Kernels => Vec::new(),
        Subject::Decode => vec![("decode".to_owned(), 0)],
        Subject::Prefill => vec![(format!("prefill of {PREFILL_TOKENS}"), 0)],
        Subject::Depth => DEPTHS
            .into_iter()
            .filter(|depth| depth + DEPTH_TOKENS <= context)
            .map(|depth| (format!("decode at {depth}"), depth))
            .collect(),
    };
    let memory = usize::try_from(model.weight_bytes()).unwrap_or(KERNEL_BYTES);
    for (what, depth) in runs {
        progress(format!("{name}: {what}"));
        let once = || match plan.subject {
            Subject::Prefill => measure::prefill(&model, &threads, PREFILL_TOKENS),
            Subject::Depth => measure::decode(&model, &threads, KvKind::F16, depth, DEPTH_TOKENS),
            Subject::Kernels | Subject::Decode => {
                measure::decode(&model, &threads, KvKind::F16, depth, DECODE_TOKENS)
            }
        };
        let (mut rates, mut reads): (Vec<Rate>, Vec<f64>) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            reads.push(bandwidth(&reading(n_threads, memory)).map_err(failed)?);
            rates.push(once().map_err(failed)?);
        }
        rates.sort_by_key(|rate| rate.time);
        reads.sort_by(f64::total_cmp);
        let rate = rates[RUNS / 2];
        let passes = if plan.subject == Subject::Prefill {
            1
        } else {
            rate.tokens as u64
        };
        lines.push(Line {
            name: name.clone(),
            kind: packing(&gguf),
            what,
            file_bytes: gguf.file_bytes(),
            tokens_per_s: rate.tokens_per_second(),
            bytes_read: rate.bytes / passes.max(1),
            gb_per_s: rate.gigabytes_per_second(),
            bandwidth_gb_per_s: reads[RUNS / 2] / 1e9,
            perplexities: perplexities.clone(),
        });
    }
    Ok(())
}

/// Our own packing, or the file's architecture where ggml's types say the rest.
fn packing(gguf: &Gguf) -> String {
    let text = |key| gguf.optional_str(key).ok().flatten().map(str::to_owned);
    text("onebit.packing")
        .or_else(|| text("general.architecture"))
        .unwrap_or_default()
}

fn perplexities(
    model: &Model,
    gguf: &Gguf,
    plan: &BenchPlan,
    threads: &Threads,
    name: &str,
    progress: &mut impl FnMut(String),
) -> Result<Vec<TextPerplexity>, AppError> {
    if plan.texts.is_empty() {
        return Ok(Vec::new());
    }
    let tokenizer = Tokenizer::from_gguf(gguf).map_err(failed)?;
    let mut all = Vec::new();
    for path in &plan.texts {
        let text = file_name(path);
        progress(format!("{name}: perplexity on {text}"));
        let bytes = std::fs::read(path).map_err(|source| AppError::File {
            what: "cannot read",
            path: path.clone(),
            source,
        })?;
        let mut tokens = tokens(path, bytes, &tokenizer)?;
        let vocabulary = model.config().n_vocab;
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(failed(format!(
                "{text} has token {id}, {name} knows {vocabulary}"
            )));
        }
        tokens.truncate(plan.windows_max.saturating_mul(WINDOW_TOKENS));
        // Stored ids stand as they are; a text begins with the model's own marker.
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let measured = measure::perplexity(
            model,
            threads,
            &tokens,
            WINDOW_TOKENS,
            bos,
            &mut |_, _, _| {},
        );
        let measured = measured.map_err(failed)?;
        all.push(TextPerplexity {
            text,
            value: measured.value,
            error: measured.error,
            tokens: measured.tokens,
        });
    }
    Ok(all)
}

/// The ids in a `.u16` file (little-endian), or those of a text.
fn tokens(path: &Path, bytes: Vec<u8>, tokenizer: &Tokenizer) -> Result<Vec<u32>, AppError> {
    if path.extension().is_some_and(|end| end == "u16") {
        let pairs = bytes.as_chunks::<2>().0;
        return Ok(pairs
            .iter()
            .map(|&pair| u16::from_le_bytes(pair).into())
            .collect());
    }
    let text =
        String::from_utf8(bytes).map_err(|_| failed(format!("{} is not UTF-8", path.display())))?;
    Ok(tokenizer.encode(
        &text,
        Encode {
            add_special: true,
            parse_special: false,
        },
    ))
}

fn file_name(path: &Path) -> String {
    let name = path.file_stem().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_bandwidth_of_the_same_run() {
        let line = Line {
            name: "a".into(),
            kind: "t5".into(),
            what: "decode".into(),
            file_bytes: 5,
            tokens_per_s: 100.0,
            bytes_read: 50_000_000,
            gb_per_s: 5.0,
            bandwidth_gb_per_s: 20.0,
            perplexities: Vec::new(),
        };
        assert!((line.share() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn the_clock_does_not_run_backwards() {
        let first = clock();
        assert!(clock() >= first);
    }
}
