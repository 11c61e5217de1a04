//! The node: configuration, wiring, threads. The binary that starts it is in `cli`.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | flags, environment and file to one typed [`config::RunConfig`] |
//! | [`run`] | the running node |
//! | [`keys`] | who this node is: lock, identity, share |
//! | [`cluster`] | makes clusters with the trusted dealer |
//! | [`epochs`] | locks that were, and the change to the next one |
//! | [`audit`] | what is recorded in the audit log of a folder |
//! | [`obol`] | takes over the validators of an Obol cluster |
//! | `creation` | folders made all at once |
//! | `custody` | keys and ceremonies on disk, as metrics and log events |
//! | [`files`] | files that others must not read, and those that come from outside |
//! | [`hardening`] | keeps memory and files of a process with keys private |
//! | [`allocator`] | when free memory goes back to the system |
//! | [`console`] | what commands print |
//! | [`process`] | nodes as processes of their own |
//! | [`exit`] | exit codes and hints |
//! | [`version`] | what this build is |
//!
//! Nothing here decides anything about consensus, blocks or keys; it brings the parts together.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

pub mod allocator;
pub mod audit;
pub mod backup;
pub mod ceremony;
pub mod cluster;
pub mod config;
pub mod console;
mod creation;
mod custody;
pub mod deposits;
pub mod epochs;
pub mod exit;
pub mod files;
pub mod hardening;
pub mod keys;
pub mod obol;
pub mod process;
pub mod run;
pub mod store_key;
mod validators;
pub mod version;

use exit::ExitError;
use std::num::NonZeroUsize;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch by this machine's clock.
pub fn wall_ms() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    u64::try_from(wall).unwrap_or(u64::MAX)
}

/// The runtime of a node, and of the subcommands that talk to nodes.
pub fn runtime() -> Result<tokio::runtime::Runtime, ExitError> {
    // Asked for a number it does not look for one in the environment, where anything else is a panic.
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(threads)
        .thread_name("node")
        .build()
        .map_err(|error| ExitError::failure(format!("cannot start the runtime: {error}")))
}
