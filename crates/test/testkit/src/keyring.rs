//! A dealt cluster whose every key is at hand.

use crate::Vote;
use aequa_crypto::dealer::{DealRequest, DealtCluster, OperatorSecrets, deal_cluster};
use aequa_crypto::lock::{VerifiedLock, verify};
use aequa_crypto::seal::combine;
use aequa_crypto::verify::Verifier;
use aequa_types::{
    Certificate, ClusterId, ConsensusParams, Decision, OperatorIndex, Seal, Signed, Statement,
};

/// Chain id of the transactions of a dealt cluster.
pub const CHAIN_ID: u64 = 1337;

/// A cluster and all its secrets.
pub struct Keyring {
    /// The lock as it is written, and the secrets of each operator.
    pub dealt: DealtCluster,
    /// The lock, verified.
    pub lock: VerifiedLock,
}

/// A cluster with the parameters clusters have by default, and all its secrets.
pub fn dealt(operators: usize) -> DealtCluster {
    dealt_with(operators, ConsensusParams::default())
}

fn dealt_with(operators: usize, params: ConsensusParams) -> DealtCluster {
    let dealt = deal_cluster(DealRequest {
        name: "test".into(),
        nodes: operators,
        chain_id: Some(CHAIN_ID),
        fork_version: [0; 4],
        params,
        validators: Vec::new(),
        builders: None,
        multiaddrs: Vec::new(),
        created_at: 0,
    });
    dealt.unwrap()
}

impl Keyring {
    /// Of a cluster with the parameters clusters have by default.
    pub fn of(operators: usize) -> Self {
        Self::with(operators, ConsensusParams::default())
    }

    /// Of a cluster with these parameters.
    pub fn with(operators: usize, params: ConsensusParams) -> Self {
        let dealt = dealt_with(operators, params);
        let lock = verify(&dealt.lock).unwrap();
        Self { dealt, lock }
    }

    /// Whose keys they are.
    pub fn cluster_id(&self) -> ClusterId {
        self.lock.cluster_id()
    }

    /// What checks the messages of this cluster.
    pub fn verifier(&self) -> Verifier {
        Verifier::new(&self.lock)
    }

    /// The secrets of an operator, unless they were taken.
    pub fn secrets(&self, operator: u8) -> &OperatorSecrets {
        self.dealt.operators.iter().find(|secrets| secrets.index == OperatorIndex(operator)).unwrap()
    }

    /// Takes the secrets of an operator out.
    pub fn take(&mut self, operator: u8) -> OperatorSecrets {
        let place = self.dealt.operators.iter().position(|secrets| secrets.index == OperatorIndex(operator));
        self.dealt.operators.remove(place.unwrap())
    }

    /// The vote of an operator.
    pub fn sign(&self, vote: &Vote, author: u8) -> Signed {
        self.sign_under(vote, author, author)
    }

    /// What `signer` signs under the name of `author`.
    pub fn sign_under(&self, vote: &Vote, signer: u8, author: u8) -> Signed {
        let share = |statement: &Statement| self.share(statement.decision().unwrap(), signer);
        self.secrets(signer).identity.sign_statement(&self.cluster_id(), vote.completed(author, share))
    }

    /// A certificate of the COMMITs of these operators, as they are given.
    pub fn certificate(&self, commit: &Vote, signers: &[u8]) -> Certificate {
        let commits: Vec<Signed> = signers.iter().map(|signer| self.sign(commit, *signer)).collect();
        commit.certificate_of(&commits)
    }

    /// An operator's share of the seal of a decision.
    pub fn share(&self, decision: Decision, operator: u8) -> Seal {
        self.secrets(operator).share.sign(&decision.seal_bytes(&self.cluster_id()))
    }

    /// A certificate with the seal that the shares of the last q operators add up to.
    pub fn sealed(&self, decision: Decision) -> Certificate {
        let quorum = self.lock.quorum();
        let signers = (quorum.operators() - quorum.quorum()) as u8..quorum.operators() as u8;
        let shares: Vec<_> =
            signers.map(|signer| (OperatorIndex(signer), self.share(decision, signer))).collect();
        Certificate::sealed(decision, combine(quorum.quorum(), &shares).unwrap())
    }
}
