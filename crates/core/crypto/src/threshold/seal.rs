//! The chain seal: one short signature of the whole cluster.
//!
//! Threshold signatures in the scheme [`MinSig`]. The ciphersuite's basic form is enough: where different
//! keys are added up ([`Aggregate`]) each is weighted by a hash of everything, so a rogue key gains
//! nothing and no proof of possession is needed.

pub use super::shares_on_one_polynomial;

use super::{MinSig, Scheme as _};
use crate::Error;
use crate::bls::curve::{self, Point as _, Scalar, WEIGHT_BITS};
use crate::bls::parse_signature;
use aequa_types::{OperatorIndex, Seal};
use blst::blst_p1_affine;
use sha2::{Digest as _, Sha512};

/// Size of an encoded group key or public share in bytes.
pub const KEY_BYTES: usize = 96;

/// The key under which the cluster's seals verify.
pub type GroupKey = super::GroupKey<MinSig>;
/// The public half of an operator's share of the seal.
pub type PublicShare = super::PublicShare<MinSig>;
/// An operator's share of the cluster's secret.
pub type SecretShare = super::SecretShare<MinSig>;
/// What makes seals of shares.
pub type Combiner = super::Combiner<MinSig>;
/// What became of shares of a seal.
pub type Combined = super::Combined<MinSig>;
/// A freshly shared key of a cluster.
pub type Dealing = super::Dealing<MinSig>;

/// [`super::deal`] for seals.
pub fn deal(threshold: usize, operators: usize) -> Result<Dealing, Error> {
    super::deal(threshold, operators)
}

/// [`super::combine`] for seals.
pub fn combine(threshold: usize, shares: &[(OperatorIndex, Seal)]) -> Result<Seal, Error> {
    super::combine::<MinSig>(threshold, shares)
}

impl GroupKey {
    /// Whether every seal is the cluster's signature of its message, at the price of two pairings in
    /// all: a combination with weights hashed from the whole batch holds only if each does.
    pub fn verify_batch(&self, batch: &[(Vec<u8>, Seal)]) -> Result<(), Error> {
        if let [(message, seal)] = batch {
            return self.verify(message, seal);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let seals = points(batch.iter().map(|(_, seal)| seal))?;
        let hashes: Vec<_> =
            batch.iter().map(|(message, _)| curve::hash_to_g1(message, MinSig::CIPHERSUITE)).collect();
        let transcript = self.batch_transcript(batch);
        let weights: Vec<Scalar> =
            (0..batch.len() as u64).map(|index| Scalar::challenge(&transcript, index)).collect();
        let seal = curve::sum(seals.iter().zip(&weights), WEIGHT_BITS);
        let hash = curve::sum(hashes.iter().zip(&weights), WEIGHT_BITS);
        match (seal, hash) {
            (Some(seal), Some(hash)) if curve::pairing_holds(&seal, &hash, &self.key) => Ok(()),
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
}

/// One signature by all keys of a set over one message.
///
/// A plain sum of keys can be forged by whoever chooses the last key as "mine minus all the others".
/// Here key *i* counts with weight `H(message ‖ all keys ‖ i)` (Boneh, Drijvers, Neven 2018), which no
/// one can know before all keys are fixed; so the aggregate shows that every secret took part.
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
        let points = points(signatures.iter())?;
        let sum = curve::sum(points.iter().zip(&self.weights), WEIGHT_BITS).ok_or(Error::MalformedSeal)?;
        Ok(sum.compress().into())
    }

    /// Whether the holders of all keys signed; false for an empty set.
    pub fn verify(&self, signature: &Seal) -> Result<(), Error> {
        let signature = parse_signature::<MinSig>(signature)?;
        let keys = self.keys.iter().map(|share| &share.key);
        let key = curve::sum(keys.zip(&self.weights), WEIGHT_BITS).ok_or(Error::BadSignature)?;
        let hash = curve::hash_to_g1(self.message, MinSig::CIPHERSUITE);
        if curve::pairing_holds(&signature, &hash, &key) { Ok(()) } else { Err(Error::BadSignature) }
    }
}

fn points<'a>(seals: impl Iterator<Item = &'a Seal>) -> Result<Vec<blst_p1_affine>, Error> {
    seals.map(parse_signature::<MinSig>).collect()
}
