//! Programs a trial runs, with errors that say which.

use crate::AdversaryError;
use aequa_node::process::{Process, command};
use std::path::Path;

/// Runs a program to its end; its standard output.
pub(super) fn output(path: &Path, args: &[&str]) -> Result<String, AdversaryError> {
    let fail = |why| failed(path, args, why);
    let output = command(path, args).output().map_err(|error| fail(error.to_string()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(fail(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// Starts a program with its output in a file.
pub(super) fn spawn(path: &Path, args: &[&str], log: &Path) -> Result<Process, AdversaryError> {
    Process::spawn(command(path, args), log, log).map_err(|error| failed(path, args, error.to_string()))
}

fn failed(path: &Path, args: &[&str], why: String) -> AdversaryError {
    let what = format!("{} {}", path.display(), args.first().copied().unwrap_or_default());
    AdversaryError::Process { what, why }
}
