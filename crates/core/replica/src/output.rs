//! What a step asks of its host, grouped by when it may be done.
//!
//! ```text
//!   Output ──▶ unless_halted ──▶ persisted(votes) ──▶ Durable { send, work, store, tell }
//!     │            │                │                     in this order
//!     timers       Stopped          the one sync
//! ```
//!
//! # Rules
//!
//! 1. What leaves a node is reached through [`Output::persisted`] only: nothing is sent, stored, worked on or told
//!    before the votes it depends on are durable. The outputs of many steps may be merged and made durable at once.
//! 2. Of an output that halts its node nothing leaves, and of what it signed nothing is made durable.
//! 3. Every vote that is taken has its record in the same output, and every vote that leaves is taken: both
//!    hold apart from what the signer says. (Votes inside a justification were checked when they left by themselves.)

mod asked;

use crate::io::{DutyAdmission, Halt, Notice, Ticket, Timer};
use aequa_chain::Applied;
use aequa_mempool::Admission;
use aequa_signing::Shares;
use aequa_types::{
    Certificate, CheckedBlock, CheckedEvidence, CheckedTransaction, Decision, DutyId, DutyOutcome, Height,
    InstanceId, Message, OperatorIndex, Recall, Record, Signed, Slot, TxHash, VoteRoot,
};
use std::sync::Arc;

/// What must be durable before anything of a turn leaves the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Persist {
    /// For the vote log, in this order.
    pub records: Vec<Record>,
    /// For the signing database: at and below these, each in its domain, nothing is signed any more.
    pub watermarks: Vec<InstanceId>,
    /// For the signing database: what is signed.
    pub votes: Vec<VoteRoot>,
}

impl Persist {
    /// Whether nothing of the turn may go on before this is durable. What others were heard to say may wait, written
    /// and not synced, for the next turn that promises something: until then nothing was made of it.
    pub fn is_urgent(&self) -> bool {
        let binds = |record: &Record| !matches!(record, Record::Heard(_));
        !self.watermarks.is_empty() || !self.votes.is_empty() || self.records.iter().any(binds)
    }
}

/// Where votes are durable.
pub trait VoteStore {
    /// Why it is not. After an error nothing may leave the node any more.
    type Error;

    /// Makes all of it durable, or, where it is not urgent, hands it to the system.
    fn persist(&mut self, promised: &Persist) -> Result<(), Self::Error>;

    /// Whether a vote of this operator is held here, or lies where nothing is signed any more.
    fn holds(&self, vote: &Signed) -> bool;
}

/// A change of the timers. At most one timer per [`Timer::slot`] runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TimerChange {
    /// Start a timer, replacing the one in its slot.
    Set {
        /// The timer.
        timer: Timer,
        /// When it fires, on the [`Now::elapsed_ms`](crate::Now::elapsed_ms) clock.
        at_ms: u64,
    },
    /// Forget all timers of an instance.
    Cancel(InstanceId),
}

/// To members.
#[derive(Debug, Clone)]
pub enum Outbound {
    /// To every other operator.
    Broadcast(Message),
    /// To one operator.
    Send(OperatorIndex, Message),
    /// Send an own client's transaction to every other operator.
    Spread(CheckedTransaction),
    /// Spread transactions that were spread before, for whoever missed them. One frame holds them.
    Offer(Vec<CheckedTransaction>),
    /// Spread evidence to every member.
    GossipEvidence(CheckedEvidence),
    /// Ask a member for certified blocks.
    Fetch {
        /// Whom.
        from: OperatorIndex,
        /// First height wanted.
        height: Height,
    },
    /// Ask a member what it has seen of this operator. No answer need come.
    Inquire(OperatorIndex),
}

impl Outbound {
    /// The vote that leaves with it.
    fn vote(&self) -> Option<&Signed> {
        match self {
            Self::Broadcast(message) | Self::Send(_, message) => message.statement(),
            Self::Spread(_)
            | Self::Offer(_)
            | Self::GossipEvidence(_)
            | Self::Fetch { .. }
            | Self::Inquire(_) => None,
        }
    }
}

