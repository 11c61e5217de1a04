//! Whether the validators of a lock hold.

use super::{LockError, item};
use crate::bls::{MinPk, SignatureSet, find_bad, verify_batch};
use crate::threshold::{GroupKey, PublicShare, shares_on_one_polynomial};
use aequa_types::lock::ClusterLock;
use aequa_types::validator::ValidatorKey;
use aequa_types::{OperatorIndex, Quorum};
use alloy_primitives::B256;
use std::collections::BTreeSet;

/// The keys of a validator of a verified lock.
#[derive(Debug, Clone)]
pub struct ValidatorKeys {
    /// Its key on Ethereum.
    pub group_key: GroupKey<MinPk>,
    /// The operators' public shares, in order.
    pub public_shares: Vec<PublicShare<MinPk>>,
}

/// Checks keys, shares and signatures of every validator.
pub(super) fn check(lock: &ClusterLock, quorum: Quorum) -> Result<Vec<ValidatorKeys>, LockError> {
    let mut seen = BTreeSet::new();
    let mut keys = Vec::with_capacity(lock.validators.len());
    for (position, validator) in lock.validators.iter().enumerate() {
        validator.policy().check().map_err(|reason| item(format!("validators[{position}]"), reason))?;
        let at = |field: &str| format!("validators[{position}].{field}");
        // Where one operator signs alone, its share is the key.
        let shares = validator.public_shares.iter().filter(|_| quorum.quorum() > 1);
        let points = [&validator.pubkey].into_iter().chain(shares);
        if !points.into_iter().all(|point| seen.insert(*point)) {
            return Err(item(format!("validators[{position}]"), "a key of it appears twice"));
        }
        let checked = check_keys(&validator.pubkey, &validator.public_shares, quorum);
        keys.push(checked.map_err(|(field, reason)| item(at(&field), reason))?);
    }
    check_signatures(lock, &keys)?;
    Ok(keys)
}

/// The keys, or the field that does not hold and why.
pub(crate) fn check_keys(
    pubkey: &ValidatorKey,
    shares: &[ValidatorKey],
    quorum: Quorum,
) -> Result<ValidatorKeys, (String, String)> {
    let group_key =
        GroupKey::from_bytes(&pubkey.0).map_err(|error| ("pubkey".to_owned(), error.to_string()))?;
    if shares.len() != quorum.operators() {
        let reason = format!("{} for {} operators", shares.len(), quorum.operators());
        return Err(("public_shares".into(), reason));
    }
    let parse = |(operator, share): (OperatorIndex, &ValidatorKey)| {
        PublicShare::from_bytes(operator, &share.0)
            .map_err(|error| (format!("public_shares[{operator}]"), error.to_string()))
    };
    let public_shares = quorum.members().zip(shares).map(parse).collect::<Result<Vec<_>, _>>()?;
    shares_on_one_polynomial(&group_key, &public_shares, quorum.quorum())
        .map_err(|error| ("public_shares".to_owned(), error.to_string()))?;
    Ok(ValidatorKeys { group_key, public_shares })
}

/// All of them at once; when that fails, the first bad one is named.
fn check_signatures(lock: &ClusterLock, keys: &[ValidatorKeys]) -> Result<(), LockError> {
    let fork = lock.fork_version;
    let mut roots: Vec<(String, usize, B256)> = Vec::new();
    let mut signatures = Vec::new();
    for (position, validator) in lock.validators.iter().enumerate() {
        for (number, deposit) in validator.deposits.iter().enumerate() {
            let name = format!("validators[{position}].deposits[{number}].signature");
            roots.push((name, position, validator.deposit_signing_root(fork, deposit.amount_gwei)));
            signatures.push(deposit.signature);
        }
        let name = format!("validators[{position}].builder_registration.signature");
        roots.push((name, position, validator.registration_signing_root(fork)));
        signatures.push(validator.builder_registration.signature);
    }
    let batch: Vec<_> = roots
        .iter()
        .zip(&signatures)
        .map(|((_, position, root), signature)| SignatureSet::<MinPk> {
            key: keys[*position].group_key.into(),
            message: root.as_slice(),
            signature: *signature,
        })
        .collect();
    if verify_batch(&batch).is_ok() {
        return Ok(());
    }
    match find_bad(&batch).first() {
        Some(bad) => Err(item(&*roots[*bad].0, "is not the validator's")),
        None => Ok(()),
    }
}
