//! The secret keys of a running operator, as the replica uses them.

use aequa_crypto::identity::IdentityKey;
use aequa_crypto::seal::SecretShare;
use aequa_replica::{Keys, Permit};
use aequa_types::{ClusterId, Seal, Signed};

/// Identity key and share of the sequencer key.
pub struct OperatorKeys {
    /// The cluster whose statements are signed.
    pub cluster: ClusterId,
    /// ed25519 identity.
    pub identity: IdentityKey,
    /// Share of the group key.
    pub share: SecretShare,
}

impl Keys for OperatorKeys {
    fn sign(&self, permit: &Permit) -> Signed {
        self.identity.sign_statement(&self.cluster, permit.statement().clone())
    }

    fn share(&self, permit: &Permit) -> Option<Seal> {
        let decision = permit.statement().decision()?;
        Some(self.share.sign(&decision.seal_bytes(&self.cluster)))
    }
}
