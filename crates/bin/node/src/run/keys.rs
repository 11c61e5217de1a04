//! The secret keys of a running operator, as the replica uses them.

use aequa_crypto::identity::IdentityKey;
use aequa_crypto::seal::SecretShare;
use aequa_replica::{Keys, Permit};
use aequa_types::{ClusterId, Seal, Signed};

/// Identity key and share of the sequencer key.
pub struct OperatorKeys {
    cluster: ClusterId,
    identity: IdentityKey,
    share: SecretShare,
}

impl OperatorKeys {
    /// The keys of an operator of this cluster: its identity, and its share of the group key. From here on they sign
    /// what is permitted, and nothing else.
    pub fn new(cluster: ClusterId, identity: IdentityKey, share: SecretShare) -> Self {
        Self { cluster, identity, share }
    }
}

impl Keys for OperatorKeys {
    fn sign(&self, permit: Permit) -> Signed {
        self.identity.sign_statement(&self.cluster, permit.into_statement())
    }

    fn share(&self, permit: &Permit) -> Option<Seal> {
        let decision = permit.statement().decision()?;
        Some(self.share.sign(&decision.seal_bytes(&self.cluster)))
    }
}
