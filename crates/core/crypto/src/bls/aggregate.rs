//! One signature of many keys.

use super::curve::Point;
use super::{ProvenKey, PublicKey, Scheme, verify_sum};
use crate::Error;
use aequa_types::OperatorIndex;
use aequa_types::limits::OPERATORS_MAX;

/// Adds up signatures, of one message or of several.
///
/// Each must be a point of the subgroup. The identity adds nothing and is let through here, as the draft has it;
/// a sum that is the identity is the signature of nobody, and verification refuses it.
pub fn aggregate<S: Scheme>(signatures: &[S::Signature]) -> Result<S::Signature, Error> {
    if signatures.is_empty() {
        return Err(Error::NothingToAggregate);
    }
    let mut sum = <S::Point as Point>::Sum::default();
    for signature in signatures {
        let point = S::Point::uncompress(signature.as_ref()).map_err(|_| Error::MalformedSeal)?;
        if !point.is_identity() {
            point.validate().map_err(|_| Error::MalformedSeal)?;
            point.add_once_to(&mut sum);
        }
    }
    Ok(S::Point::of_sum(&sum).unwrap_or(S::Point::IDENTITY).compress().into())
}

/// Whether `signature` is the sum of one signature of each key over its own message (`AggregateVerify`).
pub fn aggregate_verify<S: Scheme>(
    signed: &[(ProvenKey<S>, &[u8])],
    signature: &S::Signature,
) -> Result<(), Error> {
    if signed.is_empty() {
        return Err(Error::NothingToAggregate);
    }
    let pairs = signed.iter().map(|(key, message)| (&key.key().point, *message));
    verify_sum::<S>(S::CIPHERSUITE, pairs, signature)
}

/// Whether `signature` is the sum of one signature of each key over one message (`FastAggregateVerify`), at the
/// price of one verification and an addition for each key.
pub fn fast_aggregate_verify<S: Scheme>(
    keys: &[ProvenKey<S>],
    message: &[u8],
    signature: &S::Signature,
) -> Result<(), Error> {
    aggregate_keys(keys)?.verify(message, signature)
}

/// The key of all of these together, for those who verify more than one signature under it.
pub fn aggregate_keys<S: Scheme>(keys: &[ProvenKey<S>]) -> Result<PublicKey<S>, Error> {
    if keys.is_empty() {
        return Err(Error::NothingToAggregate);
    }
    let mut sum = <S::Key as Point>::Sum::default();
    for key in keys {
        key.key().point.add_once_to(&mut sum);
    }
    let identity = Error::InvalidKey { what: "sum of keys", reason: "the identity point" };
    Ok(PublicKey { point: S::Key::of_sum(&sum).ok_or(identity)? })
}

/// Which members of a group signed: at least one, each once.
///
/// As a bitmap: bit *i*, counted from the lowest of the first byte, is member *i*, and there are no bits beyond
/// the last member (SSZ `Bitvector[n]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    signers: Vec<OperatorIndex>,
    members: usize,
}

impl Signers {
    /// Reads a bitmap of `members` bits.
    pub fn from_bitmap(bitmap: &[u8], members: usize) -> Result<Self, Error> {
        if members > OPERATORS_MAX || bitmap.len() != members.div_ceil(8) {
            return Err(Error::MalformedSigners("the bitmap has not one bit per member"));
        }
        // At most 104 bits, so that an index is a byte.
        let is_set = |index: &u8| bitmap[usize::from(index / 8)] >> (index % 8) & 1 == 1;
        let set: Vec<OperatorIndex> =
            (0..(8 * bitmap.len()) as u8).filter(is_set).map(OperatorIndex).collect();
        Self::from_list(&set, members)
    }

    /// Takes a list of distinct members, in any order.
    pub fn from_list(signers: &[OperatorIndex], members: usize) -> Result<Self, Error> {
        let mut signers = signers.to_vec();
        signers.sort_unstable();
        if let Some(pair) = signers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::DuplicateSigner(pair[0]));
        }
        match signers.last() {
            None => Err(Error::NothingToAggregate),
            Some(last) if last.as_usize() >= members => Err(Error::ForeignSigner(*last)),
            Some(_) => Ok(Self { signers, members }),
        }
    }

    /// The signers, ascending.
    pub fn as_slice(&self) -> &[OperatorIndex] {
        &self.signers
    }

    /// What of each member the signers have, e.g. their keys.
    pub fn of<T: Copy>(&self, members: &[T]) -> Result<Vec<T>, Error> {
        if members.len() != self.members {
            return Err(Error::MalformedSigners("the signers are of a group of another size"));
        }
        Ok(self.signers.iter().map(|signer| members[signer.as_usize()]).collect())
    }
}
