//! BLS signatures over BLS12-381 (draft-irtf-cfrg-bls-signature), in either of the two schemes ([`Scheme`]).
//!
//! [`MinSig`] is for what the chain seals, [`MinPk`] for the keys of Ethereum's validators.
//!
//! ```text
//! SecretKey ──sign──► signature ──aggregate──► one signature of many
//!     │                   └─ PublicKey::verify        └─ aggregate_verify, fast_aggregate_verify
//!     └─prove_possession──► Possession ──PublicKey::proven──► ProvenKey ──────┘
//! ```
//!
//! # Rules
//!
//! 1. A key or signature from outside is a point of the curve, in the subgroup and not the identity, or is
//!    refused. Keys are checked where they are parsed, signatures where they are verified. Adding up signatures
//!    alone lets the identity through ([`aggregate`]).
//! 2. Keys are added up only once possession of their secrets is proven: the type [`ProvenKey`] says so. A key
//!    that is "mine minus all the others" would sign for all ([`fast_aggregate_verify`]). Where no proof was
//!    asked for, [`crate::seal::Aggregate`] weights each key instead.
//! 3. An aggregate of nothing is refused: it would verify for nobody.
//! 4. Signatures of many are checked at once with a random weight each ([`verify_batch`]), or are added up by
//!    their holders on purpose ([`aggregate_verify`]). The sum of a plain aggregate says that *together* they are
//!    right, and says nothing of a single one.

#![allow(clippy::wildcard_enum_match_arm, reason = "error codes of blst")]

mod aggregate;
mod batch;
pub(crate) mod curve;
mod key;
mod scalar;
mod scheme;

pub use aggregate::{Signers, aggregate, aggregate_keys, aggregate_verify, fast_aggregate_verify};
pub use batch::{SignatureSet, find_bad, verify_batch, verify_possessions};
pub use key::{Possession, ProvenKey, PublicKey, SecretKey};
pub use scalar::SecretScalar;
pub use scheme::{MinPk, MinSig, Scheme};

use crate::Error;
use blst::{BLST_ERROR, Pairing};
use curve::Point;
use std::any::Any;

/// A compressed key: 96 bytes of G2 in [`MinSig`], 48 bytes of G1 in [`MinPk`].
pub(crate) type KeyBytes<S> = <<S as Scheme>::Key as Point>::Bytes;

pub(crate) fn parse_key<P: Point>(what: &'static str, bytes: &P::Bytes) -> Result<P, Error> {
    let reason = |error| match error {
        BLST_ERROR::BLST_PK_IS_INFINITY => "the identity point",
        BLST_ERROR::BLST_POINT_NOT_IN_GROUP => "a point outside the subgroup",
        BLST_ERROR::BLST_POINT_NOT_ON_CURVE => "a point outside the curve",
        _ => "not a compressed point",
    };
    let invalid = |error| Error::InvalidKey { what, reason: reason(error) };
    let key = P::uncompress(bytes.as_ref()).map_err(invalid)?;
    key.validate().map_err(invalid)?;
    Ok(key)
}

pub(crate) fn parse_signature<S: Scheme>(signature: &S::Signature) -> Result<S::Point, Error> {
    let point = S::Point::uncompress(signature.as_ref()).map_err(|_| Error::MalformedSeal)?;
    point.validate().map_err(|_| Error::MalformedSeal)?;
    Ok(point)
}

pub(crate) fn verify_one<S: Scheme>(
    key: &S::Key,
    message: &[u8],
    signature: &S::Signature,
) -> Result<(), Error> {
    verify_sum::<S>(S::CIPHERSUITE, [(key, message)].into_iter(), signature)
}

/// Whether `signature` is the sum of one signature per key and message, hashed under `tag`. At least one pair is
/// the caller's business.
///
/// Verifies on the calling thread: `blst`'s own `verify` would hand every call to its thread pool.
pub(crate) fn verify_sum<'a, S: Scheme>(
    tag: &[u8],
    signed: impl Iterator<Item = (&'a S::Key, &'a [u8])>,
    signature: &S::Signature,
) -> Result<(), Error>
where
    S::Key: 'a,
{
    let signature = parse_signature::<S>(signature)?;
    let mut pairing = Pairing::new(true, tag);
    for (position, (key, message)) in signed.enumerate() {
        // The signature is added once: with the first key. What is no point of its group is none.
        let signature: &dyn Any = if position == 0 { &signature } else { &() };
        if pairing.aggregate(key, false, signature, false, message, &[]) != BLST_ERROR::BLST_SUCCESS {
            return Err(Error::BadSignature);
        }
    }
    pairing.commit();
    if pairing.finalverify(None) { Ok(()) } else { Err(Error::BadSignature) }
}

#[cfg(test)]
mod tests;
