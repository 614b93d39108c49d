#![forbid(unsafe_code)]
//! The program: reads the command line and leaves with its exit code.

use std::process::ExitCode;

use onebit::config::arguments;
use onebit::process::{guard, shim};

fn main() -> ExitCode {
    // Two hidden commands come before the command line: a child on its way to its program, and the guard.
    match arguments()
        .next()
        .as_deref()
        .and_then(|first| first.to_str())
    {
        Some(shim::SUBCOMMAND) => shim::main(arguments().skip(1)),
        Some(guard::SUBCOMMAND) => guard::main(),
        _ => onebit::cli::main(),
    }
}
