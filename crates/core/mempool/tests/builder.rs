//! What a proposal holds, and that everybody can re-derive its order.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_mempool::{ItemsError, RejectReason, check_items};
use aequa_types::{Amount, BuilderPolicy, CheckedTransaction, Totals, TxKind};
use common::*;

fn check(policy: &BuilderPolicy, items: &[CheckedTransaction]) -> Result<(), ItemsError> {
    check_items(policy, &TestState::default(), items)
}

fn check_default(items: &[CheckedTransaction]) -> Result<(), ItemsError> {
    check(&BuilderPolicy::default(), items)
}

#[test]
fn bids_come_before_plaintext_and_higher_keys_first() {
    let mut s = Scenario::new();
    s.admit_all([&plaintext(1, 0, 900), &plaintext(2, 0, 1000), &bid(3, 0, 1), &bid(4, 0, 2)]);
    let selection = s.pool.propose(&s.state);
    let expected = [(AUCTION, 4, 0), (AUCTION, 3, 0), (PLAINTEXT, 2, 0), (PLAINTEXT, 1, 0)];
    assert_eq!(shape(&selection.items), expected);
    let totals = Totals::of(&selection.items);
    assert_eq!((totals.fees, totals.bids), (Amount::from(1900), Amount::from(3)));
    assert_eq!(totals.items, 4);
    check_default(&selection.items).unwrap();
}

#[test]
fn a_high_fee_does_not_jump_its_own_queue() {
    let mut s = Scenario::new();
    s.admit_all([&plaintext(1, 0, 10), &plaintext(1, 1, 1000), &plaintext(2, 0, 20), &plaintext(3, 0, 5)]);
    let items = s.pool.propose(&s.state).items;
    let expected = [(PLAINTEXT, 2, 0), (PLAINTEXT, 1, 0), (PLAINTEXT, 1, 1), (PLAINTEXT, 3, 0)];
    assert_eq!(shape(&items), expected);
    check_default(&items).unwrap();
}

#[test]
fn a_low_first_key_holds_back_the_ones_behind_it() {
    let mut s = Scenario::new();
    s.admit_all([&plaintext(1, 0, 30), &plaintext(1, 1, 2), &plaintext(1, 2, 99), &plaintext(2, 0, 3)]);
    let items = s.pool.propose(&s.state).items;
    let expected = [(PLAINTEXT, 1, 0), (PLAINTEXT, 2, 0), (PLAINTEXT, 1, 1), (PLAINTEXT, 1, 2)];
    assert_eq!(shape(&items), expected);
    check_default(&items).unwrap();
}

#[test]
fn equal_keys_are_ordered_by_lower_hash() {
    let mut s = Scenario::new();
    let mut txs: Vec<_> = (0..20).map(|sender| plaintext(sender, 0, 7)).collect();
    s.admit_all(&txs);
    txs.sort_by_key(CheckedTransaction::hash);
    assert_eq!(s.pool.propose(&s.state).items, txs);
}

#[test]
fn futures_are_not_proposed() {
    let mut s = Scenario::new();
    s.admit_all([&plaintext(1, 1, 9), &plaintext(2, 0, 1), &plaintext(2, 2, 1)]);
    assert_eq!(shape(&s.pool.propose(&s.state).items), [(PLAINTEXT, 2, 0)]);
}

#[test]
fn heads_that_are_not_at_the_states_nonce_are_left_out() {
    let mut s = Scenario::new();
    s.admit_all([&plaintext(1, 0, 9), &plaintext(2, 0, 1)]);
    let ahead = s.state.clone().with(1, PLAINTEXT, 1);
    assert_eq!(shape(&s.pool.propose(&ahead).items), [(PLAINTEXT, 2, 0)]);
}

#[test]
fn the_window_is_per_type_and_max_n_is_for_all() {
    let policy = BuilderPolicy { max_n: 5, window: 3, ..BuilderPolicy::default() };
    let mut s = Scenario::with_policy(policy.clone());
    for sender in 0..6 {
        s.admit_all([&plaintext(sender, 0, sender + 1), &bid(sender, 0, sender + 1)]);
    }
    let items = s.pool.propose(&s.state).items;
    let of = |kind: TxKind| items.iter().filter(|tx| tx.body().kind() == kind).count();
    assert_eq!((of(AUCTION), of(PLAINTEXT)), (3, 2));
    check(&policy, &items).unwrap();
    let narrow = BuilderPolicy { window: 2, ..policy.clone() };
    assert_eq!(check(&narrow, &items), Err(ItemsError::WindowExceeded { kind: AUCTION, items: 3, max: 2 }));
    let short = BuilderPolicy { max_n: 4, ..policy };
    assert_eq!(check(&short, &items), Err(ItemsError::TooManyItems { items: 5, max: 4 }));
}

