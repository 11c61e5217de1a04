//! Sharing a secret so that everybody can check their share (Feldman, 1987).
//!
//! ```text
//! Polynomial a₀ + a₁x + … ──share──► SecretShare(i): the value at i + 1 ──► Commitments::verify ─► kept or blamed
//!       └──commitments──► Commitments a₀·G, a₁·G, … ───────────────────────┘
//! ```
//!
//! A commitment shows nothing of its coefficient but what a public key shows of its secret. It binds: a share that
//! verifies lies on the polynomial that was committed to, whoever sent it.

use super::{GroupKey, PublicShare, Scheme, SecretShare, coordinate};
use crate::Error;
use crate::bls::curve::{Point, Scalar};
use crate::bls::{KeyBytes, Possession, PublicKey, SecretKey, parse_key};
use aequa_types::OperatorIndex;
use aequa_types::limits::OPERATORS_MAX;

/// A polynomial over the scalar field whose value at 0 is a secret. Zeroised when dropped; `Debug` shows its
/// degree only.
pub struct Polynomial<S: Scheme> {
    secret: SecretKey<S>,
    /// Those of x, x², … As keys they are not 0: the commitment to such a one would be the identity.
    others: Vec<SecretKey<S>>,
}

impl<S: Scheme> Polynomial<S> {
    /// Random coefficients, as many as shares are needed to find the secret.
    pub fn random(threshold: usize) -> Result<Self, Error> {
        Self::sharing(&SecretKey::generate()?, threshold)
    }

    /// A random polynomial through this secret.
    pub fn sharing(secret: &SecretKey<S>, threshold: usize) -> Result<Self, Error> {
        if threshold == 0 || threshold > OPERATORS_MAX {
            return Err(Error::ImpossibleThreshold { threshold, operators: OPERATORS_MAX });
        }
        let others = (1..threshold).map(|_| SecretKey::generate()).collect::<Result<_, _>>()?;
        Ok(Self { secret: secret.clone(), others })
    }

    /// A random polynomial through an operator's share, to deal that anew ([`super::Dealers::resharing`]).
    pub fn resharing(share: &SecretShare<S>, threshold: usize) -> Result<Self, Error> {
        Self::sharing(&share.key, threshold)
    }

    /// The polynomial of these coefficients, the secret first: of a dealer who has to make the same one again.
    pub fn of_coefficients(coefficients: Vec<SecretKey<S>>) -> Result<Self, Error> {
        let threshold = coefficients.len();
        let mut coefficients = coefficients.into_iter();
        match coefficients.next() {
            Some(secret) if threshold <= OPERATORS_MAX => Ok(Self { secret, others: coefficients.collect() }),
            Some(_) | None => Err(Error::ImpossibleThreshold { threshold, operators: OPERATORS_MAX }),
        }
    }

    /// What everybody is told.
    pub fn commitments(&self) -> Commitments<S> {
        Commitments { points: self.coefficients().map(|coefficient| coefficient.public().point).collect() }
    }

    /// Shows that the dealer has the secret, and did not make its commitment of those of others.
    pub fn prove_possession(&self) -> Possession<S> {
        self.secret.prove_possession()
    }

    /// What one operator is told, and nobody else. None if the value is 0, which happens once in 2^255 and has no
    /// public half: the dealer draws another polynomial.
    pub fn share(&self, operator: OperatorIndex) -> Option<SecretShare<S>> {
        let x = Scalar::from_u64(coordinate(operator));
        let from_highest = self.coefficients().rev().map(SecretKey::to_scalar);
        let value = from_highest.reduce(|sum, coefficient| sum.times(&x).add(&coefficient))?;
        Some(SecretShare { operator, key: SecretKey::of_scalar(&value)? })
    }

    /// Ascending.
    fn coefficients(&self) -> impl DoubleEndedIterator<Item = &SecretKey<S>> {
        std::iter::once(&self.secret).chain(&self.others)
    }
}

impl<S: Scheme> std::fmt::Debug for Polynomial<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Polynomial(of threshold {})", self.others.len() + 1)
    }
}

/// The public halves of a polynomial's coefficients, the constant one first: the same polynomial in the group of
/// keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Commitments<S: Scheme> {
    points: Vec<S::Key>,
}

impl<S: Scheme> Commitments<S> {
    /// Parses one point per coefficient: on the curve, in the subgroup, not the identity.
    pub fn from_bytes(points: &[KeyBytes<S>]) -> Result<Self, Error> {
        if points.is_empty() || points.len() > OPERATORS_MAX {
            return Err(Error::MalformedCommitments("of a threshold that no cluster has"));
        }
        let points = points.iter().map(|bytes| parse_key("commitment", bytes)).collect::<Result<_, _>>()?;
        Ok(Self { points })
    }

    /// One compressed point per coefficient.
    pub fn to_bytes(&self) -> Vec<KeyBytes<S>> {
        self.points.iter().map(Point::compress).collect()
    }

    /// How many shares find the secret.
    pub fn threshold(&self) -> usize {
        self.points.len()
    }

    /// The key whose secret is shared: the value at 0.
    pub fn group_key(&self) -> GroupKey<S> {
        GroupKey { key: self.points[0] }
    }

    /// The public half of an operator's share: the value at its coordinate.
    pub fn public_share(&self, operator: OperatorIndex) -> Result<PublicShare<S>, Error> {
        let x = coordinate(operator).to_le_bytes();
        let bits = (u64::BITS - coordinate(operator).leading_zeros()) as usize;
        let mut sum = <S::Key as Point>::Sum::default();
        for point in self.points.iter().rev() {
            S::Key::multiply(&mut sum, &x, bits);
            point.add_once_to(&mut sum);
        }
        let identity = Error::InvalidKey { what: "public share", reason: "the identity point" };
        Ok(PublicShare { operator, key: S::Key::of_sum(&sum).ok_or(identity)? })
    }

    /// Whether `share` lies on the polynomial.
    pub fn verify(&self, share: &SecretShare<S>) -> Result<(), Error> {
        match self.public_share(share.operator()) {
            Ok(public) if public == share.public() => Ok(()),
            Ok(_) | Err(_) => Err(Error::BadShare(share.operator())),
        }
    }

    /// Whether the dealer has the secret. Where the polynomials of several are added up, one who has not may have
    /// chosen "mine minus all the others", and know the secret of the sum.
    pub fn verify_possession(&self, possession: &Possession<S>) -> Result<(), Error> {
        PublicKey::<S>::from(self.group_key()).proven(possession).map(|_| ())
    }

    pub(super) fn points(&self) -> &[S::Key] {
        &self.points
    }

    /// At least one point: those of other commitments, added up.
    pub(super) fn of_points(points: Vec<S::Key>) -> Self {
        Self { points }
    }
}

impl<S: Scheme> std::fmt::Debug for Commitments<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Commitments(to {} coefficients of {:?})", self.threshold(), self.group_key())
    }
}
