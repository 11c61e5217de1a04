//! Why transactions left the pools.

use crate::limits::DROPPED_REMEMBERED_MAX;
use aequa_types::{TxHash, TxKind};
use std::collections::{BTreeMap, VecDeque};

/// Why a transaction left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemovalReason {
    /// A decided block holds it.
    Included,
    /// Another one with the same nonce and a higher key took its place.
    Replaced,
    /// It made room in a full pool.
    Evicted,
    /// It was held for as many heights as allowed.
    Expired,
    /// Another one with the same nonce was included.
    Stale,
}

impl RemovalReason {
    /// All reasons.
    pub const ALL: [RemovalReason; 5] = [
        RemovalReason::Included,
        RemovalReason::Replaced,
        RemovalReason::Evicted,
        RemovalReason::Expired,
        RemovalReason::Stale,
    ];

    /// The reason's name in metrics and answers.
    pub fn name(self) -> &'static str {
        match self {
            RemovalReason::Included => "included",
            RemovalReason::Replaced => "replaced",
            RemovalReason::Evicted => "evicted",
            RemovalReason::Expired => "expired",
            RemovalReason::Stale => "stale",
        }
    }
}

/// One transaction that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Its type.
    pub kind: TxKind,
    /// Which one.
    pub hash: TxHash,
    /// Why.
    pub reason: RemovalReason,
}

/// What a decided block changed in the pools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removals {
    /// Transactions that left.
    pub removed: Vec<Removed>,
    /// Futures that became pending.
    pub promoted: Vec<TxHash>,
}

/// Counts of everything that ever left, and the last reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Departures {
    totals: BTreeMap<(TxKind, RemovalReason), u64>,
    dropped: BTreeMap<TxHash, RemovalReason>,
    oldest_first: VecDeque<TxHash>,
}

impl Departures {
    pub fn note(&mut self, removed: Removed) {
        *self.totals.entry((removed.kind, removed.reason)).or_default() += 1;
        if removed.reason == RemovalReason::Included {
            return;
        }
        if self.dropped.insert(removed.hash, removed.reason).is_none() {
            self.oldest_first.push_back(removed.hash);
        }
        if self.oldest_first.len() > DROPPED_REMEMBERED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.dropped.remove(&oldest);
        }
    }

    /// Forgets that `hash` was dropped: another node's block held it after all.
    pub fn forget(&mut self, hash: &TxHash) {
        self.dropped.remove(hash);
    }

    pub fn total(&self, kind: TxKind, reason: RemovalReason) -> u64 {
        self.totals.get(&(kind, reason)).copied().unwrap_or(0)
    }

    pub fn dropped(&self, hash: &TxHash) -> Option<RemovalReason> {
        self.dropped.get(hash).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_dropped_transactions_is_bounded_and_forgets_the_oldest() {
        let mut departures = Departures::default();
        let hash = |i: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(i as u64).to_le_bytes());
            TxHash::from(bytes)
        };
        for i in 0..=DROPPED_REMEMBERED_MAX {
            let removed =
                Removed { kind: TxKind::PlaintextV1, hash: hash(i), reason: RemovalReason::Expired };
            departures.note(removed);
        }
        assert_eq!(departures.dropped(&hash(0)), None);
        assert_eq!(departures.dropped(&hash(1)), Some(RemovalReason::Expired));
        assert_eq!(departures.dropped.len(), DROPPED_REMEMBERED_MAX);
        let total = departures.total(TxKind::PlaintextV1, RemovalReason::Expired);
        assert_eq!(total, DROPPED_REMEMBERED_MAX as u64 + 1);
    }
}