#[test]
fn the_byte_budget_is_met_exactly_and_never_passed() {
    let budget = 3 * PLAINTEXT_BYTES as u64;
    for (spare, taken) in [(-1_i64, 2), (0, 3), (1, 3)] {
        let max_bytes = budget.checked_add_signed(spare).unwrap();
        let policy = BuilderPolicy { max_bytes, ..BuilderPolicy::default() };
        let mut s = Scenario::with_policy(policy.clone());
        let txs: Vec<_> = (0..4).map(|sender| plaintext(sender, 0, 10 - sender)).collect();
        s.admit_all(&txs);
        let selection = s.pool.propose(&s.state);
        assert_eq!(selection.items.len(), taken, "budget {max_bytes}");
        assert!(selection.bytes <= max_bytes);
        check(&policy, &selection.items).unwrap();
        let over = &txs[..taken + 1];
        assert!(matches!(check(&policy, over), Err(ItemsError::TooManyBytes { .. })));
    }
}

#[test]
fn what_does_not_fit_closes_its_sender_and_smaller_ones_go_on() {
    let policy = BuilderPolicy { max_bytes: 700, ..BuilderPolicy::default() };
    let mut s = Scenario::with_policy(policy.clone());
    s.admit_all([&plaintext_of(1, 0, 100, 200), &plaintext_of(2, 0, 90, 400)]);
    s.admit_all([&plaintext(2, 1, 90), &plaintext(3, 0, 50)]);
    let selection = s.pool.propose(&s.state);
    assert_eq!(shape(&selection.items), [(PLAINTEXT, 1, 0), (PLAINTEXT, 3, 0)]);
    assert_eq!(selection.rejected, [(PLAINTEXT, RejectReason::OverBudget)]);
    check(&policy, &selection.items).unwrap();
}

#[test]
fn the_dearest_item_closes_nobody_else() {
    let mut s = Scenario::new();
    let dearest = [bid(1, 0, u64::MAX), plaintext(1, 0, u64::MAX)];
    let others = [bid(2, 0, u64::MAX), plaintext(2, 0, u64::MAX), plaintext(3, 0, 1)];
    s.admit_all(dearest.iter().chain(&others));
    let selection = s.pool.propose(&s.state);
    assert_eq!((selection.items.len(), selection.rejected), (5, vec![]));
    check_default(&selection.items).unwrap();
}

#[test]
fn the_checker_names_what_is_wrong() {
    let policy = BuilderPolicy { order: vec![PLAINTEXT], min_fee: 2, ..BuilderPolicy::default() };
    assert_eq!(
        check(&policy, &[bid(1, 0, 5)]).unwrap_err().to_string(),
        "unexpected payload type: auction_bid_v1"
    );
    assert_eq!(
        check(&policy, &[plaintext(1, 0, 1)]),
        Err(ItemsError::BelowMinimum { index: 0, key: 1, min: 2 })
    );
    let wrong_types = [plaintext(1, 0, 5), bid(1, 0, 5)];
    assert_eq!(check_default(&wrong_types).unwrap_err().to_string(), "type priority violated");
    let wrong_order = [plaintext(1, 0, 5), plaintext(2, 0, 6)];
    assert_eq!(
        check_default(&wrong_order).unwrap_err().to_string(),
        "sortkey not non-increasing for type: plaintext_v1"
    );
    let twice = [plaintext(1, 0, 5), plaintext(1, 0, 5)];
    assert_eq!(check_default(&twice), Err(ItemsError::Duplicate { index: 1 }));
    let gap = [plaintext(1, 0, 5), plaintext(1, 2, 5)];
    assert_eq!(check_default(&gap), Err(ItemsError::Nonce { index: 1, nonce: 2, expected: 1 }));
    let last = TestState::default().with(1, PLAINTEXT, u64::MAX);
    let exhausted = check_items(&BuilderPolicy::default(), &last, &[plaintext(1, u64::MAX, 5)]);
    assert_eq!(exhausted, Err(ItemsError::NonceExhausted { index: 0 }));
}

#[test]
fn a_block_without_items_is_in_order() {
    assert_eq!(check_default(&[]), Ok(()));
}
