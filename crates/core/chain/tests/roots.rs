//! Roots: golden vectors, what must differ, and that the cache never drifts from the rows.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_chain::{Chain, ChainError, Change, SCHEMA_VERSION, State, StoredRow, Tip};
use aequa_types::{CheckedTransaction, Header, Height, OperatorIndex};
use alloy_primitives::B256;
use common::{Store, bid, cluster, extend, four, genesis, next, plaintext};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn rows(vector: &Value) -> Vec<StoredRow> {
    vector["rows"].as_array().unwrap().iter().map(|row| (bytes(&row[0]), bytes(&row[1]))).collect()
}

/// `data/state_vectors.json` is derived by `state_vectors.py`, which shares no code with the crate.
fn golden() -> Value {
    serde_json::from_str(include_str!("data/state_vectors.json")).unwrap()
}

#[test]
fn j1_roots_are_the_golden_ones() {
    let golden = golden();
    assert_eq!(golden["schema"], SCHEMA_VERSION);
    assert_eq!(bytes(&golden["cluster_id"]), cluster().as_slice());
    let vectors = golden["vectors"].as_array().unwrap();
    let counts: Vec<usize> = vectors.iter().map(|vector| rows(vector).len()).collect();
    assert_eq!(counts, [0, 1, 2, 3, 7, 10, 11, 13]);
    for vector in vectors {
        let height = Height(vector["height"].as_u64().unwrap());
        let state = State::from_rows(rows(vector)).unwrap();
        assert_eq!(state.tree_root().as_slice(), bytes(&vector["tree_root"]), "height {height}");
        assert_eq!(
            state.root(&cluster(), height).as_slice(),
            bytes(&vector["state_root"]),
            "height {height}"
        );
    }
}

#[test]
fn j1_the_roots_before_any_block_are_the_golden_ones() {
    let tip = *genesis().tip();
    let first = &golden()["vectors"][0];
    assert_eq!(tip.state_root.as_slice(), bytes(&first["state_root"]));
    assert_eq!(tip.history_root.as_slice(), bytes(&first["history_root"]));
    assert_eq!((tip.height, tip.digest, tip.timestamp_ms), (Height(0), cluster(), 0));
}

#[test]
fn j1_the_history_root_after_a_block_is_the_golden_one() {
    let mut chain = genesis();
    let applied = extend(&mut chain, 0, &[]);
    let second = &golden()["vectors"][1];
    assert_eq!(applied.state_root.as_slice(), bytes(&second["state_root"]));
    assert_eq!(applied.history_root.as_slice(), bytes(&second["history_root"]));
}

#[test]
fn a_header_has_the_golden_encoding_and_digest() {
    let golden = &golden()["header"];
    let root = B256::repeat_byte;
    let header = Header {
        cluster_id: root(1),
        height: Height(golden["height"].as_u64().unwrap()),
        parent_root: root(2),
        timestamp_ms: golden["timestamp_ms"].as_u64().unwrap(),
        proposer: OperatorIndex(3),
        policy_hash: root(3),
        payload_root: root(4),
        evidence_root: root(5),
        state_root: root(6),
        leader_proof: bytes(&golden["leader_proof"]).try_into().unwrap(),
        total_fees: golden["total_fees"].as_str().unwrap().parse().unwrap(),
        total_bids: golden["total_bids"].as_str().unwrap().parse().unwrap(),
        items: golden["items"].as_u64().unwrap(),
    };
    assert_eq!(aequa_types::decode::<Header>("header", &bytes(&golden["ssz"]), 1024), Ok(header.clone()));
    assert_eq!(header.digest().as_slice(), bytes(&golden["digest"]));
}

#[test]
fn j2_one_row_more_or_less_or_in_another_table_gives_another_root() {
    let all = rows(&golden()["vectors"][4]);
    let root = |rows: Vec<StoredRow>| State::from_rows(rows).unwrap().root(&cluster(), Height(5));
    let mut seen = vec![root(all.clone())];
    for index in 0..all.len() {
        let mut without = all.clone();
        without.remove(index);
        seen.push(root(without));
        let mut changed = all.clone();
        *changed[index].1.last_mut().unwrap() ^= 0x40;
        seen.push(root(changed));
    }
    let as_credit = (vec![3; 21], 5u128.to_be_bytes().to_vec());
    let as_nonce = ([vec![1], vec![3; 20], vec![1]].concat(), 5u64.to_be_bytes().to_vec());
    seen.push(root(vec![as_credit]));
    seen.push(root(vec![as_nonce]));
    seen.push(root(vec![]));
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len());
}

#[test]
fn the_last_row_twice_is_refused_rather_than_ignored() {
    let mut rows = rows(&golden()["vectors"][3]);
    rows.push(rows[2].clone());
    assert!(matches!(State::from_rows(rows), Err(ChainError::MalformedRow { .. })));
}

#[test]
fn j3_a_height_without_transactions_still_has_a_root_of_its_own() {
    let mut chain = genesis();
    let mut roots = vec![chain.tip().state_root];
    for proposer in [0, 0, 1, 1] {
        roots.push(extend(&mut chain, proposer, &[]).state_root);
    }
    roots.sort();
    roots.dedup();
    assert_eq!(roots.len(), 5);
}

