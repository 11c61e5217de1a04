//! The secret keys of a running operator, as the replica uses them.

use aequa_crypto::identity::IdentityKey;
use aequa_crypto::seal::SecretShare;
use aequa_replica::Keys;
use aequa_types::{ClusterId, Digest, InstanceId, Round, Seal, Signed, Statement, statement};

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
    fn sign(&self, statement: Statement) -> Signed {
        self.identity.sign_statement(&self.cluster, statement)
    }

    fn seal(&self, instance: InstanceId, round: Round, digest: &Digest) -> Option<Seal> {
        Some(self.share.sign(&statement::seal_bytes(&self.cluster, instance, round, digest)))
    }
}
