//! Whether a newcomer may be held, and who leaves for it. Decides; changes nothing.

use crate::pool::{Rank, Space};
use crate::queue::Queue;
use crate::{Admission, InvalidReason, Mempool, Nonces, OverflowReason};
use aequa_types::limits::{NONCE_GAP_MAX, TX_BYTES_MAX};
use aequa_types::{Address, TxBody, TxKind};
use std::collections::BTreeSet;

/// What admission looks at; all of it is known before the signature is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newcomer {
    pub kind: TxKind,
    pub sender: Address,
    pub nonce: u64,
    pub key: u64,
    pub bytes: usize,
}

impl Newcomer {
    pub fn new(body: &TxBody, bytes: usize) -> Self {
        Self { kind: body.kind(), sender: body.from(), nonce: body.nonce(), key: body.key(), bytes }
    }

    fn owns(&self, rank: &Rank) -> bool {
        self.kind == rank.kind && self.sender == rank.sender
    }
}

/// Where a newcomer will stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the end of the pending run.
    Pending,
    /// Above it.
    Future,
    /// At a nonce that is held; whether that one is pending, and its size.
    Taken { pending: bool, bytes: usize },
}

impl Place {
    fn is_pending(self) -> bool {
        matches!(self, Place::Pending | Place::Taken { pending: true, .. })
    }

    fn is_taken(self) -> bool {
        matches!(self, Place::Taken { .. })
    }
}

/// How a newcomer will be held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub place: Place,
    pub victims: Vec<Rank>,
}

impl Mempool {
    /// Cheapest checks first; the answer is the one admission will give.
    pub(crate) fn assess(&self, newcomer: &Newcomer, nonces: &dyn Nonces) -> Result<Plan, Admission> {
        let Some(pool) = self.pool(newcomer.kind) else {
            return Err(Admission::Invalid(InvalidReason::TypeNotOrdered));
        };
        let block_bytes_max = usize::try_from(self.policy().max_bytes).unwrap_or(usize::MAX);
        if newcomer.bytes > TX_BYTES_MAX.min(block_bytes_max) {
            return Err(Admission::Invalid(InvalidReason::TooLarge));
        }
        let state = nonces.nonce(&newcomer.sender, newcomer.kind);
        if newcomer.nonce < state {
            return Err(Admission::Old);
        }
        let queue = pool.queue(&newcomer.sender).filter(|queue| queue.base() == state);
        let place = self.place(newcomer, queue, state)?;
        if newcomer.key < self.policy().min_key(newcomer.kind) {
            return Err(Admission::Invalid(match newcomer.kind {
                TxKind::PlaintextV1 => InvalidReason::BelowMinFee,
                TxKind::AuctionBidV1 => InvalidReason::BelowMinBid,
            }));
        }
        let own = self.own_victim(newcomer, place, queue)?;
        let victims = self
            .make_room(self.space(pool.space), newcomer, place, own)
            .ok_or(Admission::Overflow(OverflowReason::PoolFull))?;
        Ok(Plan { place, victims })
    }

    fn place(&self, newcomer: &Newcomer, queue: Option<&Queue>, state: u64) -> Result<Place, Admission> {
        let expected = queue.map_or(state, Queue::expected);
        if let Some(held) = queue.and_then(|queue| queue.get(newcomer.nonce)) {
            let enough = u128::from(newcomer.key) >= raised(held.tx.body().key());
            if !enough || self.is_in_flight(&held.tx.hash()) {
                return Err(Admission::Dup);
            }
            return Ok(Place::Taken { pending: newcomer.nonce < expected, bytes: held.tx.bytes() });
        }
        // The last nonce of all has no successor, so no state could follow it.
        if newcomer.nonce.saturating_sub(expected) > NONCE_GAP_MAX || newcomer.nonce == u64::MAX {
            return Err(Admission::Invalid(InvalidReason::NonceGap));
        }
        Ok(if newcomer.nonce == expected { Place::Pending } else { Place::Future })
    }

    /// The sender's own last future, when the sender is at its cap and the newcomer comes before it.
    fn own_victim(
        &self,
        newcomer: &Newcomer,
        place: Place,
        queue: Option<&Queue>,
    ) -> Result<Option<Rank>, Admission> {
        let Some(queue) = queue.filter(|queue| queue.len() >= self.limits().per_sender && !place.is_taken())
        else {
            return Ok(None);
        };
        Rank::of_last(newcomer.kind, newcomer.sender, queue)
            .filter(|last| !last.pending && last.nonce > newcomer.nonce)
            .map(Some)
            .ok_or(Admission::Overflow(OverflowReason::SenderCap))
    }

    /// Who leaves so that the newcomer fits, or `None` when nothing cheaper can make room. Their number is
    /// bounded by the largest transaction over the smallest.
    fn make_room(
        &self,
        space: &Space,
        newcomer: &Newcomer,
        place: Place,
        own: Option<Rank>,
    ) -> Option<Vec<Rank>> {
        if newcomer.bytes > space.cap.bytes || space.cap.transactions == 0 {
            return None;
        }
        let (mut transactions, mut bytes) = match place {
            Place::Taken { bytes, .. } => (space.transactions, space.bytes + newcomer.bytes - bytes),
            Place::Pending | Place::Future => (space.transactions + 1, space.bytes + newcomer.bytes),
        };
        let mut victims = Vec::new();
        let mut ends = space.ranks.iter().copied().peekable();
        let mut uncovered = BTreeSet::new();
        if let Some(own) = own {
            transactions -= 1;
            bytes -= self.bytes_of(&own);
            victims.push(own);
        }
        while transactions > space.cap.transactions || bytes > space.cap.bytes {
            let rank = match (ends.peek(), uncovered.first()) {
                (Some(end), Some(next)) if next < end => uncovered.pop_first()?,
                (None, _) => uncovered.pop_first()?,
                _ => ends.next()?,
            };
            if own == Some(rank) {
                uncovered.extend(self.rank_before(&rank));
                continue;
            }
            let held_back = place.is_taken() && newcomer.owns(&rank);
            if held_back || self.hash_of(&rank).is_none_or(|hash| self.is_in_flight(&hash)) {
                continue;
            }
            if !leaves_for(&rank, newcomer, place) {
                return None;
            }
            transactions -= 1;
            bytes -= self.bytes_of(&rank);
            uncovered.extend(self.rank_before(&rank));
            victims.push(rank);
        }
        Some(victims)
    }

    fn rank_before(&self, rank: &Rank) -> Option<Rank> {
        rank.before(self.pool(rank.kind)?.queue(&rank.sender)?)
    }
}

/// The least key that is 10 % above `key`.
fn raised(key: u64) -> u128 {
    u128::from(key) + u128::from(key.div_ceil(10).max(1))
}

fn leaves_for(rank: &Rank, newcomer: &Newcomer, place: Place) -> bool {
    if newcomer.owns(rank) {
        return !rank.pending && rank.nonce > newcomer.nonce;
    }
    match (rank.pending, place.is_pending()) {
        (false, true) => true,
        (true, false) => false,
        _ => u128::from(newcomer.key) >= raised(rank.effective),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raise_is_ten_per_cent_rounded_up_and_at_least_one() {
        let cases = [(0, 1), (1, 2), (9, 10), (10, 11), (11, 13), (1000, 1100), (1001, 1102)];
        for (key, least) in cases {
            assert_eq!(raised(key), least, "{key}");
        }
        assert_eq!(raised(u64::MAX), 20_291_418_481_080_506_777);
        assert!(raised(u64::MAX) > u128::from(u64::MAX));
    }
}
