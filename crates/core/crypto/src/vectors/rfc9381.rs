//! RFC 9381, appendix B.3: ECVRF-EDWARDS25519-SHA512-TAI.

use super::{bytes, run};
use crate::Error;
use crate::ecvrf::{PROOF_BYTES, PublicVrfKey, VrfKey, VrfProof};
use serde_json::Value;

/// The group order, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[test]
fn e1_vectors_of_rfc_9381_are_proven_exactly_and_every_change_of_a_proof_is_refused() {
    let cases = run("rfc9381", |vector| {
        let cases = vector.json["cases"].as_array().unwrap_or_else(|| panic!("{}: no cases", vector.name));
        cases.iter().for_each(check);
        cases.len()
    });
    assert_eq!(cases, 3);
}

fn check(case: &Value) {
    let field = |name: &str| bytes(&case[name]);
    let (input, proof) = (field("alpha"), field("pi"));
    let key = VrfKey::from_seed(&field("sk").try_into().unwrap());
    assert_eq!(key.public().to_bytes().as_slice(), field("pk"));
    assert_eq!(key.prove(&input).to_bytes().as_slice(), proof);
    assert_eq!(key.prove(&input).to_hash().0.as_slice(), field("beta"));

    let public = PublicVrfKey::from_bytes(&field("pk").try_into().unwrap()).unwrap();
    let verify = |bytes: &[u8]| public.verify(&input, &VrfProof::from_bytes(bytes)?);
    assert_eq!(verify(&proof).map(|output| output.0.to_vec()), Ok(field("beta")));
    for bit in 0..8 * PROOF_BYTES {
        let mut flipped = proof.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&flipped).is_err(), "bit {bit}");
    }
    let malformed = |reason| Err(Error::MalformedProof(reason));
    assert_eq!(verify(&plus_order(&proof)), malformed("s is not below the group order"));
    assert_eq!(verify(&proof[..PROOF_BYTES - 1]), malformed("not 80 bytes"));
    assert_eq!(verify(&[proof.as_slice(), &[0]].concat()), malformed("not 80 bytes"));
}

/// The same proof with another number for the same `s`.
fn plus_order(proof: &[u8]) -> Vec<u8> {
    let mut bytes = proof.to_vec();
    let mut carry = 0u16;
    for (byte, order) in bytes[48..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = carry as u8;
        carry >>= 8;
    }
    assert_eq!(carry, 0, "s + q fits into 32 bytes");
    bytes
}
