#![allow(clippy::unwrap_used)]

use super::*;
use crate::block::{Items, empty_evidence_root};
use crate::*;
use alloy_primitives::{B256, FixedBytes};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

const FROM: &str = "0xb580b5a0a4a5f47603b558b17139cc12d6fef328";
const SIG: &str = "0x52f73264e49c947882d7fa7e7e9a713fbdd49997a1156ee121d50c5d918c08080a58fe30c522e40ed7fca66c365872ecaa45f7b44f1f701344eb2878eb91b4851c";

fn plain() -> Json {
    json!({"type": "plaintext_v1", "from": FROM, "nonce": 257, "gas": 21000, "fee": 1000,
           "payload": "0x68656c6c6f206165717561", "sig": SIG})
}

fn bid() -> Json {
    json!({"type": "auction_bid_v1", "from": FROM, "nonce": 0, "gas": 21000, "bid": 5000,
           "fee_recipient": "0x00000000000000000000000000000000000000fe", "sig": SIG})
}

fn with(mut base: Json, field: &str, value: Json) -> Json {
    base[field] = value;
    base
}

fn parse(value: &Json) -> Result<Transaction, JsonError> {
    parse_transaction(value.to_string().as_bytes())
}

#[test]
fn the_contract_vector_parses_to_its_fields() {
    let transaction = parse(&plain()).unwrap();
    let TxBody::Plaintext(body) = &transaction.body else { panic!("wrong type") };
    assert_eq!((body.nonce, body.gas, body.fee), (257, 21000, 1000));
    assert_eq!(&body.payload[..], b"hello aequa");
    assert_eq!(transaction.sig[64], 28);
}

#[test]
fn spellings_of_one_value_parse_alike() {
    let expected = parse(&plain()).unwrap();
    let checksummed = expected.body.from().to_checksum(None);
    let sig_base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, expected.sig);
    for (field, value) in [
        ("type", json!("")),
        ("type", json!(null)),
        ("nonce", json!("257")),
        ("gas", json!("21000")),
        ("fee", json!("1000")),
        ("payload", json!("aGVsbG8gYWVxdWE=")),
        ("payload", json!("0x68656C6C6F206165717561")),
        ("from", json!(FROM.to_uppercase().replacen("0X", "0x", 1))),
        ("from", json!(checksummed)),
        ("sig", json!(sig_base64)),
        ("bid", json!(0)),
        ("bid", json!("0")),
        ("bid", json!(null)),
        ("ciphertext", json!("")),
        ("proof", json!("0x")),
        ("fee_recipient", json!("")),
        ("unknown", json!({"a": [1, {"b": null}]})),
    ] {
        assert_eq!(parse(&with(plain(), field, value.clone())).as_ref(), Ok(&expected), "{field} = {value}");
    }
}

#[test]
fn a_bad_field_is_named_with_its_rule() {
    let long = format!("0x{}", "00".repeat(65_537));
    for (base, field, value, says) in [
        (plain(), "type", json!("legacy"), "unknown transaction type"),
        (plain(), "type", json!("private_v1"), "disabled"),
        (plain(), "type", json!(1), "must be a string"),
        (plain(), "from", json!(null), "is required"),
        (plain(), "from", json!("0xB580b5a0a4a5f47603b558b17139cc12d6fef328"), "EIP-55"),
        (plain(), "from", json!(&FROM[2..]), "40 hex digits"),
        (plain(), "nonce", json!(null), "is required"),
        (plain(), "nonce", json!(-1), "must be an integer"),
        (plain(), "nonce", json!(1.0), "must be an integer"),
        (plain(), "nonce", json!("+1"), "must be an integer"),
        (plain(), "nonce", json!(""), "must be an integer"),
        (plain(), "nonce", json!("18446744073709551616"), "must be an integer"),
        (plain(), "nonce", json!("0257"), "without leading zeros"),
        (plain(), "gas", json!("00"), "without leading zeros"),
        (plain(), "fee", json!("01000"), "without leading zeros"),
        (plain(), "gas", json!(0), "greater than 0"),
        (plain(), "gas", json!([]), "must be an integer"),
        (plain(), "fee", json!(true), "must be an integer"),
        (plain(), "payload", json!(long), "limit is 65536"),
        (plain(), "payload", json!("0x123"), "base64"),
        (plain(), "payload", json!([1, 2]), "must be a string"),
        (plain(), "sig", json!("0x00"), "65"),
        (plain(), "sig", json!("AAAA"), "65"),
        (plain(), "bid", json!(1), "does not belong to plaintext_v1"),
        (plain(), "ciphertext", json!("0x00"), "does not belong"),
        (plain(), "proof", json!({"a": 1}), "does not belong"),
        (bid(), "bid", json!(0), "greater than 0"),
        (bid(), "fee_recipient", json!(null), "is required"),
        (bid(), "fee", json!("1"), "does not belong to auction_bid_v1"),
    ] {
        let error = parse(&with(base, field, value.clone())).unwrap_err();
        assert_eq!(error.field(), Some(field), "{value}: {error}");
        assert!(error.to_string().contains(says), "{field} = {value}: {error}");
    }
}

