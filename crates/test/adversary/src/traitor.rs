//! The keys of an operator in the wrong hands.

use crate::AdversaryError;
use aequa_crypto::identity::IdentityKey;
use aequa_crypto::keystore::Keystore;
use aequa_crypto::lock::{self, VerifiedLock};
use aequa_crypto::seal::SecretShare;
use aequa_types::statement::CommitClaim;
use aequa_types::{Claim, Decision, Digest, InstanceId, OperatorIndex, Round, Seal, Signed, Statement};
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

    /// A statement under its own name and signature.
    pub fn say(&self, instance: InstanceId, round: Round, claim: Claim) -> Signed {
        self.say_as(self.index, instance, round, claim)
    }

    /// A statement under another's name and its own signature.
    pub fn say_as(&self, author: OperatorIndex, instance: InstanceId, round: Round, claim: Claim) -> Signed {
        let statement = Statement { instance, round, author, claim };
        self.identity.sign_statement(&self.lock.cluster_id(), statement)
    }

    /// A COMMIT with the share that belongs to it.
    pub fn commit(&self, instance: InstanceId, round: Round, digest: Digest) -> Signed {
        let decision = Decision { instance, round, digest };
        let seal = self.share.sign(&decision.seal_bytes(&self.lock.cluster_id()));
        self.commit_sealed(instance, round, digest, seal)
    }

    /// A COMMIT with any share.
    pub fn commit_sealed(&self, instance: InstanceId, round: Round, digest: Digest, seal: Seal) -> Signed {
        self.say(instance, round, Claim::Commit(CommitClaim { digest, seal: Some(seal) }))
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
