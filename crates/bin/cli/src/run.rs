//! `dvt-node run`.

use crate::flags::SettingFlags;
use crate::{devnet, given};
use aequa_node::config::RunConfig;
use aequa_node::exit::ExitError;
use aequa_node::{hardening, run};
use clap::Args;

/// Run a node
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Everything that can be set.
    #[command(flatten)]
    pub settings: SettingFlags<true>,
}

/// Runs a node until it is told to stop.
pub fn run(args: RunArgs) -> Result<(), ExitError> {
    devnet::follow_parent();
    hardening::keep_files_private();
    let signals = run::Signals::listen().map_err(ExitError::failure)?;
    run::run(RunConfig::resolve(args.settings.given, given::environment()?)?, signals)
}