/// To the block store.
#[derive(Debug, Clone)]
pub enum StoreWrite {
    /// A decided and executed block.
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
    /// The result of a duty, durable together with the watermark: its instance is closed, and the
    /// log may forget it only then.
    CommitDuty {
        /// Which duty.
        duty: DutyId,
        /// What became of it.
        outcome: DutyOutcome,
        /// Every duty of the kind up to this slot is closed.
        watermark: Option<Slot>,
    },
    /// All the evidence that is pending, in place of what was stored before.
    KeepEvidence(Vec<CheckedEvidence>),
}

/// Beside the turn, on other threads or from the store.
#[derive(Debug, Clone)]
pub enum Work {
    /// Combine these shares and verify the result under the group key.
    Combine {
        /// What the seal is of.
        decision: Decision,
        /// q shares of distinct operators.
        shares: Shares,
    },
    /// Send an operator what the store knows of a duty that was closed long ago, if it knows it.
    RecallDuty {
        /// Who asks.
        to: OperatorIndex,
        /// Which duty.
        duty: DutyId,
        /// What it asks for.
        recall: Recall,
    },
}

/// To clients and observers.
#[derive(Debug, Clone)]
pub enum Tell {
    /// The answer to a client that submitted a transaction.
    Admission(Ticket, TxHash, Admission),
    /// The answer to a client that posted a duty.
    DutyAdmission(Ticket, DutyAdmission),
    /// A fact for metrics, logs and event streams.
    Notice(Notice),
}

/// What may be done now that the votes of a turn are durable, in the order of the fields.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "what is not carried out is lost"]
pub struct Durable {
    /// What is durable.
    pub persisted: Persist,
    /// To members.
    pub send: Vec<Outbound>,
    /// Beside the turn.
    pub work: Vec<Work>,
    /// To the block store.
    pub store: Vec<StoreWrite>,
    /// The members were asked what this operator signed, and it is durable up to where it abstains: the directory
    /// is no longer suspected to lack something.
    pub trusted: bool,
    /// To clients and observers.
    pub tell: Vec<Tell>,
}

impl Durable {
    fn empty() -> Self {
        Self {
            persisted: Persist::default(),
            send: Vec::new(),
            work: Vec::new(),
            store: Vec::new(),
            trusted: false,
            tell: Vec::new(),
        }
    }
}

/// Why a node must stop, and what must be durable all the same.
#[derive(Debug)]
pub struct Stopped {
    /// Why.
    pub halt: Halt,
    /// Instances at and below which nothing is signed any more: whoever showed them may not be there at the next start.
    pub watermarks: Vec<InstanceId>,
    rest: Output,
}

impl Stopped {
    /// Goes on all the same, without the watermarks: for operators in tests that are meant to be faulty.
    pub fn ignored(self) -> Output {
        self.rest
    }
}

/// What a step asks of its host.
///
/// ```compile_fail
/// fn sends_before_the_sync(output: aequa_replica::Output) -> Vec<aequa_replica::Outbound> {
///     output.after.send // private: only `persisted` leads to it
/// }
/// ```
///
/// ```compile_fail
/// fn forged() -> aequa_replica::Durable {
///     aequa_replica::Durable::default() // nobody else makes one
/// }
/// ```
#[derive(Debug)]
#[must_use = "a step that is not carried out is lost"]
pub struct Output {
    persist: Persist,
    timers: Vec<TimerChange>,
    halt: Option<Halt>,
    after: Durable,
}

impl Default for Output {
    fn default() -> Self {
        Self { persist: Persist::default(), timers: Vec::new(), halt: None, after: Durable::empty() }
    }
}

