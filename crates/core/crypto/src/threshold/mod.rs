//! The chain seal: one short signature of the whole cluster.
//!
//! BLS12-381 in the min-sig variant: signatures are 48-byte points of G1, keys 96-byte points of G2.
//! Ciphersuite `BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_` (draft-irtf-cfrg-bls-signature). The
//! basic scheme is enough: a seal is checked under one key, the group's, or to lay blame under one
//! public share; where different keys are added up (the lock's aggregate, [`Aggregate`]) each is
//! weighted by a hash of everything, so a rogue key gains nothing and no proof of possession is needed.
//!
//! ```text
//! deal ──► SecretShare(i) ──sign──► seal share ─┐
//!   └────► PublicShare(i) (to blame)            ├─ q of them: combine ──► seal ──► GroupKey::verify
//!   └────► GroupKey                 others ─────┘
//! ```
//!
//! The shares are values of one polynomial of degree threshold − 1 over the scalar field. The
//! coordinate of operator *i* is *i* + 1; the value at 0 is the group's secret, which nobody holds.
//! Any `threshold` shares of one message combine to the same signature.

#![allow(clippy::wildcard_enum_match_arm, reason = "error codes of blst")]

mod aggregate;
mod combine;
mod curve;
mod deal;

pub use aggregate::Aggregate;
pub use combine::{Combiner, Sealing, combine};
pub use deal::{Dealing, deal, shares_on_one_polynomial};

use crate::Error;
use crate::kept::Kept;
use aequa_types::{OperatorIndex, Seal};
use blst::{BLST_ERROR, Pairing, blst_p1_affine, blst_p2_affine, min_sig};
use curve::{Scalar, WEIGHT_BITS};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

/// The ciphersuite's tag: what separates these signatures from those of every other use of the curve.
const CIPHERSUITE: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";

/// Size of an encoded group key or public share in bytes.
pub const KEY_BYTES: usize = 96;

/// The key under which the cluster's seals verify.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GroupKey {
    key: min_sig::PublicKey,
}

impl GroupKey {
    /// Parses a compressed point of G2: on the curve, in the subgroup, not the identity.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<Self, Error> {
        Ok(Self { key: parse_key("group key", bytes)? })
    }

    /// The compressed point.
    pub fn to_bytes(&self) -> [u8; KEY_BYTES] {
        self.key.compress()
    }

    /// Whether `seal` is the cluster's signature of `message`.
    pub fn verify(&self, message: &[u8], seal: &Seal) -> Result<(), Error> {
        verify_one(&self.key, message, seal)
    }

    /// Whether every seal is the cluster's signature of its message, at the price of two pairings in
    /// all: a combination with weights hashed from the whole batch holds only if each does.
    pub fn verify_batch(&self, batch: &[(Vec<u8>, Seal)]) -> Result<(), Error> {
        if let [(message, seal)] = batch {
            return self.verify(message, seal);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let seals =
            batch.iter().map(|(_, seal)| parse_seal(seal)).collect::<Result<Vec<blst_p1_affine>, Error>>()?;
        let hashes: Vec<_> =
            batch.iter().map(|(message, _)| curve::hash_to_g1(message, CIPHERSUITE)).collect();
        let transcript = self.batch_transcript(batch);
        let weights: Vec<Scalar> =
            (0..batch.len() as u64).map(|index| Scalar::challenge(&transcript, index)).collect();
        let seal = curve::sum_g1(seals.iter().zip(&weights), WEIGHT_BITS);
        let hash = curve::sum_g1(hashes.iter().zip(&weights), WEIGHT_BITS);
        match (seal, hash) {
            (Some(seal), Some(hash)) if curve::pairing_holds(&seal, &hash, self.point()) => Ok(()),
            _ => Err(Error::BadSignature),
        }
    }

    fn batch_transcript(&self, batch: &[(Vec<u8>, Seal)]) -> [u8; 64] {
        let mut hasher = Sha512::new_with_prefix(b"aequa/seal-batch/v1\0");
        hasher.update(self.to_bytes());
        for (message, seal) in batch {
            hasher.update((message.len() as u64).to_be_bytes());
            hasher.update(message);
            hasher.update(seal);
        }
        hasher.finalize().into()
    }

    fn point(&self) -> &blst_p2_affine {
        (&self.key).into()
    }
}

impl std::fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupKey({})", hex::encode(self.to_bytes()))
    }
}

