//! Why the adversary cannot do its work.

use std::path::PathBuf;

/// Why the adversary cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum AdversaryError {
    /// A file of the operator's folder.
    #[error("cannot read {path}: {why}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What was asked for does not exist or makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The transport.
    #[error(transparent)]
    Transport(#[from] aequa_p2p::P2pError),
    /// A process of the trial.
    #[error("{what}: {why}")]
    Process {
        /// What was tried.
        what: String,
        /// What happened.
        why: String,
    },
    /// A node did not do in time what it must before the trial can go on.
    #[error("not within {seconds} s: {what}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
    },
}
