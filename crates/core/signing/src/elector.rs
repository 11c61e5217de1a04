//! Who leads a round.

use aequa_types::{InstanceId, LeaderPolicy, OperatorIndex, Quorum, Round};
use std::sync::Arc;

/// Elects the leader of every round. Proposer, verifier, status and logs all ask the same one.
pub trait Elector: Send + Sync {
    /// The one operator that may propose in this round of this instance.
    fn leader(&self, instance: InstanceId, round: Round) -> OperatorIndex;
}

/// In turn: `(height + domain + round) mod n`.
#[derive(Debug, Clone, Copy)]
pub struct RoundRobin(pub Quorum);

impl Elector for RoundRobin {
    fn leader(&self, instance: InstanceId, round: Round) -> OperatorIndex {
        let turn =
            u128::from(instance.number()) + u128::from(instance.domain().number()) + u128::from(round.0);
        // The remainder is below n, and n fits into a u8.
        OperatorIndex((turn % self.0.operators() as u128) as u8)
    }
}

/// The elector that the lock of a cluster asks for.
pub fn elector(policy: LeaderPolicy, quorum: Quorum) -> Arc<dyn Elector> {
    match policy {
        LeaderPolicy::RoundRobin => Arc::new(RoundRobin(quorum)),
    }
}
