//! The new lock is signed together, once there are keys.
//!
//! No I/O: what others sent comes in, what is to be sent goes out. It is sent again from time to time, since a stream may
//! break, and who came late has none of it.

use super::plan::Plan;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::lock::signing::{
    LockShare, ValidatorShares, check_leaver_signature, check_lock_share, check_validators,
    combine_validators, complete, sign_as_leaver, sign_lock, sign_validators,
};
use aequa_crypto::lock::{LockError, VerifiedLock, check_succession};
use aequa_dkg::{Outcome, SecretShares};
use aequa_types::lock::{ClusterLock, Key32, LeaverSignature, SealKey};
use aequa_types::validator::{ValidatorKey, ValidatorSignature};
use aequa_types::{OperatorIndex, Quorum};
use ssz_derive::{Decode, Encode};
use std::collections::BTreeMap;

/// Signatures of one message: a frame has room for twice as many.
const CHUNK_SIGNATURES: usize = 4_096;

/// Some of an operator's shares of what the validators sign.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Chunk {
    /// Which, from 0.
    pub number: u64,
    /// [`CHUNK_SIGNATURES`] of them; the last one has what is left.
    pub signatures: Vec<ValidatorSignature>,
}

/// How far the signing of a lock is.
pub struct Signing {
    lock: ClusterLock,
    me: OperatorIndex,
    quorum: Quorum,
    own: ValidatorShares,
    /// Chunks of others that are not whole yet.
    partial: BTreeMap<OperatorIndex, BTreeMap<u64, Vec<ValidatorSignature>>>,
    validators: BTreeMap<OperatorIndex, ValidatorShares>,
    /// The lock whose keys these are, where they are not new: what validators sign is in it, and q of its operators
    /// have to sign this one.
    parent: Option<VerifiedLock>,
    /// Whether the lock has its hash.
    is_hashed: bool,
    /// Of operators that were faster, to be checked when the lock has its hash.
    early: BTreeMap<OperatorIndex, LockShare>,
    said: BTreeMap<OperatorIndex, LockShare>,
    /// Of operators that leave, by their keys: an operator of the lock before each.
    leavers: BTreeMap<Key32, LeaverSignature>,
    has_signed: bool,
}

impl Signing {
    /// Begins with the keys of a ceremony.
    pub fn new(plan: &Plan, outcome: &Outcome, quorum: Quorum, me: OperatorIndex) -> Self {
        let lock = lock_with_keys(plan, outcome);
        let own = match (&plan.parent, &outcome.secret) {
            (None, Some(secret)) => sign_validators(&lock, &secret.validators),
            (Some(_), _) | (_, None) => ValidatorShares { signatures: Vec::new() },
        };
        Self {
            parent: plan.parent.clone(),
            lock,
            me,
            quorum,
            validators: BTreeMap::from([(me, own.clone())]),
            own,
            partial: BTreeMap::new(),
            is_hashed: false,
            early: BTreeMap::new(),
            said: BTreeMap::new(),
            leavers: BTreeMap::new(),
            has_signed: false,
        }
    }

    /// What this operator has to send, as often as it likes.
    pub fn own_chunks(&self) -> Vec<Chunk> {
        let chunks = self.own.signatures.chunks(CHUNK_SIGNATURES).enumerate();
        chunks
            .map(|(number, signatures)| Chunk { number: number as u64, signatures: signatures.into() })
            .collect()
    }

    /// What this operator says to the lock, once it has its hash; nothing where it leaves.
    pub fn own_share(&self) -> Option<&LockShare> {
        self.said.get(&self.me)
    }

    /// What those that leave have said to it. Everybody tells everybody: they may be gone when the last one comes.
    pub fn leavers(&self) -> impl ExactSizeIterator<Item = &LeaverSignature> {
        self.leavers.values()
    }

    /// Whether this operator has signed the lock.
    pub fn has_signed(&self) -> bool {
        self.has_signed
    }

    /// Operators that have signed the lock.
    pub fn signed(&self) -> usize {
        self.said.len()
    }

    /// Whether enough have, though not all.
    pub fn has_quorum(&self) -> bool {
        let of_before = |parent: &VerifiedLock| {
            let keys = self.said.keys().filter_map(|operator| self.lock.operators.get(operator.as_usize()));
            let old = &parent.lock().operators;
            let stayed = keys.filter(|key| old.iter().any(|old| old.identity_key == key.identity_key));
            stayed.count() + self.leavers.len()
        };
        self.said.len() >= self.quorum.quorum()
            && self.parent.as_ref().is_none_or(|parent| of_before(parent) >= parent.quorum().quorum())
    }

