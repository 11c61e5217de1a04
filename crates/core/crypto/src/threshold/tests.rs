mod dkg;
mod min_pk;

use super::seal::*;
use super::{MinSig, Scheme as _};
use crate::Error;
use crate::bls::curve;
use aequa_types::{
    ClusterId, Decision, DutyId, DutyKind, OperatorIndex, Round, Seal, Slot, Value, ValueBytes,
};
use blst::{BLST_ERROR, min_sig};
use proptest::prelude::*;

fn shares_of(dealing: &Dealing, message: &[u8], signers: &[u8]) -> Vec<(OperatorIndex, Seal)> {
    signers
        .iter()
        .map(|signer| {
            let share = &dealing.secret_shares[usize::from(*signer)];
            (share.operator(), share.sign(message))
        })
        .collect()
}

fn combiner(dealing: &Dealing, threshold: usize) -> Combiner {
    Combiner::new(threshold, dealing.group_key, dealing.public_shares.clone())
}

#[test]
fn d3_all_subsets_of_three_of_four_give_the_same_valid_seal() {
    let dealing = deal(3, 4).unwrap();
    let message = b"height 7";
    let subsets: [&[u8]; 6] = [&[0, 1, 2], &[0, 1, 3], &[0, 2, 3], &[1, 2, 3], &[3, 0, 2], &[0, 1, 2, 3]];
    let seals: Vec<Seal> =
        subsets.iter().map(|subset| combine(3, &shares_of(&dealing, message, subset)).unwrap()).collect();
    assert!(seals.iter().all(|seal| *seal == seals[0]));
    assert_eq!(dealing.group_key.verify(message, &seals[0]), Ok(()));
    assert_eq!(dealing.group_key.verify(b"height 8", &seals[0]), Err(Error::BadSignature));
}

#[test]
fn d3_fewer_shares_than_the_threshold_or_one_share_thrice_make_no_seal() {
    let dealing = deal(3, 4).unwrap();
    let shares = shares_of(&dealing, b"m", &[0, 1]);
    assert_eq!(combine(3, &shares), Err(Error::TooFewShares { shares: 2, threshold: 3 }));
    assert_eq!(combine(3, &[]), Err(Error::TooFewShares { shares: 0, threshold: 3 }));
    assert_eq!(combine(0, &shares), Err(Error::TooFewShares { shares: 2, threshold: 0 }));
    let thrice = [shares[0], shares[0], shares[0]];
    assert_eq!(combine(3, &thrice), Err(Error::DuplicateShare(OperatorIndex(0))));
}

#[test]
fn two_shares_combined_as_two_of_two_are_not_the_seal() {
    let dealing = deal(3, 4).unwrap();
    let seal = combine(2, &shares_of(&dealing, b"m", &[0, 1])).unwrap();
    assert_eq!(dealing.group_key.verify(b"m", &seal), Err(Error::BadSignature));
}

#[test]
fn d3_shares_of_different_messages_do_not_add_up() {
    let dealing = deal(3, 4).unwrap();
    let mut shares = shares_of(&dealing, b"round 0", &[0, 1]);
    shares.extend(shares_of(&dealing, b"round 1", &[2]));
    let seal = combine(3, &shares).unwrap();
    assert!(dealing.group_key.verify(b"round 0", &seal).is_err());
    assert!(dealing.group_key.verify(b"round 1", &seal).is_err());
}

#[test]
fn d3_a_wrong_share_is_attributed_to_its_sender_and_the_good_ones_make_the_seal() {
    let dealing = deal(3, 4).unwrap();
    let combiner = combiner(&dealing, 3);
    let mut shares = shares_of(&dealing, b"m", &[0, 1, 2, 3]);
    shares[1].1 = dealing.secret_shares[1].sign(b"something else");
    let combined = combiner.sign(b"m", &shares).unwrap();
    assert_eq!(combined.bad, [OperatorIndex(1)]);
    assert_eq!(dealing.group_key.verify(b"m", &combined.signature.unwrap()), Ok(()));

    let combined = combiner.sign(b"m", &shares[..3]).unwrap();
    assert_eq!(combined, Combined { signature: None, bad: vec![OperatorIndex(1)] });

    shares[1].1 = Seal::repeat_byte(0x11);
    assert_eq!(combiner.sign(b"m", &shares).unwrap().bad, [OperatorIndex(1)], "not even a point");
}

