//! One signature by all keys of a set over one message.
//!
//! A plain sum of keys can be forged by whoever chooses the last key as "mine minus all the others".
//! Here key *i* counts with weight `H(message ‖ all keys ‖ i)` (Boneh, Drijvers, Neven 2018), which no
//! one can know before all keys are fixed; so the aggregate shows that every secret took part.

use super::curve::{self, Scalar, WEIGHT_BITS};
use super::{CIPHERSUITE, PublicShare, parse_seal};
use crate::Error;
use aequa_types::Seal;
use blst::{blst_p1_affine, blst_p2_affine, min_sig};
use sha2::{Digest as _, Sha512};

/// The weights of one message and one ordered set of keys.
pub struct Aggregate<'a> {
    message: &'a [u8],
    keys: &'a [PublicShare],
    weights: Vec<Scalar>,
}

impl<'a> Aggregate<'a> {
    /// Fixes message and keys; the order of the keys is part of it.
    pub fn new(message: &'a [u8], keys: &'a [PublicShare]) -> Self {
        let mut hasher = Sha512::new_with_prefix(b"aequa/seal-aggregate/v1\0");
        hasher.update((message.len() as u64).to_be_bytes());
        hasher.update(message);
        for key in keys {
            hasher.update(key.to_bytes());
        }
        let transcript: [u8; 64] = hasher.finalize().into();
        let weights = (0..keys.len() as u64).map(|index| Scalar::challenge(&transcript, index)).collect();
        Self { message, keys, weights }
    }

    /// Adds up one signature of the message per key, in the order of the keys.
    pub fn sum(&self, signatures: &[Seal]) -> Result<Seal, Error> {
        if signatures.len() != self.keys.len() || self.keys.is_empty() {
            return Err(Error::TooFewShares { shares: signatures.len(), threshold: self.keys.len() });
        }
        let points = signatures.iter().map(parse_seal).collect::<Result<Vec<blst_p1_affine>, Error>>()?;
        let sum = curve::sum_g1(points.iter().zip(&self.weights), WEIGHT_BITS).ok_or(Error::MalformedSeal)?;
        Ok(Seal::from(min_sig::Signature::from(sum).compress()))
    }

    /// Whether the holders of all keys signed; false for an empty set.
    pub fn verify(&self, signature: &Seal) -> Result<(), Error> {
        let signature = parse_seal(signature)?;
        let points: Vec<blst_p2_affine> = self.keys.iter().map(|key| *key.point()).collect();
        let key = curve::sum_g2(points.iter().zip(&self.weights), WEIGHT_BITS).ok_or(Error::BadSignature)?;
        let hash = curve::hash_to_g1(self.message, CIPHERSUITE);
        if curve::pairing_holds(&signature, &hash, &key) { Ok(()) } else { Err(Error::BadSignature) }
    }
}
