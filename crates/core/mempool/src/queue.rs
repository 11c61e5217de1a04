//! The sequence of one (sender, type).

use aequa_types::{CheckedTransaction, Height};
use std::collections::BTreeMap;

/// One held transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub tx: CheckedTransaction,
    pub admitted: Height,
    /// Least key of this and everything before it in the queue.
    pub effective: u64,
}

/// Transactions of one (sender, type) by nonce: a pending run from the state's nonce, then futures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queue {
    entries: BTreeMap<u64, Entry>,
    base: u64,
    pending: usize,
    bytes: usize,
}

impl Queue {
    /// An empty queue whose next nonce in the state is `base`.
    pub fn new(base: u64) -> Self {
        Self { entries: BTreeMap::new(), base, pending: 0, bytes: 0 }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    /// The nonce that would extend the pending run.
    pub fn expected(&self) -> u64 {
        self.base.saturating_add(self.pending as u64)
    }

    pub fn is_pending(&self, nonce: u64) -> bool {
        nonce < self.expected()
    }

    pub fn get(&self, nonce: u64) -> Option<&Entry> {
        self.entries.get(&nonce)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn pending(&self) -> usize {
        self.pending
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first of the pending run.
    pub fn head(&self) -> Option<&Entry> {
        self.entries.get(&self.base)
    }

    /// The highest nonce held.
    pub fn last(&self) -> Option<(u64, &Entry)> {
        self.entries.last_key_value().map(|(nonce, entry)| (*nonce, entry))
    }

    /// The highest nonce held below `nonce`.
    pub fn before(&self, nonce: u64) -> Option<(u64, &Entry)> {
        self.entries.range(..nonce).next_back().map(|(nonce, entry)| (*nonce, entry))
    }

    /// The pending transactions from `nonce` on.
    pub fn pending_from(&self, nonce: u64) -> impl Iterator<Item = &Entry> {
        let end = self.expected();
        self.entries.range(nonce.min(end)..end).map(|(_, entry)| entry)
    }

    /// Puts a transaction at its nonce and returns the one it replaced.
    pub fn insert(&mut self, tx: CheckedTransaction, admitted: Height) -> Option<Entry> {
        self.bytes += tx.bytes();
        let effective = tx.body().key();
        let replaced = self.entries.insert(tx.body().nonce(), Entry { tx, admitted, effective });
        self.bytes -= replaced.as_ref().map_or(0, |entry| entry.tx.bytes());
        self.settle();
        replaced
    }

    pub fn remove(&mut self, nonce: u64) -> Option<Entry> {
        let removed = self.entries.remove(&nonce)?;
        self.bytes -= removed.tx.bytes();
        self.settle();
        Some(removed)
    }

    /// Follows the state to nonce `base` and returns what became old.
    pub fn rebase(&mut self, base: u64) -> Vec<Entry> {
        let kept = self.entries.split_off(&base);
        let old: Vec<Entry> = std::mem::replace(&mut self.entries, kept).into_values().collect();
        self.bytes -= old.iter().map(|entry| entry.tx.bytes()).sum::<usize>();
        self.base = base;
        self.settle();
        old
    }

    /// Recomputes what depends on neighbours; a queue is as short as the cap per sender.
    fn settle(&mut self) {
        let mut effective = u64::MAX;
        let mut pending: u64 = 0;
        for (nonce, entry) in &mut self.entries {
            effective = effective.min(entry.tx.body().key());
            entry.effective = effective;
            if nonce.checked_sub(self.base) == Some(pending) {
                pending += 1;
            }
        }
        self.pending = pending as usize;
    }
}