#[test]
fn good_shares_are_sealed_at_the_first_attempt_with_remembered_coefficients() {
    let dealing = deal(3, 4).unwrap();
    let combiner = combiner(&dealing, 3);
    for height in 0..3u8 {
        let combined = combiner.sign(&[height], &shares_of(&dealing, &[height], &[2, 0, 3])).unwrap();
        assert_eq!(combined.bad, []);
        assert_eq!(dealing.group_key.verify(&[height], &combined.signature.unwrap()), Ok(()));
    }
    assert_eq!(combiner.combine(&shares_of(&dealing, b"m", &[1])).ok(), None);
}

#[test]
fn a_share_verifies_under_its_own_public_share_only() {
    let dealing = deal(3, 4).unwrap();
    let share = dealing.secret_shares[0].sign(b"m");
    assert_eq!(dealing.public_shares[0].verify(b"m", &share), Ok(()));
    assert_eq!(dealing.public_shares[1].verify(b"m", &share), Err(Error::BadSignature));
    assert_eq!(dealing.public_shares[0].verify(b"n", &share), Err(Error::BadSignature));
    assert_eq!(dealing.group_key.verify(b"m", &share), Err(Error::BadSignature));
}

#[test]
fn every_flipped_bit_of_a_seal_is_refused() {
    let dealing = deal(1, 1).unwrap();
    let seal = combine(1, &shares_of(&dealing, b"m", &[0])).unwrap();
    assert_eq!(dealing.group_key.verify(b"m", &seal), Ok(()));
    for bit in 0..384 {
        let mut forged = seal;
        forged.0[bit / 8] ^= 1 << (bit % 8);
        assert!(dealing.group_key.verify(b"m", &forged).is_err(), "bit {bit}");
    }
}

#[test]
fn d2_the_identity_is_neither_key_nor_share_nor_seal() {
    let mut key = [0u8; KEY_BYTES];
    key[0] = 0xc0;
    let refused = GroupKey::from_bytes(&key);
    assert_eq!(refused, Err(Error::InvalidKey { what: "group key", reason: "the identity point" }));
    assert!(PublicShare::from_bytes(OperatorIndex(0), &key).is_err());
    let mut seal = Seal::ZERO;
    seal.0[0] = 0xc0;
    let dealing = deal(1, 1).unwrap();
    assert_eq!(dealing.group_key.verify(b"m", &seal), Err(Error::MalformedSeal));
    assert_eq!(combine(1, &[(OperatorIndex(0), seal)]), Err(Error::MalformedSeal));
    assert!(SecretShare::from_bytes(OperatorIndex(0), &[0; 32]).is_err());
}

#[test]
fn d2_points_of_the_curve_outside_the_subgroup_are_refused() {
    // A random x is on the curve every other time and in the subgroup of G2 (cofactor ~2^507) never.
    let outside = (1..=255u8)
        .filter_map(|low| {
            let mut bytes = [0u8; KEY_BYTES];
            bytes[0] = 0x80;
            bytes[95] = low;
            min_sig::PublicKey::uncompress(&bytes).ok().map(|_| bytes)
        })
        .next()
        .unwrap();
    assert_eq!(
        GroupKey::from_bytes(&outside),
        Err(Error::InvalidKey { what: "group key", reason: "a point outside the subgroup" })
    );
    let outside = (1..=255u8)
        .filter_map(|low| {
            let mut seal = Seal::ZERO;
            seal.0[0] = 0x80;
            seal.0[47] = low;
            let point = min_sig::Signature::uncompress(&seal.0).ok()?;
            (!point.subgroup_check()).then_some(seal)
        })
        .next()
        .unwrap();
    let dealing = deal(1, 1).unwrap();
    assert_eq!(dealing.group_key.verify(b"m", &outside), Err(Error::MalformedSeal));
    // Combining judges no share; the sum is judged, and then the share that spoilt it.
    let shares = [(OperatorIndex(0), outside)];
    let sum = combine(1, &shares).unwrap();
    assert_eq!(dealing.group_key.verify(b"m", &sum), Err(Error::MalformedSeal));
    let combiner = Combiner::new(1, dealing.group_key, dealing.public_shares);
    let combined = combiner.sign(b"m", &shares).unwrap();
    assert_eq!(combined, Combined { signature: None, bad: vec![OperatorIndex(0)] });
}

#[test]
fn a_batch_holds_only_if_every_seal_does() {
    let dealing = deal(3, 4).unwrap();
    let mut batch: Vec<(Vec<u8>, Seal)> = (0..8u8)
        .map(|height| {
            let message = vec![height; 40];
            let seal = combine(3, &shares_of(&dealing, &message, &[0, 1, 2])).unwrap();
            (message, seal)
        })
        .collect();
    assert_eq!(dealing.group_key.verify_batch(&batch), Ok(()));
    assert_eq!(dealing.group_key.verify_batch(&batch[..1]), Ok(()));
    assert_eq!(dealing.group_key.verify_batch(&[]), Ok(()));

    // Swapping two seals keeps their sum: only the weights tell.
    let (first, second) = (batch[0].1, batch[1].1);
    batch[0].1 = second;
    batch[1].1 = first;
    assert_eq!(dealing.group_key.verify_batch(&batch), Err(Error::BadSignature));
    batch[0].1 = first;
    assert_eq!(dealing.group_key.verify_batch(&batch), Err(Error::BadSignature));
    batch[1].1 = Seal::repeat_byte(1);
    assert_eq!(dealing.group_key.verify_batch(&batch), Err(Error::MalformedSeal));
}

