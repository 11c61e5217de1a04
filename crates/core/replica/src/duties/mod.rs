//! How duties move: posted by a client, agreed with the members, decided, expired, asked about.
//!
//! ```text
//!            post of the own client            q COMMITs            shares of q
//!  (unknown) ──────────────────────▶ pending ─▶ deciding ─▶ decided ─▶ signed
//!                                      │           │
//!                                      └─ an hour ─┴─▶ expired, undecided
//! ```
//!
//! # Rules
//!
//! 1. Only a post of the own client begins a duty, and a certificate of q operators, to learn its value. What other
//!    members say before is kept for a moment (`early`), within bounds of their own.
//! 2. The first post stands, durably, before its client hears so. The leader proposes it, and nothing else is
//!    prepared here: an opaque value needs the consent of q operators' own clients.
//! 3. Which slots a client may open is decided by where the cluster is (`window`), not by a clock.
//! 4. A duty that ended never opens again: it is at or below the watermark of its kind, or among the closed ones above
//!    (`states`). Its outcome and the watermark are durable together, before its instance is forgotten.
//! 5. What is asked about a closed duty is answered from the store, twice a second for each member.
//!
//! | module | one idea |
//! |---|---|
//! | `states` | which duties are open, which are closed, what became of them |
//! | `window` | which slots a client may open |
//! | `early` | what members say of duties that the own client has not posted yet |

mod early;
mod states;
mod window;

pub use states::{DutyState, DutyStatus};
pub use window::{DUTIES_FAR_MAX, DUTY_SLOTS_AHEAD, DUTY_SLOTS_NEAR};

use crate::agreement::{Agreement, Ended, Proposal, Proposed};
use crate::context::Context;
use crate::io::{DutyAdmission, Notice, Ticket};
use crate::output::{StoreWrite, Tell, Work};
use aequa_qbft::{Note, Validity};
use aequa_types::record::ValueRecord;
use aequa_types::{
    Certificate, Digest, DutyId, DutyKind, DutyOutcome, InstanceId, OperatorIndex, Quorum, Recall, Record,
    Round, Signed, Value, Verified,
};
use early::EarlyDuties;
use states::{DutyStates, Opening};

/// What becomes of a message about a duty without an instance.
pub(crate) enum Aside {
    /// It is kept, answered from the store, or of no use.
    Nothing,
    /// Its share still counts for the seal of a closed duty.
    LateCommit(Signed),
    /// It begins the duty, to learn what was decided.
    Begins(Verified),
}

/// Duties of all kinds.
#[derive(Debug)]
pub(crate) struct Duties {
    states: DutyStates,
    early: EarlyDuties,
}

impl Duties {
    pub(crate) fn new(me: OperatorIndex, quorum: Quorum) -> Self {
        Self { states: DutyStates::new(me, quorum), early: EarlyDuties::default() }
    }

    /// What an earlier life stored: the duties that ended, the newest decided of each kind, and the watermarks.
    pub(crate) fn restore_ended(&mut self, closed: &[DutyId], newest: &[DutyId], watermarks: &[DutyId]) {
        closed.iter().for_each(|duty| self.states.closed_before(*duty));
        newest.iter().for_each(|duty| self.states.decided_before(*duty));
        watermarks.iter().for_each(|watermark| self.states.raise_watermark(watermark.kind, watermark.slot));
    }

    /// Takes over a duty that the log knows, with what this operator's client posted.
    pub(crate) fn restore(&mut self, duty: DutyId, candidate: Option<Value>) {
        self.states.restore(duty, candidate);
    }

    /// Whether this duty has ended, now or in an earlier life.
    pub(crate) fn is_closed(&self, duty: DutyId) -> bool {
        self.states.is_closed(duty)
    }

    /// Whether this duty is under way: what the log has of it is needed.
    pub(crate) fn is_open(&self, duty: DutyId) -> bool {
        self.states.is_open(duty)
    }

    /// What is known of a duty in this life.
    pub(crate) fn state(&self, duty: DutyId) -> Option<&DutyState> {
        self.states.state(duty)
    }

