//! ProcessProposal: the checks of a block's items before it may be prepared.

use crate::order::Order;
use crate::{ItemsError, Nonces};
use aequa_types::{Address, BuilderPolicy, CheckedTransaction, TxHash, TxKind};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Checks the items of a block against the parent state and the policy of the lock, and nothing else: every
/// node comes to the same answer. The policy must have passed [`crate::validate_policy`].
///
/// Whether the proposer left something out is not checked; no other node can know.
pub fn check_items(
    policy: &BuilderPolicy,
    nonces: &dyn Nonces,
    items: &[CheckedTransaction],
) -> Result<(), ItemsError> {
    check_sizes(policy, items)?;
    check_types(policy, items)?;
    check_distinct(items)?;
    check_nonces(nonces, items)?;
    check_minima(policy, items)?;
    items.chunk_by(|a, b| a.body().kind() == b.body().kind()).try_for_each(check_order)
}

fn check_sizes(policy: &BuilderPolicy, items: &[CheckedTransaction]) -> Result<(), ItemsError> {
    if items.len() as u64 > policy.max_n {
        return Err(ItemsError::TooManyItems { items: items.len(), max: policy.max_n });
    }
    let window = policy.window_or_max();
    for kind in TxKind::ALL {
        let of_kind = items.iter().filter(|tx| tx.body().kind() == kind).count();
        if of_kind as u64 > window {
            return Err(ItemsError::WindowExceeded { kind, items: of_kind, max: window });
        }
    }
    let bytes: u64 = items.iter().map(|tx| tx.bytes() as u64).sum();
    if bytes > policy.max_bytes {
        return Err(ItemsError::TooManyBytes { bytes, max: policy.max_bytes });
    }
    Ok(())
}

fn check_types(policy: &BuilderPolicy, items: &[CheckedTransaction]) -> Result<(), ItemsError> {
    let mut reached = 0;
    for tx in items {
        let kind = tx.body().kind();
        let slot = policy
            .order
            .iter()
            .position(|ordered| *ordered == kind)
            .ok_or(ItemsError::UnexpectedType(kind))?;
        if slot < reached {
            return Err(ItemsError::TypePriority);
        }
        reached = slot;
    }
    Ok(())
}

fn check_distinct(items: &[CheckedTransaction]) -> Result<(), ItemsError> {
    let mut seen: BTreeSet<TxHash> = BTreeSet::new();
    match items.iter().position(|tx| !seen.insert(tx.hash())) {
        Some(index) => Err(ItemsError::Duplicate { index }),
        None => Ok(()),
    }
}

fn check_nonces(nonces: &dyn Nonces, items: &[CheckedTransaction]) -> Result<(), ItemsError> {
    let mut next: BTreeMap<(TxKind, Address), u64> = BTreeMap::new();
    for (index, tx) in items.iter().enumerate() {
        let (kind, sender, nonce) = (tx.body().kind(), tx.body().from(), tx.body().nonce());
        let expected = next.entry((kind, sender)).or_insert_with(|| nonces.nonce(&sender, kind));
        if nonce != *expected {
            return Err(ItemsError::Nonce { index, nonce, expected: *expected });
        }
        *expected = nonce.checked_add(1).ok_or(ItemsError::NonceExhausted { index })?;
    }
    Ok(())
}

fn check_minima(policy: &BuilderPolicy, items: &[CheckedTransaction]) -> Result<(), ItemsError> {
    for (index, tx) in items.iter().enumerate() {
        let (key, min) = (tx.body().key(), policy.min_key(tx.body().kind()));
        if key < min {
            return Err(ItemsError::BelowMinimum { index, key, min });
        }
    }
    Ok(())
}

/// Builds the order of one type's items again from the set alone. Their nonces are consecutive per sender.
fn check_order(run: &[CheckedTransaction]) -> Result<(), ItemsError> {
    let mut lines: BTreeMap<Address, Vec<&CheckedTransaction>> = BTreeMap::new();
    for tx in run {
        lines.entry(tx.body().from()).or_default().push(tx);
    }
    let mut heads: Vec<&CheckedTransaction> =
        lines.values().filter_map(|line| line.first().copied()).collect();
    heads.sort_by_key(|tx| (Reverse(tx.body().key()), tx.hash()));
    for line in lines.values_mut() {
        line.reverse();
        line.pop();
    }
    let mut order = Order::from_sorted(heads.into_iter());
    for tx in run {
        let next = order.take().filter(|next| next.tx.hash() == tx.hash());
        let next = next.ok_or_else(|| ItemsError::Order(tx.body().kind()))?;
        if let Some(successor) = lines.get_mut(&tx.body().from()).and_then(Vec::pop) {
            order.open(next.followed_by(successor));
        }
    }
    Ok(())
}