#[test]
fn dealt_shares_lie_on_one_polynomial_and_a_foreign_one_is_named() {
    for (threshold, operators) in [(1, 1), (2, 2), (2, 3), (3, 4), (5, 7), (9, 13)] {
        let dealing = deal(threshold, operators).unwrap();
        let check = |group: &GroupKey, shares: &[PublicShare], threshold: usize| {
            shares_on_one_polynomial(group, shares, threshold)
        };
        let shares = &dealing.public_shares;
        assert_eq!(check(&dealing.group_key, shares, threshold), Ok(()), "{threshold} of {operators}");

        let other = deal(threshold, operators).unwrap();
        for position in 0..operators {
            let mut mixed = shares.clone();
            mixed[position] = other.public_shares[position];
            let told = operators > threshold;
            let foreign = told.then(|| format!("the share of operator {position}"));
            let refused = check(&dealing.group_key, &mixed, threshold);
            assert_eq!(refused, Err(Error::NotOnePolynomial { foreign }), "{threshold} of {operators}");
        }
        assert!(matches!(check(&other.group_key, shares, threshold), Err(Error::NotOnePolynomial { .. })));
        if threshold > 1 {
            assert!(check(&dealing.group_key, shares, threshold - 1).is_err(), "degree too high");
        }
    }
}

#[test]
fn shares_out_of_order_or_repeated_are_not_a_sharing() {
    let dealing = deal(3, 4).unwrap();
    let mut shares = dealing.public_shares.clone();
    shares[1] = shares[0];
    let refused = shares_on_one_polynomial(&dealing.group_key, &shares, 3);
    assert_eq!(refused, Err(Error::DuplicateShare(OperatorIndex(0))));
    let swapped = [(0, 1), (1, 0), (2, 2), (3, 3)].map(|(operator, from)| PublicShare {
        operator: OperatorIndex(operator),
        ..dealing.public_shares[from]
    });
    assert!(shares_on_one_polynomial(&dealing.group_key, &swapped, 3).is_err());
}

#[test]
fn impossible_thresholds_are_refused() {
    for (threshold, operators) in [(0, 4), (5, 4), (1, 0), (67, 101)] {
        assert!(matches!(deal(threshold, operators), Err(Error::ImpossibleThreshold { .. })));
    }
    assert_eq!(deal(67, 100).unwrap().secret_shares.len(), 100);
}

#[test]
fn an_aggregate_needs_every_key() {
    let dealing = deal(3, 4).unwrap();
    let message = [7u8; 32];
    let aggregate = Aggregate::new(&message, &dealing.public_shares);
    let signatures: Vec<Seal> = dealing.secret_shares.iter().map(|share| share.sign(&message)).collect();
    let sum = aggregate.sum(&signatures).unwrap();
    assert_eq!(aggregate.verify(&sum), Ok(()));
    assert_eq!(Aggregate::new(&[8u8; 32], &dealing.public_shares).verify(&sum), Err(Error::BadSignature));
    assert_eq!(Aggregate::new(&message, &dealing.public_shares[..3]).verify(&sum), Err(Error::BadSignature));
    assert!(aggregate.sum(&signatures[..3]).is_err());

    let empty = Aggregate::new(&message, &[]);
    assert!(empty.sum(&[]).is_err());
    assert_eq!(empty.verify(&sum), Err(Error::BadSignature), "an empty signer set proves nothing");
}

#[test]
fn d2_a_rogue_key_does_not_forge_an_aggregate() {
    // The attacker publishes "own key minus the victim's": under a plain sum its own signature alone
    // would pass for both.
    let victim = deal(1, 1).unwrap().public_shares[0];
    let attacker = deal(1, 1).unwrap();
    let minus_one = curve::Scalar::from_u64(0).sub(&curve::Scalar::from_u64(1));
    let one = curve::Scalar::from_u64(1);
    let own = attacker.group_key.key;
    let difference =
        curve::sum([(&own, &one), (&victim.key, &minus_one)].into_iter(), curve::SCALAR_BITS).unwrap();
    let rogue = PublicShare { operator: OperatorIndex(1), key: difference };
    let plain =
        curve::sum([(&victim.key, &one), (&rogue.key, &one)].into_iter(), curve::SCALAR_BITS).unwrap();
    assert!(plain == own, "the attack works on plain sums");

    let message = [7u8; 32];
    let forged = attacker.secret_shares[0].sign(&message);
    let keys = [victim, rogue];
    assert_eq!(Aggregate::new(&message, &keys).verify(&forged), Err(Error::BadSignature));
    let sum = Aggregate::new(&message, &keys).sum(&[forged, forged]).unwrap();
    assert_eq!(Aggregate::new(&message, &keys).verify(&sum), Err(Error::BadSignature));
}

