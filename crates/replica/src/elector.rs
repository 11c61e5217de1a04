//! Who leads a round.

use aequa_types::{InstanceId, OperatorIndex, Quorum, Round};

/// The one leader of a round: `(height + domain + round) mod n`. Proposer, verifier, status and
/// logs all ask here.
pub fn leader(quorum: Quorum, instance: InstanceId, round: Round) -> OperatorIndex {
    let turn = u128::from(instance.number()) + u128::from(instance.domain().number()) + u128::from(round.0);
    // The remainder is below n, and n fits into a u8.
    OperatorIndex((turn % quorum.operators() as u128) as u8)
}
