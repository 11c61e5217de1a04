//! How a node that was away asks for what it missed.

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
