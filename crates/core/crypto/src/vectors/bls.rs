//! `ethereum/bls12-381-tests`, one case in a file of a folder per function, and Wycheproof's files of the scheme.

use super::{Vector, bytes, run};
use crate::bls::curve::Point;
use crate::bls::{
    KeyBytes, MinPk, MinSig, ProvenKey, PublicKey, Scheme, SecretKey, SignatureSet, aggregate,
    aggregate_verify, fast_aggregate_verify, find_bad, parse_key, verify_batch, verify_sum,
};
use blst::min_pk;
use serde_json::Value;

type Signature = <MinPk as Scheme>::Signature;

#[test]
fn d1_vectors_of_aggregate() {
    assert_eq!(run("bls/aggregate", one(aggregate_case)), 5);
}

#[test]
fn d1_vectors_of_aggregate_verify() {
    assert_eq!(run("bls/aggregate_verify", one(aggregate_verify_case)), 4);
}

#[test]
fn d1_vectors_of_fast_aggregate_verify() {
    assert_eq!(run("bls/fast_aggregate_verify", one(fast_aggregate_verify_case)), 9);
}

#[test]
fn d1_vectors_of_batch_verify() {
    assert_eq!(run("bls/batch_verify", one(batch_verify_case)), 3);
}

#[test]
fn d1_vectors_of_deserialization_in_g1() {
    let deserializes = |input: &Value| is_point::<<MinPk as Scheme>::Key>(&bytes(&input["pubkey"]));
    assert_eq!(run("bls/deserialization_G1", one(deserializes)), 12);
}

#[test]
fn d1_vectors_of_deserialization_in_g2() {
    let deserializes = |input: &Value| is_point::<<MinPk as Scheme>::Point>(&bytes(&input["signature"]));
    assert_eq!(run("bls/deserialization_G2", one(deserializes)), 13);
}

#[test]
fn d1_vectors_of_hash_to_g2() {
    assert_eq!(run("bls/hash_to_G2", one(hash_case)), 3);
}

#[test]
fn d1_vectors_of_sign() {
    assert_eq!(run("bls/sign", one(sign_case)), 8);
}

#[test]
fn d1_vectors_of_verify() {
    assert_eq!(run("bls/verify", one(verify_case)), 21);
}

/// None are in the repository.
#[test]
fn d1_vectors_of_wycheproof() {
    assert_eq!(run("wycheproof", wycheproof), 0);
    assert_eq!(run("bls/wycheproof", wycheproof), 0);
}

#[test]
fn d1_vectors_are_of_functions_that_are_tested() {
    let tested = [
        "aggregate",
        "aggregate_verify",
        "fast_aggregate_verify",
        "batch_verify",
        "deserialization_G1",
        "deserialization_G2",
        "hash_to_G2",
        "sign",
        "verify",
        "wycheproof",
    ];
    let cases = run("bls", |vector| {
        let folder = vector.name.rsplit('/').nth(1).unwrap_or_default();
        assert!(tested.contains(&folder), "{}: no test of this function", vector.name);
        1
    });
    assert_eq!(cases, 78);
}

/// Runs a file with one case: what a function gives for its input.
fn one<T: Into<Value>>(function: impl Fn(&Value) -> T) -> impl FnMut(&Vector) -> usize {
    move |vector| {
        let actual: Value = function(&vector.json["input"]).into();
        assert_eq!(actual, vector.json["output"], "{}", vector.name);
        1
    }
}

fn aggregate_case(input: &Value) -> Value {
    let signatures: Option<Vec<Signature>> = list(input).iter().map(signature).collect();
    hex_or_null(signatures.and_then(|signatures| aggregate::<MinPk>(&signatures).ok()))
}

fn aggregate_verify_case(input: &Value) -> bool {
    let messages: Vec<Vec<u8>> = list(&input["messages"]).iter().map(bytes).collect();
    let keys: Option<Vec<ProvenKey<MinPk>>> = list(&input["pubkeys"]).iter().map(proven).collect();
    let (Some(keys), Some(signature)) = (keys, signature(&input["signature"])) else { return false };
    let pairs: Vec<(ProvenKey<MinPk>, &[u8])> =
        keys.into_iter().zip(messages.iter().map(Vec::as_slice)).collect();
    pairs.len() == messages.len() && aggregate_verify(&pairs, &signature).is_ok()
}

fn fast_aggregate_verify_case(input: &Value) -> bool {
    let keys: Option<Vec<ProvenKey<MinPk>>> = list(&input["pubkeys"]).iter().map(proven).collect();
    let (Some(keys), Some(signature)) = (keys, signature(&input["signature"])) else { return false };
    fast_aggregate_verify(&keys, &bytes(&input["message"]), &signature).is_ok()
}

fn batch_verify_case(input: &Value) -> bool {
    let messages: Vec<Vec<u8>> = list(&input["messages"]).iter().map(bytes).collect();
    let keys: Option<Vec<PublicKey<MinPk>>> = list(&input["pubkeys"]).iter().map(key).collect();
    let signatures: Option<Vec<Signature>> = list(&input["signatures"]).iter().map(signature).collect();
    let (Some(keys), Some(signatures)) = (keys, signatures) else { return false };
    if keys.len() != messages.len() || keys.len() != signatures.len() {
        return false;
    }
    let rows = keys.into_iter().zip(&messages).zip(signatures);
    let sets: Vec<SignatureSet<'_, MinPk>> =
        rows.map(|((key, message), signature)| SignatureSet { key, message, signature }).collect();
    let holds = verify_batch(&sets).is_ok();
    assert_eq!(find_bad(&sets).is_empty(), holds);
    holds
}

