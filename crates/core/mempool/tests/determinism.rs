//! The same set gives the same block, every block built passes, and no altered one does.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_mempool::{Admission, Cap, Limits, check_items};
use aequa_types::{BuilderPolicy, CheckedTransaction};
use common::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A few senders with runs of nonces, keys from a small range so that ties are common.
fn pool_content() -> impl Strategy<Value = Vec<CheckedTransaction>> {
    let run = (any::<bool>(), proptest::collection::vec((0u64..8, 0usize..40), 1..6));
    proptest::collection::vec(run, 1..10).prop_map(|runs| {
        let mut txs = Vec::new();
        for (sender, (auction, run)) in runs.into_iter().enumerate() {
            for (nonce, (key, payload_bytes)) in run.into_iter().enumerate() {
                let (sender, nonce) = (sender as u64, nonce as u64);
                txs.push(if auction {
                    bid(sender, nonce, key + 1)
                } else {
                    plaintext_of(sender, nonce, key, payload_bytes)
                });
            }
        }
        txs
    })
}

fn policies() -> impl Strategy<Value = BuilderPolicy> {
    (1u64..40, 0u64..20, 118u64..6000).prop_map(|(max_n, window, max_bytes)| BuilderPolicy {
        max_n,
        window,
        max_bytes,
        ..BuilderPolicy::default()
    })
}

/// PrepareProposal written again, as slowly and literally as the contract says it.
fn literal_proposal(policy: &BuilderPolicy, txs: &[CheckedTransaction]) -> Vec<CheckedTransaction> {
    let mut block: Vec<CheckedTransaction> = Vec::new();
    let mut bytes = 0;
    for kind in &policy.order {
        let mut open: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for tx in txs.iter().filter(|tx| tx.body().kind() == *kind) {
            open.insert(tx.body().from(), (0, u64::MAX));
        }
        let mut window = 0;
        while window < policy.window_or_max() && (block.len() as u64) < policy.max_n {
            let heads = txs.iter().filter(|tx| tx.body().kind() == *kind).filter_map(|tx| {
                let (next, previous) = open.get(&tx.body().from())?;
                (tx.body().nonce() == *next).then(|| (tx.body().key().min(*previous), tx))
            });
            let Some((effective, best)) =
                heads.min_by_key(|(effective, tx)| (std::cmp::Reverse(*effective), tx.hash()))
            else {
                break;
            };
            if bytes + best.bytes() as u64 > policy.max_bytes {
                open.remove(&best.body().from());
                continue;
            }
            bytes += best.bytes() as u64;
            window += 1;
            block.push(best.clone());
            open.insert(best.body().from(), (best.body().nonce() + 1, effective));
        }
    }
    block
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_proposal_depends_on_the_set_and_not_on_the_order_of_arrival(
        (txs, shuffled) in pool_content().prop_flat_map(|txs| (Just(txs.clone()), Just(txs).prop_shuffle())),
        policy in policies(),
    ) {
        let proposal = |txs: &[CheckedTransaction]| {
            let mut s = Scenario::with_policy(policy.clone());
            for tx in txs {
                s.admit(tx);
            }
            s.pool.propose(&s.state)
        };
        prop_assert_eq!(proposal(&txs), proposal(&shuffled));
    }

    #[test]
    fn the_proposal_is_the_one_the_contract_describes_and_passes_the_check(
        txs in pool_content(),
        policy in policies(),
    ) {
        let mut s = Scenario::with_policy(policy.clone());
        let held: Vec<_> = txs.into_iter().filter(|tx| s.admit(tx).is_held()).collect();
        let selection = s.pool.propose(&s.state);
        prop_assert_eq!(&selection.items, &literal_proposal(&policy, &held));
        check_items(&policy, &s.state, &selection.items).unwrap();
    }

    #[test]
    fn every_altered_proposal_is_refused(txs in pool_content()) {
        let policy = BuilderPolicy::default();
        let mut s = Scenario::new();
        s.admit_all(&txs);
        let items = s.pool.propose(&s.state).items;
        let refused = |items: &[CheckedTransaction]| check_items(&policy, &s.state, items).is_err();
        for i in 0..items.len() {
            for j in i + 1..items.len() {
                let mut swapped = items.clone();
                swapped.swap(i, j);
                prop_assert!(refused(&swapped), "swap of {i} and {j}");
            }
            let mut repeated = items.clone();
            repeated.insert(i, items[i].clone());
            prop_assert!(refused(&repeated), "repetition of {i}");
            let run_goes_on = items[i + 1..].iter().any(|later| {
                (later.body().kind(), later.body().from()) == (items[i].body().kind(), items[i].body().from())
            });
            let mut shorter = items.clone();
            shorter.remove(i);
            prop_assert_eq!(refused(&shorter), run_goes_on, "drop of {}", i);
        }
    }

    #[test]
    fn sums_and_indexes_follow_any_history(
        steps in proptest::collection::vec((0u64..6, 0u64..6, 0u64..200, 0usize..300, 0u8..8), 1..120),
    ) {
        let limits = Limits {
            open: Cap { transactions: 12, bytes: 4000 },
            per_sender: 4,
            expiry_heights: 6,
        };
        let mut s = Scenario::with(limits, BuilderPolicy::default());
        for (sender, nonce, key, payload_bytes, action) in steps {
            let state = aequa_mempool::Nonces::nonce(&s.state, &address(sender), PLAINTEXT);
            match action {
                0 => {
                    let items = s.pool.propose(&s.state).items;
                    check_items(s.pool.policy(), &s.state, &items).unwrap();
                    let half = &items[..items.len() / 2];
                    s.decide(half);
                }
                1 => { s.admit(&bid(sender, nonce, key + 1)); }
                _ => { s.admit(&plaintext_of(sender, state + nonce, key, payload_bytes)); }
            }
            prop_assert!(s.held() <= 12);
            prop_assert!(s.pool.bytes(PLAINTEXT) + s.pool.bytes(AUCTION) <= 4000);
            prop_assert_eq!(s.pool.has_pending(), !s.pool.propose(&s.state).items.is_empty());
            prop_assert_eq!(s.pool.is_empty(), s.held() == 0);
        }
        let last = s.height.0 + 6;
        s.decide_empty_until(last);
        prop_assert!(s.pool.is_empty());
        prop_assert_eq!((s.pool.bytes(PLAINTEXT), s.pool.bytes(AUCTION)), (0, 0));
    }
}

#[test]
fn a_changed_key_that_changes_the_order_is_refused() {
    let items = [plaintext(1, 0, 9), plaintext(2, 0, 7), plaintext(3, 0, 5)];
    let state = TestState::default();
    let policy = BuilderPolicy::default();
    check_items(&policy, &state, &items).unwrap();
    let mut changed = items.to_vec();
    changed[1] = plaintext(2, 0, 4);
    assert!(check_items(&policy, &state, &changed).is_err());
    changed[1] = plaintext(2, 0, 10);
    assert!(check_items(&policy, &state, &changed).is_err());
}

#[test]
fn a_full_pool_of_many_senders_is_selected_in_order_and_drains() {
    let mut s = Scenario::new();
    for sender in 0..2000 {
        for nonce in 0..2 {
            assert_eq!(s.admit_fast(&plaintext(sender, nonce, sender % 97)), Admission::Ok);
        }
    }
    let mut blocks = 0;
    while s.pool.has_pending() {
        let items = s.pool.propose(&s.state).items;
        check_items(s.pool.policy(), &s.state, &items).unwrap();
        s.decide(&items);
        blocks += 1;
    }
    assert_eq!((blocks, s.held()), (4, 0));
}
