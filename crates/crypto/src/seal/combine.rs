//! From shares to the seal.

use super::curve::{self, SCALAR_BITS, Scalar};
use super::{GroupKey, PublicShare, coordinate, parse_seal};
use crate::Error;
use aequa_types::{OperatorIndex, Seal};
use blst::{blst_p1_affine, min_sig};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Most signer sets whose coefficients are kept: all of them for seven operators, the usual ones for
/// more. When full, the memory starts anew.
const SIGNER_SETS_MAX: usize = 256;

/// Combines the first `threshold` shares, by operator, into the seal. The result is a signature if
/// every share was; nothing is verified here.
pub fn combine(threshold: usize, shares: &[(OperatorIndex, Seal)]) -> Result<Seal, Error> {
    let shares = select(threshold, shares)?;
    let coefficients = coefficients(&shares);
    combine_with(&coefficients, &shares)
}

/// What became of a set of shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    /// The verified seal, if enough of the shares were good.
    pub seal: Option<Seal>,
    /// Operators whose share is provably bad.
    pub bad: Vec<OperatorIndex>,
}

/// Makes and verifies seals for one group, remembering the coefficients of signer sets.
pub struct Combiner {
    threshold: usize,
    group_key: GroupKey,
    public_shares: Vec<PublicShare>,
    coefficients: Mutex<HashMap<Vec<OperatorIndex>, Arc<Vec<Scalar>>>>,
}

impl Combiner {
    /// A combiner for the group of these keys, `threshold` of which make a seal.
    pub fn new(threshold: usize, group_key: GroupKey, public_shares: Vec<PublicShare>) -> Self {
        Self { threshold, group_key, public_shares, coefficients: Mutex::default() }
    }

    /// As [`combine`], with remembered coefficients.
    pub fn combine(&self, shares: &[(OperatorIndex, Seal)]) -> Result<Seal, Error> {
        let shares = select(self.threshold, shares)?;
        let coefficients = self.remembered(&shares);
        combine_with(&coefficients, &shares)
    }

    /// Combines and verifies once, in the hope that all is well. Only if that fails is every share
    /// verified singly: the bad ones are named, and the good ones, if enough, make the seal.
    pub fn seal(&self, message: &[u8], shares: &[(OperatorIndex, Seal)]) -> Result<Sealing, Error> {
        match self.combine(shares) {
            Ok(seal) if self.group_key.verify(message, &seal).is_ok() => {
                return Ok(Sealing { seal: Some(seal), bad: Vec::new() });
            }
            Ok(_) | Err(Error::MalformedSeal) => {}
            Err(error) => return Err(error),
        }
        let (good, bad): (Vec<_>, Vec<_>) = shares.iter().copied().partition(|(operator, share)| {
            self.public_share(*operator).is_some_and(|public| public.verify(message, share).is_ok())
        });
        let seal = if good.len() >= self.threshold { Some(self.combine(&good)?) } else { None };
        let seal = seal.filter(|seal| self.group_key.verify(message, seal).is_ok());
        Ok(Sealing { seal, bad: bad.into_iter().map(|(operator, _)| operator).collect() })
    }

    fn public_share(&self, operator: OperatorIndex) -> Option<&PublicShare> {
        self.public_shares.iter().find(|share| share.operator() == operator)
    }

    fn remembered(&self, shares: &[(OperatorIndex, Seal)]) -> Arc<Vec<Scalar>> {
        let signers: Vec<OperatorIndex> = shares.iter().map(|(operator, _)| *operator).collect();
        let mut known = self.coefficients.lock();
        if let Some(coefficients) = known.get(&signers) {
            return coefficients.clone();
        }
        if known.len() >= SIGNER_SETS_MAX {
            known.clear();
        }
        let coefficients = Arc::new(coefficients(shares));
        known.insert(signers, coefficients.clone());
        coefficients
    }
}

/// The first `threshold` shares in the order of operators, all of which must be distinct.
fn select(threshold: usize, shares: &[(OperatorIndex, Seal)]) -> Result<Vec<(OperatorIndex, Seal)>, Error> {
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

fn coefficients(shares: &[(OperatorIndex, Seal)]) -> Vec<Scalar> {
    let coordinates: Vec<u64> = shares.iter().map(|(operator, _)| coordinate(*operator)).collect();
    curve::lagrange_at_zero(&coordinates)
}

fn combine_with(coefficients: &[Scalar], shares: &[(OperatorIndex, Seal)]) -> Result<Seal, Error> {
    let points =
        shares.iter().map(|(_, share)| parse_seal(share)).collect::<Result<Vec<blst_p1_affine>, Error>>()?;
    let sum = curve::sum_g1(points.iter().zip(coefficients), SCALAR_BITS).ok_or(Error::MalformedSeal)?;
    Ok(Seal::from(min_sig::Signature::from(sum).compress()))
}
