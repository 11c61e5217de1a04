use super::*;
use aequa_types::{AuctionBidV1, PlaintextV1};
use proptest::prelude::*;
use serde::Deserialize;

const CHAIN_ID: u64 = 1337;

/// One vector of the contract, in `tests/data/transactions.json`.
#[derive(Deserialize)]
struct Vector {
    kind: String,
    nonce: u64,
    gas: u64,
    key: u64,
    fee_recipient: Option<Address>,
    payload: String,
    hash_struct: B256,
    digest: B256,
    sig: String,
    body_root: B256,
    hash: B256,
}

impl Vector {
    fn body(&self) -> TxBody {
        let payload = self.payload.as_bytes().to_vec().try_into().unwrap();
        let (from, nonce, gas) = (key().address(), self.nonce, self.gas);
        match self.fee_recipient {
            None => TxBody::Plaintext(PlaintextV1 { from, nonce, gas, fee: self.key, payload }),
            Some(fee_recipient) => {
                TxBody::AuctionBid(AuctionBidV1 { from, nonce, gas, bid: self.key, fee_recipient, payload })
            }
        }
    }
}

fn key() -> AccountKey {
    AccountKey::from_bytes(&keccak256(b"aequa test key 0").0).unwrap()
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../tests/data/transactions.json")).unwrap()
}

fn plaintext(payload: Vec<u8>) -> TxBody {
    TxBody::Plaintext(PlaintextV1 {
        from: key().address(),
        nonce: 3,
        gas: 21_000,
        fee: 5,
        payload: payload.try_into().unwrap(),
    })
}

/// s ↦ n − s, the second signature of the same message.
fn mirrored(sig: &TxSignature) -> TxSignature {
    const ORDER: [u8; 32] = secp256k1::constants::CURVE_ORDER;
    let mut out = *sig;
    let mut borrow = 0i32;
    for position in (0..32).rev() {
        let difference = i32::from(ORDER[position]) - i32::from(sig[32 + position]) - borrow;
        borrow = i32::from(difference < 0);
        out[32 + position] = difference.rem_euclid(256) as u8;
    }
    out[64] = 55 - sig[64];
    out
}

#[test]
fn the_contracts_vectors_are_reproduced() {
    assert_eq!(vectors().len(), 3);
    for vector in vectors() {
        let body = vector.body();
        assert_eq!(body.kind().name(), vector.kind);
        assert_eq!(hash_struct(&body), vector.hash_struct, "{}", vector.kind);
        assert_eq!(digest(CHAIN_ID, &body), vector.digest);
        assert_eq!(body.root(), vector.body_root);
        assert_eq!(body.hash(), vector.hash);
        let signed = sign(CHAIN_ID, body.clone(), &key());
        assert_eq!(hex::encode(signed.sig), vector.sig);
        let checked = check(CHAIN_ID, signed.clone()).unwrap();
        assert_eq!(checked.hash(), vector.hash);
        assert_eq!(*checked.transaction(), signed);
    }
}

#[test]
fn the_contracts_constants_are_reproduced() {
    let expected = [
        (*DOMAIN_TYPE, "c2f8787176b8ac6bf7215b4adcc1e069bf4ab82d9ab1df05a57a91d425935b6e"),
        (*PLAINTEXT_TYPE, "296b5e9ad19e7b3fa70ca76294415d7dfca6bdbf808bc8b3a69cfad2cc57a9d8"),
        (*AUCTION_BID_TYPE, "23631d2c1f364c8a6ed6bb9de4c615c3b25951e50530c2c253e70a9e0cb156be"),
        (domain_separator(CHAIN_ID), "fed848a969e37aa7fb1dc3fddb42cc446964b5b449fbcb726fd995047f08b9e1"),
        (B256::new(*key().to_bytes()), "0509ab28aec5e34bbf13dd2537058310275732825e8e2163a3fb75abfe471c64"),
    ];
    for (computed, known) in expected {
        assert_eq!(hex::encode(computed), known);
    }
    assert_eq!(format!("{:#x}", key().address()), "0xb580b5a0a4a5f47603b558b17139cc12d6fef328");
}

