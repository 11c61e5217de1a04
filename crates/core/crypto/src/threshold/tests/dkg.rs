//! Keys that several deal together, and deal anew.

use crate::Error;
use crate::bls::{MinPk, MinSig, Scheme};
use crate::threshold::{
    Combiner, Commitments, Dealers, GroupKey, Polynomial, PublicShare, SecretShare, combine, deal,
    shares_on_one_polynomial,
};
use aequa_types::OperatorIndex;
use proptest::prelude::*;

/// A cluster's key as its operators know it after a ceremony.
struct Cluster<S: Scheme> {
    commitments: Commitments<S>,
    shares: Vec<SecretShare<S>>,
}

impl<S: Scheme> Cluster<S> {
    /// Runs a ceremony: every dealer's shares are checked, then added up.
    fn of(dealers: &Dealers<S>, polynomials: &[Polynomial<S>], operators: u8) -> Self {
        let dealt: Vec<Commitments<S>> = polynomials.iter().map(Polynomial::commitments).collect();
        let commitments = dealers.commitments(&dealt).unwrap();
        let shares = (0..operators).map(OperatorIndex).map(|operator| {
            let parts: Vec<SecretShare<S>> =
                polynomials.iter().map(|polynomial| polynomial.share(operator).unwrap()).collect();
            for (part, own) in parts.iter().zip(&dealt) {
                assert_eq!(own.verify(part), Ok(()));
            }
            let share = dealers.share(&parts).unwrap();
            assert_eq!(commitments.verify(&share), Ok(()));
            share
        });
        Self { shares: shares.collect(), commitments }
    }

    fn new(threshold: usize, operators: u8) -> Self {
        let polynomials: Vec<Polynomial<S>> =
            (0..operators).map(|_| Polynomial::random(threshold).unwrap()).collect();
        Self::of(&Dealers::of_new_key(&indices(0..operators)).unwrap(), &polynomials, operators)
    }

    /// The key dealt anew by some of its operators.
    fn anew(&self, dealers: &[u8], threshold: usize, operators: u8) -> Self {
        let polynomials: Vec<Polynomial<S>> = dealers
            .iter()
            .map(|dealer| Polynomial::resharing(&self.shares[usize::from(*dealer)], threshold).unwrap())
            .collect();
        Self::of(&self.resharing(dealers).unwrap(), &polynomials, operators)
    }

    fn resharing(&self, dealers: &[u8]) -> Result<Dealers<S>, Error> {
        let shares: Vec<PublicShare<S>> =
            dealers.iter().map(|dealer| self.shares[usize::from(*dealer)].public()).collect();
        Dealers::resharing(self.commitments.threshold(), &shares)
    }

    fn key(&self) -> GroupKey<S> {
        self.commitments.group_key()
    }

    fn sign(&self, signers: &[u8]) -> S::Signature {
        let shares: Vec<_> = signers.iter().map(|signer| self.partial(*signer)).collect();
        combine::<S>(signers.len(), &shares).unwrap()
    }

    fn partial(&self, signer: u8) -> (OperatorIndex, S::Signature) {
        (OperatorIndex(signer), self.shares[usize::from(signer)].sign(b"m"))
    }
}

fn indices(range: std::ops::Range<u8>) -> Vec<OperatorIndex> {
    range.map(OperatorIndex).collect()
}

/// `count` of the operators, as a seed has them.
fn some(count: usize, operators: u8, seed: u64) -> Vec<u8> {
    let mut all: Vec<u8> = (0..operators).collect();
    all.sort_by_key(|signer| seed.wrapping_mul(2 * u64::from(*signer) + 3).rotate_left(17));
    all.truncate(count);
    all
}

fn any_quorum_signs<S: Scheme>(cluster: &Cluster<S>, threshold: usize, operators: u8, seed: u64) {
    let (one, other) = (some(threshold, operators, seed), some(threshold, operators, !seed));
    let signature = cluster.sign(&one);
    assert_eq!(signature, cluster.sign(&other));
    assert_eq!(cluster.key().verify(b"m", &signature), Ok(()));
    if threshold > 1 {
        let few = cluster.sign(&one[1..]);
        assert_eq!(cluster.key().verify(b"m", &few), Err(Error::BadSignature));
    }
    let public: Vec<PublicShare<S>> = indices(0..operators)
        .iter()
        .map(|operator| cluster.commitments.public_share(*operator).unwrap())
        .collect();
    assert_eq!(shares_on_one_polynomial(&cluster.key(), &public, threshold), Ok(()));
    assert!(cluster.shares.iter().map(SecretShare::public).eq(public));
}

