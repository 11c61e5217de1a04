//! What blocks and duties do differently; all else of consensus is the same for both.

use crate::context::Context;
use aequa_qbft::{Justified, Note, Validity};
use aequa_types::{
    Certificate, ConsensusParams, Digest, DutyId, Height, InstanceId, OperatorIndex, Round, Value,
};

/// A value that is proposed, and to be judged.
pub(crate) struct Proposed<'a> {
    pub round: Round,
    /// The leader of the round.
    pub proposer: OperatorIndex,
    pub value: &'a Value,
    pub justified: Justified,
}

/// What a leader does.
pub(crate) enum Proposal {
    /// It proposes this.
    Value(Value),
    /// What it waits for brings a value later.
    Later,
    /// It lets its round pass.
    Pass,
}

/// What was decided, and is to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Block(Height),
    Duty(DutyId),
}

/// What one kind of instance agrees on.
pub(crate) trait Agreement {
    /// This operator leads `round`.
    fn propose(&mut self, cx: &mut Context, id: InstanceId, round: Round) -> Proposal;

    /// Whether the value may be prepared.
    fn validate(&self, cx: &Context, id: InstanceId, proposed: &Proposed<'_>) -> Validity;

    /// How long a round waits for its messages.
    fn timeout_ms(&self, params: &ConsensusParams, round: Round) -> u64 {
        timeout_ms(params, round)
    }

    /// Whether nothing is to be agreed on yet, so that no round runs out of time.
    fn is_idle(&self) -> bool {
        false
    }

    /// A value that was asked for by digest, where it is known outside the instance.
    fn value(&self, _id: InstanceId, _digest: Digest) -> Option<Value> {
        None
    }

    /// How far the instance has come; `accepted` is the value of an accepted proposal.
    fn noted(&mut self, cx: &Context, id: InstanceId, note: &Note, accepted: Option<&Value>);

    /// The decision. `None` when it cannot be carried out, and the node stops.
    fn decided(
        &mut self,
        cx: &mut Context,
        id: InstanceId,
        value: Value,
        certificate: &Certificate,
    ) -> Option<Ended>;
}

/// base · 2^r, capped: how long a round waits for its messages.
pub(crate) fn timeout_ms(params: &ConsensusParams, round: Round) -> u64 {
    let doubled = u32::try_from(round.0)
        .ok()
        .and_then(|shift| 1u64.checked_shl(shift))
        .and_then(|factor| params.round_timeout_ms.checked_mul(factor));
    doubled.map_or(params.round_timeout_cap_ms, |doubled| doubled.min(params.round_timeout_cap_ms))
}
