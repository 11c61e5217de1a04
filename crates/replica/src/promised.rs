//! What of a turn must be durable.

use crate::io::Effect;
use aequa_types::{Domain, Height, Mark, Record};

/// What of the effects of a turn must be durable before anything of it leaves the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promised<'a> {
    /// For the vote log, in this order.
    pub records: Vec<&'a Record>,
    /// For the signing marks: at and below these heights nothing is signed any more.
    pub floors: Vec<(Domain, Height)>,
    /// For the signing marks: places that are taken.
    pub marks: Vec<Mark>,
}

impl<'a> Promised<'a> {
    /// Picks them out of the effects of a turn.
    pub fn of(effects: &'a [Effect]) -> Self {
        let mut promised = Self::default();
        for effect in effects {
            match effect {
                Effect::Persist(record) => promised.records.push(record),
                Effect::RaiseFloors(floors) => promised.floors.extend(floors),
                Effect::Mark(mark) => promised.marks.push(*mark),
                _ => {}
            }
        }
        promised
    }

    /// Whether nothing of the turn may go on before this is durable. What others were heard to say may wait, written
    /// and not synced, for the next turn that promises something: until then nothing was made of it.
    pub fn is_urgent(&self) -> bool {
        let binds = |record: &&Record| !matches!(record, Record::Heard(_));
        !self.floors.is_empty() || !self.marks.is_empty() || self.records.iter().any(binds)
    }
}
