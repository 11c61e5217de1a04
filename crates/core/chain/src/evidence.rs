//! Which evidence a block may carry.
//!
//! Evidence is committed once per offence, in the order of offences, and at most
//! [`EVIDENCE_PER_OPERATOR_MAX`] times per operator: that bounds the table, which is never pruned, so
//! that nothing can be committed again when it would be forgotten.
//!
//! Evidence about the chain is too old when *both* limits are exceeded, in heights and in block time. The
//! time of a height is that of the next sample at or above it: every [`TIME_EVERY_HEIGHTS`]th block leaves
//! its timestamp in the state until it exceeds both limits itself. So evidence is too old exactly when its
//! sample has come and gone, and never counts as older than it is. The heights of duties are slots, which
//! the chain knows no time of: evidence about them does not age.

use crate::State;
use crate::row::Row;
use crate::state::Committed;
use aequa_types::evidence::{Evidence, Offence};
use aequa_types::limits::EVIDENCE_PER_OPERATOR_MAX;
use aequa_types::{Height, InstanceId, OperatorIndex, TimestampMs};

/// Evidence this many heights below the tip may still be committed: the first of the two limits.
pub const EVIDENCE_AGE_HEIGHTS_MAX: u64 = 100_000;
/// Evidence this many milliseconds of block time old may still be committed: the second, 48 hours.
pub const EVIDENCE_AGE_MS_MAX: u64 = 48 * 3_600_000;
/// How many heights lie between two samples of block time: a hundred samples per height limit.
pub const TIME_EVERY_HEIGHTS: u64 = 1_000;

/// Why a block may not carry a piece of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceRefusal {
    /// There is evidence of this offence in the chain.
    #[error("evidence of this offence of operator {operator} was committed at height {committed}")]
    AlreadyCommitted {
        /// The accused.
        operator: OperatorIndex,
        /// Height of the block that carries it.
        committed: Height,
    },
    /// The same offence occurs twice in one block.
    #[error("two pieces of evidence of one offence of operator {0}")]
    Twice(OperatorIndex),
    /// Not in the order of offences.
    #[error("evidence out of order")]
    Unsorted,
    /// Older than both limits.
    #[error("evidence of height {0} is too old")]
    Expired(Height),
    /// The chain has as much against this operator as it remembers.
    #[error("there is evidence enough against operator {0}")]
    Enough(OperatorIndex),
}

/// Whether the block after `tip` may carry this piece, as far as it matters alone.
pub(crate) fn check(state: &State, tip: Height, offence: &Offence) -> Result<(), EvidenceRefusal> {
    if let Some(Committed { height, .. }) = state.evidence(offence) {
        return Err(EvidenceRefusal::AlreadyCommitted { operator: offence.operator, committed: height });
    }
    if let InstanceId::Block(height) = offence.key.instance
        && is_expired(state, tip, height)
    {
        return Err(EvidenceRefusal::Expired(height));
    }
    check_room(state, offence.operator, 1)
}

/// Whether the block after `tip` may carry exactly this list.
pub(crate) fn check_list(state: &State, tip: Height, list: &[Evidence]) -> Result<(), EvidenceRefusal> {
    let offences: Vec<Offence> = list.iter().map(Evidence::offence).collect();
    for pair in offences.windows(2) {
        if pair[0] == pair[1] {
            return Err(EvidenceRefusal::Twice(pair[0].operator));
        }
        if pair[0] > pair[1] {
            return Err(EvidenceRefusal::Unsorted);
        }
    }
    offences.iter().try_for_each(|offence| check(state, tip, offence))?;
    offences
        .chunk_by(|one, other| one.operator == other.operator)
        .try_for_each(|of_one| check_room(state, of_one[0].operator, of_one.len()))
}

fn check_room(state: &State, operator: OperatorIndex, more: usize) -> Result<(), EvidenceRefusal> {
    let known = state.evidence_against(operator).count();
    if known + more > EVIDENCE_PER_OPERATOR_MAX { Err(EvidenceRefusal::Enough(operator)) } else { Ok(()) }
}

fn is_expired(state: &State, tip: Height, height: Height) -> bool {
    let sample = height.0.checked_next_multiple_of(TIME_EVERY_HEIGHTS).map(Height);
    sample.is_some_and(|sample| sample <= tip && state.time(sample).is_none())
}

/// Samples that exceed both limits at this block: the oldest ones.
pub(crate) fn expired_samples(state: &State, height: Height, timestamp_ms: TimestampMs) -> Vec<Row> {
    let too_old = |(sample, sampled_ms): &(Height, TimestampMs)| {
        height.0.saturating_sub(sample.0) > EVIDENCE_AGE_HEIGHTS_MAX
            && timestamp_ms.saturating_sub(*sampled_ms) > EVIDENCE_AGE_MS_MAX
    };
    let expired = state.times().take_while(too_old);
    expired.map(|(height, timestamp_ms)| Row::Time { height, timestamp_ms }).collect()
}
