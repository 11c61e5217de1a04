//! PrepareProposal: what a block should hold.

use crate::limits::TX_BYTES_MIN;
use crate::order::{Candidate, Order};
use crate::{Mempool, Nonces};
use aequa_types::{BuilderPolicy, CheckedTransaction, TxKind};

/// The items of a proposal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Items in block order.
    pub items: Vec<CheckedTransaction>,
    /// Sum of the items' SSZ sizes in bytes.
    pub bytes: u64,
    /// Senders that were closed before their transactions ran out, by type and reason.
    pub rejected: Vec<(TxKind, RejectReason)>,
}

/// Why a transaction was not taken, which closes its sender for its type and this block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RejectReason {
    /// Fee below the policy's minimum.
    BelowMinFee,
    /// Bid below the policy's minimum.
    BelowMinBid,
    /// Does not fit into what is left of `max_bytes`.
    OverBudget,
}

impl RejectReason {
    /// The reason's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            RejectReason::BelowMinFee => "below_min_fee",
            RejectReason::BelowMinBid => "below_min_bid",
            RejectReason::OverBudget => "over_budget",
        }
    }

    fn below_minimum(kind: TxKind) -> Self {
        match kind {
            TxKind::PlaintextV1 => RejectReason::BelowMinFee,
            TxKind::AuctionBidV1 => RejectReason::BelowMinBid,
        }
    }
}

impl Mempool {
    /// Chooses the items of the next block over the state of `nonces`. Depends on the set of transactions
    /// held, never on the order they came in.
    pub fn propose(&self, nonces: &dyn Nonces) -> Selection {
        let mut selection = Selection::default();
        for pool in self.pools() {
            let heads =
                pool.heads().filter(|tx| tx.body().nonce() == nonces.nonce(&tx.body().from(), pool.kind));
            fill(
                self.policy(),
                pool.kind,
                Order::from_sorted(heads),
                |tx| pool.successor(tx),
                &mut selection,
            );
        }
        selection
    }
}

/// Takes items of one type until its window, the block's count or its bytes are used up.
fn fill<'a, H: Iterator<Item = &'a CheckedTransaction>>(
    policy: &BuilderPolicy,
    kind: TxKind,
    mut order: Order<'a, H>,
    successor: impl Fn(&CheckedTransaction) -> Option<&'a CheckedTransaction>,
    selection: &mut Selection,
) {
    let mut window = policy.window_or_max().min(policy.max_n.saturating_sub(selection.items.len() as u64));
    while window > 0 && policy.max_bytes.saturating_sub(selection.bytes) >= TX_BYTES_MIN {
        let Some(candidate) = order.take() else { break };
        match selection.take(policy, kind, &candidate) {
            Err(reason) => selection.rejected.push((kind, reason)),
            Ok(()) => {
                window -= 1;
                if let Some(next) = successor(candidate.tx) {
                    order.open(candidate.followed_by(next));
                }
            }
        }
    }
}

impl Selection {
    fn take(
        &mut self,
        policy: &BuilderPolicy,
        kind: TxKind,
        candidate: &Candidate<'_>,
    ) -> Result<(), RejectReason> {
        let key = candidate.tx.body().key();
        if key < policy.min_key(kind) {
            return Err(RejectReason::below_minimum(kind));
        }
        let bytes = self.bytes + candidate.tx.bytes() as u64;
        if bytes > policy.max_bytes {
            return Err(RejectReason::OverBudget);
        }
        self.bytes = bytes;
        self.items.push(candidate.tx.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::{bid, checked};
    use aequa_types::Address;

    fn plaintext(sender: u8, nonce: u64, fee: u64) -> CheckedTransaction {
        checked(aequa_testkit::plaintext(Address::repeat_byte(sender), nonce, fee))
    }

    #[test]
    fn no_transaction_is_smaller_than_the_smallest() {
        let bid = checked(bid(Address::ZERO, 0, 1, Address::ZERO));
        assert_eq!(plaintext(1, 0, 0).bytes().min(bid.bytes()) as u64, TX_BYTES_MIN);
    }

    #[test]
    fn a_key_below_the_minimum_closes_its_sender_and_nobody_else() {
        let policy = BuilderPolicy { min_fee: 5, ..BuilderPolicy::default() };
        let low = [plaintext(1, 0, 9), plaintext(1, 1, 4), plaintext(1, 2, 9)];
        let other = plaintext(2, 0, 6);
        let mut selection = Selection::default();
        let successor = |tx: &CheckedTransaction| low.get(tx.body().nonce() as usize + 1);
        let only_low =
            |tx: &CheckedTransaction| successor(tx).filter(|_| tx.body().from() == low[0].body().from());
        let order = Order::from_sorted([&low[0], &other].into_iter());
        fill(&policy, TxKind::PlaintextV1, order, only_low, &mut selection);
        assert_eq!(selection.items, [low[0].clone(), other.clone()]);
        assert_eq!(selection.rejected, [(TxKind::PlaintextV1, RejectReason::BelowMinFee)]);
    }
}
