//! The `dvt-node` binary: command line, configuration, and one module per subcommand.
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | arguments to a [`cli::Command`] |
//! | [`config`] | flags, environment and file to one typed [`config::RunConfig`] |
//! | [`exit`] | exit codes and hints |
//! | [`run`] | the running node |
//!
//! Nothing here decides anything about consensus, blocks or keys; it brings the parts together.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;
mod config;
mod console;
mod exit;
mod run;
mod version;

use cli::Command;
use config::RunConfig;
use exit::ExitError;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::parse(std::env::args().skip(1)) {
        Ok(command) => match dispatch(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                console::complain(error.report());
                ExitCode::from(error.code)
            }
        },
        Err(refusal) if refusal.code == 0 => {
            console::line(refusal.text.trim_end());
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            console::complain(refusal.text.trim_end());
            ExitCode::from(refusal.code)
        }
    }
}

fn dispatch(command: Command) -> Result<(), ExitError> {
    match command {
        Command::Run(args) => run::run(RunConfig::resolve(args.settings, std::env::vars())?),
        Command::Version { json } => {
            version::print(json);
            Ok(())
        }
        _ => Err(ExitError::failure("not wired yet")),
    }
}
