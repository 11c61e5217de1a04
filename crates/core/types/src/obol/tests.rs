use super::binding::{BINDING_VERSION, Binding};
use super::*;
use alloy_primitives::b256;
use serde_json::{Value, json};

/// Inputs of published hashes: three operators, two validators, no keys.
fn definition(version: &str, change: impl FnOnce(&mut Value)) -> ObolLock {
    parsed(version, change).unwrap()
}

fn parsed(version: &str, change: impl FnOnce(&mut Value)) -> Result<ObolLock, DecodeError> {
    let operator = |number: u8, enr: &str| json!({ "address": Address::repeat_byte(number), "enr": enr });
    let addresses = json!({
        "fee_recipient_address": Address::repeat_byte(0xaa),
        "withdrawal_address": Address::repeat_byte(0xbb),
    });
    let mut definition = json!({
        "uuid": "f4c00e58-1a54-4e55-8d76-2b2a6d4c3f9a",
        "name": "test-cluster-3of4",
        "version": version,
        "timestamp": "2024-06-15T12:00:00Z",
        "num_validators": 2,
        "threshold": 3,
        "dkg_algorithm": "default",
        "fork_version": "0x00001020",
        "operators": [
            operator(0x11, "enr:-Iu4QNHNMf"),
            operator(0x22, "enr:-Iu4QABCDef"),
            operator(0x33, "enr:-Iu4QXYZghi"),
        ],
        "creator": { "address": Address::repeat_byte(0x11) },
        "validators": [addresses, addresses],
        "config_hash": B256::repeat_byte(0x0f),
        "definition_hash": B256::ZERO,
    });
    change(&mut definition);
    let lock = json!({
        "cluster_definition": definition,
        "distributed_validators": [],
        "signature_aggregate": "0x",
        "lock_hash": B256::ZERO,
    });
    ObolLock::from_json(&lock.to_string())
}

fn chosen(definition: &mut Value) {
    definition["deposit_amounts"] = json!(["32000000000"]);
    definition["consensus_protocol"] = "abft".into();
}

/// The figures are those of Obol's own tools.
#[test]
fn definitions_of_every_version_have_their_published_hashes() {
    let eleven = |change: fn(&mut Value)| definition("v1.11.0", change);
    let signature = |byte: u8, count: usize| Bytes::from(vec![byte; 65 * count]);
    let config = [
        (
            definition("v1.7.0", |_| {}),
            b256!("c0ade8b834d7731f4076d364472be55974a9cb23ed97cc828bf5661b1df1c564"),
        ),
        (
            definition("v1.8.0", |value| value["deposit_amounts"] = json!([32_000_000_000u64])),
            b256!("cbdb72b363a735e1f469cbd7983734d524001a68dcf3ab71153d69892fa0e36c"),
        ),
        (
            definition("v1.9.0", chosen),
            b256!("8c55a5a65d8f8dbecaf6fbd39a11c2e701ce3aba1dd7fdd212a35c2e196db34f"),
        ),
        (
            definition("v1.10.0", |value| {
                chosen(value);
                value["target_gas_limit"] = 30_000_000.into();
                value["compounding"] = true.into();
            }),
            b256!("5e16fdd44a25d37ebce15ea9d2069ec9d0930ce8d3a0e9091f82edae5969b306"),
        ),
        (
            eleven(|value| value["deposit_amounts"] = Value::Null),
            b256!("d2c1c9a81b4415fc6e5c9fc0143459de1632c38c72561a492e1aaaeddbe9b9ee"),
        ),
        (
            eleven(|value| {
                value["deposit_amounts"] = json!(["32000000000", "1000000000", "0"]);
                value["consensus_protocol"] = "qbft".into();
                value["target_gas_limit"] = 36_000_000.into();
                value["compounding"] = true.into();
            }),
            b256!("2c99bee9221f28d61c85f3dba4ed6d553f76b0a5aa23f96f8feeb2254fbf6a49"),
        ),
    ];
    for (lock, expected) in &config {
        let version = lock.version().unwrap();
        assert_eq!(lock.compute_config_hash(version), *expected, "{}", version.name());
    }
    assert_eq!(config.len(), 6);

    let unsigned = eleven(|_| {});
    assert_eq!(
        unsigned.compute_definition_hash(ObolVersion::V11),
        b256!("bce69aaef710e47f36a671734f12973f580e89f32e5c36006a9bb5594082380a")
    );
    let mut signed = unsigned;
    for (number, operator) in (0..).zip(&mut signed.definition.operators) {
        operator.config_signature = signature(number + 1, 1);
        operator.enr_signature = signature(number + 0x10, 1);
    }
    signed.definition.creator.config_signature = signature(0xcc, 2);
    assert_eq!(
        signed.compute_definition_hash(ObolVersion::V11),
        b256!("906b7e3b069edd1d184427ba46baf12af250781dd10174ff40ea4d8f774d1062")
    );
}

#[test]
fn what_a_version_does_not_hash_is_refused() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 8] = [
        ("v1.5.0", |_| {}, "version is"),
        ("v1.12.0", |_| {}, "version is"),
        ("v1.7.0", |value| value["deposit_amounts"] = json!(["1"]), "deposit_amounts"),
        ("v1.8.0", |value| value["consensus_protocol"] = "qbft".into(), "consensus_protocol"),
        ("v1.9.0", |value| value["compounding"] = true.into(), "compounding"),
        ("v1.9.0", |value| value["target_gas_limit"] = 1.into(), "target_gas_limit"),
        (
            "v1.10.0",
            |value| value["creator"]["config_signature"] = json!(Bytes::from(vec![1; 130])),
            "creator",
        ),
        ("v1.11.0", |value| value["operators"][1]["address"] = "0x11".into(), "operators[1].address"),
    ];
    for (version, change, says) in cases {
        let error = parsed(version, change).unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}

#[test]
fn a_binding_has_one_spelling_and_its_statement_holds_all_of_it() {
    let binding = Binding {
        version: BINDING_VERSION.into(),
        lock_hash: B256::repeat_byte(1),
        operator: crate::OperatorIndex(2),
        identity_key: FixedBytes::repeat_byte(3),
        enc_key: FixedBytes::repeat_byte(4),
        enr_signature: FixedBytes::repeat_byte(5),
        identity_signature: crate::Signature::repeat_byte(6),
    };
    let text = binding.to_json();
    assert_eq!(Binding::from_json(&text).as_ref(), Ok(&binding));
    assert!(Binding::from_json(&text.replace("\n  ", "\n ")).is_err());
    assert!(Binding::from_json(&text.replace("binding/1", "binding/2")).is_err());
    let changes: [fn(&mut Binding); 4] = [
        |binding| binding.lock_hash.0[0] ^= 1,
        |binding| binding.operator.0 ^= 1,
        |binding| binding.identity_key.0[0] ^= 1,
        |binding| binding.enc_key.0[0] ^= 1,
    ];
    for change in changes {
        let mut changed = binding.clone();
        change(&mut changed);
        assert_ne!(changed.statement(), binding.statement());
    }
}
