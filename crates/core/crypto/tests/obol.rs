//! Which locks of Obol clusters hold, and with which item the others are refused.
#![allow(clippy::unwrap_used)]

use aequa_crypto::encryption::DecryptionKey;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::lock::signing::{combine_validators, complete, sign_lock, sign_validators};
use aequa_crypto::lock::{LockError, check_definition};
use aequa_crypto::obol::binding::{bind, check_all};
use aequa_crypto::obol::enr::NodeSecret;
use aequa_crypto::obol::{VerifiedObolLock, verify};
use aequa_testkit::obol::{OPERATORS, ObolCluster, VALIDATORS};
use aequa_types::definition::{DEFINITION_VERSION, Definition, ImportedValidators};
use aequa_types::lock::{Key32, Operator, Stake};
use aequa_types::obol::binding::Binding;
use aequa_types::obol::{ObolLock, ObolVersion};
use aequa_types::validator::Validator;
use aequa_types::{Address, ConsensusParams, OperatorIndex};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

fn load(text: &str) -> Result<VerifiedObolLock, LockError> {
    verify(ObolLock::from_json(text)?, &BTreeSet::new())
}

fn refusal(lock: &Value) -> String {
    load(&lock.to_string()).unwrap_err().to_string()
}

#[test]
fn locks_of_every_version_hold_and_keep_their_validators() {
    let mut checked = 0;
    for version in ObolVersion::ALL {
        let cluster = ObolCluster::of(version);
        let lock = load(&cluster.lock()).unwrap();
        assert_eq!((lock.version(), lock.quorum().operators()), (version, 4));
        assert_eq!(lock.validators().len(), VALIDATORS);
        assert!(lock.unchecked().is_empty());
        for ((imported, dealing), keys) in lock.validators().iter().zip(&cluster.validators).zip(lock.keys())
        {
            assert_eq!(imported.pubkey.0, dealing.group_key.to_bytes());
            assert_eq!(keys.public_shares, dealing.public_shares);
            assert!(!imported.may_sign);
            assert_eq!(imported.deposits.len(), if version >= ObolVersion::V8 { 2 } else { 1 });
            assert_eq!(imported.builder_registration.is_some(), version >= ObolVersion::V7);
            let kind = if version >= ObolVersion::V10 { 2 } else { 1 };
            assert_eq!(imported.withdrawal_credentials.bytes()[0], kind);
            checked += 1;
        }
    }
    assert_eq!(checked, 6 * VALIDATORS);
}

#[test]
fn a_lock_that_was_made_on_one_machine_has_no_wallets_and_may_have_no_deposits() {
    for version in [ObolVersion::V7, ObolVersion::V10] {
        let cluster = ObolCluster { is_signed: false, ..ObolCluster::of(version) };
        assert!(load(&cluster.lock()).is_ok());
        let empty = json!({ "pubkey": "", "withdrawal_credentials": "", "amount": "0", "signature": "" });
        let bare = cluster.lock_with(|lock| {
            let validator = &mut lock["distributed_validators"][0];
            if version == ObolVersion::V7 {
                validator["deposit_data"] = empty;
            } else {
                validator["partial_deposit_data"] = json!([]);
            }
        });
        assert!(load(&bare.to_string()).unwrap().validators()[0].deposits.is_empty());
    }
}

