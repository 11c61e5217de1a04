//! The running node.

use crate::config::RunConfig;
use crate::exit::ExitError;

/// Runs a node until it is stopped.
pub fn run(config: RunConfig) -> Result<(), ExitError> {
    let _ = config;
    Err(ExitError::failure("node runtime is not wired yet"))
}