#[test]
fn hex_like_text_of_the_wrong_length_is_read_as_base64() {
    // 88 base64 characters are 65 bytes; the text may begin with 0x.
    let text = format!("0x{}==", "A".repeat(84));
    assert_eq!(parse_bytes(&text, Some(64)).unwrap().len(), 64);
    assert_eq!(parse_bytes("0xAA", None).unwrap(), [0xaa]);
    assert_eq!(parse_bytes("0xAA", Some(3)).unwrap().len(), 3);
    assert!(parse_bytes("AA", None).is_err());
}

#[test]
fn what_is_not_one_json_object_is_a_syntax_error() {
    let text = plain().to_string();
    let nested = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    for bad in [
        String::new(),
        "[]".into(),
        "1".into(),
        format!("{text}x"),
        format!("{text} {text}"),
        text.replacen('{', "{\"nonce\":1,", 1),
        text.replacen('{', "{\"a\":1,\"a\":1,", 1),
        text.replacen('{', "{\"a\":{\"b\":1,\"b\":1},", 1),
        nested(DEPTH_MAX),
        format!("{{\"x\":[{}]}}", vec!["0"; VALUES_MAX].join(",")),
    ] {
        assert!(parse_transaction(bad.as_bytes()).unwrap_err().is_syntax(), "{bad}");
    }
    assert_eq!(parse_transaction(nested(DEPTH_MAX - 1).as_bytes()).unwrap_err().field(), Some("from"));
    assert!(parse_transaction(&[b'"', 0xff, b'"']).unwrap_err().is_syntax());
}

#[test]
fn an_envelope_above_one_mebibyte_is_not_parsed() {
    let bytes = vec![b' '; limits::TX_ENVELOPE_BYTES_MAX + 1];
    assert!(matches!(parse_transaction(&bytes), Err(JsonError::TooLarge { .. })));
    assert!(parse_transaction(&bytes[1..]).unwrap_err().is_syntax());
}

/// Envelopes as a batch, in both forms.
fn batches(envelopes: &[String]) -> [(BatchForm, String); 2] {
    [
        (BatchForm::Array, format!(" [{} ]\n", envelopes.join(" ,\r\n"))),
        (BatchForm::Lines, format!("\n{}\r\n \t\r\n", envelopes.join("\r\n"))),
    ]
}

