//! A store that is filled with a state instead of blocks, and takes the place of another.
//!
//! ```text
//! chain.draft   entries as they come; whatever is here when the process ends is gone on with
//! chain.next    complete: it takes the place of `chain` at the next start
//! chain
//! ```
//!
//! A draft becomes `chain.next` by one rename, when all of it is durable. From then on `chain` is dispensable: it becomes
//! `chain.old` by one rename, `chain.next` gets its name, and `chain.old` goes, however often that is interrupted.

use super::engine::watermark_key;
use super::keys::{HeightRow, height_key, height_of_key, slot_key};
use super::{BlockCommit, ChainOptions, ChainStore as _, FjallChainStore, Roots};
use crate::StorageError;
use crate::files::{at, parent, sync_dir};
use aequa_chain::Change;
use aequa_types::{CertifiedBlock, ClusterId, DutyId, Height};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Under which a draft says after which block its state is.
const DRAFT_HEIGHT_KEY: &[u8] = b"draft-height";

/// A store under construction.
#[derive(Debug)]
pub struct ChainDraft {
    store: Arc<FjallChainStore>,
    chain: PathBuf,
}

impl ChainDraft {
    /// The draft beside the store `chain`, as far as it was filled before.
    pub fn open(chain: &Path, cluster_id: ClusterId, options: ChainOptions) -> Result<Self, StorageError> {
        let store = FjallChainStore::open(&draft_of(chain), cluster_id, options)?;
        Ok(Self { store: Arc::new(store), chain: chain.into() })
    }

    /// After which block the state is that it is being filled with.
    pub fn height(&self) -> Result<Option<Height>, StorageError> {
        let stored = self.store.meta.get(DRAFT_HEIGHT_KEY)?;
        stored.map(|height| height_of_key(&height)).transpose()
    }

    /// Notes after which block the state is that it is being filled with.
    pub fn begin(&self, height: Height) -> Result<(), StorageError> {
        Ok(self.store.meta.insert(DRAFT_HEIGHT_KEY, height_key(height))?)
    }

    /// Whether something was begun beside the store `chain`.
    pub fn exists(chain: &Path) -> bool {
        draft_of(chain).exists()
    }

    /// Throws away what there is.
    pub fn discard(chain: &Path) -> Result<(), StorageError> {
        remove(&draft_of(chain))
    }

    /// What it has of a state so far.
    pub fn state(&self) -> &Arc<FjallChainStore> {
        &self.store
    }

    /// Takes over entries of the state, all of them or none.
    pub fn put(&self, changes: &[Change]) -> Result<(), StorageError> {
        self.store.put_state(changes)
    }

    /// The state is whole: it is that after `block`. Makes all of it durable, and the next store.
    pub fn complete(self, block: &CertifiedBlock, roots: Roots) -> Result<(), StorageError> {
        self.store.begin_at(block, roots)?;
        self.store.flush()?;
        let (draft, next) = (draft_of(&self.chain), next_of(&self.chain));
        drop(self.store);
        remove(&next)?;
        fs::rename(&draft, &next).map_err(at("rename to", &next))?;
        sync_dir(parent(&next)).map_err(at("sync directory", parent(&next)))
    }
}

