//! Many signatures checked at once, and which of them are bad.

use super::curve::{Point as _, Scalar, WEIGHT_BITS};
use super::{Possession, PublicKey, Scheme, parse_signature};
use crate::Error;
use blst::{BLST_ERROR, Pairing};
use sha2::{Digest as _, Sha512};
use std::ops::Range;

/// A signature and what it is said to belong to.
#[derive(Debug, Clone, Copy)]
pub struct SignatureSet<'a, S: Scheme> {
    /// Whose signature it is said to be; [`super::aggregate_keys`] for one of several.
    pub key: PublicKey<S>,
    /// What it is said to sign.
    pub message: &'a [u8],
    /// The signature, as it came.
    pub signature: S::Signature,
}

/// Whether every signature is its key's of its message: one final exponentiation in all. An empty batch holds.
///
/// Two bad signatures whose errors cancel would pass a plain sum, and are easily made. So each counts with a
/// random weight of 128 bits: a batch with a bad one passes with probability 2^-128. The weights are hashed from
/// the whole batch *and* from 32 bytes of the operating system. The hash binds them to every signature, key and
/// message, so that nothing can be fitted to them; the fresh bytes keep an attacker from searching for a batch
/// whose weights suit it. Should the system have none to give, the hash alone remains, and that search costs
/// 2^128. Either way an honest batch passes, and on every node.
pub fn verify_batch<S: Scheme>(batch: &[SignatureSet<'_, S>]) -> Result<(), Error> {
    match batch {
        [] => Ok(()),
        [set] => set.key.verify(set.message, &set.signature),
        batch => holds(S::CIPHERSUITE, &parse(batch)?),
    }
}

/// Whether possession is proven of every key, as [`verify_batch`] tells it of signatures.
pub fn verify_possessions<S: Scheme>(proofs: &[(PublicKey<S>, Possession<S>)]) -> Result<(), Error> {
    if proofs.is_empty() {
        return Ok(());
    }
    let messages: Vec<_> = proofs.iter().map(|(key, _)| key.to_bytes()).collect();
    let sets = proofs.iter().zip(&messages).map(|((key, possession), message)| SignatureSet {
        key: *key,
        message: message.as_ref(),
        signature: possession.0,
    });
    holds(S::POSSESSION, &parse(&sets.collect::<Vec<_>>())?)
}

/// The positions of the signatures that are not what they are said to be, ascending.
///
/// Halves what fails until single signatures are left: *b* bad ones of *n* cost about 2·*b*·log2(*n*) batches, and
/// no batch is larger than the last. Half a batch is not checked when the other half was found good.
pub fn find_bad<S: Scheme>(batch: &[SignatureSet<'_, S>]) -> Vec<usize> {
    let parsed: Vec<Option<Parsed<'_, S>>> = batch.iter().map(|set| Parsed::of(set).ok()).collect();
    let positions: Vec<usize> = (0..batch.len()).filter(|position| parsed[*position].is_some()).collect();
    let well_formed: Vec<Parsed<'_, S>> = parsed.iter().flatten().cloned().collect();
    let mut bad: Vec<usize> = (0..batch.len()).filter(|position| parsed[*position].is_none()).collect();
    if !well_formed.is_empty() && holds(S::CIPHERSUITE, &well_formed).is_err() {
        bisect(&well_formed, 0..well_formed.len(), &mut |index| bad.push(positions[index]));
    }
    bad.sort_unstable();
    bad
}

/// Blames what is bad in a range that is known not to hold.
fn bisect<S: Scheme>(sets: &[Parsed<'_, S>], range: Range<usize>, blame: &mut impl FnMut(usize)) {
    if range.len() == 1 {
        return blame(range.start);
    }
    let middle = range.start + range.len() / 2;
    let (left, right) = (range.start..middle, middle..range.end);
    let left_holds = holds(S::CIPHERSUITE, &sets[left.clone()]).is_ok();
    if !left_holds {
        bisect(sets, left, blame);
    }
    if left_holds || holds(S::CIPHERSUITE, &sets[right.clone()]).is_err() {
        bisect(sets, right, blame);
    }
}

/// A signature set with its signature as a point of the subgroup.
#[derive(Clone)]
struct Parsed<'a, S: Scheme> {
    key: PublicKey<S>,
    message: &'a [u8],
    signature: S::Point,
}

impl<'a, S: Scheme> Parsed<'a, S> {
    fn of(set: &SignatureSet<'a, S>) -> Result<Self, Error> {
        let signature = parse_signature::<S>(&set.signature)?;
        Ok(Self { key: set.key, message: set.message, signature })
    }
}

fn parse<'a, S: Scheme>(batch: &[SignatureSet<'a, S>]) -> Result<Vec<Parsed<'a, S>>, Error> {
    batch.iter().map(Parsed::of).collect()
}

fn holds<S: Scheme>(tag: &[u8], sets: &[Parsed<'_, S>]) -> Result<(), Error> {
    let transcript = transcript(sets);
    let mut pairing = Pairing::new(true, tag);
    for (index, set) in sets.iter().enumerate() {
        let weight = Scalar::challenge(&transcript, index as u64).to_scalar();
        let (key, signature) = (&set.key.point, &set.signature);
        let code = pairing.mul_n_aggregate(
            key,
            false,
            signature,
            false,
            &weight.b[..WEIGHT_BITS / 8],
            WEIGHT_BITS,
            set.message,
            &[],
        );
        if code != BLST_ERROR::BLST_SUCCESS {
            return Err(Error::BadSignature);
        }
    }
    pairing.commit();
    if pairing.finalverify(None) { Ok(()) } else { Err(Error::BadSignature) }
}

/// What the weights of a batch are hashed from.
fn transcript<S: Scheme>(sets: &[Parsed<'_, S>]) -> [u8; 64] {
    let mut fresh = [0u8; 32];
    // Zeros when there are none: see above.
    let _ = getrandom::fill(&mut fresh);
    let mut hasher = Sha512::new_with_prefix(b"aequa/signature-batch/v1\0");
    hasher.update(fresh);
    for set in sets {
        hasher.update(set.key.to_bytes());
        hasher.update((set.message.len() as u64).to_be_bytes());
        hasher.update(set.message);
        hasher.update(set.signature.compress());
    }
    hasher.finalize().into()
}