/// What was changed, where and how, after everything was hashed and signed.
#[test]
fn a_change_to_a_finished_lock_is_refused_with_its_item() {
    let cluster = ObolCluster::of(ObolVersion::V11);
    let lock: Value = serde_json::from_str(&cluster.lock()).unwrap();
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 12] = [
        ("config_hash", |lock| lock["cluster_definition"]["name"] = "five".into()),
        ("config_hash", |lock| lock["cluster_definition"]["compounding"] = false.into()),
        ("config_hash", |lock| lock["cluster_definition"]["operators"][1]["address"] = json!(Address::ZERO)),
        ("definition_hash", |lock| {
            let operators = &mut lock["cluster_definition"]["operators"];
            operators[1]["enr"] = operators[0]["enr"].clone();
        }),
        ("definition_hash", |lock| {
            let operators = &mut lock["cluster_definition"]["operators"];
            operators[1]["enr_signature"] = operators[0]["enr_signature"].clone();
        }),
        ("lock_hash", |lock| {
            lock["distributed_validators"][1]["builder_registration"]["message"]["timestamp"] = 1.into()
        }),
        ("lock_hash", |lock| {
            lock["distributed_validators"][0]["partial_deposit_data"][0]["amount"] = "2000000000".into();
        }),
        ("lock_hash", |lock| lock["distributed_validators"].as_array_mut().unwrap().swap(0, 1)),
        ("lock_hash", |lock| lock["lock_hash"] = lock["cluster_definition"]["config_hash"].clone()),
        ("signature_aggregate", |lock| {
            lock["signature_aggregate"] =
                lock["distributed_validators"][0]["builder_registration"]["signature"].clone();
        }),
        ("node_signatures[2]", |lock| lock["node_signatures"][2] = lock["node_signatures"][1].clone()),
        ("node_signatures", |lock| drop(lock["node_signatures"].as_array_mut().unwrap().pop())),
    ];
    for (item, change) in cases {
        let mut changed = lock.clone();
        change(&mut changed);
        let error = refusal(&changed);
        assert!(error.starts_with(&format!("{item}:")), "{item}: {error}");
    }
}

/// What was wrong from the beginning, in a lock that all have hashed and signed.
#[test]
fn a_lock_that_never_held_is_refused_with_its_item() {
    let cluster = ObolCluster::of(ObolVersion::V10);
    let other = ObolCluster::of(ObolVersion::V10).lock_with(|_| {});
    let foreign = other["distributed_validators"][0].clone();
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change); 14] = [
        ("threshold", &|lock| lock["cluster_definition"]["threshold"] = 4.into()),
        ("validators", &|lock| lock["cluster_definition"]["num_validators"] = 3.into()),
        ("distributed_validators", &|lock| {
            drop(lock["distributed_validators"].as_array_mut().unwrap().pop())
        }),
        ("operators[3].enr", &|lock| {
            let operators = &mut lock["cluster_definition"]["operators"];
            operators[3]["enr"] = operators[2]["enr"].clone();
        }),
        ("operators[0].enr", &|lock| {
            let enr = lock["cluster_definition"]["operators"][0]["enr"].as_str().unwrap().to_owned();
            lock["cluster_definition"]["operators"][0]["enr"] = enr.replacen("enr:-", "enr:_", 1).into();
        }),
        ("fork_version", &|lock| lock["cluster_definition"]["fork_version"] = "0x10000038".into()),
        ("distributed_validators[1].public_shares", &|lock| {
            lock["distributed_validators"][1]["public_shares"][2] = foreign["public_shares"][2].clone();
        }),
        ("distributed_validators[0].public_shares", &|lock| {
            lock["distributed_validators"][0]["public_shares"].as_array_mut().unwrap().swap(0, 1);
        }),
        ("distributed_validators[1]", &|lock| {
            lock["distributed_validators"][1] = lock["distributed_validators"][0].clone();
        }),
        ("distributed_validators[0].deposit.withdrawal_credentials", &|lock| {
            lock["cluster_definition"]["validators"][0]["withdrawal_address"] =
                json!(Address::repeat_byte(9));
        }),
        ("distributed_validators[1].deposit.withdrawal_credentials", &|lock| {
            let kind =
                &mut lock["distributed_validators"][1]["partial_deposit_data"][1]["withdrawal_credentials"];
            *kind = kind.as_str().unwrap().replacen("0x02", "0x01", 1).into();
        }),
        ("distributed_validators[1].partial_deposit_data[1].signature", &|lock| {
            lock["distributed_validators"][1]["partial_deposit_data"][1]["amount"] = "30000000000".into();
        }),
        ("distributed_validators[0].builder_registration.signature", &|lock| {
            lock["distributed_validators"][0]["builder_registration"]["message"]["gas_limit"] = 1.into();
        }),
        ("distributed_validators[0].builder_registration.message.fee_recipient", &|lock| {
            lock["cluster_definition"]["validators"][0]["fee_recipient_address"] =
                json!(Address::repeat_byte(9));
        }),
    ];
    for (item, change) in cases {
        let error = refusal(&cluster.lock_with(change));
        assert!(error.starts_with(&format!("{item}:")), "{item}: {error}");
    }
    // A lock whose shares are all another cluster's: only who holds them can have signed it.
    let stranger = ObolCluster::of(ObolVersion::V10);
    let stolen = cluster.lock_with(|lock| {
        let theirs = stranger.lock_with(|_| {});
        lock["distributed_validators"] = theirs["distributed_validators"].clone();
    });
    assert!(refusal(&stolen).starts_with("signature_aggregate:"));
}

