//! One QBFT consensus instance as a pure state machine.
//!
//! Source: H. Moniz, *The Istanbul BFT Consensus Algorithm* (arXiv 2002.03613). An [`Instance`]
//! decides one value for one block or duty among `n` operators of which `f = ⌊(n-1)/3⌋` may
//! fail in any way. It does no I/O, reads no clock and knows no keys: events go in, [`Effect`]s
//! come out, and a [`Host`] answers the three questions the rules ask of the world (who leads a
//! round, is this value acceptable, sign this statement).
//!
//! ```text
//!            PREPREPARE(r,d)      q PREPARE(r,d)        q COMMIT(r,d)
//!  idle ───────── R1 ──▶ accepted ───── R2 ──▶ prepared ───── R3 ──▶ decided
//!   ▲                       │                     │
//!   └────── R4 timer, R5 f+1 ahead: ROUND-CHANGE(r+1, pr, pd) ──────┘
//! ```
//!
//! # Rules
//!
//! | rule | when | then |
//! |---|---|---|
//! | START | | timer t(0); the leader of round 0 asks for its input and proposes it. After a restart: newest own messages again; ROUND-CHANGE(r) when nothing was said in r > 0 |
//! | R1 | justified PREPREPARE(ρ,d) of leader(ρ), ρ = r and nothing accepted, or ρ > r | enter ρ, accept d, timer, PREPARE |
//! | R2 | q PREPARE(r,d), d accepted | keep them as the prepared certificate, COMMIT |
//! | R3 | q COMMIT(ρ,d) of any one round, value known | decide |
//! | R4 | timer of the current round | enter r+1, ROUND-CHANGE; its timer starts when q operators have shown rounds ≥ r+1 |
//! | R5 | f+1 operators have shown rounds above r | enter the smallest of them, ROUND-CHANGE |
//! | R6 | q ROUND-CHANGE(r) whose prepared values are here, I lead r | propose the highest prepared value, else a fresh input |
//! | R7 | a sign, after the decision, that an operator is stuck | answer with DECIDED |
//! | R8 | a DECIDED certificate that holds | decide |
//! | R9 | decided in (ρ,d) without having committed there | COMMIT(ρ,d) for the sake of its seal |
//! | R10 | another operator leads r, a ROUND-CHANGE of it is above r, nothing accepted in r | as R4, at once |
//!
//! # Justification
//!
//! `HighestPrepared(Q)` is the largest prepared round among the ROUND-CHANGEs Q, with the digest its
//! own PREPARE quorum names. A ROUND-CHANGE that claims something prepared without that quorum is
//! refused at receipt, so every stored one can be used. A PREPREPARE of round ρ > 0 needs q
//! ROUND-CHANGEs of ρ; when one of them was prepared it must propose `HighestPrepared` with its
//! quorum and the host is told so: clocks move and leaders change, so such a
//! value is not judged again like a fresh one.
//!
//! Statements in this operator's own name are made here and come from nowhere else: a message that brings
//! one is refused, whatever other guards there are.
//!
//! # Deviations from the paper and the reference, with reasons
//!
//! * DECIDED is broadcast only when the decision took more than one round. In round 0 the commits
//!   themselves are the announcement; whoever missed them is answered by R7 or catches up.
//! * R7 reacts to ROUND-CHANGEs and to votes seen before (a retransmission), not to every late vote:
//!   the (q+1)th COMMIT of a healthy operator is not a cry for help.
//! * The timer of a round above 0 starts when q operators have shown that round or a higher one, not
//!   on entering it (the rule of PBFT). Without a quorum rounds would pass in vain and timeouts grow,
//!   and a cluster that was cut for a while would need as long again to come back. Liveness holds: of
//!   q correct operators the lowest sees all others at or above its round, so its timer runs.
//! * ROUND-CHANGEs have no round window (other votes do): a node that was cut off for longer than the
//!   window learns from them alone how far the others are. Four are kept per operator, and f+1 must agree.
//! * The q ROUND-CHANGEs of R6 are chosen among those whose prepared value the leader has or is given.
//!   Insisting on the highest claim of all would let one faulty operator that alone holds a prepared
//!   value stop every leader. A value that may be decided is held by an honest operator of every q.
//! * R10 is not in the paper: whoever should propose and is gone is not waited for. So a leader that knows that it
//!   should not propose skips itself by a ROUND-CHANGE. A faulty leader may as well be silent: its message moves the
//!   others out of the rounds it leads, one at a step, and of no other.
//! * A leader of a round above 0 with nothing prepared asks for a *new* input: an older one could
//!   be too old for its peers' clocks.
//!
//! # Persistence
//!
//! A [`Effect::Persist`] precedes every effect that depends on it. [`Instance::restore`] rebuilds
//! rounds, sent statements and the prepared certificate; what was signed is sent again as stored.

