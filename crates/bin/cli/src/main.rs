//! The `dvt-node` binary: the command line, and one module per command.
//!
//! | module | what it does |
//! |---|---|
//! | [`cli`] | arguments to a [`cli::Command`] |
//! | [`given`] | arguments and environment as text |
//! | [`flags`] | flags that several commands have |
//! | [`run`] | a node |
//! | [`create_cluster`] | makes clusters with the trusted dealer |
//! | [`import_obol`] | takes over the validators of an Obol cluster |
//! | [`verify`] | checks blocks, accounts and a node's state with nothing but public keys |
//! | [`audit`] | checks and shows what a node has recorded of itself |
//! | [`replay`] | runs a recorded height again |
//! | [`tx`] | makes, sends and follows transactions |
//! | [`load`] | many transactions, and what becomes of them |
//! | [`devnet`] | a whole cluster on this machine |
//! | [`client`] | asks a node's API |
//! | [`unfence`] | lets a node that fenced itself begin again |
//! | [`version`] | what this binary is |
//!
//! The node itself is the library `aequa-node`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod audit;
mod backup;
mod cli;
mod client;
mod create_cluster;
mod devnet;
mod dkg;
mod flags;
mod given;
mod import_obol;
mod load;
mod replay;
mod run;
mod staking;
mod tx;
mod unfence;
mod verify;
mod version;

use aequa_node::exit::ExitError;
use aequa_node::{allocator, console, hardening};
use cli::Command;
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
        Command::Run(args) => run::run(args),
        Command::Unfence(args) => unfence::unfence(&args),
        Command::Audit(command) => audit::run(&command),
        Command::Version(args) => {
            version::print(&args);
            Ok(())
        }
        Command::CreateCluster(args) => create_cluster::create_cluster(args),
        Command::Dkg(args) => dkg::dkg(args),
        Command::ImportObol(args) => import_obol::import_obol(args),
        Command::VerifyBlock(args) => verify::verify_block(&args),
        Command::VerifyProof(args) => verify::verify_proof(&args),
        Command::VerifyState(args) => verify::verify_state(&args),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Replay(args) => replay::replay(&args),
        Command::Tx(command) => tx::run(command),
        Command::Devnet(args) => devnet::run(args),
    }
}
