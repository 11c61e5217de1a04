//! What a node keeps on its own disk.
//!
//! | module | what it keeps | when it is durable |
//! |---|---|---|
//! | [`frame`] | the 16-byte head of every small state file: magic, version, length, CRC | – |
//! | [`atomic`] | replacing such a file so that the old or the new one is always there | on return |
//! | [`last_state`] | height and round for tools | on return |
//! | [`notes`] | that a directory is new, or that its memory is in doubt | on return |
//! | [`data_dir`] | who owns the directory; one process at a time | on return |
//! | [`wal`] | the vote log: every promise the operator made | on return of [`wal::Wal::sync`] |
//! | [`audit`] | what the node did that somebody may ask about later; bounded, chained by hashes | on return of [`audit::AuditLog::sync`] |
//! | [`journal`] | what the replica of a node takes in, when it records; bounded | never before [`journal::Journal::finish`] |
//! | [`signing_db`] | which statement was made where: the second gate, independent of the log | on return of [`signing_db::SigningDb::settle`], before the next turn sends |
//! | [`votes`] | the log and the database together, in the one order that is safe | on return of [`votes::Votes::sync`] |
//! | [`chain_store`] | blocks, certificates, state rows, duty results | on return of [`chain_store::ChainStore::flush`] |
//!
//! # Rules
//!
//! - The API blocks. The node calls it from its own threads; nothing here knows an executor.
//! - **Persist before send.** A vote may leave the node only after the [`votes::Votes::sync`] that covers it
//!   returned `Ok`. After one error log or database are poisoned for ever: the page cache cannot be trusted after a failed sync, so the process stops
//!   and recovery reads what the disk really holds.
//! - **A prefix or a refusal.** Whatever a crash or a bad disk left, opening gives a prefix of what
//!   was written, or an error. It never gives a log with a hole.
//! - **In doubt, do not start.** Errors for which [`StorageError::is_safety_refusal`] is true mean the
//!   node must not sign (exit 4): another process or operator owns the directory, or promises may
//!   have been lost.
//! - The chain store may lag behind the vote log by what was not flushed, and is always a
//!   consistent prefix of the chain: the node executes the missing blocks again.
//! - Lengths read from disk are checked against the cap of their type before memory is taken.
//! - All integers this crate lays out itself are big-endian; payloads are SSZ.
//!
//! # May be touched here
//!
//! Files below the data directory, nothing else. No keys, no signatures, no consensus rule: what a
//! record *means* is the replica's business.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

pub mod atomic;
pub mod audit;
pub mod chain_store;
pub mod data_dir;
pub mod entry_log;
mod error;
pub mod fence;
mod files;
pub mod frame;
pub mod journal;
pub mod last_state;
pub mod medium;
pub mod notes;
pub mod signing_db;
pub mod votes;
pub mod wal;

pub use audit::{AuditEntry, AuditKind, AuditLog};
pub use chain_store::{BlockCommit, ChainOptions, ChainStore, Committed, FjallChainStore, Tip};
pub use data_dir::{DataDir, Identity};
pub use error::StorageError;
pub use fence::FenceMark;
pub use journal::Journal;
pub use last_state::LastState;
pub use notes::Notes;
pub use signing_db::{SigningDb, SigningDbOptions};
pub use votes::Votes;
pub use wal::{Recovered, Wal, WalOptions};
