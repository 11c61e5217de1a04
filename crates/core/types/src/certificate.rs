//! Proof that a cluster decided.

use crate::statement::{Claim, CommitClaim};
use crate::{
    Block, ClusterId, Digest, Header, InstanceId, OperatorIndex, Round, Seal, Signature, Signed, Statement,
};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};

/// One operator's COMMIT, without what the certificate says once for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct CommitSignature {
    /// The signer.
    pub operator: OperatorIndex,
    /// Its seal share, which the signature covers.
    pub seal: Option<Seal>,
    /// ed25519 signature over the COMMIT statement.
    pub signature: Signature,
}

/// What makes a certificate hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Proof {
    /// q distinct COMMITs, ordered by operator.
    Commits(Vec<CommitSignature>),
    /// One threshold signature of the group over [`Decision::seal_bytes`].
    Group(Seal),
}

/// A decision: what a certificate proves and the seal signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision {
    /// What was decided about.
    pub instance: InstanceId,
    /// The round whose commits decided.
    pub round: Round,
    /// The decided value.
    pub digest: Digest,
}

impl Decision {
    /// The bytes an operator's BLS share signs as its part of a seal.
    ///
    /// The round is inside: shares of one digest made in different rounds must not add up to a
    /// signature, or two certificates could come to exist (ADR 0003).
    pub fn seal_bytes(&self, cluster: &ClusterId) -> Vec<u8> {
        const TAG: &[u8] = b"aequa/seal/v1\0";
        let mut bytes = Vec::with_capacity(TAG.len() + 32 + 9 + 8 + 32);
        bytes.extend_from_slice(TAG);
        bytes.extend_from_slice(cluster.as_slice());
        self.instance.ssz_append(&mut bytes);
        self.round.ssz_append(&mut bytes);
        self.digest.ssz_append(&mut bytes);
        bytes
    }
}

/// Proof that `digest` was decided for `instance`, in `round`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Certificate {
    /// What was decided about.
    pub instance: InstanceId,
    /// The round whose commits decided.
    pub round: Round,
    /// The decided value.
    pub digest: Digest,
    /// Why to believe it.
    pub proof: Proof,
}

impl Certificate {
    /// What it proves.
    pub fn decision(&self) -> Decision {
        Decision { instance: self.instance, round: self.round, digest: self.digest }
    }

    /// The certificate of a decision that the group has sealed.
    pub fn sealed(Decision { instance, round, digest }: Decision, seal: Seal) -> Self {
        Self { instance, round, digest, proof: Proof::Group(seal) }
    }

    /// A certificate of commits, which must all be COMMITs for this round and digest.
    pub fn from_commits<'a>(
        instance: InstanceId,
        round: Round,
        digest: Digest,
        commits: impl IntoIterator<Item = &'a Signed>,
    ) -> Self {
        let mut signatures: Vec<CommitSignature> = commits
            .into_iter()
            .filter_map(|signed| match &signed.claim {
                Claim::Commit(commit) => Some(CommitSignature {
                    operator: signed.author,
                    seal: commit.seal,
                    signature: signed.signature,
                }),
                Claim::PrePrepare(_) | Claim::Prepare(_) | Claim::RoundChange(_) => None,
            })
            .collect();
        signatures.sort_by_key(|commit| commit.operator);
        Self { instance, round, digest, proof: Proof::Commits(signatures) }
    }

    /// The COMMIT statements this certificate stands for; none for a group seal.
    pub fn commits(&self) -> Vec<Signed> {
        match &self.proof {
            Proof::Group(_) => Vec::new(),
            Proof::Commits(commits) => commits
                .iter()
                .map(|commit| Signed {
                    statement: Statement {
                        instance: self.instance,
                        round: self.round,
                        author: commit.operator,
                        claim: Claim::Commit(CommitClaim { digest: self.digest, seal: commit.seal }),
                    },
                    signature: commit.signature,
                })
                .collect(),
        }
    }

    /// The group seal, once there is one.
    pub fn group_seal(&self) -> Option<&Seal> {
        match &self.proof {
            Proof::Group(seal) => Some(seal),
            Proof::Commits(_) => None,
        }
    }
}

/// A block and the proof that it was decided: what peers exchange to catch up.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CertifiedBlock {
    /// The block.
    pub block: Block,
    /// Its certificate.
    pub certificate: Certificate,
}

/// The head of a block and the proof that it was decided: all that is needed to follow the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedHeader {
    /// The header.
    pub header: Header,
    /// Its certificate.
    pub certificate: Certificate,
}
