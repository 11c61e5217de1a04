//! Whether operators of an Obol cluster are who they say they will be.

use super::VerifiedObolLock;
use super::enr::{NodeKey, NodeSecret};
use crate::Error;
use crate::identity::{IdentityKey, PublicIdentity};
use crate::lock::{LockError, item};
use aequa_types::OperatorIndex;
use aequa_types::lock::Key32;
use aequa_types::obol::binding::{BINDING_VERSION, Binding};
use alloy_primitives::{B256, FixedBytes};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Binds a new identity to the operator whose node has this key.
pub fn bind(
    lock: &VerifiedObolLock,
    node: &NodeSecret,
    identity: &IdentityKey,
    enc_key: Key32,
) -> Result<Binding, LockError> {
    let public = node.public();
    let operator = lock.operator_of(&public).ok_or(LockError::NotOurs("the key of the own node record"))?;
    let mut binding = Binding {
        version: BINDING_VERSION.into(),
        lock_hash: lock.lock().lock_hash,
        operator,
        identity_key: Key32::from(identity.public().to_bytes()),
        enc_key,
        enr_signature: FixedBytes::ZERO,
        identity_signature: Default::default(),
    };
    binding.enr_signature = node.sign(digest(&binding));
    binding.identity_signature = identity.sign(&binding.statement());
    Ok(binding)
}

/// Checks that these bind every operator of the lock, each once and each to keys of its own; gives them in order.
///
/// Every one, and not only a quorum: an operator without a new identity would be a member that can never vote, and
/// the cluster could bear one fault less for good.
pub fn check_all(lock: &VerifiedObolLock, bindings: Vec<Binding>) -> Result<Vec<Binding>, LockError> {
    let mut found: BTreeMap<OperatorIndex, Binding> = BTreeMap::new();
    for binding in bindings {
        let at = format!("binding of operator {}", binding.operator);
        check(lock, &binding).map_err(|(field, reason)| item(format!("{at}: {field}"), reason))?;
        let keys = [binding.identity_key, binding.enc_key];
        let is_taken =
            |other: &Binding| keys.iter().any(|key| [other.identity_key, other.enc_key].contains(key));
        match found.get(&binding.operator) {
            Some(same) if *same == binding => continue,
            Some(_) => {
                return Err(item(at, "there are two, and they differ: ask the operator which is its own"));
            }
            None if keys[0] == keys[1] || found.values().any(is_taken) => {
                return Err(item(at, "a key of it appears twice"));
            }
            None => found.insert(binding.operator, binding),
        };
    }
    match lock.quorum().members().find(|member| !found.contains_key(member)) {
        Some(missing) => {
            Err(item(format!("binding of operator {missing}"), "is missing: every operator makes one"))
        }
        None => Ok(found.into_values().collect()),
    }
}

fn check(lock: &VerifiedObolLock, binding: &Binding) -> Result<(), (&'static str, String)> {
    if binding.lock_hash != lock.lock().lock_hash {
        return Err(("lock_hash", "of another lock".into()));
    }
    let node: &NodeKey = lock
        .nodes()
        .get(binding.operator.as_usize())
        .ok_or_else(|| ("operator", "none has this place".to_owned()))?;
    let reason = |error: Error| error.to_string();
    node.verify(digest(binding), &binding.enr_signature.0)
        .map_err(|error| ("enr_signature", reason(error)))?;
    if binding.enc_key.is_zero() {
        return Err(("enc_key", "the zero key".into()));
    }
    PublicIdentity::from_bytes(&binding.identity_key.0)
        .map_err(|error| ("identity_key", reason(error)))?
        .verify_bytes(&binding.statement(), &binding.identity_signature)
        .map_err(|error| ("identity_signature", reason(error)))
}

fn digest(binding: &Binding) -> B256 {
    B256::new(Sha256::digest(binding.statement()).into())
}