#[test]
fn j5_histories_that_meet_in_the_same_state_keep_different_history_roots() {
    let (a, b) = (plaintext(1, 0, 5), plaintext(2, 0, 5));
    let (mut first, mut second) = (genesis(), genesis());
    extend(&mut first, 0, std::slice::from_ref(&a));
    extend(&mut second, 0, std::slice::from_ref(&b));
    let (first_end, second_end) = (extend(&mut first, 0, &[b]), extend(&mut second, 0, &[a]));
    assert_eq!(first_end.state_root, second_end.state_root);
    assert_ne!(first_end.history_root, second_end.history_root);
}

/// Blocks as (proposer, items); an item is (sender, bid or not, key, recipient).
type Plan = Vec<(u8, Vec<(u8, bool, u64, u8)>)>;

fn plans() -> impl Strategy<Value = Plan> {
    let item = (0u8..12, any::<bool>(), prop_oneof![0u64..5, Just(u64::MAX / 8)], 0u8..6);
    proptest::collection::vec((0u8..4, proptest::collection::vec(item, 0..6)), 1..7)
}

/// The transactions of a plan, with the nonces a chain at genesis expects.
fn blocks(plan: Plan) -> Vec<(u8, Vec<CheckedTransaction>)> {
    let mut nonces = BTreeMap::new();
    let mut item = |(sender, auction, key, recipient): (u8, bool, u64, u8)| {
        let nonce = nonces.entry((sender, auction)).or_insert(0);
        let tx = if auction { bid(sender, *nonce, key, recipient) } else { plaintext(sender, *nonce, key) };
        *nonce += 1;
        tx
    };
    plan.into_iter().map(|(proposer, items)| (proposer, items.into_iter().map(&mut item).collect())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn j4_incremental_roots_equal_a_full_rebuild_from_the_rows_written(plan in plans()) {
        let mut chain = genesis();
        let mut store = Store::default();
        for (proposer, items) in blocks(plan) {
            let applied = extend(&mut chain, proposer, &items);
            store.write(&chain, &applied);
            let rebuilt = State::from_rows(store.rows()).unwrap();
            prop_assert_eq!(rebuilt.root(&cluster(), chain.tip().height), applied.state_root);
            prop_assert_eq!(&rebuilt, chain.state());
            prop_assert_eq!(chain.state().check(), Ok(()));
            let opened = store.open(*chain.tip()).unwrap();
            prop_assert_eq!(opened.state().check(), Ok(()));
            prop_assert_eq!(&opened, &chain);
        }
    }

    #[test]
    fn j3_the_root_does_not_depend_on_the_order_of_the_rows(
        (plan, seed) in (plans(), any::<u64>()),
    ) {
        let mut chain = genesis();
        for (proposer, items) in blocks(plan) {
            extend(&mut chain, proposer, &items);
        }
        let mut rows: Vec<StoredRow> = chain.state().rows().collect();
        rows.sort_by_key(|(key, _)| key.iter().fold(seed, |mix, byte| (mix ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)));
        let shuffled = State::from_rows(rows).unwrap();
        prop_assert_eq!(shuffled.root(&cluster(), chain.tip().height), chain.tip().state_root);
    }

    #[test]
    fn j4_any_byte_changed_in_a_store_is_found(
        plan in plans(),
        entry in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut chain = genesis();
        for (proposer, items) in blocks(plan) {
            extend(&mut chain, proposer, &items);
        }
        let mut entries = State::from_rows(chain.state().rows()).unwrap().stored_changes();
        let Change { key, after, .. } = entry.get_mut(&mut entries);
        let value = after.as_mut().unwrap();
        match byte.index(key.len() + value.len()) {
            at if at < key.len() => key[at] ^= flip,
            at => value[at - key.len()] ^= flip,
        }
        let mut store = Store::default();
        store.0.write(chain.tip().height, &entries);
        let found = store.open(*chain.tip()).and_then(|opened| opened.state().check());
        prop_assert!(found.is_err());
    }
}

#[test]
fn a_tip_of_another_cluster_or_height_is_refused() {
    let mut chain = genesis();
    let applied = extend(&mut chain, 0, &[plaintext(1, 0, 5)]);
    let mut store = Store::default();
    store.write(&chain, &applied);
    let other = aequa_types::ClusterId::repeat_byte(9);
    assert!(matches!(
        Chain::open(other, four(), Arc::new(store.0.clone()), *chain.tip()),
        Err(ChainError::RootMismatch { .. })
    ));
    let later = Tip { height: Height(2), ..*chain.tip() };
    assert!(store.open(later).is_err());
    assert_eq!(store.open(*chain.tip()), Ok(chain));
}

#[test]
fn a_block_that_meets_a_damaged_row_says_so_and_changes_nothing() {
    let mut chain = genesis();
    let mut store = Store::default();
    for nonce in 0..3 {
        let applied = extend(&mut chain, 0, &[plaintext(1, nonce, 5), plaintext(2, nonce, 5)]);
        store.write(&chain, &applied);
    }
    let key = [vec![1], vec![1; 20], vec![1]].concat();
    let damage = |value: Option<u64>| Change {
        key: key.clone(),
        before: None,
        after: value.map(|value| value.to_be_bytes().to_vec()),
    };
    for damaged in [Some(2), Some(9), None] {
        let mut store = store.clone();
        store.0.write(chain.tip().height, &[damage(damaged)]);
        let mut opened = store.open(*chain.tip()).unwrap();
        let good = next(&chain, 1, &[plaintext(1, 3, 5)]);
        assert!(matches!(opened.apply(&good), Err(ChainError::Damaged { .. })), "{damaged:?}");
        assert_eq!(opened, chain);
        opened.apply(&next(&chain, 1, &[plaintext(2, 3, 5)])).unwrap();
    }
}
