//! The command line: one file per command.

mod admin_flags;
mod broker;
mod check;
mod completions;
mod dial;
mod doctor;
mod http;
mod logging;
mod output;
mod peek;
mod rabbitmq;
mod redis;
mod reload;
mod run;
mod settings;
mod signals;
mod tail;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap::Parser;
use clap::Subcommand;
use thiserror::Error;

use crate::admin::AdminError;
use crate::admin::TokenError;
use crate::cli::doctor::Doctor;
use crate::cli::peek::Peek;
use crate::cli::settings::Settings;
use crate::cli::tail::Tail;
use crate::cli::verify::Verify;
use crate::config::Complaints;
use crate::telemetry::StartError;

/// Runs the command that `arguments` name, the program's own name first.
///
/// Exits with 64 when the command line or the configuration is wrong, and with 1 when what
/// was asked for could not be done, or is not well; `verify` tells what it cannot find with 2.
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
        Command::Run(settings) => run::run(&settings).map(|()| ExitCode::SUCCESS),
        Command::Check(settings) => check::check(&settings).map(|()| ExitCode::SUCCESS),
        Command::Doctor(options) => wait_for(doctor::doctor(options)),
        Command::Tail(options) => wait_for(tail::tail(options)),
        Command::Peek(options) => wait_for(peek::peek(options)),
        Command::Verify(options) => wait_for(verify::verify(options)),
        Command::Completions { shell } => completions::completions(Arguments::command(), shell),
        Command::Man => completions::man(Arguments::command()),
    };
    match done {
        Ok(code) => code,
        Err(error) if error.is::<Complaints>() => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
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
        || error.is::<Misused>()
}

/// Runs a command that asks others, on this thread.
fn wait_for(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let done = runtime.block_on(command);
    // A name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    done
}

/// A flag or variable whose value cannot be used. Where the value may hold a secret, this
/// does not.
#[derive(Debug, Error)]
#[error("{flag}: {fault}; {remedy}")]
struct Misused {
    flag: &'static str,
    fault: String,
    remedy: &'static str,
}

/// A transparent proxy between Celery apps and their broker that joins their traces on
/// the wire.
#[derive(Parser)]
#[command(name = "tracehop", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Proxy, until told to stop by SIGTERM or SIGINT
    #[command(after_help = settings::AFTER_HELP)]
    Run(Settings),
    /// Print the configuration that `run` would use, or all that is wrong with it
    #[command(after_help = settings::AFTER_HELP)]
    Check(Settings),
    Doctor(Doctor),
    Tail(Tail),
    Peek(Peek),
    Verify(Verify),
    /// Print a script that completes this command line in a shell
    #[command(long_about = completions::COMPLETIONS_ABOUT)]
    Completions {
        /// The shell that is to complete it
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff
    #[command(long_about = completions::MAN_ABOUT)]
    Man,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 it could not be done, 64 the command line or the configuration is
wrong. `tracehop COMMAND --help` tells more, with examples.";

/// The exit code for what the user has to put right (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
