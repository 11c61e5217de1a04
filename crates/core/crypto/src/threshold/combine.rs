//! From partial signatures to the group's signature.

#![allow(clippy::disallowed_types, reason = "it is asked for one entry at a time, never walked through")]

use super::{GroupKey, PublicShare, Scheme, coordinate};
use crate::Error;
use crate::bls::curve::{self, Point as _, SCALAR_BITS, Scalar};
use aequa_types::OperatorIndex;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Most signer sets whose coefficients are kept: all of them for seven operators, the usual ones for
/// more. When full, the memory starts anew.
const SIGNER_SETS_MAX: usize = 256;

/// A partial signature and who made it.
type Share<S> = (OperatorIndex, <S as Scheme>::Signature);

/// Combines the first `threshold` shares, by operator, into the group's signature. The result is a
/// signature if every share was; nothing is verified here.
pub fn combine<S: Scheme>(threshold: usize, shares: &[Share<S>]) -> Result<S::Signature, Error> {
    let shares = select::<S>(threshold, shares)?;
    let coefficients = coefficients::<S>(&shares);
    combine_with::<S>(&coefficients, &shares)
}

/// What became of a set of shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combined<S: Scheme> {
    /// The verified signature of the group, if enough of the shares were good.
    pub signature: Option<S::Signature>,
    /// Operators whose share is provably bad.
    pub bad: Vec<OperatorIndex>,
}

/// Makes and verifies signatures of one group, remembering the coefficients of signer sets.
pub struct Combiner<S: Scheme> {
    threshold: usize,
    group_key: GroupKey<S>,
    public_shares: Vec<PublicShare<S>>,
    coefficients: Mutex<HashMap<Vec<OperatorIndex>, Arc<Coefficients>>>,
}

impl<S: Scheme> Combiner<S> {
    /// A combiner for the group of these keys, `threshold` of which make a signature.
    pub fn new(threshold: usize, group_key: GroupKey<S>, public_shares: Vec<PublicShare<S>>) -> Self {
        Self { threshold, group_key, public_shares, coefficients: Mutex::default() }
    }

    /// As [`combine`], with remembered coefficients.
    pub fn combine(&self, shares: &[Share<S>]) -> Result<S::Signature, Error> {
        let shares = select::<S>(self.threshold, shares)?;
        let coefficients = self.remembered(&shares);
        combine_with::<S>(&coefficients, &shares)
    }

    /// Combines and verifies once, in the hope that all is well. Only if that fails is every share
    /// verified singly: the bad ones are named, and the good ones, if enough, make the signature.
    pub fn sign(&self, message: &[u8], shares: &[Share<S>]) -> Result<Combined<S>, Error> {
        match self.combine(shares) {
            Ok(signature) if self.group_key.verify(message, &signature).is_ok() => {
                return Ok(Combined { signature: Some(signature), bad: Vec::new() });
            }
            Ok(_) | Err(Error::MalformedSeal) => {}
            Err(error) => return Err(error),
        }
        let (good, bad): (Vec<_>, Vec<_>) = shares.iter().copied().partition(|(operator, share)| {
            self.public_share(*operator).is_some_and(|public| public.verify(message, share).is_ok())
        });
        let signature = if good.len() >= self.threshold { Some(self.combine(&good)?) } else { None };
        let signature = signature.filter(|signature| self.group_key.verify(message, signature).is_ok());
        Ok(Combined { signature, bad: bad.into_iter().map(|(operator, _)| operator).collect() })
    }

    fn public_share(&self, operator: OperatorIndex) -> Option<&PublicShare<S>> {
        self.public_shares.iter().find(|share| share.operator() == operator)
    }

    fn remembered(&self, shares: &[Share<S>]) -> Arc<Coefficients> {
        let signers: Vec<OperatorIndex> = shares.iter().map(|(operator, _)| *operator).collect();
        let mut known = self.coefficients.lock();
        if let Some(coefficients) = known.get(&signers) {
            return coefficients.clone();
        }
        if known.len() >= SIGNER_SETS_MAX {
            known.clear();
        }
        let coefficients = Arc::new(coefficients::<S>(shares));
        known.insert(signers, coefficients.clone());
        coefficients
    }
}