/// Gives a complete draft the place of `chain`, if there is one that is further; whether it did. What is known of
/// duties goes over to it.
pub fn install(chain: &Path, cluster_id: ClusterId, options: &ChainOptions) -> Result<bool, StorageError> {
    let next_dir = next_of(chain);
    if !next_dir.exists() {
        remove(&old_of(chain))?;
        return Ok(false);
    }
    if chain.exists() {
        let next = FjallChainStore::open(&next_dir, cluster_id, options.clone())?;
        match FjallChainStore::open(chain, cluster_id, options.clone()) {
            Ok(before) if height(&before)? >= height(&next)? => {
                drop((before, next));
                remove(&next_dir)?;
                return Ok(false);
            }
            Ok(before) => next.take_over(&before)?,
            // It was to be replaced because it is damaged: what was signed is in the signing database.
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    // By one rename: a store that is removed in part is one that cannot be opened.
    let old = old_of(chain);
    remove(&old)?;
    if chain.exists() {
        fs::rename(chain, &old).map_err(at("rename to", &old))?;
        sync_dir(parent(chain)).map_err(at("sync directory", parent(chain)))?;
    }
    fs::rename(&next_dir, chain).map_err(at("rename to", chain))?;
    sync_dir(parent(chain)).map_err(at("sync directory", parent(chain)))?;
    remove(&old)?;
    Ok(true)
}

impl FjallChainStore {
    /// Stores entries of a state that comes from elsewhere, before there is any block.
    fn put_state(&self, changes: &[Change]) -> Result<(), StorageError> {
        let _writing = self.write_lock()?;
        self.check_is_empty()?;
        let mut batch = self.database.batch();
        for Change { key, after, .. } in changes {
            match after {
                Some(value) => self.state.entries.put(&mut batch, key, value)?,
                None => batch.remove(&self.state.entries, key.as_slice()),
            }
        }
        Ok(batch.commit()?)
    }

    /// The state that was stored is that after this block, with which the store begins.
    fn begin_at(&self, block: &CertifiedBlock, roots: Roots) -> Result<(), StorageError> {
        let _writing = self.write_lock()?;
        self.check_is_empty()?;
        let CertifiedBlock { block, certificate } = block;
        let Roots { state_root, history_root } = roots;
        let header = block.header.clone();
        let row = HeightRow { digest: header.digest(), header, state_root, history_root };
        // Where it was included is said of transactions that this node executed.
        let commit =
            BlockCommit { block, certificate, tx_hashes: &[], changes: &[], state_root, history_root };
        // No block is executed, so that nothing is known of the state before.
        let mut batch = self.block_batch(&commit, &row)?;
        batch.remove(&self.meta, DRAFT_HEIGHT_KEY);
        batch.commit()?;
        self.set_tip(Some(row.tip()));
        Ok(())
    }

    fn check_is_empty(&self) -> Result<(), StorageError> {
        match self.tip() {
            None => Ok(()),
            Some(_) => {
                Err(StorageError::Mismatch { reason: "the store has blocks: its state is what they made" })
            }
        }
    }

    /// Takes over what another store of the cluster knows of duties, and the evidence that waits.
    fn take_over(&self, before: &Self) -> Result<(), StorageError> {
        for guard in before.duties.iter() {
            let (duty, result) = before.duties.entry(guard)?;
            self.duties.insert(duty, result)?;
        }
        for DutyId { kind, slot } in before.duty_watermarks()? {
            self.meta.insert(watermark_key(kind), slot_key(slot))?;
        }
        self.put_pending_evidence(&before.pending_evidence()?)?;
        self.flush()
    }
}

fn height(store: &FjallChainStore) -> Result<Option<Height>, StorageError> {
    Ok(store.latest()?.map(|tip| tip.height))
}

fn draft_of(chain: &Path) -> PathBuf {
    chain.with_extension("draft")
}

fn old_of(chain: &Path) -> PathBuf {
    chain.with_extension("old")
}

fn next_of(chain: &Path) -> PathBuf {
    chain.with_extension("next")
}

fn remove(dir: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_chain::StateRead as _;
    use aequa_testkit::{at as instance, block, commit};
    use aequa_types::{DutyId, DutyKind, Slot};
    use alloy_primitives::B256;

    const CLUSTER: ClusterId = ClusterId::repeat_byte(0xc1);
    const DUTY: DutyId = DutyId { kind: DutyKind::Attester, slot: Slot(7) };

    fn open(chain: &Path) -> FjallChainStore {
        FjallChainStore::open(chain, CLUSTER, ChainOptions::default()).unwrap()
    }

    fn block_of(height: u64) -> CertifiedBlock {
        let block = block(CLUSTER, height, B256::repeat_byte(5), Vec::new());
        let certificate = commit(instance(height), 0, block.header.digest()).certificate(0..3);
        CertifiedBlock { block, certificate }
    }

    fn roots() -> Roots {
        Roots { state_root: B256::repeat_byte(1), history_root: B256::repeat_byte(2) }
    }

    fn entry(key: &[u8]) -> Change {
        Change { key: key.to_vec(), before: None, after: Some(b"value".to_vec()) }
    }

    #[test]
    fn a_draft_is_gone_on_with_and_takes_the_place_of_a_store_that_is_behind() {
        let dir = tempfile::tempdir().unwrap();
        let chain = dir.path().join("chain");
        let store = open(&chain);
        store.close_duty(DUTY, b"{}", Some(Slot(6))).unwrap();
        drop(store);
        let draft = ChainDraft::open(&chain, CLUSTER, ChainOptions::default()).unwrap();
        assert_eq!(draft.height().unwrap(), None);
        draft.begin(Height(700)).unwrap();
        draft.put(&[entry(b"\x01one")]).unwrap();
        drop(draft);
        let draft = ChainDraft::open(&chain, CLUSTER, ChainOptions::default()).unwrap();
        assert_eq!(draft.height().unwrap(), Some(Height(700)));
        draft.put(&[entry(b"\x01two")]).unwrap();
        assert!(!install(&chain, CLUSTER, &ChainOptions::default()).unwrap(), "it is not complete");
        draft.complete(&block_of(700), roots()).unwrap();
        assert!(install(&chain, CLUSTER, &ChainOptions::default()).unwrap());
        assert!(!install(&chain, CLUSTER, &ChainOptions::default()).unwrap(), "once");

        let store = open(&chain);
        let tip = store.latest().unwrap().unwrap();
        assert_eq!((tip.height, tip.history_root), (Height(700), roots().history_root));
        assert_eq!(store.block(Height(700)).unwrap(), Some(block_of(700)));
        assert_eq!(store.first_height().unwrap(), Some(Height(700)));
        assert_eq!(store.lowest_state().unwrap(), Height(700));
        assert!(store.state_at(Height(699)).is_err(), "nothing is known of the state before");
        for key in [b"\x01one", b"\x01two"] {
            assert_eq!(store.get(key), Some(b"value".to_vec()));
            assert_eq!(store.state_at(Height(700)).unwrap().get(key), Some(b"value".to_vec()));
        }
        assert_eq!(store.duty(DUTY).unwrap(), Some(b"{}".to_vec()));
        assert_eq!(store.duty_watermarks().unwrap(), [DutyId { slot: Slot(6), ..DUTY }]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_draft_that_is_not_further_than_the_store_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let chain = dir.path().join("chain");
        for height in [700, 600, 700] {
            let draft = ChainDraft::open(&chain, CLUSTER, ChainOptions::default()).unwrap();
            draft.complete(&block_of(height), roots()).unwrap();
            install(&chain, CLUSTER, &ChainOptions::default()).unwrap();
            assert_eq!(open(&chain).latest().unwrap().unwrap().height, Height(700));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_installation_cut_off_while_the_old_store_is_removed_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let chain = dir.path().join("chain");
        drop(open(&chain));
        ChainDraft::open(&chain, CLUSTER, ChainOptions::default())
            .unwrap()
            .complete(&block_of(700), roots())
            .unwrap();
        fs::rename(&chain, old_of(&chain)).unwrap();
        assert!(install(&chain, CLUSTER, &ChainOptions::default()).unwrap());
        assert_eq!(open(&chain).latest().unwrap().unwrap().height, Height(700));
        fs::create_dir(old_of(&chain)).unwrap();
        assert!(
            !install(&chain, CLUSTER, &ChainOptions::default()).unwrap(),
            "what is left of the old one goes"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_store_that_has_blocks_takes_no_state_from_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let chain = dir.path().join("chain");
        let draft = ChainDraft::open(&chain, CLUSTER, ChainOptions::default()).unwrap();
        draft.complete(&block_of(700), roots()).unwrap();
        install(&chain, CLUSTER, &ChainOptions::default()).unwrap();
        let store = open(&chain);
        assert!(matches!(store.put_state(&[entry(b"\x01x")]), Err(StorageError::Mismatch { .. })));
        assert!(matches!(store.begin_at(&block_of(900), roots()), Err(StorageError::Mismatch { .. })));
    }
}
