//! BLS signatures over BLS12-381 (draft-irtf-cfrg-bls-signature), in either of the two schemes ([`Scheme`]).
//!
//! [`MinSig`] is for what the chain seals, [`MinPk`] for the keys of Ethereum's validators.

#![allow(clippy::wildcard_enum_match_arm, reason = "error codes of blst")]

pub(crate) mod curve;
mod scheme;

pub use scheme::{MinPk, MinSig, Scheme};

use crate::Error;
use blst::{BLST_ERROR, Pairing};
use curve::Point;

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

/// Verifies on the calling thread: `blst`'s own `verify` would hand every call to its thread pool.
pub(crate) fn verify_one<S: Scheme>(
    key: &S::Key,
    message: &[u8],
    signature: &S::Signature,
) -> Result<(), Error> {
    let signature = parse_signature::<S>(signature)?;
    let mut pairing = Pairing::new(true, S::CIPHERSUITE);
    if pairing.aggregate(key, false, &signature, false, message, &[]) != BLST_ERROR::BLST_SUCCESS {
        return Err(Error::BadSignature);
    }
    pairing.commit();
    if pairing.finalverify(None) { Ok(()) } else { Err(Error::BadSignature) }
}
