use super::*;
use aequa_types::OperatorIndex;
use proptest::prelude::*;

fn secret<S: Scheme>(seed: u8) -> SecretKey<S> {
    SecretKey::from_bytes(&[seed; 32]).unwrap()
}

fn proven<S: Scheme>(seed: u8) -> ProvenKey<S> {
    let secret = secret::<S>(seed);
    secret.public().proven(&secret.prove_possession()).unwrap()
}

/// `signers` keys, each with its message and signature.
fn signed<S: Scheme>(messages: &[[u8; 4]]) -> Vec<(PublicKey<S>, S::Signature)> {
    let of = |(seed, message): (u8, &[u8; 4])| {
        let secret = secret::<S>(seed);
        (secret.public(), secret.sign(message))
    };
    (1..).zip(messages).map(of).collect()
}

fn sets<'a, S: Scheme>(
    messages: &'a [[u8; 4]],
    signed: &[(PublicKey<S>, S::Signature)],
) -> Vec<SignatureSet<'a, S>> {
    let of = |(message, (key, signature)): (&'a [u8; 4], &(PublicKey<S>, S::Signature))| SignatureSet {
        key: *key,
        message: message.as_slice(),
        signature: *signature,
    };
    messages.iter().zip(signed).map(of).collect()
}

fn messages(count: u32) -> Vec<[u8; 4]> {
    (0..count).map(u32::to_be_bytes).collect()
}

/// Runs a test in both schemes.
macro_rules! in_both_schemes {
    ($($name:ident => $generic:ident;)*) => {$(
        #[test]
        fn $name() {
            $generic::<MinSig>();
            $generic::<MinPk>();
        }
    )*};
}

in_both_schemes! {
    a_signature_verifies_under_its_own_key_and_message_only => single;
    an_aggregate_holds_for_its_keys_and_messages_only => distinct_messages;
    an_aggregate_of_one_message_holds_for_exactly_its_keys => one_message;
    d2_an_empty_aggregate_is_refused => empty;
    d2_a_rogue_key_signs_for_all_unless_possession_is_proven => rogue;
    a_proof_of_possession_is_of_one_key_and_no_signature => possession;
    a_batch_holds_exactly_if_each_signature_does => batch;
    errors_that_cancel_in_a_sum_do_not_pass_a_batch => cancelling;
    what_is_no_signature_at_all_is_blamed_as_well => malformed;
    a_key_survives_its_encoding_and_is_not_shown => encoding;
    keys_that_cancel_have_no_sum => cancelling_keys;
}

fn single<S: Scheme>() {
    let key = SecretKey::<S>::generate().unwrap();
    let signature = key.sign(b"m");
    assert_eq!(key.public().verify(b"m", &signature), Ok(()));
    assert_eq!(key.public().verify(b"n", &signature), Err(Error::BadSignature));
    assert_eq!(secret::<S>(1).public().verify(b"m", &signature), Err(Error::BadSignature));
}

fn distinct_messages<S: Scheme>() {
    let messages = messages(3);
    let signatures: Vec<S::Signature> =
        signed::<S>(&messages).iter().map(|(_, signature)| *signature).collect();
    let mut pairs: Vec<(ProvenKey<S>, &[u8])> =
        (1..).zip(&messages).map(|(seed, message)| (proven(seed), message.as_slice())).collect();
    let sum = aggregate::<S>(&signatures).unwrap();
    assert_eq!(aggregate_verify(&pairs, &sum), Ok(()));
    assert_eq!(aggregate_verify(&pairs[..2], &sum), Err(Error::BadSignature));
    assert_eq!(aggregate_verify(&pairs[..2], &aggregate::<S>(&signatures[..2]).unwrap()), Ok(()));
    assert_eq!(aggregate_verify(&pairs[..1], &signatures[0]), Ok(()));
    (pairs[0].1, pairs[1].1) = (pairs[1].1, pairs[0].1);
    assert_eq!(aggregate_verify(&pairs, &sum), Err(Error::BadSignature));
}

fn one_message<S: Scheme>() {
    let keys: Vec<ProvenKey<S>> = (1..=4).map(proven).collect();
    let signatures: Vec<S::Signature> = (1..=4).map(|seed| secret::<S>(seed).sign(b"m")).collect();
    let sum = aggregate::<S>(&signatures[..3]).unwrap();
    assert_eq!(fast_aggregate_verify(&keys[..3], b"m", &sum), Ok(()));
    assert_eq!(fast_aggregate_verify(&keys, b"m", &sum), Err(Error::BadSignature));
    assert_eq!(fast_aggregate_verify(&keys[..2], b"m", &sum), Err(Error::BadSignature));
    assert_eq!(fast_aggregate_verify(&keys[..3], b"n", &sum), Err(Error::BadSignature));
    let twice = aggregate::<S>(&[signatures[0], signatures[0]]).unwrap();
    assert_eq!(fast_aggregate_verify(&[keys[0], keys[0]], b"m", &twice), Ok(()), "a set keeps this out");
}

