//! The gate itself: which places are taken, in memory. Asking it never waits for the disk.

use crate::StorageError;
use aequa_types::{Domain, InstanceId, Mark, Place};
use alloy_primitives::B256;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A view of the places that a [`SigningDb`](super::SigningDb) has taken and of its floors. Copies share them.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    marks: BTreeMap<Place, B256>,
    /// The highest instance of each domain at and below which nothing is signed.
    floors: BTreeMap<Domain, InstanceId>,
}

impl Gate {
    /// Refuses what could not be taken: a place of another statement, among these marks too, or one that is
    /// not above its floor. Takes nothing.
    pub fn check(&self, marks: &[Mark]) -> Result<(), StorageError> {
        let known = self.known();
        let mut asked = BTreeMap::new();
        for mark in marks {
            known.may_take(mark)?;
            if *asked.entry(mark.place).or_insert(mark.digest) != mark.digest {
                return Err(taken(mark));
            }
        }
        Ok(())
    }

    /// Whether this statement has its place, or lies where nothing is signed any more.
    pub fn holds(&self, mark: &Mark) -> bool {
        let known = self.known();
        !known.is_above_floor(mark) || known.marks.get(&mark.place) == Some(&mark.digest)
    }

    /// Takes a place; false when this very statement has it already.
    pub(super) fn take(&self, mark: &Mark) -> Result<bool, StorageError> {
        let mut known = self.known();
        known.may_take(mark)?;
        Ok(known.marks.insert(mark.place, mark.digest).is_none())
    }

    /// Raises a floor and forgets the marks at and below it; false when it is as high already.
    pub(super) fn raise(&self, floor: InstanceId) -> bool {
        let mut known = self.known();
        let domain = floor.domain();
        if known.floors.get(&domain) >= Some(&floor) {
            return false;
        }
        known.floors.insert(domain, floor);
        let first = Place::first_of(domain.instance(0));
        let above = Place::first_of(floor.next());
        known.marks.extract_if(first..above, |_, _| true).for_each(drop);
        true
    }

    pub(super) fn is_above_floor(&self, mark: &Mark) -> bool {
        self.known().is_above_floor(mark)
    }

    pub(super) fn marks(&self) -> Vec<Mark> {
        self.known().marks.iter().map(|(place, digest)| Mark { place: *place, digest: *digest }).collect()
    }

    pub(super) fn floors(&self) -> Vec<InstanceId> {
        self.known().floors.values().copied().collect()
    }

    /// Nothing here panics while it holds the lock.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_above_floor(&self, mark: &Mark) -> bool {
        let instance = mark.place.instance;
        self.floors.get(&instance.domain()).is_none_or(|floor| instance > *floor)
    }

    fn may_take(&self, mark: &Mark) -> Result<(), StorageError> {
        if !self.is_above_floor(mark) {
            let reason = "it is not above what may have been signed before";
            return Err(StorageError::VoteRefused { place: mark.place, reason });
        }
        match self.marks.get(&mark.place) {
            Some(before) if *before != mark.digest => Err(taken(mark)),
            _ => Ok(()),
        }
    }
}

fn taken(mark: &Mark) -> StorageError {
    StorageError::VoteRefused { place: mark.place, reason: "another statement was made there" }
}
