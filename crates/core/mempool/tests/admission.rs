//! What the pools take, keep and give up.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_mempool::{
    Admission, Cap, InvalidReason, Limits, Nonces as _, OverflowReason, RemovalReason, TxStatus,
};
use aequa_types::{BuilderPolicy, TxKind};
use common::*;

const FULL: Admission = Admission::Overflow(OverflowReason::PoolFull);
const GAP: Admission = Admission::Invalid(InvalidReason::NonceGap);

#[test]
fn the_next_nonce_is_pending_and_a_later_one_is_a_future_up_to_the_gap() {
    let mut s = Scenario::new();
    s.state = s.state.with(1, PLAINTEXT, 10);
    assert_eq!(s.admit(&plaintext(1, 9, 1)), Admission::Old);
    assert_eq!(s.admit(&plaintext(1, 10, 1)), Admission::Ok);
    assert_eq!(s.admit(&plaintext(1, 11 + 64, 1)), Admission::Future);
    assert_eq!(s.admit(&plaintext(1, 11 + 65, 1)), GAP);
    assert_eq!(s.admit(&plaintext(1, u64::MAX, 1)), GAP);
    assert_eq!((s.pool.len(PLAINTEXT), s.pool.pending_len(PLAINTEXT)), (2, 1));
}

#[test]
fn the_last_nonce_of_all_is_refused_since_no_state_could_follow_it() {
    let mut s = Scenario::new();
    s.state = s.state.with(1, PLAINTEXT, u64::MAX - 1);
    assert_eq!(s.admit(&plaintext(1, u64::MAX - 1, 1)), Admission::Ok);
    assert_eq!(s.admit(&plaintext(1, u64::MAX, 1)), GAP);
}

#[test]
fn sequences_of_one_sender_run_per_type() {
    let mut s = Scenario::new();
    assert_eq!(s.admit(&plaintext(1, 0, 1)), Admission::Ok);
    assert_eq!(s.admit(&bid(1, 1, 1)), Admission::Future);
    assert_eq!(s.admit(&bid(1, 0, 1)), Admission::Ok);
    assert_eq!(s.pool.pending_nonce(&address(1), PLAINTEXT, &s.state), 1);
    assert_eq!(s.pool.pending_nonce(&address(1), AUCTION, &s.state), 2);
}

#[test]
fn a_missing_nonce_promotes_the_futures_behind_it() {
    let mut s = Scenario::new();
    let later = [plaintext(1, 1, 5), plaintext(1, 2, 5), plaintext(1, 4, 5)];
    for tx in &later {
        assert_eq!(s.admit(tx), Admission::Future);
    }
    assert!(!s.pool.has_pending());
    assert_eq!(s.admit(&plaintext(1, 0, 5)), Admission::Ok);
    assert_eq!(s.pool.status(&later[1].hash()), Some(TxStatus::Pending));
    assert_eq!(s.pool.status(&later[2].hash()), Some(TxStatus::Future));
    assert_eq!(s.pool.pending_nonce(&address(1), PLAINTEXT, &s.state), 3);
}

#[test]
fn nonce_1_and_nonce_257_are_two_transactions() {
    let (low, high) = (plaintext(1, 1, 5), plaintext(1, 257, 5));
    assert_ne!(low.hash(), high.hash());
    let mut s = Scenario::new();
    s.state = s.state.with(1, PLAINTEXT, 1);
    s.admit_all([&low]);
    s.state = TestState::default().with(1, PLAINTEXT, 257);
    assert_eq!(s.pool.admit(high.clone(), s.height, &s.state), Admission::Ok);
    assert!(s.pool.get(&high.hash()).is_some() && s.pool.get(&low.hash()).is_none());
}

#[test]
fn a_nonce_that_is_taken_is_dup_unless_the_key_is_a_tenth_higher() {
    let mut s = Scenario::new();
    let first = plaintext(1, 0, 101);
    assert_eq!(s.admit(&first), Admission::Ok);
    assert_eq!(s.admit(&first), Admission::Dup);
    assert_eq!(s.admit(&plaintext(1, 0, 111)), Admission::Dup);
    let raised = plaintext(1, 0, 112);
    assert_eq!(s.admit(&raised), Admission::Ok);
    assert_eq!(s.pool.len(PLAINTEXT), 1);
    assert_eq!(s.pool.status(&first.hash()), Some(TxStatus::Dropped(RemovalReason::Replaced)));
    assert_eq!(s.pool.removed_total(PLAINTEXT, RemovalReason::Replaced), 1);
    assert_eq!(s.pool.propose(&s.state).items, [raised]);
}