fn empty<S: Scheme>() {
    let signature = secret::<S>(1).sign(b"m");
    assert_eq!(aggregate::<S>(&[]), Err(Error::NothingToAggregate));
    assert_eq!(aggregate_keys::<S>(&[]), Err(Error::NothingToAggregate));
    assert_eq!(aggregate_verify::<S>(&[], &signature), Err(Error::NothingToAggregate));
    assert_eq!(fast_aggregate_verify::<S>(&[], b"m", &signature), Err(Error::NothingToAggregate));
    assert_eq!(Signers::from_list(&[], 4), Err(Error::NothingToAggregate));
    assert_eq!(Signers::from_bitmap(&[0], 4), Err(Error::NothingToAggregate));
    assert_eq!(verify_batch::<S>(&[]), Ok(()), "a batch claims nothing of its own");
    assert!(find_bad::<S>(&[]).is_empty());
}

/// The attacker publishes "own key minus the victim's", and signs for both alone.
fn rogue<S: Scheme>() {
    let (victim, attacker) = (secret::<S>(1), secret::<S>(5));
    let (one, zero) = (curve::Scalar::from_u64(1), curve::Scalar::from_u64(0));
    let terms = [(&attacker.public().point, &one), (&victim.public().point, &zero.sub(&one))];
    let point = curve::sum(terms.into_iter(), curve::SCALAR_BITS).unwrap();
    let rogue = PublicKey::<S> { point };

    let forged = attacker.sign(b"m");
    let unproven = [victim.public().proven_elsewhere(), rogue.proven_elsewhere()];
    assert_eq!(fast_aggregate_verify(&unproven, b"m", &forged), Ok(()), "without a proof the forgery works");

    // All that the attacker can make: proofs of keys whose secret it has, and signatures of the rogue key's bytes.
    let of_rogue_bytes = Possession(attacker.sign(rogue.to_bytes().as_ref()));
    for attempt in [attacker.prove_possession(), victim.prove_possession(), of_rogue_bytes] {
        assert_eq!(rogue.proven(&attempt), Err(Error::BadSignature));
    }
}

fn possession<S: Scheme>() {
    let (one, two) = (secret::<S>(1), secret::<S>(2));
    let possession = one.prove_possession();
    assert_eq!(one.public().proven(&possession).unwrap().key(), &one.public());
    assert_eq!(two.public().proven(&possession), Err(Error::BadSignature));
    let key = one.public().to_bytes();
    assert_eq!(one.public().verify(key.as_ref(), &possession.0), Err(Error::BadSignature));
    let signature = Possession(one.sign(key.as_ref()));
    assert_eq!(one.public().proven(&signature), Err(Error::BadSignature));
    assert_ne!(S::CIPHERSUITE, S::POSSESSION);
}

fn batch<S: Scheme>() {
    let messages = messages(9);
    let signed = signed::<S>(&messages);
    let good = sets(&messages, &signed);
    for size in 0..=good.len() {
        assert_eq!(verify_batch(&good[..size]), Ok(()));
        assert!(find_bad(&good[..size]).is_empty());
    }
    for bad in [vec![0], vec![8], vec![3, 4], vec![0, 2, 4, 6, 8], (0..9).collect()] {
        let mut sets = good.clone();
        for position in &bad {
            sets[*position].signature = secret::<S>(99).sign(sets[*position].message);
        }
        assert_eq!(verify_batch(&sets), Err(Error::BadSignature), "{bad:?}");
        assert_eq!(find_bad(&sets), bad);
    }
}

/// Two signatures exchanged, or one moved by what the other lacks: their sum is right.
fn cancelling<S: Scheme>() {
    let messages = messages(4);
    let signed = signed::<S>(&messages);
    let mut sets = sets(&messages, &signed);
    (sets[1].signature, sets[2].signature) = (sets[2].signature, sets[1].signature);
    let sum: Vec<S::Signature> = sets.iter().map(|set| set.signature).collect();
    let pairs: Vec<(ProvenKey<S>, &[u8])> =
        sets.iter().map(|set| (set.key.proven_elsewhere(), set.message)).collect();
    assert_eq!(aggregate_verify(&pairs, &aggregate::<S>(&sum).unwrap()), Ok(()));
    assert_eq!(verify_batch(&sets), Err(Error::BadSignature));
    assert_eq!(find_bad(&sets), [1, 2]);
}

fn malformed<S: Scheme>() {
    let messages = messages(4);
    let signed = signed::<S>(&messages);
    let mut sets = sets(&messages, &signed);
    sets[2].signature = S::Point::IDENTITY.compress().into();
    assert_eq!(verify_batch(&sets), Err(Error::MalformedSeal));
    assert_eq!(find_bad(&sets), [2]);
    assert_eq!(find_bad(&sets[2..3]), [0]);
    sets[0].signature = sets[1].signature;
    assert_eq!(find_bad(&sets), [0, 2]);
}