#[test]
fn nonces_257_and_1_hash_differently() {
    let mut bodies = [plaintext(vec![]), plaintext(vec![])];
    for (body, nonce) in bodies.iter_mut().zip([257, 1]) {
        if let TxBody::Plaintext(body) = body {
            body.nonce = nonce;
        }
    }
    assert_ne!(bodies[0].hash(), bodies[1].hash());
}

#[test]
fn a_signature_of_another_chain_or_another_key_is_refused() {
    let signed = sign(CHAIN_ID, plaintext(vec![1]), &key());
    assert!(matches!(check(CHAIN_ID + 1, signed), Err(TxError::WrongSender { .. })));
    let other = AccountKey::generate().unwrap();
    let forged = sign(CHAIN_ID, plaintext(vec![1]), &other);
    assert_eq!(
        check(CHAIN_ID, forged),
        Err(TxError::WrongSender { recovered: other.address(), from: key().address() })
    );
}

#[test]
fn every_signed_field_is_signed() {
    let bid = AuctionBidV1 {
        from: key().address(),
        nonce: 1,
        gas: 2,
        bid: 3,
        fee_recipient: Address::repeat_byte(4),
        payload: vec![5].try_into().unwrap(),
    };
    let signed = sign(CHAIN_ID, TxBody::AuctionBid(bid.clone()), &key());
    assert!(check(CHAIN_ID, signed.clone()).is_ok());
    let changes: [fn(&mut AuctionBidV1); 6] = [
        |bid| bid.from = Address::repeat_byte(1),
        |bid| bid.nonce += 1,
        |bid| bid.gas += 1,
        |bid| bid.bid += 1,
        |bid| bid.fee_recipient = Address::ZERO,
        |bid| bid.payload = vec![].try_into().unwrap(),
    ];
    for change in changes {
        let mut changed = bid.clone();
        change(&mut changed);
        let forged = Transaction { body: TxBody::AuctionBid(changed), sig: signed.sig };
        assert!(matches!(check(CHAIN_ID, forged), Err(TxError::WrongSender { .. } | TxError::Unrecoverable)));
    }
}

#[test]
fn every_flipped_bit_of_a_signature_is_refused() {
    let signed = sign(CHAIN_ID, plaintext(b"hello".to_vec()), &key());
    for bit in 0..520 {
        let mut forged = signed.clone();
        forged.sig[bit / 8] ^= 1 << (bit % 8);
        assert!(check(CHAIN_ID, forged).is_err(), "bit {bit}");
    }
}

#[test]
fn the_mirrored_signature_is_refused_though_it_recovers() {
    let signed = sign(CHAIN_ID, plaintext(vec![]), &key());
    let forged = Transaction { sig: mirrored(&signed.sig), ..signed.clone() };
    assert_eq!(mirrored(&forged.sig), signed.sig);
    assert_eq!(check(CHAIN_ID, forged), Err(TxError::HighS));
}

#[test]
fn the_form_of_the_signature_is_checked_number_by_number() {
    let signed = sign(CHAIN_ID, plaintext(vec![]), &key());
    let with = |change: fn(&mut TxSignature)| {
        let mut changed = signed.clone();
        change(&mut changed.sig);
        check(CHAIN_ID, changed).unwrap_err()
    };
    for (v, change) in [
        (0, (|sig| sig[64] = 0) as fn(&mut TxSignature)),
        (1, |sig| sig[64] = 1),
        (26, |sig| sig[64] = 26),
        (29, |sig| sig[64] = 29),
    ] {
        assert_eq!(with(change), TxError::RecoveryByte(v));
    }
    assert_eq!(with(|sig| sig[..32].fill(0)), TxError::OutOfRange("r"));
    assert_eq!(with(|sig| sig[..32].fill(0xff)), TxError::OutOfRange("r"));
    assert_eq!(
        with(|sig| sig[..32].copy_from_slice(&secp256k1::constants::CURVE_ORDER)),
        TxError::OutOfRange("r")
    );
    assert_eq!(with(|sig| sig[32..64].fill(0)), TxError::OutOfRange("s"));
    assert_eq!(with(|sig| sig[32..64].fill(0xff)), TxError::HighS);
    assert!(matches!(
        with(|sig| sig[32..64].copy_from_slice(&HALF_ORDER)),
        TxError::WrongSender { .. } | TxError::Unrecoverable
    ));
}