impl Output {
    /// Adds what a later step asks for.
    pub fn merge(&mut self, later: Output) {
        let Output { persist, timers, halt, after } = later;
        self.persist.records.extend(persist.records);
        self.persist.watermarks.extend(persist.watermarks);
        self.persist.votes.extend(persist.votes);
        self.timers.extend(timers);
        self.halt = self.halt.take().or(halt);
        self.after.send.extend(after.send);
        self.after.store.extend(after.store);
        self.after.work.extend(after.work);
        self.after.trusted |= after.trusted;
        self.after.tell.extend(after.tell);
    }

    /// Takes the changes of the timers, which wait for nothing.
    pub fn take_timers(&mut self) -> Vec<TimerChange> {
        std::mem::take(&mut self.timers)
    }

    /// What must be durable first.
    pub fn persist(&self) -> &Persist {
        &self.persist
    }

    /// Facts that will be told, for those who watch.
    pub fn notices(&self) -> impl Iterator<Item = &Notice> {
        self.after.tell.iter().filter_map(|tell| match tell {
            Tell::Notice(notice) => Some(notice),
            Tell::Admission(..) | Tell::DutyAdmission(..) => None,
        })
    }

    /// Changes of the timers so far, for those who watch.
    pub fn timer_changes(&self) -> &[TimerChange] {
        &self.timers
    }

