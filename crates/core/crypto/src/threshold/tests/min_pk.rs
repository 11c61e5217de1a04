//! Ethereum's scheme, against the vectors of `ethereum/bls12-381-tests` and `blst`'s own interface.

use crate::Error;
use crate::bls::SecretKey;
use crate::threshold::{MinPk, MinSig, Scheme, combine, deal, shares_on_one_polynomial, split};
use aequa_types::OperatorIndex;
use alloy_primitives::FixedBytes;
use blst::min_pk;
use serde_json::Value;

type Dealing = crate::threshold::Dealing<MinPk>;
type GroupKey = crate::threshold::GroupKey<MinPk>;
type PublicShare = crate::threshold::PublicShare<MinPk>;
type SecretShare = crate::threshold::SecretShare<MinPk>;
type Combiner = crate::threshold::Combiner<MinPk>;
type Combined = crate::threshold::Combined<MinPk>;
type Signature = FixedBytes<96>;

const OPERATOR: OperatorIndex = OperatorIndex(0);

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/bls-min-pk.json")).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    hex::decode(hex.as_str().unwrap()).unwrap()
}

fn share_secret(secret: &[u8]) -> Dealing {
    split(&SecretKey::from_bytes(secret).unwrap(), 3, 4).unwrap()
}

fn sign(dealing: &Dealing, message: &[u8], signers: &[usize]) -> Vec<(OperatorIndex, Signature)> {
    let shares = signers.iter().map(|signer| &dealing.secret_shares[*signer]);
    shares.map(|share| (share.operator(), share.sign(message))).collect()
}

#[test]
fn every_quorum_makes_the_signature_of_the_vectors_that_the_shared_secret_makes() {
    for case in vectors()["sign"].as_array().unwrap() {
        let (secret, message) = (bytes(&case["secret"]), bytes(&case["message"]));
        if case["signature"].is_null() {
            assert!(SecretShare::from_bytes(OPERATOR, &secret).is_err());
            continue;
        }
        let expected = Signature::from_slice(&bytes(&case["signature"]));
        let alone = SecretShare::from_bytes(OPERATOR, &secret).unwrap();
        assert_eq!(alone.sign(&message), expected);

        let dealing = share_secret(&secret);
        assert_eq!(dealing.group_key.to_bytes(), alone.public().to_bytes());
        for quorum in [[0, 1, 2], [0, 1, 3], [0, 2, 3], [3, 2, 1]] {
            let shares = sign(&dealing, &message, &quorum);
            assert_eq!(combine::<MinPk>(3, &shares), Ok(expected), "{quorum:?}");
        }
        assert_eq!(dealing.group_key.verify(&message, &expected), Ok(()));
        assert_eq!(dealing.group_key.verify(b"another", &expected), Err(Error::BadSignature));
        let few = combine::<MinPk>(2, &sign(&dealing, &message, &[0, 1])).unwrap();
        assert_eq!(dealing.group_key.verify(&message, &few), Err(Error::BadSignature));
    }
}

#[test]
fn a_validator_key_shared_among_operators_signs_an_attestation_as_it_did() {
    let known = &vectors()["interop_key_0"];
    let (secret, root) = (bytes(&known["secret"]), bytes(&known["signing_root"]));
    let dealing = share_secret(&secret);
    assert_eq!(dealing.group_key.to_bytes().as_slice(), bytes(&known["public"]));
    let signature = combine::<MinPk>(3, &sign(&dealing, &root, &[1, 2, 3])).unwrap();
    assert_eq!(signature.as_slice(), bytes(&known["signature"]));

    let plain = min_pk::SecretKey::from_bytes(&secret).unwrap().sign(&root, MinPk::CIPHERSUITE, &[]);
    assert_eq!(signature.0, plain.compress());
}

