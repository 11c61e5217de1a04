//! The order of one type's items: the rule both the builder and the checker follow.

use aequa_types::CheckedTransaction;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::iter::Peekable;

/// A transaction that could come next, with its effective key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub tx: &'a CheckedTransaction,
    pub effective: u64,
}

impl<'a> Candidate<'a> {
    /// The first of a sender's items: nothing before it lowers its key.
    pub fn head(tx: &'a CheckedTransaction) -> Self {
        Self { tx, effective: tx.body().key() }
    }

    /// The item after this one in the same sequence.
    pub fn followed_by(&self, tx: &'a CheckedTransaction) -> Self {
        Self { tx, effective: tx.body().key().min(self.effective) }
    }

    fn rank(&self) -> (u64, Reverse<aequa_types::TxHash>) {
        (self.effective, Reverse(self.tx.hash()))
    }
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Candidate<'_> {}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate<'_> {
    /// Greater comes first in the block: higher effective key, then lower hash.
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// Hands out candidates, best first. Costs a heap step per item, whatever the number of heads.
pub(crate) struct Order<'a, H: Iterator<Item = &'a CheckedTransaction>> {
    heads: Peekable<H>,
    opened: BinaryHeap<Candidate<'a>>,
}

impl<'a, H: Iterator<Item = &'a CheckedTransaction>> Order<'a, H> {
    /// Starts from every sender's head, which must come in builder order.
    pub fn from_sorted(heads: H) -> Self {
        Self { heads: heads.peekable(), opened: BinaryHeap::new() }
    }

    /// Makes an item available because the one before it was taken.
    pub fn open(&mut self, candidate: Candidate<'a>) {
        self.opened.push(candidate);
    }

    /// Takes the best candidate out.
    pub fn take(&mut self) -> Option<Candidate<'a>> {
        let head = self.heads.peek().map(|tx| Candidate::head(tx));
        match (head, self.opened.peek()) {
            (Some(head), Some(opened)) if *opened > head => self.opened.pop(),
            (None, _) => self.opened.pop(),
            (Some(head), _) => {
                self.heads.next();
                Some(head)
            }
        }
    }
}
