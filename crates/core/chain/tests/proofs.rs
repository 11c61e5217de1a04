//! Proofs of rows: the golden ones, those of any state, and that nothing in one can be changed.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_chain::{Account, ProofError, RowProof, State, StateProof, StoredRow};
use aequa_types::json::StateProofJson;
use aequa_types::{Address, Height, TxKind};
use alloy_primitives::B256;
use common::{address, cluster};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;

const AT: Height = Height(7);

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn stored_row(row: &Value) -> StoredRow {
    (bytes(&row[0]), bytes(&row[1]))
}

fn proven(state: &State, of: &Address) -> StateProof {
    state.prove_all(Account::keys(of)).unwrap()
}

/// What a proof shows of an address to whoever has the root; an error says why it shows nothing.
fn shown(proof: &StateProof, of: &Address, root: B256) -> Result<Account, String> {
    match proof.root(&cluster(), AT) {
        Ok(found) if found == root => Account::proven(of, proof).map_err(|error| error.to_string()),
        Ok(_) => Err("another root".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn j1_proofs_are_the_golden_ones() {
    let golden: Value = serde_json::from_str(include_str!("data/state_vectors.json")).unwrap();
    let last = golden["vectors"].as_array().unwrap().last().unwrap();
    let rows: Vec<StoredRow> = last["rows"].as_array().unwrap().iter().map(stored_row).collect();
    let state = State::from_rows(rows.clone()).unwrap();
    let height = Height(last["height"].as_u64().unwrap());
    let proofs = golden["proofs"].as_array().unwrap();
    let whats: Vec<&str> = proofs.iter().map(|proof| proof["what"].as_str().unwrap()).collect();
    assert_eq!(whats, ["a row", "nothing", "another row"]);
    for golden in proofs {
        let (what, key) = (golden["what"].as_str().unwrap(), bytes(&golden["key"]));
        let beside = golden["beside"].as_array().unwrap().iter().map(|hash| B256::from_slice(&bytes(hash)));
        let end = golden["end"].as_array().unwrap().first().map(stored_row);
        let expected = RowProof { beside: beside.collect(), end };
        let proof = state.prove_all([key.clone()]).unwrap();
        assert_eq!(proof.rows[&key], expected, "{what}");
        assert_eq!(proof.root(&cluster(), height).unwrap().as_slice(), bytes(&last["state_root"]), "{what}");
        let value = rows.iter().find(|(there, _)| *there == key).map(|(_, value)| value.as_slice());
        assert_eq!(proof.value(&key), Ok(value), "{what}");
        assert_eq!(value.is_some(), what == "a row");
    }
}

/// Rows of twelve addresses, none to all.
fn states() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let nonce = (0u8..12, 0..TxKind::ALL.len(), 1u64..).prop_map(|(sender, kind, next)| {
        let key = Account::keys(&address(sender))[kind].clone();
        (key, next.to_be_bytes().to_vec())
    });
    let credit = (0u8..12, 1u128..).prop_map(|(recipient, amount)| {
        (Account::keys(&address(recipient)).pop().unwrap(), amount.to_be_bytes().to_vec())
    });
    proptest::collection::vec(prop_oneof![nonce, credit], 0..30).prop_map(|rows| rows.into_iter().collect())
}

proptest! {
    #[test]
    fn every_account_of_any_state_is_proven_as_it_is(rows in states()) {
        let state = State::from_rows(rows).unwrap();
        let root = state.root(&cluster(), AT);
        for byte in 0..14 {
            let of = address(byte);
            let proof = proven(&state, &of);
            let expected = Account {
                nonces: TxKind::ALL.iter().map(|kind| (*kind, state.nonce(&of, *kind))).collect(),
                credit: state.credit(&of),
            };
            prop_assert_eq!(shown(&proof, &of, root), Ok(expected));
            let json = serde_json::to_vec(&StateProofJson::from(&proof)).unwrap();
            let read: StateProofJson = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(StateProof::try_from(read), Ok(proof));
        }
    }

    #[test]
    fn a_proof_of_one_state_says_nothing_of_another(one in states(), other in states()) {
        prop_assume!(one != other);
        let (one, other) = (State::from_rows(one).unwrap(), State::from_rows(other).unwrap());
        let root = other.root(&cluster(), AT);
        for byte in 0..12 {
            prop_assert!(shown(&proven(&one, &address(byte)), &address(byte), root).is_err());
        }
    }

    #[test]
    fn nothing_in_a_proof_can_be_changed(rows in states(), byte in 0u8..14, flip in 1u8..) {
        let state = State::from_rows(rows).unwrap();
        let (of, root) = (address(byte), state.root(&cluster(), AT));
        let proof = proven(&state, &of);
        prop_assert!(shown(&proof, &of, root).is_ok());
        for (what, changed) in changes(&proof, flip) {
            prop_assert!(changed != proof, "{}", what);
            prop_assert!(shown(&changed, &of, root).is_err(), "{}", what);
        }
        prop_assert!(proof.root(&cluster(), AT.next()) != Ok(root));
        prop_assert!(proof.root(&B256::repeat_byte(9), AT) != Ok(root));
    }
}

/// A proof with one thing changed, every thing once.
fn changes(proof: &StateProof, flip: u8) -> Vec<(String, StateProof)> {
    let mut all = Vec::new();
    let mut with = |what: String, change: &mut dyn FnMut(&mut StateProof)| {
        let mut changed = proof.clone();
        change(&mut changed);
        all.push((what, changed));
    };
    with("schema".into(), &mut |proof| proof.schema ^= u32::from(flip));
    with("one table less".into(), &mut |proof| _ = proof.counts.pop());
    with("one table more".into(), &mut |proof| proof.counts.push((6, 0)));
    for at in 0..proof.counts.len() {
        with(format!("table {at}"), &mut |proof| proof.counts[at].0 ^= flip);
        with(format!("count {at}"), &mut |proof| proof.counts[at].1 ^= u64::from(flip));
    }
    for (key, row) in &proof.rows {
        let name = hex::encode(key);
        let change = |change: &dyn Fn(&mut RowProof)| {
            let mut rows = proof.rows.clone();
            change(rows.get_mut(key).unwrap());
            rows
        };
        with(format!("{name}: left out"), &mut |proof| drop(proof.rows.remove(key)));
        for at in 0..key.len() {
            with(format!("{name}: byte {at} of the key"), &mut |proof| {
                let row = proof.rows.remove(key).unwrap();
                let mut key = key.clone();
                key[at] ^= flip;
                proof.rows.insert(key, row);
            });
        }
        for at in 0..row.beside.len() {
            for byte in 0..32 {
                let rows = change(&|row| row.beside[at].0[byte] ^= flip);
                with(format!("{name}: hash {at} byte {byte}"), &mut |proof| proof.rows = rows.clone());
            }
            let rows = change(&|row| _ = row.beside.remove(at));
            with(format!("{name}: hash {at} left out"), &mut |proof| proof.rows = rows.clone());
        }
        let rows = change(&|row| row.beside.push(B256::repeat_byte(flip)));
        with(format!("{name}: one hash more"), &mut |proof| proof.rows = rows.clone());
        let Some((there, value)) = &row.end else {
            let rows = change(&|row| row.end = Some((key.clone(), 5u64.to_be_bytes().to_vec())));
            with(format!("{name}: a row at the end"), &mut |proof| proof.rows = rows.clone());
            continue;
        };
        let rows = change(&|row| row.end = None);
        with(format!("{name}: nothing at the end"), &mut |proof| proof.rows = rows.clone());
        for at in 0..there.len() {
            let rows = change(&|row| row.end.as_mut().unwrap().0[at] ^= flip);
            with(format!("{name}: byte {at} of the key at the end"), &mut |proof| proof.rows = rows.clone());
        }
        for at in 0..value.len() {
            let rows = change(&|row| row.end.as_mut().unwrap().1[at] ^= flip);
            with(format!("{name}: byte {at} of the value"), &mut |proof| proof.rows = rows.clone());
        }
    }
    all
}

#[test]
fn a_proof_of_no_rows_of_a_way_too_long_or_of_two_trees_has_no_root() {
    let state = |next: u64| {
        let key = Account::keys(&address(1)).remove(0);
        State::from_rows([(key, next.to_be_bytes().to_vec())]).unwrap()
    };
    let root = |proof: &StateProof| proof.root(&cluster(), AT);
    let good = proven(&state(1), &address(1));
    assert!(root(&good).is_ok());
    let empty = StateProof { rows: BTreeMap::new(), ..good.clone() };
    assert_eq!(root(&empty), Err(ProofError::Empty));
    let mut endless = good.clone();
    endless.rows.values_mut().for_each(|row| row.beside = vec![B256::ZERO; 257]);
    assert!(matches!(root(&endless), Err(ProofError::Way { .. })));
    let mut mixed = good.clone();
    let (key, other) = proven(&state(2), &address(1)).rows.pop_first().unwrap();
    mixed.rows.insert(key, other);
    assert!(matches!(root(&mixed), Err(ProofError::Trees { .. })));
    let many = StateProof { counts: vec![(1, 0); 256], ..good.clone() };
    assert_eq!(root(&many), Err(ProofError::Counts(256)));
    assert!(matches!(Account::proven(&address(2), &good), Err(ProofError::Missing { .. })));
}

#[test]
fn a_key_that_occurs_twice_is_no_proof() {
    let mut json = StateProofJson::from(&proven(&State::default(), &address(1)));
    json.rows.push(json.rows[0].clone());
    assert!(StateProof::try_from(json).is_err());
}
