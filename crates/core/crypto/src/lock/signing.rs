//! How operators that hold shares sign a new lock together.
//!
//! ```text
//!   keys are there ──▶ each: shares of the signatures of every validator ──▶ q: combine, hash the lock
//!                  ──▶ each: its share of the group's signature of that hash, and its own ──▶ q: the lock holds
//! ```
//!
//! An operator that leaves has no share, and its own signature alone.
//!
//! BLS signatures are unique, so that everybody combines the same ones, whose shares they may be, and hashes the same
//! lock. An operator that is away when the lock is signed has no signature in it: its place holds zeros.

use super::{LockError, VerifiedLock, check_leaver, item, verify};
use crate::Error;
use crate::bls::{MinPk, SignatureSet, find_bad, verify_batch};
use crate::identity::{IdentityKey, PublicIdentity};
use crate::seal;
use crate::threshold::{self, PublicShare, combine};
use aequa_types::lock::{ClusterLock, Key32, LeaverSignature, Operator};
use aequa_types::validator::ValidatorSignature;
use aequa_types::{OperatorIndex, Quorum, Seal, Signature};
use alloy_primitives::B256;
use ssz_derive::{Decode, Encode};
use std::collections::BTreeMap;

/// An operator's shares of what the validators sign: of each its deposits, in order, and its registration.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ValidatorShares {
    /// All signatures of all validators, one after the other.
    pub signatures: Vec<ValidatorSignature>,
}

/// What an operator says to a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LockShare {
    /// Its share of the group's signature of the lock hash.
    pub seal: Seal,
    /// Its own signature of it.
    pub signature: Signature,
}

/// Signs what the validators of a lock have to show, with own shares of their keys.
pub fn sign_validators(lock: &ClusterLock, shares: &[threshold::SecretShare<MinPk>]) -> ValidatorShares {
    let signatures = roots(lock).map(|(validator, root)| shares[validator].sign(root.as_slice()));
    ValidatorShares { signatures: signatures.collect() }
}

/// Whether another operator's shares are what they should be; the public shares are in the lock.
pub fn check_validators(
    lock: &ClusterLock,
    operator: OperatorIndex,
    shares: &ValidatorShares,
) -> Result<(), LockError> {
    let roots: Vec<(usize, B256)> = roots(lock).collect();
    if shares.signatures.len() != roots.len() {
        let reason = format!("{} signatures of {operator}, must be {}", shares.signatures.len(), roots.len());
        return Err(item("validators", reason));
    }
    let mut batch = Vec::with_capacity(roots.len());
    for ((validator, root), signature) in roots.iter().zip(&shares.signatures) {
        let public = &lock.validators[*validator].public_shares;
        let public = public.get(operator.as_usize()).ok_or_else(|| item("validators", "no such operator"))?;
        let key = PublicShare::<MinPk>::from_bytes(operator, &public.0)?.into();
        batch.push(SignatureSet::<MinPk> { key, message: root.as_slice(), signature: *signature });
    }
    if verify_batch(&batch).is_ok() {
        return Ok(());
    }
    let bad = find_bad(&batch).first().map_or(0, |bad| roots[*bad].0);
    Err(item(format!("validators[{bad}]"), format!("a signature of operator {operator} is bad")))
}

/// Writes the signatures of the validators into a lock, of the shares of q operators that were checked, and its hash.
pub fn combine_validators(
    lock: &mut ClusterLock,
    quorum: Quorum,
    shares: &BTreeMap<OperatorIndex, ValidatorShares>,
) -> Result<(), Error> {
    let mut signatures = Vec::new();
    for number in 0..roots(lock).count() {
        let of_each = shares.iter().filter_map(|(operator, shares)| {
            shares.signatures.get(number).map(|signature| (*operator, *signature))
        });
        let some: Vec<_> = of_each.take(quorum.quorum()).collect();
        signatures.push(combine::<MinPk>(quorum.quorum(), &some)?);
    }
    let mut signatures = signatures.into_iter();
    for validator in &mut lock.validators {
        let registration = &mut validator.builder_registration.signature;
        let places =
            validator.deposits.iter_mut().map(|deposit| &mut deposit.signature).chain([registration]);
        places.zip(signatures.by_ref()).for_each(|(place, signature)| *place = signature);
    }
    lock.lock_hash = lock.compute_lock_hash();
    Ok(())
}

/// Signs a lock that has its hash.
pub fn sign_lock(lock: &ClusterLock, identity: &IdentityKey, share: &seal::SecretShare) -> LockShare {
    let message = lock.lock_hash.as_slice();
    LockShare { seal: share.sign(message), signature: identity.sign(message) }
}

/// Signs a lock that has its hash, for one that leaves.
pub fn sign_as_leaver(lock: &ClusterLock, identity: &IdentityKey) -> LeaverSignature {
    let identity_key = Key32::from(identity.public().to_bytes());
    LeaverSignature { identity_key, signature: identity.sign(lock.lock_hash.as_slice()) }
}

/// Whether what one that leaves says to a lock holds, and is said by an operator of the lock before.
pub fn check_leaver_signature(
    parent: &VerifiedLock,
    lock: &ClusterLock,
    leaver: &LeaverSignature,
) -> Result<(), LockError> {
    let is_it = |operator: &Operator| operator.identity_key == leaver.identity_key;
    if !parent.lock().operators.iter().any(is_it) || lock.operators.iter().any(is_it) {
        return Err(item("leaver_signatures", "of one who does not leave"));
    }
    check_leaver(lock, leaver).map_err(|error| item("leaver_signatures", error))
}

/// Whether what another operator says to a lock holds.
pub fn check_lock_share(
    lock: &ClusterLock,
    operator: OperatorIndex,
    share: &LockShare,
) -> Result<(), LockError> {
    let at = operator.as_usize();
    let message = lock.lock_hash.as_slice();
    let (Some(member), Some(public)) = (lock.operators.get(at), lock.sequencer.public_shares.get(at)) else {
        return Err(item("operators", format!("none is {operator}")));
    };
    PublicIdentity::from_bytes(&member.identity_key.0)?
        .verify_bytes(message, &share.signature)
        .map_err(|error| item(format!("node_signatures[{operator}]"), error))?;
    seal::PublicShare::from_bytes(operator, &public.0)?
        .verify(message, &share.seal)
        .map_err(|error| item("signature_aggregate", error))
}

/// Completes a lock with what q operators or more have said to it and was checked, and verifies all of it.
pub fn complete(
    lock: &mut ClusterLock,
    quorum: Quorum,
    said: &BTreeMap<OperatorIndex, LockShare>,
) -> Result<VerifiedLock, LockError> {
    let shares: Vec<_> = said.iter().map(|(operator, share)| (*operator, share.seal)).collect();
    lock.signature_aggregate = seal::combine(quorum.quorum(), &shares[..quorum.quorum().min(shares.len())])?;
    let signature = |operator| said.get(&operator).map_or(Signature::default(), |share| share.signature);
    lock.node_signatures = quorum.members().map(signature).collect();
    verify(lock)
}

/// Everything that validators sign in a lock: which validator, and the root. Imported ones have signed before.
fn roots(lock: &ClusterLock) -> impl Iterator<Item = (usize, B256)> {
    let fork = lock.fork_version;
    let new = lock.validators.iter().filter(|_| lock.imported_from.is_none());
    new.enumerate().flat_map(move |(number, validator)| {
        let deposits = validator.deposits.iter();
        let deposits = deposits.map(move |deposit| validator.deposit_signing_root(fork, deposit.amount_gwei));
        deposits.chain([validator.registration_signing_root(fork)]).map(move |root| (number, root))
    })
}
