//! The one error type of the crate.

use aequa_types::{ClusterId, Digest, Height, OperatorIndex, VoteKey};
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;

/// Why the disk could not keep a promise.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused.
    #[error("cannot {op} {path}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Something to be written is larger than its type may be; nothing was written.
    #[error("{what} has {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Name of the type.
        what: &'static str,
        /// Size offered.
        bytes: usize,
        /// Largest size allowed.
        bytes_max: usize,
    },
    /// A name from outside does not fit into a file name.
    #[error("{name:?} is not a file id: 1 to 64 of a-z, 0-9 and '-' are allowed")]
    BadFileId {
        /// The refused name, cut to 64 characters.
        name: String,
    },
    /// A file was written by a newer program. It is not corrupt, so there is no falling back.
    #[error("{path} has version {found}, this program knows up to {known}: install a newer dvt-node")]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Version found in it.
        found: u16,
        /// Newest version this program reads.
        known: u16,
    },
    /// The blocks were written by an earlier version, in another encoding.
    #[error(
        "{path} has layout {found} of an earlier version, this program needs {known}: its blocks have other digests, so that chain cannot go on"
    )]
    OlderVersion {
        /// The directory.
        path: PathBuf,
        /// Layout found in it.
        found: u16,
        /// The only layout this program reads.
        known: u16,
    },
    /// The vote log was written by an earlier version, in a layout this program does not read. Nothing was changed.
    #[error("{path} has layout {found} of an earlier version, which this program does not read")]
    OlderLog {
        /// The segment.
        path: PathBuf,
        /// Layout found in it.
        found: u16,
    },
    /// Another process holds the directory.
    #[error(
        "data directory in use: another process holds {path}; stop it first, never run two nodes on one directory"
    )]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The directory belongs to another cluster or operator.
    #[error(
        "{path} belongs to {found}, this node is {expected}: point --data-dir at this operator's own directory"
    )]
    ForeignDirectory {
        /// The directory or file that says so.
        path: PathBuf,
        /// Owner it names.
        found: String,
        /// Owner expected.
        expected: String,
    },
    /// The directory holds data but nothing readable says whose.
    #[error(
        "{path} is missing or unreadable although the directory holds data: restore it from the same backup as the rest"
    )]
    IdentityLost {
        /// The identity file.
        path: PathBuf,
    },
    /// The vote log is damaged where it was already durable. Nothing was changed.
    #[error(
        "vote log corrupt in {path} at byte {offset}: {reason}; do not delete it, repair from peers and the signing database"
    )]
    WalCorrupt {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The signing database cannot be used. Nothing was changed.
    #[error(
        "signing database corrupt in {path}: {reason}; move the file away, the node then asks its peers what it signed"
    )]
    SigningDbCorrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A log of entries cannot be used. Nothing was changed.
    #[error("{path}: {reason}")]
    EntryLogCorrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The audit log does not hold from this record on; what comes before it does.
    #[error("{path}: record {number}, at byte {offset}: {reason}")]
    AuditBroken {
        /// The file.
        path: PathBuf,
        /// Number of the record that is not there as it was written.
        number: u64,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Vote log and signing database say different things of one key.
    #[error(
        "vote log and signing database contradict each other at {} round {} ({:?})", key.instance, key.round, key.kind
    )]
    Contradiction {
        /// Of which key.
        key: VoteKey,
    },
    /// The second gate: a statement must not be made here.
    #[error("refused to sign a {:?} for {} round {}: {reason}", key.kind, key.instance, key.round)]
    VoteRefused {
        /// Where it would have been made.
        key: VoteKey,
        /// Why not.
        reason: &'static str,
    },
    /// An earlier write failed half-way; nothing more is accepted until the process is restarted.
    #[error("storage stopped: an earlier write or sync failed, restart the node")]
    Poisoned,
    /// Another block is stored at this height. The first one stays.
    #[error("height {height} holds block {stored}, refused {offered}")]
    Conflict {
        /// The height.
        height: Height,
        /// Digest stored.
        stored: Digest,
        /// Digest offered.
        offered: Digest,
    },
    /// Blocks are stored without gaps.
    #[error("next block is {expected}, offered {offered}")]
    Gap {
        /// The height that can be stored next.
        expected: Height,
        /// The height offered.
        offered: Height,
    },
    /// The block does not extend the stored chain.
    #[error("block {height} has parent {offered}, the chain ends in {stored}")]
    WrongParent {
        /// Height of the offered block.
        height: Height,
        /// Parent it names.
        offered: Digest,
        /// Digest of the last stored block, or the cluster id.
        stored: Digest,
    },
    /// The parts offered together do not belong together, or not into this store.
    #[error("cannot store: {reason}")]
    Mismatch {
        /// What does not fit.
        reason: &'static str,
    },
    /// There is no block at this height.
    #[error("no block at height {height}")]
    UnknownHeight {
        /// The height asked for.
        height: Height,
    },
    /// The chain store is encrypted otherwise than it is opened.
    #[error("the block store in {path}: {reason}")]
    WrongKey {
        /// The store.
        path: PathBuf,
        /// What does not fit.
        reason: &'static str,
    },
    /// The chain store contradicts itself.
    #[error("chain store corrupt: {reason}")]
    ChainCorrupt {
        /// What is wrong.
        reason: String,
    },
    /// The storage engine failed.
    #[error("chain store: {0}")]
    Engine(#[from] fjall::Error),
}

