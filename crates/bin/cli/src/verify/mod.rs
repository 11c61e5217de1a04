//! What is checked with nothing but a cluster lock, and what these commands have in common.

mod block;
mod proof;
mod state;
mod trusted;

pub use block::{VerifyBlockArgs, verify_block};
pub use proof::{VerifyProofArgs, verify_proof};
pub use state::{VerifyStateArgs, verify_state};

use aequa_crypto::lock::{self, VerifiedLock};
use aequa_crypto::verify::Verifier;
use aequa_node::exit::ExitError;
use aequa_node::{console, files};
use aequa_types::lock::LOCK_BYTES_MAX;
use aequa_types::{Certificate, Header, Proof};
use std::io::Read as _;
use std::path::Path;

/// What was found: every check that held, in words, or the first that did not.
type Verdict = Result<Vec<String>, String>;

/// Prints a verdict; the exit code tells invalid (1).
fn tell(verdict: Verdict) -> Result<(), ExitError> {
    let checks = verdict.map_err(|why| ExitError::failure(format!("invalid: {why}")))?;
    checks.iter().for_each(held);
    console::line("valid");
    Ok(())
}

/// Prints a check that held.
fn held(check: impl std::fmt::Display) {
    console::line(format!("  ok  {check}"));
}

/// The lock to check against; without one that verifies nothing can be checked.
fn load_lock(path: &Path) -> Result<VerifiedLock, ExitError> {
    let text = files::read_text(path, LOCK_BYTES_MAX)
        .map_err(|error| ExitError::unchecked(format!("cannot read {}: {error}", path.display())))?;
    lock::load(&text).map_err(|error| {
        ExitError::unchecked(format!("the lock {} does not verify: {error}", path.display()))
    })
}

/// A file that may be stdin, of which one byte more than may be is read.
fn read_input(path: &Path, bytes_max: usize) -> Result<Vec<u8>, ExitError> {
    match path.as_os_str() == "-" {
        true => read_bounded(std::io::stdin().lock(), "stdin", bytes_max),
        false => read_file(path, bytes_max),
    }
}

/// A file, of which one byte more than may be is read.
fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, ExitError> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path)
        .map_err(|error| ExitError::unchecked(format!("cannot read {name}: {error}")))?;
    read_bounded(file, &name, bytes_max)
}

fn read_bounded(source: impl std::io::Read, name: &str, bytes_max: usize) -> Result<Vec<u8>, ExitError> {
    let mut bytes = Vec::new();
    source
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ExitError::unchecked(format!("cannot read {name}: {error}")))?;
    Ok(bytes)
}

/// Whether a header says that it is of the cluster of a lock.
fn check_origin(lock: &VerifiedLock, header: &Header) -> Result<String, String> {
    let cluster = lock.cluster_id();
    if header.cluster_id != cluster {
        return Err(format!("the block is of cluster {}, the lock of {cluster}", header.cluster_id));
    }
    let policy_hash = lock.lock().consensus.builder_policy_hash;
    if header.policy_hash != policy_hash {
        return Err(format!("policy_hash is {}, the lock says {policy_hash}", header.policy_hash));
    }
    if !lock.quorum().contains(header.proposer) {
        return Err(format!("proposer {} is no operator of the lock", header.proposer));
    }
    Ok(format!("cluster {cluster} and builder policy are those of the lock"))
}

/// Whether a header was decided by the cluster of a lock, whatever its block holds.
fn check_header(lock: &VerifiedLock, header: &Header, certificate: &Certificate) -> Verdict {
    let origin = check_origin(lock, header)?;
    Verifier::new(lock).certified_header(header, certificate).map_err(|refusal| refusal.to_string())?;
    Ok(vec![origin, proof_in_words(certificate, lock.quorum().quorum())])
}

fn proof_in_words(certificate: &Certificate, quorum: usize) -> String {
    match &certificate.proof {
        Proof::Group(_) => format!("seal of the group, round {}", certificate.round),
        Proof::Commits(commits) => {
            format!(
                "{} commit signatures of operators, {quorum} needed, round {}",
                commits.len(),
                certificate.round
            )
        }
    }
}