#[test]
fn checks_come_in_the_order_of_the_contract() {
    // Everything is wrong at once: the first failing check names itself.
    let mut transaction = Transaction {
        body: TxBody::AuctionBid(AuctionBidV1 {
            from: Address::ZERO,
            nonce: 0,
            gas: 0,
            bid: 0,
            fee_recipient: Address::ZERO,
            payload: vec![].try_into().unwrap(),
        }),
        sig: TxSignature::ZERO,
    };
    let set = |transaction: &mut Transaction, gas: u64, bid: u64| {
        if let TxBody::AuctionBid(body) = &mut transaction.body {
            (body.gas, body.bid) = (gas, bid);
        }
    };
    let result = |transaction: &Transaction| check(CHAIN_ID, transaction.clone()).unwrap_err();
    assert_eq!(result(&transaction), TxError::Zero("gas"));
    set(&mut transaction, 1, 0);
    assert_eq!(result(&transaction), TxError::Zero("bid"));
    set(&mut transaction, 1, 1);
    assert_eq!(result(&transaction), TxError::RecoveryByte(0));
    transaction.sig[64] = 27;
    assert_eq!(result(&transaction), TxError::OutOfRange("r"));
    transaction.sig[31] = 1;
    assert_eq!(result(&transaction), TxError::OutOfRange("s"));
    transaction.sig[32] = 0xf0;
    assert_eq!(result(&transaction), TxError::HighS);
    transaction.sig[32] = 0x10;
    assert!(matches!(result(&transaction), TxError::WrongSender { .. }));
}

#[test]
fn the_largest_payload_is_accepted() {
    let signed = sign(CHAIN_ID, plaintext(vec![7; TX_PAYLOAD_BYTES_MAX]), &key());
    assert!(signed.ssz_bytes_len() <= TX_BYTES_MAX);
    assert!(check(CHAIN_ID, signed).is_ok());
    assert!(aequa_types::transaction::Payload::try_from(vec![7; TX_PAYLOAD_BYTES_MAX + 1]).is_err());
}

#[test]
fn keys_outside_the_group_order_are_refused() {
    assert!(AccountKey::from_bytes(&[0; 32]).is_err());
    assert!(AccountKey::from_bytes(&[0xff; 32]).is_err());
    assert!(AccountKey::from_bytes(&secp256k1::constants::CURVE_ORDER).is_err());
}

#[test]
fn debug_output_does_not_contain_the_account_key() {
    let key = AccountKey::from_bytes(&[0x3c; 32]).unwrap();
    let shown = format!("{key:?}");
    assert!(!shown.contains("3c3c") && !shown.contains("60, 60"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_signed_checks_and_is_canonical(
        nonce in any::<u64>(),
        gas in 1..u64::MAX,
        fee in any::<u64>(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let key = AccountKey::generate().unwrap();
        let payload = payload.try_into().unwrap();
        let body = TxBody::Plaintext(PlaintextV1 { from: key.address(), nonce, gas, fee, payload });
        let signed = sign(CHAIN_ID, body, &key);
        prop_assert!(check(CHAIN_ID, signed.clone()).is_ok());
        let bytes = signed.as_ssz_bytes();
        prop_assert_eq!(aequa_types::decode::<Transaction>("transaction", &bytes, TX_BYTES_MAX), Ok(signed));
    }
}
