//! A state that notes what is read of it, and one that knows what was noted.

use aequa_chain::{Change, StateRead, StoredRow};
use aequa_types::Height;
use parking_lot::Mutex;
use ssz_derive::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Keys remembered as known to a replay; then they are noted once more. Some megabytes.
const KEYS_KNOWN_MAX: usize = 1 << 16;

/// What was read of a state, as key and answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Reads {
    /// Values under keys.
    pub values: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The first rows above keys.
    pub above: Vec<(Vec<u8>, Option<StoredRow>)>,
}

/// A stored state that notes what is read of it.
#[derive(Debug)]
pub struct ReadState {
    stored: Arc<dyn StateRead>,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    reads: Reads,
    known: BTreeSet<Vec<u8>>,
}

impl ReadState {
    /// Notes what is read of `stored`.
    pub fn new(stored: Arc<dyn StateRead>) -> Self {
        Self { stored, noted: Mutex::default() }
    }

    /// What was read since the last call, and is not known from before.
    pub(crate) fn take(&self) -> Reads {
        std::mem::take(&mut self.noted.lock().reads)
    }
}

impl StateRead for ReadState {
    fn height(&self) -> Height {
        self.stored.height()
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.stored.get(key);
        let Noted { reads, known } = &mut *self.noted.lock();
        if known.len() >= KEYS_KNOWN_MAX {
            known.clear();
        }
        if known.insert(key.to_vec()) {
            reads.values.push((key.to_vec(), value.clone()));
        }
        value
    }

    fn above(&self, key: &[u8]) -> Option<StoredRow> {
        let row = self.stored.above(key);
        self.noted.lock().reads.above.push((key.to_vec(), row.clone()));
        row
    }
}

/// What a replay knows of the state: what was noted, and what it has changed itself.
#[derive(Debug)]
pub(super) struct KnownState(Mutex<Known>);

#[derive(Debug)]
struct Known {
    height: Height,
    values: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    above: BTreeMap<Vec<u8>, Option<StoredRow>>,
    /// What was asked for and is not known.
    unknown: Option<Vec<u8>>,
}

impl KnownState {
    pub(super) fn at(height: Height) -> Self {
        let (values, above) = Default::default();
        Self(Mutex::new(Known { height, values, above, unknown: None }))
    }

    /// What is going to be read.
    pub(super) fn learn(&self, reads: Reads) {
        let mut known = self.0.lock();
        known.values.extend(reads.values);
        known.above = reads.above.into_iter().collect();
    }

    /// A block was stored.
    pub(super) fn write(&self, height: Height, changes: &[Change]) {
        let mut known = self.0.lock();
        known.height = height;
        known.values.extend(changes.iter().map(|change| (change.key.clone(), change.after.clone())));
    }

    /// The first key that was asked for and is not known.
    pub(super) fn take_unknown(&self) -> Option<Vec<u8>> {
        self.0.lock().unknown.take()
    }
}

impl StateRead for KnownState {
    fn height(&self) -> Height {
        self.0.lock().height
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut known = self.0.lock();
        let value = known.values.get(key).cloned();
        value.unwrap_or_else(|| {
            known.unknown.get_or_insert_with(|| key.to_vec());
            None
        })
    }

    fn above(&self, key: &[u8]) -> Option<StoredRow> {
        let mut known = self.0.lock();
        let row = known.above.get(key).cloned();
        row.unwrap_or_else(|| {
            known.unknown.get_or_insert_with(|| key.to_vec());
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_chain::MemoryState;

    fn change(key: u8, after: Option<u8>) -> Change {
        Change { key: vec![key], before: None, after: after.map(|value| vec![value]) }
    }

    fn state(changes: &[Change]) -> ReadState {
        let mut stored = MemoryState::default();
        stored.write(Height(3), changes);
        ReadState::new(Arc::new(stored))
    }

    #[test]
    fn a_value_is_noted_when_it_is_read_first_and_known_with_its_later_changes() {
        let read = state(&[change(1, Some(7))]);
        assert_eq!((read.get(&[1]), read.get(&[1]), read.get(&[2])), (Some(vec![7]), Some(vec![7]), None));
        let reads = read.take();
        assert_eq!(reads.values, [(vec![1], Some(vec![7])), (vec![2], None)]);
        read.get(&[1]);
        assert_eq!(read.take(), Reads::default());

        let known = KnownState::at(Height(3));
        known.learn(reads);
        assert_eq!((known.height(), known.get(&[1]), known.get(&[2])), (Height(3), Some(vec![7]), None));
        known.write(Height(4), &[change(1, None), change(2, Some(9)), change(3, Some(1))]);
        assert_eq!((known.get(&[1]), known.get(&[2]), known.get(&[3])), (None, Some(vec![9]), Some(vec![1])));
        assert_eq!((known.height(), known.take_unknown()), (Height(4), None));
    }

    #[test]
    fn what_was_not_noted_is_unknown_and_told() {
        let known = KnownState::at(Height(0));
        assert_eq!(known.get(&[5]), None);
        assert_eq!(known.take_unknown(), Some(vec![5]));
        assert_eq!(known.above(&[6]), None);
        assert_eq!(known.take_unknown(), Some(vec![6]));
    }

    #[test]
    fn rows_above_a_key_are_noted_each_time() {
        let read = state(&[change(1, Some(7)), change(2, Some(8))]);
        for _ in 0..2 {
            assert_eq!(read.above(&[1]), Some((vec![2], vec![8])));
            let reads = read.take();
            let known = KnownState::at(Height(3));
            known.learn(reads);
            assert_eq!((known.above(&[1]), known.take_unknown()), (Some((vec![2], vec![8])), None));
        }
    }

    #[test]
    fn what_is_remembered_of_keys_is_bounded() {
        let read = state(&[]);
        for key in 0..=KEYS_KNOWN_MAX as u64 {
            read.get(&key.to_be_bytes());
        }
        assert!(read.noted.lock().known.len() <= KEYS_KNOWN_MAX);
    }
}
