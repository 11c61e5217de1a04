//! What every operator was seen to say, so that a contradiction is noticed.
//!
//! Everything verified that reaches the replica is compared, whether it counts in consensus or not: votes
//! of past rounds, what comes after the decision or before its height begins, the statements inside
//! justifications and certificates. The first statement of a place stays. An instance notes what
//! contradicts the votes it counts; here is the rest too, so nothing more is made of those notes.
//!
//! What is seen first is written to the vote log where it may still matter, so that an operator which comes
//! back on an old copy is told of what it said by members that restarted too.

use aequa_types::{Evidence, Height, InstanceId, Kind, OperatorIndex, Round, Signed};
use std::collections::BTreeMap;

/// Statements kept of one operator in one instance: four kinds in the eight rounds nearest to the current
/// one. An honest operator rarely makes more, and whoever makes thousands must not take the room of others.
const STATEMENTS_PER_OPERATOR_MAX: usize = 32;

/// Statements of one operator in one instance that are written down at once: an honest one needs sixteen rounds to
/// say so much.
const STATEMENTS_WRITTEN: u64 = 64;
/// After those, one in so long: rounds that late last longer, and a liar must not fill the disk.
const WRITTEN_EVERY_MS: u64 = 1000;

/// What one operator said in one instance.
#[derive(Debug, Default)]
struct Said {
    places: BTreeMap<(Round, Kind), Signed>,
    /// How much of it was written down.
    written: u64,
    /// When the first of it came.
    since_ms: u64,
}

/// What a statement is to whoever saw the earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// The first of its place, and whether it is to be written down.
    First { write: bool },
    /// Seen before, or nothing that proves a contradiction.
    Known,
    /// Its author said something else before.
    Contradiction(Box<Evidence>),
}

/// The first statement of every place, of the instances that are not forgotten.
#[derive(Debug, Default)]
pub(super) struct Statements {
    seen: BTreeMap<InstanceId, BTreeMap<OperatorIndex, Said>>,
}

impl Statements {
    /// Compares a verified statement with what its author said before in its place. `current` is the round
    /// of the instance: the statements kept are those nearest to it.
    pub(super) fn see(&mut self, signed: &Signed, current: Round, now_ms: u64) -> Seen {
        let said = self.seen.entry(signed.instance).or_default().entry(signed.author);
        let said = said.or_insert_with(|| Said { since_ms: now_ms, ..Said::default() });
        let place = (signed.round, signed.kind());
        if let Some(first) = said.places.get(&place) {
            // Refused when it says the same.
            return Evidence::new(first.clone(), signed.clone())
                .map_or(Seen::Known, |evidence| Seen::Contradiction(Box::new(evidence)));
        }
        said.places.insert(place, signed.clone());
        let age_ms = now_ms.saturating_sub(said.since_ms);
        let write = said.written < STATEMENTS_WRITTEN + age_ms / WRITTEN_EVERY_MS;
        said.written += u64::from(write);
        if said.places.len() > STATEMENTS_PER_OPERATOR_MAX {
            forget_furthest(&mut said.places, current);
        }
        Seen::First { write }
    }

    /// Forgets an instance.
    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.seen.remove(&instance);
    }

    /// Forgets blocks below `height`.
    pub(super) fn forget_blocks_below(&mut self, height: Height) {
        let kept = self.seen.split_off(&InstanceId::Block(height));
        self.seen = kept;
    }

    /// Everything kept of what this operator said.
    pub(super) fn statements_of(&self, operator: OperatorIndex) -> impl Iterator<Item = &Signed> {
        self.seen
            .values()
            .filter_map(move |authors| authors.get(&operator))
            .flat_map(|said| said.places.values())
    }

    /// Statements kept.
    pub(super) fn len(&self) -> usize {
        self.seen.values().flat_map(BTreeMap::values).map(|said| said.places.len()).sum()
    }
}

/// The map is ordered by round: the furthest is its first or its last.
fn forget_furthest(said: &mut BTreeMap<(Round, Kind), Signed>, current: Round) {
    let distance = |place: Option<(&(Round, Kind), &Signed)>| {
        place.map_or(0, |((round, _), _)| round.0.abs_diff(current.0))
    };
    if distance(said.first_key_value()) > distance(said.last_key_value()) {
        said.pop_first();
    } else {
        said.pop_last();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::at;

    fn prepare(height: u64, round: u64, digest: u8) -> Signed {
        aequa_testkit::prepare(at(height), round, aequa_testkit::digest(digest)).by(1)
    }

    fn contradicts(seen: &Seen) -> bool {
        matches!(seen, Seen::Contradiction(_))
    }

    #[test]
    fn of_one_operator_and_instance_some_statements_are_written_at_once_and_then_one_a_second() {
        let mut witness = Statements::default();
        let mut written = |height, rounds: std::ops::Range<u64>, now_ms| {
            let seen = rounds.map(|round| witness.see(&prepare(height, round, 1), Round(round), now_ms));
            seen.filter(|seen| *seen == Seen::First { write: true }).count() as u64
        };
        assert_eq!(written(1, 0..1000, 7), STATEMENTS_WRITTEN);
        assert_eq!(written(2, 0..1000, 7), STATEMENTS_WRITTEN, "each instance anew");
        assert_eq!(written(1, 1000..2000, 7 + 10 * WRITTEN_EVERY_MS), 10);
    }

    #[test]
    fn b1_a_hundred_retransmissions_and_votes_of_different_rounds_are_no_evidence() {
        let mut witness = Statements::default();
        for _ in 0..100 {
            for said in [prepare(1, 0, 1), prepare(1, 1, 2), prepare(2, 0, 3)] {
                assert!(!contradicts(&witness.see(&said, Round(0), 0)));
            }
        }
        assert_eq!(witness.len(), 3);
    }

    #[test]
    fn b2_every_repetition_of_a_contradiction_is_the_same_evidence() {
        let mut witness = Statements::default();
        witness.see(&prepare(1, 0, 1), Round(0), 0);
        let expected = Box::new(Evidence::new(prepare(1, 0, 2), prepare(1, 0, 1)).unwrap());
        for _ in 0..3 {
            assert_eq!(witness.see(&prepare(1, 0, 2), Round(0), 0), Seen::Contradiction(expected.clone()));
        }
    }

    #[test]
    fn whoever_floods_crowds_out_only_its_own_statements_of_far_rounds() {
        let mut witness = Statements::default();
        let current = Round(100);
        witness.see(&prepare(1, 100, 1), current, 0);
        for round in (0..1000).filter(|round| *round != 100) {
            witness.see(&prepare(1, round, 1), current, 0);
        }
        assert_eq!(witness.len(), STATEMENTS_PER_OPERATOR_MAX);
        assert!(
            contradicts(&witness.see(&prepare(1, 100, 2), current, 0)),
            "the current round is not forgotten"
        );
        assert!(contradicts(&witness.see(&prepare(1, 90, 2), current, 0)));
    }

    #[test]
    fn what_is_forgotten_takes_no_room() {
        let mut witness = Statements::default();
        for height in 1..=5 {
            assert_eq!(witness.see(&prepare(height, 0, 1), Round(0), 0), Seen::First { write: true });
        }
        witness.forget_blocks_below(Height(4));
        assert_eq!(witness.len(), 2);
        witness.forget(InstanceId::Block(Height(5)));
        assert_eq!(witness.len(), 1);
        assert!(contradicts(&witness.see(&prepare(4, 0, 2), Round(0), 0)));
    }
}
