//! What happened, in numbers: of one run, or of many added up.

use crate::sights::Counts;

/// What happened in one run, or in several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Virtual time passed, in milliseconds.
    pub virtual_ms: u64,
    /// Events handled.
    pub events: u64,
    /// Blocks decided.
    pub heights: u64,
    /// Instances decided, duties included.
    pub instances: u64,
    /// Consensus messages put on links.
    pub messages: u64,
    /// Their encoded size in bytes.
    pub bytes: u64,
    /// Situations reached, see [`SIGHTS`](crate::SIGHTS).
    pub sights: Counts,
    /// Faults injected, by kind.
    pub faults: Counts,
}

impl Totals {
    /// Adds what happened in another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.virtual_ms += other.virtual_ms;
        self.events += other.events;
        self.heights += other.heights;
        self.instances += other.instances;
        self.messages += other.messages;
        self.bytes += other.bytes;
        for (into, from) in [(&mut self.sights, &other.sights), (&mut self.faults, &other.faults)] {
            from.iter().for_each(|(name, count)| *into.entry(name).or_default() += count);
        }
    }
}