/// The identity is a point, though neither a key nor a signature.
fn is_point<P: Point>(bytes: &[u8]) -> bool {
    P::uncompress(bytes).is_ok_and(|point| point.is_identity() || point.validate().is_ok())
}

fn hash_case(input: &Value) -> Value {
    const TAG: &str = "QUUX-V01-CS02-with-BLS12381G2_XMD:SHA-256_SSWU_RO_";
    let point = hash(TAG, input["msg"].as_str().unwrap().as_bytes());
    let serialized = hex::encode(min_pk::Signature::from(point).serialize());
    // x and y, of each the imaginary part first.
    let part = |index: usize| format!("0x{}", &serialized[96 * index..96 * (index + 1)]);
    serde_json::json!({
        "x": format!("{},{}", part(1), part(0)),
        "y": format!("{},{}", part(3), part(2)),
    })
}

/// The signature that the secret 1 makes is the hash.
fn hash(tag: &str, message: &[u8]) -> <MinPk as Scheme>::Point {
    let mut one = [0; 32];
    one[31] = 1;
    MinPk::sign(&MinPk::secret(&one).unwrap(), message, tag.as_bytes())
}

fn sign_case(input: &Value) -> Value {
    let key = SecretKey::<MinPk>::from_bytes(&bytes(&input["privkey"]));
    hex_or_null(key.ok().map(|key| key.sign(&bytes(&input["message"]))))
}

fn verify_case(input: &Value) -> bool {
    let (Some(key), Some(signature)) = (key(&input["pubkey"]), signature(&input["signature"])) else {
        return false;
    };
    key.verify(&bytes(&input["message"]), &signature).is_ok()
}

/// Signatures and aggregates, under the tag that the file names and in the group that the keys are of.
fn wycheproof(vector: &Vector) -> usize {
    let mut cases = 0;
    for group in list(&vector.json["testGroups"]) {
        let tag = group["ciphersuite"].as_str().or(group["dst"].as_str());
        let tag = tag.unwrap_or_else(|| panic!("{}: no ciphersuite", vector.name));
        for case in list(&group["tests"]) {
            let holds = match (group["type"].as_str(), tag.contains("BLS12381G1")) {
                (Some("BlsSigVerify"), false) => wycheproof_one::<MinPk>(tag, group, case),
                (Some("BlsSigVerify"), true) => wycheproof_one::<MinSig>(tag, group, case),
                (Some("BlsAggregateVerify"), false) => wycheproof_sum::<MinPk>(tag, case),
                (Some("BlsAggregateVerify"), true) => wycheproof_sum::<MinSig>(tag, case),
                (Some("BlsHashToG2"), false) => {
                    hash(tag, &bytes(&case["msg"])).compress().as_slice() == bytes(&case["expected"])
                }
                (other, _) => panic!("{}: no test of {other:?}", vector.name),
            };
            let expected = case["result"] == "valid";
            assert_eq!(holds, expected, "{}: {}: {}", vector.name, case["tcId"], case["comment"]);
            cases += 1;
        }
    }
    cases
}

fn wycheproof_one<S: Scheme>(tag: &str, group: &Value, case: &Value) -> bool {
    sum_holds::<S>(tag, &[bytes(&group["publicKey"]["pk"])], &[bytes(&case["msg"])], &bytes(&case["sig"]))
}

fn wycheproof_sum<S: Scheme>(tag: &str, case: &Value) -> bool {
    let all = |field: &str| list(&case[field]).iter().map(bytes).collect::<Vec<_>>();
    sum_holds::<S>(tag, &all("pubkeys"), &all("messages"), &bytes(&case["sig"]))
}

fn sum_holds<S: Scheme>(tag: &str, keys: &[Vec<u8>], messages: &[Vec<u8>], signature: &[u8]) -> bool {
    let parse = |bytes: &Vec<u8>| parse_key::<S::Key>("key", &sized::<KeyBytes<S>>(bytes)?).ok();
    let Some(keys) = keys.iter().map(parse).collect::<Option<Vec<S::Key>>>() else { return false };
    let Some(signature) = sized::<<S::Point as Point>::Bytes>(signature) else { return false };
    if keys.is_empty() || keys.len() != messages.len() {
        return false;
    }
    let pairs = keys.iter().zip(messages.iter().map(Vec::as_slice));
    verify_sum::<S>(tag.as_bytes(), pairs, &signature.into()).is_ok()
}

/// The bytes as an array, if there are as many.
fn sized<B: for<'a> TryFrom<&'a [u8]>>(bytes: &[u8]) -> Option<B> {
    B::try_from(bytes).ok()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn key(hex: &Value) -> Option<PublicKey<MinPk>> {
    PublicKey::from_bytes(&bytes(hex).try_into().ok()?).ok()
}

fn proven(hex: &Value) -> Option<ProvenKey<MinPk>> {
    Some(key(hex)?.proven_elsewhere())
}

fn signature(hex: &Value) -> Option<Signature> {
    Signature::try_from(bytes(hex).as_slice()).ok()
}

fn hex_or_null(signature: Option<Signature>) -> Value {
    signature.map_or(Value::Null, |signature| format!("0x{}", hex::encode(signature)).into())
}
