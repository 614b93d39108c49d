//! The hidden subcommand that reads one file in a process of its own, which may die of it.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::extract::{ExtractError, Limits, extract};
use super::wire;
pub use super::wire::read;

/// The hidden subcommand of our own binary: `extract FILE NAME`.
pub const SUBCOMMAND: &str = "extract";

/// Stack of the reading thread: a page of a PDF nests far deeper than the system's 8 MiB allow for.
const STACK_BYTES: usize = 256 << 20;

/// Reads the file and prints what it holds. A reader's panic ends the process with its own message on stderr.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let (Some(file), Some(name)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    let reading = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || wire::write(&open_and_extract(Path::new(&file), &name.to_string_lossy())));
    let Ok(Ok(output)) = reading.map(std::thread::JoinHandle::join) else {
        return ExitCode::from(101);
    };
    match std::io::stdout().lock().write_all(&output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn open_and_extract(
    file: &Path,
    name: &str,
) -> Result<crate::domain::document::Text, ExtractError> {
    let bytes = std::fs::read(file).map_err(|error| ExtractError::Broken {
        format: "kept",
        why: error.to_string(),
    })?;
    extract(name, &bytes, Limits::default())
}
