//! What members were lately heard to say of duties, whether this operator's client had posted them or not.
//!
//! An operator that comes back on an older copy of its directory is shown it, also by a member that restarted
//! meanwhile: every first hearing is written to the log. Whatever the copy lacks was said after all that it
//! holds, so the last few statements of each operator are enough; that there are some allows for those that came
//! late.

use aequa_types::{DutyId, OperatorIndex, Signed};
use std::collections::{BTreeMap, VecDeque};

/// Statements kept of one operator: those of some twenty duties.
const HEARD_MAX: usize = 64;
/// New statements of one operator that are taken in a second: more than it makes, and little for a disk.
const HEARD_PER_SECOND_MAX: u32 = 128;

/// The last statements of one operator, oldest first.
#[derive(Debug, Default)]
struct Heard {
    last: VecDeque<Signed>,
    second: u64,
    taken: u32,
}

/// The last statements about duties, by author.
#[derive(Debug, Default)]
pub(super) struct HeardDuties(BTreeMap<OperatorIndex, Heard>);

impl HeardDuties {
    /// Takes a verified statement about a duty; true when it is new and to be written down.
    pub(super) fn hear(&mut self, signed: &Signed, now_ms: u64) -> bool {
        let heard = self.0.entry(signed.author).or_default();
        if heard.last.iter().any(|known| known.vote_key() == signed.vote_key()) {
            return false;
        }
        let second = now_ms / 1000;
        if heard.second != second {
            (heard.second, heard.taken) = (second, 0);
        }
        if heard.taken == HEARD_PER_SECOND_MAX {
            return false;
        }
        heard.taken += 1;
        heard.keep(signed.clone());
        true
    }

    /// Takes back what an earlier life wrote down.
    pub(super) fn restore(&mut self, signed: Signed) {
        self.0.entry(signed.author).or_default().keep(signed);
    }

    /// What this operator said, the newest first.
    pub(super) fn statements_of(&self, operator: OperatorIndex) -> impl Iterator<Item = &Signed> {
        self.0.get(&operator).into_iter().flat_map(|heard| heard.last.iter().rev())
    }

    /// Whether anything said of this duty is kept.
    pub(super) fn holds(&self, duty: DutyId) -> bool {
        self.0.values().flat_map(|heard| &heard.last).any(|signed| signed.instance == duty.into())
    }

    /// Statements kept.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(|heard| heard.last.len()).sum()
    }
}

impl Heard {
    fn keep(&mut self, signed: Signed) {
        self.last.push_back(signed);
        if self.last.len() > HEARD_MAX {
            self.last.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::digest;
    use aequa_types::{DutyKind, Slot};

    fn duty(slot: u64) -> DutyId {
        DutyId { kind: DutyKind::Sync, slot: Slot(slot) }
    }

    fn prepare(author: u8, slot: u64) -> Signed {
        aequa_testkit::prepare(duty(slot), 0, digest(1)).by(author)
    }

    #[test]
    fn the_last_statements_of_each_operator_are_kept_and_nobody_takes_the_room_of_another() {
        let mut heard = HeardDuties::default();
        assert!(heard.hear(&prepare(1, 7), 0) && !heard.hear(&prepare(1, 7), 0));
        for slot in 0..1000 {
            assert!(heard.hear(&prepare(2, slot), slot * 1000));
        }
        let newest: Vec<u64> =
            heard.statements_of(OperatorIndex(2)).map(|signed| signed.instance.number()).collect();
        assert_eq!(newest, (1000 - HEARD_MAX as u64..1000).rev().collect::<Vec<_>>());
        assert_eq!((heard.statements_of(OperatorIndex(1)).count(), heard.len()), (1, HEARD_MAX + 1));
        assert!(heard.holds(duty(7)) && !heard.holds(duty(500)));
    }

    #[test]
    fn an_operator_that_talks_without_end_fills_no_disk() {
        let mut heard = HeardDuties::default();
        let written = (0..10_000).filter(|slot| heard.hear(&prepare(1, *slot), 500)).count();
        assert_eq!(written, HEARD_PER_SECOND_MAX as usize);
        assert!(heard.hear(&prepare(1, 20_000), 1000));
    }
}