impl StorageError {
    /// Whether the chain store is damaged: what it holds is not what was written.
    #[allow(clippy::wildcard_enum_match_arm, reason = "errors of fjall, which grow")]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::ChainCorrupt { .. } => true,
            Self::Engine(fjall::Error::Storage(inner)) => !matches!(inner, fjall::LsmError::Io(_)),
            Self::Engine(error) => matches!(
                error,
                fjall::Error::JournalRecovery(_)
                    | fjall::Error::Decompress(_)
                    | fjall::Error::InvalidTrailer
                    | fjall::Error::InvalidTag(_)
                    | fjall::Error::Unrecoverable
            ),
            _ => false,
        }
    }

    /// Whether it may be over by itself, or by what an operator does outside: a full or read-only disk, one that does
    /// not answer, too few file descriptors or too little memory.
    #[allow(clippy::wildcard_enum_match_arm, reason = "errors of fjall, which grow")]
    pub fn may_pass(&self) -> bool {
        let source = match self {
            Self::Io { source, .. } => source,
            Self::Engine(fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source))) => {
                source
            }
            // An earlier write failed, and the reason is gone with it.
            Self::Poisoned | Self::Engine(fjall::Error::Poisoned) => return true,
            _ => return false,
        };
        let passing =
            [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        source.raw_os_error().is_some_and(|raw| passing.iter().any(|errno| errno.raw_os_error() == raw))
    }

    /// Whether the node must refuse to sign because promises may be lost or are somebody else's
    /// (exit 4), as opposed to an ordinary failure (exit 1).
    pub fn is_safety_refusal(&self) -> bool {
        match self {
            Self::NewerVersion { .. }
            | Self::OlderVersion { .. }
            | Self::OlderLog { .. }
            | Self::InUse { .. }
            | Self::ForeignDirectory { .. }
            | Self::IdentityLost { .. }
            | Self::WalCorrupt { .. }
            | Self::SigningDbCorrupt { .. }
            | Self::EntryLogCorrupt { .. }
            | Self::Contradiction { .. }
            | Self::VoteRefused { .. } => true,
            Self::Io { .. }
            | Self::TooLarge { .. }
            | Self::BadFileId { .. }
            | Self::AuditBroken { .. }
            | Self::Poisoned
            | Self::Conflict { .. }
            | Self::Gap { .. }
            | Self::WrongParent { .. }
            | Self::Mismatch { .. }
            | Self::UnknownHeight { .. }
            | Self::WrongKey { .. }
            | Self::ChainCorrupt { .. }
            | Self::Engine(_) => false,
        }
    }
}

/// How an owner is named in errors.
pub(crate) fn owner(cluster_id: ClusterId, operator: OperatorIndex) -> String {
    format!("operator {operator} of cluster {cluster_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(errno: Errno) -> StorageError {
        let source = io::Error::from_raw_os_error(errno.raw_os_error());
        StorageError::Io { op: "write", path: PathBuf::from("x"), source }
    }

    #[test]
    fn what_may_pass_and_what_is_damage_are_told_apart() {
        for errno in [Errno::NOSPC, Errno::ROFS, Errno::MFILE, Errno::IO] {
            assert!(io(errno).may_pass() && !io(errno).is_damage(), "{errno}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS] {
            assert!(!io(errno).may_pass() && !io(errno).is_damage(), "{errno}");
        }
        let corrupt = StorageError::ChainCorrupt { reason: String::new() };
        assert!(corrupt.is_damage() && !corrupt.may_pass());
        let torn = StorageError::Engine(fjall::Error::InvalidTrailer);
        assert!(torn.is_damage() && !torn.may_pass());
    }
}
