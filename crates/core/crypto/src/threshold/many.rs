//! Shares of many keys at once, and a share that others make up for.

use super::{Commitments, Scheme, SecretShare, coordinate};
use crate::Error;
use crate::bls::curve::{self, Point, Scalar, WEIGHT_BITS};
use crate::bls::{SecretKey, SecretScalar};
use aequa_types::OperatorIndex;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

/// Whether each share of an operator lies on the polynomial in the same place, all of one threshold.
///
/// Each counts with a weight of 128 bits, and one equation decides: a bad one passes with probability 2^-128. The
/// weights are hashed from `secret`, which a dealer must not know, or it could deal shares whose errors cancel. Of
/// one share the equation is that of [`Commitments::verify`].
pub fn verify_shares<S: Scheme>(
    secret: &[u8; 32],
    commitments: &[Commitments<S>],
    shares: &[SecretShare<S>],
) -> Result<(), Error> {
    let (Some(share), Some(first)) = (shares.first(), commitments.first()) else {
        return if shares.len() == commitments.len() { Ok(()) } else { Err(Error::NothingToAggregate) };
    };
    let (operator, threshold) = (share.operator(), first.threshold());
    if shares.len() != commitments.len() {
        return Err(Error::TooFewShares { shares: shares.len(), threshold: commitments.len() });
    }
    if let Some(foreign) = shares.iter().find(|share| share.operator() != operator) {
        return Err(Error::BadShare(foreign.operator()));
    }
    if commitments.iter().any(|own| own.threshold() != threshold) {
        return Err(Error::MalformedCommitments("of different thresholds"));
    }
    let weights = weights(secret, commitments);
    let dealt = weighted_share(&weights, shares);
    match (dealt.map(|key| key.public().point), weighted_public_share(&weights, commitments, operator)) {
        (Some(dealt), Some(committed)) if dealt == committed => Ok(()),
        _ => Err(Error::BadShare(operator)),
    }
}

fn weights<S: Scheme>(secret: &[u8; 32], commitments: &[Commitments<S>]) -> Vec<Scalar> {
    let mut hasher = Sha512::new_with_prefix(b"aequa/share-batch/v1\0");
    hasher.update(secret);
    for point in commitments.iter().flat_map(Commitments::points) {
        hasher.update(point.compress());
    }
    let transcript: Zeroizing<[u8; 64]> = Zeroizing::new(hasher.finalize().into());
    let challenges = (0..commitments.len() as u64).map(|index| Scalar::challenge(&transcript, index));
    challenges.map(|challenge| challenge.lowest_bits(WEIGHT_BITS)).collect()
}

fn weighted_share<S: Scheme>(weights: &[Scalar], shares: &[SecretShare<S>]) -> Option<SecretKey<S>> {
    let weighted = shares.iter().zip(weights).map(|(share, weight)| share.key.to_scalar().times(weight));
    SecretKey::of_scalar(&weighted.reduce(|sum: SecretScalar, own| sum.add(&own))?)
}

fn weighted_public_share<S: Scheme>(
    weights: &[Scalar],
    commitments: &[Commitments<S>],
    operator: OperatorIndex,
) -> Option<S::Key> {
    let of_degree = |degree: usize| {
        let points = commitments.iter().map(|own| &own.points()[degree]);
        curve::sum(points.zip(weights), WEIGHT_BITS)
    };
    let points = (0..commitments[0].threshold()).map(of_degree).collect::<Option<Vec<S::Key>>>()?;
    Commitments::<S>::of_points(points).public_share(operator).ok().map(|share| share.key)
}

