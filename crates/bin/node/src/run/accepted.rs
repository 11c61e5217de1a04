//! Which statements have passed verification before.

use aequa_types::{Digest, InstanceId, Kind, OperatorIndex, Round, Verified};
use parking_lot::Mutex;
use std::collections::HashSet;

/// Statements remembered per generation: several hundred heights of a small cluster, about half a megabyte. Seven
/// eighths of a power of two: one more, and a table of them takes twice the memory.
const STATEMENTS_MAX: usize = 7_168;

/// What makes two statements the same to a replay (contract: metrics, section 4).
type VoteKey = (OperatorIndex, InstanceId, Round, Kind, Option<Digest>);

/// Tells the first arrival of a statement from its repetitions, for counting only: forgetting one costs
/// nothing but a count. Two generations; a full young one becomes the old one.
pub struct Accepted {
    generations: Mutex<(HashSet<VoteKey>, HashSet<VoteKey>)>,
}

impl Default for Accepted {
    /// Both generations have their full size from the start.
    fn default() -> Self {
        let generation = || HashSet::with_capacity(STATEMENTS_MAX);
        Self { generations: Mutex::new((generation(), generation())) }
    }
}

impl Accepted {
    /// Whether a verified message says something that was not accepted before. Only statements can be
    /// repetitions: questions, values and certificates have no author.
    pub fn is_new(&self, message: &Verified) -> bool {
        let Some(signed) = message.statement() else { return true };
        let place = (signed.author, signed.instance, signed.round, signed.kind(), signed.digest());
        let (young, old) = &mut *self.generations.lock();
        if young.contains(&place) || old.contains(&place) {
            return false;
        }
        if young.len() >= STATEMENTS_MAX {
            std::mem::swap(old, young);
            young.clear();
        }
        young.insert(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::at;
    use aequa_types::message::ValueRequest;

    fn prepare(round: u64, digest: u8) -> Verified {
        Verified::Prepare(aequa_testkit::prepare(at(7), round, Digest::repeat_byte(digest)).by(1))
    }

    #[test]
    fn only_the_very_same_statement_is_a_repetition() {
        let accepted = Accepted::default();
        assert!(accepted.is_new(&prepare(0, 1)));
        assert!(!accepted.is_new(&prepare(0, 1)));
        assert!(accepted.is_new(&prepare(0, 2)), "a second digest is a conflict, not a repetition");
        assert!(accepted.is_new(&prepare(1, 1)));
        let question = ValueRequest { instance: at(7), digest: Digest::repeat_byte(1) };
        assert!((0..2).all(|_| accepted.is_new(&Verified::ValueRequest(question))));
    }

    #[test]
    fn memory_is_bounded_by_two_generations() {
        let accepted = Accepted::default();
        for round in 0..100_000 {
            assert!(accepted.is_new(&prepare(round, 1)));
            let (young, old) = &*accepted.generations.lock();
            assert!(young.len() + old.len() <= 2 * STATEMENTS_MAX);
        }
        assert!(!accepted.is_new(&prepare(99_999, 1)));
    }
}