#[test]
fn a_batch_is_read_in_its_order_and_a_bad_one_costs_the_others_nothing() {
    let text = |value: Json| value.to_string();
    let envelopes = [
        text(plain()),
        text(with(plain(), "gas", json!(0))),
        text(bid()),
        "7".into(),
        text(with(plain(), "x", json!([1, {"a": []}]))),
    ];
    for (form, text) in batches(&envelopes) {
        let parsed = parse_transactions(text.as_bytes(), form).unwrap();
        assert_eq!(parsed.len(), envelopes.len());
        for good in [0, 2, 4] {
            assert_eq!(parsed[good], parse_transaction(envelopes[good].as_bytes()), "{form:?} {good}");
        }
        assert_eq!(parsed[1].as_ref().unwrap_err().field(), Some("gas"));
        assert!(parsed[3].as_ref().unwrap_err().is_syntax());
    }
    let broken = format!("{}\n{{\n{}", plain(), bid());
    let parsed = parse_transactions(broken.as_bytes(), BatchForm::Lines).unwrap();
    assert_eq!(parsed.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_batch_has_its_form_and_one_to_a_thousand_transactions() {
    for (count, says) in [(0, "has no transaction"), (limits::TX_BATCH_MAX + 1, "more than 1000")] {
        for (form, text) in batches(&vec![bid().to_string(); count]) {
            let error = parse_transactions(text.as_bytes(), form).unwrap_err();
            assert_eq!(error.field(), Some("body"), "{form:?}: {error}");
            assert!(error.to_string().contains(says), "{form:?}: {error}");
        }
    }
    // Ten values each: as many as the limit of one text, had it been one.
    for (form, text) in batches(&vec![with(bid(), "hash", json!("0x")).to_string(); limits::TX_BATCH_MAX]) {
        let parsed = parse_transactions(text.as_bytes(), form).unwrap();
        assert_eq!(parsed.iter().filter(|line| line.is_ok()).count(), limits::TX_BATCH_MAX, "{form:?}");
    }
    let envelope = plain().to_string();
    for bad in
        ["", "{}", "7", "[", "[,]", "[1", "[1 2]", "[1,]", "[[1]x]", "[\"\\x\"]", &format!("[{envelope}]]")]
    {
        assert!(parse_transactions(bad.as_bytes(), BatchForm::Array).unwrap_err().is_syntax(), "{bad}");
    }
    for twice in [r#"[{"a":1,"a":1}]"#, r#"[[{"a":1,"a":1}]]"#] {
        assert!(parse_transactions(twice.as_bytes(), BatchForm::Array).unwrap_err().is_syntax(), "{twice}");
    }
    let many = |values: usize| format!("[{{\"x\":[{}]}}]", vec!["0"; values - 2].join(","));
    let parse = |values| parse_transactions(many(values).as_bytes(), BatchForm::Array);
    assert_eq!(parse(VALUES_MAX).unwrap()[0].as_ref().unwrap_err().field(), Some("from"));
    assert!(parse(VALUES_MAX + 1).unwrap_err().is_syntax());
    let large = vec![b' '; limits::TX_ENVELOPE_BYTES_MAX + 1];
    assert!(matches!(parse_transactions(&large, BatchForm::Lines), Err(JsonError::TooLarge { .. })));
}

#[test]
fn a_missing_type_means_the_default_of_the_route() {
    let mut untyped = bid();
    untyped.as_object_mut().unwrap().remove("type");
    let bytes = untyped.to_string();
    assert_eq!(
        parse_transaction_as(bytes.as_bytes(), TxKind::AuctionBidV1).unwrap().body.kind(),
        TxKind::AuctionBidV1
    );
    assert_eq!(parse_transaction(bytes.as_bytes()).unwrap_err().field(), Some("bid"));
}

#[test]
fn a_block_reads_back_and_every_changed_digit_is_noticed_or_changes_the_value() {
    let block = certified(&[plain(), bid()], true);
    let text = serde_json::to_string(&BlockJson::from(&block)).unwrap();
    assert_eq!(BlockJson::parse(text.as_bytes()).unwrap(), block);
    for position in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[position] = if changed[position] == b'1' { b'2' } else { b'1' };
        if let Ok(other) = BlockJson::parse(&changed) {
            assert_ne!(other, block, "byte {position}");
        }
    }
}

#[test]
fn an_unknown_or_repeated_field_of_a_block_is_refused() {
    let block = certified(&[plain()], false);
    let value = serde_json::to_value(BlockJson::from(&block)).unwrap();
    for path in ["", "/header", "/items/0", "/certificate", "/certificate/commits/0"] {
        let mut other = value.clone();
        other.pointer_mut(path).unwrap()["extra"] = json!(1);
        assert!(BlockJson::parse(other.to_string().as_bytes()).is_err(), "{path}");
    }
    let twice = value.to_string().replacen('{', "{\"height\":1,", 1);
    assert!(BlockJson::parse(twice.as_bytes()).is_err());
}

#[test]
fn derived_fields_of_a_block_must_agree() {
    let block = certified(&[plain()], false);
    let value = serde_json::to_value(BlockJson::from(&block)).unwrap();
    for (path, field) in [("/height", "height"), ("/certificate/signers/0", "signers")] {
        let mut other = value.clone();
        *other.pointer_mut(path).unwrap() = json!(99);
        assert_eq!(BlockJson::parse(other.to_string().as_bytes()).unwrap_err().field(), Some(field));
    }
    for (path, field) in [("/digest", "digest"), ("/items/0/hash", "hash")] {
        let mut other = value.clone();
        *other.pointer_mut(path).unwrap() = json!(format!("0x{}", "11".repeat(32)));
        assert_eq!(BlockJson::parse(other.to_string().as_bytes()).unwrap_err().field(), Some(field));
    }
}

#[test]
fn a_certificate_has_exactly_one_kind_of_proof() {
    let certificate = certified(&[], true).certificate;
    let mut value = serde_json::to_value(CertificateJson::from(&certificate)).unwrap();
    assert_eq!(CertificateJson::parse(value.to_string().as_bytes()).unwrap(), certificate);
    assert_eq!(value["domain"], "block");
    value["seal"] = Json::Null;
    assert_eq!(CertificateJson::parse(value.to_string().as_bytes()).unwrap_err().field(), Some("seal"));
}

fn certified(items: &[Json], sealed: bool) -> CertifiedBlock {
    let items: Vec<Transaction> = items.iter().map(|item| parse(item).unwrap()).collect();
    let count = items.len() as u64;
    let items = Items::try_from(items).unwrap();
    let mut block = Block {
        header: Header {
            cluster_id: B256::repeat_byte(7),
            height: Height(42),
            parent_root: B256::repeat_byte(8),
            timestamp_ms: 1_700_000_000_123,
            proposer: OperatorIndex(3),
            policy_hash: BuilderPolicy::default().hash(),
            payload_root: B256::ZERO,
            evidence_root: empty_evidence_root(),
            state_root: B256::repeat_byte(9),
            leader_proof: vec![1, 2, 3].try_into().unwrap(),
            total_fees: Amount::from(1000),
            total_bids: Amount::MAX,
            items: count,
        },
        items,
        evidence: Default::default(),
    };
    block.header.payload_root = block.payload_root();
    let commit = |operator| CommitSignature {
        operator: OperatorIndex(operator),
        seal: (operator != 2).then(|| FixedBytes::repeat_byte(operator)),
        signature: FixedBytes::repeat_byte(operator),
    };
    let proof = if sealed {
        Proof::Group(FixedBytes::repeat_byte(5))
    } else {
        Proof::Commits(vec![commit(0), commit(2), commit(3)])
    };
    let instance = InstanceId::Block(Height(42));
    let certificate = Certificate { instance, round: Round(1), digest: block.header.digest(), proof };
    CertifiedBlock { block, certificate }
}

fn any_transaction() -> impl Strategy<Value = Transaction> {
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    (
        any::<[u8; 20]>(),
        any::<u64>(),
        1..=u64::MAX,
        1..=u64::MAX,
        any::<Option<[u8; 20]>>(),
        payload,
        any::<[u8; 32]>(),
    )
        .prop_map(|(from, nonce, gas, amount, recipient, payload, sig)| {
            let (from, payload) = (Address::from(from), payload.try_into().unwrap());
            let body = match recipient {
                None => TxBody::Plaintext(PlaintextV1 { from, nonce, gas, fee: amount, payload }),
                Some(to) => {
                    let fee_recipient = Address::from(to);
                    TxBody::AuctionBid(AuctionBidV1 { from, nonce, gas, bid: amount, fee_recipient, payload })
                }
            };
            let mut bytes = [0u8; 65];
            bytes[..32].copy_from_slice(&sig);
            Transaction { body, sig: bytes.into() }
        })
}

proptest! {
    #[test]
    fn output_of_a_transaction_is_an_envelope_and_reads_back(transaction in any_transaction()) {
        let json = TransactionJson::from(&transaction);
        let text = serde_json::to_string(&json).unwrap();
        prop_assert_eq!(parse_transaction(text.as_bytes()).unwrap(), transaction.clone());
        let strict: TransactionJson = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(Transaction::try_from(strict).unwrap(), transaction);
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        let _ = parse_transaction(text.as_bytes());
        let _ = parse_transactions(text.as_bytes(), BatchForm::Array);
        let _ = parse_transactions(text.as_bytes(), BatchForm::Lines);
        let _ = BlockJson::parse(text.as_bytes());
    }

    #[test]
    fn a_damaged_envelope_never_panics(position in 0usize..300, byte in any::<u8>()) {
        let mut bytes = plain().to_string().into_bytes();
        let at = position % bytes.len();
        bytes[at] = byte;
        let _ = parse_transaction(&bytes);
    }
}