/// The share of an operator, of the shares of `threshold` others: the value of their polynomial at its coordinate.
pub fn recover<S: Scheme>(
    operator: OperatorIndex,
    threshold: usize,
    shares: &[SecretShare<S>],
) -> Result<SecretShare<S>, Error> {
    let mut shares: Vec<&SecretShare<S>> = shares.iter().collect();
    shares.sort_by_key(|share| share.operator());
    if let Some(pair) = shares.windows(2).find(|pair| pair[0].operator() == pair[1].operator()) {
        return Err(Error::DuplicateShare(pair[0].operator()));
    }
    if let Some(own) = shares.iter().find(|share| share.operator() == operator) {
        return Ok((*own).clone());
    }
    if threshold == 0 || shares.len() < threshold {
        return Err(Error::TooFewShares { shares: shares.len(), threshold });
    }
    shares.truncate(threshold);
    let coordinates: Vec<u64> = shares.iter().map(|share| coordinate(share.operator())).collect();
    let weights = curve::lagrange_at(coordinate(operator), &coordinates);
    let weighted = shares.iter().zip(&weights).map(|(share, weight)| share.key.to_scalar().times(weight));
    let sum = weighted.reduce(|sum: SecretScalar, own| sum.add(&own));
    let key = sum.and_then(|sum| SecretKey::of_scalar(&sum)).ok_or(Error::BadShare(operator))?;
    Ok(SecretShare { operator, key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls::{MinPk, MinSig, PublicKey, verify_possessions};
    use crate::threshold::{Polynomial, deal};

    fn dealt<S: Scheme>(keys: usize) -> (Vec<Polynomial<S>>, Vec<Commitments<S>>) {
        let polynomials: Vec<Polynomial<S>> = (0..keys).map(|_| Polynomial::random(3).unwrap()).collect();
        let commitments = polynomials.iter().map(Polynomial::commitments).collect();
        (polynomials, commitments)
    }

    fn shares<S: Scheme>(polynomials: &[Polynomial<S>], operator: u8) -> Vec<SecretShare<S>> {
        polynomials.iter().map(|own| own.share(OperatorIndex(operator)).unwrap()).collect()
    }

    fn one_bad_share_among_many_is_found<S: Scheme>() {
        for keys in [0, 1, 2, 17] {
            let (polynomials, commitments) = dealt::<S>(keys);
            let good = shares(&polynomials, 2);
            assert_eq!(verify_shares(&[1; 32], &commitments, &good), Ok(()), "{keys} keys");
            for bad in 0..keys {
                let mut shares = shares(&polynomials, 2);
                shares[bad] = Polynomial::random(3).unwrap().share(OperatorIndex(2)).unwrap();
                let refused = verify_shares(&[1; 32], &commitments, &shares);
                assert_eq!(refused, Err(Error::BadShare(OperatorIndex(2))), "{bad} of {keys} keys");
            }
        }
    }

    #[test]
    fn one_bad_share_among_those_of_many_keys_is_found() {
        one_bad_share_among_many_is_found::<MinPk>();
        one_bad_share_among_many_is_found::<MinSig>();
    }

    /// Two errors that cancel each other in a plain sum.
    #[test]
    fn swapped_shares_are_found() {
        let (polynomials, commitments) = dealt::<MinPk>(2);
        let mut shares = shares(&polynomials, 1);
        shares.swap(0, 1);
        assert!(verify_shares(&[1; 32], &commitments, &shares).is_err());
    }

    #[test]
    fn lists_that_do_not_fit_together_are_refused() {
        let (polynomials, commitments) = dealt::<MinSig>(2);
        let good = shares(&polynomials, 1);
        assert!(verify_shares(&[1; 32], &commitments, &good[..1]).is_err());
        assert!(verify_shares(&[1; 32], &commitments[..1], &good).is_err());
        assert!(verify_shares::<MinSig>(&[1; 32], &commitments, &[]).is_err());
        let mixed = [good[0].clone(), shares(&polynomials, 2)[1].clone()];
        assert_eq!(verify_shares(&[1; 32], &commitments, &mixed), Err(Error::BadShare(OperatorIndex(2))));
        let other = [commitments[0].clone(), Polynomial::random(2).unwrap().commitments()];
        assert!(verify_shares(&[1; 32], &other, &good).is_err());
    }

    #[test]
    fn any_threshold_of_the_others_make_up_for_a_share() {
        let dealing = deal::<MinPk>(3, 5).unwrap();
        for operator in 0..5u8 {
            let mut others = dealing.secret_shares.clone();
            let lost = others.remove(usize::from(operator));
            for turn in 0..4 {
                others.rotate_left(turn);
                let share = recover(OperatorIndex(operator), 3, &others[..3]).unwrap();
                assert_eq!(share.to_bytes(), lost.to_bytes());
            }
            let too_few = Error::TooFewShares { shares: 2, threshold: 3 };
            assert_eq!(recover(OperatorIndex(operator), 3, &others[..2]).err(), Some(too_few));
            let twice = [others[0].clone(), others[0].clone(), others[1].clone()];
            assert!(recover(OperatorIndex(operator), 3, &twice).is_err());
        }
    }

    fn one_unproven_possession_is_found<S: Scheme>() {
        let keys: Vec<SecretKey<S>> = (0..5).map(|_| SecretKey::generate().unwrap()).collect();
        let proof = |key: &SecretKey<S>| (key.public(), key.prove_possession());
        let mut proofs: Vec<(PublicKey<S>, _)> = keys.iter().map(proof).collect();
        assert_eq!(verify_possessions(&proofs), Ok(()));
        assert_eq!(verify_possessions(&proofs[..1]), Ok(()));
        assert_eq!(verify_possessions::<S>(&[]), Ok(()));
        // Swapping two keeps their sum: only the weights tell.
        let (one, other) = (proofs[1].1, proofs[3].1);
        (proofs[1].1, proofs[3].1) = (other, one);
        assert_eq!(verify_possessions(&proofs), Err(Error::BadSignature));
        proofs.truncate(2);
        assert_eq!(verify_possessions(&proofs[1..]), Err(Error::BadSignature));
    }

    #[test]
    fn one_unproven_possession_among_many_is_found() {
        one_unproven_possession_is_found::<MinPk>();
        one_unproven_possession_is_found::<MinSig>();
    }

    #[test]
    fn a_polynomial_of_given_coefficients_is_the_same_again() {
        let keys: Vec<SecretKey<MinPk>> = (0..3).map(|_| SecretKey::generate().unwrap()).collect();
        let one = Polynomial::of_coefficients(keys.clone()).unwrap();
        let again = Polynomial::of_coefficients(keys.clone()).unwrap();
        assert_eq!(one.commitments(), again.commitments());
        assert_eq!(one.commitments().group_key().to_bytes(), keys[0].public().to_bytes());
        assert!(Polynomial::<MinPk>::of_coefficients(Vec::new()).is_err());
    }
}