mod instance;
mod justification;
mod votes;

pub use instance::{Instance, Phase, ROUND_CHANGES_KEPT_PER_OPERATOR, Restored};
pub use justification::{Justified, Refusal, highest_prepared};

use aequa_types::{Certificate, Digest, Message, OperatorIndex, Record, Round, Signed, Statement, Value};

/// What a host knows of a value that is proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validity {
    /// It may be prepared.
    Valid,
    /// It may not be, for this reason. The proposal is refused, and costs its round.
    Invalid(String),
    /// What decides it is not known here yet. It is not prepared, and nobody is blamed: its maker sends the proposal
    /// again until the round is over, and it is looked at again.
    Unknown,
}

/// What an instance asks of its surroundings. Implementations are deterministic and do no I/O.
pub trait Host {
    /// The one leader of `round` of this instance.
    fn leader(&self, round: Round) -> OperatorIndex;

    /// Whether a value proposed in `round` may be prepared. What a quorum prepared before was valid then and
    /// is not to be judged by clock and chain again; where this operator's own consent is needed, it still is.
    fn validate(&mut self, round: Round, value: &Value, justified: Justified) -> Validity;

    /// Signs a statement of this operator (adding the seal share to a COMMIT), or refuses because
    /// the signer has signed something else in its place before.
    fn sign(&mut self, statement: Statement) -> Option<Signed>;
}

/// What happens to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
// Moved once into `step`, never stored.
#[allow(clippy::large_enum_variant)]
pub enum Event {
    /// The instance begins.
    Start,
    /// The input asked for by [`Effect::NeedInput`].
    Input {
        /// The round it was asked for.
        round: Round,
        /// This operator's candidate.
        value: Value,
    },
    /// A message of an operator, possibly relayed by another.
    Message {
        /// Who handed it over; answers go there.
        carrier: OperatorIndex,
        /// The message.
        message: aequa_types::Verified,
    },
    /// The timer of a round fired; stale ones are ignored.
    Timeout(Round),
}

/// What an instance wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make this durable before carrying out any later effect.
    Persist(Record),
    /// Send to every other operator.
    Broadcast(Message),
    /// Send to one operator.
    Send(OperatorIndex, Message),
    /// (Re)start the one timer of this instance for this round.
    SetTimer(Round),
    /// Send [`Instance::newest`] again from time to time, until the decision or the next round.
    KeepSending(Round),
    /// This operator leads `round` and has nothing to propose yet.
    NeedInput(Round),
    /// A value is needed by digest; ask the others.
    NeedValue(Digest),
    /// The decision; at most once per instance.
    Decided {
        /// The decided value.
        value: Value,
        /// Why it may be believed.
        certificate: Certificate,
    },
    /// Something worth counting.
    Note(Note),
}

/// Observations for metrics, logs and evidence; they ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A higher round was entered.
    RoundEntered(Round),
    /// A proposal of this round was accepted.
    ProposalAccepted(Round, Digest),
    /// A quorum of PREPAREs exists.
    PrepareQuorum(Round),
    /// A quorum of COMMITs exists.
    CommitQuorum(Round),
    /// The timer fired while the instance was in this phase.
    TimedOut(Round, Phase),
    /// A message was refused; nothing changed.
    Refused(OperatorIndex, Refusal),
    /// Two statements of one operator that must not both exist.
    Conflict(Box<(Signed, Signed)>),
    /// The signer refused to sign: its memory has another statement.
    SignerRefused(Round),
}
