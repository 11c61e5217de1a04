//! The pool of one transaction type, and the space pools share.

use crate::limits::{Cap, Limits};
use crate::queue::Queue;
use aequa_types::{Address, CheckedTransaction, TxHash, TxKind};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Every transaction type and the space it lives in. A new type is a new line.
const TABLE: [(TxKind, SpaceId); 2] =
    [(TxKind::PlaintextV1, SpaceId::Open), (TxKind::AuctionBidV1, SpaceId::Open)];

/// Types of one space share its caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpaceId {
    /// Transactions readable by everybody.
    Open,
}

impl SpaceId {
    pub const ALL: [SpaceId; 1] = [SpaceId::Open];

    pub fn of(kind: TxKind) -> Option<Self> {
        TABLE.iter().find(|(listed, _)| *listed == kind).map(|(_, space)| *space)
    }

    pub fn cap(self, limits: &Limits) -> Cap {
        match self {
            SpaceId::Open => limits.open,
        }
    }
}

/// What the pools of a space hold together, and who would leave first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Space {
    pub id: SpaceId,
    pub cap: Cap,
    pub transactions: usize,
    pub bytes: usize,
    /// The last transaction of every queue, first to leave first.
    pub ranks: BTreeSet<Rank>,
}

impl Space {
    pub fn new(id: SpaceId, limits: &Limits) -> Self {
        Self { id, cap: id.cap(limits), transactions: 0, bytes: 0, ranks: BTreeSet::new() }
    }
}

/// Order of leaving: futures, then the lowest effective key; the rest only makes it total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub pending: bool,
    pub effective: u64,
    pub kind: TxKind,
    pub sender: Address,
    pub nonce: u64,
}

impl Rank {
    /// Rank of the last transaction of `queue`.
    pub fn of_last(kind: TxKind, sender: Address, queue: &Queue) -> Option<Self> {
        let (nonce, entry) = queue.last()?;
        Some(Self { pending: queue.is_pending(nonce), effective: entry.effective, kind, sender, nonce })
    }

    /// Rank of the transaction before this one in its `queue`, once this one has left.
    pub fn before(&self, queue: &Queue) -> Option<Self> {
        let (nonce, entry) = queue.before(self.nonce)?;
        Some(Self { pending: queue.is_pending(nonce), effective: entry.effective, nonce, ..*self })
    }
}

/// A head in builder order: highest key first, ties by lower hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    key: Reverse<u64>,
    hash: TxHash,
    sender: Address,
}

impl Head {
    fn of(sender: Address, queue: &Queue) -> Option<Self> {
        let tx = &queue.head()?.tx;
        Some(Self { key: Reverse(tx.body().key()), hash: tx.hash(), sender })
    }
}

/// Queues of one transaction type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    pub kind: TxKind,
    pub space: SpaceId,
    queues: BTreeMap<Address, Queue>,
    heads: BTreeSet<Head>,
    transactions: usize,
    pending: usize,
    bytes: usize,
}

impl Pool {
    pub fn new(kind: TxKind, space: SpaceId) -> Self {
        Self {
            kind,
            space,
            queues: BTreeMap::new(),
            heads: BTreeSet::new(),
            transactions: 0,
            pending: 0,
            bytes: 0,
        }
    }

    pub fn queue(&self, sender: &Address) -> Option<&Queue> {
        self.queues.get(sender)
    }

    pub fn transactions(&self) -> usize {
        self.transactions
    }

    pub fn pending(&self) -> usize {
        self.pending
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first pending transaction of every sender, in builder order.
    pub fn heads(&self) -> impl Iterator<Item = &CheckedTransaction> {
        self.heads.iter().filter_map(|head| self.queues.get(&head.sender)?.head()).map(|entry| &entry.tx)
    }

    /// The pending transaction that follows `tx` in its queue.
    pub fn successor(&self, tx: &CheckedTransaction) -> Option<&CheckedTransaction> {
        let nonce = tx.body().nonce().checked_add(1)?;
        let queue = self.queues.get(&tx.body().from())?;
        queue.get(nonce).filter(|_| queue.is_pending(nonce)).map(|entry| &entry.tx)
    }

    /// Changes one queue: the only way to, so that sums, heads and ranks always follow it.
    pub fn edit<R>(
        &mut self,
        space: &mut Space,
        sender: Address,
        base: u64,
        change: impl FnOnce(&mut Queue) -> R,
    ) -> R {
        let mut queue = self.queues.remove(&sender).unwrap_or_else(|| Queue::new(base));
        if let Some(head) = Head::of(sender, &queue) {
            self.heads.remove(&head);
        }
        if let Some(rank) = Rank::of_last(self.kind, sender, &queue) {
            space.ranks.remove(&rank);
        }
        self.transactions -= queue.len();
        self.pending -= queue.pending();
        self.bytes -= queue.bytes();
        space.transactions -= queue.len();
        space.bytes -= queue.bytes();

        let result = change(&mut queue);

        self.transactions += queue.len();
        self.pending += queue.pending();
        self.bytes += queue.bytes();
        space.transactions += queue.len();
        space.bytes += queue.bytes();
        self.heads.extend(Head::of(sender, &queue));
        if let Some(rank) = Rank::of_last(self.kind, sender, &queue) {
            space.ranks.insert(rank);
            self.queues.insert(sender, queue);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transaction_type_has_a_space() {
        assert!(TxKind::ALL.into_iter().all(|kind| SpaceId::of(kind).is_some()));
    }
}