fn encoding<S: Scheme>() {
    let key = secret::<S>(0x2b);
    let read = SecretKey::<S>::from_bytes(key.to_bytes().as_slice()).unwrap();
    assert_eq!(read.public(), key.public());
    assert_eq!(PublicKey::<S>::from_bytes(&key.public().to_bytes()), Ok(key.public()));
    let shown = format!("{key:?}");
    assert!(!shown.contains("2b2b") && !shown.contains("43, 43"), "{shown}");
    for wrong in [&[0; 32][..], &[0xff; 32], &[1; 31], &[1; 33], &[]] {
        assert!(SecretKey::<S>::from_bytes(wrong).is_err());
    }
}

fn cancelling_keys<S: Scheme>() {
    let key = secret::<S>(1).public();
    let minus_one = curve::Scalar::from_u64(0).sub(&curve::Scalar::from_u64(1));
    let point = curve::sum([(&key.point, &minus_one)].into_iter(), curve::SCALAR_BITS).unwrap();
    let keys = [key, PublicKey::<S> { point }].map(PublicKey::proven_elsewhere);
    let refused = Error::InvalidKey { what: "sum of keys", reason: "the identity point" };
    assert_eq!(aggregate_keys(&keys), Err(refused.clone()));
    let identity = S::Point::IDENTITY.compress().into();
    assert_eq!(fast_aggregate_verify(&keys, b"m", &identity), Err(refused));
}

#[test]
fn d2_a_duplicate_or_out_of_range_signer_is_refused() {
    let operators = |list: &[u8]| list.iter().copied().map(OperatorIndex).collect::<Vec<_>>();
    let of_list = |list: &[u8], members| Signers::from_list(&operators(list), members);
    assert_eq!(of_list(&[2, 0, 3], 4).unwrap().as_slice(), operators(&[0, 2, 3]));
    assert_eq!(of_list(&[2, 0, 2], 4), Err(Error::DuplicateSigner(OperatorIndex(2))));
    assert_eq!(of_list(&[0, 4], 4), Err(Error::ForeignSigner(OperatorIndex(4))));

    assert_eq!(Signers::from_bitmap(&[0b1101], 4), of_list(&[0, 2, 3], 4));
    assert_eq!(Signers::from_bitmap(&[0, 0b10], 10), of_list(&[9], 10));
    assert_eq!(Signers::from_bitmap(&[0b1_0001], 4), Err(Error::ForeignSigner(OperatorIndex(4))));
    assert_eq!(Signers::from_bitmap(&[1, 0b1000_0000], 15), Err(Error::ForeignSigner(OperatorIndex(15))));
    for (bitmap, members) in [(&[][..], 4), (&[1, 0], 4), (&[1], 9), (&[1; 13], 101), (&[], 0)] {
        assert!(Signers::from_bitmap(bitmap, members).is_err(), "{bitmap:?} of {members}");
    }
    assert_eq!(Signers::from_bitmap(&[0xff; 13], 100), Err(Error::ForeignSigner(OperatorIndex(103))));
    assert_eq!(Signers::from_bitmap(&[0xff; 12], 96).unwrap().as_slice().len(), 96);

    let signers = of_list(&[1, 3], 4).unwrap();
    assert_eq!(signers.of(&["a", "b", "c", "d"]), Ok(vec!["b", "d"]));
    assert!(signers.of(&["a", "b", "c"]).is_err(), "of a group of another size");
}

#[test]
fn the_tags_of_the_ciphersuites_stay_as_they_are() {
    assert_eq!(MinSig::CIPHERSUITE, b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_");
    assert_eq!(MinSig::POSSESSION, b"BLS_POP_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_");
    assert_eq!(MinPk::CIPHERSUITE, b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_");
    assert_eq!(MinPk::POSSESSION, b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_");
}

#[test]
fn the_identity_adds_nothing_to_an_aggregate_and_is_no_signature_of_its_own() {
    let identity: <MinPk as Scheme>::Signature = <MinPk as Scheme>::Point::IDENTITY.compress().into();
    let (key, signature) = (proven::<MinPk>(1), secret::<MinPk>(1).sign(b"m"));
    assert_eq!(aggregate::<MinPk>(&[identity]), Ok(identity));
    assert_eq!(aggregate::<MinPk>(&[identity, signature]), Ok(signature));
    assert_eq!(fast_aggregate_verify(&[key], b"m", &identity), Err(Error::MalformedSeal));
    assert_eq!(aggregate_verify(&[(key, b"m")], &identity), Err(Error::MalformedSeal));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn bisection_names_exactly_the_bad_ones(pattern in proptest::collection::vec(any::<bool>(), 1..20)) {
        let messages = messages(pattern.len() as u32);
        let signed = signed::<MinSig>(&messages);
        let mut sets = sets(&messages, &signed);
        for (set, is_bad) in sets.iter_mut().zip(&pattern) {
            if *is_bad {
                set.signature = secret::<MinSig>(77).sign(set.message);
            }
        }
        let expected: Vec<usize> = (0..pattern.len()).filter(|position| pattern[*position]).collect();
        prop_assert_eq!(verify_batch(&sets).is_ok(), expected.is_empty());
        prop_assert_eq!(find_bad(&sets), expected);
    }
}
