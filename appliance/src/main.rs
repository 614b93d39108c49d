#![forbid(unsafe_code)]
//! The program: reads the command line and leaves with its exit code.

use std::process::ExitCode;

use onebit::config::arguments;
use onebit::process::{guard, shim};
use onebit::rag::child;

fn main() -> ExitCode {
    // Three hidden commands come before the command line: a child on its way to its program, the guard, and the
    // reader of a foreign file.
    match arguments()
        .next()
        .as_deref()
        .and_then(|first| first.to_str())
    {
        Some(shim::SUBCOMMAND) => shim::main(arguments().skip(1)),
        Some(guard::SUBCOMMAND) => guard::main(),
        Some(child::SUBCOMMAND) => child::main(arguments().skip(1)),
        _ => onebit::cli::main(),
    }
}
