//! The `tracehop` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracehop::cli::main(std::env::args_os())
}
