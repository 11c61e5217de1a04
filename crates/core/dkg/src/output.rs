//! What a step asks of its host, grouped by when it may be done (as the replica's output is).
//!
//! # Rules
//!
//! 1. What leaves a node is reached through [`Output::persisted`] only, once the entries it rests on are durable.
//! 2. Every statement, part and vote that leaves is in the transcript: this is asked of the store, about the bytes
//!    that leave, apart from what the ceremony says.

use crate::message::{Entry, Message, Promise};
use crate::{Blame, DealingId, Refusal};
use aequa_types::{OperatorIndex, Round};

/// Where the transcript is durable.
pub trait TranscriptStore {
    /// Why it is not. After an error nothing may leave the node any more.
    type Error;

    /// Makes the entries durable, in this order, after all others. Of what a crash interrupts any first part may be
    /// there in the next life.
    fn append(&mut self, entries: &[Entry]) -> Result<(), Self::Error>;

    /// Whether an entry with this [`Entry::promise`] is held here.
    fn holds(&self, promise: &Promise) -> bool;
}

/// What a ceremony waits for. One timer of a kind runs at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// For the commits of the others, once there are q.
    Commits,
    /// For acks and complaints of the others, once there are own acks of f+1 dealings, and anew of q.
    Verdicts,
    /// For the decision of a round.
    Round(Round),
    /// To ask for what is lacking and to send what may be lost.
    Resend,
}

impl Timer {
    /// Whether the other takes this one's place.
    pub fn is_replaced_by(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

/// Start a timer, replacing the one of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerChange {
    /// The timer.
    pub timer: Timer,
    /// When it fires, on the clock of the steps.
    pub at_ms: u64,
}

/// To other operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    /// To every other one.
    Broadcast(Message),
    /// To one.
    Send(OperatorIndex, Message),
}

impl Outbound {
    /// What is sent.
    pub fn message(&self) -> &Message {
        match self {
            Self::Broadcast(message) | Self::Send(_, message) => message,
        }
    }
}

/// A fact for metrics, logs and penalties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A message changed nothing.
    Refused {
        /// Who handed it over.
        from: OperatorIndex,
        /// Why.
        refusal: Refusal,
    },
    /// An operator was proven guilty.
    Blamed(Blame),
    /// The dealers were agreed on.
    Qualified(Vec<DealingId>),
    /// The keys are there, and a quorum says so.
    Finished,
    /// Fewer operators are left that may deal than dealings are needed: the ceremony cannot end.
    Hopeless(Vec<Blame>),
}

/// What may be done now that the entries of a step are durable.
#[derive(Debug, Default)]
#[non_exhaustive]
#[must_use = "what is not carried out is lost"]
pub struct Durable {
    /// To other operators, in order.
    pub send: Vec<Outbound>,
    /// To observers.
    pub tell: Vec<Notice>,
}

/// What a step asks of its host.
///
/// ```compile_fail
/// fn sends_before_the_sync(output: aequa_dkg::Output) -> Vec<aequa_dkg::Outbound> {
///     output.after.send // private: only `persisted` leads to it
/// }
/// ```
#[derive(Debug, Default)]
#[must_use = "a step that is not carried out is lost"]
pub struct Output {
    persist: Vec<Entry>,
    timers: Vec<TimerChange>,
    after: Durable,
}

impl Output {
    /// Takes the changes of the timers, which wait for nothing.
    pub fn take_timers(&mut self) -> Vec<TimerChange> {
        std::mem::take(&mut self.timers)
    }

    /// What must be durable first.
    pub fn persist(&self) -> &[Entry] {
        &self.persist
    }

    /// Makes everything durable that must be: the only way to what leaves the node.
    ///
    /// # Panics
    ///
    /// When something would leave that is not in the transcript (rule 2), and when the timers were not taken.
    pub fn persisted<T: TranscriptStore>(self, transcript: &mut T) -> Result<Durable, T::Error> {
        let Self { persist, timers, after } = self;
        assert!(timers.is_empty(), "the timers of a step are taken before anything leaves");
        if !persist.is_empty() {
            transcript.append(&persist)?;
        }
        for outbound in &after.send {
            let is_held = outbound.message().promise().is_none_or(|promise| transcript.holds(&promise));
            assert!(is_held, "rule 2 of outputs: a {} leaves without an entry", outbound.message().name());
        }
        Ok(after)
    }

    pub(crate) fn keep(&mut self, entry: Entry) {
        self.persist.push(entry);
    }

    pub(crate) fn set_timer(&mut self, timer: Timer, at_ms: u64) {
        self.timers.push(TimerChange { timer, at_ms });
    }

    pub(crate) fn broadcast(&mut self, message: Message) {
        self.after.send.push(Outbound::Broadcast(message));
    }

    pub(crate) fn send(&mut self, to: OperatorIndex, message: Message) {
        self.after.send.push(Outbound::Send(to, message));
    }

    pub(crate) fn tell(&mut self, notice: Notice) {
        self.after.tell.push(notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{definition, identity};
    use crate::{Claim, Statement};
    use aequa_types::Digest;
    use std::convert::Infallible;

    #[derive(Default)]
    struct Store {
        entries: Vec<Entry>,
        forgets: bool,
    }

    impl TranscriptStore for Store {
        type Error = Infallible;

        fn append(&mut self, entries: &[Entry]) -> Result<(), Infallible> {
            if !self.forgets {
                self.entries.extend_from_slice(entries);
            }
            Ok(())
        }

        fn holds(&self, promise: &Promise) -> bool {
            self.entries.iter().any(|entry| entry.promise() == Some(*promise))
        }
    }

    fn output() -> Output {
        let ceremony = definition(4, 0).ceremony();
        let claim = Claim::Done(Digest::ZERO);
        let statement = Statement::sign(&ceremony, OperatorIndex(0), claim, &identity(0));
        let mut output = Output::default();
        output.keep(Entry::Statement(statement.clone()));
        output.broadcast(Message::Statement(statement));
        output
    }

    #[test]
    fn what_leaves_is_in_the_transcript() {
        let mut store = Store::default();
        let Ok(durable) = output().persisted(&mut store);
        assert_eq!((durable.send.len(), store.entries.len()), (1, 1));
    }

    #[test]
    #[should_panic(expected = "rule 2 of outputs")]
    fn nothing_leaves_that_the_transcript_does_not_hold() {
        let _ = output().persisted(&mut Store { forgets: true, ..Store::default() });
    }

    #[test]
    fn a_round_replaces_the_round_before() {
        assert!(Timer::Round(Round(0)).is_replaced_by(Timer::Round(Round(3))));
        assert!(!Timer::Round(Round(0)).is_replaced_by(Timer::Resend));
    }
}
