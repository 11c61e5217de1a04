//! A replica with a vote store, and all it asks for in one list.

use super::PlainKeys;
use aequa_replica::{
    Halt, Input, Now, Outbound, Output, Persist, Recovery, Replica, StoreWrite, Tell, TimerChange, VoteStore,
    Work,
};
use aequa_types::{Domain, Height, InstanceId, Record, Signed, VoteKey, VoteRoot};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Deref;

/// One thing a step asks for, for tests that look for it among all.
#[derive(Debug, Clone)]
pub enum Effect {
    Persist(Record),
    Vote(VoteRoot),
    RaiseWatermarks(Vec<InstanceId>),
    Timer(TimerChange),
    Send(Outbound),
    Store(StoreWrite),
    Work(Work),
    Tell(Tell),
    Halt(Halt),
}

/// Votes that are durable at once.
#[derive(Default)]
struct Votes {
    places: BTreeMap<VoteKey, VoteRoot>,
    watermarks: BTreeMap<Domain, InstanceId>,
}

impl VoteStore for Votes {
    type Error = Infallible;

    fn persist(&mut self, promised: &Persist) -> Result<(), Infallible> {
        for vote in &promised.votes {
            let before = self.places.insert(vote.key, *vote);
            assert!(before.is_none_or(|before| before == *vote), "two statements in one place");
        }
        self.watermarks.extend(promised.watermarks.iter().map(|watermark| (watermark.domain(), *watermark)));
        Ok(())
    }

    fn holds(&self, vote: &Signed) -> bool {
        let instance = vote.instance;
        self.places.get(&vote.vote_key()) == Some(&vote.vote_root())
            || self.watermarks.get(&instance.domain()).is_some_and(|watermark| instance <= *watermark)
    }
}

/// An operator whose steps are carried out as a host does.
pub struct Operator {
    replica: Replica<PlainKeys>,
    votes: Votes,
}

impl Operator {
    /// One that starts from what its disk has.
    pub fn new(recovery: Recovery, replica: impl FnOnce(Recovery) -> Replica<PlainKeys>) -> Self {
        let mut votes = Votes::default();
        let statements =
            recovery.records.iter().filter_map(Record::statement).map(|signed| signed.vote_root());
        votes.places.extend(statements.chain(recovery.votes.iter().copied()).map(|vote| (vote.key, vote)));
        votes.watermarks.extend(recovery.watermarks.iter().map(|watermark| (watermark.domain(), *watermark)));
        Self { replica: replica(recovery), votes }
    }

    pub fn start(&mut self, now: Now) -> Vec<Effect> {
        let output = self.replica.start(now);
        self.effects(output)
    }

    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let output = self.replica.step(now, input);
        self.effects(output)
    }

    fn effects(&mut self, mut output: Output) -> Vec<Effect> {
        let timers = output.take_timers();
        let mut effects = Vec::new();
        let output = output.unless_halted().unwrap_or_else(|stopped| {
            effects.push(Effect::RaiseWatermarks(stopped.watermarks.clone()));
            effects.push(Effect::Halt(stopped.halt.clone()));
            stopped.ignored()
        });
        let Ok(durable) = output.persisted(&mut self.votes);
        let Persist { records, watermarks, votes } = durable.persisted;
        effects.extend(votes.into_iter().map(Effect::Vote));
        effects.extend(records.into_iter().map(Effect::Persist));
        effects.extend(
            Some(watermarks).filter(|watermarks| !watermarks.is_empty()).map(Effect::RaiseWatermarks),
        );
        effects.extend(timers.into_iter().map(Effect::Timer));
        effects.extend(durable.send.into_iter().map(Effect::Send));
        effects.extend(durable.store.into_iter().map(Effect::Store));
        effects.extend(durable.work.into_iter().map(Effect::Work));
        effects.extend(durable.tell.into_iter().map(Effect::Tell));
        effects
    }
}

impl Deref for Operator {
    type Target = Replica<PlainKeys>;

    fn deref(&self) -> &Self::Target {
        &self.replica
    }
}
