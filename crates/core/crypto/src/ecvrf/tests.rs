use super::*;
use proptest::prelude::*;

fn key() -> VrfKey {
    VrfKey::from_seed(&[7; 32])
}

#[test]
fn a_proof_holds_for_its_key_and_input_only() {
    let (key, other) = (key(), VrfKey::from_seed(&[8; 32]));
    let proof = key.prove(b"height 7");
    assert_eq!(key.public().verify(b"height 7", &proof), Ok(proof.to_hash()));
    assert_eq!(key.public().verify(b"height 8", &proof), Err(Error::BadProof));
    assert_eq!(other.public().verify(b"height 7", &proof), Err(Error::BadProof));
    assert_ne!(key.prove(b"height 8").to_hash(), proof.to_hash());
    assert_ne!(other.prove(b"height 7").to_hash(), proof.to_hash());
}

#[test]
fn one_input_has_one_proof() {
    assert_eq!(key().prove(b"input"), key().prove(b"input"));
    let read = VrfProof::from_bytes(&key().prove(b"input").to_bytes());
    assert_eq!(read, Ok(key().prove(b"input")));
}

#[test]
fn a_key_survives_its_encoding() {
    let key = VrfKey::generate().unwrap();
    assert_eq!(VrfKey::from_seed(&key.seed()).public(), key.public());
    assert_eq!(PublicVrfKey::from_bytes(&key.public().to_bytes()), Ok(key.public()));
}

#[test]
fn debug_output_does_not_contain_the_seed() {
    let shown = format!("{:?}", VrfKey::from_seed(&[0x2b; 32]));
    assert!(!shown.contains("2b2b") && !shown.contains("43, 43"), "{shown}");
}

#[test]
fn e1_a_key_of_small_order_is_refused() {
    let refused = |reason| Err(Error::InvalidKey { what: "vrf key", reason });
    for point in curve25519_dalek::constants::EIGHT_TORSION {
        let bytes = point.compress().to_bytes();
        assert_eq!(PublicVrfKey::from_bytes(&bytes), refused("of small order"), "{}", hex::encode(bytes));
    }
    // The same points once more, with y increased by the field order, or with a sign where x is 0.
    let mut largest = [0xff; 32];
    largest[0] = 0xed;
    largest[31] = 0x7f;
    let mut identity_with_sign = [0; 32];
    (identity_with_sign[0], identity_with_sign[31]) = (1, 0x80);
    for offset in [0, 1] {
        let mut bytes = largest;
        bytes[0] += offset;
        assert_eq!(PublicVrfKey::from_bytes(&bytes), refused("not a canonical point of the curve"));
    }
    let not_canonical = PublicVrfKey::from_bytes(&identity_with_sign);
    assert_eq!(not_canonical, refused("not a canonical point of the curve"));
}

#[test]
fn e1_a_proof_for_a_small_order_key_cannot_even_be_asked_about() {
    // With the identity as key, s = k and Γ = identity satisfy the equation for every input.
    let identity =
        PublicVrfKey { point: EdwardsPoint::default(), bytes: EdwardsPoint::default().compress().0 };
    let hash = identity.encode_to_curve(b"any");
    let nonce = Scalar::from(5u64);
    let gamma = EdwardsPoint::default();
    let (u, v) = (EdwardsPoint::mul_base(&nonce), hash * nonce);
    let challenge = identity.challenge(&hash.compress().to_bytes(), &gamma, &u, &v);
    let forged = VrfProof { gamma, challenge, response: nonce };
    assert!(identity.verify(b"any", &forged).is_ok(), "the equation alone does not tell");
    assert!(PublicVrfKey::from_bytes(&identity.bytes).is_err());
}

#[test]
fn e1_a_proof_of_an_old_draft_is_refused() {
    // The first example of draft-irtf-cfrg-vrf-03: of the same key and input as the RFC's.
    let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
    let proof = concat!(
        "9275df67a68c8745c0ff97b48201ee6db447f7c93b23ae24cdc2400f52fdb08a1a6ac7ec71bf9c9c",
        "76e96ee4675ebff60625af28718501047bfd87b810c2d2139b73c23bd69de66360953a642c2a330a",
    );
    let proof = VrfProof::from_bytes(&hex::decode(proof).unwrap()).unwrap();
    let old_key = VrfKey::from_seed(&seed.try_into().unwrap());
    assert_eq!(old_key.public().verify(b"", &proof), Err(Error::BadProof));

    // A challenge over four points, without the key and the trailing octet.
    let (key, input) = (key(), b"input");
    let hash = key.public.encode_to_curve(input);
    let hash_bytes = hash.compress().to_bytes();
    let gamma = hash * key.secret.scalar;
    let nonce = key.nonce(&hash_bytes);
    let mut hasher = Sha512::new_with_prefix([SUITE, CHALLENGE]);
    hasher.update(hash_bytes);
    for point in [gamma, EdwardsPoint::mul_base(&nonce), hash * nonce] {
        hasher.update(point.compress().as_bytes());
    }
    let mut challenge = [0; CHALLENGE_BYTES];
    challenge.copy_from_slice(&hasher.finalize()[..CHALLENGE_BYTES]);
    let response = nonce + scalar_of(&challenge) * key.secret.scalar;
    let old = VrfProof { gamma, challenge, response };
    assert_eq!(key.public().verify(input, &old), Err(Error::BadProof));
    assert_eq!(old.to_hash(), key.prove(input).to_hash(), "all but the challenge is right");
}

#[test]
fn e1_a_gamma_with_a_part_of_small_order_is_refused() {
    let (key, input) = (key(), b"input");
    let honest = key.prove(input);
    for torsion in &curve25519_dalek::constants::EIGHT_TORSION[1..] {
        let moved = VrfProof { gamma: honest.gamma + torsion, ..honest };
        assert_eq!(key.public().verify(input, &moved), Err(Error::BadProof));
        assert_eq!(moved.to_hash(), honest.to_hash(), "the output would have been the same");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_input_is_proven_and_verified(seed in any::<[u8; 32]>(), input in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = VrfKey::from_seed(&seed);
        let proof = VrfProof::from_bytes(&key.prove(&input).to_bytes()).unwrap();
        prop_assert_eq!(key.public().verify(&input, &proof), Ok(proof.to_hash()));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 78..83)) {
        prop_assert!(bytes.len() == PROOF_BYTES || VrfProof::from_bytes(&bytes).is_err());
        let _ = VrfProof::from_bytes(&bytes);
    }
}
