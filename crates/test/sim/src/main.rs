//! Runs the simulator from the command line.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
