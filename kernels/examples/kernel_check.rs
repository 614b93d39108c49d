//! Checks every kernel variant of this machine against the scalar definition and prints its speed: one binary
//! to carry to a machine with other vector instructions.
//!
//! `kernel_check [check] [speed] [threads N] [runs N] [kb N] [columns N] [tokens N] [layout NAME] [cpu]`
#![allow(clippy::print_stdout, reason = "a command-line program")]

use onebit_kernels::bench::{self, Plan};
use onebit_kernels::cpu::ternary::{Layout, TernaryMatrix};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Instant;

fn clock() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64()
}

/// Seconds that this thread has run: on a busy machine the fairer clock, if a coarse one.
fn cpu_clock() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|ns| ns.parse::<f64>().ok())
        .unwrap_or(f64::NAN)
        / 1e9
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|a| a == word);
    let after = |word: &str| {
        args.iter()
            .position(|a| a == word)
            .and_then(|i| args.get(i + 1))
    };
    let number = |word: &str, otherwise: usize| {
        after(word)
            .and_then(|n| n.parse().ok())
            .unwrap_or(otherwise)
    };
    let all = !has("check") && !has("speed");
    let mut failed = 0;
    if all || has("check") {
        failed = bench::check(&mut |line| println!("{line}"));
        println!(
            "{}",
            if failed == 0 {
                "all variants equal scalar"
            } else {
                "FAILED"
            }
        );
    }
    if all || has("speed") {
        let threads = number("threads", 0);
        for threads in if threads == 0 {
            vec![1, 2]
        } else {
            vec![threads]
        } {
            let plan = Plan {
                clock: if has("cpu") { cpu_clock } else { clock },
                threads,
                runs: number("runs", 5),
                bytes: number("kb", 256 << 10) << 10,
                timed_bytes: 256 << 20,
            };
            for layout in Layout::ALL {
                if after("layout").is_some_and(|name| name != layout.name()) {
                    continue;
                }
                for variant in TernaryMatrix::variants(layout).into_iter().skip(1) {
                    let tokens = number("tokens", 1);
                    match bench::multiply(&plan, layout, variant, number("columns", 2560), tokens) {
                        Ok(s) => println!(
                            "{:9} {:10} k={} threads={} tokens={} {:7.2} GB/s of {:6.2} ({:5.1} %) {:7.1} GMAC/s, best {:7.1}",
                            s.kernel,
                            s.variant,
                            s.columns,
                            s.threads,
                            s.tokens,
                            s.gb_s(),
                            s.bandwidth / 1e9,
                            100.0 * s.share(),
                            s.gmac_s(),
                            s.gmac_s() * s.seconds / s.seconds_best
                        ),
                        Err(e) => println!("{}: {e}", layout.name()),
                    }
                }
            }
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