/// The first `threshold` shares in the order of operators, all of which must be distinct.
fn select<S: Scheme>(threshold: usize, shares: &[Share<S>]) -> Result<Vec<Share<S>>, Error> {
    let mut selected = shares.to_vec();
    selected.sort_by_key(|(operator, _)| *operator);
    if let Some(pair) = selected.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::DuplicateShare(pair[0].0));
    }
    if threshold == 0 || selected.len() < threshold {
        return Err(Error::TooFewShares { shares: selected.len(), threshold });
    }
    selected.truncate(threshold);
    Ok(selected)
}

/// What to multiply the shares of a signer set with.
enum Coefficients {
    /// The usual case: small whole numbers.
    Small(curve::Lagrange),
    /// Signer sets of very many operators.
    Full(Vec<Scalar>),
}

fn coefficients<S: Scheme>(shares: &[Share<S>]) -> Coefficients {
    let coordinates: Vec<u64> = shares.iter().map(|(operator, _)| coordinate(*operator)).collect();
    match curve::Lagrange::at_zero(&coordinates) {
        Some(small) => Coefficients::Small(small),
        None => Coefficients::Full(curve::lagrange_at_zero(&coordinates)),
    }
}

/// Whether the shares are in the subgroup is not asked here: what comes out is verified as a whole, and a
/// sum outside the subgroup is refused there.
fn combine_with<S: Scheme>(coefficients: &Coefficients, shares: &[Share<S>]) -> Result<S::Signature, Error> {
    let on_curve = |(_, share): &Share<S>| S::Point::uncompress(share.as_ref());
    let points: Vec<S::Point> =
        shares.iter().map(on_curve).collect::<Result<_, _>>().map_err(|_| Error::MalformedSeal)?;
    let sum = match coefficients {
        Coefficients::Small(lagrange) => lagrange.sum(&points),
        Coefficients::Full(scalars) => curve::sum(points.iter().zip(scalars), SCALAR_BITS),
    };
    Ok(sum.ok_or(Error::MalformedSeal)?.compress().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::deal;
    use crate::threshold::MinSig;
    use aequa_types::Seal;

    #[test]
    fn small_and_full_coefficients_give_the_same_seal() {
        for (threshold, operators) in [(1, 1), (3, 4), (5, 7), (14, 20)] {
            let dealing = deal(threshold, operators).unwrap();
            let shares: Vec<(OperatorIndex, Seal)> = dealing.secret_shares[operators - threshold..]
                .iter()
                .map(|share| (share.operator(), share.sign(b"message")))
                .collect();
            let coordinates: Vec<u64> = shares.iter().map(|(operator, _)| coordinate(*operator)).collect();
            let small = Coefficients::Small(curve::Lagrange::at_zero(&coordinates).unwrap());
            let full = Coefficients::Full(curve::lagrange_at_zero(&coordinates));
            let seal = combine_with::<MinSig>(&small, &shares).unwrap();
            assert_eq!(seal, combine_with::<MinSig>(&full, &shares).unwrap(), "{threshold} of {operators}");
            dealing.group_key.verify(b"message", &seal).unwrap();
        }
    }

    #[test]
    fn coefficients_of_no_more_signer_sets_than_the_limit_are_kept() {
        let dealing = deal(3, 14).unwrap();
        let combiner = Combiner::new(3, dealing.group_key, dealing.public_shares);
        let shares: Vec<(OperatorIndex, Seal)> =
            dealing.secret_shares.iter().map(|share| (share.operator(), share.sign(b"message"))).collect();
        let seal = combine::<MinSig>(3, &shares).unwrap();
        let (mut sets, mut fewer_than_before) = (0, 0);
        for a in 0..shares.len() {
            for b in 0..a {
                for c in 0..b {
                    let before = combiner.coefficients.lock().len();
                    assert_eq!(combiner.combine(&[shares[a], shares[b], shares[c]]), Ok(seal));
                    let kept = combiner.coefficients.lock().len();
                    assert!(kept <= SIGNER_SETS_MAX);
                    sets += 1;
                    fewer_than_before += usize::from(kept < before);
                }
            }
        }
        assert_eq!((sets, fewer_than_before), (364, 1), "all of them, with one new start");
    }

    #[test]
    fn a_hundred_operators_fall_back_to_full_coefficients() {
        let coordinates: Vec<u64> = (34..=100).collect();
        assert!(curve::Lagrange::at_zero(&coordinates).is_none());
    }
}
