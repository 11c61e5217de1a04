//! What can be wrong with a block, and with what a store gave back.

use crate::EvidenceRefusal;
use aequa_types::{Address, Height, OperatorIndex, TimestampMs, TxKind};
use alloy_primitives::B256;

/// A header does not follow the tip, or does not describe its block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Of another cluster.
    #[error("cluster id is {0}, not this cluster's")]
    Cluster(B256),
    /// Not the height after the tip.
    #[error("height is {found}, expected {expected}")]
    Height {
        /// Height of the header.
        found: Height,
        /// Height after the tip.
        expected: Height,
    },
    /// Child of another block.
    #[error("parent root is {found}, expected {expected}")]
    Parent {
        /// Parent named by the header.
        found: B256,
        /// Digest of the tip.
        expected: B256,
    },
    /// Computed on another state.
    #[error("state root is {found}, expected {expected}")]
    StateRoot {
        /// Root named by the header.
        found: B256,
        /// Root of the tip.
        expected: B256,
    },
    /// Not later than its parent.
    #[error("timestamp {found} ms is not after the parent's {parent} ms")]
    NotAfterParent {
        /// Timestamp of the header.
        found: TimestampMs,
        /// Timestamp of the tip.
        parent: TimestampMs,
    },
    /// A first proposal too far from the local clock.
    #[error("timestamp {found} ms of a fresh proposal is not between {oldest} and {newest} ms")]
    NotFresh {
        /// Timestamp of the header.
        found: TimestampMs,
        /// The oldest one taken now.
        oldest: TimestampMs,
        /// The newest one taken now.
        newest: TimestampMs,
    },
    /// Not the leader of the round it was first proposed in.
    #[error("proposer is {found}, expected {expected}")]
    Proposer {
        /// Proposer of the header.
        found: OperatorIndex,
        /// Leader of the round.
        expected: OperatorIndex,
    },
    /// Proposed by somebody who is no member.
    #[error("proposer {0} is not an operator of this cluster")]
    NotAMember(OperatorIndex),
    /// A leader proof where the leader needs none.
    #[error("leader proof is not empty")]
    LeaderProof,
    /// Built by another policy.
    #[error("policy hash is {found}, expected {expected}")]
    Policy {
        /// Hash named by the header.
        found: B256,
        /// Hash of the lock's policy.
        expected: B256,
    },
    /// The items are not the ones the header commits to.
    #[error("payload root does not match the items")]
    PayloadRoot,
    /// The evidence is not what the header commits to.
    #[error("evidence root does not match the evidence")]
    EvidenceRoot,
    /// Evidence that this block may not carry.
    #[error(transparent)]
    Evidence(#[from] EvidenceRefusal),
    /// Item count, fees or bids of the header are not those of the items.
    #[error("totals do not match the items")]
    Totals,
}

/// A block cannot be built or executed, or what is stored is not a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The header is wrong.
    #[error("invalid header: {0}")]
    Header(#[from] HeaderError),
    /// More items than a block can be encoded with.
    #[error("{0} items do not fit into a block")]
    TooManyItems(usize),
    /// More evidence than a block can be encoded with.
    #[error("{0} pieces of evidence do not fit into a block")]
    TooMuchEvidence(usize),
    /// An item's nonce is not the next one of its (sender, type).
    #[error("nonce of {sender} for {} is {found}, expected {expected}", .kind.name())]
    Nonce {
        /// Sender of the item.
        sender: Address,
        /// Its type.
        kind: TxKind,
        /// Nonce of the item.
        found: u64,
        /// Next nonce in the state.
        expected: u64,
    },
    /// A stored row is not one this schema writes.
    #[error("malformed row {key}: {reason}")]
    MalformedRow {
        /// Its stored key in hex.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The stored state is not the one the stored root commits to.
    #[error("the stored state has root {found}, the tip says {stored}")]
    RootMismatch {
        /// Root of the state.
        found: B256,
        /// Root stored with the tip.
        stored: B256,
    },
    /// A row, a page of the tree or the counts are not what the root commits to.
    #[error("the stored state is damaged at {key}: {reason}")]
    Damaged {
        /// The key in hex.
        key: String,
        /// What is wrong there.
        reason: &'static str,
    },
}

/// A proof of rows proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Its rows are in another encoding.
    #[error("the rows are of schema {found}, this program reads {known}")]
    Schema {
        /// Schema version of the proof.
        found: u32,
        /// The one this program knows.
        known: u32,
    },
    /// More tables than a root can count.
    #[error("{0} tables are counted, a state has at most 255")]
    Counts(usize),
    /// No row is in it.
    #[error("there are no rows in it")]
    Empty,
    /// The row at the end of a way is not on it, or the way is longer than a path.
    #[error("the way to row {key} leads elsewhere")]
    Way {
        /// The stored key asked for, in hex.
        key: String,
    },
    /// Its rows are not all of one tree.
    #[error("row {key} is of another tree than those before it")]
    Trees {
        /// The stored key asked for, in hex.
        key: String,
    },
    /// A row that was asked for is not in it.
    #[error("nothing is proven of row {key}")]
    Missing {
        /// The stored key asked for, in hex.
        key: String,
    },
    /// A row is proven that no state can have.
    #[error(transparent)]
    Row(#[from] ChainError),
}