#[test]
fn wallets_have_all_signed_or_none_and_contracts_are_named() {
    let cluster = ObolCluster::of(ObolVersion::V11);
    let contract = |lock: &mut Value| {
        lock["cluster_definition"]["operators"][1]["address"] = json!(Address::repeat_byte(7))
    };
    let lock = cluster.lock_with(contract);
    let error = refusal(&lock);
    assert!(error.starts_with("operators[1].config_signature:") && error.contains("0x07"), "{error}");
    let known = BTreeSet::from([Address::repeat_byte(7)]);
    let verified = verify(ObolLock::from_json(&lock.to_string()).unwrap(), &known).unwrap();
    assert_eq!(verified.unchecked().len(), 2, "{:?}", verified.unchecked());
    assert!(verified.unchecked()[1].starts_with("operators[1].enr_signature"));
    let stranger = BTreeSet::from([cluster.wallet(1)]);
    assert!(verify(ObolLock::from_json(&lock.to_string()).unwrap(), &stranger).is_err());

    let silent = ObolCluster { silent: vec![2], ..ObolCluster::of(ObolVersion::V11) };
    assert!(refusal(&silent.lock_with(|_| {})).starts_with("operators[2].config_signature: is missing"));
    let alone = ObolCluster { silent: (0..4).collect(), ..ObolCluster::of(ObolVersion::V11) };
    assert!(load(&alone.lock()).is_ok(), "only its creator has signed");
}

fn node(cluster: &ObolCluster, operator: usize) -> NodeSecret {
    NodeSecret::from_bytes(&cluster.nodes[operator].secret_bytes()).unwrap()
}

fn keys(operator: usize) -> (IdentityKey, Key32) {
    let seed = [operator as u8 + 50; 32];
    (IdentityKey::from_seed(&seed), Key32::from(DecryptionKey::from_bytes(&seed).public().to_bytes()))
}

fn bindings(cluster: &ObolCluster, lock: &VerifiedObolLock) -> Vec<Binding> {
    let make = |operator: usize| {
        let (identity, enc_key) = keys(operator);
        bind(lock, &node(cluster, operator), &identity, enc_key).unwrap()
    };
    (0..OPERATORS.into()).map(make).collect()
}

#[test]
fn bindings_of_all_operators_in_any_order_hold() {
    let cluster = ObolCluster::of(ObolVersion::V9);
    let lock = load(&cluster.lock()).unwrap();
    let made = bindings(&cluster, &lock);
    let mut given = made.clone();
    given.reverse();
    given.push(made[1].clone());
    assert_eq!(check_all(&lock, given).unwrap(), made);
    let stranger = NodeSecret::from_bytes(&[77; 32]).unwrap();
    assert!(bind(&lock, &stranger, &keys(0).0, keys(0).1).is_err());
}

#[test]
fn a_binding_that_is_missing_foreign_or_of_anothers_keys_is_refused() {
    let cluster = ObolCluster::of(ObolVersion::V9);
    let lock = load(&cluster.lock()).unwrap();
    let made = bindings(&cluster, &lock);
    let elsewhere =
        load(&cluster.lock_with(|lock| lock["cluster_definition"]["name"] = "x".into()).to_string()).unwrap();
    let (identity, enc_key) = keys(9);
    type Change<'a> = &'a dyn Fn(&mut Vec<Binding>);
    let cases: [(&str, Change); 9] = [
        ("binding of operator 2: is missing", &|all| drop(all.remove(2))),
        ("binding of operator 1: lock_hash", &|all| {
            all[1] = bind(&elsewhere, &node(&cluster, 1), &keys(1).0, keys(1).1).unwrap();
        }),
        ("binding of operator 1: there are two", &|all| {
            all.push(bind(&lock, &node(&cluster, 1), &identity, enc_key).unwrap());
        }),
        ("binding of operator 3: a key of it appears twice", &|all| {
            all[3] = bind(&lock, &node(&cluster, 3), &keys(2).0, enc_key).unwrap();
        }),
        ("binding of operator 0: identity_signature", &|all| {
            all[0].identity_signature = all[1].identity_signature
        }),
        ("binding of operator 0: enr_signature", &|all| all[0].enr_signature = all[1].enr_signature),
        ("binding of operator 0: enr_signature", &|all| all[0].enc_key = enc_key),
        ("binding of operator 1: enr_signature", &|all| all[0].operator = OperatorIndex(1)),
        ("binding of operator 9: operator", &|all| all[0].operator = OperatorIndex(9)),
    ];
    for (says, change) in cases {
        let mut changed = made.clone();
        change(&mut changed);
        let error = check_all(&lock, changed).unwrap_err().to_string();
        assert!(error.starts_with(says), "{says}: {error}");
    }
}

