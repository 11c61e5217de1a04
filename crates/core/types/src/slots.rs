//! Sets of slots, kept as runs: what is closed follows closely on each other, so a run stands for thousands.

use crate::Slot;
use std::collections::BTreeMap;

/// A set of slots.
#[derive(Debug, Clone, Default)]
pub struct SlotSet {
    /// First slot of each run to its last. Runs neither overlap nor touch.
    runs: BTreeMap<u64, u64>,
}

impl SlotSet {
    /// Whether the slot is in the set.
    pub fn contains(&self, slot: Slot) -> bool {
        self.runs.range(..=slot.0).next_back().is_some_and(|(_, last)| slot.0 <= *last)
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        if self.contains(slot) {
            return;
        }
        let (mut first, mut last) = (slot.0, slot.0);
        if let Some((before, end)) =
            self.runs.range(..slot.0).next_back().map(|(first, last)| (*first, *last))
            && end.checked_add(1) == Some(slot.0)
        {
            first = before;
        }
        if let Some(end) = slot.0.checked_add(1).and_then(|next| self.runs.remove(&next)) {
            last = end;
        }
        self.runs.insert(first, last);
    }

    /// Forgets everything up to `watermark`.
    pub fn forget_up_to(&mut self, watermark: Slot) {
        let Some(next) = watermark.0.checked_add(1) else { return self.runs.clear() };
        let above = self.runs.split_off(&next);
        let cut = self.runs.last_key_value().map(|(_, last)| *last).filter(|last| *last >= next);
        self.runs = above;
        if let Some(last) = cut {
            self.runs.insert(next, last);
        }
    }

    /// The highest slot of the set that is not above `limit`.
    pub fn highest_up_to(&self, limit: Slot) -> Option<Slot> {
        let (_, last) = self.runs.range(..=limit.0).next_back()?;
        Some(Slot((*last).min(limit.0)))
    }

    /// How many slots of the set are not above `limit`.
    pub fn count_up_to(&self, limit: Slot) -> u64 {
        let sizes = self.runs.range(..=limit.0).map(|(first, last)| (*last).min(limit.0) - first);
        sizes.fold(0, |count, size| count.saturating_add(size).saturating_add(1))
    }

    /// How many runs there are: what the set takes in memory.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_set_of_runs_says_the_same_as_a_set_of_slots() {
        let (mut runs, mut plain) = (SlotSet::default(), BTreeSet::new());
        // Two interleaved walks through 0..97, so that runs begin, grow at both ends and meet.
        for step in 0..60u64 {
            for slot in [step * 37 % 97, 96 - step * 11 % 97] {
                runs.insert(Slot(slot));
                plain.insert(slot);
            }
            if step % 20 == 19 {
                runs.forget_up_to(Slot(step / 2));
                plain.retain(|slot| *slot > step / 2);
            }
            for limit in 0..100 {
                let below: Vec<u64> = plain.range(..=limit).copied().collect();
                assert_eq!(runs.contains(Slot(limit)), plain.contains(&limit));
                assert_eq!(runs.highest_up_to(Slot(limit)), below.last().copied().map(Slot));
                assert_eq!(runs.count_up_to(Slot(limit)), below.len() as u64);
            }
        }
        let gaps = plain.iter().filter(|slot| !plain.contains(&(**slot + 1))).count();
        assert_eq!(runs.runs(), gaps);
    }

    #[test]
    fn the_ends_of_the_number_range_are_slots_like_others() {
        let mut runs = SlotSet::default();
        for slot in [u64::MAX, u64::MAX - 1, 0, 1] {
            runs.insert(Slot(slot));
        }
        assert_eq!(runs.runs(), 2);
        runs.forget_up_to(Slot(u64::MAX - 1));
        assert!(runs.contains(Slot(u64::MAX)) && !runs.contains(Slot(u64::MAX - 1)));
        runs.forget_up_to(Slot(u64::MAX));
        assert_eq!(runs.runs(), 0);
    }
}