    /// Duties known in this life, in no particular order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (DutyId, &DutyState)> {
        self.states.all()
    }

    /// Up to these everything of their kind is closed.
    pub(crate) fn watermarks(&self) -> impl Iterator<Item = DutyId> {
        DutyKind::ALL
            .into_iter()
            .filter_map(|kind| self.states.watermark(kind).map(|slot| DutyId { kind, slot }))
    }

    /// Statements kept about duties that have not begun here.
    pub(crate) fn early_len(&self) -> usize {
        self.early.len()
    }

    /// A client's candidate: it stands if it is the first; true when it is.
    pub(crate) fn post(&mut self, cx: &mut Context, duty: DutyId, value: &Value, ticket: Ticket) -> bool {
        // One of f+1 members is honest: its client wants the duty too.
        let is_wanted = self.early.members_about(duty) >= cx.config.quorum.weak_quorum();
        let opening = self.states.post(duty, value.clone(), is_wanted, cx.now.elapsed_ms);
        let admission = match opening {
            Opening::First | Opening::Again => DutyAdmission::Accepted,
            Opening::Ended => DutyAdmission::Ended,
            Opening::Below(watermark) => DutyAdmission::Forgotten { watermark },
            Opening::Full => DutyAdmission::Overloaded,
            Opening::Above(highest) => DutyAdmission::TooHigh { highest },
        };
        let is_first = opening == Opening::First;
        if is_first {
            let record = ValueRecord { instance: duty.into(), value: value.bytes().clone() };
            cx.out.record(Record::Value(record));
        }
        cx.out.tell(Tell::DutyAdmission(ticket, admission));
        is_first
    }

    /// Hands out what members said of a duty before it began here.
    pub(crate) fn take_early(&mut self, duty: DutyId) -> Vec<(OperatorIndex, Verified)> {
        self.early.take(duty)
    }

    /// A message for an open duty: what its author is seen to hold.
    pub(crate) fn saw(&mut self, message: &Verified) {
        if let Verified::PrePrepare { proposal: signed, .. } | Verified::Prepare(signed) = message {
            self.states.saw(signed);
        }
    }

    /// A message about a duty that has no instance.
    pub(crate) fn without_instance(
        &mut self,
        cx: &mut Context,
        duty: DutyId,
        from: OperatorIndex,
        message: Verified,
    ) -> Aside {
        if self.is_closed(duty) {
            return self.asked_about_closed(cx, duty, from, message);
        }
        if !matches!(message, Verified::Decided(_)) {
            self.early.keep(from, message);
            return Aside::Nothing;
        }
        match self.states.learn(duty, cx.now.elapsed_ms) {
            true => Aside::Begins(message),
            false => Aside::Nothing,
        }
    }

    /// A duty whose instance is gone: late shares still count for its seal, questions go to the store.
    fn asked_about_closed(
        &mut self,
        cx: &mut Context,
        duty: DutyId,
        from: OperatorIndex,
        message: Verified,
    ) -> Aside {
        let recall = match message {
            Verified::Commit(vote) => return Aside::LateCommit(vote),
            Verified::RoundChange(_) => Recall::Certificate,
            Verified::ValueRequest(request) => Recall::Value(request.digest),
            Verified::PrePrepare { .. }
            | Verified::Prepare(_)
            | Verified::Decided(_)
            | Verified::ValueReply { .. } => return Aside::Nothing,
        };
        if self.states.may_answer(from, cx.now.elapsed_ms) {
            cx.out.work(Work::RecallDuty { to: from, duty, recall });
        }
        Aside::Nothing
    }

    /// The group seal of a duty exists.
    pub(crate) fn sealed(&mut self, cx: &Context, duty: DutyId, certificate: &Certificate) {
        self.states.sealed(duty, certificate, cx.now.elapsed_ms);
    }

    /// Gives up duties that are past any use; returns them.
    pub(crate) fn expire(&mut self, cx: &mut Context) -> Vec<DutyId> {
        let mut expired = Vec::new();
        for (duty, outcome) in self.states.expire(cx.now.elapsed_ms) {
            self.end(cx, duty, outcome, None);
            expired.push(duty);
        }
        expired
    }

    fn end(
        &mut self,
        cx: &mut Context,
        duty: DutyId,
        outcome: DutyOutcome,
        certificate: Option<Certificate>,
    ) {
        self.early.take(duty);
        let watermark = self.states.watermark(duty.kind);
        cx.out.store(StoreWrite::CommitDuty { duty, outcome, watermark });
        cx.out.notify(Notice::DutyEnded { duty, certificate });
    }
}

impl Agreement for Duties {
    /// What its client posted, and nothing else.
    fn propose(&mut self, _cx: &mut Context, id: InstanceId, _round: Round) -> Proposal {
        let candidate = id.as_duty().and_then(|duty| self.states.candidate(duty));
        candidate.cloned().map_or(Proposal::Later, Proposal::Value)
    }

    /// Opaque duties need the consent of this operator's own client, whoever has prepared them.
    fn validate(&self, _cx: &Context, id: InstanceId, proposed: &Proposed<'_>) -> Validity {
        if proposed.value.as_block().is_some() {
            return Validity::Invalid("a value of another kind".into());
        }
        match id.as_duty().and_then(|duty| self.states.candidate(duty)) {
            None => Validity::Unknown,
            Some(posted) if posted.digest() == proposed.value.digest() => Validity::Valid,
            Some(_) => Validity::Invalid("the own client has posted another payload".into()),
        }
    }

    /// A member may have proposed it before this operator took part.
    fn value(&self, id: InstanceId, digest: Digest) -> Option<Value> {
        self.early.value(id.as_duty()?, digest)
    }

    fn noted(&mut self, cx: &Context, id: InstanceId, note: &Note, _accepted: Option<&Value>) {
        let Some(duty) = id.as_duty() else { return };
        let step = match note {
            Note::ProposalAccepted(..) => "proposed",
            Note::PrepareQuorum(_) => "prepared",
            Note::RoundEntered(_)
            | Note::CommitQuorum(_)
            | Note::TimedOut(..)
            | Note::Refused(..)
            | Note::Conflict(_)
            | Note::SignerRefused(_) => return,
        };
        self.states.passed(duty, step, cx.now.elapsed_ms);
    }

    fn decided(
        &mut self,
        cx: &mut Context,
        id: InstanceId,
        value: Value,
        certificate: &Certificate,
    ) -> Option<Ended> {
        let duty = id.as_duty()?;
        let outcome = self.states.decide(duty, value, certificate.clone(), cx.now.elapsed_ms);
        self.end(cx, duty, outcome, Some(certificate.clone()));
        Some(Ended::Duty(duty))
    }
}
