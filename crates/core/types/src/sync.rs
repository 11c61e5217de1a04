//! How a node that was away asks for what it missed: block by block, or the state as a whole.
//!
//! A state is given in parts, each below a place of its tree (ADR 2, ADR 30): the hash that a part must have is known
//! before it is asked for, down from the state root that the next header carries under its certificate.

use crate::{Certificate, CertifiedBlock, ClusterId, Digest, Height, InstanceId, OperatorIndex, Signed};
use alloy_primitives::B256;
use ssz_derive::{Decode, Encode};

/// What a node says about itself when a connection opens and once a second after.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// Cluster the node belongs to; another one ends the connection.
    pub cluster_id: ClusterId,
    /// Hash of its lock; another one ends the connection.
    pub lock_hash: B256,
    /// Builder policy in force.
    pub policy_hash: B256,
    /// Last height decided and stored.
    pub height: Height,
    /// Digest of that block.
    pub digest: Digest,
    /// The node's clock, for the offset warning.
    pub wall_clock_ms: u64,
}

/// A question on `aequa/sync/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum SyncRequest {
    /// "Where are you?", with the asker's own answer.
    Status(Status),
    /// "Give me certified blocks from this height upwards."
    Blocks(BlocksRequest),
    /// "What have you seen of this operator?"
    Testimony(TestimonyRequest),
    /// "Which state can I have of you?"
    Snapshot(SnapshotRequest),
    /// "Give me this part of it."
    State(StateRequest),
}

/// Asks for the newest state after a block whose height is a multiple of the checkpoint interval: all members can give
/// that one for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SnapshotRequest {
    /// The block is not above this height.
    pub at_most: Height,
}

/// Asks for a part of the state after a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct StateRequest {
    /// Height of the block.
    pub height: Height,
    /// How many nibbles the paths of all rows in the part have in common.
    pub depth: u8,
    /// Those nibbles, zero from `depth` on.
    pub path: B256,
}

/// Asks what a member has seen of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct TestimonyRequest {
    /// Of whom.
    pub about: OperatorIndex,
}

/// Asks for consecutive certified blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct BlocksRequest {
    /// First height wanted.
    pub from: Height,
    /// Most blocks wanted; the answer holds at most 64 and at most 4 MiB.
    pub limit: u64,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum SyncReply {
    /// Answers [`SyncRequest::Status`].
    Status(Status),
    /// Consecutive blocks from the height asked; empty when there are none.
    Blocks(Vec<CertifiedBlock>),
    /// Answers [`SyncRequest::Testimony`].
    Testimony(Testimony),
    /// Answers [`SyncRequest::Snapshot`]; none while there is no such state.
    Snapshot(Vec<Snapshot>),
    /// Answers [`SyncRequest::State`].
    State(StatePart),
}

/// A state that can be had, and what shows that the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Snapshot {
    /// The block after which it is the state.
    pub block: CertifiedBlock,
    /// The next block, whose header carries the state root.
    pub next: CertifiedBlock,
    /// History root after the block: a claim, which no header carries.
    pub history_root: B256,
    /// Rows of each table that has any, by number.
    pub tables: Vec<TableRows>,
    /// Root of the tree over the rows.
    pub tree: B256,
}

/// How many rows a table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct TableRows {
    /// Number of the table.
    pub table: u8,
    /// Its rows.
    pub rows: u64,
}

/// Everything below a place of the tree, or where that is too much, the page there.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct StatePart {
    /// The page, when the rows below it are too many for one answer; then its own leaves' rows alone are here. Empty
    /// otherwise.
    pub page: Vec<u8>,
    /// Rows.
    pub rows: Vec<StateRow>,
}

/// A row of the state, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct StateRow {
    /// Number of the table and key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// How far a member is, and the newest it has seen of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Testimony {
    /// The certificates of its highest decided instances, at most one per domain.
    pub certificates: Vec<Certificate>,
    /// Statements of the operator: of blocks the newest of each kind, of duties the newest of each kind in each
    /// one in memory. At most [`TESTIMONY_STATEMENTS_MAX`](crate::limits::TESTIMONY_STATEMENTS_MAX).
    pub statements: Vec<Signed>,
    /// The highest instance of each domain in which the member itself is bound; nothing proves it.
    pub bound: Vec<InstanceId>,
}

/// A [`Testimony`] of which everything holds that can be proven; made by whoever verified it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckedTestimony {
    /// Instances that are decided.
    pub certified: Vec<InstanceId>,
    /// Statements of the operator asked about, each with its signature.
    pub signed: Vec<Signed>,
    /// Where the member says that it is bound itself: a claim.
    pub bound: Vec<InstanceId>,
}
