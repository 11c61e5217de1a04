//! What goes into a replica and what comes out.

use aequa_chain::Applied;
use aequa_mempool::{Admission, Limits};
use aequa_qbft::Note;
use aequa_types::recording::Entry;
use aequa_types::sync::CheckedTestimony;
use aequa_types::{
    Certificate, CheckedBlock, CheckedEvidence, CheckedTransaction, ClusterId, ConsensusParams, Digest,
    Domain, Height, InstanceId, Mark, Message, OperatorIndex, Quorum, Record, Round, Seal, Signed, TxHash,
    Value, Verified,
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
    /// Whether what instances take and are told comes out as [`Effect::Record`] (`--record`).
    pub record: bool,
}

/// How far what is remembered of what was signed can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// Entirely.
    #[default]
    Whole,
    /// It looks whole, and so does an old copy of it: q-1 members have to be heard before anything is
    /// signed. With as many of them out of reach nothing could be decided anyway.
    Unproven,
    /// It is lost, or older than what was signed: q other members have to be heard, and what they show is
    /// abstained from.
    Lost,
}

/// What a restart found on disk, beside the chain itself.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Every record of the vote log, oldest first.
    pub records: Vec<Record>,
    /// The values of its VALUE records, decoded and hashed again.
    pub values: Vec<(InstanceId, Value)>,
    /// Duties that ended earlier: their instances never open again.
    pub closed_duties: Vec<InstanceId>,
    /// The newest decided duty of each domain: where the cluster was.
    pub newest_duties: Vec<InstanceId>,
    /// The last watermark stored per duty domain: everything up to it is closed.
    pub duty_watermarks: Vec<(Domain, Height)>,
    /// The signing marks: places that are taken, whether or not the log knows by what.
    pub marks: Vec<Mark>,
    /// Heights at and below which this operator may have signed what is no longer known: nothing is signed
    /// there.
    pub floors: Vec<(Domain, Height)>,
    /// How far all of this can be relied on.
    pub memory: Memory,
    /// Certificates of recent blocks and duties that have no group seal yet; their COMMITs hold the
    /// shares.
    pub unsealed: Vec<Certificate>,
    /// What [`Effect::KeepEvidence`] gave last.
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
            Timer::Propose(height) => (Some(InstanceId::block(height)), 2),
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
        instance: InstanceId,
        /// This operator's candidate value.
        value: Value,
        /// Who waits for the answer.
        ticket: Ticket,
    },
    /// A timer fired.
    Timer(Timer),
    /// The answer to [`Effect::Combine`].
    Combined {
        /// Instance.
        instance: InstanceId,
        /// Round of the shares.
        round: Round,
        /// Digest of the shares.
        digest: Digest,
        /// The group seal, or the operators whose shares are bad.
        result: Result<Seal, Vec<OperatorIndex>>,
    },
    /// Verified blocks, consecutive, in answer to [`Effect::Fetch`].
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
    /// A connection to an operator came up: it may have missed our newest messages.
    PeerConnected(OperatorIndex),
    /// The answer to [`Effect::Inquire`].
    Testimony {
        /// Who answers.
        from: OperatorIndex,
        /// What it has seen.
        testimony: CheckedTestimony,
    },
}

/// What a node must do, in this order.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Make durable before any later effect of any step.
    Persist(Record),
    /// A place was taken by a signature: make durable, apart from the records, before any later effect.
    Mark(Mark),
    /// Nothing is signed at and below these heights any more: make durable before any later effect.
    RaiseFloors(Vec<(Domain, Height)>),
    /// Ask an operator what it has seen of this one. No answer need come.
    Inquire(OperatorIndex),
    /// Send to every other operator.
    Broadcast(Message),
    /// Send to one operator.
    Send(OperatorIndex, Message),
    /// Spread an admitted transaction.
    Gossip(CheckedTransaction),
    /// Spread transactions that were spread before, for whoever missed them. One frame of gossip holds them.
    Offer(Vec<CheckedTransaction>),
    /// Spread evidence to every member.
    GossipEvidence(CheckedEvidence),
    /// Store this as all the evidence that is pending, in place of what was stored before.
    KeepEvidence(Vec<CheckedEvidence>),
    /// Store a decided and executed block.
    Commit {
        /// The block.
        block: Arc<CheckedBlock>,
        /// Why it is decided.
        certificate: Certificate,
        /// What executing it changed.
        applied: Applied,
        /// False for blocks fetched from peers: they are not in the vote log, so the store itself
        /// must be flushed before they are shown to anybody.
        live: bool,
    },
    /// Replace a certificate of commits by one with the group seal; durable for a duty, before anybody
    /// hears of it.
    Sealed(Certificate),
    /// Store the result of a duty durably, together with the watermark: its instance is closed, and the
    /// log may forget it only then.
    CommitDuty {
        /// Which duty.
        instance: InstanceId,
        /// The decision; none when it expired undecided.
        decided: Option<(Value, Certificate)>,
        /// Every duty of the domain up to this slot is closed.
        watermark: Option<Height>,
    },
    /// Send an operator what the store knows of a closed duty, if it knows it.
    RecallDuty {
        /// Who asks.
        to: OperatorIndex,
        /// Which duty.
        instance: InstanceId,
        /// What it asks for.
        recall: Recall,
    },
    /// Combine these shares and verify the result under the group key, on another thread.
    Combine {
        /// Instance.
        instance: InstanceId,
        /// Round.
        round: Round,
        /// Digest.
        digest: Digest,
        /// q or more shares of distinct operators.
        shares: Vec<(OperatorIndex, Seal)>,
    },
    /// Ask a peer for certified blocks.
    Fetch {
        /// Whom.
        from: OperatorIndex,
        /// First height wanted.
        height: Height,
    },
    /// Start a timer, replacing the one in its slot.
    SetTimer {
        /// The timer.
        timer: Timer,
        /// When it fires, on the [`Now::elapsed_ms`] clock.
        at_ms: u64,
    },
    /// Forget all timers of an instance.
    CancelTimers(InstanceId),
    /// Answer a client that submitted a transaction.
    Reply(Ticket, TxHash, Admission),
    /// Answer a client that posted a duty.
    DutyReply(Ticket, DutyAdmission),
    /// Add to the recording; nothing waits for it.
    Record(Box<Entry>),
    /// Tell the outside.
    Notify(Notice),
    /// The node must stop.
    Halt(Halt),
}

/// Why a node must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// Something that cannot be has happened.
    #[error("{0}")]
    Impossible(String),
    /// A statement of this operator arrived that this process did not make: the key is in use elsewhere, or
    /// the data directory is older than what was signed with it.
    #[error("operator {operator} signed at height {height} something that this process knows nothing of")]
    SignedElsewhere {
        /// This operator.
        operator: OperatorIndex,
        /// Height of the statement.
        height: Height,
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
        watermark: Height,
    },
    /// Too many duties far from the last decided one are open.
    Overloaded,
    /// The slot is too far above those of the duties the cluster works on.
    TooHigh {
        /// The highest slot taken now.
        highest: Height,
    },
}

/// What a straggler asks of a closed duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Its certificate, as a DECIDED.
    Certificate,
    /// The value of this digest, as a VALUE reply.
    Value(Digest),
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
    /// A duty ended: decided with this certificate, or expired.
    DutyEnded {
        /// Which duty.
        instance: InstanceId,
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
    Inquiring {
        /// Members that have answered.
        answers: usize,
        /// Answers needed.
        needed: usize,
    },
    /// Enough members have answered: this operator takes part again, above these heights.
    Abstaining(Vec<(Domain, Height)>),
}
