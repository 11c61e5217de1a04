//! What an operator signs in consensus.
//!
//! A [`Statement`] is the whole of what one signature covers: `tag ‖ cluster id ‖ SSZ(statement)`.
//! An operator makes at most one statement per (instance, round, [`Kind`]), for ever.

use crate::{ClusterId, Decision, Digest, InstanceId, OperatorIndex, Round, Seal, Signature};
use ssz::Encode;
use ssz_derive::{Decode, Encode};

/// Separates consensus signatures from everything else an operator key signs.
pub const STATEMENT_TAG: &[u8] = b"aequa/qbft/v1\0";

/// The kinds of statement; an operator signs one of each per round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The leader's proposal.
    PrePrepare,
    /// Agreement with the proposal.
    Prepare,
    /// A quorum agreed with the proposal.
    Commit,
    /// The round brought no decision.
    RoundChange,
}

impl Kind {
    /// All kinds, by number.
    pub const ALL: [Kind; 4] = [Kind::PrePrepare, Kind::Prepare, Kind::Commit, Kind::RoundChange];

    /// Name in JSON and logs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PrePrepare => "preprepare",
            Kind::Prepare => "prepare",
            Kind::Commit => "commit",
            Kind::RoundChange => "round_change",
        }
    }

    /// Number on disk and in state keys, from 1.
    pub fn number(self) -> u8 {
        match self {
            Kind::PrePrepare => 1,
            Kind::Prepare => 2,
            Kind::Commit => 3,
            Kind::RoundChange => 4,
        }
    }
}

/// What is claimed, per kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Claim {
    /// "I lead this round and propose the value with this digest."
    PrePrepare(Digest),
    /// "I accepted this proposal."
    Prepare(Digest),
    /// "A quorum prepared it", with this operator's share of the seal.
    Commit(CommitClaim),
    /// "I gave up the round before; this is the last thing I saw prepared."
    RoundChange(RoundChangeClaim),
}

/// Content of a COMMIT.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct CommitClaim {
    /// The prepared value.
    pub digest: Digest,
    /// BLS share over (cluster, domain, height, round, digest); absent with threshold signing off.
    /// The statement's signature covers it, so a bad share is attributable.
    pub seal: Option<Seal>,
}

/// Content of a ROUND-CHANGE.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RoundChangeClaim {
    /// The highest round in which the author saw a quorum of PREPAREs, and for what.
    pub prepared: Option<Prepared>,
}

/// A prepared (round, digest).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Prepared {
    /// Round of the PREPARE quorum.
    pub round: Round,
    /// Digest the quorum named.
    pub digest: Digest,
}

/// One statement of one operator about one round of one instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Statement {
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// The round it belongs to; for a ROUND-CHANGE the round being entered.
    pub round: Round,
    /// Who makes it. The signature decides, not the carrier.
    pub author: OperatorIndex,
    /// What is claimed.
    pub claim: Claim,
}

impl Statement {
    /// What a COMMIT helps to decide.
    pub fn decision(&self) -> Option<Decision> {
        match &self.claim {
            Claim::Commit(commit) => {
                Some(Decision { instance: self.instance, round: self.round, digest: commit.digest })
            }
            Claim::PrePrepare(_) | Claim::Prepare(_) | Claim::RoundChange(_) => None,
        }
    }

    /// The kind of claim.
    pub fn kind(&self) -> Kind {
        match self.claim {
            Claim::PrePrepare(_) => Kind::PrePrepare,
            Claim::Prepare(_) => Kind::Prepare,
            Claim::Commit(_) => Kind::Commit,
            Claim::RoundChange(_) => Kind::RoundChange,
        }
    }

    /// The digest claimed; for a ROUND-CHANGE the prepared one, if any.
    pub fn digest(&self) -> Option<Digest> {
        match &self.claim {
            Claim::PrePrepare(digest) | Claim::Prepare(digest) => Some(*digest),
            Claim::Commit(commit) => Some(commit.digest),
            Claim::RoundChange(change) => change.prepared.map(|prepared| prepared.digest),
        }
    }

    /// Whether both claim the same. The share of a seal follows from the rest and is no claim of its own:
    /// a bad one is blamed, not punished as a contradiction.
    pub fn agrees_with(&self, other: &Self) -> bool {
        match (&self.claim, &other.claim) {
            (Claim::Commit(one), Claim::Commit(other)) => one.digest == other.digest,
            (one, other) => one == other,
        }
    }

    /// The bytes an operator's ed25519 key signs.
    pub fn signing_bytes(&self, cluster: &ClusterId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(STATEMENT_TAG.len() + 32 + self.ssz_bytes_len());
        bytes.extend_from_slice(STATEMENT_TAG);
        bytes.extend_from_slice(cluster.as_slice());
        self.ssz_append(&mut bytes);
        bytes
    }
}

/// A statement with its author's signature: also the element of every justification.
///
/// Holding one says nothing about validity; the core only ever stores those that arrived inside a
/// [`crate::Verified`] message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Signed {
    /// What is claimed.
    pub statement: Statement,
    /// ed25519 signature of the author over [`Statement::signing_bytes`].
    pub signature: Signature,
}

impl std::ops::Deref for Signed {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        &self.statement
    }
}
