//! Where the root comes from that a state is compared with.
//!
//! | source | why it is believed |
//! |---|---|
//! | `--trusted-root` | whoever runs the command says so |
//! | `--certificate` | the header of block h+1 carries the root of the state h, and q operators have certified it |
//! | `--peer`, which has block h+1 | the same: a certified header is as good from one peer as from all |
//! | `--peer`, at the tip | nothing is signed yet. f+1 operators have to say the same root: one of them is honest |
//!
//! At the tip a peer is told by the operator it names in `/status`. That is its word: it keeps one node under two
//! addresses from counting twice, and not a stranger from posing as several operators. Which addresses are those of
//! operators, whoever gives them has to know.

use super::{proof_in_words, read_file};
use crate::client::{ClientError, NodeClient};
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::verify::Verifier;
use aequa_node::exit::ExitError;
use aequa_types::json::{BLOCK_JSON_BYTES_MAX, BlockJson};
use aequa_types::{CertifiedBlock, Height, OperatorIndex};
use alloy_primitives::B256;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A root to compare with, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TrustedRoot {
    pub root: B256,
    pub why: String,
}

/// What roots of a cluster are checked with.
pub(super) struct Anchor {
    pub lock: VerifiedLock,
    /// Knows the operators of earlier epochs too.
    pub verifier: Verifier,
}

impl Anchor {
    /// The root of the state at `height` in the header of the block after it.
    fn root_before(&self, certified: &CertifiedBlock, height: Height) -> Result<TrustedRoot, String> {
        let CertifiedBlock { block, certificate } = certified;
        let header = &block.header;
        if header.height != height.next() {
            return Err(format!("it is block {}, the root is in block {}", header.height, height.next()));
        }
        self.verifier.certified_header(header, certificate).map_err(|refusal| refusal.to_string())?;
        let proof = proof_in_words(certificate, self.lock.quorum().quorum());
        Ok(TrustedRoot {
            root: header.state_root,
            why: format!("header of block {}, {proof}", header.height),
        })
    }

    /// The root in a file with the certified block after `height`.
    pub fn of_file(&self, path: &Path, height: Height) -> Result<TrustedRoot, ExitError> {
        let text = read_file(path, BLOCK_JSON_BYTES_MAX)?;
        let certified = BlockJson::parse(&text).map_err(|error| error.to_string());
        let root = certified.and_then(|certified| self.root_before(&certified, height));
        root.map_err(|why| ExitError::unchecked(format!("{} certifies nothing: {why}", path.display())))
    }

    /// The root that peers show, or f+1 of them say.
    pub async fn of_peers(&self, peers: &[NodeClient], height: Height) -> Result<TrustedRoot, ExitError> {
        let (mut without, mut problems) = (Vec::new(), Vec::new());
        for peer in peers {
            match self.shown(peer, height).await {
                Ok(Some(shown)) => return Ok(shown),
                Ok(None) => without.push(peer),
                // Who is away, or shows what does not hold, is not asked again.
                Err(why) => problems.push(why),
            }
        }
        let mut said: BTreeMap<OperatorIndex, B256> = BTreeMap::new();
        for peer in without {
            match self.said(peer, height).await {
                Ok(Some((operator, root))) => _ = said.entry(operator).or_insert(root),
                Ok(None) => problems.push(format!("{} has no state root at height {height}", peer.shown())),
                Err(why) => problems.push(why),
            }
        }
        self.agreed(&said, height).map_err(|mut why| {
            problems.iter().for_each(|problem| why.push_str(&format!("; {problem}")));
            ExitError::unchecked(why).hint("a peer that has the next block needs no other: wait for it")
        })
    }

    /// What a peer shows; none when it does not have the block after `height` yet.
    async fn shown(&self, peer: &NodeClient, height: Height) -> Result<Option<TrustedRoot>, String> {
        let certified = peer.certified_block(height.next().0).await.map_err(|error| error.to_string())?;
        let shown = certified.map(|certified| self.root_before(&certified, height)).transpose();
        shown
            .map(|shown| {
                shown.map(|shown| TrustedRoot { why: format!("{} of {}", shown.why, peer.shown()), ..shown })
            })
            .map_err(|why| format!("what {} shows certifies nothing: {why}", peer.shown()))
    }

