//! What goes into a replica and what comes out.

use aequa_mempool::Limits;
use aequa_qbft::Note;
use aequa_signing::{SessionEvent, SigningHistory};
use aequa_types::sync::CheckedTestimony;
use aequa_types::{
    Certificate, CheckedBlock, CheckedEvidence, CheckedTransaction, ClusterId, ConsensusParams, Decision,
    Digest, DutyId, Height, InstanceId, OperatorIndex, Quorum, Record, Round, Seal, Signed, Slot, Value,
    Verified, VoteRoot,
};
use std::sync::Arc;

/// The two clocks of a step: one for timers, one for block timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the node started; never goes back.
    pub elapsed_ms: u64,
    /// Milliseconds since the Unix epoch, as this node's clock has it.
    pub wall_ms: u64,
}

/// What a replica needs to know before its first step.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// This operator.
    pub me: OperatorIndex,
    /// n, f and q.
    pub quorum: Quorum,
    /// What all operators share.
    pub params: ConsensusParams,
    /// Caps of the pools.
    pub limits: Limits,
    /// Whether own proposals carry transactions (`--enable-builder`).
    pub builder: bool,
    /// Whether COMMITs carry seal shares and decisions are sealed (`--enable-tss-sign`).
    pub seals: bool,
    /// Signing sessions that are open at a time (`--tss.max-sessions`); 0 = any number.
    pub sessions_max: usize,
    /// The first height these operators decide: those of earlier epochs have decided the ones below.
    pub first_height: Height,
    /// The last height they decide, where this operator has given its word on it: see [`Input::EndEpoch`].
    pub last_height: Option<Height>,
}

/// What a restart found on disk, beside the chain itself.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Every record of the vote log, oldest first.
    pub records: Vec<Record>,
    /// The values of its VALUE records, decoded and hashed again.
    pub values: Vec<(InstanceId, Value)>,
    /// Duties that ended earlier: their instances never open again.
    pub closed_duties: Vec<DutyId>,
    /// The newest decided duty of each kind: where the cluster was.
    pub newest_duties: Vec<DutyId>,
    /// The last watermark stored per kind of duty: everything of the kind up to it is closed.
    pub duty_watermarks: Vec<DutyId>,
    /// The signing database: what was signed, whether or not the log knows by what.
    pub votes: Vec<VoteRoot>,
    /// Instances at and below which, in their domain, this operator may have signed what is no longer known: nothing
    /// is signed there.
    pub watermarks: Vec<InstanceId>,
    /// How far all of this can be relied on.
    pub history: SigningHistory,
    /// Certificates of recent blocks and duties that have no group seal yet; their COMMITs hold the
    /// shares.
    pub unsealed: Vec<Certificate>,
    /// What [`StoreWrite::KeepEvidence`](crate::StoreWrite::KeepEvidence) gave last.
    pub evidence: Vec<CheckedEvidence>,
}

/// Names a waiting client; the replica only hands it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Timers a replica may have running. Setting one replaces the one with the same [`Timer::slot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The round brought no decision in time.
    Round {
        /// Instance.
        instance: InstanceId,
        /// The round it was set in; a later one makes it stale.
        round: Round,
    },
    /// Time to send the newest own messages again.
    Resend(InstanceId),
    /// The block interval is over: the leader of this height may propose.
    Propose(Height),
    /// Regular look at who is ahead.
    CatchUp,
}

impl Timer {
    /// Timers with equal slots replace each other.
    pub fn slot(self) -> (Option<InstanceId>, u8) {
        match self {
            Timer::Round { instance, .. } => (Some(instance), 0),
            Timer::Resend(instance) => (Some(instance), 1),
            Timer::Propose(height) => (Some(InstanceId::Block(height)), 2),
            Timer::CatchUp => (None, 3),
        }
    }
}

/// What happens to a node.
#[derive(Debug, Clone)]
pub enum Input {
    /// A consensus message.
    Message {
        /// The operator that handed it over.
        from: OperatorIndex,
        /// The message.
        message: Verified,
    },
    /// A statement whose message came too late to count: it is only compared with what its author said
    /// before.
    Statement(Signed),
    /// Evidence from a member, whoever noticed it.
    Evidence(CheckedEvidence),
    /// Transactions from clients (with a ticket) or from peers (without).
    Transactions(Vec<(CheckedTransaction, Option<Ticket>)>),
    /// A client's candidate for a duty.
    Duty {
        /// Which duty.
        duty: DutyId,
        /// This operator's candidate value.
        value: Value,
        /// Who waits for the answer.
        ticket: Ticket,
    },
    /// A timer fired.
    Timer(Timer),
    /// The answer to [`Work::Combine`](crate::Work::Combine).
    Combined {
        /// What the seal is of.
        decision: Decision,
        /// The group seal, or the operators whose shares are bad.
        result: Result<Seal, Vec<OperatorIndex>>,
    },
    /// Verified blocks, consecutive, in answer to [`Outbound::Fetch`](crate::Outbound::Fetch).
    Fetched {
        /// Who sent them.
        from: OperatorIndex,
        /// Blocks with certificates that hold.
        blocks: Vec<(Arc<CheckedBlock>, Certificate)>,
    },
    /// A fetch brought nothing usable.
    FetchFailed {
        /// Who was asked.
        from: OperatorIndex,
    },
    /// An operator said how far it is.
    PeerHeight {
        /// The operator.
        from: OperatorIndex,
        /// Its last decided height.
        height: Height,
    },
    /// Whether this operator may lead. One that may not, because a quorum of the others have another time, lets the
    /// rounds pass whose blocks would carry its clock.
    MayLead(bool),
    /// The operators of the next epoch decide what is above this height: nothing is signed there, nor agreed on. Taken
    /// unless something above it is decided, or may be with what this operator has signed;
    /// [`Replica::last_height`](crate::Replica::last_height) tells.
    EndEpoch(Height),
    /// f+1 members are under a lock that is not known here: nothing is signed any more, nor followed.
    Superseded,
    /// A connection to an operator came up: it may have missed our newest messages.
    PeerConnected(OperatorIndex),
    /// The answer to [`Outbound::Inquire`](crate::Outbound::Inquire).
    Testimony {
        /// Who answers.
        from: OperatorIndex,
        /// What it has seen.
        testimony: CheckedTestimony,
    },
}

