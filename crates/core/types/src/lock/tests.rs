use super::*;

fn operator(index: u8) -> Operator {
    Operator {
        index: OperatorIndex(index),
        name: format!("operator-{index}"),
        address: (index == 0).then(|| Address::repeat_byte(0xab)),
        peer_id: "12D3KooW".into(),
        identity_key: Key32::repeat_byte(index + 1),
        vrf_key: None,
        enc_key: None,
        stake: Stake::default(),
        multiaddrs: vec!["/ip4/127.0.0.1/tcp/31000".into()],
    }
}

fn lock() -> ClusterLock {
    let mut lock = ClusterLock {
        version: LOCK_VERSION.into(),
        name: "test \"quoted\" ö".into(),
        cluster_id: B256::ZERO,
        epoch: 0,
        activation_height: None,
        parent_lock_hash: B256::ZERO,
        created_at: 1_700_000_000,
        chain_id: 1337,
        fork_version: FixedBytes([0x10, 0, 0, 0x38]),
        threshold: 3,
        operators: (0..4).map(operator).collect(),
        consensus: ConsensusParams::default().into(),
        builders: None,
        sequencer: SequencerKeys {
            group_key: SealKey::repeat_byte(1),
            public_shares: (0..4).map(SealKey::repeat_byte).collect(),
        },
        imported_from: None,
        validators: vec![],
        definition_hash: B256::ZERO,
        lock_hash: B256::ZERO,
        signature_aggregate: Seal::repeat_byte(2),
        node_signatures: (0..4).map(Signature::repeat_byte).collect(),
        leaver_signatures: Vec::new(),
    };
    lock.definition_hash = lock.compute_definition_hash();
    lock.cluster_id = lock.definition_hash;
    lock.lock_hash = lock.compute_lock_hash();
    lock
}

#[test]
fn the_canonical_text_reads_back_and_has_the_keys_in_order() {
    let lock = lock();
    let text = lock.to_json();
    assert_eq!(ClusterLock::from_json(&text), Ok(lock));
    assert!(text.starts_with("{\n  \"version\": \"aequa-lock/1\",\n  \"name\": "));
    assert!(text.ends_with("  ]\n}\n"));
    let order = [
        "version",
        "name",
        "cluster_id",
        "epoch",
        "parent_lock_hash",
        "created_at",
        "chain_id",
        "fork_version",
        "threshold",
        "operators",
        "index",
        "address",
        "peer_id",
        "identity_key",
        "vrf_key",
        "enc_key",
        "stake",
        "multiaddrs",
        "consensus",
        "leader",
        "checkpoint_interval",
        "builder",
        "builder_policy_hash",
        "sequencer",
        "group_key",
        "public_shares",
        "validators",
        "definition_hash",
        "lock_hash",
        "signature_aggregate",
        "node_signatures",
    ];
    let positions: Vec<usize> =
        order.iter().map(|key| text.find(&format!("\"{key}\":")).expect(key)).collect();
    assert!(positions.is_sorted(), "{positions:?}");
    assert!(text.contains("\"address\": \"0xabababab") && text.contains("\"vrf_key\": null"));
    assert!(text.contains("\"stake\": \"1\"") && text.contains("\"validators\": []"));
}

#[test]
fn a_leavers_signature_changes_no_hash() {
    let (lock, mut signed) = (lock(), lock());
    let (identity_key, signature) = (Key32::repeat_byte(9), Signature::repeat_byte(8));
    signed.leaver_signatures.push(LeaverSignature { identity_key, signature });
    let text = signed.to_json();
    assert!(!lock.to_json().contains("leaver") && text.contains("\"leaver_signatures\": ["));
    assert_eq!(ClusterLock::from_json(&text).as_ref(), Ok(&signed));
    assert_eq!(signed.compute_lock_hash(), lock.lock_hash);
    assert_eq!(signed.compute_definition_hash(), lock.definition_hash);
    signed.leaver_signatures = vec![signed.leaver_signatures[0]; OPERATORS_MAX + 1];
    assert!(ClusterLock::from_json(&signed.to_json()).is_err(), "more than operators may be");
    let spelled = lock.to_json().replace("  ]\n}\n", "  ],\n  \"leaver_signatures\": []\n}\n");
    assert_ne!(spelled, lock.to_json());
    assert!(ClusterLock::from_json(&spelled).is_err(), "absent where none has signed");
}

#[test]
fn other_spellings_of_the_same_lock_are_refused() {
    let text = lock().to_json();
    let spellings = [
        text.trim_end().to_string(),
        format!("{text}\n"),
        format!("\u{feff}{text}"),
        format!(" {text}"),
        text.replace("\n  ", "\n   "),
        text.replace('\n', "\r\n"),
        text.replace("0xab", "0xAB"),
        text.replace("\"stake\": \"1\"", "\"stake\": \"01\""),
        text.replace("\"stake\": \"1\"", "\"stake\": \"+1\""),
        text.replace("\"epoch\": 0,", "\"epoch\": 0.0,"),
        text.replace("\"epoch\": 0,", "\"epoch\": 0,\n  \"epoch\": 0,"),
        text.replace("\"epoch\": 0,", "\"epoch\": 0,\n  \"more\": 0,"),
        text.replace("      \"vrf_key\": null,\n", ""),
        text.replace("\"name\": \"test", "\"name\": \"t\\u0065st"),
        text.replace("\"validators\": []", "\"validators\": [ ]"),
        text.replace("\"validators\": []", "\"validators\": [\"x\"]"),
        text.replace("\"empty_blocks\": true", "\"empty_blocks\": true,\n    \"other\": 1"),
    ];
    for spelling in spellings {
        assert_ne!(spelling, text);
        assert!(matches!(ClusterLock::from_json(&spelling), Err(DecodeError::Malformed { .. })));
    }
}

