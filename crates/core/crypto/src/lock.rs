//! Whether a cluster lock holds.
//!
//! [`verify`] re-derives everything that can be derived and checks every signature; what fails is
//! named by its place in the document. It needs no network and no key of one's own. Whether *this*
//! node belongs to the cluster is asked of the result: [`VerifiedLock::operator_of`],
//! [`VerifiedLock::check_own_share`].
//!
//! `signature_aggregate` is the weighted sum ([`crate::seal::Aggregate`]) of the signatures of all
//! shares of the sequencer key over `lock_hash`, in the order of operators: it shows that every share
//! named in the lock is held by somebody. `node_signatures` show that every operator agreed. In the lock of a ceremony
//! some operators may be away: q of them have signed, and the aggregate is the signature of the group.
//! `leaver_signatures` hold by themselves; whether they are of operators of the lock before is for
//! [`check_succession`] to say.

pub mod signing;
mod succession;
mod validators;

pub use succession::{check_following, check_succession};
pub use validators::ValidatorKeys;
pub(crate) use validators::check_keys as check_validator_keys;

use crate::Error;
use crate::identity::PublicIdentity;
use crate::seal::{Aggregate, Combiner, GroupKey, PublicShare, SecretShare, shares_on_one_polynomial};
use aequa_types::limits::{BLOCK_ITEMS_MAX, VALUE_BYTES_MAX};
use aequa_types::lock::{ClusterLock, LeaverSignature, Operator};
use aequa_types::{ClusterId, DecodeError, OperatorIndex, Quorum, Signature};
use alloy_primitives::B256;
use std::collections::BTreeSet;

