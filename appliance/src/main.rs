#![forbid(unsafe_code)]
//! The program: reads the command line and leaves with its exit code.

fn main() -> std::process::ExitCode {
    onebit::cli::main()
}