#[test]
fn a_wrong_partial_signature_is_blamed_and_the_good_ones_make_the_signature() {
    let dealing: Dealing = deal(3, 4).unwrap();
    let combiner = Combiner::new(3, dealing.group_key, dealing.public_shares.clone());
    let mut shares = sign(&dealing, b"m", &[0, 1, 2, 3]);
    let signature = combiner.sign(b"m", &shares).unwrap().signature;
    shares[1].1 = dealing.secret_shares[1].sign(b"something else");
    let bad = vec![OperatorIndex(1)];
    assert_eq!(combiner.sign(b"m", &shares), Ok(Combined { signature, bad: bad.clone() }));
    assert_eq!(combiner.sign(b"m", &shares[..3]), Ok(Combined { signature: None, bad }));
}

#[test]
fn only_points_of_the_subgroup_that_are_not_the_identity_are_keys() {
    for case in vectors()["keys"].as_array().unwrap() {
        let name = case["case"].as_str().unwrap();
        // Of another length than a key: no type holds it.
        let Ok(key) = <[u8; 48]>::try_from(bytes(&case["bytes"])) else { continue };
        let refused = |reason| Err(Error::InvalidKey { what: "group key", reason });
        let read = GroupKey::from_bytes(&key).map(|key| key.to_bytes());
        match name {
            "succeeds_correct_point" => assert_eq!(read, Ok(key)),
            "succeeds_infinity_with_true_b_flag" => assert_eq!(read, refused("the identity point")),
            "fails_not_in_G1" => assert_eq!(read, refused("a point outside the subgroup")),
            "fails_not_in_curve" => assert_eq!(read, refused("a point outside the curve")),
            _ => assert_eq!(read, refused("not a compressed point"), "{name}"),
        }
        assert_eq!(PublicShare::from_bytes(OPERATOR, &key).is_ok(), read.is_ok(), "{name}");
    }
}

#[test]
fn only_points_of_the_subgroup_that_are_not_the_identity_are_signatures() {
    let dealing: Dealing = deal(1, 1).unwrap();
    let combiner = Combiner::new(1, dealing.group_key, dealing.public_shares.clone());
    for case in vectors()["signatures"].as_array().unwrap() {
        let name = case["case"].as_str().unwrap();
        let Ok(signature) = Signature::try_from(bytes(&case["bytes"]).as_slice()) else { continue };
        let is_on_curve = name == "fails_not_in_G2" || name == "succeeds_infinity_with_true_b_flag";
        assert_eq!(min_pk::Signature::uncompress(signature.as_slice()).is_ok(), is_on_curve, "{name}");
        assert_eq!(dealing.group_key.verify(b"m", &signature), Err(Error::MalformedSeal), "{name}");
        let blamed = Combined { signature: None, bad: vec![OPERATOR] };
        assert_eq!(combiner.sign(b"m", &[(OPERATOR, signature)]), Ok(blamed), "{name}");
    }
}

#[test]
fn public_shares_of_a_validator_key_lie_on_one_polynomial() {
    let (dealing, other): (Dealing, Dealing) = (deal(5, 7).unwrap(), deal(5, 7).unwrap());
    let mut shares = dealing.public_shares.clone();
    assert_eq!(shares_on_one_polynomial(&dealing.group_key, &shares, 5), Ok(()));
    shares[4] = other.public_shares[4];
    let foreign = Some("the share of operator 4".into());
    let refused = shares_on_one_polynomial(&dealing.group_key, &shares, 5);
    assert_eq!(refused, Err(Error::NotOnePolynomial { foreign }));
}

#[test]
fn one_secret_signs_differently_in_each_scheme() {
    let secret = [7; 32];
    let validator = SecretShare::from_bytes(OPERATOR, &secret).unwrap();
    let chain = crate::seal::SecretShare::from_bytes(OPERATOR, &secret).unwrap();
    assert_eq!(validator.to_bytes(), chain.to_bytes());
    assert_ne!(MinPk::CIPHERSUITE, MinSig::CIPHERSUITE);
    assert_eq!(validator.public().verify(b"m", &validator.sign(b"m")), Ok(()));
    assert_eq!(chain.public().verify(b"m", &chain.sign(b"m")), Ok(()));
    assert!(!format!("{validator:?}").contains("0707"));
}
