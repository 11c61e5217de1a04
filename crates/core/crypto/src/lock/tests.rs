use super::*;
use crate::bls::{MinPk, SecretKey};
use crate::dealer::{DealRequest, DealtCluster, NewValidator, deal_cluster};
use crate::seal::deal;
use crate::threshold::combine;
use aequa_types::Address;
use aequa_types::lock::{Key32, SealKey};
use aequa_types::validator::{GAS_LIMIT_DEFAULT, ValidatorPolicy, WithdrawalCredentials};
use aequa_types::{ConsensusParams, Height, Seal};
use alloy_primitives::FixedBytes;

fn request(nodes: usize) -> DealRequest {
    DealRequest {
        name: "devnet".into(),
        nodes,
        chain_id: Some(1337),
        fork_version: [0; 4],
        params: ConsensusParams::default(),
        validators: Vec::new(),
        builders: None,
        multiaddrs: (0..nodes).map(|node| vec![format!("/ip4/127.0.0.1/tcp/{}", 31_000 + node)]).collect(),
        created_at: 1_700_000_000,
    }
}

fn dealt(nodes: usize) -> DealtCluster {
    deal_cluster(request(nodes)).unwrap()
}

/// Changes a lock the way a careful forger would: all hashes are made right again, and all operators
/// are made to sign; only what the change itself breaks is left.
fn resealed(cluster: &DealtCluster, change: impl FnOnce(&mut ClusterLock)) -> ClusterLock {
    let mut lock = cluster.lock.clone();
    change(&mut lock);
    lock.definition_hash = lock.compute_definition_hash();
    if lock.epoch == 0 {
        lock.cluster_id = lock.definition_hash;
    }
    lock.lock_hash = lock.compute_lock_hash();
    let message = lock.lock_hash.as_slice();
    let shares: Vec<PublicShare> = cluster.operators.iter().map(|secrets| secrets.share.public()).collect();
    let signatures: Vec<Seal> = cluster.operators.iter().map(|secrets| secrets.share.sign(message)).collect();
    lock.signature_aggregate = Aggregate::new(message, &shares).sum(&signatures).unwrap();
    lock.node_signatures = cluster.operators.iter().map(|secrets| secrets.identity.sign(message)).collect();
    lock
}

