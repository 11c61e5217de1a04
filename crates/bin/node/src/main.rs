//! The `dvt-node` binary: command line, configuration, and one module per subcommand.
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | arguments to a [`cli::Command`] |
//! | [`config`] | flags, environment and file to one typed [`config::RunConfig`] |
//! | [`given`] | arguments and environment as text |
//! | [`exit`] | exit codes and hints |
//! | [`run`] | the running node |
//! | [`keys`] | who this node is: lock, identity, share |
//! | [`cluster`] | makes clusters with the trusted dealer |
//! | [`creation`] | folders made all at once |
//! | [`hardening`] | keeps memory and files of a process with keys private |
//! | [`verify_block`] | checks a block with nothing but public keys |
//! | [`replay`] | runs a recorded height again |
//! | [`tx`] | makes, sends and follows transactions |
//! | [`load`] | many transactions, with the books kept |
//! | [`devnet`] | a whole cluster on this machine |
//! | [`allocator`] | when free memory goes back to the system |
//! | [`client`] | asks a node's API |
//!
//! Nothing here decides anything about consensus, blocks or keys; it brings the parts together.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod allocator;
mod cli;
mod client;
mod cluster;
mod config;
mod console;
mod creation;
mod devnet;
mod exit;
mod files;
mod given;
mod hardening;
mod keys;
mod load;
mod replay;
mod run;
mod tx;
mod verify_block;
mod version;

use cli::Command;
use config::RunConfig;
use exit::ExitError;
use std::num::NonZeroUsize;
use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::give_back_early();
    hardening::keep_memory_private();
    match given::arguments().map_err(cli::Refusal::from).and_then(cli::parse) {
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
        Command::Run(args) => {
            devnet::follow_parent();
            hardening::keep_files_private();
            let signals = run::Signals::listen().map_err(ExitError::failure)?;
            run::run(RunConfig::resolve(args.settings, given::environment()?)?, signals)
        }
        Command::Version { json } => {
            version::print(json);
            Ok(())
        }
        Command::CreateCluster(args) => cluster::create_cluster(args),
        Command::VerifyBlock(args) => verify_block::verify_block(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Tx(command) => tx::run(command),
        Command::Devnet(args) => devnet::run(args),
    }
}

/// The runtime of a node, and of the subcommands that talk to nodes.
fn runtime() -> Result<tokio::runtime::Runtime, ExitError> {
    // Asked for a number it does not look for one in the environment, where anything else is a panic.
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(threads)
        .thread_name("node")
        .build()
        .map_err(|error| ExitError::failure(format!("cannot start the runtime: {error}")))
}
