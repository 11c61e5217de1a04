//! What a node writes down before it speaks.
//!
//! A record is durable before any message that depends on it leaves the node. Reading all records
//! back restores every promise the operator has made.

use crate::{Certificate, Digest, InstanceId, Round, Signed, ValueBytes};
use ssz_derive::{Decode, Encode};

/// One entry of the vote log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Record {
    /// Own proposal. The value is in the VALUE record before it.
    PrePrepare(ProposalRecord),
    /// Own PREPARE.
    Prepare(Signed),
    /// A quorum of PREPAREs seen; the certificate goes into later ROUND-CHANGEs.
    Prepared(PreparedRecord),
    /// Own COMMIT.
    Commit(Signed),
    /// A higher round was entered, with own ROUND-CHANGE if one was signed.
    Round(RoundRecord),
    /// The instance decided.
    Decided(Certificate),
    /// A value that was voted for: kept so that a prepared value survives the leader.
    Value(ValueRecord),
    /// What another operator said, as it was first heard here: this operator tells it so when it asks, and its own
    /// restart must not make it forget.
    Heard(Signed),
}

/// Own proposal with its justification, to be sent again byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ProposalRecord {
    /// Own statement.
    pub proposal: Signed,
    /// J_rc.
    pub round_changes: Vec<Signed>,
    /// J_p.
    pub prepares: Vec<Signed>,
}

/// A prepared certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct PreparedRecord {
    /// Instance it belongs to.
    pub instance: InstanceId,
    /// Round of the quorum.
    pub round: Round,
    /// Digest of the quorum.
    pub digest: Digest,
    /// The quorum itself.
    pub prepares: Vec<Signed>,
}

/// Entry into a round above 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct RoundRecord {
    /// Instance it belongs to.
    pub instance: InstanceId,
    /// The round entered.
    pub round: Round,
    /// Own ROUND-CHANGE; none when a justified proposal pulled the node up.
    pub change: Option<Signed>,
}

/// A value by its instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ValueRecord {
    /// Instance it belongs to.
    pub instance: InstanceId,
    /// The encoded value.
    pub value: ValueBytes,
}

/// What the vote log tells records apart by when it asks which are still needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The instance they belong to.
    pub instance: InstanceId,
    /// Whether they say what other operators were heard to say, and not what this one said and knows.
    pub heard: bool,
}

impl Record {
    /// What it is about: records of decided and stored heights may be dropped.
    pub fn subject(&self) -> Subject {
        Subject { instance: self.instance(), heard: matches!(self, Record::Heard(_)) }
    }

    /// The instance the record belongs to.
    pub fn instance(&self) -> InstanceId {
        match self {
            Record::PrePrepare(record) => record.proposal.instance,
            Record::Prepare(signed) | Record::Commit(signed) | Record::Heard(signed) => signed.instance,
            Record::Prepared(record) => record.instance,
            Record::Round(record) => record.instance,
            Record::Decided(certificate) => certificate.instance,
            Record::Value(record) => record.instance,
        }
    }

    /// The statement this record promises never to contradict.
    pub fn statement(&self) -> Option<&Signed> {
        match self {
            Record::PrePrepare(record) => Some(&record.proposal),
            Record::Prepare(signed) | Record::Commit(signed) => Some(signed),
            Record::Round(record) => record.change.as_ref(),
            Record::Prepared(_) | Record::Decided(_) | Record::Value(_) | Record::Heard(_) => None,
        }
    }
}
