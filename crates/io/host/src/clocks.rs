//! Whose clock is wrong.

use aequa_types::Quorum;

/// From how many milliseconds on two clocks do not agree (contract: HTTP, readiness).
pub const OFFSET_MAX_MS: u64 = 500;

/// Whether this node's clock disagrees with those of a quorum of others, which agree among themselves. They can do
/// without its blocks, and none of them is alone itself: two quorums share a node, so somebody is left to lead.
/// `offsets_ms` are the others' clocks minus this one.
pub fn is_alone(offsets_ms: impl IntoIterator<Item = i64>, quorum: Quorum) -> bool {
    let mut offsets: Vec<i64> =
        offsets_ms.into_iter().filter(|offset| offset.unsigned_abs() > OFFSET_MAX_MS).collect();
    offsets.sort_unstable();
    offsets.windows(quorum.quorum()).any(|agreeing| match agreeing {
        [first, .., last] => first.abs_diff(*last) <= OFFSET_MAX_MS,
        [_] => true,
        [] => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(operators: usize, offsets: &[i64]) -> bool {
        is_alone(offsets.iter().copied(), Quorum::of(operators).unwrap())
    }

    #[test]
    fn a_clock_that_a_quorum_of_others_contradict_is_alone() {
        assert!(alone(4, &[700, 900, 1200]) && alone(4, &[-501, -501, -501]));
        assert!(alone(7, &[5000, 5100, 5200, 5300, 5400, 3]));
        assert!(!alone(4, &[700, 900, 500]), "one of them agrees");
        assert!(!alone(4, &[700, 900, 1201]), "they do not agree among themselves");
        assert!(!alone(4, &[700, 900]), "two are no quorum");
        assert!(!alone(4, &[-600, 0, -600]) && !alone(4, &[600, 600, 0]), "two and two");
        assert!(!alone(4, &[i64::MIN, i64::MAX, 0]));
    }

    #[test]
    fn in_a_cluster_without_a_quorum_of_others_nobody_is_alone() {
        for operators in [1, 2] {
            assert!(!alone(operators, &[86_400_000, 86_400_000][..operators - 1]));
        }
    }
}