#[test]
fn a_share_survives_its_encoding() {
    let dealing = deal(3, 4).unwrap();
    let share = &dealing.secret_shares[2];
    let read = SecretShare::from_bytes(share.operator(), share.to_bytes().as_slice()).unwrap();
    assert_eq!(read.public(), dealing.public_shares[2]);
    let public = PublicShare::from_bytes(OperatorIndex(2), &dealing.public_shares[2].to_bytes());
    assert_eq!(public, Ok(dealing.public_shares[2]));
    let group = dealing.group_key;
    assert_eq!(GroupKey::from_bytes(&group.to_bytes()), Ok(group));
    assert!(SecretShare::from_bytes(OperatorIndex(0), &[0xff; 32]).is_err());
    assert!(SecretShare::from_bytes(OperatorIndex(0), &[1; 31]).is_err());
}

#[test]
fn debug_output_does_not_contain_the_share() {
    let share = SecretShare::from_bytes(OperatorIndex(0), &[0x2b; 32]).unwrap();
    let shown = format!("{share:?}");
    assert!(!shown.contains("2b2b") && !shown.contains("43, 43"), "{shown}");
}

#[test]
fn the_seal_is_the_ciphersuites_signature() {
    // Another implementation's interface of the same library: its own `verify` with the same tag.
    let dealing = deal(2, 3).unwrap();
    let seal = combine(2, &shares_of(&dealing, b"m", &[0, 2])).unwrap();
    let signature = min_sig::Signature::uncompress(&seal.0).unwrap();
    let tag = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";
    let key = min_sig::PublicKey::uncompress(&dealing.group_key.to_bytes()).unwrap();
    assert_eq!(signature.verify(true, b"m", tag, &[], &key, true), BLST_ERROR::BLST_SUCCESS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_quorum_seals_and_any_smaller_set_does_not(
        operators in 1usize..8,
        seed in any::<u64>(),
        message in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let threshold = (2 * operators).div_ceil(3);
        let dealing = deal(threshold, operators).unwrap();
        let mut signers: Vec<u8> = (0..operators as u8).collect();
        signers.sort_by_key(|signer| seed.wrapping_mul(2 * u64::from(*signer) + 3).rotate_left(17));
        let seal = combine(threshold, &shares_of(&dealing, &message, &signers[..threshold])).unwrap();
        prop_assert_eq!(dealing.group_key.verify(&message, &seal), Ok(()));
        if threshold > 1 {
            let few = combine(threshold - 1, &shares_of(&dealing, &message, &signers[..threshold - 1])).unwrap();
            prop_assert!(dealing.group_key.verify(&message, &few).is_err());
        }
    }
}

/// A client chooses the payload of an opaque duty, and with it 32 bytes of its liking, but never the bytes that are
/// signed. Ethereum signs a root of 32 bytes, hashed to G2 under its own ciphersuite.
#[test]
fn what_the_group_signs_for_a_client_is_never_an_ethereum_signing_root() {
    const ETHEREUM: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
    assert_ne!(MinSig::CIPHERSUITE, ETHEREUM);
    let dealing = deal(3, 4).unwrap();
    let root = [0x5a; 32];
    for kind in DutyKind::ALL {
        let duty = DutyId { kind, slot: Slot(7) };
        let digest = Value::duty(duty, ValueBytes(root.as_slice().into())).digest();
        let message =
            Decision { instance: duty.into(), round: Round(0), digest }.seal_bytes(&ClusterId::ZERO);
        assert!(message.starts_with(b"aequa/seal/v1\0") && message.len() > 32);
        let seal = combine(3, &shares_of(&dealing, &message, &[0, 1, 2])).unwrap();
        assert_eq!(dealing.group_key.verify(&message, &seal), Ok(()));
        for signed in [root, digest.0] {
            assert_eq!(dealing.group_key.verify(&signed, &seal), Err(Error::BadSignature));
        }
        assert!(blst::min_pk::Signature::from_bytes(seal.as_slice()).is_err(), "no point of G2");
    }
}
