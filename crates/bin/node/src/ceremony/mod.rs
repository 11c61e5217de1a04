//! The key ceremony of real operators: the pure machine of `aequa-dkg`, with files and a network.
//!
//! ```text
//! DATA/keys/identity.json  encryption.json          the operator's own keys, and their passwords in .txt
//! DATA/dkg/seed.json  dkg-<hash>.dat                 what the dealing is made from; the transcript
//! DATA/dkg/metrics.prom                              how it goes, for collectors of metrics
//! DATA/cluster-lock.json  deposit-data.json  node.toml  keys/keystore-*.json     what comes out, the lock last
//! DATA/next/...                                      what comes out of a resharing, where a node may be running
//! ```
//!
//! | module | one idea |
//! |---|---|
//! | `plan` | the definition, and the lock it follows |
//! | `meeting` | where operators meet, and whether they mean the same ceremony |
//! | `own` | the operator's own keys, and how others know it |
//! | `home` | where in its folder the outcome goes, and what is held of it meanwhile |
//! | `transcript` | the machine's durable memory |
//! | `member` | an operator begins, or goes on with what its folder remembers |
//! | `part` | its part as it runs: steps, timers, progress |
//! | `desk` | what members say, and what it costs them |
//! | `signing` | the new lock is signed together |
//! | `watch` | metrics and log events |
//! | `faulty` | an operator that lies, in builds with the feature `e2e` only |
//!
//! # Rules
//!
//! 1. Whatever happens, the same command again goes on: the seed is durable before the first message, every entry before
//!    what rests on it leaves, and the lock is the last file to be written.
//! 2. The name of the ceremony, and so of everything signed in it, is the hash of the definition. Operators whose
//!    definitions differ do not hear each other, and are shown the first line that differs.
//! 3. Who has finished goes on answering those that have not, until all have or time is up. When all have signed the
//!    lock the seed is removed.
//! 4. Keys that are there are never overwritten by others. What an operator needs of a ceremony that has ended is in its
//!    transcript, or in any, and in anybody's lock: with that lock in its folder it needs nobody else.
//! 5. One process at a time works in a folder: it holds the lock that a node holds.

mod desk;
#[cfg(feature = "e2e")]
pub mod faulty;
mod home;
mod meeting;
pub mod member;
pub mod own;
mod part;
mod plan;
mod signing;
mod transcript;
pub mod watch;

pub use meeting::MEETING_PORT_OFFSET;
pub use plan::Plan;

use crate::exit::ExitError;
use aequa_dkg::{Blame, PublicResult, verify_blames, verify_transcript};
use std::path::{Path, PathBuf};

/// Name of the definition in examples.
pub const DEFINITION_FILE: &str = "cluster-definition.json";

/// What a transcript shows.
#[derive(Debug)]
pub struct Verified {
    /// Of which ceremony.
    pub plan: Plan,
    /// The keys, or why there are none.
    pub result: Result<PublicResult, ExitError>,
    /// Who did what, proven to everybody, and who was silent.
    pub blames: Vec<Blame>,
}

/// Checks a transcript, with nothing but the definition and, of a resharing, the lock before it.
pub fn verify(definition: &Path, locks: &[PathBuf], transcript: &Path) -> Result<Verified, ExitError> {
    let plan = Plan::load(definition, locks)?;
    let machine = &plan.machine;
    let entries = transcript::read(transcript, machine.ceremony())?;
    let fail = |error: aequa_dkg::Error| ExitError::failure(format!("{}: {error}", transcript.display()));
    let blames = verify_blames(machine, entries.clone()).map_err(fail)?;
    Ok(Verified { result: verify_transcript(machine, entries).map_err(fail), blames, plan })
}
