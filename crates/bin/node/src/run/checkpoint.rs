//! Checkpoints: the block of a height with the certified header of the next one, which states the root after it (ADR 31).
//! Nothing is stored for them. One is stable as soon as the block after it is decided.

use super::ledger::Store;
use aequa_api::backend::CheckpointRef;
use aequa_storage::StorageError;
use aequa_storage::chain_store::ChainStore as _;
use aequa_types::json::CheckpointJson;
use aequa_types::{Certificate, Header, Height, OperatorIndex};
use alloy_primitives::B256;

/// A checkpoint that a block has made stable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stable {
    /// Its height and block.
    pub at: CheckpointRef,
    /// Root of the state after it.
    pub state_root: B256,
    /// Chained root over all states up to it.
    pub history_root: B256,
    /// Operators whose commits certify the next block; none where a group seal does, which does not tell.
    pub signers: Vec<OperatorIndex>,
}

/// What the block of `header`, which is stored, makes stable with its certificate.
pub fn made_stable(
    store: &Store,
    interval: u64,
    header: &Header,
    certificate: &Certificate,
) -> Result<Option<Stable>, StorageError> {
    let Some(at) = below(header, interval) else { return Ok(None) };
    let Some(roots) = store.roots(at.height)? else { return Ok(None) };
    let signers = certificate.commits().iter().map(|commit| commit.author).collect();
    Ok(Some(Stable { at, state_root: header.state_root, history_root: roots.history_root, signers }))
}

/// The last checkpoint that is stable when `tip` is the last block.
pub fn last(store: &Store, interval: u64, tip: Height) -> Result<Option<CheckpointRef>, StorageError> {
    let height = tip.previous().unwrap_or_default().0 / interval * interval;
    let next = store.certified_header(Height(height).next())?;
    Ok(next.and_then(|next| below(&next.header, interval)))
}

/// The checkpoint whose next block has this header, where its height is one of a checkpoint.
fn below(header: &Header, interval: u64) -> Option<CheckpointRef> {
    let height = header.height.previous().filter(|height| *height > Height(0))?;
    let is_one = height.0.is_multiple_of(interval);
    is_one.then_some(CheckpointRef { height, block_root: header.parent_root })
}

