//! Secrets that several deal together, so that nobody has them (Pedersen, 1991).
//!
//! | | each dealer shares | the sum is | weight of a dealer |
//! |---|---|---|---|
//! | a new key | a secret of its own | a secret that nobody chose | 1 |
//! | a key dealt anew | its share of the old key | the old secret, on a new polynomial | its Lagrange coefficient at 0 |
//!
//! Dealing anew changes who the operators are and how many are needed, or replaces all shares of the same
//! operators: old shares and new ones lie on different polynomials and do not add up.
//!
//! # What the protocol around this has to see to
//!
//! 1. Everybody adds up the *same* dealers: those whose commitments all have, and whose shares all verified.
//! 2. A dealer's commitments are fixed before it sees those of others (a hash of them is exchanged first), or it can
//!    choose bits of the new key. It proves possession of its secret ([`Commitments::verify_possession`]), or it
//!    can choose the key.

use super::{Commitments, PublicShare, Scheme, SecretShare, coordinate};
use crate::Error;
use crate::bls::curve::{self, Point, SCALAR_BITS, Scalar};
use crate::bls::{SecretKey, SecretScalar};
use aequa_types::OperatorIndex;

/// Those whose polynomials are added up, in the order in which their commitments and shares are given.
pub struct Dealers<S: Scheme> {
    operators: Vec<OperatorIndex>,
    kind: Kind<S>,
}

enum Kind<S: Scheme> {
    New,
    /// What each has to share: its old public share. And its weight.
    Anew(Vec<(PublicShare<S>, Scalar)>),
}

impl<S: Scheme> Dealers<S> {
    /// The dealers of a new key: one honest one among them is enough for it to be random.
    pub fn of_new_key(dealers: &[OperatorIndex]) -> Result<Self, Error> {
        Ok(Self { operators: distinct(dealers, 1)?, kind: Kind::New })
    }

    /// Operators who deal anew a key of which they have the shares: at least as many as its threshold says, or
    /// their sum is another key.
    pub fn resharing(threshold: usize, shares: &[PublicShare<S>]) -> Result<Self, Error> {
        let operators: Vec<OperatorIndex> = shares.iter().map(PublicShare::operator).collect();
        let operators = distinct(&operators, threshold)?;
        let coordinates: Vec<u64> = operators.iter().map(|dealer| coordinate(*dealer)).collect();
        let weights = curve::lagrange_at_zero(&coordinates);
        Ok(Self { operators, kind: Kind::Anew(shares.iter().copied().zip(weights).collect()) })
    }

    /// The commitments of the sum, of those of each dealer: its group key and public shares are those of the
    /// cluster. A dealer who deals another secret than its share is named.
    pub fn commitments(&self, dealt: &[Commitments<S>]) -> Result<Commitments<S>, Error> {
        self.expect(dealt.len())?;
        let threshold = dealt.first().map_or(0, Commitments::threshold);
        if dealt.iter().any(|commitments| commitments.threshold() != threshold) {
            return Err(Error::MalformedCommitments("of different thresholds"));
        }
        if let Kind::Anew(shares) = &self.kind {
            let mut pairs = shares.iter().zip(dealt);
            if let Some(((share, _), _)) = pairs.find(|((share, _), own)| share.key != own.points()[0]) {
                return Err(Error::ForeignSecret(share.operator()));
            }
        }
        let sums = (0..threshold).map(|degree| self.sum(dealt.iter().map(|own| &own.points()[degree])));
        let points = sums.collect::<Option<Vec<S::Key>>>();
        Ok(Commitments::of_points(points.ok_or(Error::MalformedCommitments("that cancel each other"))?))
    }

    /// An operator's share of the sum, of the shares it has of each dealer.
    pub fn share(&self, dealt: &[SecretShare<S>]) -> Result<SecretShare<S>, Error> {
        self.expect(dealt.len())?;
        let operator = dealt.first().ok_or(Error::NothingToAggregate)?.operator();
        if let Some(foreign) = dealt.iter().find(|share| share.operator() != operator) {
            return Err(Error::BadShare(foreign.operator()));
        }
        let weighted = |(position, share): (usize, &SecretShare<S>)| match &self.kind {
            Kind::New => share.key.to_scalar(),
            Kind::Anew(shares) => share.key.to_scalar().times(&shares[position].1),
        };
        let sum = dealt.iter().enumerate().map(weighted).reduce(|sum: SecretScalar, own| sum.add(&own));
        let key = sum.and_then(|sum| SecretKey::of_scalar(&sum)).ok_or(Error::BadShare(operator))?;
        Ok(SecretShare { operator, key })
    }

    fn sum<'a>(&'a self, points: impl Iterator<Item = &'a S::Key>) -> Option<S::Key>
    where
        S::Key: 'a,
    {
        match &self.kind {
            Kind::New => {
                let mut sum = <S::Key as Point>::Sum::default();
                points.for_each(|point| point.add_once_to(&mut sum));
                S::Key::of_sum(&sum)
            }
            Kind::Anew(shares) => {
                curve::sum(points.zip(shares.iter().map(|(_, weight)| weight)), SCALAR_BITS)
            }
        }
    }

    fn expect(&self, dealt: usize) -> Result<(), Error> {
        let threshold = self.operators.len();
        if dealt == threshold { Ok(()) } else { Err(Error::TooFewShares { shares: dealt, threshold }) }
    }
}

impl<S: Scheme> std::fmt::Debug for Dealers<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dealers({:?})", self.operators)
    }
}

/// The operators, if there are at least `threshold` and none twice.
fn distinct(operators: &[OperatorIndex], threshold: usize) -> Result<Vec<OperatorIndex>, Error> {
    let mut sorted = operators.to_vec();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::DuplicateShare(pair[0]));
    }
    if operators.is_empty() || operators.len() < threshold {
        return Err(Error::TooFewShares { shares: operators.len(), threshold });
    }
    Ok(operators.to_vec())
}