/// Why a node must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Something that cannot be has happened.
    #[error("{0}")]
    Impossible(String),
    /// The state here is not the one the cluster has: it is damaged, or another root is certified, or signed by so many
    /// members that an honest one is among them.
    #[error("the state is not that of the cluster at height {height}: {reason}")]
    Diverged {
        /// The block after which it is another.
        height: Height,
        /// The root that the others have after it.
        root: Digest,
        /// What is wrong.
        reason: String,
        /// Operators who have signed for that root; none where a group seal stands for them.
        backers: Vec<OperatorIndex>,
    },
    /// A statement of this operator arrived that this process did not make: the key is in use elsewhere, or
    /// the data directory is older than what was signed with it.
    #[error("operator {operator} signed for {instance} something that this process knows nothing of")]
    SignedElsewhere {
        /// This operator.
        operator: OperatorIndex,
        /// What the statement is about.
        instance: InstanceId,
    },
}

/// What became of a posted duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DutyAdmission {
    /// Taken, or another candidate of this client stands.
    Accepted,
    /// The duty has ended; what was decided stands.
    Ended,
    /// The slot lies too far back: what became of it is forgotten.
    Forgotten {
        /// Every slot up to this one is closed.
        watermark: Slot,
    },
    /// Too many duties far from the last decided one are open.
    Overloaded,
    /// The slot is too far above those of the duties the cluster works on.
    TooHigh {
        /// The highest slot taken now.
        highest: Slot,
    },
}

/// What a member's word on the state after our tip is to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootComparison {
    /// The same root.
    Agree,
    /// Another root.
    Disagree,
    /// It speaks of the state after another block.
    Unknown,
}

/// Facts for metrics, logs and event streams.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A block was decided and executed.
    BlockDecided {
        /// The block.
        block: Arc<CheckedBlock>,
        /// Why it is decided.
        certificate: Certificate,
        /// From accepting the proposal to the decision, where this node saw both.
        latency_ms: Option<u64>,
        /// Whether it was decided here, not fetched.
        live: bool,
    },
    /// A decision has its group seal.
    Sealed(Certificate),
    /// Something happened to the signing session of a decision.
    Session(Decision, SessionEvent),
    /// A duty ended: decided with this certificate, or expired.
    DutyEnded {
        /// Which duty.
        duty: DutyId,
        /// Its certificate.
        certificate: Option<Certificate>,
    },
    /// Evidence seen here for the first time: an operator contradicted itself.
    Evidence(CheckedEvidence),
    /// An observation of an instance.
    Consensus(InstanceId, Note),
    /// A seal share was bad; the signed COMMIT proves who made it.
    ShareBlamed {
        /// The operator.
        operator: OperatorIndex,
        /// Instance.
        instance: InstanceId,
        /// Round.
        round: Round,
    },
    /// A decided block moved transactions in the pools.
    Removed(aequa_mempool::Removals),
    /// An own proposal was built.
    Proposed {
        /// Height.
        height: Height,
        /// Round.
        round: Round,
        /// The block.
        block: Arc<CheckedBlock>,
        /// Items left out, with the reason.
        rejected: Vec<(aequa_types::TxKind, aequa_mempool::RejectReason)>,
    },
    /// The highest height any peer has shown.
    BestPeerHeight(Height),
    /// The members are being asked, once more, what this operator signed; it signs nothing.
    Rejoining {
        /// Members that have answered.
        answers: usize,
        /// Answers needed.
        needed: usize,
    },
    /// Enough members have answered: this operator takes part again, above these instances of each domain.
    Abstaining(Vec<InstanceId>),
    /// A member has signed what the state is; each of its proposals counts once.
    RootCompared(RootComparison),
    /// A member has signed another root than ours, for the first time at this height.
    RootDiffers {
        /// The member.
        operator: OperatorIndex,
        /// The block after which it is another.
        height: Height,
        /// Our root.
        ours: Digest,
        /// Its root.
        theirs: Digest,
    },
    /// No root can have f+1 backers after this block, so that nobody can tell who is right; once at a height.
    ClusterDiverged {
        /// The block.
        height: Height,
        /// The roots, ours among them, with the operators who have them.
        roots: Vec<(Digest, Vec<OperatorIndex>)>,
    },
}