/// The checkpoint of a height, whatever the interval; `None` where its block or the next one is not here.
pub fn checkpoint(store: &Store, height: Height) -> Result<Option<CheckpointJson>, StorageError> {
    let block = store.certified_header(height)?;
    let (next, roots) = (store.certified_header(height.next())?, store.roots(height)?);
    let (Some(block), Some(next), Some(roots)) = (block, next, roots) else { return Ok(None) };
    Ok(Some(CheckpointJson::new(&block, &next, roots.history_root)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_chain::Chain;
    use aequa_storage::chain_store::{BlockCommit, ChainOptions, FjallChainStore};
    use aequa_testkit::{at, checked, commit, plaintext};
    use aequa_types::{Address, ClusterId, Proof, Quorum, Seal};
    use serde_json::Value;
    use std::sync::Arc;
    use tempfile::TempDir;

    const CLUSTER: ClusterId = ClusterId::repeat_byte(1);
    const INTERVAL: u64 = 2;

    /// A node of its own that has decided five blocks, all nodes the same, in this round and by these operators.
    fn decided(round: u64, signers: std::ops::Range<u8>) -> (TempDir, Store, Vec<Stable>) {
        let dir = tempfile::tempdir().unwrap();
        let store: Store =
            Arc::new(FjallChainStore::open(dir.path(), CLUSTER, ChainOptions::default()).unwrap());
        let mut chain = Chain::begin(CLUSTER, Quorum::of(4).unwrap(), store.clone()).unwrap();
        let mut stable = Vec::new();
        for height in 1..=5 {
            let items = vec![checked(plaintext(Address::repeat_byte(7), height - 1, 1))];
            let block = chain.build_block(OperatorIndex(0), height, CLUSTER, items, &[]).unwrap();
            let applied = chain.apply(&block).unwrap();
            let certificate = commit(at(height), round, block.digest()).certificate(signers.clone());
            let written = store.commit(&BlockCommit {
                block: block.block(),
                certificate: &certificate,
                tx_hashes: &block.tx_hashes().collect::<Vec<_>>(),
                changes: &applied.changes,
                state_root: applied.state_root,
                history_root: applied.history_root,
            });
            written.unwrap();
            stable.extend(made_stable(&store, INTERVAL, block.header(), &certificate).unwrap());
        }
        (dir, store, stable)
    }

    /// All of a checkpoint but how it is certified.
    fn bytes(store: &Store, height: u64) -> Vec<u8> {
        let shown = checkpoint(store, Height(height)).unwrap().unwrap();
        let mut shown = serde_json::to_value(shown).unwrap();
        for block in ["block", "next"] {
            assert_ne!(shown[block]["certificate"].take(), Value::Null);
        }
        serde_json::to_vec(&shown).unwrap()
    }

    #[test]
    fn a5_a_checkpoint_is_the_same_at_every_node_whoever_certified_it_and_when() {
        let (_dirs, nodes): (Vec<_>, Vec<_>) = [(0, 0..3), (0, 1..4), (2, 0..4), (0, 0..3)]
            .into_iter()
            .map(|(round, signers)| decided(round, signers))
            .map(|(dir, store, _)| (dir, store))
            .unzip();
        for height in (1..=5).map(Height) {
            let mut certificate = nodes[3].certified_header(height).unwrap().unwrap().certificate;
            certificate.proof = Proof::Group(Seal::repeat_byte(3));
            assert!(nodes[3].put_certificate(height, &certificate).unwrap());
        }
        for height in 1..5 {
            let all: Vec<Vec<u8>> = nodes.iter().map(|store| bytes(store, height)).collect();
            assert!(all.iter().all(|one| *one == all[0]), "height {height}");
        }
    }

    #[test]
    fn a_checkpoint_is_stable_with_the_block_after_it_and_states_the_root_that_it_certifies() {
        let (_dir, store, stable) = decided(0, 1..4);
        assert_eq!(stable.iter().map(|stable| stable.at.height.0).collect::<Vec<_>>(), [2, 4]);
        for Stable { at, state_root, history_root, signers } in &stable {
            let shown = checkpoint(&store, at.height).unwrap().unwrap();
            assert_eq!((shown.block_root, shown.state_root), (at.block_root, *state_root));
            let roots = store.roots(at.height).unwrap().unwrap();
            assert_eq!((*state_root, *history_root), (roots.state_root, roots.history_root));
            assert_eq!(*signers, [1, 2, 3].map(OperatorIndex));
            let [block, next] = shown.into_parts().unwrap();
            assert_eq!((block.header.digest(), next.header.state_root), (at.block_root, *state_root));
        }
        let last = |tip| last(&store, INTERVAL, Height(tip)).unwrap().map(|stable| stable.height.0);
        assert_eq!([0, 1, 2, 3, 4, 5].map(last), [None, None, None, Some(2), Some(2), Some(4)]);
        assert_eq!(checkpoint(&store, Height(5)).unwrap(), None, "nothing certifies the state after it");
    }

    #[test]
    fn a_checkpoint_whose_parts_do_not_belong_together_is_refused_by_the_part() {
        let (_dir, store, _) = decided(0, 0..3);
        let shown = checkpoint(&store, Height(2)).unwrap().unwrap();
        let other = serde_json::to_value(checkpoint(&store, Height(3)).unwrap().unwrap()).unwrap();
        for part in ["height", "block_root", "state_root", "next"] {
            let mut mixed = serde_json::to_value(&shown).unwrap();
            mixed[part] = other[part].clone();
            let error = serde_json::from_value::<CheckpointJson>(mixed).unwrap().into_parts().unwrap_err();
            assert_eq!(error.field(), Some(part));
        }
    }
}