#[test]
fn every_member_of_the_definition_changes_its_hash() {
    let original = lock().compute_definition_hash();
    let changes: [fn(&mut ClusterLock); 25] = [
        |lock| lock.version.push('x'),
        |lock| lock.name.push('\0'),
        |lock| lock.epoch = 1,
        |lock| lock.parent_lock_hash = B256::repeat_byte(1),
        |lock| lock.created_at += 1,
        |lock| lock.chain_id += 1,
        |lock| lock.fork_version = FixedBytes([1; 4]),
        |lock| lock.threshold += 1,
        |lock| lock.operators.truncate(3),
        |lock| lock.operators.swap(0, 1),
        |lock| lock.operators[1].index = OperatorIndex(9),
        |lock| lock.operators[1].name.clear(),
        |lock| lock.operators[1].address = Some(Address::ZERO),
        |lock| lock.operators[1].peer_id.push('x'),
        |lock| lock.operators[1].identity_key = Key32::ZERO,
        |lock| lock.operators[1].vrf_key = Some(Key32::ZERO),
        |lock| lock.operators[1].enc_key = Some(Key32::ZERO),
        |lock| lock.operators[1].stake = Stake(2),
        |lock| lock.operators[1].multiaddrs.clear(),
        |lock| lock.consensus.params.round_timeout_ms += 1,
        |lock| lock.consensus.params.empty_blocks = false,
        |lock| lock.consensus.params.builder.order.reverse(),
        |lock| lock.consensus.params.builder.window = 1024,
        |lock| {
            let urls = vec!["https://relay.example".into()];
            let terms = BuilderTerms { urls, min_bid_gwei: 1, boost_percent: 100, max_payment_gwei: 0 };
            lock.builders = Some(terms);
        },
        |lock| lock.consensus.builder_policy_hash = B256::ZERO,
    ];
    for (position, change) in changes.into_iter().enumerate() {
        let mut changed = lock();
        change(&mut changed);
        assert_ne!(changed.compute_definition_hash(), original, "change {position}");
    }
}

#[test]
fn the_id_is_hashed_from_epoch_1_on() {
    let mut lock = lock();
    let at_epoch_0 = lock.compute_definition_hash();
    lock.cluster_id = B256::repeat_byte(7);
    assert_eq!(lock.compute_definition_hash(), at_epoch_0);
    lock.epoch = 1;
    let at_epoch_1 = lock.compute_definition_hash();
    lock.cluster_id = B256::repeat_byte(8);
    assert_ne!(lock.compute_definition_hash(), at_epoch_1);
}

#[test]
fn every_key_changes_the_lock_hash() {
    let original = lock().compute_lock_hash();
    let changes: [fn(&mut ClusterLock); 4] = [
        |lock| lock.definition_hash = B256::ZERO,
        |lock| lock.sequencer.group_key = SealKey::ZERO,
        |lock| lock.sequencer.public_shares.swap(0, 1),
        |lock| lock.sequencer.public_shares.truncate(3),
    ];
    for change in changes {
        let mut changed = lock();
        change(&mut changed);
        assert_ne!(changed.compute_lock_hash(), original);
    }
}

#[test]
fn the_hashes_of_a_known_lock_are_frozen() {
    // Derived a second time by a program that shares nothing with this one but the description.
    let lock = lock();
    assert_eq!(
        [hex::encode(lock.definition_hash), hex::encode(lock.lock_hash)],
        [
            "4abbba5f9661714c60d6a090fecce971f6d4c54afc1783c22a9949675844bf43",
            "bae6ba1997ac73e155f9978983fb2db6cf061170ca2aeeece364077cba95ab4d",
        ]
    );
}

#[test]
fn what_is_longer_than_its_limit_is_refused() {
    let refused: [fn(&mut ClusterLock); 8] = [
        |lock| lock.version = "aequa-lock/2".into(),
        |lock| lock.name = "x".repeat(257),
        |lock| lock.operators.clear(),
        |lock| lock.operators = (0..101).map(operator).collect(),
        |lock| lock.operators[0].name = "x".repeat(257),
        |lock| lock.operators[0].multiaddrs = vec!["/".into(); 17],
        |lock| lock.operators[0].multiaddrs = vec!["/".repeat(257)],
        |lock| lock.operators[0].stake = Stake(0),
    ];
    for change in refused {
        let mut changed = lock();
        change(&mut changed);
        assert!(ClusterLock::from_json(&changed.to_json()).is_err());
    }
    let mut largest = lock();
    largest.name = "x".repeat(256);
    largest.operators[0].multiaddrs = vec!["/".repeat(256); 16];
    largest.operators[0].stake = Stake(u128::MAX);
    assert_eq!(ClusterLock::from_json(&largest.to_json()), Ok(largest));
    let huge = " ".repeat(LOCK_BYTES_MAX + 1);
    assert!(matches!(ClusterLock::from_json(&huge), Err(DecodeError::TooLarge { .. })));
}