#[test]
fn the_raise_does_not_overflow_at_the_largest_keys() {
    let mut s = Scenario::new();
    s.admit_all([&plaintext(1, 0, u64::MAX - 1), &plaintext(2, 0, 0)]);
    assert_eq!(s.admit(&plaintext(1, 0, u64::MAX)), Admission::Dup);
    assert_eq!(s.admit(&plaintext_of(2, 0, 0, 1)), Admission::Dup, "zero is raised by at least one");
    assert_eq!(s.admit(&plaintext(2, 0, 1)), Admission::Ok);
}

#[test]
fn what_is_in_a_proposal_being_agreed_is_not_replaced() {
    let mut s = Scenario::new();
    let first = plaintext(1, 0, 1);
    s.admit_all([&first]);
    s.pool.set_in_flight(&[first.hash()]);
    assert_eq!(s.admit(&plaintext(1, 0, 1000)), Admission::Dup);
    s.pool.set_in_flight(&[]);
    assert_eq!(s.admit(&plaintext(1, 0, 1000)), Admission::Ok);
}

#[test]
fn keys_below_the_policy_and_types_without_a_slot_are_invalid() {
    let policy = BuilderPolicy { min_fee: 5, order: vec![TxKind::PlaintextV1], ..BuilderPolicy::default() };
    let mut s = Scenario::with_policy(policy);
    assert_eq!(s.admit(&plaintext(1, 0, 4)), Admission::Invalid(InvalidReason::BelowMinFee));
    assert_eq!(s.admit(&plaintext(1, 0, 5)), Admission::Ok);
    assert_eq!(s.admit(&bid(1, 0, 9)), Admission::Invalid(InvalidReason::TypeNotOrdered));
    let mut s = Scenario::with_policy(BuilderPolicy { min_bid: 5, ..BuilderPolicy::default() });
    assert_eq!(s.admit(&bid(1, 0, 4)), Admission::Invalid(InvalidReason::BelowMinBid));
}

#[test]
fn what_no_block_can_hold_is_invalid() {
    let max_bytes = (PLAINTEXT_BYTES + 10) as u64;
    let mut s = Scenario::with_policy(BuilderPolicy { max_bytes, ..BuilderPolicy::default() });
    assert_eq!(s.admit(&plaintext_of(1, 0, 1, 10)), Admission::Ok);
    assert_eq!(s.admit(&plaintext_of(2, 0, 1, 11)), Admission::Invalid(InvalidReason::TooLarge));
}

#[test]
fn of_ten_thousand_futures_of_one_sender_64_are_kept() {
    let mut s = Scenario::new();
    let mut kept = 0;
    for nonce in 1..=10_000 {
        match s.admit(&plaintext(1, nonce, 1)) {
            Admission::Future => kept += 1,
            answer => assert_eq!(answer, GAP),
        }
    }
    assert_eq!((kept, s.held()), (64, 64));
    assert_eq!(s.admit(&plaintext(2, 0, 1)), Admission::Ok, "others are still admitted");
}

#[test]
fn a_sender_at_its_cap_can_still_fill_the_gap_before_its_futures() {
    let mut s = Scenario::new();
    let futures: Vec<_> = (1..=64).map(|nonce| plaintext(1, nonce, 1)).collect();
    s.admit_all(&futures);
    assert_eq!(s.admit(&plaintext(1, 0, 0)), Admission::Ok);
    assert_eq!(s.pool.status(&futures[63].hash()), Some(TxStatus::Dropped(RemovalReason::Evicted)));
    assert_eq!((s.pool.len(PLAINTEXT), s.pool.pending_len(PLAINTEXT)), (64, 64));
    assert_eq!(s.admit(&plaintext(1, 64, 9)), Admission::Overflow(OverflowReason::SenderCap));
}

#[test]
fn a_flood_of_one_sender_is_bounded_and_others_are_still_admitted() {
    let mut s = Scenario::new();
    for nonce in 0..64 {
        assert_eq!(s.admit(&plaintext(1, nonce, 1)), Admission::Ok);
    }
    for nonce in 64..1000 {
        let answer = s.admit(&plaintext(1, nonce, u64::MAX));
        let expected = if nonce <= 128 { Admission::Overflow(OverflowReason::SenderCap) } else { GAP };
        assert_eq!(answer, expected);
    }
    assert_eq!(s.held(), 64);
    assert_eq!(s.admit(&bid(1, 0, 1)), Admission::Ok, "the cap is per type");
    assert_eq!(s.admit(&plaintext(2, 0, 1)), Admission::Ok);
}

