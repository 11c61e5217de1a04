//! Threshold signatures: one signature of a whole group, made of partial ones.
//!
//! BLS in either of its two schemes ([`Scheme`]): [`MinSig`] for what the chain seals ([`seal`]), [`MinPk`] for the
//! keys of Ethereum's validators. No proof of possession is needed to verify: a signature is verified under one
//! key, the group's, or to lay blame under one public share.
//!
//! ```text
//! deal, split, Dealers ─► SecretShare(i) ──sign──► partial signature ─┐
//!   └───────────────────► PublicShare(i) (to blame)                   ├─ q of them: combine ──► GroupKey::verify
//!   └───────────────────► GroupKey                            others ─┘
//! ```
//!
//! Shares come of one dealer who has the secret ([`deal`], [`split`]), or of several of whom none has
//! ([`Dealers`], on [`Polynomial`] and [`Commitments`]).
//!
//! The shares are values of one polynomial of degree threshold − 1 over the scalar field. The
//! coordinate of operator *i* is *i* + 1; the value at 0 is the group's secret, which nobody holds.
//! Any `threshold` shares of one message combine to the same signature: the one the secret would make.

mod combine;
mod deal;
mod dealers;
mod many;
mod polynomial;
pub mod seal;

pub use crate::bls::{MinPk, MinSig, Scheme};
pub use combine::{Combined, Combiner, combine};
pub use deal::{Dealing, deal, shares_on_one_polynomial, split};
pub use dealers::Dealers;
pub use many::{recover, verify_shares};
pub use polynomial::{Commitments, Polynomial};

use crate::Error;
use crate::bls::curve::Point as _;
use crate::bls::{KeyBytes, PublicKey, SecretKey, parse_key, verify_one};
use aequa_types::OperatorIndex;
use zeroize::Zeroizing;

/// The key under which the group's signatures verify.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GroupKey<S: Scheme> {
    key: S::Key,
}

impl<S: Scheme> GroupKey<S> {
    /// Parses a compressed point: on the curve, in the subgroup, not the identity.
    pub fn from_bytes(bytes: &KeyBytes<S>) -> Result<Self, Error> {
        Ok(Self { key: parse_key("group key", bytes)? })
    }

    /// The compressed point.
    pub fn to_bytes(&self) -> KeyBytes<S> {
        self.key.compress()
    }

    /// Whether `signature` is the group's signature of `message`.
    pub fn verify(&self, message: &[u8], signature: &S::Signature) -> Result<(), Error> {
        verify_one::<S>(&self.key, message, signature)
    }
}

/// To verify the group's signatures among those of others.
impl<S: Scheme> From<GroupKey<S>> for PublicKey<S> {
    fn from(group: GroupKey<S>) -> Self {
        Self { point: group.key }
    }
}

impl<S: Scheme> std::fmt::Debug for GroupKey<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupKey({})", hex::encode(self.to_bytes()))
    }
}

/// The public half of one operator's share: tells whose share was bad.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicShare<S: Scheme> {
    operator: OperatorIndex,
    key: S::Key,
}

impl<S: Scheme> PublicShare<S> {
    /// Parses a compressed point: on the curve, in the subgroup, not the identity.
    pub fn from_bytes(operator: OperatorIndex, bytes: &KeyBytes<S>) -> Result<Self, Error> {
        Ok(Self { operator, key: parse_key("public share", bytes)? })
    }

    /// The compressed point.
    pub fn to_bytes(&self) -> KeyBytes<S> {
        self.key.compress()
    }

    /// Whose share it is.
    pub fn operator(&self) -> OperatorIndex {
        self.operator
    }

    /// Whether `share` is this operator's partial signature of `message`.
    pub fn verify(&self, message: &[u8], share: &S::Signature) -> Result<(), Error> {
        verify_one::<S>(&self.key, message, share)
    }
}

/// To verify partial signatures among each other.
impl<S: Scheme> From<PublicShare<S>> for PublicKey<S> {
    fn from(share: PublicShare<S>) -> Self {
        Self { point: share.key }
    }
}

impl<S: Scheme> std::fmt::Debug for PublicShare<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicShare({}, {})", self.operator, hex::encode(self.to_bytes()))
    }
}

/// One operator's share of the group's secret. Zeroised when dropped; `Debug` does not show it.
#[derive(Clone)]
pub struct SecretShare<S: Scheme> {
    operator: OperatorIndex,
    key: SecretKey<S>,
}

impl<S: Scheme> SecretShare<S> {
    /// Parses a big-endian scalar between 1 and the group order − 1.
    pub fn from_bytes(operator: OperatorIndex, bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self { operator, key: SecretKey::parse("secret share", bytes)? })
    }

    /// The big-endian scalar, for the keystore.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.key.to_bytes()
    }

    /// Whose share it is.
    pub fn operator(&self) -> OperatorIndex {
        self.operator
    }

    /// The public half.
    pub fn public(&self) -> PublicShare<S> {
        PublicShare { operator: self.operator, key: self.key.public().point }
    }

    /// This operator's partial signature of `message`.
    pub fn sign(&self, message: &[u8]) -> S::Signature {
        self.key.sign(message)
    }
}

impl<S: Scheme> std::fmt::Debug for SecretShare<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretShare(of operator {})", self.operator)
    }
}

/// The coordinate of an operator's share: its index + 1, since 0 is where the secret is.
fn coordinate(operator: OperatorIndex) -> u64 {
    u64::from(operator.0) + 1
}

#[cfg(test)]
mod tests;