fn dealt_together<S: Scheme>(threshold: usize, operators: u8, seed: u64) {
    any_quorum_signs(&Cluster::<S>::new(threshold, operators), threshold, operators, seed);
}

fn dealt_anew<S: Scheme>(
    (threshold, operators): (usize, u8),
    (new_threshold, new_operators): (usize, u8),
    seed: u64,
) {
    let old = Cluster::<S>::new(threshold, operators);
    let new = old.anew(&some(threshold, operators, seed), new_threshold, new_operators);
    assert!(new.key() == old.key());
    any_quorum_signs(&new, new_threshold, new_operators, seed);
    let signers = some(threshold, operators, seed);
    assert_eq!(old.sign(&signers), new.sign(&some(new_threshold, new_operators, seed)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_quorum_signs_with_a_key_that_all_dealt_and_no_fewer_do(
        (operators, threshold) in (1u8..7).prop_flat_map(|n| (Just(n), 1..=usize::from(n))),
        seed in any::<u64>(),
    ) {
        dealt_together::<MinSig>(threshold, operators, seed);
        dealt_together::<MinPk>(threshold, operators, seed);
    }

    #[test]
    fn a_key_dealt_anew_is_the_same_key_for_other_operators(
        (operators, threshold) in (1u8..6).prop_flat_map(|n| (Just(n), 1..=usize::from(n))),
        (new_operators, new_threshold) in (1u8..6).prop_flat_map(|n| (Just(n), 1..=usize::from(n))),
        seed in any::<u64>(),
    ) {
        dealt_anew::<MinSig>((threshold, operators), (new_threshold, new_operators), seed);
        dealt_anew::<MinPk>((threshold, operators), (new_threshold, new_operators), seed);
    }
}

#[test]
fn refreshed_shares_differ_from_the_old_ones_and_do_not_mix_with_them() {
    let old = Cluster::<MinPk>::new(3, 4);
    let new = old.anew(&[0, 1, 3], 3, 4);
    for (before, after) in old.shares.iter().zip(&new.shares) {
        assert_ne!(before.to_bytes(), after.to_bytes());
        assert_eq!(old.commitments.verify(after), Err(Error::BadShare(after.operator())));
        assert_eq!(new.commitments.verify(before), Err(Error::BadShare(before.operator())));
    }
    let mixed = combine::<MinPk>(3, &[old.partial(0), old.partial(1), new.partial(2)]).unwrap();
    assert_eq!(old.key().verify(b"m", &mixed), Err(Error::BadSignature));
    let public: Vec<PublicShare<MinPk>> = new.shares.iter().map(SecretShare::public).collect();
    let combiner = Combiner::new(3, new.key(), public);
    let blamed = combiner.sign(b"m", &[old.partial(0), old.partial(1), new.partial(2)]).unwrap();
    assert_eq!(blamed.bad, indices(0..2));
}

#[test]
fn more_dealers_than_needed_deal_the_same_key_anew() {
    let old = Cluster::<MinSig>::new(3, 4);
    for dealers in [&[0, 1, 2][..], &[3, 1, 0], &[0, 1, 2, 3]] {
        assert!(old.anew(dealers, 2, 3).key() == old.key());
    }
}

#[test]
fn too_few_or_repeated_dealers_are_refused() {
    let old = Cluster::<MinSig>::new(3, 4);
    assert_eq!(old.resharing(&[0, 1]).err(), Some(Error::TooFewShares { shares: 2, threshold: 3 }));
    assert_eq!(old.resharing(&[0, 1, 1]).err(), Some(Error::DuplicateShare(OperatorIndex(1))));
    let of_new_key = |dealers: &[OperatorIndex]| Dealers::<MinSig>::of_new_key(dealers).err();
    assert_eq!(of_new_key(&[]), Some(Error::TooFewShares { shares: 0, threshold: 1 }));
    assert_eq!(of_new_key(&[OperatorIndex(2); 2]), Some(Error::DuplicateShare(OperatorIndex(2))));
}

#[test]
fn a_dealer_of_another_secret_than_its_share_is_named() {
    let old = Cluster::<MinSig>::new(2, 3);
    let honest = Polynomial::resharing(&old.shares[0], 2).unwrap().commitments();
    let other = Polynomial::random(2).unwrap().commitments();
    let dealers = old.resharing(&[0, 2]).unwrap();
    let refused = dealers.commitments(&[honest.clone(), other]);
    assert_eq!(refused, Err(Error::ForeignSecret(OperatorIndex(2))));
    let swapped = Polynomial::resharing(&old.shares[2], 2).unwrap().commitments();
    assert_eq!(dealers.commitments(&[swapped, honest]), Err(Error::ForeignSecret(OperatorIndex(0))));
}

#[test]
fn a_share_of_another_polynomial_or_operator_is_blamed() {
    let (polynomial, other) =
        (Polynomial::<MinPk>::random(3).unwrap(), Polynomial::<MinPk>::random(3).unwrap());
    let (commitments, one) = (polynomial.commitments(), OperatorIndex(1));
    assert_eq!(commitments.verify(&polynomial.share(one).unwrap()), Ok(()));
    assert_eq!(commitments.verify(&other.share(one).unwrap()), Err(Error::BadShare(one)));
    let moved = polynomial.share(OperatorIndex(2)).unwrap();
    let moved = SecretShare::from_bytes(one, moved.to_bytes().as_slice()).unwrap();
    assert_eq!(commitments.verify(&moved), Err(Error::BadShare(one)));
}

#[test]
fn parts_that_do_not_fit_together_are_not_added() {
    let dealers = Dealers::<MinSig>::of_new_key(&indices(0..2)).unwrap();
    let (two, three) = (Polynomial::random(2).unwrap(), Polynomial::random(3).unwrap());
    let commitments = [two.commitments(), three.commitments()];
    let different = Error::MalformedCommitments("of different thresholds");
    assert_eq!(dealers.commitments(&commitments), Err(different));
    let too_few = Error::TooFewShares { shares: 1, threshold: 2 };
    assert_eq!(dealers.commitments(&commitments[..1]), Err(too_few.clone()));
    let shares = [two.share(OperatorIndex(0)).unwrap(), three.share(OperatorIndex(1)).unwrap()];
    assert_eq!(dealers.share(&shares).err(), Some(Error::BadShare(OperatorIndex(1))));
    assert_eq!(dealers.share(&shares[..1]).err(), Some(too_few));
}

#[test]
fn d2_a_dealer_without_the_secret_of_its_commitment_cannot_prove_possession() {
    let (honest, attacker) =
        (Polynomial::<MinPk>::random(2).unwrap(), Polynomial::<MinPk>::random(2).unwrap());
    let possession = honest.prove_possession();
    assert_eq!(honest.commitments().verify_possession(&possession), Ok(()));
    assert_eq!(attacker.commitments().verify_possession(&possession), Err(Error::BadSignature));
}

#[test]
fn commitments_survive_their_encoding_and_are_checked() {
    let commitments = Polynomial::<MinSig>::random(3).unwrap().commitments();
    let mut bytes = commitments.to_bytes();
    assert_eq!(Commitments::<MinSig>::from_bytes(&bytes), Ok(commitments));
    bytes[1] = [0; 96];
    bytes[1][0] = 0xc0;
    let identity = Error::InvalidKey { what: "commitment", reason: "the identity point" };
    assert_eq!(Commitments::<MinSig>::from_bytes(&bytes), Err(identity));
    let no_cluster = Err(Error::MalformedCommitments("of a threshold that no cluster has"));
    assert_eq!(Commitments::<MinSig>::from_bytes(&[]), no_cluster);
    assert_eq!(Commitments::<MinSig>::from_bytes(&[[0; 96]; 101]), no_cluster);
}

#[test]
fn a_polynomial_has_a_threshold_that_a_cluster_can_have_and_is_not_shown() {
    assert!(Polynomial::<MinSig>::random(0).is_err());
    assert!(Polynomial::<MinSig>::random(101).is_err());
    let polynomial = Polynomial::<MinSig>::random(100).unwrap();
    assert_eq!(format!("{polynomial:?}"), "Polynomial(of threshold 100)");
    let share = polynomial.share(OperatorIndex(99)).unwrap();
    assert_eq!(polynomial.commitments().verify(&share), Ok(()));
}

#[test]
fn a_trusted_dealer_makes_shares_of_the_same_kind() {
    let dealing = deal::<MinSig>(2, 3).unwrap();
    let anew = Dealers::resharing(2, &dealing.public_shares[1..]).unwrap();
    let polynomials: Vec<_> =
        dealing.secret_shares[1..].iter().map(|share| Polynomial::resharing(share, 2).unwrap()).collect();
    assert!(Cluster::of(&anew, &polynomials, 3).key() == dealing.group_key);
}