#[test]
fn a_full_pool_gives_up_the_last_nonce_of_the_cheapest_sender_for_a_tenth_more() {
    let mut s = Scenario::with_room_for(4);
    let cheap = [plaintext(1, 0, 100), plaintext(1, 1, 9000)];
    s.admit_all(&cheap);
    s.admit_all([&plaintext(2, 0, 200), &bid(3, 0, 300)]);
    assert_eq!(s.admit(&plaintext(4, 0, 109)), FULL);
    assert_eq!(s.admit(&bid(4, 0, 110)), Admission::Ok, "types share the space");
    let gone = TxStatus::Dropped(RemovalReason::Evicted);
    assert_eq!(s.pool.status(&cheap[1].hash()), Some(gone), "effective key 100, whatever its own");
    assert_eq!(s.pool.status(&cheap[0].hash()), Some(TxStatus::Pending));
    assert_eq!(s.pool.removed_total(PLAINTEXT, RemovalReason::Evicted), 1);
    assert_eq!(s.held(), 4);
}

#[test]
fn a_full_pool_gives_up_futures_before_anything_pending() {
    let mut s = Scenario::with_room_for(3);
    let futures = [plaintext(2, 5, 900), plaintext(3, 5, 800)];
    s.admit_all([&plaintext(1, 0, 1)]);
    s.admit_all(&futures);
    assert_eq!(s.admit(&plaintext(4, 3, 879)), FULL, "a future needs a tenth more than the cheapest");
    assert_eq!(s.admit(&plaintext(4, 3, 880)), Admission::Future);
    assert!(s.pool.get(&futures[1].hash()).is_none());
    assert_eq!(s.admit(&plaintext(5, 0, 2)), Admission::Ok, "a pending one needs no more than to come");
    assert_eq!(s.admit(&plaintext(6, 0, 2)), Admission::Ok);
    assert!(s.pool.get(&futures[0].hash()).is_none());
    assert_eq!(s.pool.pending_len(PLAINTEXT), 3);
    assert_eq!(s.admit(&plaintext(7, 1, u64::MAX)), FULL, "a future displaces nothing pending");
}

#[test]
fn a_sender_does_not_make_room_for_itself_by_dropping_what_it_needs() {
    let mut s = Scenario::with_room_for(2);
    s.admit_all([&plaintext(1, 0, 1), &plaintext(2, 0, 50)]);
    assert_eq!(s.admit(&plaintext(1, 1, 1000)), FULL);
    assert_eq!(s.held(), 2);
}

#[test]
fn what_is_in_a_proposal_being_agreed_is_not_evicted() {
    let mut s = Scenario::with_room_for(2);
    let (cheap, dear) = (plaintext(1, 0, 1), plaintext(2, 0, 50));
    s.admit_all([&cheap, &dear]);
    s.pool.set_in_flight(&[cheap.hash()]);
    assert_eq!(s.admit(&plaintext(3, 0, 10)), FULL);
    assert_eq!(s.admit(&plaintext(3, 0, 55)), Admission::Ok);
    assert!(s.pool.get(&cheap.hash()).is_some() && s.pool.get(&dear.hash()).is_none());
}

#[test]
fn as_many_leave_as_a_large_newcomer_needs_and_none_when_that_is_not_enough() {
    let mut s = Scenario::with_room_for_bytes(4 * PLAINTEXT_BYTES);
    let small: Vec<_> = (0..3).map(|nonce| plaintext(1, nonce, 10)).collect();
    s.admit_all(&small);
    s.admit_all([&plaintext(2, 0, 1000)]);
    assert_eq!(s.admit(&plaintext_of(3, 0, 20, 3 * PLAINTEXT_BYTES)), FULL);
    assert_eq!(s.held(), 4);
    assert_eq!(s.admit(&plaintext_of(3, 0, 20, PLAINTEXT_BYTES)), Admission::Ok);
    assert!(s.pool.get(&small[0].hash()).is_some());
    assert!(s.pool.get(&small[1].hash()).is_none() && s.pool.get(&small[2].hash()).is_none());
    assert_eq!(s.pool.bytes(PLAINTEXT), 4 * PLAINTEXT_BYTES);
    assert_eq!(s.admit(&plaintext_of(4, 0, u64::MAX, 4 * PLAINTEXT_BYTES)), FULL, "larger than the cap");
}

