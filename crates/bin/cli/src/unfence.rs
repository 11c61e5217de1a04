//! `dvt-node unfence`: the fence of a node that has given up, removed by hand.

use crate::flags::{path, text};
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_storage::data_dir::hold_dir;
use aequa_storage::{FenceMark, StorageError};
use clap::Args;
use std::path::PathBuf;

/// Let a node that fenced itself begin again
///
/// A node fences itself when its state is damaged or not the one a quorum certified, has the state again from the
/// others, and removes the fence by itself. After three times within a day it gives up: look at the disk and the memory
/// of the machine first. The store that is not trusted is set aside as `chain.damaged`, and at its next start the node has
/// its state again from the others; what it signed stays known.
#[derive(Debug, Args)]
pub struct UnfenceArgs {
    /// Yes, by hand
    #[arg(long, required = true)]
    pub force: bool,
    /// Why; it is kept beside what the fence said
    #[arg(long, value_name = "TEXT", value_parser = text())]
    pub reason: String,
    /// The operator's folder
    #[arg(long, value_name = "DIR", default_value = "./aequa-data", value_parser = path())]
    pub data_dir: PathBuf,
}

/// Forgets how often the node has fenced itself, and takes away the store it does not trust.
pub fn unfence(args: &UnfenceArgs) -> Result<(), ExitError> {
    let dir = &args.data_dir;
    if !dir.is_dir() {
        return Err(ExitError::usage(format!("--data-dir: there is no folder {}", dir.display())));
    }
    let failed = |error: StorageError| match error.is_safety_refusal() {
        true => ExitError::refused(error).hint("stop the node first"),
        false => ExitError::failure(error),
    };
    let _held = hold_dir(dir).map_err(failed)?;
    let Some(mark) = FenceMark::load(dir).map_err(failed)? else {
        return Err(ExitError::failure(format!("{} is not fenced", dir.display())));
    };
    let said = mark.reason();
    let reason = FenceMark::reason_of(&format!("{said}; removed by hand: {}", args.reason));
    let forgiven = FenceMark { reason, attempts: 0, ..mark };
    forgiven.set(dir).map_err(failed)?;
    if !forgiven.is_set_aside {
        FenceMark::set_store_aside(dir).map_err(failed)?;
    }
    FenceMark::remove(dir).map_err(failed)?;
    console::line(format!("the fence is removed; it said: {said}"));
    Ok(())
}