fn failing_item(lock: &ClusterLock) -> String {
    match verify(lock) {
        Err(LockError::Item { item, .. }) => item,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dealt_lock_verifies_in_every_size() {
    for nodes in [1, 2, 3, 4, 5, 7, 10, 13] {
        let cluster = dealt(nodes);
        let verified = load(&cluster.lock.to_json()).unwrap();
        assert_eq!(verified.lock(), &cluster.lock);
        assert_eq!(verified.quorum().operators(), nodes);
        assert_eq!(verified.cluster_id(), cluster.lock.definition_hash);
        for secrets in &cluster.operators {
            assert_eq!(verified.operator_of(&secrets.identity.public()), Some(secrets.index));
            assert_eq!(verified.check_own_share(secrets.index, &secrets.share), Ok(()));
        }
    }
}

#[test]
fn a_cluster_gets_a_chain_id_of_its_own_unless_told() {
    let own = || deal_cluster(DealRequest { chain_id: None, ..request(4) }).unwrap();
    let (one, other) = (own(), own());
    assert_ne!(one.lock.chain_id, other.lock.chain_id, "equal requests, other keys");
    for cluster in [&one, &other] {
        assert!((1 << 50..1 << 51).contains(&cluster.lock.chain_id), "{}", cluster.lock.chain_id);
        assert_eq!(load(&cluster.lock.to_json()).unwrap().lock(), &cluster.lock);
    }
    assert_eq!(dealt(4).lock.chain_id, 1337);
}

#[test]
fn sizes_without_full_fault_tolerance_carry_a_warning() {
    let warned = |nodes: usize| warnings(Quorum::of(nodes).unwrap());
    for nodes in [4, 7, 10, 13] {
        assert_eq!(warned(nodes), [""; 0]);
    }
    for nodes in [1, 2, 3] {
        assert!(warned(nodes)[0].contains("development"));
    }
    for nodes in [5, 6, 8] {
        assert!(warned(nodes)[0].contains("extra operators add no fault tolerance"));
    }
}

#[test]
fn a_cluster_no_lock_can_hold_is_not_dealt() {
    assert!(deal_cluster(request(0)).is_err());
    assert!(deal_cluster(request(101)).is_err());
    assert!(deal_cluster(DealRequest { name: "x".repeat(257), ..request(4) }).is_err());
    let mut endless = request(4);
    endless.params.round_timeout_ms = 0;
    let error = deal_cluster(endless).unwrap_err();
    assert!(error.to_string().starts_with("consensus.round_timeout_ms"), "{error}");
}

#[test]
fn a_stranger_is_no_operator_and_another_share_is_not_ours() {
    let (cluster, other) = (dealt(4), dealt(4));
    let verified = verify(&cluster.lock).unwrap();
    assert_eq!(verified.operator_of(&other.operators[0].identity.public()), None);
    for share in [&other.operators[0].share, &cluster.operators[1].share] {
        assert!(matches!(verified.check_own_share(OperatorIndex(0), share), Err(LockError::NotOurs(_))));
    }
    let outside = &cluster.operators[0].share;
    assert!(verified.check_own_share(OperatorIndex(4), outside).is_err());
}

#[test]
fn a_flipped_byte_anywhere_is_refused() {
    // One operator and the smallest document: every byte, three kinds of damage each.
    let text = dealt(1).lock.to_json().into_bytes();
    assert!(load(std::str::from_utf8(&text).unwrap()).is_ok());
    for position in 0..text.len() {
        for mask in [0x01, 0x20, 0x80] {
            let mut damaged = text.clone();
            damaged[position] ^= mask;
            let Ok(damaged) = String::from_utf8(damaged) else { continue };
            assert!(load(&damaged).is_err(), "byte {position}, mask {mask:#x}");
        }
    }
}

#[test]
fn every_changed_digit_of_a_lock_of_four_is_refused() {
    let text = dealt(4).lock.to_json();
    for (position, digit) in text.char_indices().filter(|(_, c)| c.is_ascii_hexdigit()).step_by(7) {
        let other = if digit == '7' { '8' } else { '7' };
        let mut damaged = text.clone();
        damaged.replace_range(position..=position, other.encode_utf8(&mut [0; 4]));
        assert!(load(&damaged).is_err(), "position {position}");
    }
}

#[test]
fn a_change_without_new_hashes_is_named_by_its_hash() {
    let cluster = dealt(4);
    let mut lock = cluster.lock.clone();
    lock.chain_id = 1;
    assert_eq!(failing_item(&lock), "definition_hash");
    let mut lock = cluster.lock.clone();
    lock.sequencer.public_shares.swap(0, 1);
    assert_eq!(failing_item(&lock), "lock_hash");
    let mut lock = cluster.lock.clone();
    lock.cluster_id = B256::repeat_byte(1);
    assert_eq!(failing_item(&lock), "cluster_id");
}

#[test]
fn each_failing_item_is_named() {
    let cluster = dealt(4);
    assert!(verify(&resealed(&cluster, |_| {})).is_ok());
    assert!(verify(&resealed(&cluster, |lock| lock.name = "renamed by all".into())).is_ok());

    let small_order = Key32::from({
        let mut bytes = [0; 32];
        bytes[0] = 1;
        bytes
    });
    let identity_point = SealKey::from({
        let mut bytes = [0; 96];
        bytes[0] = 0xc0;
        bytes
    });
    type Change = Box<dyn FnOnce(&mut ClusterLock)>;
    let cases: Vec<(&str, Change)> = vec![
        ("parent_lock_hash", Box::new(|lock| lock.parent_lock_hash = B256::repeat_byte(1))),
        ("parent_lock_hash", Box::new(|lock| lock.epoch = 1)),
        ("activation_height", Box::new(|lock| lock.activation_height = Some(Height(50)))),
        ("threshold", Box::new(|lock| lock.threshold = 2)),
        ("threshold", Box::new(|lock| lock.threshold = 4)),
        ("sequencer.public_shares", Box::new(|lock| lock.sequencer.public_shares.truncate(3))),
        ("consensus.builder_policy_hash", Box::new(|lock| lock.consensus.params.builder.min_fee = 9)),
        ("consensus.checkpoint_interval", Box::new(|lock| lock.consensus.params.checkpoint_interval = 0)),
        ("consensus.round_timeout_ms", Box::new(|lock| lock.consensus.params.round_timeout_ms = 0)),
        ("consensus.round_timeout_cap_ms", Box::new(|lock| lock.consensus.params.round_timeout_cap_ms = 1)),
        (
            "consensus.builder.max_n",
            Box::new(|lock| {
                lock.consensus.params.builder.max_n = 0;
                lock.consensus = lock.consensus.params.clone().into();
            }),
        ),
        (
            "consensus.builder.order",
            Box::new(|lock| {
                lock.consensus.params.builder.order.clear();
                lock.consensus = lock.consensus.params.clone().into();
            }),
        ),
        (
            "consensus.builder.max_bytes",
            Box::new(|lock| {
                lock.consensus.params.builder.max_bytes = 4 << 20;
                lock.consensus = lock.consensus.params.clone().into();
            }),
        ),
        ("operators[1].index", Box::new(|lock| lock.operators[1].index = OperatorIndex(2))),
        ("operators[2].identity_key", Box::new(move |lock| lock.operators[2].identity_key = small_order)),
        ("operators[0].peer_id", Box::new(|lock| lock.operators[0].peer_id.push('x'))),
        ("operators[3].vrf_key", Box::new(move |lock| lock.operators[3].vrf_key = Some(small_order))),
        (
            "operators[3].vrf_key",
            Box::new(|lock| lock.operators[3].vrf_key = Some(lock.operators[1].identity_key)),
        ),
        ("operators[3].enc_key", Box::new(|lock| lock.operators[3].enc_key = Some(Key32::ZERO))),
        (
            "operators[2].identity_key",
            Box::new(|lock| {
                lock.operators[2].identity_key = lock.operators[1].identity_key;
                lock.operators[2].peer_id = lock.operators[1].peer_id.clone();
            }),
        ),
        ("sequencer.group_key", Box::new(move |lock| lock.sequencer.group_key = identity_point)),
        (
            "sequencer.public_shares[1]",
            Box::new(move |lock| lock.sequencer.public_shares[1] = identity_point),
        ),
        (
            "sequencer.public_shares[3]",
            Box::new(|lock| lock.sequencer.public_shares[3] = lock.sequencer.public_shares[0]),
        ),
    ];
    for (expected, change) in cases {
        assert_eq!(failing_item(&resealed(&cluster, change)), expected);
    }
}

#[test]
fn a_lock_with_one_foreign_share_is_refused_by_name() {
    let cluster = dealt(4);
    let foreign = deal(3, 4).unwrap();
    let lock = resealed(&cluster, |lock| {
        lock.sequencer.public_shares[2] = foreign.public_shares[2].to_bytes().into();
    });
    let error = verify(&lock).unwrap_err().to_string();
    assert!(error.contains("sequencer") && error.contains("operator 2"), "{error}");
    let lock = resealed(&cluster, |lock| {
        lock.sequencer.group_key = foreign.group_key.to_bytes().into();
    });
    assert!(verify(&lock).unwrap_err().to_string().contains("the group key"));
}

#[test]
fn every_operator_must_have_signed() {
    let cluster = dealt(4);
    for position in 0..4 {
        let mut lock = cluster.lock.clone();
        lock.node_signatures[position] = lock.node_signatures[(position + 1) % 4];
        assert_eq!(failing_item(&lock), format!("node_signatures[{position}]"));
    }
    let mut lock = cluster.lock.clone();
    lock.node_signatures.pop();
    assert_eq!(failing_item(&lock), "node_signatures");

    // Three of four shares make a seal, but the aggregate wants all four.
    let shares: Vec<PublicShare> = cluster.operators.iter().map(|secrets| secrets.share.public()).collect();
    let message = cluster.lock.lock_hash;
    let mut signatures: Vec<Seal> =
        cluster.operators.iter().map(|secrets| secrets.share.sign(message.as_slice())).collect();
    signatures[3] = signatures[0];
    let mut lock = cluster.lock.clone();
    lock.signature_aggregate = Aggregate::new(message.as_slice(), &shares).sum(&signatures).unwrap();
    assert_eq!(failing_item(&lock), "signature_aggregate");
}

#[test]
fn a_reshared_lock_keeps_its_id() {
    let cluster = dealt(4);
    let next = resealed(&cluster, |lock| {
        lock.epoch = 1;
        lock.parent_lock_hash = cluster.lock.lock_hash;
        lock.activation_height = Some(Height(50));
    });
    assert_eq!(next.cluster_id, cluster.lock.cluster_id);
    assert_ne!(next.definition_hash, next.cluster_id);
    assert!(load(&next.to_json()).is_ok());
}

#[test]
fn no_output_of_a_dealing_shows_a_secret() {
    let cluster = dealt(4);
    let shown = format!("{cluster:?}{}", cluster.lock.to_json());
    for secrets in &cluster.operators {
        for secret in [secrets.identity.seed(), secrets.share.to_bytes()] {
            assert!(!shown.contains(&hex::encode(secret.as_slice())));
            let list = format!("{:?}", secret.as_slice());
            assert!(!shown.contains(list.trim_matches(['[', ']'])));
        }
    }
}

fn with_validators(keys: Vec<Option<SecretKey<MinPk>>>) -> DealtCluster {
    let policy = ValidatorPolicy {
        fee_recipient: Address::repeat_byte(1),
        withdrawal_credentials: WithdrawalCredentials::compounding(Address::repeat_byte(2)),
        target_gas_limit: GAS_LIMIT_DEFAULT,
        deposits_gwei: vec![1_000_000_000, 31_000_000_000],
    };
    let new = |key| NewValidator { policy: policy.clone(), key };
    deal_cluster(DealRequest { validators: keys.into_iter().map(new).collect(), ..request(4) }).unwrap()
}

#[test]
fn a_lock_with_validators_verifies_and_any_three_shares_sign_for_each() {
    let existing = SecretKey::<MinPk>::generate().unwrap();
    let public = existing.public().to_bytes();
    let cluster = with_validators(vec![None, Some(existing)]);
    let verified = load(&cluster.lock.to_json()).unwrap();
    assert_eq!(verified.lock(), &cluster.lock);
    assert_eq!(verified.validators().len(), 2);
    assert_eq!(verified.validators()[1].group_key.to_bytes(), public, "the key that was there is kept");
    for (number, validator) in verified.validators().iter().enumerate() {
        let share = |operator: usize| {
            let secret = &cluster.operators[operator].validator_shares[number];
            assert_eq!(secret.public(), validator.public_shares[operator]);
            (secret.operator(), secret.sign(b"duty"))
        };
        for left_out in 0..4 {
            let shares: Vec<_> = (0..4).filter(|operator| *operator != left_out).map(share).collect();
            let signature = combine::<MinPk>(3, &shares).unwrap();
            assert!(validator.group_key.verify(b"duty", &signature).is_ok());
        }
    }
}

#[test]
fn what_does_not_hold_of_a_validator_is_named() {
    let cluster = with_validators(vec![None, None]);
    let foreign = with_validators(vec![None]).lock.validators[0].clone();
    type Change<'a> = &'a dyn Fn(&mut ClusterLock);
    let cases: [(&str, Change); 9] = [
        ("validators[1]", &|lock| lock.validators[1].target_gas_limit = 0),
        ("validators[1]", &|lock| lock.validators[1] = lock.validators[0].clone()),
        ("validators[1].pubkey", &|lock| lock.validators[1].pubkey.0[5] ^= 1),
        ("validators[0].public_shares", &|lock| lock.validators[0].public_shares.truncate(3)),
        ("validators[0].public_shares", &|lock| {
            lock.validators[0].public_shares[2] = foreign.public_shares[2]
        }),
        ("validators[0].public_shares", &|lock| lock.validators[0].public_shares.swap(0, 1)),
        ("validators[1].deposits[1].signature", &|lock| lock.validators[1].deposits[1].amount_gwei += 1),
        ("validators[0].deposits[0].signature", &|lock| {
            lock.validators[0].withdrawal_credentials =
                WithdrawalCredentials::compounding(Address::repeat_byte(9));
        }),
        ("validators[1].builder_registration.signature", &|lock| lock.validators[1].fee_recipient[0] ^= 1),
    ];
    for (expected, change) in cases {
        assert_eq!(failing_item(&resealed(&cluster, change)), expected);
    }
    let other_network = resealed(&cluster, |lock| lock.fork_version = FixedBytes([0, 0, 0, 1]));
    assert_eq!(failing_item(&other_network), "validators[0].deposits[0].signature");
}

#[test]
fn the_policy_of_validators_is_in_the_definition_and_their_keys_are_not() {
    let cluster = with_validators(vec![None]);
    let (definition, lock_hash) = (cluster.lock.definition_hash, cluster.lock.lock_hash);
    let mut other = cluster.lock.clone();
    other.validators[0].pubkey.0[5] ^= 1;
    assert_eq!(other.compute_definition_hash(), definition);
    assert_ne!(other.compute_lock_hash(), lock_hash);
    other.validators[0].fee_recipient[0] ^= 1;
    assert_ne!(other.compute_definition_hash(), definition);
}

#[test]
fn a_quorum_that_holds_shares_signs_the_lock_the_dealer_would_have_signed() {
    use super::signing::{
        check_lock_share, check_validators, combine_validators, complete, sign_lock, sign_validators,
    };
    use std::collections::BTreeMap;
    let cluster = with_validators(vec![None, None]);
    let quorum = Quorum::of(4).unwrap();
    let mut lock = cluster.lock.clone();
    for validator in &mut lock.validators {
        validator.deposits.iter_mut().for_each(|deposit| deposit.signature = FixedBytes::ZERO);
        validator.builder_registration.signature = FixedBytes::ZERO;
    }
    lock.lock_hash = B256::ZERO;
    let away = OperatorIndex(1);
    let here = || cluster.operators.iter().filter(|secrets| secrets.index != away);
    let mut shares = BTreeMap::new();
    for secrets in here() {
        let own = sign_validators(&lock, &secrets.validator_shares);
        check_validators(&lock, secrets.index, &own).unwrap();
        assert!(check_validators(&lock, away, &own).is_err(), "in the name of another");
        let mut bad = own.clone();
        bad.signatures.swap(3, 4);
        let error = check_validators(&lock, secrets.index, &bad).unwrap_err().to_string();
        assert!(error.starts_with("validators[1]"), "{error}");
        bad.signatures.pop();
        assert!(check_validators(&lock, secrets.index, &bad).is_err(), "one is missing");
        shares.insert(secrets.index, own);
    }
    combine_validators(&mut lock, quorum, &shares).unwrap();
    assert_eq!(lock.lock_hash, cluster.lock.lock_hash, "there is one signature of each key");

    let said: BTreeMap<_, _> =
        here().map(|secrets| (secrets.index, sign_lock(&lock, &secrets.identity, &secrets.share))).collect();
    for (operator, share) in &said {
        check_lock_share(&lock, *operator, share).unwrap();
        assert!(check_lock_share(&lock, away, share).is_err());
    }
    let verified = complete(&mut lock, quorum, &said).unwrap();
    assert!(verified.signed().eq([0, 2, 3].map(OperatorIndex)));
    assert_eq!(load(&lock.to_json()).unwrap().lock(), &lock);

    let mut fewer = lock.clone();
    fewer.node_signatures[3] = Signature::default();
    assert_eq!(failing_item(&fewer), "node_signatures");
    let mut forged = lock.clone();
    forged.node_signatures[1] = forged.node_signatures[0];
    assert_eq!(failing_item(&forged), "node_signatures[1]");
    let mut foreign = lock.clone();
    foreign.signature_aggregate = said[&OperatorIndex(0)].seal;
    assert_eq!(failing_item(&foreign), "signature_aggregate", "a share is not the group's");
    let two: BTreeMap<_, _> = said.into_iter().take(2).collect();
    assert!(complete(&mut lock, quorum, &two).is_err());
}