#[test]
fn a_larger_replacement_needs_room_too_and_not_from_its_own_sequence() {
    let mut s = Scenario::with_room_for_bytes(3 * PLAINTEXT_BYTES);
    s.admit_all([&plaintext(1, 0, 1), &plaintext(1, 1, 100), &plaintext(2, 0, 50)]);
    assert_eq!(s.admit(&plaintext_of(1, 0, 2, 1)), FULL);
    assert_eq!(s.admit(&plaintext_of(1, 0, 55, 1)), Admission::Ok);
    assert_eq!(s.pool.pending_len(PLAINTEXT), 2);
    assert_eq!(s.pool.bytes(PLAINTEXT), 2 * PLAINTEXT_BYTES + 1);
}

#[test]
fn what_was_included_is_old_when_it_comes_again_and_sizes_go_back_to_zero() {
    let mut s = Scenario::new();
    let txs = [plaintext(1, 0, 5), plaintext(1, 1, 5), bid(2, 0, 5)];
    s.admit_all(&txs);
    let items = s.pool.propose(&s.state).items;
    let removals = s.decide(&items);
    assert_eq!(removals.removed.len(), 3);
    assert!(removals.removed.iter().all(|removed| removed.reason == RemovalReason::Included));
    for tx in &txs {
        assert_eq!(s.admit(tx), Admission::Old);
        assert_eq!(s.pool.status(&tx.hash()), None);
    }
    assert!(s.pool.is_empty() && !s.pool.has_pending());
    assert_eq!((s.pool.bytes(PLAINTEXT), s.pool.bytes(AUCTION)), (0, 0));
    assert_eq!(s.pool.removed_total(PLAINTEXT, RemovalReason::Included), 2);
}

#[test]
fn admission_alone_never_moves_a_nonce() {
    let mut s = Scenario::new();
    s.admit_all([&plaintext(1, 0, 5)]);
    assert_eq!(s.state.nonce(&address(1), PLAINTEXT), 0);
    assert_eq!(s.pool.propose(&s.state), s.pool.propose(&s.state), "proposing takes nothing out");
}

#[test]
fn a_block_of_another_node_makes_rivals_stale_and_promotes_futures() {
    let mut s = Scenario::new();
    let (mine, future) = (plaintext(1, 0, 5), plaintext(1, 2, 5));
    s.admit_all([&mine, &future]);
    let removals = s.decide(&[plaintext_of(1, 0, 7, 3), plaintext(1, 1, 7)]);
    assert_eq!(removals.removed.len(), 1);
    assert_eq!((removals.removed[0].hash, removals.removed[0].reason), (mine.hash(), RemovalReason::Stale));
    assert_eq!(removals.promoted, [future.hash()]);
    assert_eq!(s.pool.propose(&s.state).items, [future]);
}

#[test]
fn an_included_one_is_no_longer_called_dropped() {
    let mut s = Scenario::with_room_for(1);
    let evicted = plaintext(1, 0, 1);
    s.admit_all([&evicted, &plaintext(2, 0, 5)]);
    assert!(matches!(s.pool.status(&evicted.hash()), Some(TxStatus::Dropped(_))));
    s.decide(std::slice::from_ref(&evicted));
    assert_eq!(s.pool.status(&evicted.hash()), None);
}

#[test]
fn expiry_counts_heights_and_what_waited_behind_becomes_a_future() {
    let mut s = Scenario::new();
    let (early, late) = (plaintext(1, 0, 5), plaintext(1, 1, 5));
    s.admit_all([&early]);
    s.decide_empty_until(2);
    s.admit_all([&late]);
    assert!(s.decide_empty_until(7200).removed.is_empty());
    let removals = s.decide_empty_until(7201);
    assert_eq!(
        (removals.removed[0].hash, removals.removed[0].reason),
        (early.hash(), RemovalReason::Expired)
    );
    assert_eq!(s.pool.status(&late.hash()), Some(TxStatus::Future));
    assert_eq!(s.decide_empty_until(7202).removed.len(), 1);
    assert!(s.pool.is_empty());
}

#[test]
fn limits_are_held_exactly() {
    let limits = Limits { open: Cap { transactions: 8, bytes: 1 << 20 }, per_sender: 3, expiry_heights: 5 };
    let mut s = Scenario::with(limits, BuilderPolicy::default());
    for sender in 0..20 {
        for nonce in 0..5 {
            s.admit(&plaintext(sender, nonce, 1));
        }
    }
    assert_eq!(s.held(), 8);
}