    /// What a peer says without a proof, and as which operator.
    async fn said(&self, peer: &NodeClient, height: Height) -> Result<Option<(OperatorIndex, B256)>, String> {
        let status = peer.status().await.map_err(|error| error.to_string())?;
        if status.cluster_id != self.lock.cluster_id() {
            return Err(format!("{} is of another cluster", peer.shown()));
        }
        let operator = status.operator.filter(|operator| self.lock.quorum().contains(*operator));
        let operator = operator.ok_or_else(|| format!("{} names no operator of the lock", peer.shown()))?;
        match peer.state_root(height.0).await {
            Ok(answer) => Ok(Some((operator, answer.root))),
            Err(ClientError::Refused { status: 404 | 410, .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The one root that f+1 operators say.
    fn agreed(&self, said: &BTreeMap<OperatorIndex, B256>, height: Height) -> Result<TrustedRoot, String> {
        let needed = self.lock.quorum().weak_quorum();
        let roots: BTreeSet<B256> = said.values().copied().collect();
        let backers = |root: &B256| said.values().filter(|said| *said == root).count();
        let mut backed = roots.iter().filter(|root| backers(root) >= needed);
        match (backed.next(), backed.next()) {
            (Some(root), None) => Ok(TrustedRoot {
                root: *root,
                why: format!("{} operators say it, {needed} needed; it is not signed yet", backers(root)),
            }),
            (Some(_), Some(_)) => Err(format!("the peers contradict each other about height {height}")),
            (None, _) => {
                let most = roots.iter().map(backers).max().unwrap_or_default();
                Err(format!("{most} operators say the same root at height {height}, {needed} are needed"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::{Keyring, at, block, commit};

    fn anchor(keys: &Keyring) -> Anchor {
        Anchor { lock: aequa_crypto::lock::verify(keys.lock.lock()).unwrap(), verifier: keys.verifier() }
    }

    fn said(roots: &[u8]) -> BTreeMap<OperatorIndex, B256> {
        (0..).map(OperatorIndex).zip(roots.iter().map(|byte| B256::repeat_byte(*byte))).collect()
    }

    #[test]
    fn one_root_of_f_plus_one_operators_is_believed_and_nothing_else() {
        let anchor = anchor(&Keyring::of(4));
        let agreed = |roots: &[u8]| anchor.agreed(&said(roots), Height(3)).map(|trusted| trusted.root);
        for roots in [&[7, 7][..], &[7, 7, 7], &[7, 8, 7], &[7, 8, 9, 7]] {
            assert_eq!(agreed(roots), Ok(B256::repeat_byte(7)), "{roots:?}");
        }
        for roots in [&[][..], &[7], &[7, 8], &[7, 8, 9], &[7, 7, 8, 8]] {
            assert!(agreed(roots).is_err(), "{roots:?}");
        }
    }

    #[test]
    fn only_the_certified_block_after_a_height_shows_its_root() {
        let keys = Keyring::of(4);
        let mut block = block(keys.cluster_id(), 5, keys.cluster_id(), vec![]);
        block.header.policy_hash = keys.dealt.lock.consensus.builder_policy_hash;
        block.header.proposer = OperatorIndex(0);
        let certificate = keys.certificate(&commit(at(5), 0, block.header.digest()), &[0, 1, 2]);
        let certified = CertifiedBlock { block, certificate };
        let root = |certified: &CertifiedBlock, height| {
            anchor(&keys).root_before(certified, Height(height)).map(|trusted| trusted.root)
        };
        assert_eq!(root(&certified, 4), Ok(certified.block.header.state_root));
        for height in [3, 5] {
            assert!(root(&certified, height).is_err(), "{height}");
        }
        let mut forged = certified.clone();
        forged.block.header.state_root = B256::repeat_byte(1);
        assert!(root(&forged, 4).is_err());
        let digest = certified.block.header.digest();
        let few = keys.certificate(&commit(at(5), 0, digest), &[0, 1]);
        assert!(root(&CertifiedBlock { certificate: few, ..certified }, 4).is_err());
    }
}