/// The public half of one operator's share: tells whose share was bad.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicShare {
    operator: OperatorIndex,
    key: min_sig::PublicKey,
}

impl PublicShare {
    /// Parses a compressed point of G2: on the curve, in the subgroup, not the identity.
    pub fn from_bytes(operator: OperatorIndex, bytes: &[u8; KEY_BYTES]) -> Result<Self, Error> {
        Ok(Self { operator, key: parse_key("public share", bytes)? })
    }

    /// The compressed point.
    pub fn to_bytes(&self) -> [u8; KEY_BYTES] {
        self.key.compress()
    }

    /// Whose share it is.
    pub fn operator(&self) -> OperatorIndex {
        self.operator
    }

    /// Whether `share` is this operator's part of the seal of `message`.
    pub fn verify(&self, message: &[u8], share: &Seal) -> Result<(), Error> {
        verify_one(&self.key, message, share)
    }

    fn point(&self) -> &blst_p2_affine {
        (&self.key).into()
    }
}

impl std::fmt::Debug for PublicShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicShare({}, {})", self.operator, hex::encode(self.to_bytes()))
    }
}

/// One operator's share of the group's secret. Zeroised when dropped; `Debug` does not show it.
#[derive(Clone)]
pub struct SecretShare {
    operator: OperatorIndex,
    key: Kept<min_sig::SecretKey>,
}

impl SecretShare {
    /// Parses a big-endian scalar between 1 and the group order − 1.
    pub fn from_bytes(operator: OperatorIndex, bytes: &[u8]) -> Result<Self, Error> {
        let key = min_sig::SecretKey::from_bytes(bytes).map_err(|_| Error::InvalidKey {
            what: "secret share",
            reason: "not a scalar between 1 and the group order",
        })?;
        Ok(Self { operator, key: Kept::new(key) })
    }

    /// The big-endian scalar, for the keystore.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// Whose share it is.
    pub fn operator(&self) -> OperatorIndex {
        self.operator
    }

    /// The public half.
    pub fn public(&self) -> PublicShare {
        PublicShare { operator: self.operator, key: self.key.sk_to_pk() }
    }

    /// This operator's part of the seal of `message`.
    pub fn sign(&self, message: &[u8]) -> Seal {
        Seal::from(self.key.sign(message, CIPHERSUITE, &[]).compress())
    }
}

impl std::fmt::Debug for SecretShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretShare(of operator {})", self.operator)
    }
}

/// The coordinate of an operator's share: its index + 1, since 0 is where the secret is.
fn coordinate(operator: OperatorIndex) -> u64 {
    u64::from(operator.0) + 1
}

fn parse_key(what: &'static str, bytes: &[u8; KEY_BYTES]) -> Result<min_sig::PublicKey, Error> {
    let reason = |error| match error {
        BLST_ERROR::BLST_PK_IS_INFINITY => "the identity point",
        BLST_ERROR::BLST_POINT_NOT_IN_GROUP => "a point outside the subgroup",
        BLST_ERROR::BLST_POINT_NOT_ON_CURVE => "a point outside the curve",
        _ => "not a compressed point",
    };
    let invalid = |error| Error::InvalidKey { what, reason: reason(error) };
    let key = min_sig::PublicKey::uncompress(bytes).map_err(invalid)?;
    key.validate().map_err(invalid)?;
    Ok(key)
}

fn parse_seal(seal: &Seal) -> Result<blst_p1_affine, Error> {
    let signature = min_sig::Signature::uncompress(&seal.0).map_err(|_| Error::MalformedSeal)?;
    signature.validate(true).map_err(|_| Error::MalformedSeal)?;
    Ok(signature.into())
}

/// Verifies on the calling thread: `blst`'s own `verify` would hand every call to its thread pool.
fn verify_one(key: &min_sig::PublicKey, message: &[u8], seal: &Seal) -> Result<(), Error> {
    let seal = parse_seal(seal)?;
    let key: &blst_p2_affine = key.into();
    let mut pairing = Pairing::new(true, CIPHERSUITE);
    if pairing.aggregate(key, false, &seal, false, message, &[]) != BLST_ERROR::BLST_SUCCESS {
        return Err(Error::BadSignature);
    }
    pairing.commit();
    if pairing.finalverify(None) { Ok(()) } else { Err(Error::BadSignature) }
}

#[cfg(test)]
mod tests;
