//! A bounded memory of what was verified not long ago.

#![allow(clippy::disallowed_types, reason = "it is asked for one entry at a time, never walked through")]

use parking_lot::Mutex;
use std::collections::HashSet;
use std::hash::Hash;

/// A set that forgets what has not been asked for lately.
///
/// Two generations of at most `capacity` entries each: when the young one is full it becomes the old
/// one, and the old one is emptied. An entry that is met again is young again. Every operation is
/// O(1), and nothing depends on a clock. Both have their full size from the start: memory does not grow in steps
/// for as long as they fill.
pub(crate) struct Recent<T> {
    capacity: usize,
    generations: Mutex<Generations<T>>,
}

struct Generations<T> {
    young: HashSet<T>,
    old: HashSet<T>,
}

impl<T: Eq + Hash> Recent<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let generation = || HashSet::with_capacity(capacity);
        Self { capacity, generations: Mutex::new(Generations { young: generation(), old: generation() }) }
    }

    /// Whether `entry` is remembered; if so it is remembered longer.
    pub(crate) fn contains(&self, entry: &T) -> bool {
        let mut generations = self.generations.lock();
        if generations.young.contains(entry) {
            return true;
        }
        match generations.old.take(entry) {
            Some(entry) => {
                generations.insert(entry, self.capacity);
                true
            }
            None => false,
        }
    }

    pub(crate) fn insert(&self, entry: T) {
        self.generations.lock().insert(entry, self.capacity);
    }
}

impl<T: Eq + Hash> Generations<T> {
    fn insert(&mut self, entry: T, capacity: usize) {
        if self.young.len() >= capacity {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        self.young.insert(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_by_two_generations() {
        let recent = Recent::new(100);
        for entry in 0..100_000 {
            recent.insert(entry);
            let generations = recent.generations.lock();
            assert!(generations.young.len() + generations.old.len() <= 200);
        }
        assert!(recent.contains(&99_999));
        assert!(!recent.contains(&0));
    }

    #[test]
    fn what_is_met_again_is_kept() {
        let recent = Recent::new(10);
        recent.insert(u64::MAX);
        for entry in 0..1000 {
            recent.insert(entry);
            assert!(recent.contains(&u64::MAX), "forgotten at {entry}");
        }
    }
}