/// Why a lock is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The text is no lock in canonical form.
    #[error(transparent)]
    Form(#[from] DecodeError),
    /// An item does not hold.
    #[error("{item}: {reason}")]
    Item {
        /// Place in the document, e.g. `operators[2].peer_id`.
        item: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No lock could be made: the keys of the cluster are impossible.
    #[error(transparent)]
    Keys(#[from] Error),
    /// An own key does not belong to the cluster.
    #[error("{0} is not that of the lock")]
    NotOurs(&'static str),
}

/// A lock in which everything was checked, with its keys parsed.
#[derive(Debug, Clone)]
pub struct VerifiedLock {
    lock: ClusterLock,
    quorum: Quorum,
    identities: Vec<PublicIdentity>,
    group_key: GroupKey,
    public_shares: Vec<PublicShare>,
    validators: Vec<ValidatorKeys>,
    warnings: Vec<String>,
}

/// Parses the canonical text and verifies it.
pub fn load(text: &str) -> Result<VerifiedLock, LockError> {
    verify(&ClusterLock::from_json(text)?)
}

/// Checks hashes, numbers, members, keys and signatures of a lock.
pub fn verify(lock: &ClusterLock) -> Result<VerifiedLock, LockError> {
    lock.check_form().map_err(|reason| item("lock", reason))?;
    check_hashes(lock)?;
    let quorum = check_numbers(lock)?;
    check_consensus(lock)?;
    let identities = check_operators(lock)?;
    let (group_key, public_shares) = check_sequencer(lock, quorum)?;
    check_signatures(lock, (quorum, &group_key), &identities, &public_shares)?;
    check_leavers(lock)?;
    let validators = validators::check(lock, quorum)?;
    let (lock, warnings) = (lock.clone(), warnings(quorum));
    Ok(VerifiedLock { lock, quorum, identities, group_key, public_shares, validators, warnings })
}

/// Checks what a lock takes from its definition: what fails here would fail at the end of a ceremony, for all.
pub fn check_definition(lock: &ClusterLock) -> Result<(), LockError> {
    check_consensus(lock)?;
    check_operators(lock)?;
    for (position, validator) in lock.validators.iter().enumerate() {
        validator.policy().check().map_err(|reason| item(format!("validators[{position}]"), reason))?;
    }
    if lock.imported_from.is_some() {
        let quorum = Quorum::of(lock.operators.len()).ok_or_else(|| item("operators", "none"))?;
        validators::check(lock, quorum)?;
    }
    Ok(())
}

impl VerifiedLock {
    /// The document.
    pub fn lock(&self) -> &ClusterLock {
        &self.lock
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        self.lock.cluster_id
    }

    /// Quorum arithmetic of the operators.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// The operators' keys, in order.
    pub fn identities(&self) -> &[PublicIdentity] {
        &self.identities
    }

    /// The key of the chain's seals.
    pub fn group_key(&self) -> &GroupKey {
        &self.group_key
    }

    /// The operators' public shares, in order.
    pub fn public_shares(&self) -> &[PublicShare] {
        &self.public_shares
    }

    /// The validators' keys, in the order of the lock.
    pub fn validators(&self) -> &[ValidatorKeys] {
        &self.validators
    }

    /// Operators that have signed it; of a ceremony that some were away from, not all.
    pub fn signed(&self) -> impl Iterator<Item = OperatorIndex> {
        let signatures = self.lock.node_signatures.iter();
        self.quorum
            .members()
            .zip(signatures)
            .filter_map(|(operator, signature)| (*signature != Signature::default()).then_some(operator))
    }

    /// A combiner of this cluster's seals.
    pub fn combiner(&self) -> Combiner {
        Combiner::new(self.quorum.quorum(), self.group_key, self.public_shares.clone())
    }

    /// What is allowed but worth saying at start.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Which operator has this identity; none for a stranger.
    pub fn operator_of(&self, identity: &PublicIdentity) -> Option<OperatorIndex> {
        let position = self.identities.iter().position(|member| member == identity)?;
        self.quorum.members().nth(position)
    }

    /// Whether a secret share from a keystore is the one the lock gives `operator`.
    pub fn check_own_share(&self, operator: OperatorIndex, share: &SecretShare) -> Result<(), LockError> {
        match self.public_shares.get(operator.as_usize()) {
            Some(public) if *public == share.public() => Ok(()),
            _ => Err(LockError::NotOurs("the public half of the own share")),
        }
    }
}

/// What a number of operators allows but does not recommend.
pub fn warnings(quorum: Quorum) -> Vec<String> {
    let (operators, faulty) = (quorum.operators(), quorum.faulty_max());
    let mut warnings = Vec::new();
    if operators < 4 {
        warnings.push(format!("{operators} operators tolerate no fault: for development only"));
    } else if operators != 3 * faulty + 1 {
        warnings.push(format!(
            "{operators} operators tolerate {faulty} faults, as {} do: the extra operators add no fault tolerance",
            3 * faulty + 1
        ));
    }
    warnings
}

pub(crate) fn item(item: impl Into<String>, reason: impl ToString) -> LockError {
    LockError::Item { item: item.into(), reason: reason.to_string() }
}

fn check_hashes(lock: &ClusterLock) -> Result<(), LockError> {
    if lock.definition_hash != lock.compute_definition_hash() {
        return Err(item("definition_hash", "not the hash of the definition"));
    }
    if lock.epoch == 0 && lock.cluster_id != lock.definition_hash {
        return Err(item("cluster_id", "not the definition hash of epoch 0"));
    }
    if (lock.epoch == 0) != (lock.parent_lock_hash == B256::ZERO) {
        return Err(item("parent_lock_hash", "zero at epoch 0 and at no other"));
    }
    if (lock.epoch == 0) != lock.activation_height.is_none() {
        return Err(item("activation_height", "absent at epoch 0 and at no other"));
    }
    if lock.lock_hash != lock.compute_lock_hash() {
        return Err(item("lock_hash", "not the hash of the lock"));
    }
    Ok(())
}

fn check_numbers(lock: &ClusterLock) -> Result<Quorum, LockError> {
    let quorum = Quorum::of(lock.operators.len()).ok_or_else(|| item("operators", "none"))?;
    if lock.threshold != quorum.quorum() as u64 {
        let reason = format!("{}, must be {} of {}", lock.threshold, quorum.quorum(), quorum.operators());
        return Err(item("threshold", reason));
    }
    for (name, length) in [
        ("sequencer.public_shares", lock.sequencer.public_shares.len()),
        ("node_signatures", lock.node_signatures.len()),
    ] {
        if length != quorum.operators() {
            return Err(item(name, format!("{length} for {} operators", quorum.operators())));
        }
    }
    Ok(quorum)
}

/// Parameters under which a cluster could never decide anything.
fn check_consensus(lock: &ClusterLock) -> Result<(), LockError> {
    let params = &lock.consensus.params;
    let builder = &params.builder;
    if lock.consensus.builder_policy_hash != builder.hash() {
        return Err(item("consensus.builder_policy_hash", "not the hash of the builder policy"));
    }
    let kinds: BTreeSet<_> = builder.order.iter().collect();
    let checks = [
        (params.checkpoint_interval > 0, "checkpoint_interval", "must be greater than 0"),
        (params.round_timeout_ms > 0, "round_timeout_ms", "must be greater than 0"),
        (params.round_timeout_cap_ms >= params.round_timeout_ms, "round_timeout_cap_ms", "below the timeout"),
        (!kinds.is_empty() && kinds.len() == builder.order.len(), "builder.order", "empty or repeating"),
        ((1..=BLOCK_ITEMS_MAX as u64).contains(&builder.max_n), "builder.max_n", "must be 1 to 16384"),
        (
            (1..=VALUE_BYTES_MAX as u64).contains(&builder.max_bytes),
            "builder.max_bytes",
            "must be 1 to 3 MiB",
        ),
    ];
    match checks.iter().find(|(holds, ..)| !holds) {
        Some((_, name, reason)) => Err(item(format!("consensus.{name}"), reason)),
        None => Ok(()),
    }
}

fn check_operators(lock: &ClusterLock) -> Result<Vec<PublicIdentity>, LockError> {
    let mut identities: Vec<PublicIdentity> = Vec::with_capacity(lock.operators.len());
    for (position, operator) in lock.operators.iter().enumerate() {
        let at = |field: &str| format!("operators[{position}].{field}");
        if operator.index.as_usize() != position {
            return Err(item(at("index"), format!("{}, must be {position}", operator.index)));
        }
        let identity = PublicIdentity::from_bytes(&operator.identity_key.0)
            .map_err(|error| item(at("identity_key"), error))?;
        if operator.peer_id != identity.peer_id() {
            return Err(item(at("peer_id"), "not derived from identity_key"));
        }
        if let Some(key) = operator.vrf_key {
            PublicIdentity::from_bytes(&key.0).map_err(|error| item(at("vrf_key"), error))?;
        }
        if operator.enc_key.is_some_and(|key| key.is_zero()) {
            return Err(item(at("enc_key"), "the zero key"));
        }
        check_unique(operator, &lock.operators[..position])?;
        identities.push(identity);
    }
    Ok(identities)
}

/// One key in two places would let one party speak for two, or one secret serve two purposes. Unique
/// identity keys make unique peer ids.
fn check_unique(operator: &Operator, earlier: &[Operator]) -> Result<(), LockError> {
    fn keys(operator: &Operator) -> impl Iterator<Item = (&'static str, [u8; 32])> {
        let named = [
            ("identity_key", Some(operator.identity_key)),
            ("vrf_key", operator.vrf_key),
            ("enc_key", operator.enc_key),
        ];
        named.into_iter().filter_map(|(name, key)| Some((name, key?.0)))
    }
    let mut seen: BTreeSet<[u8; 32]> = earlier.iter().flat_map(keys).map(|(_, key)| key).collect();
    match keys(operator).find(|(_, key)| !seen.insert(*key)) {
        Some((name, _)) => Err(item(format!("operators[{}].{name}", operator.index), "appears twice")),
        None => Ok(()),
    }
}

fn check_sequencer(lock: &ClusterLock, quorum: Quorum) -> Result<(GroupKey, Vec<PublicShare>), LockError> {
    let group_key = GroupKey::from_bytes(&lock.sequencer.group_key.0)
        .map_err(|error| item("sequencer.group_key", error))?;
    let mut shares: Vec<PublicShare> = Vec::with_capacity(quorum.operators());
    for (operator, key) in quorum.members().zip(&lock.sequencer.public_shares) {
        let at = format!("sequencer.public_shares[{operator}]");
        if lock.sequencer.public_shares[..operator.as_usize()].contains(key) {
            return Err(item(at, "appears twice"));
        }
        shares.push(PublicShare::from_bytes(operator, &key.0).map_err(|error| item(at, error))?);
    }
    shares_on_one_polynomial(&group_key, &shares, quorum.quorum())
        .map_err(|error| item("sequencer", error))?;
    Ok((group_key, shares))
}

/// A dealer has everybody sign. A ceremony ends without those that are away: the places of their signatures hold zeros,
/// q others are needed, and what they cannot make alone is the signature of the group.
fn check_signatures(
    lock: &ClusterLock,
    (quorum, group_key): (Quorum, &GroupKey),
    identities: &[PublicIdentity],
    shares: &[PublicShare],
) -> Result<(), LockError> {
    let message = lock.lock_hash.as_slice();
    let mut signed = 0;
    for (position, (identity, signature)) in identities.iter().zip(&lock.node_signatures).enumerate() {
        if *signature == Signature::default() {
            continue;
        }
        identity
            .verify_bytes(message, signature)
            .map_err(|error| item(format!("node_signatures[{position}]"), error))?;
        signed += 1;
    }
    if signed < quorum.quorum() {
        return Err(item("node_signatures", format!("{signed}, must be {} at least", quorum.quorum())));
    }
    let of_all = Aggregate::new(message, shares).verify(&lock.signature_aggregate);
    of_all
        .or_else(|_| group_key.verify(message, &lock.signature_aggregate))
        .map_err(|error: Error| item("signature_aggregate", error))
}

/// Each once, in one order, and none that has a place to sign in.
fn check_leavers(lock: &ClusterLock) -> Result<(), LockError> {
    if lock.epoch == 0 && !lock.leaver_signatures.is_empty() {
        return Err(item("leaver_signatures", "nobody leaves at epoch 0"));
    }
    for (position, leaver) in lock.leaver_signatures.iter().enumerate() {
        let at = |field: &str| format!("leaver_signatures[{position}].{field}");
        let before = position.checked_sub(1).map(|before| lock.leaver_signatures[before].identity_key);
        if before.is_some_and(|before| before >= leaver.identity_key) {
            return Err(item(at("identity_key"), "not in ascending order"));
        }
        if lock.operators.iter().any(|operator| operator.identity_key == leaver.identity_key) {
            return Err(item(at("identity_key"), "that of an operator of this lock"));
        }
        check_leaver(lock, leaver).map_err(|error| item(at("signature"), error))?;
    }
    Ok(())
}

/// Whether one that leaves has signed this lock.
fn check_leaver(lock: &ClusterLock, leaver: &LeaverSignature) -> Result<(), Error> {
    let identity = PublicIdentity::from_bytes(&leaver.identity_key.0)?;
    identity.verify_bytes(lock.lock_hash.as_slice(), &leaver.signature)
}

#[cfg(test)]
mod tests;