    /// Why the node must stop, for those who watch.
    pub fn halts(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// The output, unless it says that the node must stop.
    pub fn unless_halted(mut self) -> Result<Output, Box<Stopped>> {
        match self.halt.take() {
            None => Ok(self),
            Some(halt) => {
                let watermarks = std::mem::take(&mut self.persist.watermarks);
                Err(Box::new(Stopped { halt, watermarks, rest: self }))
            }
        }
    }

    /// Makes everything durable that must be: the only way to what leaves the node.
    ///
    /// # Panics
    ///
    /// When the node must stop (rule 2), when a vote is taken without a record or would leave without being
    /// held (rule 3), and when the timers were not taken.
    pub fn persisted<V: VoteStore>(self, votes: &mut V) -> Result<Durable, V::Error> {
        let Output { persist, timers, halt, mut after } = self;
        assert!(halt.is_none(), "rule 2 of outputs: nothing of a node that must stop leaves it");
        assert!(timers.is_empty(), "the timers of a step are taken before anything leaves");
        for vote in &persist.votes {
            let mut recorded = persist.records.iter().filter_map(Record::statement);
            let is_recorded = recorded.any(|signed| signed.vote_root() == *vote);
            assert!(is_recorded, "rule 3 of outputs: {:?} is taken without a record", vote.key);
        }
        votes.persist(&persist)?;
        for vote in after.send.iter().filter_map(Outbound::vote) {
            // Where it lies, not what it says: the next life may say something else there.
            assert!(votes.holds(vote), "rule 3 of outputs: a vote leaves without {:?}", vote.vote_key());
        }
        after.persisted = persist;
        Ok(after)
    }

    pub(crate) fn record(&mut self, record: Record) {
        self.persist.records.push(record);
    }

    pub(crate) fn vote(&mut self, votes: impl IntoIterator<Item = VoteRoot>) {
        self.persist.votes.extend(votes);
    }

    pub(crate) fn raise_watermarks(&mut self, watermarks: impl IntoIterator<Item = InstanceId>) {
        self.persist.watermarks.extend(watermarks);
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, at_ms: u64) {
        self.timers.push(TimerChange::Set { timer, at_ms });
    }

    pub(crate) fn cancel_timers(&mut self, instance: InstanceId) {
        self.timers.push(TimerChange::Cancel(instance));
    }

    /// The first reason stands.
    pub(crate) fn halt(&mut self, halt: Halt) {
        self.halt.get_or_insert(halt);
    }

    pub(crate) fn send(&mut self, outbound: Outbound) {
        self.after.send.push(outbound);
    }

    pub(crate) fn broadcast(&mut self, message: Message) {
        self.send(Outbound::Broadcast(message));
    }

    pub(crate) fn store(&mut self, write: StoreWrite) {
        self.after.store.push(write);
    }

    pub(crate) fn work(&mut self, work: Work) {
        self.after.work.push(work);
    }

    pub(crate) fn trust(&mut self) {
        self.after.trusted = true;
    }

    pub(crate) fn tell(&mut self, tell: Tell) {
        self.after.tell.push(tell);
    }

    pub(crate) fn notify(&mut self, notice: Notice) {
        self.tell(Tell::Notice(notice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::{digest, prepare};
    use aequa_types::Round;
    use std::convert::Infallible;

    const FIRST: InstanceId = InstanceId::Block(Height(1));

    /// A vote store that keeps what it is given, or forgets it.
    #[derive(Default)]
    struct Votes {
        votes: Vec<VoteRoot>,
        forgets: bool,
    }

    impl VoteStore for Votes {
        type Error = Infallible;

        fn persist(&mut self, promised: &Persist) -> Result<(), Infallible> {
            if !self.forgets {
                self.votes.extend(&promised.votes);
            }
            Ok(())
        }

        fn holds(&self, vote: &Signed) -> bool {
            self.votes.contains(&vote.vote_root())
        }
    }

    fn vote(round: u64) -> Signed {
        prepare(FIRST, round, digest(1)).by(0)
    }

    fn voted(round: u64) -> Output {
        let mut output = Output::default();
        output.record(Record::Prepare(vote(round)));
        output.vote([vote(round).vote_root()]);
        output.broadcast(Message::Prepare(vote(round)));
        output.set_timer(Timer::CatchUp, round);
        output
    }

    fn stopped() -> Output {
        let mut output = voted(3);
        output.raise_watermarks([FIRST]);
        output.halt(Halt::Impossible("first".into()));
        output.halt(Halt::Impossible("second".into()));
        output
    }

    #[test]
    fn outputs_of_a_turn_are_made_durable_together_and_in_order() {
        let mut output = voted(1);
        output.merge(voted(2));
        assert!(output.persist().is_urgent());
        assert_eq!(output.take_timers().len(), 2);
        let mut votes = Votes::default();
        let Ok(durable) = output.persisted(&mut votes);
        assert_eq!(votes.votes, [vote(1).vote_root(), vote(2).vote_root()]);
        let sent = durable.send.iter().map(|sent| sent.vote().unwrap().round);
        assert_eq!(sent.collect::<Vec<_>>(), [Round(1), Round(2)]);
    }

    #[test]
    fn what_was_heard_waits_for_the_next_own_vote() {
        let mut output = Output::default();
        output.record(Record::Heard(vote(1)));
        assert!(!output.persist().is_urgent());
        output.merge(voted(2));
        assert!(output.persist().is_urgent());
    }

    #[test]
    fn a_stop_keeps_its_first_reason_and_the_watermarks_that_outlive_it() {
        let mut output = voted(1);
        output.merge(stopped());
        let stopped = output.unless_halted().unwrap_err();
        assert_eq!(stopped.halt, Halt::Impossible("first".into()));
        assert_eq!(stopped.watermarks, [FIRST]);
    }

    #[test]
    #[should_panic(expected = "rule 2 of outputs")]
    fn nothing_leaves_a_node_that_must_stop() {
        let mut stopped = stopped();
        stopped.take_timers();
        let _ = stopped.persisted(&mut Votes::default());
    }

    #[test]
    #[should_panic(expected = "a vote leaves without")]
    fn no_vote_leaves_that_the_store_does_not_hold() {
        let mut output = voted(1);
        output.take_timers();
        let _ = output.persisted(&mut Votes { forgets: true, ..Votes::default() });
    }
    #[test]
    #[should_panic(expected = "is taken without a record")]
    fn no_place_is_taken_without_a_record() {
        let mut output = voted(1);
        output.take_timers();
        output.vote([vote(2).vote_root()]);
        let _ = output.persisted(&mut Votes::default());
    }
}
