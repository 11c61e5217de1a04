//! `dvt-node tx`: keys, transactions, and what becomes of them.

mod load;
mod new_account;
mod send;
mod status;

use aequa_node::exit::ExitError;
use aequa_node::runtime;
use clap::Subcommand;

/// Make, send and follow transactions
#[derive(Debug, Subcommand)]
pub enum TxCommand {
    NewAccount(new_account::NewAccountArgs),
    Send(Box<send::SendArgs>),
    Status(status::StatusArgs),
    Load(load::LoadArgs),
}

/// Runs one of them.
pub fn run(command: TxCommand) -> Result<(), ExitError> {
    match command {
        TxCommand::NewAccount(args) => new_account::new_account(&args),
        TxCommand::Send(args) => runtime()?.block_on(send::send(&args)),
        TxCommand::Status(args) => runtime()?.block_on(status::status(&args)),
        TxCommand::Load(args) => runtime()?.block_on(load::load(args)),
    }
}