/// A definition of four new operators that takes over these validators.
fn definition(lock: &VerifiedObolLock) -> Definition {
    let operator = |index: u8| {
        let (identity, enc_key) = keys(index.into());
        Operator {
            index: OperatorIndex(index),
            name: format!("n{index}"),
            address: None,
            peer_id: identity.public().peer_id(),
            identity_key: Key32::from(identity.public().to_bytes()),
            vrf_key: None,
            enc_key: Some(enc_key),
            stake: Stake::default(),
            multiaddrs: Vec::new(),
        }
    };
    let validators =
        lock.validators().iter().map(|one| Validator { deposits: Vec::new(), ..one.validator() });
    let mut definition = Definition {
        version: DEFINITION_VERSION.into(),
        name: "four".into(),
        created_at: 1,
        chain_id: 0,
        fork_version: lock.lock().definition.fork_version,
        threshold: 3,
        operators: (0..OPERATORS).map(operator).collect(),
        consensus: ConsensusParams::default().into(),
        validators: Vec::new(),
        imported: Some(ImportedValidators {
            obol_lock_hash: lock.lock().lock_hash,
            validators: validators.collect(),
        }),
        builders: None,
        resharing: None,
        definition_hash: Default::default(),
    };
    definition.seal(None);
    definition
}

#[test]
fn a_definition_agrees_on_imported_validators_with_their_keys_and_a_quorum_signs_its_lock() {
    let cluster = ObolCluster::of(ObolVersion::V10);
    let obol = load(&cluster.lock()).unwrap();
    let definition = definition(&obol);
    assert_eq!(Definition::from_json(&definition.to_json()).as_ref(), Ok(&definition));
    check_definition(&definition.lock()).unwrap();
    let changes: [fn(&mut ImportedValidators); 4] = [
        |imported| imported.obol_lock_hash.0[0] ^= 1,
        |imported| imported.validators.swap(0, 1),
        |imported| imported.validators[0].public_shares.swap(0, 1),
        |imported| imported.validators[0].builder_registration.timestamp += 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = definition.clone();
        change(changed.imported.as_mut().unwrap());
        assert_ne!(changed.hash(), definition.hash(), "change {number}");
        assert!(number < 2 || check_definition(&changed.lock()).is_err(), "change {number}");
    }

    let chain = aequa_crypto::seal::deal(3, OPERATORS.into()).unwrap();
    let mut lock = definition.lock();
    lock.sequencer.group_key = chain.group_key.to_bytes().into();
    lock.sequencer.public_shares = chain.public_shares.iter().map(|share| share.to_bytes().into()).collect();
    assert!(sign_validators(&lock, &[]).signatures.is_empty(), "they have signed before");
    let quorum = obol.quorum();
    combine_validators(&mut lock, quorum, &BTreeMap::new()).unwrap();
    let said = [0, 2, 3].map(|operator: usize| {
        (OperatorIndex(operator as u8), sign_lock(&lock, &keys(operator).0, &chain.secret_shares[operator]))
    });
    let verified = complete(&mut lock, quorum, &BTreeMap::from(said)).unwrap();
    assert_eq!(verified.lock().imported_from, Some(obol.lock().lock_hash));
    assert_eq!(aequa_crypto::lock::load(&lock.to_json()).unwrap().validators().len(), VALIDATORS);
}
