//! The keys of an operator in the wrong hands.

use crate::AdversaryError;
pub use aequa_byzantine::Unguarded;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::keystore::Keystore;
use aequa_crypto::lock::{self, VerifiedLock};
use aequa_crypto::seal::SecretShare;
use aequa_replica::elector;
use aequa_types::{Decision, InstanceId, OperatorIndex, Round, Seal, Signed, Statement};
use std::path::Path;

/// An operator that has turned.
pub struct Traitor {
    /// Its cluster.
    pub lock: VerifiedLock,
    /// Its place there.
    pub index: OperatorIndex,
    pub(crate) identity: IdentityKey,
    share: SecretShare,
}

impl Traitor {
    /// Reads lock and keys from an operator's folder, as `create-cluster` makes it.
    pub fn load(dir: &Path) -> Result<Self, AdversaryError> {
        let lock = lock::load(&read(&dir.join("cluster-lock.json"))?)
            .map_err(|error| file(&dir.join("cluster-lock.json"), &error))?;
        let seed = secret(dir, "identity.json")?;
        let seed = <&[u8; 32]>::try_from(seed.as_slice())
            .map_err(|error| file(&dir.join("keys/identity.json"), &error))?;
        let identity = IdentityKey::from_seed(seed);
        let index = lock.operator_of(&identity.public()).ok_or_else(|| {
            file(&dir.join("keys/identity.json"), &"the identity of no operator of the lock")
        })?;
        let share = SecretShare::from_bytes(index, &secret(dir, "keystore-sequencer.json")?)
            .map_err(|error| file(&dir.join("keys/keystore-sequencer.json"), &error))?;
        Ok(Self { lock, index, identity, share })
    }

    /// The last operator of a fresh cluster of five.
    #[cfg(test)]
    pub(crate) fn of_test() -> Self {
        let mut keys = aequa_testkit::Keyring::of(5);
        let (secrets, lock) = (keys.take(4), keys.lock);
        Self { lock, index: secrets.index, identity: secrets.identity, share: secrets.share }
    }

    /// Everybody it can betray.
    pub fn others(&self) -> Vec<OperatorIndex> {
        self.lock.quorum().members().filter(|operator| *operator != self.index).collect()
    }

    /// Whether it leads a round of an instance.
    pub(crate) fn leads(&self, instance: InstanceId, round: Round) -> bool {
        let policy = self.lock.lock().consensus.params.leader;
        elector(policy, self.lock.quorum()).leader(instance, round) == self.index
    }

    /// The first round at or above this one that it leads.
    pub(crate) fn next_led(&self, instance: InstanceId, from: Round) -> Round {
        (from.0..=u64::MAX).map(Round).find(|round| self.leads(instance, *round)).unwrap_or(from)
    }
}

impl Unguarded for Traitor {
    fn operator(&self) -> OperatorIndex {
        self.index
    }

    fn sign(&self, statement: Statement) -> Signed {
        self.identity.sign_statement(&self.lock.cluster_id(), statement)
    }

    fn share(&self, decision: Decision) -> Option<Seal> {
        Some(self.share.sign(&decision.seal_bytes(&self.lock.cluster_id())))
    }
}

fn secret(dir: &Path, name: &str) -> Result<Vec<u8>, AdversaryError> {
    let path = dir.join("keys").join(name);
    let keystore = Keystore::from_json(&read(&path)?).map_err(|error| file(&path, &error))?;
    let password = read(&path.with_extension("txt"))?;
    Ok(keystore.decrypt(password.trim_end()).map_err(|error| file(&path, &error))?.to_vec())
}

fn read(path: &Path) -> Result<String, AdversaryError> {
    std::fs::read_to_string(path).map_err(|error| file(path, &error))
}

fn file(path: &Path, why: &dyn std::fmt::Display) -> AdversaryError {
    AdversaryError::File { path: path.to_owned(), why: why.to_string() }
}
