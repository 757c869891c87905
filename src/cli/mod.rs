//! The command line: one file per command.

mod check;
mod logging;
mod reload;
mod run;
mod settings;
mod signals;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

use crate::admin::AdminError;
use crate::admin::TokenError;
use crate::cli::settings::Settings;
use crate::config::Complaints;
use crate::telemetry::StartError;

/// Runs the command that `arguments` name, the program's own name first.
///
/// Exits with 64 when the command line or the configuration is wrong, and with 1 when what
/// was asked for could not be done.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(answer) => {
            let _ = answer.print();
            return match answer.use_stderr() {
                true => ExitCode::from(USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let done = match command {
        Command::Run(settings) => run::run(&settings),
        Command::Check(settings) => check::check(&settings),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Complaints>() => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
        Err(error) => {
            eprintln!("tracehop: {error:#}");
            match is_of_usage(&error) {
                true => ExitCode::from(USAGE),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Whether the user has to put something right.
fn is_of_usage(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StartError::Unusable(_)))
        || matches!(error.downcast_ref(), Some(AdminError::Token(_)))
        || error.is::<TokenError>()
}

/// A transparent proxy between Celery apps and their broker that joins their traces on
/// the wire.
#[derive(Parser)]
#[command(name = "tracehop", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Proxy, until told to stop by SIGTERM or SIGINT
    Run(Settings),
    /// Print the configuration that `run` would use, or all that is wrong with it
    Check(Settings),
}

/// The exit code for what the user has to put right (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
