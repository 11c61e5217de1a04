//! What is known of what this operator has signed.

use aequa_types::{Domain, Height, InstanceId, Slot};
use std::collections::BTreeMap;

/// How far what is remembered of what was signed can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SigningHistory {
    /// Entirely.
    #[default]
    Trusted,
    /// It looks whole, and so does an old copy of it: q-1 members have to be heard before anything is
    /// signed. With as many of them out of reach nothing could be decided anyway.
    Unverified,
    /// It is lost, or older than what was signed: q other members have to be heard, and what they show is
    /// abstained from.
    Lost,
    /// There is none: this operator is new in its place in a cluster that is not. q-1 members have to be heard, and
    /// duties that may have begun before it came are abstained from.
    Newcomer,
}

/// The highest instance of each domain that something was heard of.
#[derive(Debug, Clone, Default)]
pub struct Highest(BTreeMap<Domain, InstanceId>);

impl Highest {
    /// Something was heard of this instance.
    pub fn raise(&mut self, instance: InstanceId) {
        let highest = self.0.entry(instance.domain()).or_insert(instance);
        *highest = instance.max(*highest);
    }

    /// The highest of a domain.
    pub fn of(&self, domain: Domain) -> Option<InstanceId> {
        self.0.get(&domain).copied()
    }

    /// The highest block.
    pub fn block(&self) -> Option<Height> {
        self.of(Domain::Block)?.height()
    }

    /// The highest slot of duties of any kind.
    pub fn slot(&self) -> Option<Slot> {
        self.0.values().filter_map(|instance| instance.as_duty()).map(|duty| duty.slot).max()
    }

    /// Takes over what is higher in another.
    pub fn raise_to(&mut self, other: &Highest) {
        other.0.values().for_each(|instance| self.raise(*instance));
    }
}
