//! What the oracles complain of.

use aequa_replica::Timer;
use aequa_types::{Digest, Height, InstanceId, OperatorIndex, Round};

/// Something that must never happen did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two values for one instance.
    #[error("{instance:?} decided twice: {first} and {second}")]
    Disagreement {
        /// The instance.
        instance: InstanceId,
        /// Digest known first.
        first: Digest,
        /// The other digest.
        second: Digest,
    },
    /// An honest operator said two things in one place.
    #[error("honest operator {operator} contradicts itself: {first} and {second}")]
    Contradiction {
        /// The operator.
        operator: OperatorIndex,
        /// The instance.
        instance: InstanceId,
        /// What it said first.
        first: String,
        /// What it said later.
        second: String,
    },
    /// An honest operator spoke before its promise was durable.
    #[error("operator {operator} sent what was not durable: {statement}")]
    NotDurable {
        /// The operator.
        operator: OperatorIndex,
        /// The instance.
        instance: InstanceId,
        /// What it sent.
        statement: String,
    },
    /// A decision was committed under a certificate that proves nothing.
    #[error("operator {operator} committed {instance} under a bad certificate")]
    BadCertificate {
        /// The operator.
        operator: OperatorIndex,
        /// What was decided about.
        instance: InstanceId,
    },
    /// Blocks that do not follow each other, or roots that differ.
    #[error("chain broken at operator {operator}, block {height}: {detail}")]
    BrokenChain {
        /// The operator.
        operator: OperatorIndex,
        /// Height of the block.
        height: Height,
        /// What is wrong.
        detail: String,
    },
    /// A restart lost or changed a block that had been committed.
    #[error("operator {operator} had committed block {committed} and restarted at {found}")]
    LostBlock {
        /// The operator.
        operator: OperatorIndex,
        /// Highest height committed before.
        committed: Height,
        /// Height after the restart.
        found: Height,
    },
    /// A decision is in the log and its parent executed, yet it is not carried out.
    #[error("operator {operator} holds the decision of block {height} and does not execute it")]
    Unexecuted {
        /// The operator.
        operator: OperatorIndex,
        /// Height of the block.
        height: Height,
    },
    /// An honest operator stands accused of contradicting itself.
    #[error("honest operator {operator} is accused by evidence")]
    FalseEvidence {
        /// The accused.
        operator: OperatorIndex,
    },
    /// Evidence that an honest operator had is still in no block.
    #[error("evidence against operator {accused} is not in the chain at height {height}")]
    EvidenceIgnored {
        /// The accused.
        accused: OperatorIndex,
        /// Height by which it had to be committed.
        height: Height,
    },
    /// A client got no answer, or more than one.
    #[error("operator {operator} owes answers to {owed} clients after its turn, or answered one twice")]
    Unanswered {
        /// The operator.
        operator: OperatorIndex,
        /// Clients that wait.
        owed: usize,
    },
    /// An honest replica gave up.
    #[error("operator {operator} halted: {reason}")]
    Halted {
        /// The operator.
        operator: OperatorIndex,
        /// Its reason.
        reason: String,
    },
    /// A host went on after its replica had given up.
    #[error("operator {operator} went on although its replica had stopped it: {reason}")]
    WentOn {
        /// The operator.
        operator: OperatorIndex,
        /// Its reason.
        reason: String,
    },
    /// A timer fired more often than it was set, too early, or after it had been replaced or cancelled.
    #[error("operator {operator}: {timer:?} fired and was not due")]
    Misfired {
        /// The operator.
        operator: OperatorIndex,
        /// The timer.
        timer: Timer,
    },
    /// A host has forgotten a timer, or the time of one.
    #[error("operator {operator}: the next timer is due at {owed:?}, its host keeps {kept:?}")]
    TimerLost {
        /// The operator.
        operator: OperatorIndex,
        /// What the replica has asked for, in milliseconds of its clock.
        owed: Option<u64>,
        /// What the host would wake up for.
        kept: Option<u64>,
    },
    /// An honest operator prepared a duty that its own client had not posted.
    #[error("operator {operator} prepared {digest} for {instance:?}, which its client did not post")]
    NotPosted {
        /// The operator.
        operator: OperatorIndex,
        /// The instance.
        instance: InstanceId,
        /// What it prepared.
        digest: Digest,
    },
    /// The rules wanted to sign what the signer had to refuse.
    #[error("the rules of operator {operator} contradicted its signer in {instance:?} round {round}")]
    SignerRefused {
        /// The operator.
        operator: OperatorIndex,
        /// The instance.
        instance: InstanceId,
        /// The round.
        round: Round,
    },
    /// Something grew beyond its bound.
    #[error("operator {operator} keeps {found} {what}, the bound is {bound}")]
    Unbounded {
        /// The operator.
        operator: OperatorIndex,
        /// What it keeps.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many it may keep.
        bound: usize,
    },
    /// The faults were over, and the cluster did not get on.
    #[error("no progress within {within_ms} ms without faults: {detail}")]
    Stalled {
        /// The bound of virtual time.
        within_ms: u64,
        /// Who is where.
        detail: String,
    },
    /// The run did not come to an end.
    #[error("more than {events} events")]
    Endless {
        /// The bound of events.
        events: u64,
    },
    /// The same seed gave two runs.
    #[error("run twice, the seed gave two runs: {detail}")]
    Unrepeatable {
        /// How they differ.
        detail: String,
    },
}

impl Violation {
    /// The instance it is about, where it is about a single one.
    pub fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Disagreement { instance, .. }
            | Self::Contradiction { instance, .. }
            | Self::NotDurable { instance, .. }
            | Self::NotPosted { instance, .. }
            | Self::SignerRefused { instance, .. }
            | Self::BadCertificate { instance, .. } => Some(*instance),
            Self::BrokenChain { height, .. }
            | Self::LostBlock { committed: height, .. }
            | Self::Unexecuted { height, .. } => Some(InstanceId::Block(*height)),
            Self::Misfired { timer, .. } => timer.slot().0,
            // Evidence is late in all the blocks it is not in.
            Self::EvidenceIgnored { .. }
            | Self::FalseEvidence { .. }
            | Self::Halted { .. }
            | Self::WentOn { .. }
            | Self::TimerLost { .. }
            | Self::Unbounded { .. }
            | Self::Stalled { .. }
            | Self::Endless { .. }
            | Self::Unrepeatable { .. }
            | Self::Unanswered { .. } => None,
        }
    }
}