    /// Takes some of another operator's shares.
    pub fn take_chunk(&mut self, from: OperatorIndex, chunk: Chunk) -> Result<(), LockError> {
        if self.validators.contains_key(&from) || self.is_hashed {
            return Ok(());
        }
        let expected = self.own.signatures.chunks(CHUNK_SIGNATURES).map(<[_]>::len);
        let length = usize::try_from(chunk.number).ok().and_then(|number| expected.clone().nth(number));
        if length != Some(chunk.signatures.len()) {
            return Err(LockError::Item {
                item: "validators".into(),
                reason: format!("{} signatures in chunk {}", chunk.signatures.len(), chunk.number),
            });
        }
        let expected = expected.len();
        let partial = self.partial.entry(from).or_default();
        partial.insert(chunk.number, chunk.signatures);
        if partial.len() < expected {
            return Ok(());
        }
        let signatures = self.partial.remove(&from).unwrap_or_default().into_values().flatten().collect();
        let shares = ValidatorShares { signatures };
        check_validators(&self.lock, from, &shares)?;
        self.validators.insert(from, shares);
        Ok(())
    }

    /// Gives the lock its hash as soon as q operators have signed for its validators; says whether it has it.
    pub fn advance(&mut self) -> Result<bool, LockError> {
        let is_signed = self.own.signatures.is_empty() || self.validators.len() >= self.quorum.quorum();
        if self.is_hashed || !is_signed {
            return Ok(self.is_hashed);
        }
        match self.parent {
            None => combine_validators(&mut self.lock, self.quorum, &self.validators)?,
            Some(_) => self.lock.lock_hash = self.lock.compute_lock_hash(),
        }
        self.is_hashed = true;
        for (from, share) in std::mem::take(&mut self.early) {
            // A bad one is as if it had not come: its sender sends another, or none.
            let _ = self.take_share(from, share);
        }
        Ok(true)
    }

    /// Signs the lock, which has its hash: with own shares, or as one that leaves.
    pub fn sign(&mut self, identity: &IdentityKey, secret: Option<&SecretShares>) {
        self.has_signed = true;
        match secret {
            Some(secret) => drop(self.said.insert(self.me, sign_lock(&self.lock, identity, &secret.chain))),
            None => {
                let signature = sign_as_leaver(&self.lock, identity);
                self.leavers.insert(signature.identity_key, signature);
            }
        }
    }

    /// Takes what an operator that leaves says to the lock, whoever brings it.
    pub fn take_leaver(&mut self, leaver: LeaverSignature) -> Result<(), LockError> {
        // Without the hash nothing can be said of it: it comes again.
        if let Some(parent) = self.parent.as_ref().filter(|_| self.is_hashed)
            && !self.leavers.contains_key(&leaver.identity_key)
        {
            check_leaver_signature(parent, &self.lock, &leaver)?;
            self.leavers.insert(leaver.identity_key, leaver);
        }
        Ok(())
    }

    /// Takes what another operator says to the lock.
    pub fn take_share(&mut self, from: OperatorIndex, share: LockShare) -> Result<(), LockError> {
        if !self.is_hashed {
            self.early.insert(from, share);
            return Ok(());
        }
        if !self.said.contains_key(&from) {
            check_lock_share(&self.lock, from, &share)?;
            self.said.insert(from, share);
        }
        Ok(())
    }

    /// The lock with what was said so far.
    pub fn complete(&self) -> Result<VerifiedLock, LockError> {
        let mut lock = self.lock.clone();
        lock.leaver_signatures = self.leavers.values().copied().collect();
        let lock = complete(&mut lock, self.quorum, &self.said)?;
        self.parent.as_ref().map_or(Ok(()), |parent| check_succession(parent, &lock))?;
        Ok(lock)
    }
}

/// The lock of a definition with the keys of its ceremony.
fn lock_with_keys(plan: &Plan, outcome: &Outcome) -> ClusterLock {
    let mut lock = plan.definition.lock();
    if let Some(parent) = &plan.parent {
        // What these have signed once stays.
        lock.validators.clone_from(&parent.lock().validators);
    }
    let chain = &outcome.public.chain;
    lock.sequencer.group_key = SealKey::from(chain.group_key.to_bytes());
    lock.sequencer.public_shares = chain.public_shares.iter().map(|share| share.to_bytes().into()).collect();
    for (validator, key) in lock.validators.iter_mut().zip(&outcome.public.validators) {
        validator.pubkey = ValidatorKey::from(key.group_key.to_bytes());
        validator.public_shares = key.public_shares.iter().map(|share| share.to_bytes().into()).collect();
        if plan.parent.is_none() {
            validator.builder_registration.timestamp = plan.definition.created_at;
        }
    }
    lock
}
